"""The sender and the reconciler against a Meta that answers, refuses, stalls and hangs up."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from relay.conversations.service import StatusReport, record_statuses, settle_waiting
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.kit.secrets import Secrets
from relay.meta.graph import GraphClient
from relay.outbound import callback, pacing
from relay.outbound.decisions import DEFAULT_TIMES, SendTimes
from relay.outbound.reconcile import Reconciler
from relay.outbound.sender import Sender
from relay.outbound.service import settle_by_callback
from tests.conftest import TenantFixture
from tests.relay.outbound.fake_meta import Answer, FakeMeta, fake_meta, refusal
from tests.relay.outbound.house import House

QUICK = SendTimes(lease=0.6, request=0.3, quiet=1.0, status_lag=0.5, reconcile_every=0.05)


@pytest.fixture
async def meta() -> AsyncIterator[FakeMeta]:
    async with fake_meta() as meta:
        yield meta


class Senders:
    """Starts senders and a reconciler, as a worker does."""

    def __init__(self, database: Database, doorbell: Doorbell, secrets: Secrets, meta: FakeMeta) -> None:
        self.database, self.doorbell, self.secrets, self.meta = database, doorbell, secrets, meta

    @asynccontextmanager
    async def running(
        self, senders: int = 1, times: SendTimes = QUICK, *, reconcile: bool = True
    ) -> AsyncIterator[asyncio.Event]:
        stop = asyncio.Event()
        async with GraphClient(self.meta.url, "v26.0", total_seconds=times.request) as graph:
            loops: list[Any] = [
                Sender(
                    database=self.database,
                    doorbell=self.doorbell,
                    secrets=self.secrets,
                    graph=graph,
                    times=times,
                )
                for _ in range(senders)
            ]
            if reconcile:
                loops.append(Reconciler(database=self.database, times=times))
            tasks = [asyncio.create_task(loop.run(stop)) for loop in loops]
            try:
                yield stop
            finally:
                stop.set()
                async with asyncio.timeout(5):
                    await asyncio.gather(*tasks)

    async def reconcile(self) -> None:
        """Look at what is unknown as if its quiet time were over."""
        async with self.database.system() as work:
            await work.execute(text("UPDATE send_attempt SET check_at = now() WHERE state = 'unknown'"))
        await Reconciler(database=self.database, times=QUICK).look()


@pytest.fixture
def senders(database: Database, doorbell: Doorbell, relay_secrets: Secrets, meta: FakeMeta) -> Senders:
    return Senders(database, doorbell, relay_secrets, meta)


@pytest.fixture
async def conversation(house: House) -> UUID:
    (conversation,) = await house.conversations(1, last_inbound_at=datetime.now(UTC))
    return conversation


async def queue(house: House, *conversations: UUID, body: str = "Hello") -> list[UUID]:
    return await house.enqueue(conversations, when=datetime.now(UTC) - timedelta(seconds=1), body=body)


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def until_status(house: House, message_id: UUID, status: str) -> Any:
    async def reached() -> bool:
        return bool((await house.message(message_id)).status == status)

    await eventually(reached)
    return await house.message(message_id)


async def report(house: House, secrets: Secrets, request: dict[str, Any], wamid: str, status: str) -> None:
    """Meta's status for a request, as the lanes apply it."""
    attempt_id = callback.decode(secrets, house.tenant_id, request["biz_opaque_callback_data"])
    assert attempt_id is not None
    reports = [StatusReport(house.number_id, wamid, status, datetime.now(UTC))]
    async with house.database.system_for(house.tenant_id) as work:
        waiting = await record_statuses(work, reports)
        if waiting:
            await settle_by_callback(work, attempt_id, wamid)
            await settle_waiting(work, waiting)


