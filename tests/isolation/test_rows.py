"""A row of each tenant in every table: none is seen, changed, removed or forged across the wall.

The walk is also run against a schema with one wall torn down, and must notice.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from relay.kit.db import Database, TenantWork
from relay.kit.schema import metadata
from relay.sync import feed
from tests.conftest import TestDatabase
from tests.isolation.tenants import FACTORIES, GLOBAL_TABLES, TENANT_TABLES, Side, fill


async def count(work: Any, table: str, where: str = "true", **parameters: Any) -> int:
    query = text(f"SELECT count(*) FROM {table} WHERE {where}")
    found: int = (await work.execute(query, parameters)).scalar_one()
    return found


async def walk_table(
    open_work: AbstractAsyncContextManager[TenantWork], table: str, ours: Side, theirs: Side
) -> None:
    """One table, seen from one tenant's transaction."""
    async with open_work as work:
        assert await count(work, table, "tenant_id = :t", t=ours.tenant) == 1, f"{table}: own row not seen"
        assert await count(work, table) == 1, f"{table}: another tenant's row is seen"
        for statement in (
            f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = :t",
            f"DELETE FROM {table} WHERE tenant_id = :t",
        ):
            changed = await work.execute(text(statement), {"t": theirs.tenant})
            assert changed.rowcount == 0, f"{table}: {statement}"
        await work.connection.rollback()


async def forge(
    open_work: AbstractAsyncContextManager[TenantWork], table: str, ours: Side, theirs: Side
) -> None:
    """Writing a row in the other tenant's name, and handing an own row over to them, must be refused."""
    new = Side()
    row = dict(FACTORIES[table](new))
    columns = ", ".join(row)
    async with open_work as work:
        select = text(f"SELECT {columns} FROM {table} WHERE tenant_id = :t")
        own = (await work.execute(select, {"t": ours.tenant})).mappings().one()
        values = {**own, "tenant_id": theirs.tenant}
        for statement in (
            f"INSERT INTO {table} ({columns}) SELECT "
            + ", ".join(":forged" if name == "tenant_id" else name for name in row)
            + f" FROM {table}",
            f"UPDATE {table} SET tenant_id = :forged",
        ):
            savepoint = await work.connection.begin_nested()
            with pytest.raises(DBAPIError, match="row-level security"):
                await work.execute(text(statement), {"forged": values["tenant_id"]})
            await savepoint.rollback()
        await work.connection.rollback()


async def walk(database: Database, ours: Side, theirs: Side) -> None:
    """Every table, from the app's role and from the system's role bound to one tenant."""
    for table in TENANT_TABLES:
        await walk_table(database.tenant(ours.tenant), table, ours, theirs)
        await forge(database.tenant(ours.tenant), table, ours, theirs)
        if metadata.tables[table].info["system"] == "one_tenant":
            await walk_table(database.system_for(ours.tenant), table, ours, theirs)
            await forge(database.system_for(ours.tenant), table, ours, theirs)


async def test_no_row_crosses_the_wall(database: Database, relay_database: TestDatabase) -> None:
    first, second = fill(relay_database.superuser_dsn)
    await walk(database, first, second)
    await walk(database, second, first)


async def test_without_a_tenant_nothing_is_seen(database: Database, relay_database: TestDatabase) -> None:
    fill(relay_database.superuser_dsn)
    async with database.engine.connect() as connection:
        for role in ("relay_app", "relay_system"):
            await connection.execute(text(f"SET ROLE {role}"))
            for table in TENANT_TABLES:
                sees_all = role == "relay_system" and metadata.tables[table].info["system"] == "every_tenant"
                assert await count(connection, table) == (2 if sees_all else 0), (role, table)


async def test_the_app_role_has_no_right_to_global_tables(
    database: Database, relay_database: TestDatabase
) -> None:
    first, _ = fill(relay_database.superuser_dsn)
    for table in GLOBAL_TABLES:
        statements = [f"DELETE FROM {table}"]
        if not metadata.tables[table].info["app_may_read"]:
            statements.append(f"SELECT * FROM {table}")
        for statement in statements:
            with pytest.raises(DBAPIError, match="permission denied"):
                async with database.tenant(first.tenant) as work:
                    await work.execute(text(statement))


TORN_DOWN = {
    "the app's policy dropped": "DROP POLICY message_app ON message",
    "the app's policy open": "ALTER POLICY contact_app ON contact USING (true) WITH CHECK (true)",
    "the app's policy open for writing": "ALTER POLICY waba_app ON waba WITH CHECK (true)",
    "the system's policy open": "ALTER POLICY conversation_system ON conversation USING (true)",
    "row security off": "ALTER TABLE feed DISABLE ROW LEVEL SECURITY",
    "the app owns a table and it is not forced": (
        "ALTER TABLE device_session NO FORCE ROW LEVEL SECURITY;ALTER TABLE device_session OWNER TO relay_app"
    ),
}


@pytest.mark.parametrize("damage", TORN_DOWN.values(), ids=TORN_DOWN.keys())
async def test_the_walk_notices_a_missing_wall(fresh_database: TestDatabase, damage: str) -> None:
    with psycopg.connect(fresh_database.superuser_dsn, autocommit=True) as connection:
        for statement in damage.split(";"):
            connection.execute(statement)  # type: ignore[call-overload]  # constant strings of this file
    first, second = fill(fresh_database.superuser_dsn)
    database = Database(
        fresh_database.dsn, application_name="test", append_feed=feed.append, ring=lambda *_: None
    )
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            await walk(database, first, second)
    finally:
        await database.close()
