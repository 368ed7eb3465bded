"""Scheduled work, run by SAQ on Postgres, or on Redis where there is one.

Only schedules and slow jobs go here, never a job per message: rows are the queue, and their loops find work
without being told. A lost, doubled or late job is harmless as long as each job may run again at any time;
that is the one rule for them. Neither SAQ's key dedupe nor its sweeper is relied on, and its group keys,
which starve other jobs, are not used.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from prometheus_client import Counter, Gauge
from psycopg_pool import AsyncConnectionPool
from saq import CronJob, Queue, Worker
from saq.queue.postgres import PostgresQueue
from saq.types import PartialTimersDict

from relay.kit.schema import SYSTEM

log = structlog.get_logger(__name__)

QueueName = Literal["webhook", "message-send", "campaign", "default"]
Run = Callable[[], Awaitable[object]]

SCHEMA: Final = "jobs"
"""Where SAQ's tables live; a migration makes them."""
CONCURRENCY: Final = 2
RETRIES: Final = 3
GRACE_SECONDS: Final = 25
"""What a running job may still take when the worker is told to stop; then it is cancelled and put back."""
DEQUEUE_SECONDS: Final = 1.0
"""Without it SAQ goes on to start jobs after it was told to stop."""
POLL_SECONDS: Final = 2.0
"""Longer than a dequeue, so that each dequeue looks once: no listening connection per queue."""
SCHEDULE_SECONDS: Final = 10

_last_success = Gauge("cron_last_success_timestamp_seconds", "When a scheduled job last succeeded.", ["job"])
_failures = Counter("job_failures_total", "Runs of scheduled jobs that failed.", ["job"])


@dataclass(frozen=True)
class Cron:
    """A job that runs by the clock (UTC), once for all workers together.

    `run` must stand being run twice, also at once, and being killed half-way. `timeout` in seconds.
    """

    name: str
    schedule: str
    run: Run
    queue: QueueName = "default"
    timeout: int = 300


class _Queue(PostgresQueue):
    async def init_db(self) -> None:
        """Our migrations make the tables; workers that start together would race each other here."""


class _Worker(Worker[Any]):
    SIGNALS: list[Any] = []  # noqa: RUF012 - as SAQ declares it; the process handles its signals itself
    _upkeep: Sequence[asyncio.Task[None]] = ()

    async def upkeep(self) -> list[asyncio.Task[None]]:
        tasks = await super().upkeep()
        self._upkeep = tasks
        return tasks

    async def stop(self) -> None:
        # SAQ waits for its own timers too, which sleep for up to a minute.
        self.event.set()
        for task in self._upkeep:
            task.cancel()
        await super().stop()


class Jobs:
    """Runs the scheduled jobs of all queues; any number of workers may do so.

    `direct_dsn` must reach Postgres without a transaction pooler: SAQ keeps session locks.
    """

    def __init__(self, crons: Sequence[Cron], *, direct_dsn: str, redis_url: str | None) -> None:
        self._crons = crons
        self._direct_dsn = direct_dsn
        self._redis_url = redis_url

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; jobs that run then may finish first."""
        async with self._queues() as queues:
            workers = [self._worker(queue) for queue in queues]
            runs = [asyncio.create_task(worker.start(), name="jobs") for worker in workers]
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({stopping, *runs}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                for worker in workers:
                    worker.event.set()
                await asyncio.gather(*runs)

    def _queues(self) -> AbstractAsyncContextManager[list[Queue]]:
        names = list(dict.fromkeys(cron.queue for cron in self._crons))
        if self._redis_url:
            return _redis_queues(self._redis_url, names)
        return _postgres_queues(self._direct_dsn, names)

    def _worker(self, queue: Queue) -> _Worker:
        crons = [cron for cron in self._crons if cron.queue == queue.name]
        return _Worker(
            queue,
            functions=[],
            cron_jobs=[_cron_job(cron) for cron in crons],
            concurrency=CONCURRENCY,
            dequeue_timeout=DEQUEUE_SECONDS,
            poll_interval=POLL_SECONDS,
            shutdown_grace_period_s=GRACE_SECONDS,
            timers=PartialTimersDict(schedule=SCHEDULE_SECONDS, sweep=60, worker_info=60, abort=10),
            after_process=_count,
        )


@asynccontextmanager
async def _postgres_queues(direct_dsn: str, names: Sequence[QueueName]) -> AsyncIterator[list[Queue]]:
    """The queues of this process share one small pool."""
    async with AsyncConnectionPool(
        direct_dsn,
        min_size=1,
        max_size=4,
        open=False,
        kwargs={
            "autocommit": True,
            "application_name": "relay-jobs",
            "options": f"-c role={SYSTEM} -c search_path={SCHEMA}",
        },
        check=AsyncConnectionPool.check_connection,
    ) as pool:
        queues = [_Queue(pool, name=name) for name in names]
        for queue in queues:
            await queue.connect()
        yield list(queues)


@asynccontextmanager
async def _redis_queues(redis_url: str, names: Sequence[QueueName]) -> AsyncIterator[list[Queue]]:
    from saq.queue.redis import RedisQueue  # noqa: PLC0415 - no Redis client without a Redis

    queues = [RedisQueue.from_url(redis_url, name=name) for name in names]
    try:
        for queue in queues:
            await queue.connect()
        yield list(queues)
    finally:
        for queue in queues:
            await queue.disconnect()


def _cron_job(cron: Cron) -> CronJob[Any]:
    async def run(_context: dict[str, Any]) -> None:
        await cron.run()

    run.__qualname__ = cron.name  # SAQ's name for it, in its rows and logs
    return CronJob(run, cron.schedule, timeout=cron.timeout, retries=RETRIES)


async def _count(context: dict[str, Any]) -> None:
    """After each run. SAQ has logged a failure already, and runs the job again."""
    name = context["job"].function
    if "exception" in context:
        _failures.labels(name).inc()
    else:
        _last_success.labels(name).set_to_current_time()
