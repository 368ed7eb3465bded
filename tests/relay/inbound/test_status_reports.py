"""Ticks: whatever Meta reports, in whatever order, the message ends up where it should."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import insert
from sqlalchemy import text as sql

from relay.accounts.identity import Identity
from relay.conversations import service
from relay.conversations.models import message as message_table
from relay.kit import clock, ids
from relay.kit.db import Database
from relay.kit.secrets import Secrets
from relay.meta.errors import explain
from relay.outbound import callback, pacing
from relay.outbound import service as outbound
from shared.content import TextContent
from shared.delivery import RANK, DeliveryStatus
from shared.wire.inbox import Message, SendMessageRequest
from tests.conftest import TenantFixture
from tests.meta_webhooks import NOW, Inbox, Object, contact, failed, status, text, webhook
from tests.relay.inbound.conftest import Look

AT = datetime.fromtimestamp(NOW, UTC)
Accept = Callable[[str], Awaitable[UUID]]
"""Stores a message that Meta accepted under this wamid, in the tenant's only conversation."""


@pytest.fixture
async def accept(database: Database, inbox: Inbox, look: Look, tenant: TenantFixture) -> Accept:
    await inbox.take(webhook(tenant, messages=[text("wamid.in", "Hello", at=NOW - 100)]))
    conversation = await look.conversation(tenant)

    async def store(wamid: str) -> UUID:
        message_id = ids.new_id()
        async with database.tenant(tenant.id) as work:
            await work.execute(
                insert(message_table).values(
                    tenant_id=tenant.id,
                    id=message_id,
                    conversation_id=conversation.id,
                    number_id=tenant.number_id,
                    direction="outbound",
                    wamid=wamid,
                    content={"type": "text", "body": "Yes"},
                    status=DeliveryStatus.ACCEPTED,
                    status_rank=RANK[DeliveryStatus.ACCEPTED],
                    sent_at=AT,
                )
            )
            await service.apply_waiting_statuses(work, [(tenant.number_id, wamid)])
        return message_id

    return store


async def outbound_messages(look: Look, tenant: TenantFixture) -> dict[str | None, Message]:
    return {message.wamid: message for message in await look.messages(tenant) if message.wamid != "wamid.in"}


async def test_ticks_move_forward_and_are_announced(
    inbox: Inbox, look: Look, tenant: TenantFixture, accept: Accept
) -> None:
    message_id = await accept("wamid.1")
    conversation = await look.conversation(tenant)
    heard = len(await look.heard(tenant))
    await inbox.take(webhook(tenant, statuses=[status("wamid.1", "delivered", at=NOW + 5)]))
    message = (await outbound_messages(look, tenant))["wamid.1"]
    assert (message.status, message.status_at) == (DeliveryStatus.DELIVERED, AT + timedelta(seconds=5))
    assert (await look.heard(tenant))[heard:] == [("message", message_id), ("conversation", conversation.id)]
    shown = (await look.conversation(tenant)).last_message
    assert shown is not None
    assert (shown.id, shown.status) == (message_id, DeliveryStatus.DELIVERED)


async def test_only_the_newest_message_moves_the_list(
    inbox: Inbox, look: Look, tenant: TenantFixture, accept: Accept
) -> None:
    message_id = await accept("wamid.1")
    await inbox.take(webhook(tenant, messages=[text("wamid.2", "newer", at=NOW + 50)]))
    heard = len(await look.heard(tenant))
    await inbox.take(webhook(tenant, statuses=[status("wamid.1", "read")]))
    assert (await look.heard(tenant))[heard:] == [("message", message_id)]


REPORTS: dict[str, Object] = {
    "sent": status("W", "sent", at=NOW + 1),
    "delivered": status("W", "delivered", at=NOW + 2),
    "read": status("W", "read", at=NOW + 3),
    "played": status("W", "played", at=NOW + 4),
    "failed": failed("W", 131026, at=NOW + 5),
    "warning": status("W", "warning", at=NOW + 6),
}
SETS = [
    ("sent", "delivered", "read", "failed"),
    ("sent", "failed", "warning"),
    ("delivered", "failed", "sent"),
    ("played", "sent", "read"),
    ("warning", "sent"),
]


def outcome(reports: tuple[str, ...]) -> str:
    """What a message must end up as, however these reports are ordered."""
    for name in ("played", "read", "delivered", "failed", "sent"):
        if name in reports:
            return name
    return "accepted"


async def test_every_order_of_reports_gives_the_same_end(
    inbox: Inbox, look: Look, tenant: TenantFixture, accept: Accept
) -> None:
    """All permutations, a webhook per report, one report twice; the message first, amidst, or last."""
    orders = [order for reports in SETS for order in itertools.permutations(reports)]
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    queues: dict[str, list[Object | None]] = {}
    for n, order in enumerate(orders):
        queue: list[Object | None] = [{**REPORTS[name], "id": f"wamid.{n}"} for name in order]
        queue.insert(chance.randrange(len(queue)), chance.choice(queue))  # a duplicate
        queue.insert(chance.randrange(len(queue) + 1), None)  # the message itself
        queues[f"wamid.{n}"] = queue
    while any(queues.values()):
        for wamid, queue in queues.items():
            if queue and queue[0] is None:
                queue.pop(0)
                await accept(wamid)
        reports = [queue.pop(0) for queue in queues.values() if queue and queue[0] is not None]
        if reports:
            await inbox.take(webhook(tenant, statuses=reports))
    messages = await outbound_messages(look, tenant)
    for n, order in enumerate(orders):
        message, expected = messages[f"wamid.{n}"], outcome(order)
        assert message.status == expected, order
        assert (message.error == explain(131026)) == (expected == "failed"), order
        if expected in REPORTS:
            reported = int(REPORTS[expected]["timestamp"])
            assert message.status_at == datetime.fromtimestamp(reported, UTC), order
    assert await look.items() == []


