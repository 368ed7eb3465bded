"""The worker's loops: started again when they fail, ended in order."""

import asyncio
import os
import random
import signal

import pytest
from structlog.testing import capture_logs

from relay import worker
from relay.kit import metrics
from relay.settings import Settings
from relay.worker import Loop, supervise


class Faulty:
    """Fails, ends early, then works; as a loop would after a restart of its database."""

    def __init__(self) -> None:
        self.starts = 0
        self.working = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        self.starts += 1
        if self.starts == 1:
            raise RuntimeError("first")
        if self.starts == 2:
            return
        self.working.set()
        await stop.wait()


async def test_a_loop_that_fails_or_ends_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "RETRY_CAP_SECONDS", 0.02)
    loop, stop = Faulty(), asyncio.Event()
    failures = metrics.loop_failures.labels("faulty")
    before = failures._value.get()
    with capture_logs() as logs:
        supervising = asyncio.create_task(supervise(Loop("faulty", loop), stop))
        async with asyncio.timeout(5):
            await loop.working.wait()
            stop.set()
            await supervising
    assert loop.starts == 3
    assert failures._value.get() - before == 2
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("loop.failed", "error"),
        ("loop.ended", "error"),
    ]


async def test_stopping_interrupts_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda *_: 60.0)
    loop, stop = Faulty(), asyncio.Event()
    with capture_logs():
        supervising = asyncio.create_task(supervise(Loop("faulty", loop), stop))
        await asyncio.sleep(0.05)
        stop.set()
        async with asyncio.timeout(2):
            await supervising
    assert loop.starts == 1


async def test_a_worker_stops_when_it_is_told_to(settings: Settings) -> None:
    working = asyncio.create_task(worker.work(settings))
    with capture_logs() as logs:
        async with asyncio.timeout(20):
            while not any(entry["event"] == "worker.started" for entry in logs):
                await asyncio.sleep(0.02)
            os.kill(os.getpid(), signal.SIGTERM)
            await working
    assert not [entry for entry in logs if entry["log_level"] in ("warning", "error", "critical")]
