"""Older messages: a page when a view asks, the newest page of recent conversations in the background.

For each conversation the cache knows down to which message it is complete. The first page reaches from the
newest message down; each further page joins it from above. The feed keeps the rest complete, so nothing can
be missing in between.
"""

import asyncio
import logging
from typing import Final
from uuid import UUID

from sqlalchemy import select

from desktop.cache import writes
from desktop.cache.errors import CacheError
from desktop.cache.schema import conversation, history
from desktop.cache.store import Cache
from desktop.engine.api import Api, ApiError, NetworkError
from desktop.engine.events import TimelineReset
from desktop.engine.publisher import Publisher
from desktop.engine.status import Status
from desktop.engine.sync import Sync

log = logging.getLogger("desktop.history")

PAGE: Final = 100
PREFETCH_PAGE: Final = 50
PREFETCH_CONVERSATIONS: Final = 200
PREFETCH_PAUSE_SECONDS: Final = 0.05
FOLLOWING_SECONDS: Final = 10.0


class History:
    """Loads pages of conversations, one at a time for each."""

    def __init__(self, *, cache: Cache, api: Api, sync: Sync, status: Status, publish: Publisher) -> None:
        self._cache = cache
        self._api = api
        self._sync = sync
        self._status = status
        self._publish = publish
        self._loading: dict[UUID, asyncio.Task[int]] = {}

    async def load_older(self, conversation_id: UUID, limit: int = PAGE) -> int:
        """Bring the newest page if none is known, else the one above; how many messages came.

        Raises `ApiError`, `CacheError`. Two callers share one request.
        """
        task = self._loading.get(conversation_id)
        if task is None:
            task = asyncio.create_task(self._load(conversation_id, limit), name=f"history {conversation_id}")
            self._loading[conversation_id] = task
            task.add_done_callback(lambda _task: self._loading.pop(conversation_id, None))
        return await asyncio.shield(task)

    async def open(self, conversation_id: UUID) -> None:
        """Bring the newest page, unless the cache is complete at that end."""
        async with self._cache.reading() as connection:
            known = await connection.scalar(
                select(history.c.from_at).where(history.c.conversation_id == conversation_id)
            )
        if known is None:
            await self.load_older(conversation_id)

    async def close(self) -> None:
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self) -> None:
        """Prefetch, so that recent conversations can be read offline; again after each resync."""
        while True:
            await self._sync.snapshot_done.wait()
            await self._status.online.wait()
            try:
                missing = await self._without_history()
                for conversation_id in missing:
                    await self.load_older(conversation_id, PREFETCH_PAGE)
                    await asyncio.sleep(PREFETCH_PAUSE_SECONDS)
            except (ApiError, CacheError) as error:
                log.info("prefetching pauses: %s", error)
                await asyncio.sleep(5.0)
            except Exception:
                log.exception("prefetching failed")
                await asyncio.sleep(60.0)
            else:
                await asyncio.sleep(60.0 if not missing else 1.0)

    async def _without_history(self) -> list[UUID]:
        """Of the most recent conversations, those whose newest page is not known."""
        recent = (
            select(conversation.c.id)
            .order_by(conversation.c.activity_at.desc(), conversation.c.id.desc())
            .limit(PREFETCH_CONVERSATIONS)
            .subquery()
        )
        known = select(history.c.conversation_id)
        async with self._cache.reading() as connection:
            found = await connection.scalars(select(recent.c.id).where(recent.c.id.not_in(known)))
            return list(found.all())

    async def _load(self, conversation_id: UUID, limit: int) -> int:
        while True:
            await self._until_following()
            generation = self._sync.generation
            async with self._cache.reading() as connection:
                known = (
                    await connection.execute(
                        select(history).where(history.c.conversation_id == conversation_id)
                    )
                ).one_or_none()
            if known is not None and known.next_before is None:
                return 0
            before = None if known is None else known.next_before
            page = await self._api.messages(conversation_id, before, limit)
            async with self._cache.writing() as connection:
                # A removal or a resync since we asked: the page may hold what is gone. Ask again.
                if generation != self._sync.generation:
                    continue
                await writes.put_history_page(connection, conversation_id, page.items, page.next_before)
            if known is None:
                self._publish(TimelineReset(conversation_id))
            return len(page.items)

    async def _until_following(self) -> None:
        """A page read before the cursor is known would miss what happens in between."""
        try:
            async with asyncio.timeout(FOLLOWING_SECONDS):
                await self._sync.following.wait()
        except TimeoutError:
            raise NetworkError(
                "Older messages cannot be loaded now.",
                "They come when the relay can be reached again.",
                maybe_done=False,
            ) from None
