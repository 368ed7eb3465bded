"""Rows and a feed for tests of the timeline."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from desktop.cache.rows import Edge, MessagePosition, MessageRow, TimelineSlice
from desktop.timeline.elements.bubble import Speakers
from desktop.timeline.feed import TimelineFeed
from desktop.timeline.hit import Action
from shared.content import Content, TextContent
from shared.delivery import DeliveryStatus
from shared.wire.inbox import Direction

CONVERSATION = UUID(int=7)
ME = UUID(int=1)
START = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)


def message(
    number: int, text: str = "", *, ours: bool = False, content: Content | None = None, **fields: Any
) -> MessageRow:
    """The message at place `number`; a minute lies between two."""
    at = START + timedelta(minutes=number)
    key = UUID(int=10_000 + number)
    defaults: dict[str, Any] = {
        "key": key,
        "id": key,
        "conversation_id": CONVERSATION,
        "position": MessagePosition(pending="unsent" in fields, at=10_000 + number, id=key),
        "direction": Direction.OUTBOUND if ours else Direction.INBOUND,
        "content": content or TextContent(text or f"message {number}"),
        "status": DeliveryStatus.SENT if ours else DeliveryStatus.RECEIVED,
        "sent_at": at,
        "version": 1,
        "author_id": ME if ours else None,
    }
    return MessageRow(**{**defaults, **fields})


def part(rows: Iterable[MessageRow], older: Edge = Edge.END, newer: Edge = Edge.END) -> TimelineSlice:
    return TimelineSlice(tuple(rows), older, newer, complete=True)


class QuietFeed(TimelineFeed):
    """Writes down what is asked of it and answers nothing."""

    def __init__(
        self, rows: Iterable[MessageRow] = (), older: Edge = Edge.END, newer: Edge = Edge.END
    ) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.seen_rows: list[MessageRow] = []
        self.acted: list[tuple[UUID, Action]] = []
        self.speakers = Speakers("Sara", ME)
        self.window.replace(part(rows, older, newer))

    def want_older(self) -> None:
        self.asked.append("older")

    def want_newer(self) -> None:
        self.asked.append("newer")

    def want_newest(self) -> None:
        self.asked.append("newest")

    def seen(self, row: MessageRow) -> None:
        self.seen_rows.append(row)

    def act(self, row: MessageRow, action: Action) -> None:
        self.acted.append((row.key, action))

    def merge(self, *rows: MessageRow, removed: Iterable[UUID] = ()) -> None:
        self.window.merge(rows, removed)
        self.changed.emit()
