"""The claim: pace of numbers and pairs, turns between tenants, order within a conversation."""

import asyncio
import statistics
import time
from bisect import bisect_right
from collections import Counter
from datetime import datetime
from uuid import UUID

import psycopg
import pytest

from relay.kit.db import Database
from relay.kit.secrets import Secrets
from relay.outbound.decisions import AttemptState, Decision, Line
from relay.outbound.pacing import Claim
from relay.outbound.service import Outcome
from tests.conftest import TestDatabase, make_tenant
from tests.relay.outbound.house import T0, House, at, claim


def accepted(claim: Claim) -> Outcome:
    wamid = f"wamid.{claim.attempt_id}"
    return Outcome(claim, Decision(AttemptState.ACCEPTED, Line.CLEAR, wamid=wamid, pair_backoff=0))


async def analyze(database: TestDatabase) -> None:
    """What autovacuum does within a minute of such a growth."""
    async with await psycopg.AsyncConnection.connect(database.superuser_dsn, autocommit=True) as connection:
        await connection.execute("ANALYZE")


def most_within(times: list[float], width: float) -> int:
    """The most events in any half-open window of this width."""
    times = sorted(times)
    return max(bisect_right(times, start + width - 1e-9) - i for i, start in enumerate(times))


async def test_nothing_due_claims_nothing(database: Database, house: House) -> None:
    assert await claim(database) == []
    await house.enqueue(await house.conversations(1), when=at(60))
    assert await claim(database, now=T0) == []
    assert len(await claim(database, now=at(61))) == 1


async def test_a_claim_leaves_a_record_before_anything_is_sent(database: Database, house: House) -> None:
    (message_id,) = await house.enqueue(await house.conversations(1))
    (taken,) = await claim(database, now=at(5))
    assert (taken.message_id, taken.attempt, taken.recipient_kind) == (message_id, 1, "phone")
    assert taken.age == pytest.approx(5, abs=0.01)
    attempt = await house.one("SELECT * FROM send_attempt")
    assert (attempt.id, attempt.state, attempt.started_at) == (taken.attempt_id, "claimed", None)
    assert attempt.check_at == at(5 + 45)
    assert await claim(database, now=at(5)) == []


async def test_no_second_holds_more_than_the_number_may_send(database: Database, house: House) -> None:
    await house.enqueue(await house.conversations(600))
    times = [tick / 50 for tick in range(250) for _ in await claim(database, now=at(tick / 50))]
    assert most_within(times, 1.0) <= 80
    # Nor does it waste what it may: 72 a second, and the burst at the start.
    assert 72 * 5 - 5 <= len(times) <= 72 * 5 + 8


@pytest.mark.parametrize("rate", [1, 5, 20, 1000])
async def test_other_rates_hold_too(database: Database, house: House, rate: int) -> None:
    await house.allow(rate)
    await house.enqueue(await house.conversations(min(2 * rate, 400)))
    times = [tick / 20 for tick in range(60) for _ in await claim(database, now=at(tick / 20))]
    assert most_within(times, 1.0) <= rate
    assert len(times) >= min(2 * rate, 400)


async def test_small_tenants_pass_beside_a_campaign(
    database: Database,
    relay_database: TestDatabase,
    house: House,
    relay_secrets: Secrets,
    password_hash: str,
) -> None:
    """20 numbers, one with a campaign of 20,000; four senders claim at once, in short steps of time."""
    await house.enqueue(await house.conversations(20_000), priority=20, when=at(-3600))
    await analyze(relay_database)
    small = [
        House.of(database, await make_tenant(database, relay_secrets, password_hash, f"Small{n}", 100 + n))
        for n in range(19)
    ]
    taken: dict[UUID, list[float]] = {}
    tenants: dict[UUID, UUID] = {}
    costs: list[float] = []

    async def sender(now: float) -> None:
        began = time.perf_counter()
        claims = await claim(database, 32, now=at(now))
        costs.append(time.perf_counter() - began)
        for entry in claims:
            taken.setdefault(entry.message_id, []).append(now)
            tenants[entry.message_id] = entry.tenant_id

    for tick in range(80):
        if tick == 20:
            for other in small:
                await other.enqueue(await other.conversations(20), when=at(1.0))
        await asyncio.gather(*(sender(tick / 20) for _ in range(4)))

    assert all(len(times) == 1 for times in taken.values())
    campaign = [times[0] for message, times in taken.items() if tenants[message] == house.tenant_id]
    others = [times[0] for message, times in taken.items() if tenants[message] != house.tenant_id]
    assert most_within(campaign, 1.0) <= 80
    assert len(campaign) >= 0.9 * 72 * 4  # it steps aside for a moment, no longer
    assert len(others) == 19 * 20
    assert max(others) < 2.0
    print(f"claim p50 {1000 * statistics.median(costs):.1f} ms, max {1000 * max(costs):.1f} ms")


