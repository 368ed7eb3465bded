"""The webhook addresses: who is believed, what is kept, and when Meta hears 200."""

import asyncio
import json
from collections.abc import Sequence

import httpx
import pytest
from prometheus_client import REGISTRY

from relay.inbound import batcher
from relay.inbound.batcher import Batcher, NotStoredError
from relay.inbound.raw_store import RawWebhook
from relay.meta.signature import HEADER, sign
from shared.limits import WEBHOOK_MAX_BYTES
from tests.conftest import RunningServer, TenantFixture
from tests.meta_webhooks import Inbox, deliver, envelope, text, webhook
from tests.relay.inbound.conftest import Look

SHARED_SECRET = "shared app secret"
SHARED = "/webhooks/meta"


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("webhooks_received_total", {"outcome": outcome}) or 0.0


async def connect(running: RunningServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))


async def raw(look: Look) -> list[tuple[bytes, str, object]]:
    rows = await look.rows("SELECT body, state, scope_tenant_id FROM webhook_raw ORDER BY id")
    return [(row.body, row.state, row.scope_tenant_id) for row in rows]


# --- checking an address --------------------------------------------------------------------------


async def test_metas_check_gets_its_challenge_back(client: httpx.AsyncClient, tenant: TenantFixture) -> None:
    for path, token in ((SHARED, "verify me"), (tenant.webhook_path, tenant.verify_token)):
        query = {"hub.mode": "subscribe", "hub.challenge": "115<&8201", "hub.verify_token": token}
        answer = await client.get(path, params=query)
        assert (answer.status_code, answer.text) == (200, "115<&8201")
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"hub.mode": "subscribe", "hub.challenge": "1"},
        {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": ""},
        {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": "wröng"},
        {"hub.mode": "unsubscribe", "hub.challenge": "1", "hub.verify_token": "verify me"},
    ],
)
async def test_any_other_check_is_refused(
    client: httpx.AsyncClient, tenant: TenantFixture, query: dict[str, str]
) -> None:
    for path in (SHARED, tenant.webhook_path, "/webhooks/meta/nobody"):
        answer = await client.get(path, params=query)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_tenants_token_opens_no_other_address(
    client: httpx.AsyncClient, tenant: TenantFixture, other_tenant: TenantFixture
) -> None:
    query = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": tenant.verify_token}
    for path in (SHARED, other_tenant.webhook_path):
        assert (await client.get(path, params=query)).status_code == 403


async def test_other_methods_are_not_allowed(client: httpx.AsyncClient) -> None:
    answer = await client.put(SHARED)
    assert (await client.post("/webhooks/metaphor")).status_code == 404
    assert (await client.post("/webhooks/meta/key/more")).status_code == 404
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


# --- who is believed ------------------------------------------------------------------------------


async def test_the_shared_app_may_speak_for_everybody(
    client: httpx.AsyncClient, look: Look, tenant: TenantFixture
) -> None:
    body = webhook(tenant, messages=[text("wamid.1", "Ü")])
    answer = await deliver(client, SHARED, body, SHARED_SECRET)
    assert (answer.status_code, answer.content) == (200, b"")
    assert await raw(look) == [(body, "new", None)]


async def test_a_tenants_own_app_speaks_for_that_tenant_only(
    client: httpx.AsyncClient, inbox: Inbox, look: Look, tenant: TenantFixture, other_tenant: TenantFixture
) -> None:
    own = webhook(tenant, messages=[text("wamid.1", "mine")])
    foreign = webhook(other_tenant, messages=[text("wamid.2", "planted")])
    for path in (tenant.webhook_path, SHARED):
        assert (await deliver(client, path, own, tenant.app_secret)).status_code == 200
    assert (await deliver(client, tenant.webhook_path, foreign, tenant.app_secret)).status_code == 200
    assert (await deliver(client, SHARED, foreign, tenant.app_secret)).status_code == 401
    assert {scope for _, _, scope in await raw(look)} == {tenant.id}
    await inbox.work()
    assert [message.wamid for message in await look.messages(tenant)] == ["wamid.1"]
    assert await look.conversations(other_tenant) == []
    (item,) = await look.items()
    assert (item.state, item.tenant_id, item.number_id) == ("parked", None, None)


