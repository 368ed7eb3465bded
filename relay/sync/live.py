"""The socket `/live`: it says where the feed stands, and nothing else.

Each socket has a reader and a writer. The writer keeps one slot with the newest head, never a queue, so a
slow client costs no memory and misses nothing: it pulls what it lacks with `GET /sync/changes`.
"""

import asyncio
import contextlib
import math
import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect
from prometheus_client import Counter, Gauge

from relay.accounts.identity import Authenticator, Identity, bearer_token
from relay.kit import clock
from relay.kit.db import Database, FeedHead
from relay.kit.doorbell import Doorbell
from relay.kit.problem import ProblemError
from relay.sync import queries
from shared.wire.problem import Code
from shared.wire.sync import (
    CLOSE_REVOKED,
    CLOSE_TRY_LATER,
    CLOSE_UNAUTHENTICATED,
    HEARTBEAT_SECONDS,
    AuthExpiring,
    Bye,
    ClientFrame,
    Head,
    Ping,
    Reauthenticate,
    ServerFrame,
)

log = structlog.get_logger(__name__)

SOCKETS_PER_SESSION: Final = 4
"""One desktop needs one; a few more cover reconnects that overlap. The oldest gives way."""
SWEEP_SECONDS: Final = 1.0
RETRY_MS: Final = (500, 8_000)
"""Clients of a relay that goes down come back spread over this time."""
REASON_MAX_CHARS: Final = 100
"""A close frame has room for 123 bytes."""

_connections = Gauge("ws_connections", "Open sockets.")
_dropped = Counter("ws_dropped_total", "Sockets that the relay closed.", ["reason"])
_decode_frame = msgspec.json.Decoder(ClientFrame).decode
_encode_frame = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Timing:
    """Seconds. `head_spacing` is the least time between two heads of one socket; the first goes at once."""

    heartbeat: float = HEARTBEAT_SECONDS
    auth_warning: float = 60.0
    send: float = 10.0
    head_spacing: float = 0.05


class Cut(Enum):
    """Why the relay closes a socket: the close code, and words for people. The name counts in the metrics."""

    UNAUTHENTICATED = (CLOSE_UNAUTHENTICATED, "Sign in first.")
    EXPIRED = (CLOSE_UNAUTHENTICATED, "The access token has expired.")
    REVOKED = (CLOSE_REVOKED, "This device was signed out.")
    SLOW = (CLOSE_TRY_LATER, "The connection is too slow.")
    UNAVAILABLE = (CLOSE_TRY_LATER, "The relay cannot read the feed at the moment.")
    RESTART = (1012, "The relay is restarting.")
    REPLACED = (1008, "This device opened too many sockets.")
    NOT_TEXT = (1003, "Frames are JSON text.")
    MALFORMED = (1008, "This is not a frame of this socket.")
    FAILED = (1011, "Something went wrong on our side.")

    @property
    def code(self) -> int:
        return self.value[0]

    @property
    def words(self) -> str:
        return self.value[1]


class ClosingError(Exception):
    """Ends a socket from within."""

    def __init__(self, cut: Cut, detail: str = "") -> None:
        super().__init__(cut.name)
        self.cut = cut
        self.reason = (detail or cut.words)[:REASON_MAX_CHARS]


class LiveSocket:
    """One accepted socket of one device session."""

    def __init__(
        self,
        socket: WebSocket[Any, Any, Any],
        identity: Identity,
        authenticator: Authenticator,
        timing: Timing,
    ) -> None:
        self.identity = identity
        self.ended = asyncio.Event()
        self._socket = socket
        self._authenticator = authenticator
        self._timing = timing
        self._head: FeedHead | None = None
        self._head_due = False
        self._warned_of: datetime | None = None  # the end of the token that the client was told of
        self._bye: Bye | None = None
        self._closing: ClosingError | None = None
        self._wake = asyncio.Event()

    def offer(self, head: FeedHead) -> None:
        """Take the newest head, in place of one that was not sent yet."""
        if head != self._head:
            self._head = head
            self._head_due = True
            self._wake.set()

    def offer_first(self, head: FeedHead) -> None:
        """Take the head read at the start, unless a newer one was rung meanwhile."""
        if self._head is None:
            self.offer(head)

    def cut(self, cut: Cut, bye: Bye | None = None) -> None:
        """Have the writer say goodbye, where that is wanted, and close."""
        self._bye = bye
        self._closing = self._closing or ClosingError(cut)
        self._wake.set()

    async def run(self) -> None:
        """Serve until the client leaves; raises ClosingError when the relay is to close the socket."""
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        try:
            done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        sent_at = -math.inf
        while True:
            self._wake.clear()
            if self._closing is not None:
                if self._bye is not None:
                    await self._send(self._bye)
                raise self._closing
            auth_due_in = await self._warn_of_expiry()
            head_due_at = sent_at + (self._timing.head_spacing if self._head_due else self._timing.heartbeat)
            if self._head is not None and loop.time() >= head_due_at:
                self._head_due = False
                sent_at = loop.time()
                await self._send(Head(self._head.epoch, self._head.seq))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(auth_due_in, head_due_at - loop.time())):
                    await self._wake.wait()

    async def _warn_of_expiry(self) -> float:
        """Tell the client in time that its token ends; returns the seconds until something is due again."""
        left = (self.identity.expires_at - clock.now()).total_seconds()
        if left <= 0:
            raise ClosingError(Cut.EXPIRED)
        if self._warned_of == self.identity.expires_at:
            return left
        if left > self._timing.auth_warning:
            return left - self._timing.auth_warning
        self._warned_of = self.identity.expires_at
        await self._send(AuthExpiring(self.identity.expires_at))
        return left

    async def _send(self, frame: ServerFrame) -> None:
        try:
            async with asyncio.timeout(self._timing.send):
                await self._socket.send_text(_encode_frame(frame).decode())
        except TimeoutError:
            raise ClosingError(Cut.SLOW) from None

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] != "websocket.receive":
                return
            text = message.get("text")
            if text is None:
                raise ClosingError(Cut.NOT_TEXT)
            try:
                frame = _decode_frame(text)
            except msgspec.MsgspecError as error:
                raise ClosingError(Cut.MALFORMED, str(error)) from None
            match frame:
                case Ping():
                    self._head_due = True
                    self._wake.set()
                case Reauthenticate(token=token):
                    await self._reauthenticate(token)

    async def _reauthenticate(self, token: str) -> None:
        try:
            identity = await self._authenticator.authenticate(token)
        except ProblemError as problem:
            raise _closing_for(problem) from None
        if identity.session_id != self.identity.session_id:
            raise ClosingError(Cut.UNAUTHENTICATED, "The token belongs to another device session.")
        self.identity = identity
        self._wake.set()


