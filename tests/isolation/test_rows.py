"""Every table of tenants' data, tried from the other tenant's side and from nobody's."""

import psycopg

from relay.kit.db import Database
from tests.conftest import TestDatabase
from tests.isolation import rows


async def test_no_row_is_reached_from_another_tenant(
    database: Database, relay_database: TestDatabase
) -> None:
    rows.fill(relay_database)
    with psycopg.connect(relay_database.superuser_dsn) as connection:
        assert rows.tables_without_rows(connection) == set()
    assert await rows.leaks_to_tenant(database) == []
    assert await rows.leaks_to_system_for_tenant(database, rows.one_tenant_tables()) == []
    assert await rows.leaks_to_nobody(database) == []