async def test_why_it_failed_is_said_in_words(
    inbox: Inbox, look: Look, tenant: TenantFixture, accept: Accept
) -> None:
    await accept("wamid.1")
    await accept("wamid.2")
    await inbox.take(
        webhook(tenant, statuses=[failed("wamid.1", 131047), status("wamid.2", "failed", errors="what?")])
    )
    messages = await outbound_messages(look, tenant)
    assert messages["wamid.1"].error == explain(131047)
    unknown = messages["wamid.2"].error
    assert unknown is not None
    assert unknown.title


async def test_a_status_reports_nothing_about_what_a_customer_wrote(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.take(webhook(tenant, messages=[text("wamid.1", "Hello")]))
    await inbox.take(webhook(tenant, statuses=[status("wamid.1", "read")]))
    (message,) = await look.messages(tenant)
    assert (message.status, message.version) == (DeliveryStatus.RECEIVED, 1)


async def test_a_status_links_the_identities_of_somebody_known(
    inbox: Inbox, look: Look, tenant: TenantFixture, accept: Accept
) -> None:
    await accept("wamid.1")
    await inbox.take(webhook(tenant, statuses=[status("wamid.1", "sent", recipient_user_id="DE.1")]))
    await inbox.take(webhook(tenant, messages=[text("wamid.2", "no phone shown", phone=None, bsuid="DE.1")]))
    assert len(await look.messages(tenant)) == 3


async def test_a_status_about_a_stranger_makes_nobody_up(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.take(
        webhook(
            tenant,
            statuses=[status("wamid.foreign", "read", phone="555", recipient_user_id="DE.9")],
            contacts=[contact("Stranger", phone="555", bsuid="DE.9")],
        )
    )
    assert await look.conversations(tenant) == []
    assert await look.items() == []


async def test_a_status_that_crosses_the_answer_to_the_send_is_not_forgotten(
    database: Database, inbox: Inbox, look: Look, tenant: TenantFixture, accept: Accept
) -> None:
    """Each transaction starts before the other has committed: the status must be applied all the same."""
    message_id = await accept("wamid.before")
    await inbox.store(webhook(tenant, statuses=[status("wamid.after", "read")]))
    await inbox.splitter.step()
    async with database.tenant(tenant.id) as work:
        await work.execute(
            sql("UPDATE message SET wamid = 'wamid.after' WHERE tenant_id = :tenant AND id = :id"),
            {"tenant": tenant.id, "id": message_id},
        )
        # The status is applied while this transaction has stored the wamid but not committed it.
        async with asyncio.timeout(5):
            while await inbox.lanes.step():
                pass
        await service.apply_waiting_statuses(work, [(tenant.number_id, "wamid.after")])
    assert (await outbound_messages(look, tenant))["wamid.after"].status is DeliveryStatus.READ


async def test_a_status_waits_for_the_send_that_is_pairing_it(
    database: Database, inbox: Inbox, look: Look, tenant: TenantFixture, accept: Accept
) -> None:
    message_id = await accept("wamid.before")
    await inbox.store(webhook(tenant, statuses=[status("wamid.after", "read")]))
    await inbox.splitter.step()
    async with database.tenant(tenant.id) as work:
        await work.execute(
            sql("UPDATE message SET wamid = 'wamid.after' WHERE tenant_id = :tenant AND id = :id"),
            {"tenant": tenant.id, "id": message_id},
        )
        await service.apply_waiting_statuses(work, [(tenant.number_id, "wamid.after")])
        applying = asyncio.create_task(inbox.lanes.step())
        await asyncio.sleep(0.3)
        assert not applying.done()
    await applying
    assert (await outbound_messages(look, tenant))["wamid.after"].status is DeliveryStatus.READ


async def test_a_status_settles_a_send_whose_answer_was_lost(
    database: Database, relay_secrets: Secrets, inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.take(webhook(tenant, messages=[text("wamid.in", "Hello", at=int(time.time()))]))
    conversation = await look.conversation(tenant)
    identity = Identity(
        tenant_id=tenant.id,
        user_id=tenant.user_id,
        session_id=ids.new_id(),
        role="owner",
        name="Owner",
        expires_at=clock.now() + timedelta(minutes=5),
    )
    request = SendMessageRequest(ids.new_id(), TextContent("Yes"))
    await outbound.send_message(database, identity, conversation.id, request)
    async with database.system() as work:
        (claim,) = (await pacing.claim(work, 1, lease=45)).taken
    data = callback.encode(relay_secrets, tenant.id, claim.attempt_id)
    forged = callback.encode(relay_secrets, tenant.id, ids.new_id())[:-1] + "0"
    await inbox.take(
        webhook(tenant, statuses=[status("wamid.other", "read", biz_opaque_callback_data=forged)]),
        webhook(tenant, statuses=[status("wamid.1", "delivered", biz_opaque_callback_data=data)]),
    )
    message = (await outbound_messages(look, tenant))["wamid.1"]
    assert (message.id, message.status) == (request.client_id, DeliveryStatus.DELIVERED)
