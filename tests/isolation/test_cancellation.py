"""Transactions cancelled at any moment leave no tenant, no row and no lock behind for whoever comes next."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Collection
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import AsyncAdaptedQueuePool, text

from relay.kit.db import Database, FeedHead, Heads, PoolOptions, Topic
from relay.sync import feed
from tests.conftest import TestDatabase
from tests.isolation import rows
from tests.isolation.rows import A, B, Seed

NAME = "cancellation"
AT_ONCE = 8
ROUNDS = 30

SEEN = text("SELECT DISTINCT tenant_id FROM message")
BUMP = text("UPDATE message SET version = version + 1")
SESSION = text("SELECT session_user, current_user, coalesce(current_setting('app.tenant', true), '')")


class Rung(dict[UUID, FeedHead]):
    """The newest head of each tenant that was rung."""

    def ring(self, heads: Heads, topics: Collection[Topic]) -> None:
        for tenant_id, head in heads.items():
            self[tenant_id] = max(head, self.get(tenant_id, head), key=lambda head: head.seq)


@pytest.fixture
def rung() -> Rung:
    return Rung()


@pytest.fixture
async def small(relay_database: TestDatabase, rung: Rung) -> AsyncIterator[Database]:
    """Fewer connections than tasks, so that each passes from tenant to tenant."""
    database = Database(
        relay_database.dsn,
        application_name=NAME,
        append_feed=feed.append,
        ring=rung.ring,
        pool=PoolOptions(size=4, overflow=0, wait_seconds=5),
    )
    yield database
    await database.close()


async def test_cancelled_transactions_leave_nothing_behind(
    small: Database, rung: Rung, relay_database: TestDatabase
) -> None:
    rows.fill(relay_database)
    chance = random.Random()
    strangers: list[object] = []
    ended = {"done": 0, "cancelled": 0}
    span = 0.1  # seconds that a transaction takes while the others run

    async def work_for(seed: Seed) -> None:
        async with small.tenant(seed.tenant_id) as work:
            for statement in (SEEN, BUMP, SEEN):
                result = await work.execute(statement)
                if result.returns_rows:
                    strangers.extend({*result.scalars()} - {seed.tenant_id})
            work.changed("message", seed.id("message"))

    async def probe() -> None:
        """Whoever comes next: without a tenant, and straight from the pool."""
        async with small._transaction("relay_app", None) as connection:
            strangers.extend((await connection.execute(SEEN)).scalars())
        async with small.engine.connect() as connection:
            who = (await connection.execute(SESSION)).one()
            strangers.extend([] if who == ("relay", "relay", "") else [who])

    async def cancel_at_random(seed: Seed) -> None:
        task = asyncio.create_task(work_for(seed))
        for _ in range(chance.choice((1, 1, 2))):
            await asyncio.sleep(chance.uniform(0, 1.2 * span))
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            ended["cancelled"] += 1
        else:
            ended["done"] += 1

    async def measure() -> None:
        nonlocal span
        began = time.perf_counter()
        await work_for(chance.choice((A, B)))
        span = time.perf_counter() - began

    for _ in range(ROUNDS):
        seeds = [chance.choice((A, B)) for _ in range(AT_ONCE)]
        await asyncio.gather(*(cancel_at_random(seed) for seed in seeds), measure())
        await probe()

    assert strangers == []
    # Guards against cancelling all too late, or before anything has begun.
    assert min(ended.values()) > ROUNDS // 2, ended
    with psycopg.connect(relay_database.superuser_dsn, autocommit=True) as connection:
        # A connection whose giving back was cancelled too is given back a moment later.
        async with asyncio.timeout(5):
            while _checked_out(small) or _open_transactions(connection):
                await asyncio.sleep(0.02)
        for seed in (A, B):
            _assert_feed_is_whole(connection, seed, rung)


def _checked_out(database: Database) -> int:
    pool = database.engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)
    return pool.checkedout()


def _open_transactions(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = %s AND datname = current_database() AND state <> 'idle'",
        [NAME],
    ).fetchone()
    return row[0] if row else 0


def _assert_feed_is_whole(connection: psycopg.Connection, seed: Seed, rung: Rung) -> None:
    """Every commit is in the feed once, without gaps, and was rung even if its caller was cancelled."""
    ((epoch, head, entries, version),) = connection.execute(
        "SELECT epoch, last_seq, (SELECT count(*) FROM feed WHERE feed.tenant_id = feed_head.tenant_id),"
        " (SELECT version FROM message WHERE message.tenant_id = feed_head.tenant_id)"
        " FROM feed_head WHERE tenant_id = %s",
        [seed.tenant_id],
    )
    assert head == entries == version
    assert head == 1 or rung[seed.tenant_id] == FeedHead(epoch, head)
