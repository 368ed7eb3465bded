"""Two tenants with a row in every table, and what must never be seen of the other one.

A table without a factory here makes the walks fail: whoever adds a table says how a row of it looks.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from relay.kit import ids
from relay.migrations.tables import metadata

TENANT_TABLES: Final = [table.name for table in metadata.sorted_tables if table.info["tenant"]]
GLOBAL_TABLES: Final = [table.name for table in metadata.sorted_tables if not table.info["tenant"]]


@dataclass(frozen=True)
class Side:
    """One tenant. `marker` is part of every text it owns and of nothing else."""

    marker: str = field(default_factory=lambda: f"MARK{os.urandom(6).hex()}")
    tenant: UUID = field(default_factory=ids.new_id)
    login: UUID = field(default_factory=ids.new_id)
    user: UUID = field(default_factory=ids.new_id)
    session: UUID = field(default_factory=ids.new_id)
    waba: UUID = field(default_factory=ids.new_id)
    number: UUID = field(default_factory=ids.new_id)
    contact: UUID = field(default_factory=ids.new_id)
    conversation: UUID = field(default_factory=ids.new_id)
    message: UUID = field(default_factory=ids.new_id)
    client: UUID = field(default_factory=ids.new_id)
    attempt: UUID = field(default_factory=ids.new_id)
    epoch: UUID = field(default_factory=ids.new_id)

    def text(self, of: str) -> str:
        return f"{of} {self.marker}"

    def secrets(self) -> list[str]:
        """What the other tenant must never be shown."""
        found = [self.marker]
        found += [str(value) for value in vars(self).values() if isinstance(value, UUID)]
        return found


Row = Mapping[str, Any]
NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

FACTORIES: Final[dict[str, Callable[[Side], Row]]] = {
    "tenant": lambda s: {"tenant_id": s.tenant, "name": s.text("tenant")},
    "app_user": lambda s: {
        "tenant_id": s.tenant,
        "id": s.user,
        "login_id": s.login,
        "email": f"{s.marker}@example.com",
        "name": s.text("user"),
        "role": "owner",
    },
    "device_session": lambda s: {
        "tenant_id": s.tenant,
        "id": s.session,
        "user_id": s.user,
        "name": s.text("device"),
        "platform": "test",
        "refresh_hash": s.marker.encode(),
        "expires_at": NOW,
    },
    "waba": lambda s: {
        "tenant_id": s.tenant,
        "id": s.waba,
        "waba_id": s.text("waba"),
        "access_token_sealed": s.text("token"),
    },
    "phone_number": lambda s: {
        "tenant_id": s.tenant,
        "id": s.number,
        "waba_row_id": s.waba,
        "phone_number_id": s.text("number"),
        "verified_name": s.text("name"),
    },
    "contact": lambda s: {"tenant_id": s.tenant, "id": s.contact, "profile_name": s.text("contact")},
    "contact_identity": lambda s: {
        "tenant_id": s.tenant,
        "portfolio_id": "",
        "kind": "username",
        "value": s.text("identity"),
        "contact_id": s.contact,
    },
    "conversation": lambda s: {
        "tenant_id": s.tenant,
        "id": s.conversation,
        "number_id": s.number,
        "contact_id": s.contact,
        "last_activity_at": NOW,
        "last_inbound_at": NOW,
    },
    "message": lambda s: {
        "tenant_id": s.tenant,
        "id": s.message,
        "conversation_id": s.conversation,
        "number_id": s.number,
        "direction": "outbound",
        "wamid": s.text("wamid"),
        "client_id": s.client,
        "author_id": s.user,
        "content": Jsonb({"type": "text", "body": s.text("body")}),
        "status": "unconfirmed",
        "status_rank": 20,
        "sent_at": NOW,
    },
    "message_status": lambda s: {
        "tenant_id": s.tenant,
        "number_id": s.number,
        "wamid": s.text("wamid"),
        "status": "sent",
        "occurred_at": NOW,
        "payload": Jsonb({"id": s.text("status")}),
    },
    "feed_head": lambda s: {"tenant_id": s.tenant, "epoch": s.epoch, "last_seq": 1},
    "feed": lambda s: {"tenant_id": s.tenant, "seq": 1, "kind": "message", "entity_id": s.message},
    "send_queue": lambda s: {
        "tenant_id": s.tenant,
        "message_id": s.message,
        "number_id": s.number,
        "conversation_id": s.conversation,
        "recipient": s.text("recipient"),
        "recipient_kind": "bsuid",
        "state": "unknown",
    },
    "send_attempt": lambda s: {
        "tenant_id": s.tenant,
        "id": s.attempt,
        "message_id": s.message,
        "n": 1,
        "state": "unconfirmed",
    },
    "number_pace": lambda s: {"tenant_id": s.tenant, "number_id": s.number},
    "pair_pace": lambda s: {
        "tenant_id": s.tenant,
        "number_id": s.number,
        "recipient": s.text("recipient"),
        "next_at": NOW,
    },
    "login": lambda s: {"id": s.login, "email": f"{s.marker}@example.com", "password_hash": s.text("hash")},
    "attempt_limit": lambda s: {"key": s.marker.encode(), "next_at": NOW},
    "webhook_raw": lambda s: {"scope_tenant_id": s.tenant, "body": s.marker.encode()},
    "webhook_item": lambda s: {
        "raw_received_at": NOW,
        "raw_id": 1,
        "ordinal": 0,
        "tenant_id": s.tenant,
        "field": "messages",
        "kind": "message",
        "lane": s.text("lane"),
        "lane_hash": 1,
        "payload": Jsonb({"id": s.text("item")}),
        "state": "parked",
    },
    "waba_route": lambda s: {
        "waba_id": s.text("waba"),
        "tenant_id": s.tenant,
        "waba_row_id": s.waba,
        "endpoint_key": s.text("key"),
        "verify_token": s.text("verify"),
    },
    "number_route": lambda s: {
        "phone_number_id": s.text("number"),
        "tenant_id": s.tenant,
        "number_id": s.number,
    },
}
WITHOUT_ROWS: Final = {"schema_compat"}
"""Tables that belong to the schema itself."""


def insert(table: str, row: Row) -> sql.Composed:
    """The statement for psycopg that puts a row in, with named parameters."""
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Placeholder, row)),
    )


def fill(superuser_dsn: str) -> tuple[Side, Side]:
    """Two tenants with a row in every table."""
    missing = {table.name for table in metadata.sorted_tables} - FACTORIES.keys() - WITHOUT_ROWS
    assert not missing, f"tables without a factory: {missing}"
    sides = Side(), Side()
    with psycopg.connect(superuser_dsn) as connection:
        for table in metadata.sorted_tables:
            if table.name not in WITHOUT_ROWS:
                for side in sides:
                    row = FACTORIES[table.name](side)
                    connection.execute(insert(table.name, row), row)
    return sides
