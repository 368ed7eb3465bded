"""The socket, over a real server on loopback."""

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from relay.accounts.identity import AccessTokens, Identity
from relay.kit import clock
from relay.kit.db import Database, FeedHead
from relay.kit.doorbell import Doorbell
from relay.kit.ids import new_id
from relay.settings import Settings
from relay.sync import live as live_module
from relay.sync.live import LiveSockets, Timing
from relay.sync.service import heads_reader
from shared.wire.sync import AuthExpiring, Bye, Head, Ping, Reauthenticate, ServerFrame
from tests.conftest import RunningServer, TenantFixture, sign_in
from tests.relay.sync.conftest import eventually
from tests.relay.sync.desk import Desk

_frame = msgspec.json.Decoder(ServerFrame).decode


def _identity(tenant: TenantFixture, **changes: Any) -> Identity:
    identity = Identity(
        tenant.id, tenant.user_id, new_id(), "agent", "Agent", clock.now() + timedelta(minutes=10)
    )
    return msgspec.structs.replace(identity, **changes)


Token = Callable[[Identity], str]


@pytest.fixture
def token(settings: Settings) -> Token:
    tokens = AccessTokens(settings.jwt_secrets)
    return lambda identity: tokens.issue(identity, version=1)


@pytest.fixture
def sockets(running_server: RunningServer) -> LiveSockets:
    sockets: LiveSockets = running_server.server._app.state.live_sockets
    return sockets


@pytest.fixture
def http(running_server: RunningServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=running_server.url)


@pytest.fixture
async def busy_desk(desk: Desk, doorbell: Doorbell) -> AsyncIterator[Desk]:
    """A desk whose changes ring the server's doorbell, as those of a worker process do."""
    await doorbell.start(heads_reader(desk.database))
    await eventually(lambda: doorbell.connected)
    yield desk
    await doorbell.stop()


