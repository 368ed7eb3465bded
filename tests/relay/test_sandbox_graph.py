"""The sandbox's Graph endpoints: accepted sends, refusals in Meta's shape, and never anything else."""

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sandbox_client import Callback, Facts, SandboxClient

CUSTOMER = "4915550100200"


def assert_error(response: httpx.Response, status: int, code: int) -> dict[str, Any]:
    """Meta's envelope with this code; returns the error object."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error["code"] == code, error
    assert {"message", "type", "code", "fbtrace_id"} <= error.keys()
    assert error.keys() <= {"message", "type", "code", "error_subcode", "error_data", "fbtrace_id"}
    assert response.headers["x-fb-trace-id"]
    assert re.fullmatch(r"v\d+\.\d+", response.headers["facebook-api-version"])
    return error


async def test_accepts_text(sandbox: SandboxClient) -> None:
    response = await sandbox.send_text("+49 1555 0100-200", "Grüße 👋", biz_opaque_callback_data="ours-1")
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == {"messaging_product", "contacts", "messages"}
    (contact,) = answer["contacts"]
    assert (contact["input"], contact["wa_id"]) == ("+49 1555 0100-200", CUSTOMER)
    assert re.fullmatch(r"DE\.\d+", contact["user_id"])
    assert answer["messages"][0].keys() == {"id"}  # message_status is for templates

    (send,) = await sandbox.sends()
    assert (send["wamid"], send["text"]) == (answer["messages"][0]["id"], "Grüße 👋")
    assert (send["callback_data"], send["recipient"]) == ("ours-1", CUSTOMER)


async def test_wamids_are_built_like_metas(sandbox: SandboxClient) -> None:
    sent = (await sandbox.send_text(CUSTOMER)).json()["messages"][0]["id"]
    received = await sandbox.say(CUSTOMER, "Hi")
    for wamid, direction, length in ((sent, 0x11, 18), (received, 0x12, 20)):
        raw = base64.b64decode(wamid.removeprefix("wamid."))
        head = b"\x1c\x18" + bytes([len(CUSTOMER)]) + CUSTOMER.encode() + b"\x15\x02\x00" + bytes([direction])
        assert raw.startswith(head + b"\x18" + bytes([length]))
        assert re.fullmatch(rb"[0-9A-F]{%d}\x00" % length, raw[len(head) + 2 :])


async def test_sends_by_bsuid(sandbox: SandboxClient) -> None:
    await sandbox.say("DE.4821", "Hi")
    head = {"messaging_product": "whatsapp", "type": "text", "text": {"body": "Hello"}}
    answer = (await sandbox.send({**head, "recipient": "DE.4821"})).json()
    assert answer["contacts"] == [{"input": "DE.4821", "user_id": "DE.4821"}]
    # `to` wins over `recipient`.
    both = (await sandbox.send({**head, "recipient": "DE.4821", "to": CUSTOMER})).json()
    assert both["contacts"][0]["wa_id"] == CUSTOMER


@pytest.mark.parametrize("prefix", ["v17.0/", "v26.0/", ""])
@pytest.mark.parametrize("slash", ["", "/"])
async def test_any_version_or_none(sandbox: SandboxClient, prefix: str, slash: str) -> None:
    response = await sandbox.http.get(
        f"{sandbox.facts.base_url}/{prefix}{sandbox.number_id}{slash}",
        headers={"Authorization": f"OAuth {sandbox.facts.access_token}"},
    )
    assert response.status_code == 200
    assert response.headers["facebook-api-version"] == (prefix.rstrip("/") or "v26.0")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"messaging_product": None}, 400, 100),
        ({"messaging_product": "telegram"}, 400, 100),
        ({"to": None}, 400, 100),
        ({"to": "nobody"}, 400, 100),
        ({"to": "123"}, 400, 100),
        ({"to": None, "recipient": "not-a-bsuid"}, 400, 100),
        ({"type": "fax"}, 400, 100),
        ({"text": None}, 400, 131008),
        ({"text": {}}, 400, 131008),
        ({"text": {"body": ""}}, 400, 100),
        ({"text": {"body": "x" * 4097}}, 400, 100),
        ({"text": {"body": 5}}, 400, 100),
        ({"text": "Hello"}, 400, 100),
        ({"text": {"body": "x", "preview": True}}, 400, 100),
        ({"text": {"body": "x", "preview_url": "maybe"}}, 400, 100),
        ({"client_id": "abc"}, 400, 100),
        ({"image": {"id": "1"}}, 400, 100),
        ({"context": {}}, 400, 131008),
        ({"context": {"message_id": "wamid.x", "from": "1"}}, 400, 100),
        ({"biz_opaque_callback_data": "x" * 513}, 400, 100),
        ({"recipient_type": "everybody"}, 400, 100),
        ({"to": "+1 555-010-2030"}, 400, 131021),
    ],
)
async def test_refuses_with_metas_code(
    sandbox: SandboxClient, change: dict[str, Any], status: int, code: int
) -> None:
    good = {"messaging_product": "whatsapp", "to": CUSTOMER, "type": "text", "text": {"body": "Hello"}}
    body = {name: value for name, value in {**good, **change}.items() if value is not None}
    error = assert_error(await sandbox.send(body), status, code)
    assert error["error_data"]["details"]
    assert await sandbox.sends() == []


async def test_accepts_what_is_just_inside_the_limits(sandbox: SandboxClient) -> None:
    response = await sandbox.send_text(
        CUSTOMER, "x" * 4096, biz_opaque_callback_data="x" * 512, context={"message_id": "wamid.gone"}
    )
    assert response.status_code == 200


async def test_names_the_unexpected_key(sandbox: SandboxClient) -> None:
    text = {"body": "x", "colour": "red"}
    body = {"messaging_product": "whatsapp", "to": CUSTOMER, "text": text}
    error = assert_error(await sandbox.send(body), 400, 100)
    assert error["message"] == '(#100) Unexpected key "colour" on param "text".'


@pytest.mark.parametrize(("token", "code"), [("wrong", 190), ("", 104), ("610248357190246|wrong", 190)])
async def test_refuses_tokens(sandbox: SandboxClient, token: str, code: int) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = await sandbox.http.get(f"{sandbox.facts.base_url}/v26.0/{sandbox.number_id}", headers=headers)
    assert_error(response, 401, code)
    assert response.headers["www-authenticate"].startswith('OAuth "Facebook Platform" "invalid_token"')


async def test_unknown_and_foreign_objects_look_the_same(sandbox: SandboxClient) -> None:
    other = await sandbox.add_number(waba_id="777", access_token="EAAother", app_secret="other")
    unknown = assert_error(await sandbox.graph("POST", "123456/messages", {}), 400, 100)
    foreign = assert_error(await sandbox.graph("POST", f"{other['phone_number_id']}/messages", {}), 400, 100)
    assert unknown["error_subcode"] == foreign["error_subcode"] == 33
    assert unknown["type"] == "GraphMethodException"
    assert unknown["fbtrace_id"] != foreign["fbtrace_id"]
    allowed = await sandbox.graph("GET", other["phone_number_id"], token="EAAother")
    assert allowed.status_code == 200


async def test_unknown_endpoints_answer_as_graph_does_and_are_counted(sandbox: SandboxClient) -> None:
    assert_error(await sandbox.graph("GET", f"{sandbox.number_id}/colours"), 400, 100)
    assert_error(await sandbox.graph("DELETE", f"{sandbox.number_id}/messages"), 400, 100)
    assert_error(await sandbox.graph("GET", f"{sandbox.number_id}/a/b"), 400, 2500)
    assert (await sandbox.stats())["unknown_calls"] == {
        "GET {number}/colours": 1,
        "DELETE {number}/messages": 1,
        f"GET {sandbox.number_id}/a/b": 1,
    }


async def test_forms_are_taken_like_json(sandbox: SandboxClient) -> None:
    form = {"messaging_product": "whatsapp", "to": CUSTOMER, "text": json.dumps({"body": "Formal"})}
    url = f"{sandbox.facts.base_url}/v26.0/{sandbox.number_id}/messages"
    response = await sandbox.http.post(url, data={**form, "access_token": sandbox.facts.access_token})
    assert response.status_code == 200, response.text
    assert [send["text"] for send in await sandbox.sends()] == ["Formal"]


async def test_read_receipt_and_typing(sandbox: SandboxClient) -> None:
    wamid = await sandbox.say(CUSTOMER, "Hi")
    head = {"messaging_product": "whatsapp", "status": "read"}
    for extra in ({}, {"typing_indicator": {"type": "text"}}):
        response = await sandbox.send({**head, "message_id": wamid, **extra})
        assert (response.status_code, response.json()) == (200, {"success": True})
    assert_error(await sandbox.send({**head, "message_id": "wamid.unknown"}), 400, 131009)
    assert_error(await sandbox.send(head), 400, 131008)
    assert_error(await sandbox.send({**head, "status": "delivered", "message_id": wamid}), 400, 100)
    bad_typing = {"typing_indicator": {"type": "audio"}}
    assert_error(await sandbox.send({**head, "message_id": wamid, **bad_typing}), 400, 100)


async def test_pair_limit(sandbox: SandboxClient) -> None:
    responses = [await sandbox.send_text(CUSTOMER) for _ in range(46)]
    assert [response.status_code for response in responses[:45]] == [200] * 45
    assert_error(responses[45], 400, 131056)
    assert (await sandbox.send_text("4915550100999")).status_code == 200  # others are not affected
    await sandbox.settings(pair_limit_speed=60)  # one message per 0.1 s
    await asyncio.sleep(0.25)
    assert (await sandbox.send_text(CUSTOMER)).status_code == 200
    await sandbox.settings(pair_limit_speed=0, number_limit_speed=0)
    assert {(await sandbox.send_text(CUSTOMER)).status_code for _ in range(60)} == {200}


async def test_number_limit(sandbox: SandboxClient) -> None:
    await sandbox.settings(number_limit_speed=0.01, pair_limit_speed=0)
    responses = [await sandbox.send_text(f"49155502{index:05}") for index in range(90)]
    assert [response.status_code for response in responses[:80]] == [200] * 80
    assert_error(responses[85], 400, 130429)


async def test_node_fields(sandbox: SandboxClient) -> None:
    number = (await sandbox.graph("GET", sandbox.number_id, fields="status,throughput{level}")).json()
    assert number == {"status": "CONNECTED", "throughput": {"level": "STANDARD"}, "id": sandbox.number_id}
    assert_error(await sandbox.graph("GET", sandbox.number_id, fields="colour"), 400, 100)
    waba = (await sandbox.graph("GET", sandbox.facts.waba_id)).json()
    assert waba["id"] == sandbox.facts.waba_id


async def test_pages_follow_their_next_links(sandbox: SandboxClient) -> None:
    for _ in range(3):
        await sandbox.add_number(waba_id=sandbox.facts.waba_id)
    seen: list[str] = []
    page = (await sandbox.graph("GET", f"{sandbox.facts.waba_id}/phone_numbers", limit=2)).json()
    while True:
        seen += [number["id"] for number in page["data"]]
        if "next" not in page["paging"]:
            break
        page = (await sandbox.http.get(page["paging"]["next"])).json()
    assert len(seen) == len(set(seen)) == 5
    wrong = await sandbox.graph("GET", f"{sandbox.facts.waba_id}/phone_numbers", after="nonsense")
    assert_error(wrong, 400, 131059)


async def test_debug_token_names_the_granted_accounts(sandbox: SandboxClient) -> None:
    app_token = f"{sandbox.facts.app_id}|{sandbox.facts.app_secret}"
    call = sandbox.graph("GET", "debug_token", token=app_token, input_token=sandbox.facts.access_token)
    data = (await call).json()["data"]
    assert data["is_valid"]
    assert data["granular_scopes"][0]["target_ids"] == [sandbox.facts.waba_id]
    wrong = await sandbox.graph("GET", "debug_token", token=app_token, input_token="EAAnone")
    assert wrong.json()["data"]["is_valid"] is False


async def test_subscribing_an_app_turns_its_webhooks_on_and_off(
    sandbox: SandboxClient, callback: Callback
) -> None:
    await sandbox.use_callback(callback)
    path = f"{sandbox.facts.waba_id}/subscribed_apps"
    assert (await sandbox.graph("DELETE", path)).json() == {"success": True}
    assert (await sandbox.graph("GET", path)).json() == {"data": []}
    await sandbox.say(CUSTOMER, "unheard")
    assert (await sandbox.graph("POST", path)).json() == {"success": True}
    await sandbox.say(CUSTOMER, "heard")
    await sandbox.quiet()
    assert [message["text"]["body"] for message in callback.messages()] == ["heard"]
    listed = (await sandbox.graph("GET", path)).json()["data"]
    assert [row["whatsapp_business_api_data"]["id"] for row in listed] == [sandbox.facts.app_id]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "messaging_product", "recipient_type", "to", "recipient", "type", "text", "context", "status",
        "biz_opaque_callback_data", "message_id", "typing_indicator", "body", "fields", "limit", "image",
        "access_token", "override_callback_uri", "verify_token",
    ]
)  # fmt: skip
VALUES = JSON | st.sampled_from(
    ["whatsapp", "text", "read", "individual", CUSTOMER, "DE.4821", {"body": "Hi"}, {"message_id": "wamid.x"}]
)
BODIES = (
    st.binary(max_size=200)
    | JSON.map(json.dumps).map(str.encode)
    | st.dictionaries(KEYS, VALUES, max_size=8).map(lambda body: json.dumps(body).encode())
    | st.dictionaries(KEYS, VALUES, max_size=6).map(
        lambda body: json.dumps({"messaging_product": "whatsapp", "to": CUSTOMER, **body}).encode()
    )
)
CONTENT_TYPES = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", ""])


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=BODIES, content_type=CONTENT_TYPES, edge=st.sampled_from(["messages", "subscribed_apps", "", "x"])
)
def test_whatever_comes_is_answered_in_metas_shape(
    sandbox_process: Facts, http: httpx.Client, body: bytes, content_type: str, edge: str
) -> None:
    headers = {"Authorization": f"Bearer {sandbox_process.access_token}", "Content-Type": content_type}
    node = sandbox_process.waba_id if edge == "subscribed_apps" else sandbox_process.phone_number_ids[0]
    url = f"{sandbox_process.base_url}/v26.0/{node}/{edge}"
    response = http.post(url, content=body, headers=headers)
    if response.status_code == 200:
        document = response.json()
        assert document == {"success": True} or document["messages"][0]["id"].startswith("wamid.")
    else:
        assert response.json()["error"]["code"]
        assert response.status_code in {400, 401, 403, 404}
    stats = http.get(f"{sandbox_process.control_url}/stats").json()
    assert stats["internal_errors"] == 0


async def test_service_window(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    a_day_ago = int(time.time()) - 24 * 3600
    await sandbox.say(CUSTOMER, "long ago", timestamp=a_day_ago - 5)
    late = (await sandbox.send_text(CUSTOMER)).json()["messages"][0]["id"]
    await sandbox.say(CUSTOMER, "just in time", timestamp=a_day_ago + 600)
    await sandbox.settings(sent_seconds=[0, 0], delivered_seconds=[0, 0], read_seconds=[0, 0])
    timely = (await sandbox.send_text(CUSTOMER)).json()["messages"][0]["id"]
    await sandbox.quiet()
    by_message = {(status["id"], status["status"]): status for status in callback.statuses()}
    assert by_message.keys() == {(late, "failed"), (timely, "sent"), (timely, "delivered"), (timely, "read")}
    (error,) = by_message[(late, "failed")]["errors"]
    assert (error["code"], error.keys()) == (131047, {"code", "title", "message", "error_data", "href"})

    await sandbox.settings(service_window="sync")
    assert_error(await sandbox.send_text("4915550100777"), 400, 131047)
