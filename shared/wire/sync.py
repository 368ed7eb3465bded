"""The change feed: snapshot, changes and the frames of the socket `/api/v1/live`.

Each tenant has one gapless counter `seq`. A cursor is valid for one `epoch`; with another epoch, below the
kept floor or above the head the relay answers 410 `resync_required`, and the client starts again from a
snapshot.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from shared.wire.inbox import Conversation, Message


class Snapshot(msgspec.Struct, frozen=True):
    """A page of the inbox, newest activity first.

    `seq` is the head read before the first page: after the last page a client reads changes from there and
    keeps rows by `version`. `next_cursor` is None on the last page.
    """

    epoch: UUID
    seq: int
    conversations: list[Conversation]
    next_cursor: str | None


class ConversationChange(msgspec.Struct, frozen=True, tag_field="kind", tag="conversation"):
    """The row as it is now; None where it is gone or no longer visible to the reader."""

    seq: int
    id: UUID
    row: Conversation | None


class MessageChange(msgspec.Struct, frozen=True, tag_field="kind", tag="message"):
    """The row as it is now; None where it is gone or no longer visible to the reader."""

    seq: int
    id: UUID
    row: Message | None


Change = ConversationChange | MessageChange


class Changes(msgspec.Struct, frozen=True):
    """Everything changed in `(after, to]`, once per entity, in the order of `seq`.

    `to` is the next cursor. There is more to read while `to < head`.
    """

    epoch: UUID
    after: int
    to: int
    head: int
    changes: list[Change]


# --- frames of the socket -------------------------------------------------------------------------


class Head(msgspec.Struct, frozen=True, tag_field="t", tag="head"):
    """The feed is at `seq`. Sent on connect, after changes, and every `heartbeat` seconds."""

    epoch: UUID
    seq: int


class AuthExpiring(msgspec.Struct, frozen=True, tag_field="t", tag="auth_expiring"):
    """The access token ends at `expires_at`; answer with `Reauthenticate` before, or be closed with 4401."""

    expires_at: datetime


class Bye(msgspec.Struct, frozen=True, tag_field="t", tag="bye"):
    """The relay is going down; come back after `retry_ms` milliseconds."""

    retry_ms: int


ServerFrame = Head | AuthExpiring | Bye


class Reauthenticate(msgspec.Struct, frozen=True, tag_field="t", tag="auth"):
    """From the client: a fresh access token for the same device session."""

    token: str


class Ping(msgspec.Struct, frozen=True, tag_field="t", tag="ping"):
    """From the client, to learn whether the line is alive; answered with `Head`."""


ClientFrame = Reauthenticate | Ping

CLOSE_UNAUTHENTICATED = 4401
CLOSE_REVOKED = 4403
CLOSE_TRY_LATER = 1013
HEARTBEAT_SECONDS = 20
