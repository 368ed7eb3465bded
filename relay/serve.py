"""Running the web process: uvicorn, and a goodbye that loses nothing."""

import asyncio
import signal
from types import FrameType
from typing import Final

import structlog
import uvicorn
from litestar import Litestar

from relay.app import create_app
from relay.settings import Settings

log = structlog.get_logger(__name__)

SOCKET_FRAME_MAX_BYTES: Final = 262_144
PING_SECONDS: Final = 20.0
GRACE_SECONDS: Final = 25
CONNECTIONS_MAX: Final = 20_000


class Server(uvicorn.Server):
    """uvicorn, which closes sockets before the application hears of the end: so the goodbye comes first.

    On the first signal the process calls itself unready, waits `drain_seconds` for balancers to notice, says
    goodbye to the sockets, and only then lets uvicorn finish what is running. A second signal hurries it.
    """

    def __init__(self, config: uvicorn.Config, app: Litestar, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._signals = 0

    async def startup(self, sockets: object = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]  # uvicorn's own type, passed through
        if self.started:
            for server in self.servers:
                for sock in server.sockets:
                    log.info("relay.listening", address=sock.getsockname())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Not passed on: uvicorn would raise the signal again after the end and skip our clean-up."""
        self._signals += 1
        if self._signals > 1 or self._loop is None or not self.started:
            self.should_exit = self.force_exit = True
            return
        log.info("relay.stopping", signal=signal.Signals(sig).name)
        self._loop.call_soon_threadsafe(self._start_draining)

    def _start_draining(self) -> None:
        self._draining = asyncio.create_task(self._drain(), name="drain")

    async def _drain(self) -> None:
        try:
            self._app.state.readiness.draining = True
            await asyncio.sleep(self._drain_seconds)
            await self._app.state.live_sockets.drain()
        finally:
            self.should_exit = True


def uvicorn_config(app: Litestar, host: str, port: int) -> uvicorn.Config:
    """uvicorn's options; why these: docs/adr."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="auto",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=SOCKET_FRAME_MAX_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        limit_concurrency=CONNECTIONS_MAX,
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="on",
    )


def serve(settings: Settings, *, drain_seconds: float) -> bool:
    """Serve until told to stop. False when it could not start, which was logged."""
    app = create_app(settings)
    server = Server(uvicorn_config(app, settings.host, settings.port), app, drain_seconds)
    server.run()
    return server.started
