"""Scheduled jobs on Postgres and on Redis."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from psycopg import sql
from saq.queue.postgres_migrations import get_migrations

from relay.kit import jobs as jobs_module
from relay.kit.db import PoolOptions
from relay.kit.jobs import Cron, Jobs
from relay.services import open_services
from relay.settings import Settings
from relay.worker import crons
from tests.conftest import TestDatabase
from tests.relay.sync.conftest import RedisServer, eventually

# SAQ calls what redis-py would rather see replaced.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")

MakeJobs = Callable[..., Jobs]
EVERY_SECOND = "* * * * * *"


@pytest.fixture(params=["postgres", "redis"])
def make_jobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MakeJobs:
    """Makes runners of one installation, on both back ends in turn."""
    monkeypatch.setattr(jobs_module, "SCHEDULE_SECONDS", 1)
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        redis.empty()
        return lambda *crons: Jobs(crons, direct_dsn="", redis_url=redis.url)
    database: TestDatabase = request.getfixturevalue("fresh_database")
    return lambda *crons: Jobs(crons, direct_dsn=database.dsn, redis_url=None)


async def _run_until(condition: Callable[[], bool], *runners: Jobs) -> float:
    """Run until the condition holds, then stop; returns how long stopping took."""
    stop = asyncio.Event()
    runs = [asyncio.create_task(runner.run(stop)) for runner in runners]
    try:
        await eventually(condition, 20)
    finally:
        stop.set()
        asked = asyncio.get_running_loop().time()
        await asyncio.wait_for(asyncio.gather(*runs), 15)
    return asyncio.get_running_loop().time() - asked


def _counting(runs: list[str], name: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        runs.append(name)

    return run


async def test_jobs_of_all_queues_run_by_the_clock_and_stop_soon(make_jobs: MakeJobs) -> None:
    runs: list[str] = []
    runner = make_jobs(
        Cron("first", EVERY_SECOND, _counting(runs, "first")),
        Cron("second", EVERY_SECOND, _counting(runs, "second"), queue="webhook"),
    )
    stopping = await _run_until(lambda: runs.count("first") >= 2 and runs.count("second") >= 2, runner)
    assert stopping < 5, "idle workers must not sit out the grace period"


async def test_a_job_that_fails_runs_again_and_does_not_end_the_runner(make_jobs: MakeJobs) -> None:
    attempts: list[int] = []

    async def failing() -> None:
        attempts.append(len(attempts))
        raise RuntimeError("no luck")

    ran: list[str] = []
    runner = make_jobs(Cron("failing", EVERY_SECOND, failing), Cron("fine", EVERY_SECOND, _counting(ran, "")))
    failures = jobs_module._failures.labels("failing")._value.get()
    await _run_until(lambda: len(attempts) >= 4 and len(ran) >= 2, runner)
    assert jobs_module._failures.labels("failing")._value.get() >= failures + 4


async def test_a_job_that_runs_may_finish_when_the_worker_is_stopped(make_jobs: MakeJobs) -> None:
    begun, finished = [], []

    async def slow() -> None:
        begun.append(1)
        await asyncio.sleep(1.5)
        finished.append(1)

    await _run_until(lambda: bool(begun), make_jobs(Cron("slow", EVERY_SECOND, slow)))
    assert len(finished) == len(begun)


async def test_two_workers_share_the_schedule(make_jobs: MakeJobs) -> None:
    runs: list[str] = []
    cron = Cron("shared", EVERY_SECOND, _counting(runs, "shared"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await _run_until(lambda: len(runs) >= 3, make_jobs(cron), make_jobs(cron))
    assert len(runs) <= loop.time() - began + 2, "once per second, not once per worker"


async def test_the_relays_own_jobs_run(settings: Settings) -> None:
    async with open_services(settings, application_name="test", pool=PoolOptions()) as services:
        for cron in crons(services):
            await cron.run()
            await cron.run()  # again, without harm
        stop = asyncio.Event()
        stop.set()
        await Jobs(crons(services), direct_dsn=settings.database_direct_url, redis_url=None).run(stop)


def test_our_migration_makes_the_tables_that_saq_would(
    fresh_database: TestDatabase,
) -> None:
    """An upgrade of SAQ that wants other tables fails here first."""
    with psycopg.connect(fresh_database.superuser_dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA theirs")
        connection.execute("SET search_path = theirs")
        for _, statements in get_migrations(sql.Identifier("saq_jobs"), sql.Identifier("saq_stats")):
            for statement in statements:
                connection.execute(statement)
        columns = (
            "SELECT table_name, column_name, data_type, is_nullable, replace(column_default, %s, '')"
            " FROM information_schema.columns WHERE table_schema = %s AND table_name <> 'saq_versions'"
            " ORDER BY table_name, ordinal_position"
        )
        indexes = (
            "SELECT replace(indexdef, %s, '') FROM pg_indexes WHERE schemaname = %s"
            " AND tablename IN ('saq_jobs', 'saq_stats') ORDER BY 1"
        )
        for query in (columns, indexes):
            ours = connection.execute(query, ["jobs.", "jobs"]).fetchall()
            theirs = connection.execute(query, ["theirs.", "theirs"]).fetchall()
            assert ours == theirs


def test_without_a_redis_no_redis_client_is_loaded() -> None:
    program = (
        "import sys, relay.app, relay.worker, relay.kit.jobs\n"
        "from relay.kit.doorbell import open_doorbell\n"
        "open_doorbell('postgresql://relay@127.0.0.1/relay', None)\n"
        "relay.kit.jobs.Jobs((), direct_dsn='postgresql://relay@127.0.0.1/relay', redis_url=None)._queues()\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'redis']\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
