"""Whatever happens on the way, a client ends with what a fresh start shows."""

import asyncio
import itertools
import random
import time

import psycopg
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg import sql

from relay.kit import doorbell as doorbell_module
from relay.kit.db import Database, FeedHead
from relay.kit.doorbell import Doorbell, PostgresDoorbell
from relay.kit.secrets import KeyRing, Secrets
from relay.meta.graph import Refused, Unknown
from relay.sync import feed
from relay.sync.service import clear_old_entries, heads_reader, start_new_epoch
from shared.wire.inbox import Conversation
from shared.wire.sync import Changes
from tests import meta_webhooks
from tests.conftest import ENCRYPTION_KEY, TestDatabase, make_tenant
from tests.relay.sync.conftest import OpenDoorbell, eventually
from tests.relay.sync.desk import Desk
from tests.relay.sync.model_client import ModelClient, fresh_state

RESTORED = (
    "contact", "contact_identity", "conversation", "message", "message_status",
    "send_queue", "send_attempt", "number_pace", "pair_pace", "feed_head", "feed",
)  # fmt: skip
"""The tenant's tables that a backup holds and a restore brings back."""

_tenant_numbers = itertools.count(10_000)


class Life(RuleBasedStateMachine):
    """A tenant's days: customers, agents, Meta, an operator, and a client on a bad line."""

    def __init__(self, test_database: TestDatabase, password_hash: str) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._run = self._runner.run
        self._dsn = test_database.dsn
        self._password_hash = password_hash
        self._superuser = psycopg.connect(test_database.superuser_dsn, autocommit=True)
        self._backed_up = False
        self._kept: list[Changes] = []
        self._wamids: list[str] = []

    @initialize()
    def open(self) -> None:
        async def open_() -> None:
            doorbell = PostgresDoorbell(self._dsn)
            self._database = Database(
                self._dsn,
                application_name="test",
                append_feed=feed.append,
                ring=lambda _heads, _topics: None,
            )
            secrets = Secrets(KeyRing.parse(ENCRYPTION_KEY))
            n = next(_tenant_numbers)
            tenant = await make_tenant(self._database, secrets, self._password_hash, f"Life{n}", n)
            self._desk = Desk(self._database, doorbell, secrets, tenant)
            self._client = ModelClient(self._database, tenant.id, page=3)
            await self._client.bootstrap()

        self._run(open_())

    def _some_conversation(self, pick: int) -> Conversation | None:
        conversations = self._run(self._desk.conversations())
        return conversations[pick % len(conversations)] if conversations else None

    # --- the world ---

    @rule(
        who=st.integers(0, 3),
        shows=st.sampled_from(["phone", "bsuid", "both"]),
        name=st.sampled_from([None, "Ada", "Bo"]),
        age=st.integers(0, 7200),
    )
    def customer_writes(self, who: int, shows: str, name: str | None, age: int) -> None:
        phone = None if shows == "bsuid" else f"49155501002{who:02}"
        bsuid = None if shows == "phone" else f"DE.10{who}"
        self._run(
            self._desk.customer_writes(
                f"I am {who}", phone=phone, bsuid=bsuid, name=name, at=time.time() - age
            )
        )

    @rule(pick=st.integers(0, 9))
    def agent_writes(self, pick: int) -> None:
        conversation = self._some_conversation(pick)
        if conversation is not None and conversation.contact.phone is not None:
            self._run(self._desk.agent_writes(conversation))

    @rule(pick=st.integers(0, 9))
    def agent_reads(self, pick: int) -> None:
        conversation = self._some_conversation(pick)
        if conversation is not None:
            self._run(self._desk.agent_reads(conversation))

    @rule(result=st.sampled_from([None, None, None, Refused(400, 131026), Unknown("lost")]))
    def sender_works(self, result: Refused | Unknown | None) -> None:
        wamid = self._run(self._desk.sender_works_if_due(result))
        if wamid is not None:
            self._wamids.append(wamid)

    @precondition(lambda self: self._wamids)
    @rule(pick=st.integers(0, 9), value=st.sampled_from(["sent", "delivered", "read", "failed"]))
    def meta_reports(self, pick: int, value: str) -> None:
        wamid = self._wamids[pick % len(self._wamids)]
        self._run(self._desk.meta_reports(meta_webhooks.status(wamid, value, at=int(time.time()))))

    # --- the operator ---

    @rule()
    def old_entries_are_cleared(self) -> None:
        self._superuser.execute(
            "UPDATE feed SET at = at - interval '31 days' WHERE tenant_id = %s", [self._desk.tenant.id]
        )
        self._run(clear_old_entries(self._database))

    @rule()
    def a_backup_is_made(self) -> None:
        for table in RESTORED:
            self._superuser.execute(
                sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(f"kept_{table}"))
            )
            self._superuser.execute(
                sql.SQL("CREATE TEMP TABLE {} AS SELECT * FROM {} WHERE tenant_id = {}").format(
                    sql.Identifier(f"kept_{table}"), sql.Identifier(table), self._desk.tenant.id
                )
            )
        self._backed_up = True

    @precondition(lambda self: self._backed_up)
    @rule()
    def the_backup_is_restored(self) -> None:
        with self._superuser.transaction():
            self._superuser.execute("SET LOCAL session_replication_role = replica")
            for table in RESTORED:
                names = {"table": sql.Identifier(table), "kept": sql.Identifier(f"kept_{table}")}
                self._superuser.execute(
                    sql.SQL("DELETE FROM {table} WHERE tenant_id = {id}").format(
                        **names, id=self._desk.tenant.id
                    )
                )
                self._superuser.execute(sql.SQL("INSERT INTO {table} SELECT * FROM {kept}").format(**names))
        self._run(start_new_epoch(self._database))

    # --- the client ---

    @rule(limit=st.integers(1, 4), fate=st.sampled_from(["arrives", "is lost", "arrives twice", "is late"]))
    def a_page_is_asked_for(self, limit: int, fate: str) -> None:
        page = self._run(self._client.fetch(limit))
        if page is None:
            self._run(self._client.bootstrap())
            return
        if fate in ("is late", "arrives twice"):
            self._kept.append(page)
        if fate in ("arrives", "arrives twice"):
            self._client.apply(page)

    @precondition(lambda self: self._kept)
    @rule(pick=st.integers(0, 9))
    def a_late_page_arrives(self, pick: int) -> None:
        self._client.apply(self._kept[pick % len(self._kept)])

    @rule()
    def the_client_catches_up(self) -> None:
        self._run(self._client.catch_up(limit=2))
        assert self._client.state == self._run(fresh_state(self._database, self._desk.tenant.id))

    def teardown(self) -> None:
        try:
            if hasattr(self, "_client"):
                self.the_client_catches_up()
                self._run(self._database.close())
                # The next life's sender must not find what this one left in line.
                self._superuser.execute("DELETE FROM send_queue WHERE tenant_id = %s", [self._desk.tenant.id])
        finally:
            self._superuser.close()
            self._runner.close()


