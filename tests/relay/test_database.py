"""The unit of work on a real database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from relay.kit import ids
from relay.kit.db import Database, Heads, PoolOptions, SwallowedError, Topic
from relay.sync import feed
from tests.conftest import TenantFixture, TestDatabase

WHO = text("SELECT current_user, session_user, current_setting('app.tenant', true)")
DIVIDE_BY_ZERO = text("SELECT 1 / 0")


class Rings(list[tuple[Heads, Collection[Topic]]]):
    """What was rung."""

    def ring(self, heads: Heads, topics: Collection[Topic]) -> None:
        self.append((heads, set(topics)))


@pytest.fixture
def rings() -> Rings:
    return Rings()


@pytest.fixture
async def narrow(relay_database: TestDatabase, rings: Rings) -> AsyncIterator[Database]:
    """A database with one connection, so that whatever one transaction leaves behind meets the next."""
    database = Database(
        relay_database.dsn,
        application_name="narrow",
        append_feed=feed.append,
        ring=rings.ring,
        pool=PoolOptions(size=1, overflow=0, wait_seconds=0.3),
    )
    yield database
    await database.close()


def insert_tenant(tenant_id: UUID) -> TextClause:
    return text("INSERT INTO tenant (tenant_id, name) VALUES (:id, '')").bindparams(id=tenant_id)


async def tenants(database: Database) -> int:
    async with database.system() as work:
        count: int = (await work.execute(text("SELECT count(*) FROM tenant"))).scalar_one()
        return count


async def test_a_transaction_has_its_role_and_tenant_and_nothing_outside(
    database: Database, tenant: TenantFixture
) -> None:
    async with database.tenant(tenant.id) as work:
        assert (await work.execute(WHO)).one() == ("relay_app", "relay", str(tenant.id))
    async with database.system() as work:
        assert (await work.execute(WHO)).one() == ("relay_system", "relay", "")
    async with database.engine.connect() as connection:
        assert (await connection.execute(WHO)).one() == ("relay", "relay", "")
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute(text("SELECT * FROM tenant"))


async def test_a_block_that_raises_leaves_nothing_behind(narrow: Database, rings: Rings) -> None:
    async def fail() -> None:
        async with narrow.system() as work:
            await work.execute(insert_tenant(ids.new_id()))
            work.wake("send")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await tenants(narrow) == 0
    assert rings == []
    async with narrow.engine.connect() as connection:
        assert (await connection.execute(WHO)).one() == ("relay", "relay", "")


async def test_a_failed_statement_cannot_be_committed_over(narrow: Database, rings: Rings) -> None:
    async def carry_on() -> None:
        async with narrow.system() as work:
            await work.execute(insert_tenant(ids.new_id()))
            work.wake("send")
            with contextlib.suppress(DBAPIError):
                await work.execute(DIVIDE_BY_ZERO)

    with pytest.raises(SwallowedError):
        await carry_on()
    assert await tenants(narrow) == 0
    assert rings == []


async def test_a_savepoint_confines_a_failed_statement(narrow: Database, rings: Rings) -> None:
    async with narrow.system() as work:
        await work.execute(insert_tenant(ids.new_id()))
        with contextlib.suppress(DBAPIError):
            async with work.savepoint():
                work.wake("send")
                await work.execute(insert_tenant(ids.new_id()))
                await work.execute(DIVIDE_BY_ZERO)
        work.wake("webhook")
    assert await tenants(narrow) == 1
    assert rings == [({}, {"webhook"})]


async def test_nothing_outlives_a_transaction_that_meddled_with_its_session(narrow: Database) -> None:
    async with narrow.tenant(ids.new_id()) as work:
        await work.execute(text("SELECT set_config('app.tenant', :id, false)"), {"id": str(ids.new_id())})
        await work.execute(text("SET ROLE relay_system"))
    tenant_id = ids.new_id()
    async with narrow.tenant(tenant_id) as work:
        assert (await work.execute(WHO)).one() == ("relay_app", "relay", str(tenant_id))
    async with narrow.system() as system_work:
        assert (await system_work.execute(WHO)).one() == ("relay_system", "relay", "")


async def test_a_work_is_of_no_use_after_its_commit(narrow: Database) -> None:
    async with narrow.system() as work:
        await work.connection.commit()
        with pytest.raises(DBAPIError, match="permission denied"):
            await work.connection.execute(text("SELECT * FROM tenant"))
    with pytest.raises(ResourceClosedError):
        await work.execute(WHO)


async def test_nested_transactions_are_two(database: Database, tenant: TenantFixture) -> None:
    """They see neither each other's tenant nor each other's rows."""
    new = ids.new_id()
    async with database.system() as outer:
        await outer.execute(insert_tenant(new))
        async with database.tenant(tenant.id) as inner:
            assert (await inner.execute(WHO)).one() == ("relay_app", "relay", str(tenant.id))
            assert (await inner.execute(text("SELECT tenant_id FROM tenant"))).scalars().all() == [tenant.id]
        assert (await outer.execute(WHO)).one() == ("relay_system", "relay", "")


async def test_a_full_pool_refuses_and_recovers(narrow: Database) -> None:
    async with narrow.system():
        waiting = [asyncio.create_task(tenants(narrow)) for _ in range(8)]
        await asyncio.sleep(0.05)
        for task in waiting[:4]:
            task.cancel()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 4 + [PoolTimeoutError] * 4
    assert await tenants(narrow) == 0


@pytest.fixture
def slow_commits(relay_database: TestDatabase) -> Iterator[None]:
    """New tenants take a fifth of a second to commit."""
    with psycopg.connect(relay_database.superuser_dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END'"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON tenant DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        yield
        connection.execute("DROP FUNCTION slow CASCADE")


@pytest.mark.usefixtures("slow_commits")
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelling_a_commit_waits_for_its_outcome(narrow: Database, rings: Rings, times: int) -> None:
    """However often: the caller is cancelled, what was committed is rung, and the connection is free."""
    begun = asyncio.Event()

    async def add_tenant() -> None:
        async with narrow.system() as work:
            await work.execute(insert_tenant(ids.new_id()))
            work.wake("send")
            begun.set()

    task = asyncio.create_task(add_tenant())
    await begun.wait()
    for _ in range(times):
        await asyncio.sleep(0.03)
        assert not task.done()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rings == [({}, {"send"})]
    assert await tenants(narrow) == 1


async def test_a_commit_that_fails_rings_nobody(
    narrow: Database, rings: Rings, relay_database: TestDatabase
) -> None:
    async def lose_the_connection() -> None:
        async with narrow.system() as work:
            pid = (await work.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await work.execute(insert_tenant(ids.new_id()))
            work.wake("send")
            with psycopg.connect(relay_database.superuser_dsn, autocommit=True) as superuser:
                superuser.execute("SELECT pg_terminate_backend(%s)", [pid])

    with pytest.raises(DBAPIError):
        await lose_the_connection()
    assert rings == []
    assert await tenants(narrow) == 0
