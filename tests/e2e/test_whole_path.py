"""The whole path with nothing stood in for: relay, sandbox and desktop as processes, driven from outside.

The tenant and its number are made with the command line, as whoever hosts a relay would make them, and Meta's
webhooks arrive at the tenant's own address, signed with its own secret.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from relay.demo_programs import Desktop, Program, Sandbox
from relay.sandbox import defaults

pytestmark = pytest.mark.timeout(180)

EMAIL, PASSWORD = "ada@e2e.example", "a password for the test"
CUSTOMER = ("4915550100200", "Ida Østergård")


def free_ports(count: int) -> list[int]:
    import socket

    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class System:
    """What runs, and how to reach it."""

    relay: Program
    relay_url: str
    sandbox: Sandbox
    sandbox_url: str
    folder: Path
    environment: dict[str, str]

    async def sends(self) -> list[dict[str, Any]]:
        """What Meta accepted."""
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{self.sandbox_url}/_sandbox/sends", params={"limit": 1000})
            return list(answer.json()["sends"])

    def processes(self) -> list[psutil.Process]:
        """The web process and the worker."""
        return psutil.Process(self.relay.process.pid).children()

    @asynccontextmanager
    async def desktop(self, name: str = "desktop") -> AsyncIterator[Desktop]:
        folder = self.folder / name
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        async with Desktop.running(
            self.relay_url, (EMAIL, PASSWORD), folder, offscreen=True, environment=self.environment
        ) as desktop:
            await desktop.wait_for("page", 30, page="main")
            yield desktop


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not in pytest's own folder, which the database's user cannot enter when this runs as root."""
    with tempfile.TemporaryDirectory(prefix="relaydesk-e2e-") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture
async def system(folder: Path) -> AsyncIterator[System]:
    relay_port, sandbox_port = free_ports(2)
    relay_url, sandbox_url = f"http://127.0.0.1:{relay_port}", f"http://127.0.0.1:{sandbox_port}"
    foreign = {"DATABASE_URL", "DATABASE_DIRECT_URL", "REDIS_URL", "META_APP_SECRET", "JWT_SECRET"}
    environment = {name: value for name, value in os.environ.items() if name not in foreign} | {
        "DATA_DIR": str(folder / "data"),
        "HOST": "127.0.0.1",
        "PORT": str(relay_port),
        "META_GRAPH_URL": sandbox_url,
    }
    (folder / "logs").mkdir()
    command = [sys.executable, "-m", "relay", "all"]
    async with Program.running("relay", command, environment, folder / "logs") as relay:
        await until_ready(relay, relay_url)
        tenant = await run_cli(
            environment,
            *("tenant", "create", "--name", "E2E", "--admin-email", EMAIL, "--admin-password", PASSWORD),
        )
        number = await run_cli(
            environment,
            *("number", "add", "--tenant", tenant["tenant_id"], "--waba-id", defaults.WABA_ID),
            *("--phone-number-id", defaults.PHONE_NUMBER_IDS[0]),
            *("--access-token", defaults.ACCESS_TOKEN, "--app-secret", defaults.APP_SECRET),
        )
        async with sandbox_running(sandbox_port, relay_url, number, environment, folder) as sandbox:
            yield System(relay, relay_url, sandbox, sandbox_url, folder, environment)


@asynccontextmanager
async def sandbox_running(
    port: int, relay_url: str, number: dict[str, Any], environment: dict[str, str], folder: Path
) -> AsyncIterator[Sandbox]:
    command = [sys.executable, "-m", "relay.sandbox", "--port", str(port), "--json", "--random-order"]
    command += ["--callback-url", relay_url + number["webhook_path"], "--duplicate-rate", "0.3"]
    command += ["--verify-token", number["verify_token"]]
    async with Program.running("sandbox", command, environment, folder / "logs", read_output=True) as program:
        sandbox = Sandbox(program, f"http://127.0.0.1:{port}")
        await sandbox.ready()
        yield sandbox


async def until_ready(relay: Program, url: str) -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(60):
        while True:
            relay.require_alive()
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(f"{url}/health/ready")).is_success:
                    return
            await asyncio.sleep(0.05)


async def run_cli(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", *arguments, "--json"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    answer: dict[str, Any] = json.loads(output)
    return answer


async def test_a_customer_writes_an_agent_answers_and_the_ticks_turn_blue(system: System) -> None:
    async with system.desktop() as desktop:
        await system.sandbox.say(*CUSTOMER, "Is the shop open on Sunday?")
        await desktop.wait_for("row", 20, text=CUSTOMER[1])
        await desktop.ask("open", text=CUSTOMER[1])
        await desktop.wait_for("bubble", 20, text="Is the shop open on Sunday?")
        await desktop.ask("type", text="Yes, from ten to four. مرحبا 🙂")
        await desktop.ask("press", key="Return")
        await desktop.wait_for("bubble", 30, text="from ten to four", tick="read")

        # A second desktop, starting from nothing, sees the same.
        async with system.desktop("second") as second:
            await second.wait_for("row", 20, text=CUSTOMER[1])
            await second.ask("open", text=CUSTOMER[1])
            await second.wait_for("bubble", 20, text="Is the shop open on Sunday?")
            await second.wait_for("bubble", 20, text="from ten to four", tick="read")
    assert [send["recipient"] for send in await system.sends()] == [CUSTOMER[0]]


async def test_what_is_written_while_the_relay_is_gone_is_sent_once_when_it_returns(system: System) -> None:
    async with system.desktop() as desktop:
        await system.sandbox.say(*CUSTOMER, "Hello?")
        await desktop.wait_for("row", 20, text=CUSTOMER[1])
        await desktop.ask("open", text=CUSTOMER[1])
        await desktop.wait_for("bubble", 20, text="Hello?")

        web = system.processes()
        for process in web:
            process.suspend()  # not even a refusal: the relay answers nothing
        await desktop.ask("type", text="One moment please")
        await desktop.ask("press", key="Return")
        await desktop.wait_for("bubble", 10, text="One moment please")
        for process in web:
            process.send_signal(signal.SIGKILL)  # the parent starts both again
        await system.sandbox.say(*CUSTOMER, "Are you there?")  # Meta repeats it until it is taken

        await desktop.wait_for("bubble", 60, text="One moment please", tick="read")
        await desktop.wait_for("bubble", 30, text="Are you there?")
    assert len(await system.sends()) == 1
