"""What is acknowledged is kept: exactly once, in order, whatever is killed."""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from relay.meta.signature import HEADER, sign
from tests.faults.installation import APP_SECRET, PHONE_NUMBER_ID, WABA_ID, Installation
from tests.meta_webhooks import Object, contact, envelope, text

pytestmark = pytest.mark.timeout(300)

SEED = os.environ.get("SEED") or str(random.randrange(10**6))
CUSTOMERS = 40
WITHOUT_SYNC = (sys.executable, str(Path(__file__).with_name("relay_without_sync.py")))


@dataclass
class Customer:
    """Writes one message after another; `sent` are those that the relay acknowledged, in order."""

    phone: str
    sent: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    async def write(self, client: httpx.AsyncClient, webhooks: int, rng: random.Random, pause: float) -> None:
        """Meta delivers each webhook until it is acknowledged, and then sometimes once more."""
        for n in range(webhooks):
            wamids = [f"wamid.{self.phone}.{n:04}.{i}" for i in range(rng.choice((1, 1, 1, 3)))]
            body = webhook(self.phone, wamids)
            while True:
                if await self.deliver(client, body):
                    break
                await asyncio.sleep(rng.uniform(0.02, 0.2))
            self.sent += wamids
            if rng.random() < 0.1:
                await self.deliver(client, body)
            await asyncio.sleep(rng.uniform(0, 2 * pause))

    async def deliver(self, client: httpx.AsyncClient, body: bytes) -> bool:
        try:
            answer = await client.post(
                "/webhooks/meta", content=body, headers={HEADER: sign(APP_SECRET, body)}
            )
        except httpx.TransportError as error:
            self.refused[type(error).__name__] += 1
            return False
        if answer.status_code == 200:
            return True
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
        assert int(answer.headers["retry-after"]) > 0
        self.refused["503"] += 1
        return False


def webhook(phone: str, wamids: Sequence[str]) -> bytes:
    """Everything within one second of Meta's clock, so that the order is ours to keep."""
    value: Object = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550102030", "phone_number_id": PHONE_NUMBER_ID},
        "contacts": [contact(f"Customer {phone}", phone=phone)],
        "messages": [text(wamid, f"This is {wamid}", phone=phone) for wamid in wamids],
    }
    return envelope(WABA_ID, ("messages", value))


