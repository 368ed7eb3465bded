"""The client under seeded faults: whatever happens, it ends up equal to the relay, and nothing is sent twice.

The real account (sync, outbox, history, read marks, the encrypted file) runs against the fake relay without
sockets; its rounds are called one by one, so a run depends on nothing but the choices of Hypothesis. A crash
drops the account where it stands and opens the file again.
"""

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from desktop.cache.errors import CacheError
from desktop.cache.rows import Edge, InboxCounts, InboxQuery, OutboxState
from desktop.cache.store import Cache
from desktop.engine.account import Account
from desktop.engine.account_file import AccountFolder
from desktop.engine.api import Api, ApiError
from desktop.engine.outbox import AlreadyLeaving
from desktop.engine.publisher import Publisher
from desktop.engine.session import Session
from desktop.platform.keyring import SessionSecrets
from shared.delivery import DeliveryStatus
from tests.desktop.engine_client import JumpingClock
from tests.desktop.fake_relay import ME, FakeRelay, Fault
from tests.desktop.fake_relay_server import FakeTransport

pytestmark = pytest.mark.timeout(600)  # a failure is made smaller before it is told

T = TypeVar("T")

FAULTS = st.sampled_from(
    [
        Fault.LOST,
        Fault.ANSWER_LOST,
        Fault.ERROR_500,
        Fault.UNAVAILABLE,
        Fault.RATE_LIMITED,
        Fault.CAPTIVE_PORTAL,
        Fault.GARBAGE,
    ]
)
ROUTES = st.sampled_from(
    [("GET", "snapshot"), ("GET", "changes"), ("GET", "messages"), ("POST", "messages"), ("POST", "read")]
)


