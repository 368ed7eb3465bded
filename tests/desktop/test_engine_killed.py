"""kill -9 at any moment: what `send_text` returned for is sent exactly once, in order."""

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from uuid import UUID

import pytest

from tests.desktop.engine_client import World
from tests.desktop.fake_relay import Fault, Request

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60


def engine_process(world: World, *do: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.desktop.engine_process", str(world.data_dir), world.url, *do],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(world: World, *do: str) -> None:
    with engine_process(world, *do) as process:
        try:
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()


def printed_until_killed(process: subprocess.Popen[str], after_lines: int) -> list[UUID]:
    """Kill -9 once that many messages were promised; gives all that were promised."""
    promised: list[UUID] = []
    assert process.stdout is not None
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    for line in process.stdout:
        if line.strip() == "queued":
            process.send_signal(signal.SIGKILL)
        else:
            promised.append(UUID(line.strip()))
            if len(promised) == after_lines:
                process.send_signal(signal.SIGKILL)
    watchdog.cancel()
    assert process.wait(SECONDS) == -signal.SIGKILL
    return promised


def check(world: World, promised: list[UUID]) -> None:
    assert sorted(world.relay.arrivals) == sorted(set(world.relay.arrivals)), "sent twice"
    assert set(promised) <= set(world.relay.arrivals), "lost"
    for conversation in world.relay.conversations:
        sent = [message.client_id for message in world.relay.timeline(conversation)]
        assert [id_ for id_ in sent if id_ in promised] == [id_ for id_ in promised if id_ in sent], "order"


def test_written_offline_killed_then_sent_once_after_the_next_start(world: World) -> None:
    world.relay.add_conversation("Ana")
    world.relay.add_conversation("Ben")
    finish(world, "sign-in")
    world.relay.down = True
    with engine_process(world, "offline", "10") as process:
        promised = printed_until_killed(process, after_lines=10)
    assert len(promised) == 10
    assert world.relay.arrivals == []
    world.relay.down = False
    finish(world, "drain")
    check(world, promised)
    assert len(world.relay.arrivals) == 10


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 10))])
def test_killed_again_and_again_while_sending_over_a_bad_line(world: World, seed: int) -> None:
    chance = random.Random(seed)
    world.relay.add_conversation("Ana")
    world.relay.add_conversation("Ben")
    finish(world, "sign-in")

    def bad_line(request: Request) -> None:
        if request.method == "POST" and request.path.endswith("/messages") and chance.random() < 0.4:
            world.relay.fail("POST", "messages", chance.choice([Fault.ANSWER_LOST, Fault.LOST]))

    world.relay.before_answer = bad_line
    promised: list[UUID] = []
    for _round in range(3):
        with engine_process(world, "online", "30") as process:
            promised += printed_until_killed(process, after_lines=chance.randint(3, 25))
    world.relay.before_answer = None
    world.relay.planned.clear()
    finish(world, "drain")
    check(world, promised)
