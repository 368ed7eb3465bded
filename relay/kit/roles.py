"""The database's roles: made on first boot, checked at every start.

The login role `relay` has no rights of its own; every transaction takes one of the three roles below it
(`kit.db`). A login that bypasses row-level security would make the tenants' walls disappear without a word,
so the relay refuses to run with one.
"""

from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import sql

from relay.kit.errors import OperatorError
from relay.kit.schema import APP, OWNER, SYSTEM

LOGIN: Final = "relay"
ROLES: Final = (OWNER, APP, SYSTEM)
POSTGRES_MIN: Final = 16
"""First version in which a membership can be without inheritance."""


class DatabaseRefusedError(OperatorError):
    """The relay must not run on this database as it is; the message says why and what to do."""


def create_roles(connection: psycopg.Connection, *, login_password: str) -> None:
    """Make (or mend) the roles, as a superuser. May run again at any time."""
    with connection.transaction():
        for role in ROLES:
            _create_unless_exists(connection, role)
            connection.execute(
                sql.SQL("ALTER ROLE {} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE").format(
                    sql.Identifier(role)
                )
            )
        _create_unless_exists(connection, LOGIN)
        connection.execute(
            sql.SQL(
                "ALTER ROLE {} LOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD {}"
            ).format(sql.Identifier(LOGIN), sql.Literal(login_password))
        )
        for role in ROLES:
            connection.execute(
                sql.SQL("GRANT {} TO {} WITH INHERIT FALSE, SET TRUE").format(
                    sql.Identifier(role), sql.Identifier(LOGIN)
                )
            )


def _create_unless_exists(connection: psycopg.Connection, role: str) -> None:
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    if not exists:
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))


def create_database(connection: psycopg.Connection, name: str) -> None:
    """Make a database that `relay_owner` owns, unless it exists. Needs autocommit and a superuser."""
    exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
    if not exists:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(OWNER))
        )


def setup_sql(database: str, login: str = LOGIN) -> str:
    """What an administrator runs once on a server of their own, where we have no right to."""
    lines = [f"CREATE ROLE {role} NOLOGIN;" for role in ROLES]
    lines.append(f"CREATE ROLE {_quoted(login)} LOGIN NOINHERIT PASSWORD 'choose one';")
    lines += [f"GRANT {role} TO {_quoted(login)} WITH INHERIT FALSE, SET TRUE;" for role in ROLES]
    lines += [
        f"CREATE DATABASE {_quoted(database)} OWNER {OWNER};",
        f"-- or, for one that exists:  ALTER DATABASE {_quoted(database)} OWNER TO {OWNER};",
    ]
    return "\n".join(lines)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def check_database(connection: psycopg.Connection) -> None:
    """Refuse a server or login on which our promises would not hold. Raises DatabaseRefusedError."""
    database, login = connection.info.dbname, connection.info.user
    version = connection.info.server_version // 10_000
    if version < POSTGRES_MIN:
        raise DatabaseRefusedError(
            f"The server is Postgres {version}; the relay needs {POSTGRES_MIN} or newer."
        )
    how = f"\nRun this once as an administrator:\n\n{setup_sql(database)}"
    found = connection.execute(
        "SELECT rolname, rolsuper, rolbypassrls, pg_has_role(session_user, oid, 'SET'),"
        " pg_has_role(session_user, oid, 'USAGE') FROM pg_roles"
        " WHERE rolname = ANY(%s) OR rolname = session_user",
        [list(ROLES)],
    ).fetchall()
    by_name = {row[0]: row[1:] for row in found}
    for role, (superuser, bypasses, _, _) in by_name.items():
        if superuser or bypasses:
            power = "is a superuser" if superuser else "has BYPASSRLS"
            advice = (
                f" Name a role without that power in DATABASE_URL.{how}"
                if role == login
                else f" Take it away: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS;"
            )
            raise DatabaseRefusedError(
                f"The role {role} {power}, so row-level security would not keep tenants apart.{advice}"
            )
    missing = [role for role in ROLES if role not in by_name]
    if missing:
        raise DatabaseRefusedError(f"The database has no role {_listed(missing)}.{how}")
    unusable = [role for role in ROLES if not by_name[role][2]]
    if unusable:
        raise DatabaseRefusedError(f"The role {login} may not become {_listed(unusable)}.{how}")
    inherited = [role for role in ROLES if by_name[role][3]]
    if inherited:
        grants = "\n".join(
            f"GRANT {role} TO {_quoted(login)} WITH INHERIT FALSE, SET TRUE;" for role in inherited
        )
        raise DatabaseRefusedError(
            f"The role {login} inherits the rights of {_listed(inherited)}, so a query outside a transaction"
            f" of ours would have them too. Run this as an administrator:\n\n{grants}"
        )
    setting = connection.execute("SELECT current_setting('synchronous_commit')").fetchone()
    if setting == ("off",):
        raise DatabaseRefusedError(
            "synchronous_commit is off: webhooks that Meta was told we have could be lost in a crash."
            f" Set it on: ALTER ROLE {_quoted(login)} SET synchronous_commit = on;"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
