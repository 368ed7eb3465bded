"""Writing raw webhooks, on a connection of their own that does nothing else.

An acknowledgement waits for this, thousands of times a second, so it goes past the unit of work of `kit.db`:
the connection has the role `relay_system` for good, and each batch is one statement, which commits by itself.
That takes a tenth of the time. It goes around a transaction pooler, which would not keep the role.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from relay.kit.db import Ring, Topic
from relay.kit.schema import SYSTEM

CONNECT_TIMEOUT_SECONDS: Final = 5.0
SYNCHRONOUS_COMMIT: Final = "on"
"""What is acknowledged must be on disk, whatever the server's default is."""


_TOPICS: Final[tuple[Topic, ...]] = ("webhook",)


class RawWebhook(NamedTuple):
    """A body as Meta sent it. With a scope its items may reach that tenant's numbers only."""

    body: bytes
    scope_tenant_id: UUID | None
    headers: dict[str, str]
    state: Literal["new", "parked"] = "new"
    error: str | None = None


class RawStore:
    """One per process, for one writer. It connects when it has something to write."""

    def __init__(self, direct_dsn: str, ring: Ring) -> None:
        self._dsn = direct_dsn
        self._ring = ring
        self._connection: asyncpg.Connection | None = None

    async def store(self, webhooks: Sequence[RawWebhook]) -> None:
        """Store webhooks in this order and wake the workers; returns once they are on disk."""
        connection = await self._connected()
        try:
            await connection.execute(
                _INSERT,
                [webhook.scope_tenant_id for webhook in webhooks],
                [webhook.body for webhook in webhooks],
                [msgspec.json.encode(webhook.headers).decode() for webhook in webhooks],
                [webhook.state for webhook in webhooks],
                [webhook.error for webhook in webhooks],
            )
        except BaseException:
            connection.terminate()
            raise
        self._ring({}, _TOPICS)

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT_SECONDS,
                server_settings={
                    "application_name": "relay-ingest",
                    "role": SYSTEM,
                    "synchronous_commit": SYNCHRONOUS_COMMIT,
                    "timezone": "UTC",
                },
            )
        return self._connection

    async def close(self) -> None:
        """Close the connection; nothing may be stored any more."""
        if self._connection is not None:
            await self._connection.close(timeout=CONNECT_TIMEOUT_SECONDS)


_INSERT: Final = """
    INSERT INTO webhook_raw (scope_tenant_id, body, headers, state, error)
    SELECT r.scope_tenant_id, r.body, CAST(r.headers AS jsonb), r.state, r.error
    FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::text[])
         WITH ORDINALITY AS r (scope_tenant_id, body, headers, state, error, n)
    ORDER BY r.n
"""
