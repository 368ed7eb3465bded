"""Every action that clients can see is announced: an old state and the feed make what a fresh start shows."""

import inspect
import time
from datetime import timedelta
from types import ModuleType

import pytest

from relay.conversations import service as conversations_service
from relay.kit import clock
from relay.meta.graph import NotSent, Refused, Unknown
from relay.outbound import service as outbound_service
from relay.outbound.attempt_queries import overdue
from relay.outbound.service import look_into, mark_not_sent, send_again, settle_by_callback
from shared.wire.inbox import Message
from tests import meta_webhooks
from tests.relay.sync.desk import TIMES, Desk
from tests.relay.sync.model_client import verify_action

PHONE, BSUID = "4915550100200", "DE.1234567890"


async def _answered(desk: Desk) -> None:
    """A conversation with one message in and one out, which Meta has taken."""
    await desk.customer_writes(name="Ada")
    (conversation,) = await desk.conversations()
    await desk.agent_writes(conversation)


# --- customers ------------------------------------------------------------------------------------


async def test_a_new_customer_writes(desk: Desk) -> None:
    async with verify_action(desk.database, desk.tenant.id) as client:
        await desk.customer_writes("First words", name="Ada")
    (conversation,) = client.conversations.values()
    (message,) = client.messages.values()
    assert conversation.unread_count == 1
    assert conversation.last_message is not None
    assert conversation.last_message.id == message.id


async def test_a_known_customer_writes_again(desk: Desk) -> None:
    await desk.customer_writes(name="Ada")
    async with verify_action(desk.database, desk.tenant.id):
        await desk.customer_writes("More words", name="Ada")


async def test_an_older_message_arrives_late(desk: Desk) -> None:
    await desk.customer_writes()
    async with verify_action(desk.database, desk.tenant.id):
        await desk.customer_writes("Sent earlier", at=time.time() - 3600)


async def test_a_customer_changes_their_name(desk: Desk) -> None:
    await desk.customer_writes(name="Ada")
    async with verify_action(desk.database, desk.tenant.id):
        await desk.customer_writes(name="Countess")


async def test_a_webhook_with_many_customers_and_one_broken_message(desk: Desk) -> None:
    messages = [
        meta_webhooks.text(
            f"wamid.m{n}", f"Hello {n}", phone=f"49155501003{n:02}", at=int(time.time()) + n % 3
        )
        for n in range(20)
    ]
    async with verify_action(desk.database, desk.tenant.id) as client:
        await desk.inbox.take(meta_webhooks.webhook(desk.tenant, messages=[*messages, {"id": 5}]))
    assert len(client.conversations) >= 20


async def test_a_customer_shows_a_second_identity(desk: Desk) -> None:
    await desk.customer_writes(phone=PHONE)
    async with verify_action(desk.database, desk.tenant.id):
        await desk.customer_writes(phone=PHONE, bsuid=BSUID)


async def test_two_customers_turn_out_to_be_one(desk: Desk) -> None:
    """Two conversations become one; the other one goes, and its messages move."""
    await desk.customer_writes(phone=PHONE, name="Ada")
    await desk.customer_writes(phone=None, bsuid=BSUID, name="Ada L.")
    assert len(await desk.conversations()) == 2
    async with verify_action(desk.database, desk.tenant.id) as client:
        await desk.customer_writes("It is me", phone=PHONE, bsuid=BSUID)
    assert len(client.conversations) == 1
    assert len(client.messages) == 3


async def test_a_status_brings_a_second_identity(desk: Desk) -> None:
    await _answered(desk)
    wamid = await desk.sender_works()
    async with verify_action(desk.database, desk.tenant.id):
        await desk.meta_reports(meta_webhooks.status(wamid, "sent", phone=PHONE, recipient_user_id=BSUID))


# --- ticks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["sent", "delivered", "read", "played"])
async def test_meta_reports(desk: Desk, value: str) -> None:
    await _answered(desk)
    wamid = await desk.sender_works()
    async with verify_action(desk.database, desk.tenant.id) as client:
        await desk.meta_reports(meta_webhooks.status(wamid, value, at=int(time.time())))
    assert value in {message.status for message in client.messages.values()}


async def test_meta_reports_a_failure(desk: Desk) -> None:
    await _answered(desk)
    wamid = await desk.sender_works()
    async with verify_action(desk.database, desk.tenant.id) as client:
        await desk.meta_reports(meta_webhooks.failed(wamid, 131026, at=int(time.time())))
    assert any(message.error for message in client.messages.values())


async def test_meta_reports_on_an_older_message(desk: Desk) -> None:
    """The list shows the newest message, so the conversation does not change."""
    await _answered(desk)
    wamid = await desk.sender_works()
    await desk.customer_writes("Thanks")
    async with verify_action(desk.database, desk.tenant.id):
        await desk.meta_reports(meta_webhooks.status(wamid, "read", at=int(time.time())))


async def test_a_status_came_before_its_message_was_known(desk: Desk) -> None:
    await _answered(desk)
    claim = await desk.claim()
    await desk.begin(claim)
    await desk.meta_reports(meta_webhooks.status("wamid.early", "delivered", at=int(time.time())))
    async with (
        verify_action(desk.database, desk.tenant.id) as client,
        desk.database.system_for(desk.tenant.id) as work,
    ):
        await settle_by_callback(work, claim.attempt_id, "wamid.early")
    assert "delivered" in {message.status for message in client.messages.values()}


