"""What becomes of what customers write."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from relay.conversations import service
from relay.kit.db import Database
from shared.content import TextContent, UnknownContent
from shared.delivery import DeliveryStatus
from shared.wire.inbox import Direction
from tests.conftest import TenantFixture
from tests.meta_webhooks import NOW, Inbox, contact, text, webhook
from tests.relay.inbound.conftest import Look

AT = datetime.fromtimestamp(NOW, UTC)


async def test_a_text_message_becomes_a_conversation(inbox: Inbox, look: Look, tenant: TenantFixture) -> None:
    reply = {**text("wamid.2", "And this?", at=NOW + 60), "context": {"id": "wamid.0"}}
    await inbox.take(
        webhook(
            tenant,
            messages=[text("wamid.1", "Hello"), reply],
            contacts=[contact("Änne", phone="4915550100200", username="aenne")],
        )
    )
    conversation = await look.conversation(tenant)
    assert conversation.number_id == tenant.number_id
    assert (conversation.contact.name, conversation.contact.phone) == ("Änne", "4915550100200")
    assert conversation.contact.username == "aenne"
    assert conversation.unread_count == 2
    assert conversation.last_inbound_at == conversation.last_activity_at == AT + timedelta(seconds=60)
    assert conversation.last_message is not None
    assert conversation.last_message.summary == "And this?"
    first, second = await look.messages(tenant)
    assert (first.content, first.wamid, first.sent_at) == (TextContent("Hello"), "wamid.1", AT)
    assert (first.direction, first.status) == (Direction.INBOUND, DeliveryStatus.RECEIVED)
    assert (first.reply_to_wamid, second.reply_to_wamid) == (None, "wamid.0")
    assert await look.items() == []
    assert await look.heard(tenant) == [
        ("message", first.id),
        ("message", second.id),
        ("conversation", conversation.id),
    ]


async def test_duplicates_change_nothing(inbox: Inbox, look: Look, tenant: TenantFixture) -> None:
    body = webhook(
        tenant, messages=[text("wamid.1", "Hello")], contacts=[contact("Al", phone="4915550100200")]
    )
    await inbox.take(body, body)
    await inbox.take(body)
    (message,) = await look.messages(tenant)
    conversation = await look.conversation(tenant)
    assert conversation.unread_count == 1
    assert len(await look.heard(tenant)) == 2
    assert message.version == 1


async def test_messages_of_one_second_keep_the_order_in_which_they_came(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    bodies = [webhook(tenant, messages=[text(f"wamid.{n}", str(n))]) for n in range(30)]
    for start in range(0, 30, 10):
        await inbox.take(*bodies[start : start + 10])
    assert [message.wamid for message in await look.messages(tenant)] == [f"wamid.{n}" for n in range(30)]


async def test_a_late_webhook_takes_its_place_by_metas_time(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.take(webhook(tenant, messages=[text("wamid.2", "second", at=NOW + 500)]))
    await inbox.take(webhook(tenant, messages=[text("wamid.1", "first", at=NOW)]))
    assert [message.wamid for message in await look.messages(tenant)] == ["wamid.1", "wamid.2"]
    conversation = await look.conversation(tenant)
    assert conversation.last_inbound_at == AT + timedelta(seconds=500)
    assert conversation.last_message is not None
    assert conversation.last_message.summary == "second"
    assert conversation.unread_count == 2


async def test_any_other_type_is_a_visible_bubble(inbox: Inbox, look: Look, tenant: TenantFixture) -> None:
    message = {**text("wamid.1", ""), "type": "hologram", "hologram": {"depth": [1, {"x": None}]}}
    await inbox.take(webhook(tenant, messages=[message]))
    (stored,) = await look.messages(tenant)
    assert stored.content == UnknownContent("hologram", message)


async def test_text_the_database_cannot_hold_is_shown_as_far_as_possible(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    body = webhook(tenant, messages=[text("wamid.1", "BODY")]).replace(b"BODY", rb"nul\u0000half\ud83d!")
    await inbox.take(body)
    (stored,) = await look.messages(tenant)
    assert stored.content == TextContent("nul�half�!")


async def test_one_number_and_person_is_one_conversation_another_number_another(
    inbox: Inbox, look: Look, tenant: TenantFixture, other_tenant: TenantFixture
) -> None:
    await inbox.take(
        webhook(tenant, messages=[text("wamid.1", "a"), text("wamid.2", "b", phone="4477")]),
        webhook(other_tenant, messages=[text("wamid.1", "same id, other number")]),
    )
    assert sorted(c.contact.phone or "" for c in await look.conversations(tenant)) == [
        "4477",
        "4915550100200",
    ]
    (message,) = await look.messages(other_tenant)
    assert message.content == TextContent("same id, other number")


# --- who is who -----------------------------------------------------------------------------------


async def test_phone_first_then_bsuid_only_is_one_person_once_both_were_seen(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.take(webhook(tenant, messages=[text("wamid.1", "by phone", phone="111")]))
    await inbox.take(webhook(tenant, messages=[text("wamid.2", "both", phone="111", bsuid="DE.1")]))
    await inbox.take(webhook(tenant, messages=[text("wamid.3", "by bsuid", phone=None, bsuid="DE.1")]))
    assert len(await look.messages(tenant)) == 3
    assert (await look.conversation(tenant)).contact.phone == "111"


async def test_two_histories_of_one_person_are_joined(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.take(
        webhook(tenant, messages=[text("wamid.1", "by phone", phone="111")]),
        webhook(tenant, messages=[text("wamid.2", "by bsuid", phone=None, bsuid="DE.1", at=NOW + 1)]),
    )
    by_id = {c.id: c for c in await look.conversations(tenant)}
    assert len(by_id) == 2
    await inbox.take(
        webhook(tenant, messages=[text("wamid.3", "both", phone="111", bsuid="DE.1", at=NOW + 2)])
    )
    conversation = await look.conversation(tenant)
    assert [m.wamid for m in await look.messages(tenant)] == ["wamid.1", "wamid.2", "wamid.3"]
    assert conversation.unread_count == 3
    assert conversation.id in by_id
    (gone,) = by_id.keys() - {conversation.id}
    assert ("conversation", gone) in await look.heard(tenant)


async def test_a_phone_that_went_to_somebody_else_does_not_mix_histories(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.take(webhook(tenant, messages=[text("wamid.1", "first owner", phone="111", bsuid="DE.1")]))
    await inbox.take(webhook(tenant, messages=[text("wamid.2", "second owner", phone="111", bsuid="DE.2")]))
    await inbox.take(webhook(tenant, messages=[text("wamid.3", "still the second", phone="111")]))
    conversations = await look.conversations(tenant)
    histories = {
        tuple(m.wamid for m in await look.messages(tenant, conversation)): conversation.contact.phone
        for conversation in conversations
    }
    assert histories == {("wamid.1",): None, ("wamid.2", "wamid.3"): "111"}


async def test_names_and_usernames_follow_the_newest_message(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    for n, (name, username) in enumerate([("Old", "old.one"), ("New", "new.one"), ("", None)]):
        entry = contact(name, phone="4915550100200", username=username)
        await inbox.take(webhook(tenant, messages=[text(f"wamid.{n}", "x")], contacts=[entry]))
    person = (await look.conversation(tenant)).contact
    assert (person.name, person.username) == ("New", "new.one")


async def test_identities_are_known_within_one_portfolio_of_one_tenant(
    inbox: Inbox, look: Look, tenant: TenantFixture, other_tenant: TenantFixture
) -> None:
    for owner in (tenant, other_tenant):
        await inbox.take(webhook(owner, messages=[text("wamid.1", "x", phone="111", bsuid="DE.1")]))
    first, second = await look.conversation(tenant), await look.conversation(other_tenant)
    assert first.contact.id != second.contact.id


# --- reading --------------------------------------------------------------------------------------


async def test_reading_lowers_the_unread_count_to_what_came_after(
    database: Database, inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.take(webhook(tenant, messages=[text(f"wamid.{n}", "x", at=NOW + n) for n in range(5)]))
    messages = await look.messages(tenant)
    conversation = await look.conversation(tenant)

    async def read(message_id: UUID) -> int:
        await service.mark_read(database, tenant.id, conversation.id, message_id)
        return (await look.conversation(tenant)).unread_count

    assert await read(messages[2].id) == 2
    assert await read(messages[0].id) == 2  # nothing is unread again
    feed = await look.heard(tenant)
    assert await read(messages[4].id) == 0
    assert await look.heard(tenant) == [*feed, ("conversation", conversation.id)]