async def test_a_message_goes_out_and_gets_its_wamid(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID, tenant: TenantFixture
) -> None:
    (message_id,) = await queue(house, conversation, body="See https://example.com")
    async with senders.running():
        message = await until_status(house, message_id, "accepted")
    assert message.wamid == "wamid.0"
    (request,) = meta.requests
    assert request["to"].startswith("+49")
    assert request["text"] == {"body": "See https://example.com", "preview_url": True}
    assert meta.tokens == {f"bearer {tenant.access_token}"}
    attempt = await house.one("SELECT * FROM send_attempt")
    assert (attempt.state, attempt.wamid, attempt.check_at) == ("accepted", "wamid.0", None)
    assert attempt.started_at <= attempt.finished_at
    assert (await house.one("SELECT count(*) FROM send_queue")).count == 0
    announced = await house.one("SELECT count(*) FROM feed WHERE entity_id = :id", id=message_id)
    assert announced.count == 2  # sending, accepted


async def test_a_status_that_was_faster_than_the_answer_is_applied(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID
) -> None:
    async with house.database.system_for(house.tenant_id) as work:
        reports = [
            StatusReport(house.number_id, "wamid.0", status, datetime.now(UTC))
            for status in ("read", "sent", "delivered")
        ]
        await settle_waiting(work, await record_statuses(work, reports))
    (message_id,) = await queue(house, conversation)
    async with senders.running():
        assert (await until_status(house, message_id, "read")).wamid == "wamid.0"


async def test_many_messages_go_out_once_each_through_several_senders(
    house: House, senders: Senders, meta: FakeMeta
) -> None:
    await house.allow(1000)
    conversations = await house.conversations(300, last_inbound_at=datetime.now(UTC))
    await queue(house, *conversations)

    async def all_accepted() -> bool:
        return bool((await house.one("SELECT count(*) FROM message WHERE status = 'accepted'")).count == 300)

    began = time.monotonic()
    async with senders.running(senders=2, times=DEFAULT_TIMES):
        await eventually(all_accepted, 30)
    print(f"{300 / (time.monotonic() - began):.0f} messages a second")
    assert len(meta.requests) == 300
    assert set(Counter(meta.recipients).values()) == {1}


async def test_messages_of_a_conversation_leave_in_order(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID
) -> None:
    meta.react = lambda _request: Answer(body=meta.accept(), after=0.02)
    for n in range(12):
        (last,) = await queue(house, conversation, body=f"{n}")
    async with senders.running(senders=3):
        await until_status(house, last, "accepted")
    assert meta.texts == [str(n) for n in range(12)]
    assert meta.most_at_once == 1


async def test_a_refusal_fails_the_message_in_words(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID
) -> None:
    meta.react = lambda _request: refusal(131026)
    (message_id,) = await queue(house, conversation)
    async with senders.running():
        message = await until_status(house, message_id, "failed")
    assert message.error["meta_code"] == 131026
    assert "blocked" in message.error["advice"]
    attempt = await house.one("SELECT state, error_code FROM send_attempt")
    assert (attempt.state, attempt.error_code) == ("failed", 131026)
    assert len(meta.requests) == 1


async def test_an_unknown_code_fails_the_message_and_quotes_meta(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID
) -> None:
    meta.react = lambda _request: refusal(999_001, error_data={"details": "Something new."})
    (message_id,) = await queue(house, conversation)
    async with senders.running():
        message = await until_status(house, message_id, "failed")
    assert "Something new." in message.error["advice"]


async def test_a_limit_delays_and_never_fails(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID
) -> None:
    answers = [refusal(131057, 500, error_data={"details": "x"}), refusal(130429)]
    meta.react = lambda _request: answers.pop() if answers else None
    (message_id,) = await queue(house, conversation)
    async with senders.running():

        async def resting() -> bool:
            row = await house.one("SELECT hold_until > now() + interval '50 s' AS long FROM number_pace")
            return bool(row.long)

        await eventually(resting)
        assert (await house.message(message_id)).error["meta_code"] == 131057
        await house.run("UPDATE number_pace SET hold_until = 'epoch'")
        await house.run("UPDATE send_queue SET due_at = now(), turn_at = now()")
        message = await until_status(house, message_id, "accepted")
    assert message.error is None
    attempts = await house.one("SELECT array_agg(state ORDER BY n) AS states FROM send_attempt")
    assert attempts.states == ["retry_later", "retry_later", "accepted"]


