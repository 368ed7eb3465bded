"""The relay refuses a database on which its promises would not hold, and says what to do."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from relay.boot import booted
from relay.kit import roles
from relay.kit.roles import DatabaseRefusedError
from relay.settings import Settings
from tests.conftest import ENCRYPTION_KEY, JWT_SECRET, PostgresServer, TestDatabase


def settings_for(dsn: str) -> Settings:
    return Settings(
        database_url=dsn,
        jwt_secrets=(JWT_SECRET,),
        encryption_keys=ENCRYPTION_KEY,
        data_dir=Path("/nonexistent"),
    )


def refusal(dsn: str) -> str:
    with pytest.raises(DatabaseRefusedError) as caught, booted(settings_for(dsn), migrate=False):
        pass
    return str(caught.value)


@pytest.fixture
def login(postgres_server: PostgresServer, fresh_database: TestDatabase) -> Iterator[str]:
    """A login of this test's own, which may become the relay's roles."""
    name = f"test_login_{os.getpid()}"
    with psycopg.connect(postgres_server.superuser_dsn(), autocommit=True) as connection:
        run(connection, "CREATE ROLE {} LOGIN NOINHERIT PASSWORD 'x'", name)
        for role in roles.ROLES:
            run(connection, f"GRANT {role} TO {{}} WITH INHERIT FALSE, SET TRUE", name)
        try:
            yield name
        finally:
            run(connection, "DROP ROLE {}", name)


def run(connection: psycopg.Connection, statement: str, name: str) -> None:
    connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def dsn_of(database: TestDatabase, login: str) -> str:
    url = make_url(database.dsn).set(username=login, password="x")
    return url.render_as_string(hide_password=False)


def alter(server: PostgresServer, statement: str, login: str) -> None:
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        run(connection, statement, login)


def test_an_ordinary_login_is_fine(fresh_database: TestDatabase, login: str) -> None:
    dsn = dsn_of(fresh_database, login)
    with booted(settings_for(dsn), migrate=True) as complete:
        assert complete.database_direct_url == dsn


def test_a_superuser_is_refused(fresh_database: TestDatabase) -> None:
    words = refusal(fresh_database.superuser_dsn)
    assert "The role postgres is a superuser, so row-level security would not keep tenants apart" in words
    assert 'CREATE ROLE "relay" LOGIN NOINHERIT' in words


def test_a_login_that_bypasses_row_security_is_refused(
    postgres_server: PostgresServer, fresh_database: TestDatabase, login: str
) -> None:
    alter(postgres_server, "ALTER ROLE {} BYPASSRLS", login)
    assert "has BYPASSRLS" in refusal(dsn_of(fresh_database, login))


def test_a_login_that_has_the_roles_rights_all_the_time_is_refused(
    postgres_server: PostgresServer, fresh_database: TestDatabase, login: str
) -> None:
    alter(postgres_server, "GRANT relay_app TO {} WITH INHERIT TRUE", login)
    words = refusal(dsn_of(fresh_database, login))
    assert "inherits the rights of relay_app" in words
    assert f"GRANT relay_app TO {login} WITH INHERIT FALSE, SET TRUE;" in words.replace('"', "")


def test_a_login_that_may_not_become_a_role_is_told_how(
    postgres_server: PostgresServer, fresh_database: TestDatabase, login: str
) -> None:
    alter(postgres_server, "REVOKE relay_system FROM {}", login)
    words = refusal(dsn_of(fresh_database, login))
    assert f"The role {login} may not become relay_system" in words
    assert "WITH INHERIT FALSE, SET TRUE" in words


def test_a_login_without_synchronous_commit_is_refused(
    postgres_server: PostgresServer, fresh_database: TestDatabase, login: str
) -> None:
    alter(postgres_server, "ALTER ROLE {} SET synchronous_commit = off", login)
    assert "synchronous_commit is off" in refusal(dsn_of(fresh_database, login))


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    words = refusal("postgresql://relay:topsecret@127.0.0.1:1/relaydesk")
    assert words.startswith("Cannot connect to postgresql://relay:***@127.0.0.1:1/relaydesk")
    assert "topsecret" not in words


def test_the_sql_for_administrators_makes_what_the_relay_wants() -> None:
    statements = roles.setup_sql("inbox", "me")
    assert 'CREATE ROLE "me" LOGIN NOINHERIT' in statements
    for role in roles.ROLES:
        assert f"CREATE ROLE {role} NOLOGIN;" in statements
