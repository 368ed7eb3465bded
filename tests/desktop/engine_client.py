"""An engine with its events collected, as tests of the client drive it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import httpx

from desktop.cache.rows import InboxQuery, MessageRow
from desktop.engine.clock import Clock
from desktop.engine.engine import Engine
from desktop.engine.events import ConnectionChanged, Event, Phase
from desktop.platform.paths import app_paths
from tests.desktop.fake_relay import EMAIL, PASSWORD, START, FakeRelay

E = TypeVar("E")


class MemoryKeyring:
    """A keyring that outlives engines, but not the test."""

    lasting = True

    def __init__(self, holder: str = "test keyring") -> None:
        self.holder = holder
        self.secrets: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        return self.secrets.get(name)

    def set(self, name: str, value: str) -> None:
        self.secrets[name] = value

    def delete(self, name: str) -> None:
        self.secrets.pop(name, None)


class JumpingClock(Clock):
    """`jump` sets the computer's clock, `skip` (seconds) moves the monotonic one on."""

    def __init__(self) -> None:
        self.jump = timedelta()
        self.skip = 0.0

    def now(self) -> datetime:
        return super().now() + self.jump

    def monotonic(self) -> float:
        return super().monotonic() + self.skip


class Client:
    """`events` is everything told so far, in order."""

    def __init__(
        self,
        data_dir: Path,
        keyring: MemoryKeyring,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.batches = 0
        self.engine = Engine(
            app_paths(data_dir),
            self._on_batch,
            open_keyring=lambda: keyring,
            transport=transport,
            clock=clock,
        )

    def _on_batch(self, batch: tuple[Event, ...]) -> None:
        self.batches += 1
        self.events += batch

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def connection(self) -> ConnectionChanged:
        told = self.told(ConnectionChanged)
        return told[-1] if told else ConnectionChanged(phase=Phase.CONNECTING, since=START)

    async def sign_in(self, relay_url: str, *, remember: bool = True) -> None:
        await self.engine.sign_in(relay_url, EMAIL, PASSWORD, remember=remember)

    async def until_synced(self) -> None:
        await until(lambda: self.connection.phase is Phase.ONLINE and not self.connection.syncing)

    async def inbox(self) -> list[UUID]:
        page = await self.engine.queries.inbox_page(InboxQuery(), limit=1_000)
        return [row.id for row in page.rows]

    async def timeline(self, conversation_id: UUID) -> list[MessageRow]:
        return list((await self.engine.queries.timeline_newest(conversation_id, limit=1_000)).rows)

    async def texts(self, conversation_id: UUID) -> list[str]:
        return [getattr(row.content, "body", "?") for row in await self.timeline(conversation_id)]


@dataclass
class World:
    """A relay on loopback and one computer with a keyring; engines come and go."""

    relay: FakeRelay
    url: str
    data_dir: Path
    keyring: MemoryKeyring

    @asynccontextmanager
    async def running(self, *, clock: Clock | None = None) -> AsyncIterator[Client]:
        """A started engine, closed at the end."""
        async with running(self.data_dir, self.keyring, clock=clock) as client:
            yield client

    @asynccontextmanager
    async def signed_in(self, *, clock: Clock | None = None) -> AsyncIterator[Client]:
        """A started engine, signed in and caught up."""
        async with self.running(clock=clock) as client:
            await client.sign_in(self.url)
            await client.until_synced()
            yield client

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.data_dir.rglob(pattern))


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that happens by itself."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def eventually(ask: Callable[[], Awaitable[object]], wanted: object, seconds: float = 20.0) -> None:
    """Wait until `ask` answers `wanted`; fails with the last answer."""
    answer = await ask()
    deadline = asyncio.get_running_loop().time() + seconds
    while answer != wanted and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
        answer = await ask()
    assert answer == wanted


@asynccontextmanager
async def running(
    data_dir: Path,
    keyring: MemoryKeyring,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Client]:
    """A started engine, closed at the end."""
    client = Client(data_dir, keyring, transport, clock)
    await client.engine.start()
    try:
        yield client
    finally:
        await client.engine.close()