async def test_when_there_is_little_room_every_tenant_gets_a_turn(
    database: Database, house: House, relay_secrets: Secrets, password_hash: str
) -> None:
    await house.enqueue(await house.conversations(50), when=at(-60))
    others = [
        House.of(database, await make_tenant(database, relay_secrets, password_hash, f"T{n}", 10 + n))
        for n in range(5)
    ]
    for other in others:
        await other.enqueue(await other.conversations(2))
    share = Counter(entry.tenant_id for entry in await claim(database, 6, now=at(1)))
    assert share == dict.fromkeys([house.tenant_id, *(other.tenant_id for other in others)], 1)


async def test_replies_overtake_a_campaign_until_its_turn_has_come(database: Database, house: House) -> None:
    await house.allow(1)
    conversations = await house.conversations(4)
    old = await house.enqueue(conversations[:1], priority=20, when=at(0))
    reply = await house.enqueue(conversations[1:2], when=at(590))
    late_reply = await house.enqueue(conversations[2:3], when=at(610))
    order = []
    for now in (620, 622, 624):
        order += [entry.message_id for entry in await claim(database, now=at(now))]
    assert order == reply + old + late_reply


async def test_one_conversation_is_sent_in_order_one_at_a_time(database: Database, house: House) -> None:
    (conversation,) = await house.conversations(1)
    first, second, third = await house.enqueue([conversation] * 3)
    (one,) = await claim(database, now=at(1))
    assert one.message_id == first
    assert await claim(database, now=at(2)) == []
    retry = Decision(AttemptState.RETRY_LATER, Line.CLEAR, retry_in=10)
    await house.settle(Outcome(one, retry), now=at(2))
    assert await claim(database, now=at(5)) == []  # the second does not pass the first
    (one,) = await claim(database, now=at(13))
    assert (one.message_id, one.attempt) == (first, 2)
    await house.settle(accepted(one), now=at(14))
    (two,) = await claim(database, now=at(15))
    assert two.message_id == second
    await house.settle(Outcome(two, Decision(AttemptState.UNKNOWN, Line.CLEAR)), now=at(15))
    assert await claim(database, now=at(60)) == []  # what came of the second must be known first
    await house.settle(accepted(two), now=at(61))
    assert [entry.message_id for entry in await claim(database, now=at(62))] == [third]


async def test_a_pair_gets_its_burst_and_then_one_in_six_seconds(database: Database, house: House) -> None:
    conversations = await house.conversations(120)
    await house.enqueue(conversations, recipient="4915112345678")
    times = []
    for second in range(600):
        for entry in await claim(database, now=at(second)):
            times.append(float(second))
            await house.settle(accepted(entry), now=at(second))
    assert len(times) == 120
    for i, start in enumerate(times):
        for j in range(i, len(times)):
            assert j - i + 1 <= 45 + (times[j] - start) / 6
    assert most_within(times[60:], 6.0) == 1


async def test_two_processes_share_the_burst_of_a_pair(database: Database, house: House) -> None:
    """By the real clock of the database, with claims that really run at once."""
    await house.allow(1000)
    last = datetime.now(tz=T0.tzinfo)
    await house.enqueue(await house.conversations(120), recipient="4915112345678", when=last)
    taken: list[Claim] = []
    began = time.monotonic()
    for _ in range(60):
        for claims in await asyncio.gather(*(claim(database, 5) for _ in range(4))):
            taken += claims
    assert len(taken) == len({entry.message_id for entry in taken})
    assert 45 <= len(taken) <= 45 + (time.monotonic() - began) // 6


async def test_a_pair_that_meta_refused_rests_longer_each_time(database: Database, house: House) -> None:
    await house.enqueue(await house.conversations(3), recipient="4915112345678", when=at(-1))
    (first,) = await claim(database, now=at(0))
    refused = Decision(AttemptState.RETRY_LATER, Line.CLEAR, retry_in=6, pair_backoff=1)
    await house.settle(Outcome(first, refused), now=at(1))
    assert await claim(database, now=at(6.5)) == []
    (again,) = await claim(database, now=at(7.5))
    assert again.pair_backoff == 1
    await house.settle(accepted(again), now=at(8))
    pair = await house.one("SELECT backoff FROM pair_pace")
    assert pair.backoff == 0
    assert await claim(database, now=at(12.9)) == []  # no burst is left
    assert len(await claim(database, now=at(13.1))) == 1


