"""Group commit: webhooks that wait at the same time share one insert, and each is answered after its commit.

There is no artificial wait: while one batch is being committed, the next one gathers. There is one writer,
since two would halve the batches. Nothing is ever dropped in silence: what cannot be stored raises
`NotStoredError`, which becomes a 503, and Meta delivers again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog
from prometheus_client import Counter

from relay.inbound.raw_store import RawWebhook
from relay.kit.problem import is_operational

log = structlog.get_logger(__name__)

Store = Callable[[Sequence[RawWebhook]], Awaitable[None]]
"""Stores webhooks and returns once they are on disk."""

QUEUE_MAX_ROWS: Final = 5_000
QUEUE_MAX_BYTES: Final = 64 * 1024 * 1024
BATCH_MAX_ROWS: Final = 500
BATCH_MAX_BYTES: Final = 8 * 1024 * 1024
STORE_TIMEOUT_SECONDS: Final = 5.0
"""Meta waits about ten seconds, and a webhook may wait for the batch before its own."""

_stored = Counter("webhooks_stored_total", "Webhooks committed.")
_not_stored = Counter("webhooks_not_stored_total", "Webhooks answered with 503 because they were not stored.")


class NotStoredError(Exception):
    """The webhook is not stored and must not be acknowledged."""


class _Waiting(NamedTuple):
    webhook: RawWebhook
    stored: asyncio.Future[None]


class Batcher:
    """One per process. `start` and `stop` belong to the process's life span."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: deque[_Waiting] = deque()
        self._open_rows = 0  # waiting or being written
        self._open_bytes = 0
        self._arrived = asyncio.Event()
        self._accepting = False
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to accept and store webhooks."""
        self._accepting = True
        self._writer = asyncio.create_task(self._write_for_ever(), name="webhook-writer")

    async def stop(self) -> None:
        """Accept nothing more, store what waits, and end."""
        self._accepting = False
        self._arrived.set()
        if self._writer is not None:
            await self._writer
            self._writer = None

    async def put(self, webhook: RawWebhook) -> None:
        """Return once the webhook is on disk, or raise NotStoredError.

        It is stored even if the caller goes away meanwhile.
        """
        if not self._accepting:
            raise NotStoredError("the relay is starting or stopping")
        if self._open_rows >= QUEUE_MAX_ROWS or self._open_bytes + len(webhook.body) > QUEUE_MAX_BYTES:
            _not_stored.inc()
            raise NotStoredError("too many webhooks are waiting to be stored")
        waiting = _Waiting(webhook, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._open_rows += 1
        self._open_bytes += len(webhook.body)
        self._arrived.set()
        await waiting.stored

    async def _write_for_ever(self) -> None:
        try:
            while self._accepting or self._queue:
                if self._queue:
                    await self._write(self._next_batch())
                else:
                    self._arrived.clear()
                    await self._arrived.wait()
        finally:
            self._accepting = False  # without a writer nothing may be promised

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._queue and len(batch) < BATCH_MAX_ROWS:
            size += len(self._queue[0].webhook.body)
            if batch and size > BATCH_MAX_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        """Write one batch and tell everyone who waits for it."""
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                await self._store([waiting.webhook for waiting in batch])
        except Exception as error:
            if is_operational(error):
                # The database is away for all of them, so nobody waits for a second failure.
                everyone = [*batch, *self._queue]
                self._queue.clear()
                log.warning("webhooks not stored", rows=len(everyone), error=repr(error))
                self._settle(everyone, NotStoredError("the database does not answer"))
            elif len(batch) > 1:
                # One webhook that cannot be stored must not keep its neighbours out.
                log.warning("a batch of webhooks was refused, storing them one by one", error=repr(error))
                for waiting in batch:
                    await self._write([waiting])
            else:
                log.exception("a webhook was refused", bytes=len(batch[0].webhook.body))
                self._settle(batch, NotStoredError("the webhook cannot be stored"))
        else:
            self._settle(batch, None)

    def _settle(self, batch: Sequence[_Waiting], error: NotStoredError | None) -> None:
        (_not_stored if error else _stored).inc(len(batch))
        self._open_rows -= len(batch)
        for webhook, stored in batch:
            self._open_bytes -= len(webhook.body)
            if stored.done():  # the caller has gone
                continue
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(error)
