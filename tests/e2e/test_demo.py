"""`relay demo` as a newcomer meets it: a round trip, a clear refusal, and nothing left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

RELAY = [sys.executable, "-m", "relay"]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder that the embedded server's user can reach, which pytest's own are not for root."""
    with tempfile.TemporaryDirectory(prefix="relaydesk-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name) / "data"


@contextmanager
def started_demo(data_dir: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    # A server's address in the environment is the user's own relay's, which a demo must leave alone.
    environment = {
        **os.environ,
        "DATA_DIR": str(data_dir),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    with subprocess.Popen(
        [*RELAY, "demo", "--offscreen", *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"it ended before it said “{words}”:\n{seen}")


def family(pid: int) -> list[psutil.Process]:
    """The demo's children and theirs, and the database server, which nobody is the parent of."""
    parent = psutil.Process(pid)
    data_dir = parent.environ()["DATA_DIR"]
    servers = [
        p for p in psutil.process_iter() if data_dir in " ".join(p.cmdline()) and p.name() == "postgres"
    ]
    return [*parent.children(recursive=True), *servers]


def test_one_round_trip(data_dir: Path) -> None:
    with started_demo(data_dir, "--once") as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    steps = ("Postgres is", "The relay is", "desktop is open", "writes", "in the agent's inbox", "is painted")
    at = [output.find(step) for step in (*steps, "replies", "… sent", "… delivered", "… read")]
    assert -1 not in at, output
    assert at == sorted(at), output
    for mode in ("light", "dark"):
        picture = data_dir / "demo" / "pictures" / f"inbox-{mode}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("end", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)])
def test_a_second_demo_is_refused_and_the_first_leaves_nothing_behind(
    data_dir: Path, end: signal.Signals
) -> None:
    with started_demo(data_dir) as process:
        read_until(process, "desktop is open")
        with started_demo(data_dir) as second:
            refusal, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"already runs here (process {process.pid})" in refusal
        everyone = family(process.pid)
        assert len(everyone) >= 5
        process.send_signal(end)
        process.communicate(timeout=90)
    assert process.returncode == (0 if end is signal.SIGINT else -signal.SIGKILL)
    deadline = time.monotonic() + 30
    while alive := [p for p in everyone if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.2)
