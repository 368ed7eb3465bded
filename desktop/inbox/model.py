"""Where the inbox's rows come from: the cache, and the engine's events."""

import logging
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from PySide6.QtCore import QObject, QTimer

from desktop.bridge.bridge import Bridge
from desktop.bridge.tasks import spawn
from desktop.cache.rows import ConversationRow, InboxCounts, InboxQuery
from desktop.engine.events import (
    ConnectionChanged,
    ConversationsChanged,
    Event,
    InboxReset,
    Phase,
    SignedIn,
    SignInRequired,
)
from desktop.errors import UserFacing
from desktop.inbox.feed import InboxFeed, ListState

log = logging.getLogger("desktop.inbox")

FIRST_PAGE: Final = 60
NEXT_PAGE: Final = 200
REREAD_MAX: Final = 400
_COUNT_PAUSE_MS: Final = 250


class InboxModel(InboxFeed):
    """Reads pages from the cache as the reader comes near their end, and merges what changes."""

    def __init__(self, bridge: Bridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._bridge = bridge
        self._generation = 0
        self._extending = False
        self._connection = ConnectionChanged(phase=Phase.CONNECTING, since=datetime.now(UTC), syncing=True)
        self._readable = False
        self._read_once = False
        self.open_id: UUID | None = None
        """The conversation on screen: it stays listed under "Unread" after it was read."""
        self._count_pause = QTimer(self, singleShot=True, interval=_COUNT_PAUSE_MS)
        self._count_pause.timeout.connect(self._count)
        bridge.events.connect(self._on_events)

    # --- asked by the panel -----------------------------------------------------------------------

    def set_query(self, query: InboxQuery) -> None:
        self.query = query
        self._read(FIRST_PAGE)

    def want_more(self) -> None:
        if self._readable and not self._extending and not self.rows.complete and self.rows.rowCount():
            self._extending = True
            spawn(self._extend(self._generation), name="read more of the inbox", owner=self)

    def read_again(self) -> None:
        self._read_once = False
        self._set_state(ListState.LOADING)
        self._read(FIRST_PAGE)

    # --- reading ----------------------------------------------------------------------------------

    def _read(self, limit: int) -> None:
        """Read from the top. An older reading that is still under way is dropped."""
        self._generation += 1
        spawn(self._replace(self._generation, limit), name="read the inbox", owner=self)
        self._count()

    async def _replace(self, generation: int, limit: int) -> None:
        query = self.query
        try:
            page = await self._bridge.call(lambda engine: engine.queries.inbox_page(query, None, limit))
        except UserFacing as error:
            if generation == self._generation and self._readable:
                self.failure = f"{error.title} {error.advice}".strip()
                self._set_state(ListState.FAILED)
            return
        if generation == self._generation:
            self._read_once = True
            self.rows.replace(page.rows, complete=page.next_after is None)
            self._show_state()

    async def _extend(self, generation: int) -> None:
        try:
            after, query = self.rows.last_position(), self.query
            page = await self._bridge.call(lambda engine: engine.queries.inbox_page(query, after, NEXT_PAGE))
            if generation == self._generation:
                self.rows.extend(page.rows, complete=page.next_after is None)
        finally:
            self._extending = False

    def _count(self) -> None:
        if self._readable:
            spawn(self._read_counts(), name="count conversations", owner=self)

    async def _read_counts(self) -> None:
        counts = await self._bridge.call(lambda engine: engine.queries.inbox_counts())
        if counts != self.counts:
            self.counts = counts
            self.counts_changed.emit()

    # --- what changes -----------------------------------------------------------------------------

    def _on_events(self, batch: tuple[Event, ...]) -> None:
        for event in batch:
            match event:
                case SignedIn():
                    self._readable = True
                    self.read_again()
                case SignInRequired():
                    self._forget()
                case InboxReset():
                    self._read(min(REREAD_MAX, max(FIRST_PAGE, self.rows.rowCount())))
                case ConversationsChanged(rows=rows, removed=removed):
                    self._merge(rows, removed)
                case ConnectionChanged():
                    self._connection = event
                    self._show_state()

    def _forget(self) -> None:
        """Nobody is signed in: nothing of the old account stays on screen."""
        self._readable = False
        self._generation += 1
        self.rows.replace([], complete=False)
        self._set_state(ListState.LOADING)
        self.counts = InboxCounts(0, 0)
        self.counts_changed.emit()

    def _merge(self, rows: tuple[ConversationRow, ...], removed: tuple[UUID, ...]) -> None:
        matching = tuple(row for row in rows if self._matches(row))
        gone = {row.id for row in rows} - {row.id for row in matching}
        self.rows.merge(matching, (*removed, *gone))
        self._show_state()
        if not self._count_pause.isActive():
            self._count_pause.start()

    def _matches(self, row: ConversationRow) -> bool:
        if self.query.unread_only and not row.unread_count and row.id != self.open_id:
            return False
        wanted = self.query.search.casefold()
        return not wanted or any(
            wanted in (text or "").casefold() for text in (row.name, row.username, row.phone)
        )

    def _show_state(self) -> None:
        if not self._readable or not self._read_once:
            return
        if self.rows.rowCount():
            self._set_state(ListState.READY)
        elif self.query.search:
            self._set_state(ListState.NOTHING_MATCHES)
        elif self.query.unread_only:
            self._set_state(ListState.ALL_READ)
        elif self._connection.last_sync_at is None and self._connection.phase is Phase.OFFLINE:
            self.failure = "It was never loaded yet, and the relay cannot be reached."
            self._set_state(ListState.FAILED)
        elif self._connection.last_sync_at is None or self._connection.syncing:
            self._set_state(ListState.LOADING)
        else:
            self._set_state(ListState.EMPTY)

    def _set_state(self, state: ListState) -> None:
        if state is not self.state:
            self.state = state
            self.state_changed.emit()
