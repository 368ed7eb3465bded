"""The socket: it says when there is something to read, and whether the line is alive.

A line that is silent for longer than the relay's heartbeat is asked once; without an answer it counts as
dead, because a connection that broke in the middle gives no error.
"""

import asyncio
import logging
import random
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection, connect

from desktop.engine.api import ApiError, is_local
from desktop.engine.clock import Backoff
from desktop.engine.session import Session
from desktop.engine.status import Status
from desktop.engine.sync import Sync
from shared.wire.sync import (
    CLOSE_REVOKED,
    CLOSE_UNAUTHENTICATED,
    HEARTBEAT_SECONDS,
    AuthExpiring,
    Bye,
    Head,
    Ping,
    Reauthenticate,
    ServerFrame,
)

log = logging.getLogger("desktop.live")

SILENCE_SECONDS: Final = HEARTBEAT_SECONDS * 1.25
ANSWER_SECONDS: Final = 10.0
RECONNECT_CAP_SECONDS: Final = 30.0

_decode = msgspec.json.Decoder(ServerFrame).decode
_encode = msgspec.json.encode


class Live:
    """Keeps the socket open while the relay can be reached."""

    def __init__(
        self,
        relay_url: str,
        session: Session,
        sync: Sync,
        status: Status,
    ) -> None:
        parts = urlsplit(relay_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        self._url = urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/api/v1/live", "", ""))
        self._is_local = is_local(relay_url)
        self._session = session
        self._sync = sync
        self._status = status
        self._hurry = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._token = ""
        self._come_back_after = 0.0

    def hurry(self) -> None:
        """Try now (or ask whether the line is alive) instead of waiting: after sleep, on "Try now"."""
        self._hurry.set()

    async def run(self) -> None:
        """Connect, listen, connect again; until cancelled or the session ends."""
        backoff = Backoff(first=0.5, cap=RECONNECT_CAP_SECONDS)
        while not self._session.ended.is_set():
            # HTTP finds out when the relay is back; there is no use in both trying.
            await self._status.online.wait()
            try:
                await self._listen(backoff)
            except ApiError as error:
                log.info("no socket: %s", error)
            except (OSError, TimeoutError, websockets.WebSocketException) as error:
                log.info("the socket was lost: %r", error)
            except Exception:
                log.exception("the socket's loop failed")
            if self._status.live:
                self._status.live = False
                self._status.tell()
            self._sync.wake()  # asks by HTTP at once, so a lost line shows at once
            await self._pause(self._come_back_after + backoff.next())

    async def _pause(self, seconds: float) -> None:
        self._come_back_after = 0.0
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass
        self._hurry.clear()

    async def _listen(self, backoff: Backoff) -> None:
        self._token = await self._session.bearer(None)
        try:
            socket = await connect(
                self._url,
                additional_headers={"Authorization": f"Bearer {self._token}"},
                compression=None,
                open_timeout=ANSWER_SECONDS,
                close_timeout=2.0,
                ping_interval=None,  # the relay's heartbeats and our own question do this
                max_size=2**20,
                proxy=None if self._is_local else True,
            )
        except websockets.InvalidStatus as error:
            if error.response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                await self._session.bearer(self._token)
            raise
        async with socket:
            try:
                await self._receive(socket, backoff)
            except websockets.ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd is not None else None
                if code in (CLOSE_UNAUTHENTICATED, CLOSE_REVOKED):
                    # A refresh tells whether the device was signed out.
                    await self._session.bearer(self._token)
                raise

    async def _receive(self, socket: ClientConnection, backoff: Backoff) -> None:
        while True:
            raw = await self._next(socket)
            try:
                frame = _decode(raw)
            except msgspec.ValidationError as error:
                log.debug("a frame this version does not know: %s", error)
                continue
            match frame:
                case Head(epoch=epoch, seq=seq):
                    if not self._status.live:
                        self._status.live = True
                        self._status.tell()
                        backoff.reset()
                    self._sync.hint(epoch, seq)
                case AuthExpiring():
                    self._token = await self._session.bearer(self._token)
                    await socket.send(_encode(Reauthenticate(self._token)).decode())
                case Bye(retry_ms=retry_ms):
                    # All clients hear this at the same moment: spread their return.
                    self._come_back_after = retry_ms / 1000 * random.uniform(1.0, 2.0)  # noqa: S311
                    return

    async def _next(self, socket: ClientConnection) -> str | bytes:
        """The next frame. After a silence, or in a hurry, asks; no answer is a `TimeoutError`."""
        received = asyncio.ensure_future(socket.recv())
        hurried = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait(
                {received, hurried}, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if received.done():
                return received.result()
            self._hurry.clear()
            await socket.send(_encode(Ping()).decode())
            return await asyncio.wait_for(received, ANSWER_SECONDS)
        finally:
            hurried.cancel()
            received.cancel()
            await asyncio.gather(received, hurried, return_exceptions=True)
