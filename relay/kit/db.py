"""The unit of work: one transaction, one role, committed before anyone is told.

    async with database.tenant(tenant_id) as work:      # relay_app, sees one tenant
        await work.execute(...)
        work.changed("message", message_id)             # goes to the feed as the last statement
    # committed here, and only then is the doorbell rung

Every transaction takes its role with `SET LOCAL`, so the login role itself has no rights and a pooler in
transaction mode is harmless. The tenant travels the same way, in the same round trip.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import CursorResult, Executable, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from relay.kit.schema import APP, OWNER, SYSTEM, TENANT_SETTING

EntityKind = Literal["conversation", "message"]
Topic = Literal["webhook", "send"]
"""Kinds of waiting work that a worker can be woken for."""


class Change(NamedTuple):
    """One entity that a transaction changed, for the tenant's feed."""

    tenant_id: UUID
    kind: EntityKind
    entity_id: UUID


class FeedHead(NamedTuple):
    """Where a tenant's feed stands: `seq` counts within `epoch`."""

    epoch: UUID
    seq: int


Heads = Mapping[UUID, FeedHead]
"""The new head of the feed of each tenant that a transaction touched."""

AppendFeed = Callable[[AsyncConnection, Sequence[Change]], Awaitable[Heads]]
Ring = Callable[[Heads, Collection[Topic]], None]
"""Called after a commit; returns at once and never raises. A lost ring costs one poll interval."""


class SwallowedError(Exception):
    """A statement failed, and the code around it went on as if it had not. Nothing was committed."""


_BEGIN = text(f"SELECT set_config('role', :role, true), set_config('{TENANT_SETTING}', :tenant, true)")


class UnitOfWork:
    """One open transaction. Made by `Database`, which commits it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self._changes: dict[Change, None] = {}  # an ordered set
        self.topics: set[Topic] = set()
        self.failed = False

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run one statement (or, with a list of parameters, many) in this transaction.

        An error ends the transaction: catching it is of use only around a `savepoint`.
        """
        try:
            return await self.connection.execute(statement, parameters)
        except BaseException:
            self.failed = True
            raise

    def wake(self, topic: Topic) -> None:
        """Wake the workers of this topic once this transaction has committed."""
        self.topics.add(topic)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the transaction that leaves nothing behind, announcements included, if it raises."""
        changes, topics = dict(self._changes), set(self.topics)
        try:
            async with self.connection.begin_nested():
                yield
        except BaseException:
            self._changes, self.topics, self.failed = changes, topics, False
            raise

    @property
    def changes(self) -> Sequence[Change]:
        """What the feed will be told, each entity once."""
        return list(self._changes)

    def _changed(self, tenant_id: UUID, kind: EntityKind, entity_id: UUID) -> None:
        self._changes[Change(tenant_id, kind, entity_id)] = None


class TenantWork(UnitOfWork):
    """A transaction that sees one tenant only."""

    def __init__(self, connection: AsyncConnection, tenant_id: UUID) -> None:
        super().__init__(connection)
        self.tenant_id = tenant_id

    def changed(self, kind: EntityKind, entity_id: UUID) -> None:
        """Announce a change in the tenant's feed when this transaction commits."""
        self._changed(self.tenant_id, kind, entity_id)


class SystemWork(UnitOfWork):
    """A transaction across tenants, for the modules named in `kit.schema`."""

    def changed(self, tenant_id: UUID, kind: EntityKind, entity_id: UUID) -> None:
        """Announce a change in that tenant's feed when this transaction commits."""
        self._changed(tenant_id, kind, entity_id)


@dataclass(frozen=True)
class PoolOptions:
    """Connections kept, and allowed on top of those; seconds to wait for one."""

    size: int = 5
    overflow: int = 5
    wait_seconds: float = 10.0


class Database:
    """The engine of one process, and the only thing that commits."""

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        append_feed: AppendFeed,
        ring: Ring,
        pool: PoolOptions = PoolOptions(),
        behind_pooler: bool = False,
    ) -> None:
        self.engine = create_engine(
            url, application_name=application_name, pool=pool, behind_pooler=behind_pooler
        )
        self._append_feed = append_feed
        self._ring = ring

    @asynccontextmanager
    async def tenant(self, tenant_id: UUID) -> AsyncIterator[TenantWork]:
        """A transaction as `relay_app` for one tenant. Commits at the end of the block."""
        async with self._transaction(APP, tenant_id) as connection:
            work = TenantWork(connection, tenant_id)
            yield work
            await self._commit(work)

    @asynccontextmanager
    async def system_for(self, tenant_id: UUID) -> AsyncIterator[TenantWork]:
        """A transaction as `relay_system` that applies queued work of one tenant. Commits at the end."""
        async with self._transaction(SYSTEM, tenant_id) as connection:
            work = TenantWork(connection, tenant_id)
            yield work
            await self._commit(work)

    @asynccontextmanager
    async def system(self) -> AsyncIterator[SystemWork]:
        """A transaction as `relay_system`, which sees across tenants what it must. Commits at the end."""
        async with self._transaction(SYSTEM, None) as connection:
            work = SystemWork(connection)
            yield work
            await self._commit(work)

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[UnitOfWork]:
        """A transaction as `relay_owner`, for upkeep of the schema such as partitions. Commits at the end."""
        async with self._transaction(OWNER, None) as connection:
            work = UnitOfWork(connection)
            yield work
            await self._commit(work)

    @asynccontextmanager
    async def _transaction(self, role: str, tenant_id: UUID | None) -> AsyncIterator[AsyncConnection]:
        async with self.engine.connect() as connection:
            await connection.execute(_BEGIN, {"role": role, "tenant": str(tenant_id or "")})
            yield connection  # leaving without a commit rolls back

    async def _commit(self, work: UnitOfWork) -> None:
        if work.failed:
            # Postgres would answer this commit with a rollback, and no error.
            raise SwallowedError
        # The feed's counter row stays locked from here to the commit, so it comes last.
        heads = await self._append_feed(work.connection, work.changes) if work.changes else {}
        commit = asyncio.ensure_future(work.connection.commit())
        cancelled = None
        while not commit.done():
            try:
                await asyncio.wait([commit])
            except asyncio.CancelledError as error:
                # However often: the outcome must not stay in doubt, nor the connection in use.
                cancelled = error
        failure = commit.exception()
        if failure is None and (heads or work.topics):
            self._ring(heads, work.topics)
        if cancelled is not None:
            raise cancelled from failure
        if failure is not None:
            raise failure

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.engine.dispose()


def create_engine(
    url: str, *, application_name: str, pool: PoolOptions = PoolOptions(), behind_pooler: bool = False
) -> AsyncEngine:
    """An asyncpg engine with our limits; `url` is a plain `postgresql://` address.

    Behind a transaction pooler prepared statements are not kept, since they would belong to another client.
    """
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        pool_size=pool.size,
        max_overflow=pool.overflow,
        pool_timeout=pool.wait_seconds,
        pool_pre_ping=False,
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
        connect_args={
            "timeout": 10,
            "command_timeout": 30,
            "server_settings": {
                "application_name": application_name,
                "lock_timeout": "2s",
                "idle_in_transaction_session_timeout": "10s",
                "timezone": "UTC",
            },
            **({"statement_cache_size": 0, "prepared_statement_cache_size": 0} if behind_pooler else {}),
        },
    )