async def _count(meta: FakeMeta, requests: int) -> bool:
    return len(meta.requests) >= requests


async def test_a_lost_token_holds_the_number_and_says_so(
    house: House, senders: Senders, meta: FakeMeta
) -> None:
    await house.allow(10)
    meta.react = lambda _request: refusal(190, 401)
    conversations = await house.conversations(20, last_inbound_at=datetime.now(UTC))
    messages = await queue(house, *conversations)
    async with senders.running(times=DEFAULT_TIMES):

        async def held() -> bool:
            row = await house.one(
                "SELECT (SELECT hold_code FROM number_pace) = 190"
                " AND NOT EXISTS (SELECT FROM send_attempt WHERE state = 'claimed') AS held"
            )
            return bool(row.held)

        await eventually(held)
        tried = len(meta.requests)
        await asyncio.sleep(0.5)
        assert len(meta.requests) == tried < len(messages)
        statuses = await house.one(
            "SELECT count(*) FILTER (WHERE status = 'failed') AS failed,"
            " count(*) FILTER (WHERE error IS NOT NULL) AS explained FROM message"
        )
        assert (statuses.failed, statuses.explained) == (0, tried)
        meta.react = lambda _request: None
        await house.run("UPDATE number_pace SET hold_until = 'epoch'")

        async def all_accepted() -> bool:
            row = await house.one("SELECT count(*) FROM message WHERE status = 'accepted' AND error IS NULL")
            return bool(row.count == len(messages))

        await eventually(all_accepted)
    assert (await house.one("SELECT hold_code FROM number_pace")).hold_code is None


async def test_a_message_whose_window_closed_while_it_waited_is_not_sent(
    house: House, senders: Senders, meta: FakeMeta
) -> None:
    (conversation,) = await house.conversations(1, last_inbound_at=datetime.now(UTC) - timedelta(hours=25))
    (message_id,) = await queue(house, conversation)
    async with senders.running():
        message = await until_status(house, message_id, "failed")
    assert "24 hours" in message.error["title"]
    assert message.error["meta_code"] is None
    assert meta.requests == []


async def test_after_a_day_a_message_that_cannot_be_sent_fails(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID
) -> None:
    meta.react = lambda _request: refusal(130429)
    (message_id,) = await house.enqueue(
        [conversation], when=datetime.now(UTC) - timedelta(hours=24, seconds=1)
    )
    async with senders.running():
        message = await until_status(house, message_id, "failed")
    assert "whole day" in message.error["title"]


async def test_meta_out_of_reach_is_tried_again(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID
) -> None:
    url, meta.url = meta.url, "http://127.0.0.1:9"
    (message_id,) = await queue(house, conversation)

    async def tried() -> bool:
        row = await house.one("SELECT count(*) FROM send_attempt WHERE state = 'retry_later'")
        return bool(row.count)

    async with senders.running():
        await eventually(tried)
    meta.url = url
    async with senders.running():
        await until_status(house, message_id, "accepted")
    assert len(meta.requests) == 1


async def test_a_lost_answer_is_settled_by_a_status(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID, relay_secrets: Secrets
) -> None:
    meta.react = lambda _request: Answer()
    (message_id,) = await queue(house, conversation)
    async with senders.running():
        await eventually(lambda: _attempt_is(house, "unknown"))
        assert (await house.message(message_id)).status == "sending"
        await report(house, relay_secrets, meta.requests[0], "wamid.lost", "delivered")
        message = await house.message(message_id)
        assert (message.status, message.wamid) == ("delivered", "wamid.lost")
        await asyncio.sleep(1.3)  # past the quiet time nothing more happens
    assert len(meta.requests) == 1
    assert (await house.one("SELECT count(*) FROM send_queue")).count == 0


