"""The sandbox as one ASGI app: Graph everywhere, the control API under `/_sandbox`."""

import asyncio
import logging
from typing import Any

from relay.sandbox.graph import Graph, Receive, Scope, Send
from relay.sandbox.nodes import ROOT_ROUTES, ROUTES
from relay.sandbox.sandbox import Sandbox

log = logging.getLogger("relay.sandbox")


class SandboxApp:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._graph = Graph(sandbox, ROUTES, ROOT_ROUTES)
        self._control: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"].startswith("/_sandbox"):
            control = await asyncio.shield(self._control_app())
            await control(scope, receive, send)
        else:
            await self._graph(scope, receive, send)

    def _control_app(self) -> asyncio.Future[Any]:
        """Litestar takes longer to load than all the rest, so it loads beside the first calls to Graph."""
        if self._control is None:
            self._control = asyncio.get_running_loop().run_in_executor(None, self._build_control)
        return self._control

    def _build_control(self) -> Any:
        from relay.sandbox.control import build_control  # noqa: PLC0415 - see _control_app

        return build_control(self._sandbox)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._sandbox.open()
                self._control_app()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._sandbox.close()
                await send({"type": "lifespan.shutdown.complete"})
                return