class LiveSockets:
    """The open sockets of this process."""

    def __init__(
        self,
        database: Database,
        doorbell: Doorbell,
        authenticator: Authenticator,
        timing: Timing = Timing(),
    ) -> None:
        self._database = database
        self._doorbell = doorbell
        self._authenticator = authenticator
        self._timing = timing
        self._by_session: dict[UUID, list[LiveSocket]] = defaultdict(list)
        self._draining = False

    async def run(self) -> None:
        """Close the sockets of revoked sessions, until cancelled: at once when rung, else within seconds."""
        with self._doorbell.watch_revoked(self._cut_session):
            while True:
                for session_id in list(self._by_session):
                    if self._authenticator.revoked.is_revoked(session_id):
                        self._cut_session(session_id)
                await asyncio.sleep(SWEEP_SECONDS)

    async def serve(self, socket: WebSocket[Any, Any, Any]) -> None:
        """The whole life of one socket. It is accepted first, so that a refusal can say why."""
        await socket.accept()
        try:
            await self._serve(socket)
        except ClosingError as closing:
            _dropped.labels(closing.cut.name.lower()).inc()
            await self._close(socket, closing.cut.code, closing.reason)
        except (WebSocketDisconnect, OSError):
            pass  # the client left while we were writing
        except Exception:
            _dropped.labels(Cut.FAILED.name.lower()).inc()
            log.exception("live.failed")
            await self._close(socket, Cut.FAILED.code, Cut.FAILED.words)

    async def _serve(self, socket: WebSocket[Any, Any, Any]) -> None:
        if self._draining:
            raise ClosingError(Cut.RESTART)
        try:
            token = bearer_token(socket.headers.get("authorization"))
            identity = await self._authenticator.authenticate(token)
        except ProblemError as problem:
            raise _closing_for(problem) from None
        live = LiveSocket(socket, identity, self._authenticator, self._timing)
        # Watch before reading the head, so that none falls between the two.
        with self._doorbell.watch(identity.tenant_id, live.offer):
            live.offer_first(await self._read_head(identity.tenant_id))
            await self._run(live)

    async def _run(self, live: LiveSocket) -> None:
        session_id = live.identity.session_id
        siblings = self._by_session[session_id]
        siblings.append(live)
        for surplus in siblings[:-SOCKETS_PER_SESSION]:
            surplus.cut(Cut.REPLACED)
        _connections.inc()
        try:
            await live.run()
        finally:
            _connections.dec()
            live.ended.set()
            siblings.remove(live)
            if not siblings:
                del self._by_session[session_id]

    async def _read_head(self, tenant_id: UUID) -> FeedHead:
        try:
            async with self._database.tenant(tenant_id) as work:
                return await queries.read_head(work)
        except Exception as error:
            # Failure policy: closed. The client comes back after its own pause.
            log.warning("live.head_unreadable", error=repr(error))
            raise ClosingError(Cut.UNAVAILABLE) from error

    async def _close(self, socket: WebSocket[Any, Any, Any], code: int, reason: str) -> None:
        # A client that does not read has no room for a close frame either; its line is dropped then.
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, OSError):
            async with asyncio.timeout(1):
                await socket.close(code, reason)

    def _cut_session(self, session_id: UUID) -> None:
        for live in self._by_session.get(session_id, []):
            live.cut(Cut.REVOKED)

    async def drain(self, seconds: float = 10.0) -> None:
        """Before the process goes down: send every client away, spread over `seconds`, and take no more."""
        self._draining = True
        sockets = [live for siblings in self._by_session.values() for live in siblings]
        slices = 100
        per_slice = math.ceil(len(sockets) / slices)
        for n, live in enumerate(sockets, start=1):
            live.cut(Cut.RESTART, Bye(random.randint(*RETRY_MS)))  # noqa: S311 - a spread, not a secret
            if n % per_slice == 0 and n < len(sockets):
                await asyncio.sleep(seconds / slices)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.gather(*(live.ended.wait() for live in sockets))


def _closing_for(problem: ProblemError) -> ClosingError:
    revoked = problem.code is Code.SESSION_REVOKED
    return ClosingError(Cut.REVOKED if revoked else Cut.UNAUTHENTICATED, problem.detail)