class ClientSimulation(RuleBasedStateMachine):
    conversations: Bundle[UUID] = Bundle("conversations")
    messages: Bundle[UUID] = Bundle("messages")
    sent: Bundle[UUID] = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.relay = FakeRelay(snapshot_page=3)
        self.key = secrets.token_bytes(32)
        self.clock = JumpingClock()
        self.cancelled: set[UUID] = set()
        self.written = 0
        self.cache, self.account = self.run(self.open())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 60))

    async def open(self) -> tuple[Cache, Account]:
        folder = AccountFolder(Path(self.folder.name))
        cache = await Cache.open(folder.cache, self.key)
        self.transport = FakeTransport(self.relay)
        api = Api("http://relay", transport=self.transport)
        session = Session(api, SessionSecrets(), "token", self.relay._pair().refresh_token, self.clock)
        account = Account(
            me=ME,
            folder=folder,
            cache=cache,
            api=api,
            session=session,
            publish=Publisher(lambda _batch: None),
            clock=self.clock,
        )
        await account.sync.load()
        await account.outbox.load()
        return cache, account

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.run(self.account.close())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.folder.cleanup()

    # --- at the relay ---

    @initialize(target=conversations, count=st.integers(1, 8))
    def begin(self, count: int) -> Any:
        return multiple(*(self.relay.add_conversation(str(number)) for number in range(count)))

    @rule(target=conversations)
    def somebody_new_writes(self) -> UUID:
        id_ = self.relay.add_conversation("new")
        self.relay.customer_writes(id_, "first")
        return id_

    @rule(target=messages, conversation=conversations, count=st.integers(1, 5))
    def customer_writes(self, conversation: UUID, count: int) -> Any:
        if conversation not in self.relay.conversations:
            return multiple()
        written = [self.relay.customer_writes(conversation, str(number)) for number in range(count)]
        return multiple(*(message.id for message in written))

    @rule(client_id=sent, status=st.sampled_from(list(DeliveryStatus)))
    def status_arrives(self, client_id: UUID, status: DeliveryStatus) -> None:
        message = self.relay.by_client_id.get(client_id)
        if message in self.relay.messages:
            self.relay.status(message, status)

    @rule(message=consumes(messages))
    def message_is_removed(self, message: UUID) -> None:
        if message in self.relay.messages:
            self.relay.remove_message(message)

    @rule(conversation=consumes(conversations))
    def access_is_lost(self, conversation: UUID) -> None:
        if len(self.relay.conversations) > 1:
            self.relay.remove_conversation(conversation)

    @rule()
    def feed_is_compacted(self) -> None:
        self.relay.expire_cursors()

    @rule()
    def relay_is_restored(self) -> None:
        self.relay.restore()

    @rule(route=ROUTES, faults=st.lists(FAULTS, min_size=1, max_size=3))
    def line_is_bad(self, route: tuple[str, str], faults: list[Fault]) -> None:
        self.relay.fail(*route, *faults)

    # --- at the desk ---

    @rule(target=sent, conversation=conversations)
    def agent_writes(self, conversation: UUID) -> UUID:
        self.written += 1
        return self.run(self.account.send_text(conversation, f"answer {self.written}", None)).key

    @rule(client_id=sent)
    def agent_takes_back(self, client_id: UUID) -> None:
        try:
            taken = self.run(self.account.outbox.cancel(client_id))
        except AlreadyLeaving:
            return
        if not taken.unsent.maybe_sent:
            self.cancelled.add(client_id)

    @rule(client_id=sent)
    def agent_tries_again(self, client_id: UUID) -> None:
        self.run(self.account.outbox.retry(client_id))

    @rule(message=messages)
    def agent_reads(self, message: UUID) -> None:
        if (known := self.relay.messages.get(message)) is not None:
            self.run(self.account.read_marks.mark(known.conversation_id, message))

    @rule(conversation=conversations)
    def agent_scrolls_up(self, conversation: UUID) -> None:
        if self.account.sync.following.is_set():
            self.attempt(self.account.history.load_older(conversation, limit=2))

    @rule()
    def client_synchronises(self) -> None:
        self.attempt(self.account.sync.catch_up())

    @rule()
    def client_sends(self) -> None:
        self.run(self.send_round())

    async def send_round(self) -> None:
        self.clock.skip += 1_000.0  # past every wait
        await self.account.outbox.start_due()
        await self.account.outbox.drain()

    @rule()
    def client_tells_what_was_read(self) -> None:
        self.attempt(self.account.read_marks.send_all())

    @rule(
        travel_ms=st.lists(st.integers(0, 15), max_size=12),
        conversation=conversations,
        data=st.data(),
    )
    def all_at_once(self, travel_ms: list[int], conversation: UUID, data: st.DataObject) -> None:
        """Answers overtake each other while the relay moves on."""
        happens = data.draw(st.lists(st.sampled_from(["write", "status", "remove"]), max_size=6))
        which = data.draw(st.lists(st.integers(0, 99), min_size=len(happens), max_size=len(happens)))

        async def relay_moves_on() -> None:
            for what, number in zip(happens, which, strict=True):
                await asyncio.sleep(0.003)
                self.happen(what, number, conversation)

        async def follow() -> None:
            for _ in range(4):
                await self.account.sync.catch_up()
                await asyncio.sleep(0.002)

        async def together() -> None:
            account = self.account
            reading = [account.history.load_older(conversation, limit=3)] if following else []
            await asyncio.gather(
                follow(),
                self.send_round(),
                account.read_marks.send_all(),
                *reading,
                relay_moves_on(),
                return_exceptions=True,
            )

        following = self.account.sync.following.is_set()
        self.transport.travel_ms = travel_ms
        self.run(together())
        self.transport.travel_ms = []

    def happen(self, what: str, number: int, conversation: UUID) -> None:
        messages = self.relay.timeline(conversation)
        if conversation not in self.relay.conversations:
            return
        if what == "write" or not messages:
            self.relay.customer_writes(conversation, f"meanwhile {number}")
        elif what == "status":
            ladder = list(DeliveryStatus)
            self.relay.status(messages[number % len(messages)].id, ladder[number % len(ladder)])
        else:
            self.relay.remove_message(messages[number % len(messages)].id)

    @rule(steps=st.integers(0, 40))
    def client_is_killed(self, steps: int) -> None:
        """Stop a round after some steps of the loop, wherever it is, and start again from the file."""

        async def cut_short() -> None:
            busy = asyncio.gather(self.account.sync.catch_up(), self.send_round(), return_exceptions=True)
            for _ in range(steps):
                await asyncio.sleep(0)
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
            await self.account.outbox.close(0)
            await self.account.history.close()
            await self.account._api.close()
            await self.cache.close()

        self.run(cut_short())
        self.cache, self.account = self.run(self.open())

    def attempt(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """What the loops of the account do with failures: they wait and come again."""
        with contextlib.suppress(ApiError, CacheError):
            self.run(coroutine)

    # --- what must hold ---

    @invariant()
    def nothing_is_sent_twice(self) -> None:
        assert len(self.relay.arrivals) == len(set(self.relay.arrivals))

    @invariant()
    def nothing_taken_back_is_sent(self) -> None:
        assert not self.cancelled & set(self.relay.arrivals)

    @precondition(lambda self: self.account.sync.snapshot_done.is_set())
    @rule()
    def settle(self) -> None:
        """Without faults, a few rounds make the cache equal to the relay."""
        self.relay.planned.clear()
        self.run(self.settled())

    async def settled(self) -> None:
        for _ in range(100):
            await self.account.sync.catch_up()
            await self.send_round()
            await self.account.read_marks.send_all()
            await self.account.sync.catch_up()
            queries = self.account.queries
            waiting = [m for m in await queries.unsent() if m.unsent.state is not OutboxState.WEDGED]
            if not waiting and self.account.sync.snapshot_done.is_set():
                break
        else:
            raise AssertionError(f"still waiting: {waiting}")
        await self.check_inbox()
        for conversation in self.relay.conversations:
            await self.check_timeline(conversation)

    async def check_inbox(self) -> None:
        queries = self.account.queries
        page = await queries.inbox_page(InboxQuery(), limit=1_000)
        # A conversation that is gone stays while something unsent belongs to it.
        wedged = {message.conversation_id for message in await queries.unsent()}
        shown = {row.id: row for row in page.rows if row.id in self.relay.conversations}
        assert {row.id for row in page.rows} - set(shown) <= wedged
        assert set(shown) == set(self.relay.conversations)
        unread = sum(row.unread_count > 0 for row in page.rows)
        assert await queries.inbox_counts() == InboxCounts(len(page.rows), unread)
        for id_, row in shown.items():
            truth = self.relay.conversations[id_]
            assert (row.version, row.unread_count) == (truth.version, truth.unread_count)
            assert row.last_message == truth.last_message
            if not row.unsent:
                assert row.activity_at == truth.last_activity_at

    async def check_timeline(self, conversation: UUID) -> None:
        truth = [(m.id, m.version, m.status) for m in self.relay.timeline(conversation)]
        queries = self.account.queries
        shown = await queries.timeline_newest(conversation, limit=10_000)
        if shown.complete:
            # What is shown reaches without a gap from some message to the newest.
            rows = [(row.id, row.version, row.status) for row in shown.rows if row.unsent is None]
            assert rows == truth[len(truth) - len(rows) :]
        while shown.older is Edge.REMOTE:
            await self.account.history.load_older(conversation, limit=2)
            shown = await queries.timeline_newest(conversation, limit=10_000)
        rows = [(row.id, row.version, row.status) for row in shown.rows if row.unsent is None]
        assert rows == truth


SHORT = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

ClientSimulation.TestCase.settings = SHORT
TestClientSimulation = ClientSimulation.TestCase


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_client_simulation_at_length() -> None:
    run_state_machine_as_test(ClientSimulation, settings=settings(SHORT, max_examples=400))
