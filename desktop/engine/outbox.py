"""Messages that wait to be sent. They are on disk before anyone is told, and survive the program's death.

          add                                  ┌─ the relay has it (answer, or the feed's echo) ──▶ gone
           │                                   │
           ▼          one at a time            │
        QUEUED ─────▶ SENDING ─────────────────┼─ no answer, 5xx, 429 ──▶ RETRY_WAIT ──▶ SENDING …
           ▲          of a conversation        │
           │                                   └─ refused, or a day old ──▶ WEDGED(why)
           └────────────── retry ─────────────────────────────────────────────┘
        cancel: from QUEUED, RETRY_WAIT or WEDGED, gone

In a conversation messages leave in the order of writing, one in flight. A message in RETRY_WAIT holds back
those behind it; a WEDGED one does not, and no conversation holds back another. Every attempt carries the same
client id, so the relay takes the message once however often it is asked. What was SENDING when the program
ended is sent again.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from desktop.cache import writes
from desktop.cache.errors import CacheError
from desktop.cache.queries import (
    AnyRow,
    conversation_rows,
    message_rows,
    outbox_counts,
    outbox_rows,
    unsent_messages,
)
from desktop.cache.rows import MessageRow, OutboxState, UnsentMessage
from desktop.cache.schema import micros, moment, outbox
from desktop.cache.store import Cache
from desktop.engine.api import Api, ApiError, ServerError
from desktop.engine.clock import Clock, backoff_seconds
from desktop.engine.events import ConversationsChanged, Event, MessagesChanged
from desktop.engine.publisher import Publisher
from desktop.engine.session import Session
from desktop.errors import UserFacing
from shared.content import TextContent
from shared.wire.inbox import Message, SendMessageRequest
from shared.wire.problem import Code

log = logging.getLogger("desktop.outbox")

PARALLEL: Final = 6
RETRY_FIRST_SECONDS: Final = 1.0
RETRY_CAP_SECONDS: Final = 60.0
GIVE_UP_AFTER: Final = timedelta(hours=24)
"""A reply written yesterday may be wrong today: the agent decides whether it still goes out."""

_WAITING: Final = (OutboxState.QUEUED, OutboxState.RETRY_WAIT)
_AT_REST: Final = (*_WAITING, OutboxState.WEDGED)
_TO_SEND: Final = (*_WAITING, OutboxState.SENDING)
"""SENDING without an attempt in flight: one whose end could not be written down. It goes again."""

CACHE_FAILED_SECONDS: Final = 5.0

_TOO_OLD: Final = UserFacing(
    "This could not be sent for a day.", "Check whether it is still right, then try again.", code="too_old"
)
_OUR_FAULT: Final = UserFacing(
    "Relaydesk had a problem sending this.", "Try again. If it stays, report the problem.", code="bug"
)


class AlreadyLeaving(UserFacing):
    """Too late to take a message back. `code` is `already_leaving`."""

    code = "already_leaving"

    def __init__(self) -> None:
        super().__init__("This message is already on its way.", "It can no longer be taken back.")


class Outbox:
    """`run` sends; the other methods change what waits and return when that is on disk.

    `on_counts(unsent, wedged)` is called after each change.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        api: Api,
        session: Session,
        publish: Publisher,
        clock: Clock,
        on_counts: Callable[[int, int], None],
    ) -> None:
        self._cache = cache
        self._api = api
        self._session = session
        self._publish = publish
        self._clock = clock
        self._on_counts = on_counts
        self._wake = asyncio.Event()
        self._in_flight: dict[UUID, asyncio.Task[None]] = {}
        # Waiting is measured by the clock that cannot be set; `next_at` in the row is for showing.
        self._not_before: dict[UUID, float] = {}
        self._hold_all_until = 0.0

    async def load(self) -> None:
        """After a start: what was being sent is sent again, and nothing waits for a time long gone."""
        async with self._cache.writing() as connection:
            interrupted = outbox.c.state == OutboxState.SENDING
            await connection.execute(
                update(outbox).where(interrupted).values(state=OutboxState.QUEUED, maybe_sent=True)
            )
            await connection.execute(
                update(outbox)
                .where(outbox.c.state == OutboxState.RETRY_WAIT)
                .values(state=OutboxState.QUEUED, next_at=None)
            )
            counts = await outbox_counts(connection)
        self._on_counts(*counts)

    # --- commands ---

    async def add(self, echo: Message, seen_message_id: UUID | None) -> MessageRow:
        """Queue `echo` (its `client_id` set); gives its bubble."""
        async with self._cache.writing() as connection:
            await writes.queue_message(connection, echo, seen_message_id)
            rows = await outbox_rows(connection, outbox.c.client_id == echo.client_id)
            news = await self._describe(connection, echo.conversation_id, rows)
        self._tell(*news)
        self._wake.set()
        return rows[0]

    async def retry(self, client_id: UUID) -> None:
        """Try now; the day until it counts as too old begins anew."""
        async with self._cache.writing() as connection:
            moved = await writes.move_outbox(
                connection,
                client_id,
                _AT_REST,
                state=OutboxState.QUEUED,
                next_at=None,
                created_at=micros(self._clock.now()),
            )
            rows = await outbox_rows(connection, outbox.c.client_id == client_id)
            if not moved or not rows:
                return  # sent meanwhile
            news = await self._describe(connection, rows[0].conversation_id, rows)
        self._not_before.pop(rows[0].conversation_id, None)
        self._tell(*news)
        self._wake.set()

    async def cancel(self, client_id: UUID) -> UnsentMessage:
        """Take a message out. Raises `AlreadyLeaving` if it is being sent or was sent."""
        async with self._cache.writing() as connection:
            taken = outbox.c.client_id == client_id, outbox.c.state.in_(_AT_REST)
            found = await unsent_messages(connection, *taken)
            if not found:
                raise AlreadyLeaving
            await connection.execute(delete(outbox).where(*taken))
            await writes.rederive(connection, [found[0].conversation_id])
            conversation_id = found[0].conversation_id
            news = await self._describe(connection, conversation_id, [], removed=(client_id,))
        self._not_before.pop(conversation_id, None)
        self._tell(*news)
        self._wake.set()
        return found[0]

    def kick(self) -> None:
        """The relay can be reached again: do not wait any longer for it."""
        self._not_before.clear()
        self._wake.set()

    async def settled_elsewhere(self) -> None:
        """The feed brought messages that were waiting here."""
        async with self._cache.reading() as connection:
            counts = await outbox_counts(connection)
        self._on_counts(*counts)
        self._wake.set()

    # --- sending ---

    async def run(self) -> None:
        """Send what is due until cancelled or the session ends."""
        while not self._session.ended.is_set():
            self._wake.clear()
            try:
                seconds = await self.start_due()
            except CacheError as error:
                log.warning("the outbox could not be read: %s", error)
                seconds = CACHE_FAILED_SECONDS
            except Exception:
                log.exception("the outbox's loop failed")
                seconds = CACHE_FAILED_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def close(self, seconds: float) -> None:
        """Let sends in flight finish. What does not finish stays SENDING and is sent again at start."""
        tasks = list(self._in_flight.values())
        if tasks:
            _done, pending = await asyncio.wait(tasks, timeout=seconds)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def start_due(self) -> float | None:
        """Start sending the head of each conversation that is due.

        Gives the seconds until the next one is, None if nothing waits for a time.
        """
        heads = (
            select(func.min(outbox.c.seq))
            .where(outbox.c.state.in_(_TO_SEND))
            .group_by(outbox.c.conversation_id)
        )
        async with self._cache.reading() as connection:
            due = (
                await connection.execute(select(outbox).where(outbox.c.seq.in_(heads)).order_by(outbox.c.seq))
            ).all()
        now = self._clock.monotonic()
        waits: list[float] = []
        for row in due:
            if row.conversation_id in self._in_flight:
                continue
            wait = max(self._not_before.get(row.conversation_id, 0.0), self._hold_all_until) - now
            if wait > 0:
                waits.append(wait)
            elif len(self._in_flight) < PARALLEL:
                self._start(row)
        return min(waits, default=None)

    async def drain(self) -> None:
        """Wait until nothing is in flight."""
        while self._in_flight:
            await asyncio.gather(*self._in_flight.values(), return_exceptions=True)

    def _start(self, row: AnyRow) -> None:
        conversation_id: UUID = row.conversation_id
        task = asyncio.create_task(self._send(row), name=f"send {row.client_id}")
        self._in_flight[conversation_id] = task

        def done(task: asyncio.Task[None]) -> None:
            self._in_flight.pop(conversation_id, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                # Only the cache fails here (a full disk): the row stands as it was, try again later.
                log.error("the outbox could not be written for %s", row.client_id, exc_info=error)
                self._not_before[conversation_id] = self._clock.monotonic() + CACHE_FAILED_SECONDS
            self._wake.set()

        task.add_done_callback(done)

    async def _send(self, row: AnyRow) -> None:
        client_id: UUID = row.client_id
        conversation_id: UUID = row.conversation_id
        if self._clock.now() - moment(row.created_at) > GIVE_UP_AFTER:
            await self._wedge(row, _TOO_OLD, _TO_SEND)
            return
        moved = await self._move(row, _TO_SEND, state=OutboxState.SENDING, attempts=row.attempts + 1)
        if not moved:
            return  # cancelled a moment ago
        echo = msgspec.json.decode(row.doc, type=Message)
        if not isinstance(echo.content, TextContent):
            await self._wedge(row, _OUR_FAULT, (OutboxState.SENDING,))
            return
        request = SendMessageRequest(client_id, echo.content, row.seen_message_id)
        try:
            message = await self._api.send(conversation_id, request)
        except ApiError as error:
            await self._failed(row, error)
        except Exception:
            log.exception("sending %s failed", client_id)
            await self._wedge(row, _OUR_FAULT, (OutboxState.SENDING,), maybe_sent=True)
        else:
            await self._accepted(client_id, message)

    async def _accepted(self, client_id: UUID, message: Message) -> None:
        """The relay's message takes the place of the echo at once, so that the bubble never blinks."""
        async with self._cache.writing() as connection:
            await writes.put_messages(connection, [message])
            await writes.settle_outbox(connection, [client_id])
            rows = await message_rows(connection, [message.id])
            news = await self._describe(connection, message.conversation_id, rows)
        self._tell(*news)

    async def _failed(self, row: AnyRow, error: ApiError) -> None:
        if self._session.ended.is_set():
            # Not this message's fault: it waits for the next sign-in.
            await self._move(row, (OutboxState.SENDING,), state=OutboxState.QUEUED)
            return
        if not error.temporary:
            await self._wedge(row, error, (OutboxState.SENDING,))
            return
        wait = backoff_seconds(row.attempts, RETRY_FIRST_SECONDS, RETRY_CAP_SECONDS)
        if isinstance(error, ServerError) and error.retry_after is not None:
            wait += error.retry_after
        until = self._clock.monotonic() + wait
        if error.code == Code.RATE_LIMITED:
            self._hold_all_until = until
        else:
            self._not_before[row.conversation_id] = until
        await self._move(
            row,
            (OutboxState.SENDING,),
            state=OutboxState.RETRY_WAIT,
            next_at=micros(self._clock.now() + timedelta(seconds=wait)),
            code=error.code,
            title=error.title,
            advice=error.advice,
            maybe_sent=row.maybe_sent or error.maybe_done,
        )

    async def _wedge(
        self,
        row: AnyRow,
        why: UserFacing,
        from_states: tuple[OutboxState, ...],
        **values: Any,
    ) -> None:
        log.warning("message %s will not be sent as it is: %s", row.client_id, why)
        await self._move(
            row,
            from_states,
            state=OutboxState.WEDGED,
            next_at=None,
            code=why.code,
            title=why.title,
            advice=why.advice,
            **values,
        )

    async def _move(self, row: AnyRow, from_states: tuple[OutboxState, ...], **values: Any) -> bool:
        """Change the row unless the relay's echo or a command was faster; tell the views."""
        async with self._cache.writing() as connection:
            moved = await writes.move_outbox(connection, row.client_id, from_states, **values)
            rows = await outbox_rows(connection, outbox.c.client_id == row.client_id) if moved else []
            news = await self._describe(connection, row.conversation_id, rows)
        self._tell(*news)
        return moved

    async def _describe(
        self,
        connection: AsyncConnection,
        conversation_id: UUID,
        rows: list[MessageRow],
        removed: tuple[UUID, ...] = (),
    ) -> tuple[tuple[int, int], list[Event]]:
        """What to tell once this transaction is committed."""
        events: list[Event] = []
        if rows or removed:
            events.append(MessagesChanged(conversation_id, tuple(rows), removed))
        conversations = await conversation_rows(connection, [conversation_id])
        if conversations:
            events.append(ConversationsChanged(tuple(conversations)))
        return await outbox_counts(connection), events

    def _tell(self, counts: tuple[int, int], events: list[Event]) -> None:
        self._publish(*events)
        self._on_counts(*counts)