class Line:
    """A client's end of a socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def frame(self, seconds: float = 5) -> ServerFrame:
        async with asyncio.timeout(seconds):
            frame: ServerFrame = _frame(await self.connection.recv())
        return frame

    async def head(self, seconds: float = 5) -> Head:
        frame = await self.frame(seconds)
        assert isinstance(frame, Head)
        return frame

    async def say(self, frame: msgspec.Struct) -> None:
        await self.connection.send(msgspec.json.encode(frame).decode())

    async def closed(self, seconds: float = 5) -> tuple[int, str]:
        """Read until the relay closes; the code and the reason."""
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(seconds):
                while True:
                    await self.connection.recv()
        assert self.connection.close_code is not None
        return self.connection.close_code, self.connection.close_reason or ""


@pytest.fixture
def dial(running_server: RunningServer) -> Callable[..., contextlib.AbstractAsyncContextManager[Line]]:
    @contextlib.asynccontextmanager
    async def dial(authorization: str | None, **options: Any) -> AsyncIterator[Line]:
        headers = {} if authorization is None else {"Authorization": authorization}
        url = running_server.url.replace("http", "ws", 1) + "/api/v1/live"
        async with connect(
            url, additional_headers=headers, proxy=None, compression=None, close_timeout=1, **options
        ) as connection:
            yield Line(connection)

    return dial


Dial = Callable[..., contextlib.AbstractAsyncContextManager[Line]]


def _dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("ws_dropped_total", {"reason": reason}) or 0.0


# --- heads ----------------------------------------------------------------------------------------


async def test_the_head_comes_at_once_and_again_when_the_feed_moves(
    dial: Dial, token: Token, busy_desk: Desk
) -> None:
    await busy_desk.customer_writes()
    async with dial(f"Bearer {token(_identity(busy_desk.tenant))}") as line:
        first = await line.head()
        assert first.seq == 2
        await busy_desk.customer_writes("again")
        assert await line.head() == Head(first.epoch, 4)


async def test_ping_is_answered_with_the_head(dial: Dial, token: Token, tenant: TenantFixture) -> None:
    async with dial(f"Bearer {token(_identity(tenant))}") as line:
        first = await line.head()
        for _ in range(3):
            await line.say(Ping())
            assert await line.head() == first


async def test_the_head_is_repeated_as_a_heartbeat(
    dial: Dial, token: Token, tenant: TenantFixture, sockets: LiveSockets
) -> None:
    sockets._timing = Timing(heartbeat=0.1)
    async with dial(f"Bearer {token(_identity(tenant))}") as line:
        began = time.monotonic()
        heads = [await line.head() for _ in range(4)]
        assert time.monotonic() - began > 0.25
    assert len(set(heads)) == 1


async def test_another_tenants_feed_never_rings(
    dial: Dial, token: Token, busy_desk: Desk, other_tenant: TenantFixture
) -> None:
    async with (
        dial(f"Bearer {token(_identity(busy_desk.tenant))}") as ours,
        dial(f"Bearer {token(_identity(other_tenant))}") as theirs,
    ):
        await ours.head()
        await theirs.head()
        await busy_desk.customer_writes()
        assert (await ours.head()).seq == 2
        with pytest.raises(TimeoutError):
            await theirs.frame(0.5)


async def test_an_operators_new_epoch_reaches_open_sockets(
    dial: Dial, token: Token, tenant: TenantFixture, settings: Settings
) -> None:
    async with dial(f"Bearer {token(_identity(tenant))}") as line:
        first = await line.head()
        environment = {
            "DATABASE_URL": settings.database_url,
            "JWT_SECRET": settings.jwt_secrets[0],
            "ENCRYPTION_KEY": settings.encryption_keys,
            "DATA_DIR": str(settings.data_dir),
        }
        operator = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "feed", "new-epoch", "--json"),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await operator.communicate()
        assert (operator.returncode, json.loads(output)) == (0, {"tenants": 1})
        assert (await line.head()).epoch != first.epoch


async def test_a_burst_of_changes_is_told_in_few_heads_and_ends_with_the_last(
    dial: Dial, token: Token, desk: Desk, running_server: RunningServer
) -> None:
    server_database: Database = running_server.server._app.state.database
    async with dial(f"Bearer {token(_identity(desk.tenant))}") as line:
        await line.head()
        for _ in range(100):
            async with server_database.tenant(desk.tenant.id) as work:
                work.changed("message", new_id())
        seqs: list[int] = []
        while not seqs or seqs[-1] < 100:
            seqs.append((await line.head()).seq)
    assert seqs == sorted(set(seqs))
    assert len(seqs) < 50


# --- who may listen -------------------------------------------------------------------------------


@pytest.mark.parametrize("authorization", [None, "Bearer nonsense", "Basic Zm9v", "Bearer "])
async def test_without_a_good_token_the_socket_is_closed_with_words(
    dial: Dial, tenant: TenantFixture, authorization: str | None
) -> None:
    async with dial(authorization) as line:
        code, reason = await line.closed()
    assert code == 4401
    assert reason


async def test_an_expired_token_is_refused(dial: Dial, token: Token, tenant: TenantFixture) -> None:
    expired = _identity(tenant, expires_at=clock.now() - timedelta(seconds=1))
    async with dial(f"Bearer {token(expired)}") as line:
        assert (await line.closed())[0] == 4401


async def test_the_client_is_warned_and_stays_with_a_fresh_token(
    dial: Dial, token: Token, tenant: TenantFixture, sockets: LiveSockets
) -> None:
    sockets._timing = Timing(auth_warning=1.5)
    identity = _identity(tenant, expires_at=(clock.now() + timedelta(seconds=3)).replace(microsecond=0))
    async with dial(f"Bearer {token(identity)}") as line:
        await line.head()
        assert await line.frame() == AuthExpiring(identity.expires_at)
        fresh = msgspec.structs.replace(identity, expires_at=clock.now() + timedelta(minutes=10))
        await line.say(Reauthenticate(token(fresh)))
        await asyncio.sleep((identity.expires_at - clock.now()).total_seconds() + 0.3)
        await line.say(Ping())
        await line.head()


async def test_a_client_that_does_not_answer_the_warning_is_closed(
    dial: Dial, token: Token, tenant: TenantFixture
) -> None:
    identity = _identity(tenant, expires_at=clock.now() + timedelta(seconds=2))
    async with dial(f"Bearer {token(identity)}") as line:
        frames = {type(await line.frame()), type(await line.frame())}
        assert frames == {Head, AuthExpiring}
        assert await line.closed() == (4401, "The access token has expired.")


async def test_a_token_of_another_session_is_not_taken(
    dial: Dial, token: Token, tenant: TenantFixture
) -> None:
    async with dial(f"Bearer {token(_identity(tenant))}") as line:
        await line.say(Reauthenticate(token(_identity(tenant))))
        assert (await line.closed())[0] == 4401


async def test_signing_out_closes_the_sessions_sockets_within_a_second_and_no_others(
    dial: Dial, http: httpx.AsyncClient, tenant: TenantFixture
) -> None:
    async with http:
        first = await sign_in(http, tenant)
        second = await sign_in(http, tenant)
        async with (
            dial(f"Bearer {first.access_token}") as staying,
            dial(f"Bearer {second.access_token}") as going,
            dial(f"Bearer {second.access_token}") as going_too,
        ):
            for line in (staying, going, going_too):
                await line.head()
            began = time.monotonic()
            assert (await http.post("/api/v1/auth/logout")).status_code == 204
            assert (await going.closed())[0] == (await going_too.closed())[0] == 4403
            assert time.monotonic() - began < 1
            await staying.say(Ping())
            await staying.head()
        async with dial(f"Bearer {second.access_token}") as late:
            assert (await late.closed())[0] == 4403


async def test_a_revocation_that_no_ring_announced_is_found(
    dial: Dial, token: Token, tenant: TenantFixture, running_server: RunningServer
) -> None:
    identity = _identity(tenant)
    async with dial(f"Bearer {token(identity)}") as line:
        await line.head()
        running_server.server._app.state.authenticator.revoked.add(identity.session_id)  # as its poll does
        assert (await line.closed())[0] == 4403


async def test_a_device_that_opens_too_many_sockets_loses_the_oldest(
    dial: Dial, token: Token, tenant: TenantFixture
) -> None:
    bearer = f"Bearer {token(_identity(tenant))}"
    async with contextlib.AsyncExitStack() as stack:
        lines = []
        for _ in range(live_module.SOCKETS_PER_SESSION + 2):
            lines.append(await stack.enter_async_context(dial(bearer)))
            await lines[-1].head()
        assert [(await line.closed())[0] for line in lines[:2]] == [1008, 1008]
        for line in lines[2:]:
            await line.say(Ping())
            await line.head()


# --- bad clients and bad times --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"\x00\x01", 1003),
        ("not json", 1008),
        ("{}", 1008),
        ('{"t":"head","epoch":"x","seq":1}', 1008),
        ('{"t":"auth"}', 1008),
        ("[" * 5000, 1008),
        ("x" * 300_000, 1009),
    ],
    ids=["binary", "no json", "no kind", "a server's frame", "no token", "deep", "too long"],
)
async def test_frames_that_are_none_close_the_socket_with_a_reason(
    dial: Dial, token: Token, tenant: TenantFixture, said: bytes | str, code: int
) -> None:
    async with dial(f"Bearer {token(_identity(tenant))}") as line:
        await line.head()
        await line.connection.send(said)
        closed, reason = await line.closed()
    assert closed == code
    assert reason


async def test_a_client_that_does_not_read_is_cut_and_the_others_are_not(
    dial: Dial,
    token: Token,
    tenant: TenantFixture,
    sockets: LiveSockets,
    running_server: RunningServer,
) -> None:
    sockets._timing = Timing(send=0.5, head_spacing=0)
    cut = _dropped("slow")
    # Small buffers, so that they are full soon.
    running_server.server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", int(running_server.url.rpartition(":")[2])))
    reader.setblocking(False)
    async with (
        dial(f"Bearer {token(_identity(tenant))}", sock=reader, max_queue=1) as deaf,
        dial(f"Bearer {token(_identity(tenant))}") as line,
    ):
        await line.head()
        deaf.connection.transport.pause_reading()
        epoch = new_id()
        (target,) = (
            live
            for siblings in sockets._by_session.values()
            for live in siblings
            if live._socket.scope["client"][1] == reader.getsockname()[1]  # type: ignore[index]
        )
        began = time.monotonic()
        while not target.ended.is_set() and time.monotonic() - began < 20:
            for seq in range(200):
                target.offer(FeedHead(epoch, seq))
                await asyncio.sleep(0)
        assert target.ended.is_set()
        await eventually(lambda: _dropped("slow") == cut + 1)
        await line.say(Ping())
        await line.head()


async def test_going_down_says_goodbye_first(
    dial: Dial, token: Token, tenant: TenantFixture, sockets: LiveSockets
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        lines = [
            await stack.enter_async_context(dial(f"Bearer {token(_identity(tenant))}")) for _ in range(20)
        ]
        for line in lines:
            await line.head()
        began = time.monotonic()
        await sockets.drain(seconds=0.5)
        assert 0.05 < time.monotonic() - began < 3
        retries = []
        for line in lines:
            goodbye = await line.frame()
            assert isinstance(goodbye, Bye)
            assert 500 <= goodbye.retry_ms <= 8000
            retries.append(goodbye.retry_ms)
            assert (await line.closed())[0] == 1012
        assert len(set(retries)) > 10, "clients must not come back together"
        async with dial(f"Bearer {token(_identity(tenant))}") as late:
            assert (await late.closed())[0] == 1012


async def test_without_a_readable_feed_the_client_is_told_to_come_back(
    dial: Dial, token: Token, tenant: TenantFixture
) -> None:
    stranger = _identity(tenant, tenant_id=new_id())  # its feed cannot be read: there is none
    async with dial(f"Bearer {token(stranger)}") as line:
        assert (await line.closed())[0] == 1013


async def test_open_sockets_are_counted(dial: Dial, token: Token, tenant: TenantFixture) -> None:
    def count() -> float:
        return REGISTRY.get_sample_value("ws_connections") or 0.0

    before = count()
    async with dial(f"Bearer {token(_identity(tenant))}") as line:
        await line.head()
        assert count() == before + 1
    await eventually(lambda: count() == before)