async def _attempt_is(house: House, state: str) -> bool:
    row = await house.one("SELECT array_agg(state ORDER BY n) AS states FROM send_attempt")
    return bool(row.states and row.states[-1] == state)


async def test_without_proof_the_agent_decides_and_late_proof_still_wins(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID, relay_secrets: Secrets
) -> None:
    meta.react = lambda _request: Answer()
    (message_id,) = await queue(house, conversation)
    async with senders.running():
        message = await until_status(house, message_id, "unconfirmed")
        assert "confirm" in message.error["title"]
        await report(house, relay_secrets, meta.requests[0], "wamid.late", "sent")
    message = await house.message(message_id)
    assert (message.status, message.wamid, message.error) == ("sent", "wamid.late", None)
    assert len(meta.requests) == 1


async def lose_one_and_prove_that_statuses_flow(
    house: House, senders: Senders, secrets: Secrets, message_id: UUID
) -> None:
    """The answer for this message was lost; a message after it is accepted and reported on."""
    await eventually(lambda: _attempt_is(house, "unknown"))
    (other,) = await house.conversations(1, last_inbound_at=datetime.now(UTC))
    (proof,) = await queue(house, other, body="Later")
    message = await until_status(house, proof, "accepted")
    await report(house, secrets, senders.meta.requests[-1], message.wamid, "sent")


async def test_where_statuses_flow_a_message_that_left_no_trace_is_sent_once_more_and_only_once(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID, relay_secrets: Secrets
) -> None:
    meta.react = lambda request: Answer() if request["text"]["body"] == "Lost" else None
    (message_id,) = await queue(house, conversation, body="Lost")
    async with senders.running(reconcile=False):
        await lose_one_and_prove_that_statuses_flow(house, senders, relay_secrets, message_id)
        await senders.reconcile()
        await lose_one_and_prove_that_statuses_flow(house, senders, relay_secrets, message_id)
        assert Counter(meta.texts) == {"Lost": 2, "Later": 2}
        await senders.reconcile()
        await until_status(house, message_id, "unconfirmed")
    assert Counter(meta.texts) == {"Lost": 2, "Later": 2}


async def test_what_is_sent_once_more_may_well_arrive(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID, relay_secrets: Secrets
) -> None:
    lost = ["Lost"]
    meta.react = lambda request: Answer() if request["text"]["body"] in lost else None
    (message_id,) = await queue(house, conversation, body="Lost")
    async with senders.running(reconcile=False):
        await lose_one_and_prove_that_statuses_flow(house, senders, relay_secrets, message_id)
        lost.clear()
        await senders.reconcile()
        await until_status(house, message_id, "accepted")
    states = await house.one(
        "SELECT array_agg(state ORDER BY n) AS states FROM send_attempt WHERE message_id = :id", id=message_id
    )
    assert states.states == ["unconfirmed", "accepted"]


