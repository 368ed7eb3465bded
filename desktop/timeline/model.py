"""Where the timeline's messages come from, and where what the agent does goes: the cache and the engine.

Each reading belongs to a generation; opening another conversation begins a new one, and answers of an older
one are dropped.
"""

import logging
from collections.abc import Coroutine
from typing import Final
from uuid import UUID

from PySide6.QtCore import QObject, QTimer, Signal

from desktop.bridge.bridge import Bridge
from desktop.bridge.tasks import spawn
from desktop.cache.rows import ConversationRow, Edge, MessagePosition, MessageRow, TimelineSlice
from desktop.engine.events import ConnectionChanged, Event, MessagesChanged, Phase, TimelineReset
from desktop.errors import UserFacing
from desktop.timeline.elements.bubble import Speakers
from desktop.timeline.feed import TimelineFeed
from desktop.timeline.hit import Action
from desktop.timeline.window import EXTEND_ROWS, OPEN_ROWS, TRIM_ABOVE
from shared.content import TextContent
from shared.wire.inbox import Direction

log = logging.getLogger("desktop.timeline")

UNREAD_LOOKED_FOR: Final = 1_000
_MARK_PAUSE_MS: Final = 150
_LAST_ID: Final = UUID(int=(1 << 128) - 1)


class TimelineModel(TimelineFeed):
    """The conversation on screen."""

    arrived = Signal(object)
    """A `MessageRow` from the customer that came while the conversation was open."""

    text_returned = Signal(str)
    """A text that goes back into the composer."""

    sent = Signal()
    """A message of the open conversation was taken; the view goes to the end."""

    deleted = Signal(str)
    """The text of an unsent message that was deleted."""

    def __init__(self, bridge: Bridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._bridge = bridge
        self._generation = 0
        self._conversation: UUID | None = None
        self._opening: UUID | None = None
        self._changed_while_opening = False
        self._asking: set[str] = set()
        self._relay_silent = False
        self._unread_to_find = 0
        self._active = True
        self._seen: MessageRow | None = None
        self._marked: MessagePosition | None = None
        self._mark_pause = QTimer(self, singleShot=True, interval=_MARK_PAUSE_MS)
        self._mark_pause.timeout.connect(self._mark_read)
        bridge.events.connect(self._on_events)

    # --- opening ----------------------------------------------------------------------------------

    async def open(self, row: ConversationRow, me: UUID | None) -> bool:
        """Read the end of a conversation; back to the first unread message if there is one.

        Emits nothing: the caller shows it with `show_opened`. False: another one was opened meanwhile.
        """
        self._generation += 1
        generation = self._generation
        self._opening = row.id
        while True:  # what changes during the reading is not on screen yet and would be missed
            self._changed_while_opening = False
            part, unread_from = await self._read_end(row)
            if not self._changed_while_opening:
                break
        if generation != self._generation:
            return False
        self._conversation, self._opening = row.id, None
        self._asking.clear()
        self._seen = None
        self._unread_to_find = row.unread_count if unread_from is None else 0
        newest = next((each for each in reversed(part.rows) if each.direction is Direction.INBOUND), None)
        self._marked = newest.position if newest is not None and not row.unread_count else None
        self.window.replace(part)
        self.speakers = Speakers(row.title, me)
        self.unread_from = unread_from
        return True

    async def _read_end(self, row: ConversationRow) -> tuple[TimelineSlice, UUID | None]:
        """The newest messages, as many as it takes to reach the first unread one."""
        part = await self._newest(row.id, OPEN_ROWS)
        unread_from = _first_unread(part.rows, row.unread_count)
        while (
            unread_from is None
            and row.unread_count
            and part.older is Edge.CACHED
            and len(part.rows) < UNREAD_LOOKED_FOR
        ):
            part = _joined(await self._before(row.id, part.rows[0].position), part)
            unread_from = _first_unread(part.rows, row.unread_count)
        return part, unread_from

    def show_opened(self) -> None:
        """Let the view show what `open` has read, and let the engine make it complete."""
        self.opened.emit()
        if self._conversation is not None:
            spawn(self._complete(self._conversation), name="complete the conversation", owner=self)

    def close(self) -> None:
        """Nothing is on screen any more."""
        self._generation += 1
        self._conversation = None
        self.window.replace(TimelineSlice((), Edge.END, Edge.END, complete=True))
        self.opened.emit()

    async def _complete(self, conversation: UUID) -> None:
        try:
            await self._bridge.call(lambda engine: engine.open_conversation(conversation))
        except UserFacing as error:
            log.info("the newest page of %s was not brought: %s", conversation, error)

    # --- asked by the view ------------------------------------------------------------------------

    def want_older(self) -> None:
        if self._conversation is None or not self.window.rows or "older" in self._asking:
            return
        if self.window.older is Edge.CACHED:
            self._ask("older", self._extend_older(self._conversation, self._generation))
        elif self.window.older is Edge.REMOTE and not self._relay_silent:
            self._ask("older", self._fetch_older(self._conversation, self._generation))

    def want_newer(self) -> None:
        if self._conversation is not None and self.window.rows and not self.window.at_end:
            self._ask("newer", self._extend_newer(self._conversation, self._generation))

    def want_newest(self) -> None:
        if self._conversation is not None:
            self._ask("newest", self._show_newest(self._conversation, self._generation))

    def seen(self, row: MessageRow) -> None:
        self._seen = row
        if self._active:
            self._mark_pause.start()

    def set_active(self, active: bool) -> None:
        """Whether a person looks at the window; only then is anything marked as read."""
        self._active = active
        if active:
            self._mark_pause.start()

    def act(self, row: MessageRow, action: Action) -> None:
        spawn(self._act(row, action), name=f"{action.value} a message", owner=self)

    def send(self, text: str) -> None:
        """Send to the open conversation; the text comes back by `text_returned` if it cannot be kept."""
        if self._conversation is not None:
            spawn(self._send(self._conversation, text), name="send a message", owner=self)

    # --- reading ----------------------------------------------------------------------------------

    def _ask(self, what: str, coroutine: Coroutine[None, None, None]) -> None:
        """One question of a kind at a time."""
        if what in self._asking:
            coroutine.close()
            return
        self._asking.add(what)
        task = spawn(coroutine, name=f"read {what} messages", owner=self)
        task.add_done_callback(lambda _task: self._asking.discard(what))

    async def _newest(self, conversation: UUID, limit: int) -> TimelineSlice:
        return await self._bridge.call(lambda engine: engine.queries.timeline_newest(conversation, limit))

    async def _before(self, conversation: UUID, position: MessagePosition) -> TimelineSlice:
        return await self._bridge.call(
            lambda engine: engine.queries.timeline_before(conversation, position, EXTEND_ROWS)
        )

    async def _extend_older(self, conversation: UUID, generation: int) -> None:
        part = await self._before(conversation, self.window.rows[0].position)
        if generation == self._generation:
            self.window.extend_older(part)
            self._changed_soon()

    async def _fetch_older(self, conversation: UUID, generation: int) -> None:
        try:
            await self._bridge.call(lambda engine: engine.load_older(conversation))
        except (UserFacing, TimeoutError) as error:
            # Asked again once the connection is back.
            log.info("older messages were not brought: %s", error)
            self._relay_silent = True
            return
        if generation == self._generation and self.window.rows:
            await self._extend_older(conversation, generation)

    async def _extend_newer(self, conversation: UUID, generation: int) -> None:
        last = self.window.rows[-1].position
        part = await self._bridge.call(
            lambda engine: engine.queries.timeline_after(conversation, last, EXTEND_ROWS)
        )
        if generation == self._generation:
            self.window.extend_newer(part)
            self._changed_soon()

    async def _show_newest(self, conversation: UUID, generation: int) -> None:
        part = await self._newest(conversation, OPEN_ROWS)
        if generation == self._generation:
            self.window.replace(part)
            self.unread_from = None
            self.opened.emit()

    async def _read_again(self, conversation: UUID, generation: int) -> None:
        """The same place anew, after a reset."""
        rows = self.window.rows
        if self.window.at_end or not rows:
            part = await self._newest(conversation, min(TRIM_ABOVE, max(OPEN_ROWS, len(rows))))
        else:
            last = rows[-1].position
            beyond = MessagePosition(pending=last.pending, at=last.at + 1, id=_LAST_ID)
            part = await self._bridge.call(
                lambda engine: engine.queries.timeline_before(conversation, beyond, OPEN_ROWS)
            )
        if generation != self._generation:
            return
        self.window.replace(part)
        unread_from = _first_unread(part.rows, self._unread_to_find)
        if unread_from is None:
            self.changed.emit()
            return
        # The conversation was opened before its unread messages were here: go to them now.
        self._unread_to_find = 0
        self.unread_from = unread_from
        self.opened.emit()

    def _changed_soon(self) -> None:
        """Not inside the question: the view may ask the next one while it lays out."""
        QTimer.singleShot(0, self, self.changed.emit)

    # --- what changes -----------------------------------------------------------------------------

    def _on_events(self, batch: tuple[Event, ...]) -> None:
        changed = False
        for event in batch:
            match event:
                case MessagesChanged(conversation_id=conversation, rows=rows, removed=removed):
                    self._changed_while_opening |= conversation == self._opening
                    if conversation == self._conversation:
                        changed |= self._merge(rows, removed)
                case TimelineReset(conversation_id=conversation):
                    self._changed_while_opening |= conversation in {None, self._opening}
                    if self._conversation is not None and conversation in {None, self._conversation}:
                        self._ask("again", self._read_again(self._conversation, self._generation))
                case ConnectionChanged(phase=Phase.ONLINE):
                    self._relay_silent = False
                    changed |= self.window.older is Edge.REMOTE
        if changed:
            self.changed.emit()

    def _merge(self, rows: tuple[MessageRow, ...], removed: tuple[UUID, ...]) -> bool:
        new = [row for row in rows if row.direction is Direction.INBOUND and self.window.row(row.key) is None]
        last = self.window.rows[-1].position if self.window.rows else None
        changed = self.window.merge(rows, removed)
        for row in new:
            if last is None or row.position > last:
                self.arrived.emit(row)
        return changed

    # --- doing ------------------------------------------------------------------------------------

    async def _send(self, conversation: UUID, text: str) -> None:
        seen = self._seen.id if self._seen is not None else None
        try:
            row = await self._bridge.call(lambda engine: engine.send_text(conversation, text, seen))
        except (UserFacing, TimeoutError):
            self.text_returned.emit(text)
            raise
        if conversation != self._conversation:
            return
        # The event may have been faster, and then it is newer.
        if self.window.at_end and self.window.row(row.key) is None:
            self.window.merge((row,))
        self.unread_from = None
        self.changed.emit()
        self.sent.emit()

    async def _act(self, row: MessageRow, action: Action) -> None:
        match action:
            case Action.RETRY:
                await self._bridge.call(lambda engine: engine.retry_send(row.key))
            case Action.EDIT:
                taken = await self._bridge.call(lambda engine: engine.cancel_send(row.key))
                self.text_returned.emit(taken.text)
            case Action.DELETE:
                taken = await self._bridge.call(lambda engine: engine.cancel_send(row.key))
                self.deleted.emit(taken.text)
            case Action.WRITE_AGAIN:
                if isinstance(row.content, TextContent):
                    self.text_returned.emit(row.content.body)

    def _mark_read(self) -> None:
        """Tell that everything up to the newest message on screen was seen, if that is news."""
        if not self._active or self._seen is None or self._conversation is None:
            return
        limit = self._seen.position
        newest = next(
            (
                row
                for row in reversed(self.window.rows)
                if row.position <= limit and row.direction is Direction.INBOUND and row.id is not None
            ),
            None,
        )
        if newest is None or (self._marked is not None and newest.position <= self._marked):
            return
        self._marked = newest.position
        spawn(self._tell_read(self._conversation, newest.id or newest.key), name="mark as read", owner=self)

    async def _tell_read(self, conversation: UUID, message: UUID) -> None:
        await self._bridge.call(lambda engine: engine.mark_read(conversation, message))


def _first_unread(rows: tuple[MessageRow, ...], unread: int) -> UUID | None:
    """The message over which the unread line stands; None if it is not among `rows`."""
    if not unread:
        return None
    for row in reversed(rows):
        if row.direction is Direction.INBOUND:
            unread -= 1
            if unread == 0:
                return row.key
    return None


def _joined(older: TimelineSlice, newer: TimelineSlice) -> TimelineSlice:
    return TimelineSlice(
        (*older.rows, *newer.rows), older.older, newer.newer, complete=older.complete and newer.complete
    )
