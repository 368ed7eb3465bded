"""What views read: frozen rows, ready to paint. They import neither Qt nor SQLAlchemy.

The views get rows in two ways, and both give the same structs:

* by asking: `await bridge.call(lambda engine: engine.queries.inbox_page(InboxQuery()))`, see
  `desktop.cache.queries.Queries`;
* by events that carry the rows that changed, see `desktop.engine.events`.

Merging an event into what a view shows is by key (`ConversationRow.id`, `MessageRow.key`): the newer row
replaces the older one, and the list stays sorted by `ConversationRow.position` (descending) or
`MessageRow.position` (ascending). Rows are immutable, so a view may keep them for as long as it likes.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from shared.content import Content
from shared.delivery import DeliveryStatus
from shared.wire.inbox import Direction, LastMessage, SendError


class InboxPosition(msgspec.Struct, frozen=True, order=True):
    """Where a conversation stands in the list; larger is nearer to the top. `at`: microseconds UTC."""

    at: int
    id: UUID


class ConversationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the inbox.

    `unread_count` already counts a local "read" that the relay does not know yet. `draft` is the text left
    in the composer, `unsent` the number of messages waiting in the outbox, `wedged` how many of them need
    the agent, `unsent_summary` one line of the newest. `phone` is written as people read it.
    """

    id: UUID
    number_id: UUID
    contact_id: UUID
    name: str
    phone: str | None
    username: str | None
    position: InboxPosition
    activity_at: datetime
    version: int
    unread_count: int
    last_inbound_at: datetime | None
    last_message: LastMessage | None
    draft: str = ""
    unsent: int = 0
    wedged: int = 0
    unsent_summary: str = ""

    @property
    def summary(self) -> str:
        """One line of the newest message, sent or not; empty if there is none."""
        if self.unsent_summary:
            return self.unsent_summary
        return self.last_message.summary if self.last_message else ""

    @property
    def title(self) -> str:
        """What to call the contact: name, else user name, else phone, else a placeholder."""
        if self.name:
            return self.name
        if self.username:
            return f"@{self.username}"
        return self.phone or "Unknown contact"


class InboxQuery(msgspec.Struct, frozen=True):
    """Which conversations to list. `search` matches any part of name, user name or phone, without case."""

    search: str = ""
    unread_only: bool = False


class InboxPage(msgspec.Struct, frozen=True):
    """Newest first. `next_after` goes into the next call; None on the last page."""

    rows: tuple[ConversationRow, ...]
    next_after: InboxPosition | None


class InboxCounts(msgspec.Struct, frozen=True):
    """`total` conversations, `unread` of them with unread messages."""

    total: int
    unread: int


class MessagePosition(msgspec.Struct, frozen=True, order=True):
    """Where a message stands in its timeline; larger is further down.

    Unsent messages (`pending`) come after everything that the relay knows, in the order of writing, so a
    wrong local clock cannot put them in the middle. For them `at` is the outbox's counter; for all others
    it is the sending time in microseconds UTC.
    """

    pending: bool
    at: int
    id: UUID


class OutboxState(StrEnum):
    """Where an unsent message stands. See `desktop.engine.outbox` for the moves."""

    QUEUED = "queued"
    SENDING = "sending"
    RETRY_WAIT = "retry_wait"
    WEDGED = "wedged"


class Unsent(msgspec.Struct, frozen=True, kw_only=True):
    """The outbox's side of a message that the relay has not taken yet.

    `title`/`advice`/`code` say why it waits or what stopped it. `next_at`: next attempt (`RETRY_WAIT`).
    `maybe_sent`: an attempt was made and its answer was lost, so the customer may get it even if it is
    cancelled.
    """

    state: OutboxState
    attempts: int
    next_at: datetime | None = None
    code: str = ""
    title: str = ""
    advice: str = ""
    maybe_sent: bool = False


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One bubble.

    `key` stays the same while an unsent message turns into the relay's: replace by it. `id` is the relay's
    id, None while unsent. `unsent` is set exactly while the outbox holds the message; `status` is then
    `QUEUED`, `SENDING` or, if wedged, `FAILED`.
    """

    key: UUID
    id: UUID | None
    conversation_id: UUID
    position: MessagePosition
    direction: Direction
    content: Content
    status: DeliveryStatus
    sent_at: datetime
    version: int
    author_id: UUID | None = None
    author_name: str = ""
    status_at: datetime | None = None
    error: SendError | None = None
    reply_to_wamid: str | None = None
    wamid: str | None = None
    unsent: Unsent | None = None


class Edge(StrEnum):
    """What lies beyond an end of a slice.

    `END`: nothing, this is the first or last message. `CACHED`: more rows, ask the cache. `REMOTE`: older
    messages are at the relay, call `engine.load_older`; afterwards ask the cache again.
    """

    END = "end"
    CACHED = "cached"
    REMOTE = "remote"


class TimelineSlice(msgspec.Struct, frozen=True):
    """Rows in ascending order of position.

    `complete` is False while the cache cannot promise that no message is missing between the rows (the
    newest page of this conversation was not loaded since the cache began or was synchronised anew). Show
    it as a note; `load_older` mends it.
    """

    rows: tuple[MessageRow, ...]
    older: Edge
    newer: Edge
    complete: bool


class UnsentMessage(msgspec.Struct, frozen=True):
    """An unsent message with enough around it to show or copy it outside its timeline."""

    client_id: UUID
    conversation_id: UUID
    contact: str
    text: str
    created_at: datetime
    unsent: Unsent
