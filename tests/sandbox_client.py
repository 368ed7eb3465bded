"""The sandbox as tests see it: a process of its own, spoken to over HTTP alone.

Fixtures for everybody: `sandbox` (one process per run, as if started anew for each test) and `callback`
(a receiver of webhooks that a test can make misbehave).
"""

import asyncio
import hashlib
import hmac
import json
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

START_SECONDS = 20


@dataclass(frozen=True)
class Facts:
    """What the sandbox prints when it is ready."""

    base_url: str
    control_url: str
    waba_id: str
    phone_number_ids: list[str]
    access_token: str
    app_id: str
    app_secret: str
    verify_token: str


@contextmanager
def run_sandbox(*options: str) -> Iterator[Facts]:
    """A sandbox process on a free port, with further command line options."""
    command = [sys.executable, "-m", "relay.sandbox", "--port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
            line = process.stdout.readline() if ready else ""
            assert line, f"the sandbox did not start within {START_SECONDS} s; exit code {process.poll()}"
            yield Facts(**json.loads(line))
        finally:
            process.terminate()
            assert process.wait(10) == 0


class SandboxClient:
    """The control API (refusals raise `httpx.HTTPStatusError`), and the Graph API as the demo tenant."""

    def __init__(self, facts: Facts, http: httpx.AsyncClient) -> None:
        self.facts = facts
        self.http = http
        self.number_id = facts.phone_number_ids[0]

    async def control(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        url = f"{self.facts.control_url}/{path}"
        response = await self.http.request(method, url, json=body, params=query)
        response.raise_for_status()
        return response.json() if response.content else None

    async def say(self, sender: str, text: str | None = None, **fields: Any) -> str:
        """A customer writes; returns the wamid."""
        body = {"from": sender, **fields} | ({} if text is None else {"text": text})
        return str((await self.control("POST", "say", body))["wamid"])

    async def settings(self, **changes: Any) -> None:
        """Set these settings, and all others to their defaults."""
        await self.control("PUT", "settings", changes)

    async def fault(self, kind: str, **fields: Any) -> None:
        await self.control("POST", "faults", {"kind": kind, **fields})

    async def sends(self, **query: Any) -> list[dict[str, Any]]:
        """Accepted messages, oldest first."""
        page: dict[str, Any] = await self.control("GET", "sends", **query, limit=100_000)
        return list(page["sends"])

    async def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = await self.control("GET", "stats")
        return stats

    async def quiet(self, timeout: float = 15) -> None:
        """Wait until nothing is under way; fails if that takes longer."""
        answer = await self.control("GET", "quiet", timeout=timeout)
        assert answer["quiet"], f"{answer['waiting']} things still under way"

    async def use_callback(self, callback: "Callback", **changes: Any) -> None:
        """Point the demo app at a receiver."""
        await self.control("PATCH", f"apps/{self.facts.app_id}", {"callback_url": callback.url, **changes})

    async def add_number(self, **fields: Any) -> dict[str, Any]:
        number: dict[str, Any] = await self.control("POST", "numbers", fields)
        return number

    async def graph(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **query: Any
    ) -> httpx.Response:
        """A Graph call, with the demo tenant's token unless told otherwise."""
        headers = {"Authorization": f"Bearer {token or self.facts.access_token}"}
        url = f"{self.facts.base_url}/v26.0/{path}"
        return await self.http.request(method, url, json=body, params=query, headers=headers)

    async def send(self, body: dict[str, Any], **options: Any) -> httpx.Response:
        return await self.graph("POST", f"{self.number_id}/messages", body, **options)

    async def send_text(self, to: str, text: str = "Hello", **fields: Any) -> httpx.Response:
        head = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": text}}
        return await self.send({**head, **fields})


@dataclass
class Delivery:
    """One POST to the callback."""

    body: bytes
    headers: dict[str, str]

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def signed_by(self, secret: str) -> bool:
        digest = hmac.new(secret.encode(), self.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(self.headers["x-hub-signature-256"], f"sha256={digest}")


@dataclass
class Callback:
    """A receiver of webhooks. `answer` decides each POST's status; replace it to make it misbehave."""

    url: str = ""
    verify_token: str = ""
    answer: Callable[[Delivery], Awaitable[int]] | None = None
    challenge: Callable[[str], bytes] = str.encode
    deliveries: list[Delivery] = field(default_factory=list)
    verifications: int = 0
    connections: set[asyncio.Task[None]] = field(default_factory=set)

    def changes(self) -> list[dict[str, Any]]:
        """All changes of all entries of all POSTs, in order of arrival."""
        return [
            change
            for delivery in self.deliveries
            for entry in delivery.document["entry"]
            for change in entry["changes"]
        ]

    def messages(self) -> list[dict[str, Any]]:
        return [item for change in self.changes() for item in change["value"].get("messages", [])]

    def statuses(self) -> list[dict[str, Any]]:
        return [item for change in self.changes() for item in change["value"].get("statuses", [])]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self.connections.add(connection)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                request, *lines = head.rstrip().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, answer = await self._answer(request, headers, body)
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(answer), answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sandbox hung up
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's streams would report it as an error
        finally:
            self.connections.discard(connection)
            writer.close()

    async def _answer(self, request: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        method, target, _ = request.split(" ")
        if method == "GET":
            self.verifications += 1
            query = dict(parse_qsl(urlsplit(target).query))
            if query.get("hub.mode") != "subscribe" or query.get("hub.verify_token") != self.verify_token:
                return 403, b""
            return 200, self.challenge(query["hub.challenge"])
        delivery = Delivery(body, headers)
        self.deliveries.append(delivery)
        return (200 if self.answer is None else await self.answer(delivery)), b""


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Facts]:
    with run_sandbox() as facts:
        yield facts


@pytest.fixture
async def sandbox(sandbox_process: Facts) -> AsyncIterator[SandboxClient]:
    async with httpx.AsyncClient(timeout=30) as http:
        client = SandboxClient(sandbox_process, http)
        await client.control("POST", "reset")
        yield client
        assert (await client.stats())["internal_errors"] == 0


@pytest.fixture
async def callback(sandbox_process: Facts) -> AsyncIterator[Callback]:
    receiver = Callback(verify_token=sandbox_process.verify_token)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield receiver
    server.close()
    # The sandbox keeps its connections open; end them, as a stopping server would.
    connections = list(receiver.connections)
    for connection in connections:
        connection.cancel()
    await asyncio.gather(*connections, return_exceptions=True)