async def test_a_signature_for_one_tenants_account_covers_no_entry_of_anothers(
    client: httpx.AsyncClient, look: Look, tenant: TenantFixture, other_tenant: TenantFixture
) -> None:
    both = json.loads(webhook(tenant, messages=[text("wamid.1", "mine")]))
    both["entry"] += json.loads(webhook(other_tenant, messages=[text("wamid.2", "planted")]))["entry"]
    body = json.dumps(both).encode()
    for secret in (tenant.app_secret, other_tenant.app_secret):
        assert (await deliver(client, SHARED, body, secret)).status_code == 401
    assert await raw(look) == []


@pytest.mark.parametrize("header", [None, "", "sha256=", "sha1=abc", "sha256=" + "0" * 64, "sha256=\u00e9"])
async def test_a_wrong_signature_is_refused_and_counted(
    client: httpx.AsyncClient, look: Look, tenant: TenantFixture, header: str | None
) -> None:
    before = counted("bad_signature")
    body = webhook(tenant, messages=[text("wamid.1", "x")])
    headers = {} if header is None else {HEADER.encode(): header.encode("latin-1")}
    paths = (SHARED, tenant.webhook_path, "/webhooks/meta/nobody")
    for path in paths:
        answer = await client.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
        assert answer.headers["content-type"].startswith("application/problem+json")
    assert counted("bad_signature") == before + len(paths)
    assert await raw(look) == []


async def test_the_bytes_are_signed_not_their_meaning(
    client: httpx.AsyncClient, tenant: TenantFixture
) -> None:
    body = webhook(tenant, messages=[text("wamid.1", "x")])
    answer = await client.post(SHARED, content=body + b" ", headers={HEADER: sign(SHARED_SECRET, body)})
    assert answer.status_code == 401


# --- what is kept ---------------------------------------------------------------------------------


async def test_a_signed_body_that_is_not_json_is_refused_but_kept(
    client: httpx.AsyncClient, look: Look, tenant: TenantFixture
) -> None:
    for path, secret in ((SHARED, SHARED_SECRET), (tenant.webhook_path, tenant.app_secret)):
        answer = await deliver(client, path, b'{"entry": [', secret)
        assert (answer.status_code, answer.json()["code"]) == (400, "not_json")
    assert await raw(look) == [(b'{"entry": [', "parked", None), (b'{"entry": [', "parked", tenant.id)]


async def test_a_body_that_is_too_large_is_refused_early(running_server: RunningServer, look: Look) -> None:
    async with httpx.AsyncClient(base_url=running_server.url) as client:
        answer = await client.post(SHARED, content=b"x" * (WEBHOOK_MAX_BYTES + 1))
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        largest = b'"' + b"x" * (WEBHOOK_MAX_BYTES - 2) + b'"'
        assert (await deliver(client, SHARED, largest, SHARED_SECRET)).status_code == 200
    assert [len(body) for body, _, _ in await raw(look)] == [WEBHOOK_MAX_BYTES]


