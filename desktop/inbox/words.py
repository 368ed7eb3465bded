"""What a row of the inbox says, for eyes and for screen readers."""

from datetime import datetime, timedelta
from typing import Final

from desktop.cache.rows import ConversationRow
from desktop.ui.text import left_to_right
from desktop.ui.ticks import Tick, tick_of
from desktop.ui.times import list_time, time_left
from shared.service_window import closes_at
from shared.wire.inbox import Direction

ENDING_WITHIN: Final = timedelta(hours=4)
"""A reply window that closes sooner than this is pointed out."""


def title(row: ConversationRow) -> str:
    """The contact's name; a bare phone number is kept from turning around in right-to-left surroundings."""
    return row.title if row.name or row.username else left_to_right(row.title)


def window_left(row: ConversationRow, now: datetime) -> timedelta | None:
    """How long free text may still be sent; zero or less: closed; None: the customer never wrote."""
    closes = closes_at(row.last_inbound_at)
    return None if closes is None else closes - now


def tick(row: ConversationRow) -> Tick:
    """The sign before the summary: of what is unsent, else of the last message if it is ours."""
    if row.wedged:
        return Tick.FAILED
    if row.unsent:
        return Tick.WAITING
    last = row.last_message
    if last is None or last.direction is Direction.INBOUND:
        return Tick.NONE
    return tick_of(last.status)


def row_words(row: ConversationRow, now: datetime) -> str:
    """The whole row in one sentence."""
    parts = [row.title]
    if row.unread_count:
        parts.append(f"{row.unread_count} unread")
    if row.draft:
        parts.append(f"draft: {row.draft}")
    elif row.summary:
        last = row.last_message
        ours = row.unsent_summary or (last is not None and last.direction is Direction.OUTBOUND)
        parts.append(f"{'you: ' if ours else ''}{row.summary}")
    sign = tick(row)
    if sign is not Tick.NONE:
        parts.append(sign.value)
    parts.append(list_time(row.activity_at, now))
    left = window_left(row, now)
    if left is None or left <= timedelta(0):
        parts.append("reply window closed")
    elif left < ENDING_WITHIN:
        parts.append(f"reply window closes in {time_left(left)}")
    return ", ".join(parts)
