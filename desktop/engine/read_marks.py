"""What was read here: counted at once, told to the relay when it can be reached."""

import asyncio
import logging
from uuid import UUID

from sqlalchemy import select

from desktop.cache import writes
from desktop.cache.errors import CacheError
from desktop.cache.queries import AnyRow, conversation_rows
from desktop.cache.schema import read_mark
from desktop.cache.store import Cache
from desktop.engine.api import Api, ApiError
from desktop.engine.clock import Backoff
from desktop.engine.events import ConversationsChanged
from desktop.engine.publisher import Publisher
from desktop.engine.session import Session

log = logging.getLogger("desktop.read_marks")


class ReadMarks:
    """At most one mark per conversation waits: the newest includes the older ones."""

    def __init__(self, *, cache: Cache, api: Api, session: Session, publish: Publisher) -> None:
        self._cache = cache
        self._api = api
        self._session = session
        self._publish = publish
        self._wake = asyncio.Event()

    async def mark(self, conversation_id: UUID, message_id: UUID) -> None:
        """Everything up to this message was seen."""
        async with self._cache.writing() as connection:
            if not await writes.mark_read(connection, conversation_id, message_id):
                return
            rows = await conversation_rows(connection, [conversation_id])
        self._publish(ConversationsChanged(tuple(rows)))
        self._wake.set()

    def kick(self) -> None:
        """The relay can be reached again."""
        self._wake.set()

    async def run(self) -> None:
        """Tell the relay until cancelled or the session ends."""
        backoff = Backoff(first=1.0, cap=60.0)
        while not self._session.ended.is_set():
            self._wake.clear()
            try:
                await self.send_all()
            except (ApiError, CacheError) as error:
                log.info("read marks wait: %s", error)
                seconds: float | None = backoff.next()
            except Exception:
                log.exception("sending read marks failed")
                seconds = 60.0
            else:
                backoff.reset()
                seconds = None
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def send_all(self) -> None:
        """Tell the relay every mark. Raises the first temporary failure; the rest stays."""
        async with self._cache.reading() as connection:
            marks = (await connection.execute(select(read_mark))).all()
        for mark in marks:
            await self._send(mark)

    async def _send(self, mark: AnyRow) -> None:
        refused = False
        try:
            await self._api.mark_read(mark.conversation_id, mark.message_id)
        except ApiError as error:
            if error.temporary or self._session.ended.is_set():
                raise
            log.warning("the relay refused to mark %s read: %s", mark.conversation_id, error)
            refused = True
        async with self._cache.writing() as connection:
            await writes.drop_read_mark(connection, mark.conversation_id, mark.message_id)
            if not refused:
                return
            await writes.rederive(connection, [mark.conversation_id])
            rows = await conversation_rows(connection, [mark.conversation_id])
        self._publish(ConversationsChanged(tuple(rows)))
