"""The sandbox's control API: faults, customers, tenants, records; and its command line."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.resources import files

import httpx
import pytest

from tests.sandbox_client import Callback, SandboxClient, run_sandbox

CUSTOMER = "4915550100200"
AT_ONCE = {"sent_seconds": [0, 0], "delivered_seconds": [0, 0], "read_seconds": [0, 0]}


@pytest.mark.parametrize("cut", ["reset", "close", "half"])
async def test_an_answer_dropped_after_acceptance(
    sandbox: SandboxClient, callback: Callback, cut: str
) -> None:
    await sandbox.settings(**AT_ONCE)
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    await sandbox.fault("drop_after", cut=cut)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await sandbox.send_text(CUSTOMER, biz_opaque_callback_data="ours-1")
    await sandbox.quiet()
    (send,) = await sandbox.sends(callback_data="ours-1")
    assert send["delivered_at"] is not None
    statuses = [
        (item["id"], item["status"], item["biz_opaque_callback_data"]) for item in callback.statuses()
    ]
    assert sorted(statuses) == [(send["wamid"], name, "ours-1") for name in ("delivered", "read", "sent")]
    assert (await sandbox.send_text(CUSTOMER)).status_code == 200  # only the next one


@pytest.mark.parametrize("cut", ["reset", "close", "half"])
async def test_a_connection_dropped_before_acceptance(sandbox: SandboxClient, cut: str) -> None:
    await sandbox.fault("drop_before", times=2, cut=cut)
    for _ in range(2):
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await sandbox.send_text(CUSTOMER)
    assert await sandbox.sends() == []
    assert (await sandbox.send_text(CUSTOMER)).status_code == 200


async def test_a_reset_is_a_reset(sandbox: SandboxClient) -> None:
    await sandbox.fault("drop_after")
    body = json.dumps({"messaging_product": "whatsapp", "to": CUSTOMER, "text": {"body": "Hi"}}).encode()
    reader, writer = await asyncio.open_connection(*sandbox.facts.base_url.removeprefix("http://").split(":"))
    head = f"POST /{sandbox.number_id}/messages?access_token={sandbox.facts.access_token} HTTP/1.1\r\n"
    writer.write(head.encode() + b"Host: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    assert len(await sandbox.sends()) == 1


async def test_refusals_on_demand(sandbox: SandboxClient) -> None:
    await sandbox.fault("refuse", code=130429, details="Slow down.")
    response = await sandbox.send_text(CUSTOMER)
    assert (response.status_code, response.json()["error"]["code"]) == (400, 130429)
    assert response.json()["error"]["error_data"]["details"] == "Slow down."
    await sandbox.fault("refuse", code=190)
    assert (await sandbox.send_text(CUSTOMER)).status_code == 401
    assert (await sandbox.send_text(CUSTOMER)).status_code == 200


async def test_html_errors_and_delays(sandbox: SandboxClient) -> None:
    await sandbox.fault("http_error", http_status=503)
    response = await sandbox.send_text(CUSTOMER)
    assert (response.status_code, response.headers["content-type"]) == (503, "text/html")
    assert await sandbox.sends() == []
    await sandbox.fault("delay", seconds=0.4)
    started = time.monotonic()
    sending = asyncio.create_task(sandbox.send_text(CUSTOMER))
    await asyncio.sleep(0.2)
    assert len(await sandbox.sends()) == 1  # accepted long before the answer
    assert (await sending).status_code == 200
    assert time.monotonic() - started >= 0.4


async def test_slow_answers(sandbox: SandboxClient) -> None:
    await sandbox.settings(answer_seconds=[0.3, 0.3])
    started = time.monotonic()
    assert (await sandbox.send_text(CUSTOMER)).status_code == 200
    assert time.monotonic() - started >= 0.3


async def test_failures_by_status(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.settings(**AT_ONCE)
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    await sandbox.fault("fail", code=131026)
    wamid = (await sandbox.send_text(CUSTOMER)).json()["messages"][0]["id"]
    await sandbox.quiet()
    (status,) = callback.statuses()
    assert (status["id"], status["status"], status["errors"][0]["code"]) == (wamid, "failed", 131026)
    (send,) = await sandbox.sends()
    assert (send["failed_code"], send["delivered_at"]) == (131026, None)


async def test_mute_sends_no_status(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    await sandbox.say(CUSTOMER, "Hi")
    await sandbox.fault("mute")
    assert (await sandbox.send_text(CUSTOMER)).status_code == 200
    await sandbox.quiet()
    assert callback.statuses() == []


async def test_faults_can_aim(sandbox: SandboxClient) -> None:
    await sandbox.fault("refuse", recipient=CUSTOMER, times=5)
    assert (await sandbox.send_text("4915550100999")).status_code == 200
    assert (await sandbox.send_text(CUSTOMER)).status_code == 500
    (fault,) = await sandbox.control("GET", "faults")
    assert (fault["hits"], fault["left"]) == (1, 4)
    await sandbox.control("DELETE", "faults")
    assert (await sandbox.send_text(CUSTOMER)).status_code == 200


async def test_faults_by_rate(sandbox: SandboxClient) -> None:
    await sandbox.settings(pair_limit_speed=0, number_limit_speed=0)
    await sandbox.fault("refuse", rate=0.5)
    seen = Counter([(await sandbox.send_text(CUSTOMER)).status_code for _ in range(100)])
    assert seen.keys() == {200, 500}
    assert 25 <= seen[200] <= 75
    assert seen[200] == len(await sandbox.sends())


async def test_faults_spare_malformed_sends(sandbox: SandboxClient) -> None:
    await sandbox.fault("drop_before")
    assert (await sandbox.send_text(CUSTOMER, "")).json()["error"]["code"] == 100
    with pytest.raises(httpx.HTTPError):
        await sandbox.send_text(CUSTOMER)


async def test_people_without_whatsapp(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    await sandbox.control("PATCH", f"customers/{CUSTOMER}", {"exists": False})
    await sandbox.send_text(CUSTOMER)
    head = {"messaging_product": "whatsapp", "text": {"body": "Hi"}}
    await sandbox.send({**head, "recipient": "DE.nobody"})
    await sandbox.quiet()
    failed = [(item["errors"][0]["code"], item["recipient_user_id"]) for item in callback.statuses()]
    assert [code for code, _ in failed] == [131026, 131026]
    assert "DE.nobody" in {user_id for _, user_id in failed}


async def test_records_count_what_customers_received(sandbox: SandboxClient) -> None:
    await sandbox.settings(**AT_ONCE)
    await sandbox.say(CUSTOMER, "Hi")
    for text in ("one", "two"):
        await sandbox.send_text(CUSTOMER, text)
    await sandbox.send_text("4915550100999", "never wrote")
    await sandbox.quiet()
    assert [send["text"] for send in await sandbox.sends(recipient=CUSTOMER)] == ["one", "two"]
    counts = {row["recipient"]: row for row in await sandbox.control("GET", "recipients")}
    assert (counts[CUSTOMER]["accepted"], counts[CUSTOMER]["delivered"]) == (2, 2)
    assert (counts["4915550100999"]["accepted"], counts["4915550100999"]["delivered"]) == (1, 0)
    stats = await sandbox.stats()
    assert (stats["sends_accepted"], stats["sends_delivered"], stats["sends_failed"]) == (3, 2, 1)
    page = await sandbox.control("GET", "sends", offset=1, limit=1)
    assert (page["total"], [send["text"] for send in page["sends"]]) == (3, ["two"])


async def test_reset_starts_anew(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.use_callback(callback)
    first = await sandbox.say(CUSTOMER, "Hi")
    await sandbox.add_number(waba_id="777")
    await sandbox.fault("refuse", times=9)
    await sandbox.settings(read_receipts=False)
    await sandbox.control("POST", "reset")
    assert (await sandbox.control("GET", "settings"))["read_receipts"] is True
    assert await sandbox.control("GET", "faults") == []
    tenants = await sandbox.control("GET", "tenants")
    assert [row["phone_number_id"] for row in tenants["numbers"]] == sandbox.facts.phone_number_ids
    assert [app["callback_url"] for app in tenants["apps"]] == [None]
    callback.deliveries.clear()
    assert await sandbox.say(CUSTOMER, "Hi") != first
    assert (await sandbox.stats())["messages_received"] == 1
    assert callback.deliveries == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "say", {"from": CUSTOMER}, 400, "text or message"),
        ("POST", "say", {"from": "someone", "text": "x"}, 400, "neither a phone number nor a BSUID"),
        ("POST", "say", {"from": CUSTOMER, "txt": "x"}, 400, "unknown field `txt`"),
        ("POST", "say", {"from": CUSTOMER, "text": "x", "phone_number_id": "9"}, 404, "No phone number 9"),
        ("PUT", "settings", {"batch_max": 1001}, 400, "<= 1000"),
        ("PUT", "settings", {"sent_seconds": [2, 1]}, 400, "sent_seconds"),
        ("POST", "faults", {"kind": "earthquake"}, 400, "earthquake"),
        ("POST", "numbers", {"callback_url": "ftp://x"}, 400, "not an http(s) URL"),
        ("POST", "numbers", {"phone_number_id": "720193847561029"}, 409, "exists"),
        ("PATCH", "apps/1", {}, 404, "No app 1"),
        ("POST", "people", {"customers": 1, "pace": 0}, 400, "pace"),
        ("POST", "webhooks/raw", {"waba_id": "1", "value": {}}, 404, "No business account 1"),
        ("POST", "webhooks/body", {"body": "x"}, 409, "no callback"),
    ],
)
async def test_bad_control_calls_are_explained(
    sandbox: SandboxClient, method: str, path: str, body: dict[str, object], status: int, words: str
) -> None:
    response = await sandbox.http.request(method, f"{sandbox.facts.control_url}/{path}", json=body)
    assert response.status_code == status, response.text
    assert words in response.text


async def test_control_describes_itself(sandbox: SandboxClient) -> None:
    schema = (await sandbox.http.get(f"{sandbox.facts.control_url}/schema/openapi.json")).json()
    assert "/_sandbox/say" in schema["paths"]
    assert schema["components"]["schemas"]["Settings"]["properties"].keys() >= {"batch_max", "read_receipts"}


async def test_customers_open_conversations_and_answer(sandbox: SandboxClient, callback: Callback) -> None:
    await sandbox.settings(**AT_ONCE)
    await sandbox.use_callback(callback)
    await sandbox.control("POST", "people", {"customers": 12, "pace": 0.01})
    await _until(lambda: len({_sender(message) for message in callback.messages()}) >= 10)
    names = {change["value"]["contacts"][0]["profile"]["name"] for change in callback.changes()}
    assert any("\u0590" <= letter <= "\u06ff" for name in names for letter in name)  # right to left
    identities = {frozenset({"from", "from_user_id"} & message.keys()) for message in callback.messages()}
    assert len(identities) >= 2

    await sandbox.control("DELETE", "people")
    await sandbox.quiet()
    heard = len(callback.messages())
    await asyncio.sleep(0.3)
    assert len(callback.messages()) == heard


async def test_customers_answer_the_agent(sandbox: SandboxClient, callback: Callback) -> None:
    regions = json.loads(files("relay.sandbox").joinpath("people.json").read_text())
    dialogues = [dialogue for region in regions for dialogue in region["dialogues"]]
    replies = {line for dialogue in dialogues for lines in dialogue["replies"] for line in lines}
    await sandbox.settings(**AT_ONCE)
    await sandbox.use_callback(callback)
    await sandbox.control("POST", "people", {"customers": 6, "pace": 0.2})
    await _until(lambda: len({_sender(message) for message in callback.messages()}) == 6)
    assert not replies & {message["text"]["body"] for message in callback.messages()}
    for change in callback.changes():
        message = change["value"]["messages"][0]
        to = {"to": message["from"]} if "from" in message else {"recipient": message["from_user_id"]}
        body = {"messaging_product": "whatsapp", "text": {"body": "Of course!"}, **to}
        number_id = change["value"]["metadata"]["phone_number_id"]
        assert (await sandbox.graph("POST", f"{number_id}/messages", body)).status_code == 200
    await _until(lambda: bool(replies & {message["text"]["body"] for message in callback.messages()}))


def _sender(message: dict[str, str]) -> str:
    return message.get("from_user_id") or message["from"]


async def _until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def test_the_same_seed_tells_the_same_story() -> None:
    def story(seed: str) -> list[object]:
        with run_sandbox("--seed", seed) as facts, httpx.Client(base_url=facts.control_url) as http:
            number = http.post("numbers", json={}).json()
            said = [http.post("say", json={"from": CUSTOMER, "text": "Hi"}).json() for _ in range(3)]
            http.post("people", json={"customers": 20, "pace": 3600})
            customers = http.get("customers").json()
            return [number, said, [(row["name"], row["phone"], row["identity"]) for row in customers]]

    assert story("one") == story("one")
    assert story("one") != story("two")


async def test_options_of_the_command_line(callback: Callback) -> None:
    options = [
        "--callback-url", callback.url, "--verify-token", "mine", "--app-secret", "my secret",
        "--access-token", "EAAmine", "--waba-id", "11", "--phone-number-id", "21", "--phone-number-id", "22",
        "--phone-number-id", "23", "--no-limits", "--customers", "3", "--pace", "0.05",
    ]  # fmt: skip
    callback.verify_token = "mine"
    with run_sandbox(*options) as facts:
        assert (facts.phone_number_ids, facts.waba_id) == (["21", "22", "23"], "11")
        await _until(lambda: len(callback.messages()) >= 3)
        assert callback.deliveries[0].signed_by("my secret")
        async with httpx.AsyncClient() as http:
            client = SandboxClient(facts, http)
            numbers = (await client.graph("GET", "11/phone_numbers")).json()["data"]
            assert [number["id"] for number in numbers] == ["21", "22", "23"]
            assert len({number["display_phone_number"] for number in numbers}) == 3


async def test_the_callback_may_come_up_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    callback = Callback(url=f"http://127.0.0.1:{port}/", verify_token="sandbox-verify-token")
    with run_sandbox("--callback-url", callback.url) as facts:
        async with httpx.AsyncClient() as http:
            client = SandboxClient(facts, http)
            await client.say(CUSTOMER, "Hi")
            await asyncio.sleep(0.3)
            server = await asyncio.start_server(callback.serve, "127.0.0.1", port)
            async with server:
                await client.quiet()
                assert [message["text"]["body"] for message in callback.messages()] == ["Hi"]
                for connection in list(callback.connections):
                    connection.cancel()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--callback-url", "localhost:8000"], "not an http(s) URL"),
        (["--port", "{taken}"], "cannot listen on"),
    ],
)
def test_start_errors_are_explained(options: list[str], words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        filled = [option.format(taken=taken.getsockname()[1]) for option in options]
        command = [sys.executable, "-m", "relay.sandbox", "--port", "0", *filled]
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode != 0
    assert words in result.stderr
    assert "Traceback" not in result.stderr
