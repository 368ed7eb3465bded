"""Every table of tenants' data, tried from the other tenant's side and from nobody's."""

import psycopg
import pytest

from relay.kit.db import Database
from tests.conftest import TestDatabase
from tests.isolation import rows


@pytest.fixture
def filled_database(relay_database: TestDatabase, database: Database) -> Database:
    rows.fill(relay_database)
    return database


def test_every_table_of_tenants_takes_part(relay_database: TestDatabase) -> None:
    with psycopg.connect(relay_database.superuser_dsn) as connection:
        assert rows.tables_without_rows(connection) == set(), "add an entry to tests/isolation/rows.py"


async def test_a_tenant_reaches_its_own_rows_only(filled_database: Database) -> None:
    assert await rows.leaks_to_tenant(filled_database) == []


async def test_system_work_for_a_tenant_reaches_that_tenant_only(filled_database: Database) -> None:
    assert await rows.leaks_to_system_for_tenant(filled_database, rows.one_tenant_tables()) == []


async def test_work_without_a_tenant_reaches_nothing(filled_database: Database) -> None:
    assert await rows.leaks_to_nobody(filled_database) == []