@pytest.mark.timeout(300)
def test_a_client_converges_through_drops_repeats_compaction_new_epochs_and_restores(
    relay_database: TestDatabase, password_hash: str
) -> None:
    run_state_machine_as_test(
        lambda: Life(relay_database, password_hash),  # type: ignore[arg-type]  # it takes any factory
        settings=hypothesis_settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            # Without shrinking, which takes minutes here; the steps of a failure are few enough to read.
            phases=[Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


class BadDoorbell(PostgresDoorbell):
    """Half of what it hears is lost; the rest comes late, twice, and in any order."""

    def __init__(self, dsn: str, seed: int) -> None:
        super().__init__(dsn)
        self._dice = random.Random(seed)
        self.lost = 0

    def _hear(self, payload: str) -> None:
        if self._dice.random() < 0.5:
            self.lost += 1
            return
        for _ in range(self._dice.randint(1, 3)):
            asyncio.get_running_loop().call_later(self._dice.random() * 0.3, super()._hear, payload)


async def test_a_bad_doorbell_costs_time_and_nothing_else(
    desk: Desk,
    doorbell: Doorbell,
    relay_database: TestDatabase,
    start_doorbell: OpenDoorbell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client is told by another process's doorbell, which is bad; it pulls only when it is told."""
    monkeypatch.setattr(doorbell_module, "POLL_SECONDS", 0.5)
    seed = random.randrange(2**32)
    print("seed", seed)
    read_heads = heads_reader(desk.database)
    await start_doorbell(doorbell, read_heads)
    bad = BadDoorbell(relay_database.dsn, seed)
    await start_doorbell(bad, read_heads)
    client = ModelClient(desk.database, desk.tenant.id)
    await client.bootstrap()
    told = asyncio.Event()
    newest: list[FeedHead] = []

    def on_head(head: FeedHead) -> None:
        newest.append(head)
        told.set()

    async def follow() -> None:
        while True:
            await told.wait()
            told.clear()
            await client.catch_up()

    following = asyncio.create_task(follow())
    with bad.watch(desk.tenant.id, on_head):
        for n in range(60):
            await desk.customer_writes(f"{n}", phone=f"49155501002{n % 7:02}")
        wanted = await fresh_state(desk.database, desk.tenant.id)
        await eventually(lambda: client.state == wanted, 10)
    following.cancel()
    assert bad.lost, "nothing was lost, so nothing was tested"
    seqs = [head.seq for head in newest]
    assert seqs == sorted(set(seqs)), "late and repeated rings are not passed on"
