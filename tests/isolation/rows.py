"""A row in every table of tenants' data, and attempts to reach it from another tenant.

A new table of tenants needs an entry in `ROWS`; the walk fails without one.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from sqlalchemy import Executable, TextClause, create_engine, make_url, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from relay.kit.db import Database, UnitOfWork
from relay.kit.schema import APP
from relay.migrations.tables import metadata
from tests.conftest import TestDatabase
from tests.isolation import catalogue

AT: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
INSUFFICIENT_PRIVILEGE: Final = "42501"

Row = dict[str, Any]


class Seed(NamedTuple):
    """The tenant whose rows are made; its name is in all of them."""

    name: str

    @property
    def tenant_id(self) -> UUID:
        return self.id("tenant")

    def id(self, of: str) -> UUID:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{self.name}/{of}")


A: Final = Seed("alpha")
B: Final = Seed("beta")

# Every row beside its tenant_id; what is referred to comes first.
ROWS: Final[Mapping[str, Callable[[Seed], Row]]] = {
    "tenant": lambda seed: {"name": seed.name},
    "app_user": lambda seed: {
        "id": seed.id("user"),
        "login_id": seed.id("login"),
        "email": f"{seed.name}@example.com",
        "name": seed.name,
        "role": "agent",
    },
    "device_session": lambda seed: {
        "id": seed.id("session"),
        "user_id": seed.id("user"),
        "name": seed.name,
        "platform": "linux",
        "refresh_hash": seed.name.encode(),
        "expires_at": AT,
    },
    "waba": lambda seed: {"id": seed.id("waba"), "waba_id": seed.name, "access_token_sealed": seed.name},
    "phone_number": lambda seed: {
        "id": seed.id("number"),
        "waba_row_id": seed.id("waba"),
        "phone_number_id": seed.name,
    },
    "contact": lambda seed: {"id": seed.id("contact"), "profile_name": seed.name},
    "contact_identity": lambda seed: {
        "portfolio_id": "",
        "kind": "phone",
        "value": seed.name,
        "contact_id": seed.id("contact"),
    },
    "conversation": lambda seed: {
        "id": seed.id("conversation"),
        "number_id": seed.id("number"),
        "contact_id": seed.id("contact"),
        "last_activity_at": AT,
    },
    "message": lambda seed: {
        "id": seed.id("message"),
        "conversation_id": seed.id("conversation"),
        "number_id": seed.id("number"),
        "direction": "outbound",
        "wamid": seed.name,
        "client_id": seed.id("message"),
        "author_id": seed.id("user"),
        "content": {"type": "text", "body": seed.name},
        "status": "queued",
        "status_rank": 0,
        "sent_at": AT,
    },
    "message_status": lambda seed: {
        "number_id": seed.id("number"),
        "wamid": seed.name,
        "status": "sent",
        "occurred_at": AT,
        "payload": {"id": seed.name},
    },
    "send_queue": lambda seed: {
        "message_id": seed.id("message"),
        "number_id": seed.id("number"),
        "conversation_id": seed.id("conversation"),
        "recipient": seed.name,
        "recipient_kind": "phone",
    },
    "send_attempt": lambda seed: {
        "id": seed.id("attempt"),
        "message_id": seed.id("message"),
        "n": 1,
        "state": "claimed",
    },
    "number_pace": lambda seed: {"number_id": seed.id("number")},
    "pair_pace": lambda seed: {"number_id": seed.id("number"), "recipient": seed.name, "next_at": AT},
    "feed_head": lambda seed: {"last_seq": 1},
    "feed": lambda seed: {"seq": 1, "kind": "message", "entity_id": seed.id("message")},
}


def fill(database: TestDatabase) -> None:
    """Put the rows of both tenants in, past all rules."""
    engine = create_engine(
        make_url(database.superuser_dsn).set(drivername="postgresql+psycopg"), poolclass=NullPool
    )
    with engine.begin() as connection:
        for seed in (A, B):
            login = {"id": seed.id("login"), "email": f"{seed.name}@example.com", "password_hash": ""}
            connection.execute(insert(metadata.tables["login"]).values(login))
            for table in ROWS:
                connection.execute(insert(metadata.tables[table]).values(_row(table, seed)))


def tables_without_rows(connection: psycopg.Connection) -> set[str]:
    """Tables of tenants, by the catalogue, that have no entry in `ROWS`."""
    return {table.name.removeprefix("public.") for table in catalogue.tenant_tables(connection)} - set(ROWS)


def _row(table: str, seed: Seed) -> Row:
    return {"tenant_id": seed.tenant_id, **ROWS[table](seed)}


# --- the walk -------------------------------------------------------------------------------------


async def leaks_to_tenant(database: Database, tables: Collection[str] = ROWS.keys()) -> list[str]:
    """What `relay_app` can do to the other tenant's rows, from either side."""
    found = []
    for own, other in ((A, B), (B, A)):
        async with database.tenant(own.tenant_id) as work:
            for table in tables:
                found += await _leaks(work, table, own, other)
    return found


