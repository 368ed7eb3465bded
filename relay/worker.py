"""The worker process: every loop that works on rows, each started again when it fails."""

import asyncio
import contextlib
import random
import signal
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

import structlog

from relay.accounts.attempts import clear_old_attempts
from relay.accounts.upkeep import clear_ended_sessions
from relay.inbound import partitions
from relay.inbound.lanes import LaneWorker
from relay.inbound.splitter import Splitter
from relay.kit import metrics
from relay.kit.db import PoolOptions
from relay.kit.jobs import Cron, Jobs
from relay.meta.graph import GraphClient
from relay.outbound.reconcile import Reconciler
from relay.outbound.sender import Sender
from relay.services import Services, open_services
from relay.settings import Settings
from relay.sync.service import clear_old_entries

log = structlog.get_logger(__name__)

POOL: Final = PoolOptions(size=6, overflow=6)
RETRY_CAP_SECONDS: Final = 30.0
GRACE_SECONDS: Final = 30.0


class Runs(Protocol):
    """A loop: `run` returns soon after `stop` is set, with its work committed or given back."""

    async def run(self, stop: asyncio.Event) -> None: ...


class Loop(NamedTuple):
    name: str
    runs: Runs


def loops(services: Services, graph: GraphClient) -> Sequence[Loop]:
    """What a worker does. Any number of workers may do it at once."""
    database, doorbell, secrets = services.database, services.doorbell, services.secrets
    jobs = Jobs(
        crons(services),
        direct_dsn=services.settings.database_direct_url,
        redis_url=services.settings.redis_url or None,
    )
    return (
        Loop("splitter", Splitter(database, doorbell)),
        Loop("lanes", LaneWorker(database, doorbell, secrets)),
        Loop("sender", Sender(database=database, doorbell=doorbell, secrets=secrets, graph=graph)),
        Loop("reconciler", Reconciler(database=database)),
        Loop("jobs", jobs),
    )


def crons(services: Services) -> Sequence[Cron]:
    """What runs by the clock, once for all workers together."""
    database = services.database
    return (
        # Hourly, so that a relay that was off for a week is in order within the hour.
        Cron("webhook-partitions", "7 * * * *", partial(partitions.maintain, database), "webhook", 900),
        Cron("feed-retention", "23 3 * * *", partial(clear_old_entries, database), timeout=3600),
        Cron("sign-in-attempts", "41 3 * * *", partial(clear_old_attempts, database)),
        Cron("ended-sessions", "47 3 * * *", partial(clear_ended_sessions, database)),
    )


async def supervise(loop: Loop, stop: asyncio.Event) -> None:
    """Run a loop until `stop`; one that raises or returns early is started again, later and later."""
    failures = 0
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        began = clock()
        try:
            await loop.runs.run(stop)
            if stop.is_set():
                return
            log.error("loop.ended", loop=loop.name)
        except Exception:
            log.exception("loop.failed", loop=loop.name, failures=failures + 1)
        metrics.loop_failures.labels(loop.name).inc()
        failures = 1 if clock() - began > RETRY_CAP_SECONDS else failures + 1
        ceiling = min(RETRY_CAP_SECONDS, 0.2 * 2 ** min(failures, 10))
        try:
            async with asyncio.timeout(random.uniform(ceiling / 2, ceiling)):  # noqa: S311 - jitter
                await stop.wait()
        except TimeoutError:
            continue


async def work(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; then finish what was begun, for half a minute at most."""
    stop = asyncio.Event()
    event_loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        event_loop.add_signal_handler(sig, stop.set)
    graph = GraphClient(settings.meta_graph_url, settings.meta_api_version)
    async with (
        contextlib.aclosing(graph),
        open_services(settings, application_name="relay-worker", pool=POOL) as services,
    ):
        lag = asyncio.create_task(metrics.watch_event_loop(), name="loop-lag")
        tasks = [
            asyncio.create_task(supervise(loop, stop), name=loop.name) for loop in loops(services, graph)
        ]
        log.info("worker.started", loops=[task.get_name() for task in tasks])
        await stop.wait()
        log.info("worker.stopping")
        _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        for task in late:
            log.warning("loop.cut_off", loop=task.get_name(), seconds=GRACE_SECONDS)
            task.cancel()
        lag.cancel()
        await asyncio.gather(lag, *late, return_exceptions=True)
    log.info("worker.stopped")