async def test_other_recipients_are_not_affected_by_a_pair(database: Database, house: House) -> None:
    mine, other = await house.conversations(2)
    await house.enqueue([mine], when=at(-1))
    (first,) = await claim(database, now=at(0))
    refused = Decision(AttemptState.RETRY_LATER, Line.CLEAR, retry_in=96, pair_backoff=3)
    await house.settle(Outcome(first, refused), now=at(1))
    (message,) = await house.enqueue([other], when=at(1))
    assert [entry.message_id for entry in await claim(database, now=at(2))] == [message]


async def test_a_throttled_number_slows_down_and_recovers(database: Database, house: House) -> None:
    """A storm of 130429: one halving for all refusals of a moment, then a tenth back each half minute."""
    await house.enqueue(await house.conversations(3000), when=at(-1))

    async def rate(now: float) -> int:
        return sum([len(await claim(database, now=at(now + tick / 10))) for tick in range(10)])

    burst = await claim(database, now=at(0))
    assert len(burst) == 8
    slow = Decision(AttemptState.RETRY_LATER, Line.SLOW, retry_in=2, rest=2)
    await house.settle(*(Outcome(entry, slow, code=130429) for entry in burst), now=at(0.1))
    for entry in burst[:3]:
        await house.settle(Outcome(entry, slow, code=130429), now=at(0.2))
    assert (await house.one("SELECT rate_factor FROM number_pace")).rate_factor == 0.5
    assert await rate(1.0) == 0
    assert 33 <= await rate(5) <= 40
    for storm in range(6):
        (one,) = await claim(database, 1, now=at(10 + 3 * storm))
        await house.settle(Outcome(one, slow, code=130429), now=at(10.1 + 3 * storm))
    assert (await house.one("SELECT rate_factor FROM number_pace")).rate_factor == 0.05
    assert 3 <= await rate(30) <= 5
    assert 0.94 * 72 <= await rate(30 + 300) <= 80


async def test_a_number_on_which_nothing_gets_through_is_tried_by_one_message(
    database: Database, house: House
) -> None:
    await house.enqueue(await house.conversations(100), when=at(-1))
    strike = Decision(AttemptState.RETRY_LATER, Line.STRIKE, retry_in=1)
    burst = await claim(database, now=at(0))
    await house.settle(*(Outcome(entry, strike) for entry in burst[:4]), now=at(0.1))
    (late,) = await claim(database, 1, now=at(0.3))  # one failure proves nothing
    for entry in burst[4:]:
        await house.settle(Outcome(entry, strike), now=at(0.4))
    assert (await house.one("SELECT strikes FROM number_pace")).strikes == 5
    await house.settle(Outcome(late, strike), now=at(0.5))  # one more that was under way adds nothing
    assert (await house.one("SELECT strikes FROM number_pace")).strikes == 5
    assert await claim(database, now=at(5)) == []
    (probe,) = await claim(database, now=at(6))
    assert probe.probe
    assert await claim(database, now=at(7)) == []  # until it is known what came of the probe
    await house.settle(Outcome(probe, strike), now=at(8))
    assert await claim(database, now=at(8 + 9)) == []  # twice as long
    (probe,) = await claim(database, now=at(8 + 11))
    await house.settle(accepted(probe), now=at(20))
    assert len(await claim(database, now=at(20.1))) == 8


async def test_a_stopped_number_holds_its_queue_and_says_why(database: Database, house: House) -> None:
    messages = await house.enqueue(await house.conversations(10), when=at(-1))
    (first, *rest) = await claim(database, now=at(0))
    stop = Decision(AttemptState.RETRY_LATER, Line.STOP)
    await house.settle(
        Outcome(first, stop, code=190), *(Outcome(entry, stop, code=190) for entry in rest), now=at(1)
    )
    pace = await house.one("SELECT * FROM number_pace")
    assert (pace.hold_code, pace.hold_until) == (190, at(61))
    assert await claim(database, now=at(60)) == []
    (probe,) = await claim(database, now=at(62))
    await house.settle(Outcome(probe, stop, code=190), now=at(63))
    assert (await house.one("SELECT hold_until FROM number_pace")).hold_until == at(63 + 120)
    (probe,) = await claim(database, now=at(200))
    await house.settle(accepted(probe), now=at(201))
    assert (await house.one("SELECT hold_code FROM number_pace")).hold_code is None
    assert len(await claim(database, now=at(202))) == 8
    assert len(messages) == 10
