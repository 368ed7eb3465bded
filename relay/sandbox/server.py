"""uvicorn, set up so that the sandbox can cut connections and say when it is ready."""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relay.sandbox.app import SandboxApp
from relay.sandbox.graph import TRANSPORT
from relay.sandbox.sandbox import Sandbox


class _CuttableProtocol(HttpToolsProtocol):
    """Hands the connection to the app, so that a fault can end it without an answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item] # ours, not ASGI's


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def serve(sandbox: Sandbox, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` gets the base URL. OSError if the address is taken.

    Port 0 takes a free one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    base_url = f"http://{shown}:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        SandboxApp(sandbox),
        http=_CuttableProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
    )
    server = _Server(config, lambda: on_ready(base_url))
    # uvicorn raises the signal once more after its shutdown; being told to stop is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)
    with listener, asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))


def _ignore(_number: int, _frame: Any) -> None:
    pass