# --- agents ---------------------------------------------------------------------------------------


async def test_an_agent_writes(desk: Desk) -> None:
    await desk.customer_writes()
    (conversation,) = await desk.conversations()
    async with verify_action(desk.database, desk.tenant.id):
        await desk.agent_writes(conversation)


async def test_an_agent_reads(desk: Desk) -> None:
    await desk.customer_writes()
    (conversation,) = await desk.conversations()
    async with verify_action(desk.database, desk.tenant.id) as client:
        await desk.agent_reads(conversation)
    assert client.conversations[conversation.id].unread_count == 0


# --- sending --------------------------------------------------------------------------------------


async def test_sending_begins(desk: Desk) -> None:
    await _answered(desk)
    claim = await desk.claim()
    async with verify_action(desk.database, desk.tenant.id) as client:
        await desk.begin(claim)
    assert "sending" in {message.status for message in client.messages.values()}


async def test_meta_takes_a_message(desk: Desk) -> None:
    await _answered(desk)
    async with verify_action(desk.database, desk.tenant.id) as client:
        await desk.sender_works()
    assert "accepted" in {message.status for message in client.messages.values()}


async def test_meta_refuses_a_message(desk: Desk) -> None:
    await _answered(desk)
    async with verify_action(desk.database, desk.tenant.id) as client:
        await desk.sender_works(Refused(400, 131026))
    assert "failed" in {message.status for message in client.messages.values()}


@pytest.mark.parametrize("result", [Refused(429, 131056), Refused(401, 190), NotSent("no route")], ids=str)
async def test_a_message_waits_for_another_attempt(desk: Desk, result: Refused | NotSent) -> None:
    await _answered(desk)
    async with verify_action(desk.database, desk.tenant.id):
        await desk.sender_works(result)


async def test_a_message_that_nobody_could_confirm(desk: Desk) -> None:
    await _answered(desk)
    await desk.sender_works(Unknown("the answer was lost"))
    async with verify_action(desk.database, desk.tenant.id) as client:
        await _look_into_what_is_overdue(desk)
    assert "unconfirmed" in {message.status for message in client.messages.values()}


async def test_an_agent_sends_a_failed_message_again(desk: Desk) -> None:
    message = await _with_fate(desk, Refused(400, 131026))
    async with verify_action(desk.database, desk.tenant.id) as client:
        await send_again(
            desk.database, desk.agent, message.conversation_id, message.id, may_arrive_twice=False
        )
    assert client.messages[message.id].status == "queued"


async def test_an_agent_knows_that_a_message_did_not_arrive(desk: Desk) -> None:
    message = await _with_fate(desk, Unknown("the answer was lost"))
    async with verify_action(desk.database, desk.tenant.id) as client:
        await mark_not_sent(desk.database, desk.agent, message.conversation_id, message.id)
    assert client.messages[message.id].status == "cancelled"


async def test_late_proof_that_a_message_was_sent(desk: Desk) -> None:
    await _answered(desk)
    claim = await desk.claim()
    await desk.begin(claim)
    await desk.settle(claim, Unknown("the answer was lost"))
    await _look_into_what_is_overdue(desk)
    async with (
        verify_action(desk.database, desk.tenant.id) as client,
        desk.database.system_for(desk.tenant.id) as work,
    ):
        await settle_by_callback(work, claim.attempt_id, "wamid.late")
    assert client.messages[claim.message_id].status == "accepted"


async def _with_fate(desk: Desk, result: Refused | Unknown) -> Message:
    """A message of ours that ended without reaching the customer."""
    await desk.customer_writes()
    (conversation,) = await desk.conversations()
    message = await desk.agent_writes(conversation)
    await desk.sender_works(result)
    await _look_into_what_is_overdue(desk)
    return message


async def _look_into_what_is_overdue(desk: Desk) -> None:
    """What the reconciler does, once the quiet time has passed."""
    later = clock.now() + timedelta(seconds=TIMES.quiet + 1)
    async with desk.database.system() as work:
        entries = await overdue(work, 100, now=later)
    for entry in entries:
        async with desk.database.system_for(desk.tenant.id) as tenant_work:
            await look_into(tenant_work, entry, TIMES, now=later)


# --- the list is complete -------------------------------------------------------------------------

PROVEN_ABOVE = {
    "conversations": {
        "advance_status",
        "announce_moved",
        "apply_waiting_statuses",
        "link_identities",
        "mark_read",
        "receive_messages",
        "record_statuses",
        "settle_waiting",
    },
    "outbound": {
        "begin",
        "look_into",
        "mark_not_sent",
        "send_again",
        "send_message",
        "settle",
        "settle_by_callback",
    },
}
INVISIBLE = {
    "conversations": {"list_conversations", "list_messages"},  # only read
    "outbound": {"release"},  # gives back what was never begun; the message stays queued
}


@pytest.mark.parametrize("service", [conversations_service, outbound_service], ids=lambda m: m.__name__)
def test_every_action_of_the_services_is_proven(service: ModuleType) -> None:
    """A new one needs a test above, or a reason why no client sees what it does."""
    found = {
        name
        for name, function in inspect.getmembers(service, inspect.iscoroutinefunction)
        if function.__module__ == service.__name__ and not name.startswith("_")
    }
    capability = service.__name__.split(".")[1]
    assert found == PROVEN_ABOVE[capability] | INVISIBLE[capability]
