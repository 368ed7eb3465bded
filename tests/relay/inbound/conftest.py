"""The inbound side of the relay, and what it left behind."""

from typing import Any

import pytest
from sqlalchemy import text

from relay.conversations import queries
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.kit.secrets import Secrets
from shared.wire.inbox import Conversation, Message
from tests.conftest import TenantFixture
from tests.meta_webhooks import Inbox


@pytest.fixture
def inbox(database: Database, doorbell: Doorbell, relay_secrets: Secrets) -> Inbox:
    return Inbox(database, doorbell, relay_secrets)


class Look:
    """What a tenant sees, and what the relay keeps for itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def conversations(self, tenant: TenantFixture) -> list[Conversation]:
        async with self._database.tenant(tenant.id) as work:
            return await queries.conversation_page(work, 1000, None)

    async def conversation(self, tenant: TenantFixture) -> Conversation:
        (only,) = await self.conversations(tenant)
        return only

    async def messages(
        self, tenant: TenantFixture, conversation: Conversation | None = None
    ) -> list[Message]:
        """A conversation's messages (the only one's, unless named), oldest first."""
        found = conversation or await self.conversation(tenant)
        async with self._database.tenant(tenant.id) as work:
            return (await queries.message_page(work, found.id, 10_000, None))[::-1]

    async def rows(self, query: str, **parameters: Any) -> list[Any]:
        """Of the relay's own tables."""
        async with self._database.system() as work:
            return list((await work.execute(text(query), parameters)).all())

    async def items(self) -> list[Any]:
        return await self.rows("SELECT * FROM webhook_item ORDER BY id")

    async def heard(self, tenant: TenantFixture) -> list[tuple[str, Any]]:
        """The tenant's feed so far: (kind, id)."""
        rows = await self.rows(
            "SELECT kind, entity_id FROM feed WHERE tenant_id = :t ORDER BY seq", t=tenant.id
        )
        return [(row.kind, row.entity_id) for row in rows]


@pytest.fixture
def look(database: Database) -> Look:
    return Look(database)
