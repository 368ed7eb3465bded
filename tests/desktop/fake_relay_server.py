"""Ways to reach a `FakeRelay`: over loopback HTTP and WebSocket, or as an httpx transport."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import msgspec
import uvicorn

from shared.wire import sync
from tests.desktop.fake_relay import FakeRelay, Lost, Request, Socket


class FakeTransport(httpx.AsyncBaseTransport):
    """Reaches a `FakeRelay` without sockets, for simulations."""

    def __init__(self, relay: FakeRelay) -> None:
        self._relay = relay
        self.travel_ms: list[int] = []
        """How long the next answers are on their way, one entry each; the relay moves on meanwhile."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        try:
            answer = self._relay.handle(
                Request(
                    request.method,
                    request.url.path,
                    request.url.query.decode(),
                    {name.lower(): value for name, value in request.headers.items()},
                    await request.aread(),
                )
            )
        except Lost as error:
            raise httpx.ReadError("the line broke", request=request) from error
        if self.travel_ms:
            await asyncio.sleep(self.travel_ms.pop() / 1000)
        return httpx.Response(answer.status, headers=answer.headers, content=answer.body, request=request)


# --- over real sockets ----------------------------------------------------------------------------

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class FakeRelayServer:
    """`FakeRelay` on a loopback port."""

    def __init__(self, relay: FakeRelay) -> None:
        self.relay = relay
        self.url = ""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        try:
            answer = self.relay.handle(
                Request(scope["method"], scope["path"], scope["query_string"].decode(), headers, body)
            )
        except Lost:
            # Promising a body and not sending it makes the server break the connection.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            return
        encoded = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        encoded.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        await send({"type": "http.response.body", "body": answer.body})

    async def _websocket(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        relay = self.relay
        if relay.down or relay.sockets_refused or not relay.authorized(headers.get("authorization", "")):
            await send({"type": "websocket.close", "code": 4401})
            return
        await send({"type": "websocket.accept"})
        socket = Socket()
        relay.sockets.append(socket)
        hearing = asyncio.create_task(self._hear(socket, receive))
        try:
            while not hearing.done():
                await self._speak(socket, send)
                news = asyncio.create_task(socket.news())
                await asyncio.wait({news, hearing}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                if socket.close_code is not None or relay.revoked:
                    await send({"type": "websocket.close", "code": socket.close_code or 4403})
                    return
        finally:
            relay.sockets.remove(socket)
            hearing.cancel()

    async def _speak(self, socket: Socket, send: Send) -> None:
        frames, socket.frames = [*socket.frames, sync.Head(self.relay.epoch, self.relay.head)], []
        if not socket.mute:
            for frame in frames:
                await send({"type": "websocket.send", "text": msgspec.json.encode(frame).decode()})

    async def _hear(self, socket: Socket, receive: Receive) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            socket.heard.append(msgspec.json.decode(message["text"], type=sync.ClientFrame))
            socket.wake()


@contextlib.contextmanager
def serving(relay: FakeRelay, port: int = 0) -> Iterator[FakeRelayServer]:
    """Serve on 127.0.0.1; `url` tells where."""
    app = FakeRelayServer(relay)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="critical",
        lifespan="off",
        ws="websockets-sansio",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="fake relay", daemon=True)
    thread.start()
    waiting = threading.Event()
    while not server.started:
        assert thread.is_alive(), "the fake relay did not start"
        waiting.wait(0.01)
    app.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join(10)
