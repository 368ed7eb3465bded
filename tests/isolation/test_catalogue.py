"""The migrated database, by what Postgres's catalogue says of it."""

import psycopg

from tests.conftest import TestDatabase
from tests.isolation import catalogue


def test_the_schema_keeps_tenants_apart(relay_database: TestDatabase) -> None:
    with psycopg.connect(relay_database.superuser_dsn) as connection:
        assert catalogue.faults(connection) == []
        # Guards against a walk that has gone blind.
        assert len(catalogue.tenant_tables(connection)) >= 16