TROUBLES = {
    "backlog": "INSERT INTO webhook_raw (received_at, body) VALUES (now() - interval '6 s', '{}')",
    "parked webhook": "INSERT INTO webhook_raw (body, state) VALUES ('{}', 'parked')",
    "parked item": """
        INSERT INTO webhook_item (raw_received_at, raw_id, ordinal, tenant_id, number_id, field, kind,
                                  lane_hash, payload, state)
        SELECT now(), 1, 0, tenant_id, id, 'messages', 'status', 1, '{}', 'parked' FROM phone_number
    """,
    "closed window": "UPDATE conversation SET last_inbound_at = now() - interval '25 h'",
    "late status": "UPDATE message_status SET occurred_at = received_at - interval '7 s'",
    "no proof": "UPDATE message_status SET wamid = 'wamid.of.another.app'",
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_it_is_not_sent_again_where_a_status_may_hide(
    house: House, senders: Senders, conversation: UUID, relay_secrets: Secrets, *, trouble: str
) -> None:
    meta = senders.meta
    meta.react = lambda request: Answer() if request["text"]["body"] == "Lost" else None
    (message_id,) = await queue(house, conversation, body="Lost")
    async with senders.running(reconcile=False):
        await lose_one_and_prove_that_statuses_flow(house, senders, relay_secrets, message_id)
        await house.run(TROUBLES[trouble])
        await senders.reconcile()
        await until_status(house, message_id, "unconfirmed")
    assert meta.texts == ["Lost", "Later"]


async def test_proof_takes_a_message_out_of_the_queue_before_it_is_sent_again(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID, relay_secrets: Secrets
) -> None:
    meta.react = lambda _request: Answer()
    (message_id,) = await queue(house, conversation)
    async with senders.running():
        await until_status(house, message_id, "unconfirmed")
    # The agent sends it again, and in this moment the status arrives after all.
    await house.run("UPDATE message SET status = 'queued', status_rank = 0")
    await house.run(
        "INSERT INTO send_queue (tenant_id, message_id, number_id, conversation_id, recipient,"
        " recipient_kind, attempts)"
        " SELECT tenant_id, id, number_id, conversation_id, '49', 'phone', 1 FROM message"
    )
    await report(house, relay_secrets, meta.requests[0], "wamid.late", "sent")
    async with senders.running():
        await asyncio.sleep(0.3)
    assert (await house.message(message_id)).status == "sent"
    assert len(meta.requests) == 1


async def test_a_sender_that_died_before_it_began_has_sent_nothing(
    database: Database, house: House, senders: Senders, meta: FakeMeta, conversation: UUID
) -> None:
    (message_id,) = await queue(house, conversation)
    async with database.system() as work:
        assert len((await pacing.claim(work, 10, lease=QUICK.lease)).taken) == 1
    async with senders.running():
        await until_status(house, message_id, "accepted")
    states = await house.one("SELECT array_agg(state ORDER BY n) AS states FROM send_attempt")
    assert states.states == ["retry_later", "accepted"]


async def test_stopping_finishes_what_is_under_way(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID
) -> None:
    meta.react = lambda _request: Answer(body=meta.accept(), after=0.2)
    (message_id,) = await queue(house, conversation)
    async with senders.running() as stop:
        await eventually(lambda: _count(meta, 1))
        stop.set()
    assert (await house.message(message_id)).status == "accepted"


async def test_what_a_stopped_sender_had_not_begun_is_given_back(
    database: Database, doorbell: Doorbell, relay_secrets: Secrets, house: House, conversation: UUID
) -> None:
    await queue(house, conversation)
    stop = asyncio.Event()
    async with GraphClient("http://127.0.0.1:9", "v26.0") as graph:
        sender = Sender(database=database, doorbell=doorbell, secrets=relay_secrets, graph=graph)
        running = asyncio.create_task(sender.run(stop))
        await asyncio.sleep(0)  # it is claiming
        stop.set()
        await running
    attempt = await house.one("SELECT state, started_at FROM send_attempt")
    assert (attempt.state, attempt.started_at) == ("retry_later", None)
    assert (await house.one("SELECT state FROM send_queue")).state == "queued"


async def test_two_proofs_for_one_message_are_noticed(
    house: House, senders: Senders, meta: FakeMeta, conversation: UUID, relay_secrets: Secrets
) -> None:
    """It must not happen; if it does, it must not go unseen, nor confuse the message."""
    (message_id,) = await queue(house, conversation)
    async with senders.running():
        await until_status(house, message_id, "accepted")
    other = "01a20528-69cb-7019-a166-0ceb9b2410f0"
    await house.run(
        "INSERT INTO send_attempt (tenant_id, id, message_id, n, state)"
        " VALUES (:t, :id, :m, 2, 'unconfirmed')",
        t=house.tenant_id,
        id=UUID(other),
        m=message_id,
    )
    async with house.database.system_for(house.tenant_id) as work:
        await settle_by_callback(work, UUID(other), "wamid.second")
    assert (await house.message(message_id)).wamid == "wamid.0"
    assert (await house.one("SELECT wamid FROM send_attempt WHERE n = 2")).wamid == "wamid.second"