async def storm(
    installation: Installation, faults: Sequence[str], rng: random.Random, *, webhooks: int, pause: float
) -> list[Customer]:
    """Customers write while things are killed; ends when everything was acknowledged and worked off."""
    customers = [Customer(str(4915550000000 + n)) for n in range(CUSTOMERS)]
    limits = httpx.Limits(max_connections=CUSTOMERS)
    async with (
        httpx.AsyncClient(base_url=installation.url, limits=limits, timeout=15) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(break_things(installation, faults, rng))
        for customer in customers:
            group.create_task(customer.write(client, webhooks // CUSTOMERS, rng, pause))
    await installation.wait_until_worked_off(60)
    refused: Counter[str] = sum((customer.refused for customer in customers), Counter())
    print(
        f"refused {dict(refused)}, starts: web {installation.web.starts}, worker {installation.worker.starts}"
    )
    return customers


async def break_things(installation: Installation, faults: Sequence[str], rng: random.Random) -> None:
    for fault in faults:
        await asyncio.sleep(rng.uniform(0.2, 1.2))
        match fault:
            case "web":
                installation.web.kill()
            case "worker":
                installation.worker.kill()
            case "postgres":
                await installation.crash_postgres()
                await asyncio.sleep(rng.uniform(0, 0.3))
                await installation.start_postgres()


def stored(installation: Installation) -> dict[str, list[str]]:
    """What each customer's timeline shows, in its order."""
    rows = installation.rows(
        "SELECT i.value, m.wamid FROM message m JOIN conversation c"
        " ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id"
        " JOIN contact_identity i ON i.tenant_id = c.tenant_id AND i.contact_id = c.contact_id"
        " WHERE i.kind = 'phone' ORDER BY m.sent_at, m.id"
    )
    found: dict[str, list[str]] = {}
    for phone, wamid in rows:
        found.setdefault(phone, []).append(wamid)
    return found


@pytest.mark.parametrize(
    ("webhooks", "rounds"),
    [
        pytest.param(2000, 3, id="2000"),
        pytest.param(40_000, 60, id="40000", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
async def test_webhooks_while_web_worker_and_postgres_are_killed(webhooks: int, rounds: int) -> None:
    print(f"SEED={SEED}")
    rng = random.Random(SEED)
    faults = ["web", "worker", "postgres"] * rounds
    rng.shuffle(faults)
    async with Installation.running() as installation:
        customers = await storm(installation, faults, rng, webhooks=webhooks, pause=0.25)
        assert stored(installation) == {customer.phone: customer.sent for customer in customers}
        assert installation.rows("SELECT count(*) FROM webhook_item") == [(0,)]
        assert installation.rows("SELECT count(*) FROM webhook_raw WHERE state <> 'split'") == [(0,)]
        unread = dict(installation.rows("SELECT id, unread_count FROM conversation"))
        counted = dict(installation.rows("SELECT conversation_id, count(*) FROM message GROUP BY 1"))
        assert unread == counted
        seqs = [seq for (seq,) in installation.rows("SELECT seq FROM feed ORDER BY seq")]
        assert seqs == list(range(1, len(seqs) + 1))
        announced = installation.rows("SELECT entity_id FROM feed WHERE kind = 'message'")
        assert len(announced) == len(set(announced)) == sum(counted.values())
        assert min(installation.web.starts, installation.worker.starts) > rounds // 2


async def test_acknowledging_before_the_disk_has_it_loses_webhooks() -> None:
    """The test above can see loss: the same storm on a server that does not wait for its disk."""
    print(f"SEED={SEED}")
    rng = random.Random(SEED)
    # Unwritten log stays in memory for as long as possible, as it would on a busy or unlucky machine.
    settings = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_buffers": "64MB"}
    async with Installation.running(relay=WITHOUT_SYNC, settings=settings) as installation:
        customers = await storm(installation, ["postgres"] * 3, rng, webhooks=800, pause=0.15)
        found = stored(installation)
    lost = [
        wamid
        for customer in customers
        for wamid in customer.sent
        if wamid not in found.get(customer.phone, [])
    ]
    print(f"lost {len(lost)} acknowledged messages")
    assert lost


async def test_while_the_database_is_down_nothing_is_acknowledged_and_it_recovers() -> None:
    async with Installation.running() as installation:
        customers = [Customer(str(n)) for n in range(CUSTOMERS)]
        limits = httpx.Limits(max_connections=CUSTOMERS)
        async with httpx.AsyncClient(base_url=installation.url, limits=limits, timeout=15) as client:
            assert await customers[0].deliver(client, webhook("0", ["wamid.before"]))
            web = psutil.Process(installation.web.pid)
            await installation.crash_postgres()
            before, until, slowest = web.memory_info().rss, time.monotonic() + 4, 0.0

            async def keep_trying(customer: Customer) -> None:
                nonlocal slowest
                n = 0
                while time.monotonic() < until:
                    began = time.monotonic()
                    body = webhook(customer.phone, [f"wamid.{customer.phone}.{n}"])
                    assert not await customer.deliver(client, body)
                    slowest = max(slowest, time.monotonic() - began)
                    n += 1

            await asyncio.gather(*(keep_trying(customer) for customer in customers))
            tried = sum(customer.refused["503"] for customer in customers)
            print(f"refused {tried}, slowest answer {slowest:.2f} s")
            assert tried >= CUSTOMERS
            assert slowest < 10  # as long as Meta waits
            assert web.memory_info().rss - before < 64 * 1024 * 1024
            await installation.start_postgres()
            began = time.monotonic()
            while True:
                if await customers[0].deliver(client, webhook("0", ["wamid.after"])):
                    break
                await asyncio.sleep(0.05)
            assert time.monotonic() - began < 5
            assert installation.web.starts == 1
        await installation.wait_until_worked_off(30)
        assert stored(installation) == {"0": ["wamid.before", "wamid.after"]}
