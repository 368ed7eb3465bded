"""A tenant with conversations, written straight into the tables, for tests that need thousands."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from relay.kit import ids
from relay.kit.db import Database
from relay.outbound import pacing
from relay.outbound.decisions import SendTimes
from relay.outbound.pacing import Claim
from relay.outbound.service import Outcome, settle
from tests.conftest import TenantFixture

T0 = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
"""The injected database time at which the tests of the pace begin."""

TIMES = SendTimes()


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


@dataclass
class House:
    """One tenant, one number."""

    database: Database
    tenant_id: UUID
    number_id: UUID
    _made: int = field(default=0)

    @classmethod
    def of(cls, database: Database, tenant: TenantFixture) -> "House":
        return cls(database, tenant.id, tenant.number_id)

    async def allow(self, per_second: int) -> None:
        """Set the number's rate."""
        await self.run(
            "UPDATE phone_number SET messages_per_second = :rate WHERE id = :id",
            rate=per_second,
            id=self.number_id,
        )

    async def conversations(self, count: int, *, last_inbound_at: datetime | None = T0) -> list[UUID]:
        """New conversations, each with a contact and a phone number of its own."""
        first, self._made = self._made, self._made + count
        conversations = [ids.new_id() for _ in range(count)]
        parameters: dict[str, Any] = {
            "tenant_id": self.tenant_id,
            "number_id": self.number_id,
            "ids": conversations,
            "first": 10_000_000 * (self.number_id.int % 1000) + first,
            "at": last_inbound_at,
        }
        async with self.database.system_for(self.tenant_id) as work:
            for statement in _CONVERSATIONS:
                await work.execute(text(statement), parameters)
        return conversations

    async def enqueue(
        self,
        conversations: Sequence[UUID],
        *,
        when: datetime = T0,
        priority: int = 0,
        recipient: str | None = None,
        body: str = "Hello",
    ) -> list[UUID]:
        """A message in each conversation, in this order, queued at `when`."""
        messages = [ids.new_id() for _ in conversations]
        parameters: dict[str, Any] = {
            "tenant_id": self.tenant_id,
            "number_id": self.number_id,
            "ids": messages,
            "conversations": conversations,
            "at": when,
            "priority": priority,
            "wait": priority * pacing.PRIORITY_WAIT_SECONDS,
            "recipient": recipient,
            "body": body,
        }
        async with self.database.system_for(self.tenant_id) as work:
            for statement in _MESSAGES:
                await work.execute(text(statement), parameters)
        return messages

    async def settle(self, *outcomes: Outcome, now: datetime | None = None) -> None:
        async with self.database.system_for(self.tenant_id) as work:
            await settle(work, outcomes, TIMES, now=now)

    async def run(self, statement: str, **parameters: Any) -> None:
        async with self.database.system_for(self.tenant_id) as work:
            await work.execute(text(statement), parameters)

    async def one(self, statement: str, **parameters: Any) -> Any:
        """The only row of a query in this tenant."""
        async with self.database.system_for(self.tenant_id) as work:
            return (await work.execute(text(statement), parameters)).one()

    async def all(self, statement: str, **parameters: Any) -> Sequence[Any]:
        """The rows of a query in this tenant."""
        async with self.database.system_for(self.tenant_id) as work:
            return (await work.execute(text(statement), parameters)).all()

    async def message(self, message_id: UUID) -> Any:
        return await self.one("SELECT * FROM message WHERE id = :id", id=message_id)


# Each contact's phone number is made of the tenant and a running number, so that it is nobody else's.
_CONVERSATIONS = (
    """
    INSERT INTO contact (tenant_id, id, profile_name)
    SELECT :tenant_id, id, 'Customer' FROM unnest(CAST(:ids AS uuid[])) AS id
    """,
    """
    INSERT INTO contact_identity (tenant_id, portfolio_id, kind, value, contact_id)
    SELECT :tenant_id, '', 'phone', CAST(4915000000000 + CAST(:first AS bigint) + n AS text), id
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS t (id, n)
    """,
    """
    INSERT INTO conversation (tenant_id, id, number_id, contact_id, last_activity_at, last_inbound_at)
    SELECT :tenant_id, id, :number_id, id, coalesce(CAST(:at AS timestamptz), now()), CAST(:at AS timestamptz)
    FROM unnest(CAST(:ids AS uuid[])) AS id
    """,
)
_MESSAGES = (
    """
    INSERT INTO message (tenant_id, id, conversation_id, number_id, direction, content, status, status_rank,
                         sent_at)
    SELECT :tenant_id, id, c, :number_id, 'outbound',
        jsonb_build_object('type', 'text', 'body', CAST(:body AS text)), 'queued', 0, CAST(:at AS timestamptz)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:conversations AS uuid[])) AS t (id, c)
    """,
    """
    INSERT INTO send_queue (tenant_id, message_id, conversation_id, number_id, recipient, recipient_kind,
                            priority, due_at, turn_at, created_at)
    SELECT :tenant_id, t.id, t.c, :number_id, coalesce(CAST(:recipient AS text), i.value), 'phone',
        CAST(:priority AS smallint), placed.at, placed.at + make_interval(secs => :wait), placed.at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:conversations AS uuid[])) WITH ORDINALITY AS t (id, c, n)
    JOIN contact_identity i ON i.tenant_id = :tenant_id AND i.contact_id = t.c
    CROSS JOIN LATERAL (SELECT CAST(:at AS timestamptz) + make_interval(secs => 1e-6 * t.n) AS at) AS placed
    """,
    """
    INSERT INTO number_pace (tenant_id, number_id) VALUES (:tenant_id, :number_id) ON CONFLICT DO NOTHING
    """,
)


async def claim(database: Database, limit: int = 1000, *, now: datetime | None = None) -> list[Claim]:
    async with database.system() as work:
        return (await pacing.claim(work, limit, lease=TIMES.lease, now=now)).taken
