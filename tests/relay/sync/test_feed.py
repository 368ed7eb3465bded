"""The feed's order: commit order is the order of `seq`, without gaps, whatever writers do."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy import text

from relay.kit.db import Database, PoolOptions
from relay.kit.ids import new_id
from relay.sync import feed, queries, service
from tests.conftest import TenantFixture, TestDatabase
from tests.relay.sync.conftest import eventually
from tests.relay.sync.model_client import feed_written_last

WRITERS = 20
READERS = 4
SECONDS = 3.0
ENOUGH = 100


@pytest.fixture
async def wide_database(relay_database: TestDatabase) -> AsyncIterator[Database]:
    """A pool that lets all writers and readers work at once."""
    database = Database(
        relay_database.dsn,
        application_name="test",
        append_feed=feed.append,
        ring=lambda _heads, _topics: None,
        pool=PoolOptions(size=WRITERS + READERS),
    )
    yield database
    await database.close()


class AbortError(Exception):
    """A writer changes its mind."""


async def _write_once(database: Database, tenant_id: UUID, dice: random.Random) -> set[UUID]:
    """One transaction of any length, with work undone in it or all of it undone; what it changed."""
    entities = [new_id() for _ in range(dice.randint(1, 5))]
    insert = text("INSERT INTO contact (tenant_id, id) VALUES (:tenant_id, :id)")
    async with database.tenant(tenant_id) as work:
        for entity_id in entities:
            work.changed(dice.choice(("message", "conversation")), entity_id)
        await work.execute(insert, {"tenant_id": tenant_id, "id": new_id()})
        if dice.random() < 0.3:
            savepoint = await work.connection.begin_nested()
            await work.execute(insert, {"tenant_id": tenant_id, "id": new_id()})
            await savepoint.rollback()
        await asyncio.sleep(dice.choice((0, 0, 0.001, 0.02)))
        if dice.random() < 0.2:
            raise AbortError
    return set(entities)


async def _follow(
    database: Database, tenant_id: UUID, dice: random.Random, quiet: asyncio.Event
) -> list[tuple[int, UUID]]:
    """Read with a cursor until the head is reached after all is quiet."""
    seen: list[tuple[int, UUID]] = []
    while True:
        last_look = quiet.is_set()
        cursor = seen[-1][0] if seen else 0
        async with database.tenant(tenant_id) as work:
            reading = await queries.read(work, cursor, dice.choice((1, 7, 1000)))
        seen += [(entry.seq, entry.entity_id) for entry in reading.entries]
        if not reading.entries:
            if last_look:
                return seen
            await asyncio.sleep(dice.random() * 0.01)


async def test_readers_miss_nothing_while_twenty_writers_commit_abort_and_dawdle(
    wide_database: Database, tenant: TenantFixture, other_tenant: TenantFixture
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    committed: dict[UUID, set[UUID]] = {tenant.id: set(), other_tenant.id: set()}
    done, quiet = asyncio.Event(), asyncio.Event()

    async def write(dice: random.Random) -> None:
        while not done.is_set():
            tenant_id = tenant.id if dice.random() < 0.8 else other_tenant.id
            with contextlib.suppress(AbortError):
                committed[tenant_id] |= await _write_once(wide_database, tenant_id, dice)

    followed = [other_tenant.id, *[tenant.id] * (READERS - 1)]
    with feed_written_last(wide_database):
        writers = [asyncio.create_task(write(random.Random(dice.random()))) for _ in range(WRITERS)]
        readers = [
            asyncio.create_task(_follow(wide_database, tenant_id, random.Random(dice.random()), quiet))
            for tenant_id in followed
        ]
        await asyncio.sleep(SECONDS)
        await eventually(lambda: min(map(len, committed.values())) > ENOUGH, 60)
        done.set()
        await asyncio.gather(*writers)
        quiet.set()
        seen = await asyncio.gather(*readers)
    for tenant_id, entries in zip(followed, seen, strict=True):
        assert len(entries) > ENOUGH
        assert [seq for seq, _ in entries] == list(range(1, len(entries) + 1)), "contiguous, once each"
        assert {entity_id for _, entity_id in entries} == committed[tenant_id], (
            "all of it, and nothing undone"
        )


async def test_a_cursor_over_an_identity_column_misses_what_the_feed_does_not(
    wide_database: Database, relay_database: TestDatabase, tenant: TenantFixture
) -> None:
    """Why there is a counter row: the same interleaving on the usual `id > cursor`, and on the feed."""
    async with wide_database.owner() as work:
        await work.execute(text("CREATE TABLE naive (id bigint GENERATED ALWAYS AS IDENTITY, who text)"))
        await work.execute(text("GRANT SELECT, INSERT ON naive TO relay_app"))
    slow, quick = new_id(), new_id()
    naive_seen: list[str] = []
    feed_seen: list[UUID] = []

    async def look() -> None:
        async with wide_database.tenant(tenant.id) as work:
            rows = await work.execute(
                text("SELECT id, who FROM naive WHERE id > :cursor ORDER BY id"), {"cursor": cursors["naive"]}
            )
            for row in rows:
                naive_seen.append(row.who)
                cursors["naive"] = row.id
            reading = await queries.read(work, cursors["feed"], 1000)
            feed_seen.extend(entry.entity_id for entry in reading.entries)
            cursors["feed"] = reading.head.seq

    cursors = {"naive": 0, "feed": 0}
    try:
        async with wide_database.tenant(tenant.id) as first:
            await first.execute(text("INSERT INTO naive (who) VALUES ('slow')"))
            first.changed("message", slow)
            async with wide_database.tenant(tenant.id) as second:
                await second.execute(text("INSERT INTO naive (who) VALUES ('quick')"))
                second.changed("message", quick)
            await look()
        await look()
        assert feed_seen == [quick, slow]
        assert naive_seen == ["quick"], "the test would not notice a missed row otherwise"
    finally:
        async with wide_database.owner() as work:
            await work.execute(text("DROP TABLE naive"))


async def test_a_statement_after_the_feed_is_noticed(database: Database, tenant: TenantFixture) -> None:
    """The check used all over these tests can fail."""

    async def write_too_early() -> None:
        async with database.tenant(tenant.id) as work:
            work.changed("message", new_id())
            await feed.append(work.connection, work.changes)
            await work.execute(text("SELECT 1"))

    with pytest.raises(AssertionError, match="after the feed was written"), feed_written_last(database):
        await write_too_early()


async def test_a_transaction_that_rolls_back_leaves_no_gap(database: Database, tenant: TenantFixture) -> None:
    async def write(*, abort: bool) -> None:
        async with database.tenant(tenant.id) as work:
            work.changed("message", new_id())
            await feed.append(work.connection, work.changes)  # numbers are taken, and given back
            if abort:
                raise AbortError

    for n in range(6):
        with contextlib.suppress(AbortError):
            await write(abort=n % 2 == 1)
    async with database.tenant(tenant.id) as work:
        reading = await queries.read(work, 0, 100)
    assert reading.head.seq == 6, "three transactions, each of which wrote twice"
    assert [entry.seq for entry in reading.entries] == [2, 4, 6]


async def test_an_entity_appears_once_at_its_newest_position(
    database: Database, tenant: TenantFixture
) -> None:
    again, once = new_id(), new_id()
    for entity_id in (again, once, again):
        async with database.tenant(tenant.id) as work:
            work.changed("message", entity_id)
            work.changed("message", entity_id)
    async with database.tenant(tenant.id) as work:
        assert [tuple(entry) for entry in (await queries.read(work, 0, 100)).entries] == [
            (2, "message", once),
            (3, "message", again),
        ]


async def test_old_entries_go_and_the_floor_rises(
    database: Database, relay_database: TestDatabase, tenant: TenantFixture, other_tenant: TenantFixture
) -> None:
    for tenant_id, count in ((tenant.id, 12), (other_tenant.id, 1)):
        async with database.tenant(tenant_id) as work:
            for _ in range(count):
                work.changed("message", new_id())
    async with database.system() as system:
        await system.execute(
            text("UPDATE feed SET at = at - interval '31 days' WHERE tenant_id = :t AND seq <= 10"),
            {"t": tenant.id},
        )
    service_batch, service.CLEAR_BATCH = service.CLEAR_BATCH, 4  # type: ignore[misc]
    try:
        assert await service.clear_old_entries(database) == 10
        assert await service.clear_old_entries(database) == 0
    finally:
        service.CLEAR_BATCH = service_batch  # type: ignore[misc]
    async with database.tenant(tenant.id) as work:
        reading = await queries.read(work, 0, 100)
    assert (reading.floor, reading.head.seq, len(reading.entries)) == (10, 12, 2)
    async with database.tenant(other_tenant.id) as work:
        assert (await queries.read(work, 0, 100)).floor == 0
    # The counter goes on where it was.
    async with database.tenant(tenant.id) as work:
        work.changed("message", new_id())
    async with database.tenant(tenant.id) as work:
        assert (await queries.read_head(work)).seq == 13
