"""One open account: its cache and everything that keeps it current. Composition, nothing else."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import select
from uuid_utils.compat import uuid7

from desktop.cache import writes
from desktop.cache.errors import CacheError
from desktop.cache.queries import Queries, conversation_rows, message_rows
from desktop.cache.rows import MessageRow
from desktop.cache.schema import account as account_table
from desktop.cache.schema import moment, sync_state
from desktop.cache.store import Cache
from desktop.engine.account_file import AccountFolder
from desktop.engine.api import Api
from desktop.engine.clock import Clock
from desktop.engine.events import ConversationsChanged
from desktop.engine.history import History
from desktop.engine.live import Live
from desktop.engine.outbox import Outbox
from desktop.engine.publisher import Publisher
from desktop.engine.read_marks import ReadMarks
from desktop.engine.session import Session
from desktop.engine.status import Status
from desktop.engine.sync import Sync, by_conversation
from desktop.errors import UserFacing
from shared.content import TextContent
from shared.delivery import DeliveryStatus
from shared.limits import TEXT_MAX_CHARS
from shared.wire.auth import Me
from shared.wire.inbox import Direction, Message

log = logging.getLogger("desktop.account")

SEND_GRACE_SECONDS: Final = 2.0


class Account:
    """Made with an open cache and a session; `start` begins to synchronise, `close` ends in order."""

    def __init__(
        self,
        *,
        me: Me,
        folder: AccountFolder,
        cache: Cache,
        api: Api,
        session: Session,
        publish: Publisher,
        clock: Clock,
    ) -> None:
        self.me = me
        self.folder = folder
        self.session = session
        self.queries = Queries(cache)
        self._cache = cache
        self._api = api
        self._publish = publish
        self._clock = clock
        self._noted_unsent: int | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.status = Status(publish, clock, self._on_online)
        self.outbox = Outbox(
            cache=cache, api=api, session=session, publish=publish, clock=clock, on_counts=self._on_counts
        )
        self.read_marks = ReadMarks(cache=cache, api=api, session=session, publish=publish)
        self.sync = Sync(
            cache=cache,
            api=api,
            session=session,
            status=self.status,
            publish=publish,
            clock=clock,
            on_settled=self._on_settled,
        )
        self.history = History(cache=cache, api=api, sync=self.sync, status=self.status, publish=publish)
        self.live = Live(api.relay_url, session, self.sync, self.status)

    async def start(self) -> None:
        """Take up where the cache stands; everything after that happens in the background."""
        async with self._cache.reading() as connection:
            last_sync_at = await connection.scalar(select(sync_state.c.last_sync_at))
        if last_sync_at is not None:
            self.status.last_sync_at = moment(last_sync_at)
        await self.sync.load()
        await self.outbox.load()
        self.status.tell()
        self._run("sync", self.sync.run())
        self._run("socket", self.live.run())
        self._run("outbox", self.outbox.run())
        self._run("read marks", self.read_marks.run())
        self._run("prefetch", self.history.run())

    async def close(self) -> None:
        """Let sends in flight finish, then stop the rest and close the cache."""
        outbox_task = next((task for task in self._tasks if task.get_name() == "outbox"), None)
        if outbox_task is not None:
            outbox_task.cancel()
        await self.outbox.close(SEND_GRACE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.history.close()
        await self.session.close()
        await self._api.close()
        try:
            await self.sync.note_sync()
        except CacheError as error:
            log.warning("the time of the last sync was not kept: %s", error)
        await self._cache.close()

    async def log_out(self) -> None:
        """Tell the relay that this device signs out. Raises `ApiError`."""
        await self._api.logout()

    # --- commands ---

    async def send_text(self, conversation_id: UUID, body: str, seen_message_id: UUID | None) -> MessageRow:
        text = body.strip()
        if not text:
            raise UserFacing("There is nothing to send.", "Write a message first.", code="empty")
        if len(text) > TEXT_MAX_CHARS:
            raise UserFacing(
                f"This message is {len(text) - TEXT_MAX_CHARS} characters too long.",
                f"WhatsApp takes at most {TEXT_MAX_CHARS}: shorten it or send it in two parts.",
                code="too_long",
            )
        client_id = uuid7()
        echo = Message(
            id=client_id,
            conversation_id=conversation_id,
            direction=Direction.OUTBOUND,
            content=TextContent(text),
            status=DeliveryStatus.QUEUED,
            sent_at=self._clock.now(),
            version=0,
            client_id=client_id,
            author_id=self.me.user.id,
            author_name=self.me.user.name,
        )
        return await self.outbox.add(echo, seen_message_id)

    async def send_again(self, conversation_id: UUID, message_id: UUID, *, may_arrive_twice: bool) -> None:
        message = await self._api.send_again(conversation_id, message_id, may_arrive_twice=may_arrive_twice)
        await self._take(message)

    async def mark_not_sent(self, conversation_id: UUID, message_id: UUID) -> None:
        await self._take(await self._api.mark_not_sent(conversation_id, message_id))

    async def _take(self, message: Message) -> None:
        """Show an answer of the relay at once; the feed brings it as well."""
        async with self._cache.writing() as connection:
            await writes.put_messages(connection, [message])
            rows = await message_rows(connection, [message.id])
        self._publish(*by_conversation(rows))

    async def save_draft(self, conversation_id: UUID, text: str) -> None:
        async with self._cache.writing() as connection:
            await writes.put_draft(connection, conversation_id, text, self._clock.now())
            rows = await conversation_rows(connection, [conversation_id])
        self._publish(ConversationsChanged(tuple(rows)))

    def retry_now(self) -> None:
        self.sync.wake()
        self.live.hurry()
        self.outbox.kick()
        self.read_marks.kick()

    # --- between the parts ---

    def _on_online(self) -> None:
        self.outbox.kick()
        self.read_marks.kick()

    def _on_settled(self) -> None:
        self._run("count unsent", self.outbox.settled_elsewhere())

    def _on_counts(self, unsent: int, wedged: int) -> None:
        if unsent != self._noted_unsent:
            self._noted_unsent = unsent
            self.folder.note_unsent(unsent)
        self.status.counts(unsent, wedged)

    def _run(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Keep a reference: asyncio itself holds tasks only weakly."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.append(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s ended: %r", task.get_name(), error, exc_info=error)


async def read_me(cache: Cache) -> Me | None:
    """Who this cache belongs to; None if it is new."""
    async with cache.reading() as connection:
        document = await connection.scalar(select(account_table.c.me))
    return None if document is None else msgspec.json.decode(document, type=Me)
