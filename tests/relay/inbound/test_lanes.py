"""Lanes: one person's items in order, everybody else's beside them, and a bad one stops nobody."""

import asyncio

import pytest
from sqlalchemy import text as sql

from relay.inbound import handlers, lanes
from relay.inbound.handlers import Readable
from relay.inbound.lanes import TRIES_MAX, LaneWorker
from relay.inbound.replay import Replayed, replay
from relay.inbound.splitter import Splitter
from relay.kit.db import Database, TenantWork
from relay.kit.doorbell import Doorbell
from relay.kit.secrets import Secrets
from relay.numbers.service import add_number
from tests.conftest import TenantFixture
from tests.meta_webhooks import NOW, Inbox, failed, status, text, webhook
from tests.relay.inbound.conftest import Look


async def due_now(database: Database) -> None:
    """Let the time pass that a failed item waits."""
    async with database.system() as work:
        await work.execute(sql("UPDATE webhook_item SET not_before = now() WHERE not_before IS NOT NULL"))


class Poison:
    """Makes the items of chosen wamids fail in the middle of their work."""

    def __init__(self) -> None:
        self.wamids: set[str] = set()
        self.tries: list[str] = []

    async def apply(self, work: TenantWork, secrets: Secrets, readable: list[Readable]) -> None:
        await handlers.apply(work, secrets, readable)
        for entry in readable:
            if entry.facts.wamid in self.wamids:
                self.tries.append(entry.facts.wamid)
                raise RuntimeError("poison")