def one_tenant_tables() -> list[str]:
    """The tables of which `relay_system` too sees one tenant only."""
    return [table for table in ROWS if f"public.{table}" not in catalogue.SYSTEM_SEES_EVERY_TENANT]


async def leaks_to_system_for_tenant(database: Database, tables: Collection[str]) -> list[str]:
    """The same for `relay_system` where it works for one tenant."""
    found = []
    async with database.system_for(A.tenant_id) as work:
        for table in tables:
            found += await _leaks(work, table, A, B)
    return found


async def leaks_to_nobody(database: Database) -> list[str]:
    """What can be reached by transactions that named no tenant."""
    found = []
    async with _app_without_tenant(database) as work:
        for table in ROWS:
            found += await _leaks_without_tenant(work, table)
    async with database.system() as system_work:
        for table in one_tenant_tables():
            found += await _leaks_without_tenant(system_work, table)
    return found


@asynccontextmanager
async def _app_without_tenant(database: Database) -> AsyncIterator[UnitOfWork]:
    # The public way in demands a tenant; this is what forgetting it would come to.
    async with database._transaction(APP, None) as connection:
        yield UnitOfWork(connection)


async def _leaks(work: UnitOfWork, table: str, own: Seed, other: Seed) -> list[str]:
    ids = {"own": own.tenant_id, "other": other.tenant_id}
    found = []
    for verb, statement, rows in (
        ("sees", f"SELECT 1 FROM {table}", 1),
        ("sees by tenant", f"SELECT 1 FROM {table} WHERE tenant_id = :other", 0),
        ("locks", f"SELECT 1 FROM {table} WHERE tenant_id = :other FOR UPDATE", 0),
        ("changes without conditions", f"UPDATE {table} SET tenant_id = tenant_id", 1),
        ("changes", f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = :other", 0),
        ("takes over", f"UPDATE {table} SET tenant_id = :own WHERE tenant_id = :other", 0),
        ("deletes", f"DELETE FROM {table} WHERE tenant_id = :other", 0),
    ):
        if (touched := await _touched(work, text(statement), ids)) != rows:
            found.append(f"{table}: {verb} {touched} rows, not {rows}")
    # The refusal must come before any look at keys, or it would tell which of them exist.
    foreign = insert(metadata.tables[table]).values(_row(table, other))
    for verb, writing in (
        ("insert a row of the other tenant", foreign),
        ("try to insert a row of the other tenant", foreign.on_conflict_do_nothing()),
        ("give its own row away", text(f"UPDATE {table} SET tenant_id = :other WHERE tenant_id = :own")),
    ):
        if (state := await _sqlstate(work, writing, ids)) != INSUFFICIENT_PRIVILEGE:
            found.append(f"{table}: may {verb} ({state})")
    return found


async def _leaks_without_tenant(work: UnitOfWork, table: str) -> list[str]:
    found = []
    for verb, statement in (
        ("sees", f"SELECT 1 FROM {table}"),
        ("changes", f"UPDATE {table} SET tenant_id = tenant_id"),
        ("deletes", f"DELETE FROM {table}"),
    ):
        if touched := await _touched(work, text(statement), {}):
            found.append(f"{table}: {verb} {touched} rows without a tenant")
    state = await _sqlstate(work, insert(metadata.tables[table]).values(_row(table, B)), {})
    if state != INSUFFICIENT_PRIVILEGE:
        found.append(f"{table}: may insert rows without a tenant ({state})")
    return found


async def _touched(work: UnitOfWork, statement: TextClause, parameters: Row) -> int | str:
    """How many rows, or the error; nothing stays changed."""
    async with work.connection.begin_nested() as savepoint:
        try:
            result = await work.connection.execute(statement, _used(statement, parameters))
            return len(result.all()) if result.returns_rows else result.rowcount
        except DBAPIError as error:
            return str(error.orig)
        finally:
            await savepoint.rollback()


async def _sqlstate(work: UnitOfWork, statement: Executable, parameters: Row) -> str | None:
    """Why the database refused, or None if it did not; nothing stays changed."""
    async with work.connection.begin_nested() as savepoint:
        try:
            used = _used(statement, parameters) if isinstance(statement, TextClause) else None
            await work.connection.execute(statement, used)
        except DBAPIError as error:
            return str(getattr(error.orig, "sqlstate", error.orig))
        finally:
            await savepoint.rollback()
    return None


def _used(statement: TextClause, parameters: Row) -> Row:
    return {name: value for name, value in parameters.items() if f":{name}" in statement.text}
