"""`relay all` from nothing: one command, killed in any way, started again, nothing lost and nothing left."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

START_SECONDS = 60  # far more than it takes; the machine may be busy


@pytest.fixture
def folder() -> Iterator[Path]:
    """Within reach of the server's user, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory(prefix="relaydesk-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name) / "data"


class Machine:
    """One data folder and port, on which the relay is started and ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.environment = {
            "PATH": os.environ["PATH"],
            "DATA_DIR": str(folder),
            "PORT": str(self.port),
            "LOG_FORMAT": "console",
        }
        self.log = folder.with_name("relay.log")
        self.started: list[psutil.Process] = []

    def relay(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "relay", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=START_SECONDS, check=False,
        )  # fmt: skip

    def start(self) -> psutil.Process:
        with self.log.open("a") as log:
            process = psutil.Popen(
                [sys.executable, "-m", "relay", "all"], env=self.environment, stdout=log, stderr=log
            )
        self.started.append(process)
        eventually(lambda: self.ready() or process.poll() is not None, START_SECONDS)
        assert process.poll() is None, self.log.read_text()
        return process

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def processes(self) -> list[psutil.Process]:
        """Everything that works in our folder, the database's processes included."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = str(self.folder) in " ".join(process.cmdline()) or (
                    process.environ().get("DATA_DIR") == str(self.folder)
                )
            except psutil.Error:
                continue
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    machine = Machine(folder)
    yield machine
    for process in machine.processes():
        process.kill()
    psutil.wait_procs(machine.started, timeout=10)


def sign_in(machine: Machine, tenant: dict[str, str]) -> int:
    body = {"email": tenant["admin_email"], "password": tenant["admin_password"]}
    return httpx.post(f"http://127.0.0.1:{machine.port}/api/v1/auth/login", json=body).status_code


@pytest.mark.timeout(480)  # five starts, on a machine that may be busy
def test_from_nothing_and_back_again(machine: Machine) -> None:
    relay = machine.start()
    made = machine.relay("tenant", "create", "--name", "Acme", "--admin-email", "a@acme.example", "--json")
    tenant = json.loads(made.stdout)
    assert sign_in(machine, tenant) == 200
    for kept in ("jwt_secret", "encryption_key", "database_password"):
        assert (machine.folder / "secrets" / kept).stat().st_mode & 0o777 == 0o600

    second = machine.relay("all")
    assert second.returncode == 1
    assert f"already runs on {machine.folder} (process {relay.pid})" in second.stderr

    # A child that dies is replaced.
    for child in relay.children():
        child.kill()
    eventually(lambda: not machine.ready())
    eventually(machine.ready, START_SECONDS)

    # Everything at once, as when the power goes. What was there is there again.
    for process in machine.processes():
        process.kill()
    relay.wait(10)
    relay = machine.start()
    assert sign_in(machine, tenant) == 200

    # The parent alone: nobody is left behind.
    relay.kill()
    relay.wait(10)
    eventually(lambda: not machine.processes(), 60)

    # In order.
    relay = machine.start()
    assert sign_in(machine, tenant) == 200
    relay.send_signal(signal.SIGTERM)
    assert relay.wait(60) == 0
    eventually(lambda: not machine.processes())

    # A lost key is said, not silently replaced.
    (machine.folder / "secrets" / "encryption_key").unlink()
    refused = machine.relay("tenant", "list")
    assert refused.returncode == 1
    assert "encryption_key is missing" in refused.stderr
