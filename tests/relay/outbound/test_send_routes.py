"""Taking messages from agents over HTTP: checks, idempotency, and what can be done about a stuck message."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from relay.kit import ids
from relay.kit.db import Database
from shared.delivery import RANK, DeliveryStatus
from tests.conftest import TenantFixture, sign_in
from tests.relay.outbound.house import House, claim


@pytest.fixture
async def conversation(house: House, client: httpx.AsyncClient, tenant: TenantFixture) -> UUID:
    """A conversation with an open window; the client is signed in."""
    await sign_in(client, tenant)
    (conversation,) = await house.conversations(1, last_inbound_at=datetime.now(UTC))
    return conversation


def request(text: str = "Hello", client_id: UUID | None = None) -> dict[str, Any]:
    return {"client_id": str(client_id or ids.new_id()), "content": {"type": "text", "body": text}}


async def post(client: httpx.AsyncClient, conversation: UUID, body: Any) -> httpx.Response:
    return await client.post(f"/api/v1/conversations/{conversation}/messages", json=body)


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code
    return problem


async def test_a_message_is_taken_queued_and_announced(
    client: httpx.AsyncClient, house: House, conversation: UUID, tenant: TenantFixture
) -> None:
    before = await house.one("SELECT last_seq FROM feed_head")
    body = request("Héllo 👋")
    answer = await post(client, conversation, body)
    assert answer.status_code == 201, answer.text
    message = answer.json()
    assert (message["id"], message["client_id"]) == (body["client_id"], body["client_id"])
    assert (message["status"], message["direction"]) == ("queued", "outbound")
    assert message["content"] == body["content"]
    assert message["author_id"] == str(tenant.user_id)
    feed = await house.one(
        "SELECT array_agg(kind || ' ' || entity_id ORDER BY seq) AS entries FROM feed WHERE seq > :seq",
        seq=before.last_seq,
    )
    assert sorted(feed.entries) == [f"conversation {conversation}", f"message {message['id']}"]
    queued = await house.one("SELECT * FROM send_queue")
    assert (queued.state, queued.priority, queued.recipient_kind) == ("queued", 0, "phone")
    row = await house.one("SELECT * FROM conversation WHERE id = :id", id=conversation)
    assert row.last_activity_at == queued.created_at


async def test_the_same_client_id_again_is_the_same_message(
    client: httpx.AsyncClient, house: House, conversation: UUID
) -> None:
    body = request()
    first = await post(client, conversation, body)
    again = await post(client, conversation, body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert (await house.one("SELECT count(*) FROM send_queue")).count == 1


async def test_many_at_once_with_one_client_id_make_one_message(
    client: httpx.AsyncClient, house: House, conversation: UUID
) -> None:
    body = request()
    answers = await asyncio.gather(*(post(client, conversation, body) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert (await house.one("SELECT count(*) FROM send_queue")).count == 1


async def test_a_client_id_stands_for_one_text_in_one_conversation(
    client: httpx.AsyncClient, house: House, conversation: UUID
) -> None:
    client_id = ids.new_id()
    (elsewhere,) = await house.conversations(1, last_inbound_at=datetime.now(UTC))
    assert (await post(client, conversation, request("One", client_id))).status_code == 201
    assert_problem(await post(client, conversation, request("Two", client_id)), 409, "client_id_reused")
    assert_problem(await post(client, elsewhere, request("One", client_id)), 409, "client_id_reused")
    assert (await house.one("SELECT count(*) FROM message")).count == 1


async def test_two_tenants_may_use_one_client_id_and_see_nothing_of_each_other(
    client: httpx.AsyncClient,
    database: Database,
    house: House,
    conversation: UUID,
    other_tenant: TenantFixture,
) -> None:
    body = request("Mine")
    assert (await post(client, conversation, body)).status_code == 201
    theirs = House.of(database, other_tenant)
    (their_conversation,) = await theirs.conversations(1, last_inbound_at=datetime.now(UTC))
    assert_problem(await post(client, their_conversation, request()), 404, "not_found")
    await sign_in(client, other_tenant)
    assert_problem(await post(client, conversation, request()), 404, "not_found")
    retry = f"/api/v1/conversations/{conversation}/messages/{body['client_id']}/retry"
    assert_problem(await client.post(retry, json={"may_arrive_twice": True}), 404, "not_found")
    assert (
        await post(client, their_conversation, request("Theirs", UUID(body["client_id"])))
    ).status_code == 201
    assert (await house.message(UUID(body["client_id"]))).content["body"] == "Mine"


@pytest.mark.parametrize(
    "text", ["", "  \n\t ", "x" * 4097, "zero\0byte"], ids=["empty", "blank", "too long", "zero byte"]
)
async def test_texts_that_meta_would_refuse(client: httpx.AsyncClient, conversation: UUID, text: str) -> None:
    problem = assert_problem(await post(client, conversation, request(text)), 400, "invalid_request")
    assert [error["pointer"] for error in problem["errors"]] == ["/content/body"]


async def test_the_longest_text_is_taken(client: httpx.AsyncClient, conversation: UUID) -> None:
    assert (await post(client, conversation, request("é" * 4096))).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"client_id": "no", "content": {"type": "text", "body": "x"}}',
        b'{"client_id": "01a20528-69cb-7019-a166-0ceb9b2410f0", "content": {"type": "image", "body": "x"}}',
        (
            b'{"client_id": "01a20528-69cb-7019-a166-0ceb9b2410f0", '
            b'"content": {"type": "text", "body": "\\ud800"}}'
        ),
    ],
)
async def test_bodies_that_are_no_message(client: httpx.AsyncClient, conversation: UUID, body: bytes) -> None:
    answer = await client.post(
        f"/api/v1/conversations/{conversation}/messages",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert_problem(answer, 400, "invalid_request")


async def test_without_signing_in_nothing_is_taken(client: httpx.AsyncClient, conversation: UUID) -> None:
    del client.headers["Authorization"]
    assert_problem(await post(client, conversation, request()), 401, "unauthenticated")


async def test_unknown_conversations(client: httpx.AsyncClient, conversation: UUID) -> None:
    assert_problem(await post(client, uuid4(), request()), 404, "not_found")


@pytest.mark.parametrize("last_inbound_ago", [None, timedelta(hours=24, seconds=1)])
async def test_a_closed_window_is_refused_in_words(
    client: httpx.AsyncClient, house: House, conversation: UUID, last_inbound_ago: timedelta | None
) -> None:
    last = None if last_inbound_ago is None else datetime.now(UTC) - last_inbound_ago
    (closed,) = await house.conversations(1, last_inbound_at=last)
    problem = assert_problem(await post(client, closed, request()), 409, "window_closed")
    assert "24 hours" in problem["detail"]
    assert "template" in problem["detail"]
    assert (await house.one("SELECT count(*) FROM message")).count == 0


async def test_a_known_message_is_answered_after_its_window_has_closed(
    client: httpx.AsyncClient, house: House, conversation: UUID
) -> None:
    body = request()
    assert (await post(client, conversation, body)).status_code == 201
    await house.run("UPDATE conversation SET last_inbound_at = now() - interval '2 days'")
    assert (await post(client, conversation, body)).status_code == 200


async def test_a_customer_without_a_phone_number_is_reached_by_id(
    client: httpx.AsyncClient, database: Database, house: House, conversation: UUID
) -> None:
    await house.run("UPDATE contact_identity SET kind = 'bsuid', value = 'DE.4821'")
    assert (await post(client, conversation, request())).status_code == 201
    (taken,) = await claim(database)
    assert (taken.recipient, taken.recipient_kind) == ("DE.4821", "bsuid")


async def test_a_customer_without_any_identity_cannot_be_reached(
    client: httpx.AsyncClient, house: House, conversation: UUID
) -> None:
    await house.run("DELETE FROM contact_identity")
    assert_problem(await post(client, conversation, request()), 409, "conflict")


async def test_a_message_says_at_once_that_its_number_is_held(
    client: httpx.AsyncClient, house: House, conversation: UUID
) -> None:
    assert (await post(client, conversation, request())).json()["error"] is None
    await house.run("UPDATE number_pace SET hold_code = 190, hold_until = now() + interval '1 minute'")
    message = (await post(client, conversation, request())).json()
    assert (message["status"], message["error"]["meta_code"]) == ("queued", 190)


async def put_message(house: House, message_id: str, status: DeliveryStatus) -> None:
    """As if its first attempt had ended like this."""
    await house.run("DELETE FROM send_queue")
    await house.run(
        "UPDATE message SET status = :status, status_rank = :rank, wamid = 'wamid.1' WHERE id = :id",
        status=status,
        rank=RANK[status],
        id=message_id,
    )


async def test_a_failed_message_is_sent_again(
    client: httpx.AsyncClient, database: Database, house: House, conversation: UUID
) -> None:
    message = (await post(client, conversation, request())).json()
    (first,) = await claim(database)
    await put_message(house, message["id"], DeliveryStatus.FAILED)
    path = f"/api/v1/conversations/{conversation}/messages/{message['id']}/retry"
    again = (await client.post(path, json={})).json()
    assert (again["id"], again["status"], again["wamid"]) == (message["id"], "queued", None)
    assert again["version"] > message["version"]
    (second,) = await claim(database)
    assert (second.message_id, second.attempt) == (first.message_id, first.attempt + 1)
    assert_problem(await client.post(path, json={}), 409, "conflict")


async def test_an_unconfirmed_message_is_sent_again_only_knowingly(
    client: httpx.AsyncClient, database: Database, house: House, conversation: UUID
) -> None:
    message = (await post(client, conversation, request())).json()
    await put_message(house, message["id"], DeliveryStatus.UNCONFIRMED)
    path = f"/api/v1/conversations/{conversation}/messages/{message['id']}/retry"
    assert_problem(await client.post(path, json={}), 409, "conflict")
    assert (await client.post(path, json={"may_arrive_twice": True})).json()["status"] == "queued"
    assert len(await claim(database)) == 1


async def test_an_unconfirmed_message_can_be_marked_as_not_sent(
    client: httpx.AsyncClient, house: House, conversation: UUID
) -> None:
    message = (await post(client, conversation, request())).json()
    path = f"/api/v1/conversations/{conversation}/messages/{message['id']}/not-sent"
    assert_problem(await client.post(path), 409, "conflict")
    await put_message(house, message["id"], DeliveryStatus.UNCONFIRMED)
    assert (await client.post(path)).json()["status"] == "cancelled"