async def test_a_body_without_end_is_refused_before_it_ends(running_server: RunningServer) -> None:
    reader, writer = await connect(running_server)
    writer.write(f"POST {SHARED} HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    answer = asyncio.create_task(reader.readline())
    sent = 0
    while not answer.done() and sent < 20 * WEBHOOK_MAX_BYTES:
        writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        sent += 65_536
        await writer.drain()
        await asyncio.sleep(0.001)
    writer.close()
    assert (await answer).split()[1] == b"413"
    assert sent < 4 * WEBHOOK_MAX_BYTES


async def test_a_webhook_whose_sender_hangs_up_is_stored_all_the_same(
    running_server: RunningServer, look: Look, tenant: TenantFixture
) -> None:
    body = webhook(tenant, messages=[text("wamid.1", "x")])
    _, writer = await connect(running_server)
    lines = [
        f"POST {SHARED} HTTP/1.1",
        "Host: relay",
        f"Content-Length: {len(body)}",
        f"{HEADER}: {sign(SHARED_SECRET, body)}",
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    await writer.drain()
    writer.close()
    async with asyncio.timeout(5):
        while not await raw(look):
            await asyncio.sleep(0.02)


async def test_an_empty_envelope_and_odd_json_are_taken_and_parked(
    client: httpx.AsyncClient, inbox: Inbox, look: Look
) -> None:
    for body in (b"[]", b'{"object": "page"}', b'{"entry": []}'):
        assert (await deliver(client, SHARED, body, SHARED_SECRET)).status_code == 200
    await inbox.work()
    assert [state for _, state, _ in await raw(look)] == ["parked", "parked", "split"]


async def test_fields_nobody_handles_yet_are_kept(
    client: httpx.AsyncClient, inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    body = envelope(
        tenant.waba_id, ("message_template_status_update", {"event": "APPROVED"}), ("brand_new", {"x": 1})
    )
    assert (await deliver(client, SHARED, body, SHARED_SECRET)).status_code == 200
    await inbox.work()
    items = await look.items()
    assert [(item.field, item.kind, item.state, item.tenant_id) for item in items] == [
        ("message_template_status_update", "change", "kept", tenant.id),
        ("brand_new", "change", "kept", tenant.id),
    ]


# --- group commit ---------------------------------------------------------------------------------


class Disk:
    """Where a batcher of these tests stores; may be slow, broken, or picky."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.batches: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def store(self, webhooks: Sequence[RawWebhook]) -> None:
        await self.open.wait()
        self.batches.append(len(webhooks))
        if self.error is not None:
            raise self.error
        if any(webhook.body == b"bad" for webhook in webhooks):
            raise ValueError("this one cannot be stored")
        self.stored += [webhook.body for webhook in webhooks]


def some(body: bytes) -> RawWebhook:
    return RawWebhook(body, None, {})


async def test_webhooks_that_wait_together_share_a_commit() -> None:
    disk = Disk()
    group = Batcher(disk.store)
    group.start()
    await asyncio.gather(*(group.put(some(b"%d" % n)) for n in range(1200)))
    await group.stop()
    assert sorted(disk.stored) == sorted(b"%d" % n for n in range(1200))
    assert max(disk.batches) == batcher.BATCH_MAX_ROWS
    assert len(disk.batches) <= 5


async def test_one_that_cannot_be_stored_does_not_fail_its_neighbours() -> None:
    disk = Disk()
    group = Batcher(disk.store)
    group.start()
    outcomes = await asyncio.gather(
        *(group.put(some(body)) for body in (b"1", b"bad", b"2")), return_exceptions=True
    )
    await group.stop()
    assert [type(outcome) for outcome in outcomes] == [type(None), NotStoredError, type(None)]
    assert disk.stored == [b"1", b"2"]


async def test_a_full_queue_refuses_and_stopping_stores_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "QUEUE_MAX_ROWS", 10)
    disk = Disk()
    disk.open.clear()
    group = Batcher(disk.store)
    group.start()
    waiting = [asyncio.create_task(group.put(some(b"%d" % n))) for n in range(10)]
    await asyncio.sleep(0.05)
    with pytest.raises(NotStoredError, match="too many"):
        await group.put(some(b"one too many"))
    waiting[3].cancel()  # its sender has gone, but it was taken
    stopping = asyncio.create_task(group.stop())
    await asyncio.sleep(0)
    with pytest.raises(NotStoredError, match="stopping"):
        await group.put(some(b"too late"))
    disk.open.set()
    await stopping
    assert sorted(disk.stored) == [b"%d" % n for n in range(10)]
    assert waiting[3].cancelled()
    assert all(task.done() for task in waiting)


async def test_a_database_that_is_away_fails_everyone_at_once_and_comes_back() -> None:
    disk = Disk()
    disk.error = ConnectionRefusedError()
    group = Batcher(disk.store)
    group.start()
    outcomes = await asyncio.gather(
        *(group.put(some(b"%d" % n)) for n in range(2000)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {NotStoredError}
    assert len(disk.batches) <= 2
    disk.error = None
    await group.put(some(b"again"))
    await group.stop()
    assert disk.stored == [b"again"]


async def test_the_queue_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "QUEUE_MAX_BYTES", 100)
    disk = Disk()
    disk.open.clear()
    group = Batcher(disk.store)
    group.start()
    first = asyncio.create_task(group.put(some(b"x" * 90)))
    await asyncio.sleep(0)
    with pytest.raises(NotStoredError):
        await group.put(some(b"x" * 20))
    disk.open.set()
    await first
    await group.put(some(b"x" * 20))
    await group.stop()
