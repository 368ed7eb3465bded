"""The inbox and timelines over HTTP."""

from uuid import UUID

import httpx
import msgspec
import pytest

from relay.kit import ids
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.kit.secrets import Secrets
from shared.wire.inbox import Conversation, ConversationPage, Message, MessagePage
from tests.conftest import TenantFixture, sign_in
from tests.meta_webhooks import NOW, Inbox, text, webhook

PATH = "/api/v1/conversations"


@pytest.fixture
def inbox(database: Database, doorbell: Doorbell, relay_secrets: Secrets) -> Inbox:
    return Inbox(database, doorbell, relay_secrets)


async def conversations(client: httpx.AsyncClient, **query: str) -> ConversationPage:
    answer = await client.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=ConversationPage)


async def messages(client: httpx.AsyncClient, conversation_id: UUID, **query: str) -> MessagePage:
    answer = await client.get(f"{PATH}/{conversation_id}/messages", params=query)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=MessagePage)


async def test_the_inbox_is_read_page_by_page_newest_first(
    client: httpx.AsyncClient, inbox: Inbox, tenant: TenantFixture
) -> None:
    # Several per second, so that pages also end between rows of the same time.
    await inbox.take(
        webhook(tenant, messages=[text(f"wamid.{n}", "x", phone=str(n), at=NOW + n // 3) for n in range(10)])
    )
    await sign_in(client, tenant)
    found: list[Conversation] = []
    query = {"limit": "4"}
    sizes = []
    while True:
        page = await conversations(client, **query)
        sizes.append(len(page.items))
        found += page.items
        if page.next_cursor is None:
            break
        query["cursor"] = page.next_cursor
    assert sizes == [4, 4, 2]
    assert found == sorted(found, key=lambda c: (c.last_activity_at, c.id), reverse=True)
    assert {conversation.contact.phone for conversation in found} == {str(n) for n in range(10)}
    assert found == (await conversations(client)).items


async def test_a_timeline_is_read_page_by_page_newest_first(
    client: httpx.AsyncClient, inbox: Inbox, tenant: TenantFixture
) -> None:
    await inbox.take(
        webhook(tenant, messages=[text(f"wamid.{n}", str(n), at=NOW + n // 4) for n in range(11)])
    )
    await sign_in(client, tenant)
    (conversation,) = (await conversations(client)).items
    found: list[Message] = []
    query = {"limit": "3"}
    while True:
        page = await messages(client, conversation.id, **query)
        found += page.items
        if page.next_before is None:
            break
        query["before"] = page.next_before
    assert [message.wamid for message in found] == [f"wamid.{n}" for n in reversed(range(11))]
    assert conversation.last_message is not None
    assert conversation.last_message.id == found[0].id


async def test_an_empty_inbox_is_one_empty_page(client: httpx.AsyncClient, tenant: TenantFixture) -> None:
    await sign_in(client, tenant)
    assert await conversations(client) == ConversationPage([], None)


async def test_an_agent_says_what_was_seen(
    client: httpx.AsyncClient, inbox: Inbox, tenant: TenantFixture
) -> None:
    await inbox.take(webhook(tenant, messages=[text(f"wamid.{n}", "x", at=NOW + n) for n in range(3)]))
    await sign_in(client, tenant)
    (conversation,) = (await conversations(client)).items
    timeline = (await messages(client, conversation.id)).items
    path = f"{PATH}/{conversation.id}/read"
    for seen, unread in ((timeline[1], 1), (timeline[2], 1), (timeline[0], 0)):
        answer = await client.post(path, json={"message_id": str(seen.id)})
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await conversations(client)).items[0].unread_count == unread


async def test_nothing_of_another_tenant_is_found(
    client: httpx.AsyncClient, inbox: Inbox, tenant: TenantFixture, other_tenant: TenantFixture
) -> None:
    await inbox.take(
        webhook(tenant, messages=[text("wamid.1", "x")]),
        webhook(other_tenant, messages=[text("wamid.2", "y")]),
    )
    await sign_in(client, other_tenant)
    (theirs,) = (await conversations(client)).items
    (their_message,) = (await messages(client, theirs.id)).items
    await sign_in(client, tenant)
    (ours,) = (await conversations(client)).items
    assert ours.id != theirs.id
    for conversation_id in (theirs.id, ids.new_id()):
        answers = [
            await client.get(f"{PATH}/{conversation_id}/messages"),
            await client.post(f"{PATH}/{conversation_id}/read", json={"message_id": str(their_message.id)}),
        ]
        assert [(a.status_code, a.json()["code"]) for a in answers] == [(404, "not_found")] * 2
    mixed = await client.post(f"{PATH}/{ours.id}/read", json={"message_id": str(their_message.id)})
    assert (mixed.status_code, mixed.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "cursor", ["", "x", "äö", "AAAA", "A" * 32 + "=", "////////////////////////////////"]
)
async def test_a_cursor_that_the_relay_did_not_make_is_refused(
    client: httpx.AsyncClient, inbox: Inbox, tenant: TenantFixture, cursor: str
) -> None:
    await inbox.take(webhook(tenant, messages=[text("wamid.1", "x")]))
    await sign_in(client, tenant)
    (conversation,) = (await conversations(client)).items
    for path, name in ((PATH, "cursor"), (f"{PATH}/{conversation.id}/messages", "before")):
        answer = await client.get(path, params={name: cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x"])
async def test_a_limit_out_of_range_is_refused(
    client: httpx.AsyncClient, tenant: TenantFixture, limit: str
) -> None:
    await sign_in(client, tenant)
    answer = await client.get(PATH, params={"limit": limit})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_all_of_it_needs_a_token(client: httpx.AsyncClient, tenant: TenantFixture) -> None:
    some = ids.new_id()
    answers = [
        await client.get(PATH),
        await client.get(f"{PATH}/{some}/messages"),
        await client.post(f"{PATH}/{some}/read", json={"message_id": str(some)}),
    ]
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(401, "unauthenticated")] * 3
