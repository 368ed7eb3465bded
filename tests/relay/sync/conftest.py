"""A Redis server of our own, and doorbells over both back ends."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from pathlib import Path
from uuid import UUID

import pytest
import redis

from relay.kit.db import Database, Heads
from relay.kit.doorbell import Doorbell, ReadHeads, open_doorbell
from relay.kit.secrets import Secrets
from tests.conftest import TenantFixture, TestDatabase
from tests.relay.sync.desk import Desk


class RedisServer:
    """A redis-server on a port of its own, without persistence."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing; install it (Debian: apt-get install redis-server)"
        self._program = program
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen([self._program, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()


@pytest.fixture(scope="session")
def redis_of_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(redis_of_worker: RedisServer) -> Iterator[RedisServer]:
    """This worker's Redis server, running; a test may kill and start it."""
    yield redis_of_worker
    if redis_of_worker._process is None:
        redis_of_worker.start()


async def eventually(condition: Callable[[], bool], seconds: float = 3) -> None:
    """Wait until the condition holds, or fail."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def _no_heads(_tenant_ids: Collection[UUID]) -> Heads:
    return {}


OpenDoorbell = Callable[..., Awaitable[Doorbell]]


@pytest.fixture
async def start_doorbell() -> AsyncIterator[OpenDoorbell]:
    """Start a doorbell, wait until it hears, and stop it at the end."""
    started: list[Doorbell] = []

    async def start(bell: Doorbell, read_heads: ReadHeads = _no_heads, *, wait: bool = True) -> Doorbell:
        started.append(bell)
        await bell.start(read_heads)
        if wait:
            await eventually(lambda: bell.connected)
        return bell

    yield start
    for bell in started:
        await bell.stop()


@pytest.fixture(params=["postgres", "redis"])
def new_doorbell(request: pytest.FixtureRequest) -> Callable[[], Doorbell]:
    """Makes doorbells of one installation, on both back ends in turn."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return lambda: open_doorbell("", server.url)
    database: TestDatabase = request.getfixturevalue("fresh_database")
    return lambda: open_doorbell(database.dsn, None)


@pytest.fixture
def another_process(new_doorbell: Callable[[], Doorbell], start_doorbell: OpenDoorbell) -> OpenDoorbell:
    """Starts a doorbell like that of another process."""
    return lambda read_heads=_no_heads: start_doorbell(new_doorbell(), read_heads)


@pytest.fixture
def desk(database: Database, doorbell: Doorbell, relay_secrets: Secrets, tenant: TenantFixture) -> Desk:
    return Desk(database, doorbell, relay_secrets, tenant)
