"""A tenant at work: customers write, agents answer, Meta reports."""

import itertools
import random
import time
from typing import Any
from uuid import UUID

from relay.accounts.identity import Identity
from relay.conversations.service import mark_read
from relay.kit import clock
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.kit.ids import new_id
from relay.kit.secrets import Secrets
from relay.meta.graph import Accepted, SendResult
from relay.outbound import pacing
from relay.outbound.decisions import SendTimes, decide
from relay.outbound.pacing import Claim
from relay.outbound.service import Outcome, begin, send_message, settle
from relay.sync.service import snapshot
from shared.content import TextContent
from shared.wire.inbox import Conversation, Message, SendMessageRequest
from tests import meta_webhooks
from tests.conftest import TenantFixture
from tests.meta_webhooks import Inbox

TIMES = SendTimes()


class Desk:
    """Drives the services of one tenant as webhooks, agents and senders would, one step at a time."""

    def __init__(
        self, database: Database, doorbell: Doorbell, secrets: Secrets, tenant: TenantFixture
    ) -> None:
        self.database = database
        self.tenant = tenant
        self.inbox = Inbox(database, doorbell, secrets)
        self.agent = Identity(tenant.id, tenant.user_id, new_id(), "agent", "Agent", clock.now())
        self._numbers = itertools.count(1)
        self._jitter = random.Random(1)

    async def customer_writes(
        self,
        body: str = "Hello",
        *,
        phone: str | None = "4915550100200",
        bsuid: str | None = None,
        name: str | None = None,
        at: float | None = None,
        wamid: str | None = None,
    ) -> str:
        """A text message arrives; returns its wamid."""
        wamid = wamid or f"wamid.in{next(self._numbers)}"
        sent_at = int(time.time() if at is None else at)
        message = meta_webhooks.text(wamid, body, phone=phone, bsuid=bsuid, at=sent_at)
        contacts = [] if name is None else [meta_webhooks.contact(name, phone=phone, bsuid=bsuid)]
        await self.inbox.take(meta_webhooks.webhook(self.tenant, messages=[message], contacts=contacts))
        return wamid

    async def meta_reports(self, *statuses: dict[str, Any]) -> None:
        await self.inbox.take(meta_webhooks.webhook(self.tenant, statuses=statuses))

    async def conversations(self) -> list[Conversation]:
        return (await snapshot(self.database, self.tenant.id, None, 1000)).conversations

    async def agent_writes(
        self, conversation: Conversation, body: str = "Hi", *, client_id: UUID | None = None
    ) -> Message:
        request = SendMessageRequest(client_id or new_id(), TextContent(body))
        message, _ = await send_message(self.database, self.agent, conversation.id, request)
        return message

    async def agent_reads(self, conversation: Conversation) -> None:
        assert conversation.last_message is not None
        await mark_read(self.database, self.tenant.id, conversation.id, conversation.last_message.id)

    async def claim_if_due(self) -> Claim | None:
        """Take the next message in line, if any may go now."""
        async with self.database.system() as work:
            taken = (await pacing.claim(work, 1, lease=TIMES.lease)).taken
        return taken[0] if taken else None

    async def claim(self) -> Claim:
        """Take the next message in line, which must be there."""
        claim = await self.claim_if_due()
        assert claim is not None
        return claim

    async def begin(self, claim: Claim) -> None:
        async with self.database.system_for(self.tenant.id) as work:
            await begin(work, [claim], TIMES)

    async def settle(self, claim: Claim, result: SendResult) -> None:
        """Record Meta's answer."""
        decision = decide(
            result,
            attempt=claim.attempt,
            age=claim.age,
            pair_backoff=claim.pair_backoff,
            times=TIMES,
            jitter=self._jitter,
        )
        async with self.database.system_for(self.tenant.id) as work:
            await settle(work, [Outcome(claim, decision)], TIMES)

    async def sender_works(self, result: SendResult | None = None) -> str:
        """The next message goes out, with this answer; returns its wamid if Meta takes it."""
        wamid = await self.sender_works_if_due(result)
        assert wamid is not None
        return wamid

    async def sender_works_if_due(self, result: SendResult | None = None) -> str | None:
        """The same, unless nothing may go out now."""
        claim = await self.claim_if_due()
        if claim is None:
            return None
        await self.begin(claim)
        wamid = f"wamid.out{next(self._numbers)}"
        await self.settle(claim, result or Accepted(wamid))
        return wamid
