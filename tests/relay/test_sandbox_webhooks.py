"""The sandbox's webhooks: signed, escaped, batched, repeated until taken, in any order, more than once."""

import asyncio
import itertools
import json
import re
from collections import Counter
from typing import Any

import pytest

from tests.sandbox_client import Callback, Delivery, SandboxClient

CUSTOMER = "4915550100200"
AT_ONCE = {"sent_seconds": [0, 0], "delivered_seconds": [0, 0], "read_seconds": [0, 0]}
QUICK = {"sent_seconds": [0, 0.02], "delivered_seconds": [0, 0.02], "read_seconds": [0, 0.02]}


async def test_signature_and_headers(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    await sandbox.quiet()
    (delivery,) = callback.deliveries
    assert delivery.signed_by(sandbox.facts.app_secret)
    assert not delivery.signed_by("another secret")
    assert delivery.headers["content-type"] == "application/json"
    assert re.fullmatch(r"sha1=[0-9a-f]{40}", delivery.headers["x-hub-signature"])


async def test_a_rotated_secret_signs_what_follows(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback, app_secret="the next secret")
    await sandbox.say(CUSTOMER, "Hi")
    await sandbox.quiet()
    assert callback.deliveries[0].signed_by("the next secret")


async def test_escapes_like_meta(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    text = "Grüße 👋 https://example.com/a\u2028"
    await sandbox.say(CUSTOMER, text)
    await sandbox.quiet()
    body = callback.deliveries[0].body
    assert body.isascii()
    assert b"Gr\\u00fc\\u00dfe \\ud83d\\udc4b https:\\/\\/example.com\\/a\\u2028" in body
    assert b"/" not in body.replace(b"\\/", b"")
    assert callback.messages()[0]["text"]["body"] == text


async def test_message_value(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    quoted = (await sandbox.send_text(CUSTOMER)).json()["messages"][0]["id"]
    await sandbox.quiet()
    callback.deliveries.clear()
    wamid = await sandbox.say(CUSTOMER, "Hi", name="Jürgen", timestamp=1790000000, reply_to=quoted)
    await sandbox.quiet()
    document = callback.deliveries[0].document
    (change,) = document["entry"][0]["changes"]
    value = change["value"]
    bsuid = value["contacts"][0]["user_id"]
    assert document["object"] == "whatsapp_business_account"
    assert (document["entry"][0]["id"], change["field"]) == (sandbox.facts.waba_id, "messages")
    assert value == {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550102030", "phone_number_id": sandbox.number_id},
        "contacts": [{"profile": {"name": "Jürgen"}, "wa_id": CUSTOMER, "user_id": bsuid}],
        "messages": [
            {
                "from": CUSTOMER,
                "from_user_id": bsuid,
                "id": wamid,
                "timestamp": "1790000000",
                "context": {"from": "15550102030", "id": quoted},
                "type": "text",
                "text": {"body": "Hi"},
            }
        ],
    }


@pytest.mark.parametrize(
    ("identity", "in_contact", "in_message"),
    [
        ("phone+bsuid", {"wa_id", "user_id"}, {"from", "from_user_id"}),
        ("bsuid", {"user_id"}, {"from_user_id"}),
        ("phone", {"wa_id"}, {"from"}),
    ],
)
async def test_identity_modes(
    sandbox: SandboxClient, callback: Callback, identity: str, in_contact: set[str], in_message: set[str]
) -> None:
    await sandbox.settings(**AT_ONCE)
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi", identity=identity)
    await sandbox.send_text(CUSTOMER)
    await sandbox.quiet()
    values = [change["value"] for change in callback.changes()]
    assert all(value["contacts"][0].keys() == {"profile"} | in_contact for value in values)
    assert callback.messages()[0].keys() == {"id", "timestamp", "type", "text"} | in_message
    in_status = {
        name.replace("from_user", "recipient_user").replace("from", "recipient_id") for name in in_message
    }
    for status in callback.statuses():
        assert {name for name in status if name.startswith("recipient")} == in_status


async def test_statuses_carry_callback_data_and_price(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.settings(**QUICK, parallel=1)
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    answer = await sandbox.send_text(CUSTOMER, biz_opaque_callback_data="ours/1")
    await sandbox.quiet()
    statuses = callback.statuses()
    assert [status["status"] for status in statuses] == ["sent", "delivered", "read"]
    assert {status["id"] for status in statuses} == {answer.json()["messages"][0]["id"]}
    assert {status["biz_opaque_callback_data"] for status in statuses} == {"ours/1"}
    assert ["pricing" in status for status in statuses] == [True, True, False]
    assert statuses[0]["pricing"].keys() == {"billable", "pricing_model", "category", "type"}
    assert statuses[0]["pricing"]["category"] == "service"
    assert not any("conversation" in status for status in statuses)
    assert all(change["value"]["contacts"] for change in callback.changes())


async def test_failed_statuses_have_errors_and_no_contacts(
    sandbox: SandboxClient, callback: Callback
) -> None:
    await sandbox.use_callback(callback)
    await sandbox.send_text(CUSTOMER)  # this customer never wrote
    await sandbox.quiet()
    (change,) = callback.changes()
    assert "contacts" not in change["value"]
    (status,) = change["value"]["statuses"]
    assert (status["status"], status["errors"][0]["code"], "pricing" in status) == ("failed", 131047, False)


async def test_read_receipts_can_be_off(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    await sandbox.settings(**AT_ONCE, read_receipts=False)
    await sandbox.control("PATCH", "customers/4915550100999", {"read_receipts": True})
    for customer in (CUSTOMER, "4915550100999"):
        await sandbox.say(customer, "Hi")
        await sandbox.send_text(customer)
    await sandbox.quiet()
    seen = Counter((status["recipient_id"], status["status"]) for status in callback.statuses())
    assert seen[(CUSTOMER, "read")] == 0
    assert seen[(CUSTOMER, "delivered")] == seen[("4915550100999", "read")] == 1


async def test_statuses_in_random_order(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.settings(**QUICK, order="random", scatter_seconds=0, parallel=1, pair_limit_speed=0)
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    for _ in range(30):
        await sandbox.send_text(CUSTOMER)
    await sandbox.quiet()
    by_message: dict[str, list[str]] = {}
    for status in callback.statuses():
        by_message.setdefault(status["id"], []).append(status["status"])
    assert all(sorted(seen) == ["delivered", "read", "sent"] for seen in by_message.values())
    assert len({tuple(seen) for seen in by_message.values()}) >= 4  # of 6 possible orders


async def test_duplicates(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.settings(duplicate_rate=1, scatter_seconds=0.05)
    await sandbox.use_callback(callback)
    wamids = [await sandbox.say(CUSTOMER, f"Message {index}") for index in range(10)]
    await sandbox.quiet()
    assert Counter(message["id"] for message in callback.messages()) == dict.fromkeys(wamids, 2)


async def test_batches_share_entries_changes_and_lists(sandbox: SandboxClient, callback: Callback) -> None:
    other = await sandbox.add_number(waba_id="777", app_id=sandbox.facts.app_id)
    await sandbox.settings(batch_max=100, batch_seconds=0.3, number_limit_speed=0)
    await sandbox.use_callback(callback)
    await sandbox.quiet()
    wamids = []
    for index in range(60):
        number = other["phone_number_id"] if index % 20 >= 15 else sandbox.number_id
        wamids.append(await sandbox.say(f"49155501{index:04}", f"{index}", phone_number_id=number))
    await sandbox.quiet()
    assert len(callback.deliveries) < 15
    assert sorted(message["id"] for message in callback.messages()) == sorted(wamids)
    entries = [entry for delivery in callback.deliveries for entry in delivery.document["entry"]]
    assert max(len(delivery.document["entry"]) for delivery in callback.deliveries) > 1
    assert max(len(entry["changes"]) for entry in entries) > 1
    assert max(len(change["value"]["messages"]) for change in callback.changes()) > 1
    for change in callback.changes():  # everyone named, once
        senders = [message["from"] for message in change["value"]["messages"]]
        assert [contact["wa_id"] for contact in change["value"]["contacts"]] == senders


async def test_a_batch_never_exceeds_its_limit(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.settings(batch_max=4, batch_seconds=0.2, number_limit_speed=0)
    await sandbox.use_callback(callback)
    for index in range(21):
        await sandbox.say(CUSTOMER, f"{index}")
    await sandbox.quiet()
    sizes = [len(_items(delivery)) for delivery in callback.deliveries]
    assert (sum(sizes), max(sizes)) == (21, 4)


def _items(delivery: Delivery) -> list[Any]:
    changes = (change for entry in delivery.document["entry"] for change in entry["changes"])
    return [item for change in changes for item in change["value"]["messages"]]


@pytest.mark.parametrize("refusal", [500, 503, 404, 204])
async def test_retries_the_same_body_until_200(
    sandbox: SandboxClient, callback: Callback, refusal: int
) -> None:
    async def refuse_three_times(_delivery: Delivery) -> int:
        return refusal if len(callback.deliveries) <= 3 else 200

    callback.answer = refuse_three_times
    await sandbox.settings(retry_scale=0.02)
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    await sandbox.quiet()
    assert len(callback.deliveries) == 4
    assert len({delivery.body for delivery in callback.deliveries}) == 1
    attempts = await sandbox.control("GET", "webhooks/attempts")
    assert [(attempt["attempt"], attempt["status"]) for attempt in attempts] == [
        (1, refusal), (2, refusal), (3, refusal), (4, 200),
    ]  # fmt: skip
    pauses = [later["at"] - earlier["at"] for earlier, later in itertools.pairwise(attempts)]
    assert pauses == sorted(pauses)


async def test_retries_after_hang_ups_and_silence(sandbox: SandboxClient, callback: Callback) -> None:
    async def misbehave(_delivery: Delivery) -> int:
        # A hang-up on a connection that was open before is tried once more at once: it may have been stale.
        if len(callback.deliveries) <= 2:
            raise ConnectionError
        if len(callback.deliveries) == 3:
            await asyncio.sleep(0.5)
        return 200

    callback.answer = misbehave
    await sandbox.settings(retry_scale=0.02, timeout_seconds=0.2)
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    await sandbox.quiet()
    attempts = await sandbox.control("GET", "webhooks/attempts")
    assert [attempt["status"] for attempt in attempts] == [None, None, 200]
    assert "TimeoutError" in attempts[1]["error"]


async def test_gives_up_after_seven_scaled_days(sandbox: SandboxClient, callback: Callback) -> None:
    async def refuse(_delivery: Delivery) -> int:
        return 500

    callback.answer = refuse
    await sandbox.settings(retry_scale=0.000001)  # 0.6 s
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    await sandbox.quiet()
    stats = await sandbox.stats()
    assert (stats["updates_given_up"], stats["posts_taken"]) == (1, 0)
    assert len(callback.deliveries) > 5


async def test_delivers_in_parallel(sandbox: SandboxClient, callback: Callback) -> None:
    under_way, most = 0, 0

    async def slowly(_delivery: Delivery) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.1)
        under_way -= 1
        return 200

    callback.answer = slowly
    await sandbox.settings(parallel=4)
    await sandbox.use_callback(callback)
    for index in range(12):
        await sandbox.say(CUSTOMER, f"{index}")
    await sandbox.quiet()
    assert most == 4


async def test_pause_holds_and_resume_delivers(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    await sandbox.control("POST", "webhooks/pause")
    await sandbox.say(CUSTOMER, "held")
    await asyncio.sleep(0.2)
    assert callback.deliveries == []
    await sandbox.control("POST", "webhooks/resume")
    await sandbox.quiet()
    assert [message["text"]["body"] for message in callback.messages()] == ["held"]


async def test_updates_wait_until_the_callback_is_verified(
    sandbox: SandboxClient, callback: Callback
) -> None:
    callback.verify_token = "another token"
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    app = await sandbox.control("POST", f"apps/{sandbox.facts.app_id}/verify")
    (state,) = app["callbacks"]
    assert (state["state"], state["waiting"]) == ("pending", 1)
    assert "403" in state["reason"]
    assert callback.deliveries == []
    callback.verify_token = sandbox.facts.verify_token  # the sandbox keeps trying
    await sandbox.quiet()
    assert len(callback.messages()) == 1


async def test_the_challenge_must_be_the_whole_answer(sandbox: SandboxClient, callback: Callback) -> None:
    callback.challenge = lambda challenge: json.dumps(challenge).encode()
    await sandbox.use_callback(callback)
    app = await sandbox.control("POST", f"apps/{sandbox.facts.app_id}/verify")
    assert "challenge" in app["callbacks"][0]["reason"]


async def test_callbacks_set_through_graph_are_verified_first(
    sandbox: SandboxClient, callback: Callback
) -> None:
    path, app_token = (
        f"{sandbox.facts.app_id}/subscriptions",
        f"{sandbox.facts.app_id}|{sandbox.facts.app_secret}",
    )
    wanted = {"object": "whatsapp_business_account", "callback_url": callback.url, "fields": "messages"}
    callback.verify_token = "the token of the test"
    refused = await sandbox.graph("POST", path, {**wanted, "verify_token": "x"}, token=app_token)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, 2200)
    taken = await sandbox.graph(
        "POST", path, {**wanted, "verify_token": callback.verify_token}, token=app_token
    )
    assert taken.json() == {"success": True}
    await sandbox.say(CUSTOMER, "Hi")
    await sandbox.control("POST", "webhooks/raw", {"field": "account_alerts", "value": {}})  # not subscribed
    await sandbox.quiet()
    assert [change["field"] for change in callback.changes()] == ["messages"]


async def test_override_of_an_account_gets_messages_only(sandbox: SandboxClient, callback: Callback) -> None:
    override = Callback(verify_token="override token")
    server = await asyncio.start_server(override.serve, "127.0.0.1", 0)
    override.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        await sandbox.use_callback(callback)
        body = {"override_callback_uri": override.url, "verify_token": "override token"}
        answer = await sandbox.graph("POST", f"{sandbox.facts.waba_id}/subscribed_apps", body)
        assert answer.json() == {"success": True}
        await sandbox.say(CUSTOMER, "Hi")
        await sandbox.control("POST", "webhooks/raw", {"field": "account_alerts", "value": {"alert": 1}})
        await sandbox.quiet()
        assert [change["field"] for change in override.changes()] == ["messages"]
        assert [change["field"] for change in callback.changes()] == ["account_alerts"]
        for connection in list(override.connections):
            connection.cancel()


async def test_tenants_get_their_own_updates_with_their_own_secrets(
    sandbox: SandboxClient, callback: Callback
) -> None:
    await sandbox.use_callback(callback)
    tenant = Callback(verify_token="tenant token")
    server = await asyncio.start_server(tenant.serve, "127.0.0.1", 0)
    tenant.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        number = await sandbox.add_number(
            waba_id="888", app_secret="tenant secret", access_token="EAAtenant",
            callback_url=tenant.url, verify_token="tenant token",
        )  # fmt: skip
        await sandbox.say(CUSTOMER, "to the demo")
        await sandbox.say(CUSTOMER, "to the tenant", phone_number_id=number["phone_number_id"])
        await sandbox.quiet()
        for receiver, secret, text in (
            (callback, sandbox.facts.app_secret, "to the demo"),
            (tenant, "tenant secret", "to the tenant"),
        ):
            assert [message["text"]["body"] for message in receiver.messages()] == [text]
            assert receiver.deliveries[0].signed_by(secret)
        # One person has another BSUID in every portfolio.
        bsuids = {receiver.messages()[0]["from_user_id"] for receiver in (callback, tenant)}
        assert len(bsuids) == 2
        for connection in list(tenant.connections):
            connection.cancel()


async def test_raw_updates_and_bodies(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    value = {"messaging_product": "whatsapp", "new_thing": [1, {"a": None}], "messages": [{"odd": True}]}
    await sandbox.control("POST", "webhooks/raw", {"value": value})
    wamid = await sandbox.say(
        CUSTOMER, message={"type": "hologram", "hologram": {"frames": 3}, "from_logical_id": "L1"}
    )
    await sandbox.quiet()
    assert callback.changes()[0]["value"] == value
    message = callback.messages()[1]
    assert (message["id"], message["type"], message["hologram"]) == (wamid, "hologram", {"frames": 3})

    callback.deliveries.clear()
    for signature in ("good", "bad", "none"):
        await sandbox.control("POST", "webhooks/body", {"body": "not json", "signature": signature})
    good, bad, none = callback.deliveries
    assert {delivery.body for delivery in callback.deliveries} == {b"not json"}
    assert good.signed_by(sandbox.facts.app_secret)
    assert not bad.signed_by(sandbox.facts.app_secret)
    assert "x-hub-signature-256" not in none.headers
