"""What the engine tells the views: typed, frozen events. They import neither Qt nor SQLAlchemy.

Events arrive in batches, in order, on the GUI thread, through `Bridge.events` (a tuple of events). The first
event after a quiet time is delivered at once, later ones at most every 33 ms. A view-model matches on the
type and ignores what it does not show:

    @Slot(object)
    def on_events(self, batch: tuple[Event, ...]) -> None:
        for event in batch:
            match event:
                case ConversationsChanged(rows=rows, removed=removed): ...
                case InboxReset(): ...

What an event says is already committed in the cache.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from desktop.cache.rows import ConversationRow, MessageRow, UnsentMessage
from shared.wire.auth import Me


class Phase(StrEnum):
    """`CONNECTING`: first try, or a try after a loss that has not failed yet. `OFFLINE`: tries fail."""

    SIGNED_OUT = "signed_out"
    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"


class ConnectionChanged(msgspec.Struct, frozen=True, kw_only=True):
    """For the banner. `since`: when this phase began; `last_sync_at`: when the cache last matched the relay.

    `live`: the socket is up; when False and `ONLINE`, news comes by polling. `syncing`: the inbox is being
    loaded from the relay (first start, or anew after a long time). `unsent`/`wedged`: the outbox.
    `reason`: why it is offline, in words.
    """

    phase: Phase
    since: datetime
    last_sync_at: datetime | None = None
    live: bool = False
    syncing: bool = False
    unsent: int = 0
    wedged: int = 0
    reason: str = ""


class SignedIn(msgspec.Struct, frozen=True):
    """The account's cache is open: views may read. Sent at start (also offline) and after signing in.

    `remembered` is False for a session that ends with the program.
    """

    me: Me
    relay_url: str
    remembered: bool


class SignInRequired(msgspec.Struct, frozen=True):
    """Show the sign-in window. `can_remember` is False where no keyring is available (`why_not` says why).

    `reason`: why a running session came to its end, empty otherwise. `relay_url` and `email`: of the last
    session, to fill in.
    """

    can_remember: bool
    why_not: str = ""
    reason: str = ""
    relay_url: str = ""
    email: str = ""


class SessionRevoked(msgspec.Struct, frozen=True):
    """This device was signed out from elsewhere; its cache is wiped. `lost` holds what was never sent."""

    lost: tuple[UnsentMessage, ...]


class CacheUnavailable(msgspec.Struct, frozen=True):
    """The account's cache cannot be opened. Nothing was deleted.

    `code`: `cache_key_missing`, `cache_key_wrong`, `cache_corrupt`, `cache_newer`, `cache_full`,
    `cache_locked`, `cache_read_only`. `can_rebuild`: offer `engine.rebuild_cache()`, which sets the file
    aside and loads everything from the relay. `unsent`: messages in it that were never sent.
    """

    code: str
    title: str
    advice: str
    can_rebuild: bool
    unsent: int


class Trouble(msgspec.Struct, frozen=True):
    """Something needs the person's attention: show as a toast; the same `code` replaces the older one."""

    code: str
    title: str
    advice: str


class TroubleOver(msgspec.Struct, frozen=True):
    """Take back the toast of `code`."""

    code: str


class ConversationsChanged(msgspec.Struct, frozen=True):
    """Rows that are new or changed, and ids that are gone. Counts may have changed: ask `inbox_counts`."""

    rows: tuple[ConversationRow, ...]
    removed: tuple[UUID, ...] = ()


class InboxReset(msgspec.Struct, frozen=True):
    """Too much changed to list it: read the inbox again, keeping the scroll position."""


class MessagesChanged(msgspec.Struct, frozen=True):
    """Bubbles of one conversation that are new or changed; `removed` are keys of those that are gone.

    Rows above the oldest one a view has loaded can be ignored: paging brings them.
    """

    conversation_id: UUID
    rows: tuple[MessageRow, ...]
    removed: tuple[UUID, ...] = ()


class TimelineReset(msgspec.Struct, frozen=True):
    """Read the timeline again, keeping the anchor; None means every conversation."""

    conversation_id: UUID | None


Event = (
    ConnectionChanged
    | SignedIn
    | SignInRequired
    | SessionRevoked
    | CacheUnavailable
    | Trouble
    | TroubleOver
    | ConversationsChanged
    | InboxReset
    | MessagesChanged
    | TimelineReset
)
