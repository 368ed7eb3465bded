"""Meta's send endpoint on a loopback socket, which answers, refuses, stalls or hangs up as a test wants."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What to do with one request: answer after a while, or (without a body) hang up."""

    status: int = 200
    body: Any = None
    after: float = 0.0


@dataclass
class FakeMeta:
    """Takes every message unless `react` says otherwise. `requests` are the bodies, in order of arrival."""

    react: Callable[[dict[str, Any]], Answer | None] = lambda _request: None
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    most_at_once: int = 0
    _open: int = 0
    _ids: Any = field(default_factory=itertools.count)
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self) -> dict[str, Any]:
        return {"messaging_product": "whatsapp", "messages": [{"id": f"wamid.{next(self._ids)}"}]}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                request = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.tokens.add(headers["authorization"])
                self.requests.append(request)
                if not await self._answer(request, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the sender hung up, or the test is over
        finally:
            self._connections.discard(connection)
            writer.close()

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        self._open += 1
        self.most_at_once = max(self.most_at_once, self._open)
        try:
            answer = self.react(request) or Answer(body=self.accept())
            await asyncio.sleep(answer.after)
        finally:
            self._open -= 1
        if answer.body is None:
            return False
        body = json.dumps(answer.body).encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (answer.status, len(body), body))
        await writer.drain()
        return True

    @property
    def recipients(self) -> list[str]:
        return [request["to"] for request in self.requests]

    @property
    def texts(self) -> list[str]:
        return [request["text"]["body"] for request in self.requests]


def refusal(code: int, status: int = 400, **fields: Any) -> Answer:
    return Answer(status, {"error": {"message": f"(#{code})", "code": code, **fields}})


@asynccontextmanager
async def fake_meta() -> AsyncIterator[FakeMeta]:
    meta = FakeMeta()
    server = await asyncio.start_server(meta.serve, "127.0.0.1", 0)
    meta.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield meta
    finally:
        server.close()
        connections = list(meta._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
