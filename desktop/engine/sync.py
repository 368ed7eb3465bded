"""The cache follows the relay's feed.

    no epoch ──▶ first page of the snapshot ──▶ further pages, with changes read in between ──▶ following
       ▲                                                                                            │
       └──────── 410, another epoch, a snapshot cursor that is no longer known ─────────────────────┘

The cursor is written in the transaction of the rows it covers, and rows are kept by version, so a crash or a
repeated answer changes nothing. The socket only says that there is something to read.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from desktop.cache import writes
from desktop.cache.errors import CacheError
from desktop.cache.queries import conversation_rows, message_rows
from desktop.cache.rows import MessageRow
from desktop.cache.schema import micros, sync_state
from desktop.cache.store import Cache
from desktop.engine.api import Api, ApiError, RefusedError
from desktop.engine.clock import Backoff, Clock
from desktop.engine.events import (
    ConversationsChanged,
    Event,
    InboxReset,
    MessagesChanged,
    TimelineReset,
    Trouble,
    TroubleOver,
)
from desktop.engine.publisher import Publisher
from desktop.engine.session import Session
from desktop.engine.status import Status
from desktop.errors import UserFacing
from shared.wire.inbox import Conversation, Message
from shared.wire.problem import Code, Problem
from shared.wire.sync import Changes, ConversationChange, MessageChange, Snapshot

log = logging.getLogger("desktop.sync")

POLL_SECONDS: Final = 5.0
"""How often to ask while the socket is down."""

NOTE_SYNC_SECONDS: Final = 60.0

RESET_ABOVE: Final = 300
"""More changed rows than this are told as "read again" instead of one by one."""

_RESTART: Final = frozenset({Code.RESYNC_REQUIRED, Code.INVALID_CURSOR})
_TROUBLE = "sync"


class Sync:
    """`run` is the loop; `catch_up` is one round of it.

    `generation` grows when something was removed or a resync began: an answer that was asked for before may
    hold what is gone by now. It changes only inside a write transaction. `following` is set while a cursor is
    known: pages read meanwhile are kept current by the feed. `damage` is done once the file is found damaged;
    the loop has ended then.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        api: Api,
        session: Session,
        status: Status,
        publish: Publisher,
        clock: Clock,
        on_settled: Callable[[], None],
    ) -> None:
        self._cache = cache
        self._api = api
        self._session = session
        self._status = status
        self._publish = publish
        self._clock = clock
        self._on_settled = on_settled
        self._wake = asyncio.Event()
        self._wake.set()
        self.generation = 0
        self.epoch: UUID | None = None
        self.cursor = 0
        self._snapshot_cursor: str | None = None
        self._restarts = 0
        self._trouble_told = False
        self._noted_at = float("-inf")
        self.following = asyncio.Event()
        self.snapshot_done = asyncio.Event()
        self.damage: asyncio.Future[CacheError] = asyncio.get_running_loop().create_future()

    async def load(self) -> None:
        """Take up where the cache stands."""
        async with self._cache.reading() as connection:
            state = (await connection.execute(select(sync_state))).one_or_none()
        if state is not None:
            self.epoch, self.cursor = state.epoch, state.cursor
            self._snapshot_cursor = state.snapshot_cursor
            if self.epoch is not None:
                self.following.set()
            if state.snapshot_done:
                self.snapshot_done.set()

    def hint(self, epoch: UUID, seq: int) -> None:
        """The relay says where its feed is."""
        if epoch != self.epoch or seq > self.cursor:
            self._wake.set()
        elif seq == self.cursor:
            self._status.reached()

    def wake(self) -> None:
        """Look for changes now."""
        self._wake.set()

    # --- the loop ---

    async def run(self) -> None:
        """Follow the feed until cancelled or the session ends. Failures are told and tried again."""
        backoff = Backoff(first=0.1, cap=10.0)
        while not self._session.ended.is_set():
            try:
                await self.catch_up()
            except ApiError as error:
                self._status.lost(error.title)
                if not error.temporary:
                    log.warning("the relay refuses to synchronise: %s", error)
                    self._tell_trouble(error, backoff)
            except CacheError as error:
                log.warning("the cache could not be written: %s", error)
                if error.can_rebuild:
                    self.damage.set_result(error)
                    return
                self._tell_trouble(error, backoff)
            except Exception:
                # Rolled back, cursor unmoved: the same changes are applied again, nothing is skipped.
                log.exception("applying changes after %d of epoch %s failed", self.cursor, self.epoch)
                self._tell_trouble(_OUR_FAULT, backoff)
            else:
                if self._trouble_told:
                    self._trouble_told = False
                    self._publish(TroubleOver(_TROUBLE))
                backoff.reset()
                await self._wait(None if self._status.live else POLL_SECONDS)
                continue
            await self._wait(backoff.next())

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _tell_trouble(self, error: UserFacing, backoff: Backoff) -> None:
        """A toast once it lasts; the first few failures are usually over before anyone could read it."""
        if backoff.failures == 3 or isinstance(error, CacheError):
            self._trouble_told = True
            self._publish(Trouble(_TROUBLE, error.title, error.advice))

    async def catch_up(self) -> None:
        """Read until the cache stands where the relay's feed stood a moment ago."""
        self._wake.clear()
        try:
            while not self.snapshot_done.is_set():
                self._status.syncing = True
                self._status.tell()
                await self._read_snapshot_page()
                await self._read_changes()
            await self._read_changes()
        except RefusedError as error:
            if error.code not in _RESTART:
                raise
            log.warning("starting again from a snapshot: %s", error)
            await self._begin_resync()
            self._restarts += 1
            if self._restarts > 1:
                raise  # twice in a row is a failure like any other, with its waits
            self._wake.set()
            return
        self._restarts = 0
        self._status.syncing = False
        self._status.reached()
        if self._clock.monotonic() - self._noted_at > NOTE_SYNC_SECONDS:
            await self.note_sync()

    async def note_sync(self) -> None:
        """Keep the time of the last sync, for a start without a network."""
        if self._status.last_sync_at is None:
            return
        async with self._cache.writing() as connection:
            await writes.put_sync_state(connection, last_sync_at=micros(self._status.last_sync_at))
        self._noted_at = self._clock.monotonic()

    # --- reading ---

    async def _read_snapshot_page(self) -> None:
        first = self.epoch is None
        page = await self._api.snapshot(None if first else self._snapshot_cursor)
        if first:
            log.info("snapshot of epoch %s at %d", page.epoch, page.seq)
        elif page.epoch != self.epoch:
            raise _resync(f"the snapshot changed its epoch from {self.epoch} to {page.epoch}")
        done = page.next_cursor is None
        async with self._cache.writing() as connection:
            await self._write_snapshot_page(connection, page, first=first, done=done)
        if first:
            self.epoch, self.cursor = page.epoch, page.seq
            self.following.set()
        self._snapshot_cursor = page.next_cursor
        if done:
            self.snapshot_done.set()
        self._publish(InboxReset())

    async def _write_snapshot_page(
        self, connection: AsyncConnection, page: Snapshot, *, first: bool, done: bool
    ) -> None:
        if first:
            await writes.begin_epoch(connection, page.epoch, page.seq)
        await writes.put_conversations(connection, page.conversations)
        await writes.put_sync_state(connection, snapshot_cursor=page.next_cursor)
        if first or done:
            self.generation += 1
        if done:
            await writes.finish_resync(connection)

    async def _read_changes(self) -> None:
        """Apply changes until the head is reached."""
        while self.epoch is not None:
            answer = await self._api.changes(self.cursor, self.epoch)
            if answer.epoch != self.epoch:
                raise _resync(f"the feed changed its epoch from {self.epoch} to {answer.epoch}")
            if answer.after != self.cursor or answer.to < answer.after:
                raise RuntimeError(
                    f"asked for changes after {self.cursor}, got ({answer.after}, {answer.to}]"
                )
            if answer.to > self.cursor:
                events = await self._apply(answer)
                self.cursor = answer.to
                self._publish(*events)
            if answer.to >= answer.head:
                return

    async def _apply(self, answer: Changes) -> list[Event]:
        conversations: list[Conversation] = []
        gone_conversations: list[UUID] = []
        messages: list[Message] = []
        gone_messages: list[UUID] = []
        for change in answer.changes:
            match change:
                case ConversationChange(row=None, id=id_):
                    gone_conversations.append(id_)
                case ConversationChange(row=Conversation() as conversation):
                    conversations.append(conversation)
                case MessageChange(row=None, id=id_):
                    gone_messages.append(id_)
                case MessageChange(row=Message() as message):
                    messages.append(message)
        async with self._cache.writing() as connection:
            if gone_conversations or gone_messages:
                self.generation += 1
            await writes.put_conversations(connection, conversations)
            await writes.remove_conversations(connection, gone_conversations)
            settled = await writes.put_messages(connection, messages)
            removed = await writes.remove_messages(connection, gone_messages)
            await writes.put_sync_state(connection, cursor=answer.to, last_sync_at=micros(self._clock.now()))
            # An unsent message that arrived changes its conversation's row as well.
            touched = {row.id for row in conversations}
            touched |= {row.conversation_id for row in messages if row.client_id in settled}
            events = await self._describe(connection, touched, gone_conversations, messages, removed)
        if settled:
            self._on_settled()
        return events

    async def _describe(
        self,
        connection: AsyncConnection,
        touched: set[UUID],
        gone_conversations: list[UUID],
        messages: list[Message],
        removed: list[tuple[UUID, UUID]],
    ) -> list[Event]:
        events: list[Event] = []
        if len(touched) > RESET_ABOVE:
            events.append(InboxReset())
        elif touched or gone_conversations:
            rows = await conversation_rows(connection, touched)
            events.append(ConversationsChanged(tuple(rows), tuple(gone_conversations)))
        if len(messages) + len(removed) > RESET_ABOVE:
            events.append(TimelineReset(None))
        elif messages or removed:
            shown = await message_rows(connection, [row.id for row in messages])
            events += by_conversation(shown, removed)
        return events

    async def _begin_resync(self) -> None:
        async with self._cache.writing() as connection:
            self.generation += 1
            await writes.begin_resync(connection)
        self.epoch, self.cursor, self._snapshot_cursor = None, 0, None
        self.following.clear()
        self.snapshot_done.clear()
        self._publish(InboxReset(), TimelineReset(None))


def _resync(detail: str) -> RefusedError:
    """What the relay would have said had it been asked with the epoch."""
    return RefusedError(
        Problem(title="The feed began anew.", status=410, code=Code.RESYNC_REQUIRED, detail=detail)
    )


_OUR_FAULT = UserFacing(
    "Relaydesk has a problem taking in new messages.",
    "It tries again by itself. If this stays, restart it and report the problem.",
)


def by_conversation(
    rows: Iterable[MessageRow], removed: Iterable[tuple[UUID, UUID]] = ()
) -> list[MessagesChanged]:
    """One event for each conversation. `removed`: (conversation id, key)."""
    changed: dict[UUID, list[MessageRow]] = {}
    gone: dict[UUID, list[UUID]] = {}
    for row in rows:
        changed.setdefault(row.conversation_id, []).append(row)
    for conversation_id, key in removed:
        gone.setdefault(conversation_id, []).append(key)
    return [
        MessagesChanged(id_, tuple(changed.get(id_, ())), tuple(gone.get(id_, ()))) for id_ in changed | gone
    ]
