"""Models and migrations agree, and a release refuses a schema that does not fit it."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import alembic.command
import psycopg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url

from relay import migrate as migrations
from relay.kit import roles
from relay.kit.roles import DatabaseRefusedError
from relay.kit.schema import metadata, protection
from relay.migrations import tables
from tests.conftest import PostgresServer, TestDatabase


def test_models_and_migrations_do_not_drift(relay_database: TestDatabase) -> None:
    engine = create_engine(make_url(relay_database.superuser_dsn).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        alembic.command.check(migrations.alembic_config(connection))
    engine.dispose()


def test_the_check_sees_a_drift(fresh_database: TestDatabase) -> None:
    engine = create_engine(make_url(fresh_database.superuser_dsn).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE contact ADD COLUMN forgotten text")
        with pytest.raises(Exception, match="forgotten"):
            alembic.command.check(migrations.alembic_config(connection))
    engine.dispose()


def test_policies_are_those_of_the_models(relay_database: TestDatabase) -> None:
    """Alembic does not compare policies: made afresh from the models, they are the migrated ones."""
    query = "SELECT tablename, policyname, roles, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2"
    with psycopg.connect(relay_database.superuser_dsn) as connection:
        migrated = connection.execute(query).fetchall()
        for table, policy, *_ in migrated:
            connection.execute(f"DROP POLICY {policy} ON {table}")
        for model in metadata.sorted_tables:
            for statement in protection(model):
                connection.execute(statement)
        assert connection.execute(query).fetchall() == migrated
        connection.rollback()


def test_revisions_are_numbered_without_a_gap() -> None:
    script = ScriptDirectory.from_config(migrations.alembic_config())
    found = [revision.revision for revision in script.walk_revisions()]
    assert found[::-1] == [f"{n:04}" for n in range(1, len(found) + 1)]


def test_every_table_of_the_models_is_known_to_the_migrations() -> None:
    assert tables.metadata is metadata
    assert not [name for name in metadata.tables if re.match(r"webhook_raw_|saq_", name)]


def migrate_three_times_at_once(dsn: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        reached = list(pool.map(migrations.migrate, [dsn] * 3))
    assert reached == [migrations.head_revision()] * 3


def test_migrating_again_changes_nothing(fresh_database: TestDatabase) -> None:
    migrate_three_times_at_once(fresh_database.dsn)


def test_many_may_migrate_an_empty_database_at_once(postgres_server: PostgresServer) -> None:
    name = f"test_{os.getpid()}_empty"
    with psycopg.connect(postgres_server.superuser_dsn(), autocommit=True) as connection:
        roles.create_database(connection, name)
    try:
        migrate_three_times_at_once(postgres_server.dsn(name))
        with psycopg.connect(postgres_server.dsn(name)) as connection:
            migrations.check_schema(connection)
    finally:
        postgres_server.drop(name)


def set_schema(database: TestDatabase, found: str, oldest: int) -> None:
    with psycopg.connect(database.superuser_dsn) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [found])
        connection.execute("UPDATE schema_compat SET oldest_revision = %s", [oldest])


def refusal(database: TestDatabase) -> str | None:
    with psycopg.connect(database.dsn) as connection:
        try:
            migrations.check_schema(connection)
        except DatabaseRefusedError as error:
            return str(error)
    return None


def test_a_schema_that_fits_and_ones_that_do_not(fresh_database: TestDatabase) -> None:
    head = int(migrations.head_revision())
    assert refusal(fresh_database) is None
    set_schema(fresh_database, "0000", 0)
    assert "Run: relay migrate" in (refusal(fresh_database) or "")
    # A newer schema that still serves this release, and one that no longer does.
    set_schema(fresh_database, f"{head + 3:04}", head)
    assert refusal(fresh_database) is None
    set_schema(fresh_database, f"{head + 3:04}", head + 2)
    assert "Install a newer release" in (refusal(fresh_database) or "")
    with pytest.raises(DatabaseRefusedError, match="newer than this release"):
        migrations.migrate(fresh_database.dsn)


def test_an_empty_database_is_refused_in_words(fresh_database: TestDatabase) -> None:
    with psycopg.connect(fresh_database.superuser_dsn) as connection:
        connection.execute("DROP TABLE alembic_version")
    assert refusal(fresh_database) == "The database has no schema yet. Run: relay migrate"


def test_a_migration_gives_way_to_a_lock_and_tries_again(
    fresh_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrations, "ATTEMPTS", 2)
    with psycopg.connect(fresh_database.superuser_dsn) as connection:
        connection.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Exception, match="lock timeout"):
            migrations.migrate(fresh_database.dsn)
        connection.rollback()
    assert migrations.migrate(fresh_database.dsn) == migrations.head_revision()