@pytest.fixture(autouse=True)
def _long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine is slow enough to reach the next try by itself."""
    monkeypatch.setattr(lanes, "BACKOFF_SECONDS", 600.0)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    poison = Poison()
    monkeypatch.setattr(lanes, "apply", poison.apply)
    return poison


async def test_a_failing_item_stops_its_own_lane_only_and_is_parked_in_the_end(
    database: Database, inbox: Inbox, look: Look, tenant: TenantFixture, poison: Poison
) -> None:
    poison.wamids = {"wamid.1.1"}
    people = [str(n) for n in range(20)]
    await inbox.take(
        *(
            webhook(tenant, messages=[text(f"wamid.{person}.{n}", "x", phone=person, at=NOW + n)])
            for n in range(3)
            for person in people
        )
    )

    async def shown() -> dict[str | None, list[str | None]]:
        return {
            conversation.contact.phone: [m.wamid for m in await look.messages(tenant, conversation)]
            for conversation in await look.conversations(tenant)
        }

    everyone = {person: [f"wamid.{person}.{n}" for n in range(3)] for person in people}
    assert await shown() == {**everyone, "1": ["wamid.1.0"]}
    for tries in range(1, TRIES_MAX):
        head, behind = await look.items()
        assert (head.state, head.attempts, head.error) == ("new", tries, "RuntimeError('poison')")
        assert (behind.state, behind.attempts) == ("new", 0)
        wait = (await look.rows("SELECT max(not_before) - now() AS wait FROM webhook_item"))[0].wait
        assert 600 * 2 ** (tries - 1) - 60 < wait.total_seconds() <= 600 * 2 ** (tries - 1)
        await inbox.work()
        assert len(await look.items()) == 2  # not due yet, and its lane waits for it
        await due_now(database)
        await inbox.work()
    (parked,) = await look.items()
    assert (parked.state, parked.attempts, parked.payload["message"]["id"]) == (
        "parked",
        TRIES_MAX,
        "wamid.1.1",
    )
    assert await shown() == {**everyone, "1": ["wamid.1.0", "wamid.1.2"]}
    poison.wamids.clear()
    assert await replay(database) == Replayed(webhooks=1, items=1)
    await inbox.work()
    assert await shown() == everyone
    assert await look.items() == []


async def test_a_twentieth_of_poison_parks_exactly_that(
    database: Database, inbox: Inbox, look: Look, tenant: TenantFixture, poison: Poison
) -> None:
    wamids = [f"wamid.{n}" for n in range(300)]
    poison.wamids = set(wamids[::20])
    await inbox.take(
        *(webhook(tenant, messages=[text(wamid, "x", phone=str(n % 60))]) for n, wamid in enumerate(wamids))
    )
    for _ in range(4 * TRIES_MAX):
        await due_now(database)
        await inbox.work()
    items = await look.items()
    assert {(item.state, item.payload["message"]["id"]) for item in items} == {
        ("parked", wamid) for wamid in poison.wamids
    }
    stored = await look.rows("SELECT entity_id FROM feed WHERE kind = 'message'")
    assert len(stored) == len(wamids) - len(poison.wamids)


async def test_what_nobody_can_read_is_parked_at_once(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    nobody = {"id": "wamid.2", "type": "text", "text": {"body": "from whom?"}}
    await inbox.take(
        webhook(
            tenant,
            messages=[text("wamid.1", "a"), nobody, None, text("wamid.3", "b")],
            statuses=[{"status": "sent"}, status("wamid.9", "sent"), failed("wamid.9", 1)],
        )
    )
    assert [message.wamid for message in await look.messages(tenant)] == ["wamid.1", "wamid.3"]
    items = await look.items()
    assert [(item.state, item.kind) for item in items] == [
        ("parked", "message"),
        ("parked", "message"),
        ("parked", "status"),
    ]
    assert all(item.error for item in items)


async def test_something_the_database_refuses_is_retried_alone(
    database: Database, inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    too_long = "wamid." + "".join(f"{n:x}" for n in range(3000))  # more than an index can hold
    await inbox.take(
        webhook(tenant, messages=[text("wamid.1", "a"), text(too_long, "b", phone="2"), text("wamid.3", "c")])
    )
    (item,) = await look.items()
    assert (item.state, item.attempts) == ("new", 1)
    assert {m.wamid for c in await look.conversations(tenant) for m in await look.messages(tenant, c)} == {
        "wamid.1",
        "wamid.3",
    }


async def test_an_unknown_number_is_parked_and_reaches_it_once_it_is_known(
    database: Database, relay_secrets: Secrets, inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    body = webhook(tenant, messages=[text("wamid.1", "early")], phone_number_id="777")
    await inbox.take(body, webhook(tenant, messages=[text("wamid.2", "fine")]))
    (item,) = await look.items()
    assert (item.state, item.error, item.tenant_id) == ("parked", "the number 777 is not known", None)
    await add_number(
        database,
        relay_secrets,
        tenant.id,
        waba_id=tenant.waba_id,
        phone_number_id="777",
        access_token="token",
    )
    assert await replay(database, dry_run=True) == Replayed(webhooks=1, items=1)
    assert (await look.items())[0].state == "parked"
    assert await replay(database) == Replayed(webhooks=1, items=1)
    await inbox.work()
    assert await look.items() == []
    assert {m.wamid for c in await look.conversations(tenant) for m in await look.messages(tenant, c)} == {
        "wamid.1",
        "wamid.2",
    }
    assert await replay(database) == Replayed(webhooks=0, items=0)


async def test_replaying_everything_changes_nothing(
    database: Database, inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.take(webhook(tenant, messages=[text("wamid.1", "a"), None, text("wamid.2", "b")]))
    before = await look.messages(tenant), await look.conversation(tenant), await look.heard(tenant)
    assert await replay(database) == Replayed(webhooks=1, items=1)
    await inbox.work()
    assert (await look.messages(tenant), await look.conversation(tenant), await look.heard(tenant)) == before
    assert [item.state for item in await look.items()] == ["parked"]


# --- order and sharing ----------------------------------------------------------------------------


async def test_all_items_of_a_person_are_in_one_lane_whatever_identities_they_show(
    inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.store(
        webhook(tenant, messages=[text("wamid.1", "both", phone="111", bsuid="DE.1")]),
        webhook(tenant, messages=[text("wamid.2", "phone", phone="111")]),
        webhook(tenant, statuses=[status("wamid.9", "sent", phone="111")]),
        webhook(tenant, statuses=[status("wamid.9", "read", phone=None, recipient_user_id="DE.1")]),
        webhook(tenant, messages=[text("wamid.3", "somebody else", phone="222")]),
    )
    await inbox.splitter.step()
    *ours, other = [item.lane_hash for item in await look.items()]
    assert len(ours) == 4
    assert len(set(ours)) == 1
    assert other not in ours


async def test_a_lane_that_somebody_works_on_is_left_alone(
    database: Database, inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    await inbox.store(
        webhook(tenant, messages=[text("wamid.1", "x", phone="111")]),
        webhook(tenant, messages=[text("wamid.2", "y", phone="222")]),
    )
    await inbox.splitter.step()
    busy, _ = await look.items()
    async with database.system() as work:
        await work.execute(sql("SELECT pg_advisory_xact_lock(:lane)"), {"lane": busy.lane_hash})
        assert await inbox.lanes.step() == 1
        assert await inbox.lanes.step() == 0
    assert [item.id for item in await look.items()] == [busy.id]
    await inbox.work()
    assert await look.items() == []


async def test_two_splitters_do_not_work_at_once(inbox: Inbox, look: Look, tenant: TenantFixture) -> None:
    await inbox.store(*(webhook(tenant, messages=[text(f"wamid.{n}", "x")]) for n in range(50)))
    counts = await asyncio.gather(inbox.splitter.step(), inbox.splitter.step(), inbox.splitter.step())
    assert max(counts) == 50
    assert len(await look.items()) == 50


async def test_many_workers_apply_everything_once_and_in_order(
    doorbell: Doorbell, relay_secrets: Secrets, inbox: Inbox, look: Look, tenant: TenantFixture
) -> None:
    """Loops as a worker runs them, woken by the doorbell alone: nothing is lost between look and sleep."""
    stop = asyncio.Event()
    loops: list[Splitter | LaneWorker] = [Splitter(inbox.database, doorbell) for _ in range(2)]
    loops += [LaneWorker(inbox.database, doorbell, relay_secrets) for _ in range(3)]
    running = [asyncio.create_task(loop.run(stop)) for loop in loops]
    expected: dict[str, list[str]] = {}
    for n in range(400):
        person = str(n % 17)
        expected.setdefault(person, []).append(f"wamid.{n}")
        await inbox.store(webhook(tenant, messages=[text(f"wamid.{n}", "x", phone=person)]))
        doorbell.ring({}, ["webhook"])
    async with asyncio.timeout(20):
        while (await look.rows("SELECT count(*) AS n FROM feed WHERE kind = 'message'"))[0].n < 400:
            await asyncio.sleep(0.02)
    stop.set()
    doorbell.ring({}, ["webhook"])
    await asyncio.gather(*running)
    found = {
        conversation.contact.phone: [m.wamid for m in await look.messages(tenant, conversation)]
        for conversation in await look.conversations(tenant)
    }
    assert found == expected
    rows = await look.rows("SELECT seq FROM feed WHERE tenant_id = :t ORDER BY seq", t=tenant.id)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))


async def test_a_tenants_backlog_does_not_keep_the_next_waiting(
    inbox: Inbox, look: Look, tenant: TenantFixture, other_tenant: TenantFixture
) -> None:
    await inbox.store(
        *(webhook(tenant, messages=[text(f"wamid.{n}", "x", phone=str(n))]) for n in range(300))
    )
    await inbox.store(webhook(other_tenant, messages=[text("wamid.1", "small")]))
    await inbox.splitter.step()
    for _ in range(2):
        await inbox.lanes.step()
    assert len(await look.messages(other_tenant)) == 1
    assert len(await look.conversations(tenant)) == lanes.LANES_MAX


async def test_an_item_that_fails_leaves_nothing_behind(
    inbox: Inbox, look: Look, tenant: TenantFixture, poison: Poison
) -> None:
    poison.wamids = {"wamid.1"}
    await inbox.take(webhook(tenant, messages=[text("wamid.1", "x")]))
    assert poison.tries == ["wamid.1", "wamid.1"]  # together with others, then alone
    assert await look.conversations(tenant) == []
    assert await look.heard(tenant) == []
