"""Upkeep of the webhook tables."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text as sql

from relay.inbound import partitions
from relay.kit import clock
from relay.kit.db import Database
from relay.sync import feed
from tests.conftest import TestDatabase


@pytest.fixture
async def own_database(fresh_database: TestDatabase) -> AsyncIterator[Database]:
    database = Database(
        fresh_database.dsn, application_name="test", append_feed=feed.append, ring=lambda heads, topics: None
    )
    yield database
    await database.close()


async def days(database: Database) -> set[str]:
    async with database.system() as work:
        rows = await work.execute(
            sql("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'webhook_raw'::regclass")
        )
        return {name.removeprefix("webhook_raw_") for name in rows.scalars()}


async def arrive(database: Database, *, days_ago: int) -> None:
    async with database.system() as work:
        await work.execute(
            sql(
                "INSERT INTO webhook_raw (received_at, body)"
                " VALUES (now() - make_interval(days => :days), 'x')"
            ),
            {"days": days_ago},
        )


async def test_partitions_are_made_ahead_and_dropped_after_their_time(own_database: Database) -> None:
    today = clock.now().date()
    old = today - timedelta(days=partitions.DAYS_KEPT + 1)
    kept = today - timedelta(days=partitions.DAYS_KEPT)
    async with own_database.owner() as work:
        for day in (today, today + timedelta(days=2)):
            await work.execute(sql(f"DROP TABLE webhook_raw_{day:%Y%m%d}"))
        for day in (old, kept):
            await work.execute(
                sql(
                    f"CREATE TABLE webhook_raw_{day:%Y%m%d} PARTITION OF webhook_raw"
                    f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
                )
            )
    for days_ago in (0, partitions.DAYS_KEPT, partitions.DAYS_KEPT + 1):
        await arrive(own_database, days_ago=days_ago)
    assert await partitions.default_rows(own_database) == 1
    await partitions.maintain(own_database)
    ahead = {today + timedelta(days=n) for n in range(partitions.DAYS_AHEAD + 1)}
    assert await days(own_database) == {"default"} | {f"{day:%Y%m%d}" for day in ahead | {kept}}
    assert await partitions.default_rows(own_database) == 0
    async with own_database.system() as work:
        rows = await work.execute(
            sql("SELECT tableoid::regclass::text AS place FROM webhook_raw ORDER BY id")
        )
        assert list(rows.scalars()) == [f"webhook_raw_{today:%Y%m%d}", f"webhook_raw_{kept:%Y%m%d}"]
    before = await days(own_database)
    await partitions.maintain(own_database)
    assert await days(own_database) == before
    await arrive(own_database, days_ago=0)


async def test_kept_and_parked_items_go_with_their_webhooks(own_database: Database) -> None:
    async with own_database.system() as work:
        for state, age in (("kept", 15), ("parked", 15), ("kept", 13), ("new", 15)):
            await work.execute(
                sql(
                    "INSERT INTO webhook_item (raw_received_at, raw_id, ordinal, field, kind, lane_hash,"
                    " payload, state, created_at) VALUES (now(), 1, 0, 'x', 'change', 0, '{}', :state,"
                    " now() - make_interval(days => :age))"
                ),
                {"state": state, "age": age},
            )
    await partitions.maintain(own_database)
    async with own_database.system() as work:
        left = await work.execute(sql("SELECT state FROM webhook_item ORDER BY id"))
        assert list(left.scalars()) == ["kept", "new"]
