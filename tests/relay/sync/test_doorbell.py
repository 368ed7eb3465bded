"""The doorbell on both back ends: what it says, to whom, how often, and that it comes back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from uuid import UUID

import asyncpg
import pytest

from relay.kit import doorbell as doorbell_module
from relay.kit.db import FeedHead, Heads, Topic
from relay.kit.doorbell import Doorbell, PostgresDoorbell, open_doorbell
from relay.kit.ids import new_id
from tests.conftest import TestDatabase
from tests.relay.sync.conftest import OpenDoorbell, RedisServer, eventually

EPOCH = new_id()


class Feeds:
    """Heads as the database would tell them, and how often it was asked."""

    def __init__(self) -> None:
        self.heads: dict[UUID, FeedHead] = {}
        self.asked: list[set[UUID]] = []

    async def read(self, tenant_ids: Collection[UUID]) -> Heads:
        self.asked.append(set(tenant_ids))
        return {tenant_id: self.heads[tenant_id] for tenant_id in tenant_ids if tenant_id in self.heads}


async def test_a_ring_reaches_another_process_with_its_head(another_process: OpenDoorbell) -> None:
    ringer, listener = await another_process(), await another_process()
    tenant_id, stranger = new_id(), new_id()
    heard: list[FeedHead] = []
    with listener.watch(tenant_id, heard.append):
        ringer.ring({stranger: FeedHead(EPOCH, 1)})
        ringer.ring({tenant_id: FeedHead(EPOCH, 7)})
        await eventually(lambda: bool(heard))
    assert heard == [FeedHead(EPOCH, 7)]


async def test_the_own_process_hears_at_once_and_only_once(another_process: OpenDoorbell) -> None:
    bell = await another_process()
    tenant_id = new_id()
    heard: list[FeedHead] = []
    with bell.watch(tenant_id, heard.append):
        bell.ring({tenant_id: FeedHead(EPOCH, 1)})
        assert heard == [FeedHead(EPOCH, 1)]
        await asyncio.sleep(0.2)  # time for its own message to come back from the server
    assert heard == [FeedHead(EPOCH, 1)]


async def test_late_and_repeated_rings_are_not_passed_on(another_process: OpenDoorbell) -> None:
    bell = await another_process()
    tenant_id = new_id()
    heard: list[FeedHead] = []
    with bell.watch(tenant_id, heard.append):
        for seq in (2, 2, 1, 3):
            bell.ring({tenant_id: FeedHead(EPOCH, seq)})
    assert [head.seq for head in heard] == [2, 3]


async def test_rings_of_a_busy_tenant_are_gathered_and_the_first_goes_at_once(
    another_process: OpenDoorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell_module, "QUIET_SECONDS", 1.0)
    ringer, listener = await another_process(), await another_process()
    tenant_id = new_id()
    published: list[str] = []
    publish = ringer._publish

    async def counted(payload: str) -> None:
        published.append(payload)
        await publish(payload)

    monkeypatch.setattr(ringer, "_publish", counted)
    heard: list[FeedHead] = []
    with listener.watch(tenant_id, heard.append):
        ringer.ring({tenant_id: FeedHead(EPOCH, 1)})
        await eventually(lambda: bool(heard), 0.9)
        for seq in range(2, 201):
            ringer.ring({tenant_id: FeedHead(EPOCH, seq)})
            await asyncio.sleep(0.001)
        await eventually(lambda: heard[-1].seq == 200)
    assert len(published) <= 3


async def test_a_quiet_tenant_does_not_wait_for_a_busy_one(
    another_process: OpenDoorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell_module, "QUIET_SECONDS", 5.0)
    ringer, listener = await another_process(), await another_process()
    busy, quiet = new_id(), new_id()
    heard: list[FeedHead] = []
    with listener.watch(quiet, heard.append):
        ringer.ring({busy: FeedHead(EPOCH, 1)})
        await asyncio.sleep(0.1)
        ringer.ring({busy: FeedHead(EPOCH, 2)})  # waits for the end of its quiet time
        await asyncio.sleep(0.1)
        ringer.ring({quiet: FeedHead(EPOCH, 1)})
        await eventually(lambda: bool(heard), 2)


async def test_many_tenants_travel_in_few_messages_below_the_limit(
    another_process: OpenDoorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ringer, listener = await another_process(), await another_process()
    sizes: list[int] = []
    publish = ringer._publish

    async def measured(payload: str) -> None:
        sizes.append(len(payload.encode()))
        await publish(payload)

    monkeypatch.setattr(ringer, "_publish", measured)
    tenants = [new_id() for _ in range(500)]
    heard: set[UUID] = set()
    async with AsyncExitStack() as stack:
        for tenant_id in tenants:
            stack.enter_context(listener.watch(tenant_id, lambda _head, t=tenant_id: heard.add(t)))  # type: ignore[misc]
        ringer.ring({tenant_id: FeedHead(EPOCH, 2**40) for tenant_id in tenants})
        await eventually(lambda: len(heard) == len(tenants))
    assert max(sizes) < 7_500
    assert len(sizes) < 10


async def test_topics_wake_and_a_ring_between_two_waits_counts(another_process: OpenDoorbell) -> None:
    ringer, worker = await another_process(), await another_process()

    async def woken_after(topic: Topic) -> float:
        started = time.monotonic()
        await worker.wait(topic, 5)
        return time.monotonic() - started

    asyncio.get_running_loop().call_later(0.05, lambda: ringer.ring({}, ["webhook"]))
    asyncio.get_running_loop().call_later(0.1, lambda: ringer.ring({}, ["send"]))
    assert 0.09 < await woken_after("send") < 4, "the other topic does not count"
    worker.ring({}, ["send"])  # while the worker works
    assert await woken_after("send") < 4
    started = time.monotonic()
    await worker.wait("send", 0.1)
    assert time.monotonic() - started >= 0.09, "nothing was rung"


async def test_two_loops_of_one_topic_are_both_woken(another_process: OpenDoorbell) -> None:
    worker = await another_process()
    await worker.wait("webhook", 0.2)
    loops = [asyncio.create_task(worker.wait("webhook", 5)) for _ in range(2)]
    await asyncio.sleep(0)
    worker.ring({}, ["webhook"])
    await asyncio.wait_for(asyncio.gather(*loops), 0.5)


async def test_revocations_reach_every_process(another_process: OpenDoorbell) -> None:
    ringer, listener = await another_process(), await another_process()
    session_id = new_id()
    heard: list[UUID] = []
    with listener.watch_revoked(heard.append):
        ringer.announce_revoked(session_id)
        await eventually(lambda: bool(heard))
    assert set(heard) == {session_id}


async def test_a_listener_that_fails_does_not_keep_the_ring_from_others(
    another_process: OpenDoorbell,
) -> None:
    bell = await another_process()
    tenant_id = new_id()
    heard: list[FeedHead] = []

    def broken(_head: FeedHead) -> None:
        raise RuntimeError("broken listener")

    with bell.watch(tenant_id, broken), bell.watch(tenant_id, heard.append):
        bell.ring({tenant_id: FeedHead(EPOCH, 1)})
    assert heard


async def test_garbage_on_the_channel_is_survived(another_process: OpenDoorbell) -> None:
    ringer, listener = await another_process(), await another_process()
    tenant_id = new_id()
    heard: list[FeedHead] = []
    with listener.watch(tenant_id, heard.append):
        await ringer._publish(f"someone t nonsense t{tenant_id.hex}=x.1 wunknown= r= t=1.1 \u2603")
        ringer.ring({tenant_id: FeedHead(EPOCH, 1)})
        await eventually(lambda: bool(heard))


async def test_the_poll_finds_what_was_never_rung(
    another_process: OpenDoorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell_module, "POLL_SECONDS", 0.05)
    feeds = Feeds()
    bell = await another_process(feeds.read)
    tenant_id, other = new_id(), new_id()
    feeds.heads = {tenant_id: FeedHead(EPOCH, 5), other: FeedHead(EPOCH, 1)}
    heard: list[FeedHead] = []
    with bell.watch(tenant_id, heard.append), bell.watch(other, lambda _head: None):
        await eventually(lambda: heard == [FeedHead(EPOCH, 5)])
        assert feeds.asked[-1] == {tenant_id, other}, "one question for all watched tenants"
        # After a restore the feed stands further back, in a new epoch: the table is the truth.
        restored = FeedHead(new_id(), 3)
        feeds.heads[tenant_id] = restored
        await eventually(lambda: heard[-1] == restored)
    count = len(feeds.asked)
    await asyncio.sleep(0.15)
    assert len(feeds.asked) == count, "nobody is watched, so nothing is asked"


async def test_the_poll_survives_an_unreadable_database(
    another_process: OpenDoorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell_module, "POLL_SECONDS", 0.02)
    tenant_id = new_id()
    failures = 3

    async def read(_tenant_ids: Collection[UUID]) -> Heads:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ConnectionError("no database")
        return {tenant_id: FeedHead(EPOCH, 1)}

    bell = await another_process(read)
    heard: list[FeedHead] = []
    with bell.watch(tenant_id, heard.append):
        await eventually(lambda: bool(heard))


async def test_stopping_publishes_what_was_just_rung(another_process: OpenDoorbell) -> None:
    ringer, listener = await another_process(), await another_process()
    tenant_id = new_id()
    heard: list[FeedHead] = []
    with listener.watch(tenant_id, heard.append):
        ringer.ring({tenant_id: FeedHead(EPOCH, 1)})
        ringer.ring({tenant_id: FeedHead(EPOCH, 2)})
        await ringer.stop()
        await eventually(lambda: bool(heard) and heard[-1].seq == 2)


async def test_postgres_listener_comes_back_after_its_connections_are_killed(
    fresh_database: TestDatabase, start_doorbell: Callable[..., Awaitable[Doorbell]]
) -> None:
    feeds = Feeds()
    ringer = await start_doorbell(PostgresDoorbell(fresh_database.dsn))
    listener = await start_doorbell(PostgresDoorbell(fresh_database.dsn), feeds.read)
    tenant_id = new_id()
    heard: list[FeedHead] = []
    admin = await asyncpg.connect(fresh_database.superuser_dsn)
    try:
        with listener.watch(tenant_id, heard.append):
            ringer.ring({tenant_id: FeedHead(EPOCH, 1)})
            await eventually(lambda: bool(heard))
            feeds.heads[tenant_id] = FeedHead(EPOCH, 2)  # rung while nobody listens
            killed = await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'relay-doorbell' AND datname = current_database()"
            )
            assert killed >= 2
            await eventually(lambda: heard[-1].seq == 2, 5)  # by the check after the reconnect
            await eventually(lambda: listener.connected and ringer.connected, 5)
            ringer.ring({tenant_id: FeedHead(EPOCH, 3)})
            await eventually(lambda: heard[-1].seq == 3, 5)
    finally:
        await admin.close()


async def test_redis_listener_comes_back_after_a_restart(
    redis_server: RedisServer, start_doorbell: Callable[..., Awaitable[Doorbell]]
) -> None:
    feeds = Feeds()
    ringer = await start_doorbell(open_doorbell("", redis_server.url))
    listener = await start_doorbell(open_doorbell("", redis_server.url), feeds.read)
    tenant_id = new_id()
    heard: list[FeedHead] = []
    with listener.watch(tenant_id, heard.append):
        ringer.ring({tenant_id: FeedHead(EPOCH, 1)})
        await eventually(lambda: bool(heard))
        redis_server.kill()
        await eventually(lambda: not listener.connected, 5)
        ringer.ring({tenant_id: FeedHead(EPOCH, 2)})  # must not raise, nor block
        feeds.heads[tenant_id] = FeedHead(EPOCH, 2)
        redis_server.start()
        await eventually(lambda: heard[-1].seq == 2, 12)
        await eventually(lambda: listener.connected, 12)
        ringer.ring({tenant_id: FeedHead(EPOCH, 3)})
        await eventually(lambda: heard[-1].seq == 3, 12)


async def test_a_doorbell_without_its_server_rings_at_home_and_starts_and_stops_at_once(
    start_doorbell: Callable[..., Awaitable[Doorbell]],
) -> None:
    for bell in (
        PostgresDoorbell("postgresql://nobody@127.0.0.1:1/none"),
        open_doorbell("", "redis://127.0.0.1:1/0"),
    ):
        started = time.monotonic()
        await start_doorbell(bell, wait=False)
        tenant_id = new_id()
        heard: list[FeedHead] = []
        with bell.watch(tenant_id, heard.append):
            bell.ring({tenant_id: FeedHead(EPOCH, 1)}, ["send"])
        assert heard
        await asyncio.sleep(0.05)
        await bell.stop()
        assert time.monotonic() - started < 1.5
