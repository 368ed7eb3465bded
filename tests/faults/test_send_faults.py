"""Sends while answers are lost and the worker is killed: nobody gets a message twice, nothing stays open."""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
import psutil
import pytest

from relay.kit.db import Database
from relay.kit.secrets import Secrets
from relay.numbers.service import add_number
from relay.outbound.decisions import SendTimes
from relay.settings import Settings
from tests.conftest import RunningServer, TenantFixture
from tests.relay.outbound.house import House
from tests.sandbox_client import SandboxClient

MESSAGES = 500
KILLS = 8
KILL_FOR_SECONDS = 8.0
END_SECONDS = 100.0
TIMES = SendTimes(lease=4.0, request=2.5, quiet=8.0, status_lag=0.5, reconcile_every=0.25)
ROOT = Path(__file__).resolve().parents[2]
SEED = os.environ.get("SEED") or str(random.randrange(10**6))


@dataclass
class Workers:
    """Worker processes, forked by a process that has loaded the program."""

    nursery: asyncio.subprocess.Process
    rng: random.Random
    alive: set[int] = field(default_factory=set)
    kills: int = 0

    @classmethod
    async def prepare(cls, task: dict[str, Any], rng: random.Random, log: IO[bytes]) -> "Workers":
        nursery = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.sending_worker", msgspec.json.encode(task).decode()),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        assert nursery.stdout is not None
        assert await nursery.stdout.readline() == b"loaded\n"
        return cls(nursery, rng)

    async def start(self) -> int:
        stdin, stdout = self.nursery.stdin, self.nursery.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(b"\n")
        pid = int(await stdout.readline())
        self.alive.add(pid)
        return pid

    async def kill_at_random(self, until: float) -> None:
        """Keep two workers running and kill one every moment, until then and `KILLS` times at least."""
        workers = [await self.start(), await self.start()]
        while time.monotonic() < until or self.kills < KILLS:
            await asyncio.sleep(self.rng.uniform(0.05, 0.8))
            victim = workers.pop(self.rng.randrange(2))
            os.kill(victim, signal.SIGKILL)
            self.alive.discard(victim)
            self.kills += 1
            workers.append(await self.start())

    async def stop(self) -> None:
        """End them in good order, which none may refuse."""
        for pid in self.alive:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while any(psutil.pid_exists(pid) for pid in self.alive):
            assert time.monotonic() < deadline, "a worker does not end"
            await asyncio.sleep(0.05)
        assert self.nursery.stdin is not None
        self.nursery.stdin.close()
        await self.nursery.wait()


@pytest.fixture
async def house(
    database: Database,
    relay_secrets: Secrets,
    tenant: TenantFixture,
    running_server: RunningServer,
    sandbox: SandboxClient,
) -> House:
    """A tenant whose number is the sandbox's, with webhooks to the running web process."""
    number = await add_number(
        database,
        relay_secrets,
        tenant.id,
        waba_id="900100",
        phone_number_id="900200",
        access_token="EAAfaults",
        app_secret="faults",
        portfolio_id="900300",
    )
    await sandbox.add_number(
        phone_number_id="900200",
        waba_id="900100",
        portfolio_id="900300",
        access_token="EAAfaults",
        app_secret="faults",
        callback_url=running_server.url + number.webhook_path,
        verify_token=number.verify_token,
    )
    return House(database, tenant.id, number.number_id)


@pytest.mark.timeout(180)
async def test_500_sends_with_lost_answers_and_killed_workers(
    house: House, sandbox: SandboxClient, settings: Settings, tmp_path: Path
) -> None:
    print(f"SEED={SEED}")
    rng = random.Random(SEED)
    await sandbox.settings(
        service_window="off",
        order="random",
        scatter_seconds=0.2,
        sent_seconds=[0.02, 0.3],
        delivered_seconds=[0.05, 0.5],
        read_receipts=False,
        duplicate_rate=0.1,
        batch_max=5,
        retry_scale=0.02,
        answer_seconds=[0.0, 0.1],
    )
    for cut in ("reset", "close", "half"):
        await sandbox.fault("drop_after", rate=0.04, cut=cut)
        await sandbox.fault("drop_before", rate=0.01, cut=cut)
    await sandbox.fault("delay", rate=0.02, seconds=3.0)  # longer than the sender waits
    await sandbox.fault("http_error", rate=0.01)
    conversations = await house.conversations(MESSAGES, last_inbound_at=datetime.now(UTC))
    messages = await house.enqueue(conversations, when=datetime.now(UTC))

    task = {
        "dsn": settings.database_url,
        "encryption_keys": settings.encryption_keys,
        "graph_url": sandbox.facts.base_url,
        "times": TIMES,
    }
    log = (tmp_path / "workers.log").open("wb")
    workers = await Workers.prepare(task, rng, log)
    began = time.monotonic()
    try:
        await workers.kill_at_random(began + KILL_FOR_SECONDS)
        while await open_ends(house) > 0:
            assert time.monotonic() < began + END_SECONDS, await house.all(
                "SELECT state, (SELECT strikes FROM number_pace), count(*) FROM send_queue GROUP BY state"
            )
            await asyncio.sleep(0.2)
        await sandbox.quiet()
        await nothing_waits(house)
    finally:
        await workers.stop()
        log.close()

    sends = await sandbox.sends()
    attempts = await house.all("SELECT state, detail, started_at FROM send_attempt")
    by_state = Counter(row.state for row in attempts)
    print(
        f"{workers.kills} kills, {len(attempts)} attempts {dict(by_state)}, {len(sends)} accepted by Meta, "
        f"{time.monotonic() - began:.0f} s"
    )
    per_recipient = Counter(send["recipient"] for send in sends)
    assert max(per_recipient.values()) == 1, f"somebody got it twice, SEED={SEED}"
    assert set(by_state) <= {"accepted", "failed", "unconfirmed", "retry_later"}
    # What Meta has, we know of: by its answer or by a status.
    known = {row.wamid: row.status for row in await house.all("SELECT wamid, status FROM message")}
    assert {send["wamid"] for send in sends} == set(known) - {None}
    assert {known[send["wamid"]] for send in sends} <= {"sent", "delivered"}
    left = await house.all("SELECT DISTINCT status FROM message WHERE wamid IS NULL")
    assert {row.status for row in left} <= {"unconfirmed", "failed"}
    assert len(messages) == MESSAGES
    # The run must have been as rough as it was meant to be.
    assert sum("sender ended" in str(row.detail) for row in attempts) + by_state["unconfirmed"] > 0
    assert len(sends) > 0.9 * MESSAGES


async def open_ends(house: House) -> int:
    row = await house.one(
        "SELECT (SELECT count(*) FROM send_queue)"
        " + (SELECT count(*) FROM send_attempt WHERE state IN ('claimed', 'unknown')) AS open"
    )
    return int(row.open)


async def nothing_waits(house: House) -> None:
    """Until every webhook that arrived has been applied."""
    deadline = time.monotonic() + 10
    while True:
        row = await house.one(
            "SELECT (SELECT count(*) FROM webhook_raw WHERE state = 'new')"
            " + (SELECT count(*) FROM webhook_item WHERE state = 'new') AS waiting,"
            " (SELECT count(*) FROM webhook_raw WHERE state = 'parked')"
            " + (SELECT count(*) FROM webhook_item WHERE state = 'parked') AS parked"
        )
        assert row.parked == 0
        if row.waiting == 0:
            return
        assert time.monotonic() < deadline, f"{row.waiting} webhooks wait"
        await asyncio.sleep(0.1)
