"""The doorbell tells every process "tenant T's feed is at N", or "there is work of kind W".

It is a hint, never the truth: rows are. A ring may be lost, doubled, late or out of order, and the doorbell
may be down for as long as it likes; whoever listens also polls. A ring reaches listeners of the same process
at once, and other processes through Postgres NOTIFY (here) or Redis PUBLISH (`kit.doorbell_redis`).

Rings are coalesced: a tenant's first one leaves at once, then at most one each `QUIET_SECONDS`, and one
message carries many tenants. Nothing is ever published inside a business transaction: commits that notify
wait for each other.
"""

import asyncio
import contextlib
import random
import secrets
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar, cast, get_args
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg
import structlog
from prometheus_client import Counter

from relay.kit.db import FeedHead, Heads, Topic

_T = TypeVar("_T")

log = structlog.get_logger(__name__)

ReadHeads = Callable[[Collection[UUID]], Awaitable[Heads]]
"""Reads the committed heads of these tenants in one query."""
OnHead = Callable[[FeedHead], None]
OnRevoked = Callable[[UUID], None]

CHANNEL: Final = "relaydesk_doorbell"
TOKENS_MAX_BYTES: Final = 7_400
"""In one message. NOTIFY takes less than 8,000 bytes."""
QUIET_SECONDS: Final = 0.01
"""A tenant, topic or session is announced to other processes at most once in this time. It is short because a
message passes two announcements on its way, to the worker and back to the sockets, which space their heads
out themselves."""
GATHER_SECONDS: Final = 0.005
"""Pause between two messages of one process, in which the rings of all tenants gather."""
POLL_SECONDS: Final = 5.0
KEEPALIVE_SECONDS: Final = 15.0
"""A dead listening connection is otherwise noticed only when TCP gives up, after many minutes."""
TIMEOUT_SECONDS: Final = 5.0
RETRY_CAP_SECONDS: Final = 10.0

TOPICS: Final[tuple[Topic, ...]] = get_args(Topic)

_reconnects = Counter(
    "doorbell_reconnects_total", "Times the doorbell's listener or publisher lost its connection.", ["side"]
)


class Doorbell(ABC):
    """What both back ends share. All methods belong to the event loop's thread."""

    errors: tuple[type[Exception], ...] = (OSError, TimeoutError)
    """What the back end raises while its server is out of reach."""

    def __init__(self) -> None:
        self.connected = False
        """Whether rings of other processes arrive; while they do not, the poll stands in."""
        self._sender = secrets.token_hex(4)  # begins each message, so that a process skips its own
        self._on_head: dict[UUID, set[OnHead]] = defaultdict(set)
        self._on_revoked: set[OnRevoked] = set()
        self._heard: dict[UUID, FeedHead] = {}
        self._rung = {topic: asyncio.Event() for topic in TOPICS}
        self._rings = dict.fromkeys(TOPICS, 0)
        self._seen: WeakKeyDictionary[asyncio.Task[Any], dict[Topic, int]] = WeakKeyDictionary()
        self._unpublished: dict[str, str] = {}
        self._quiet_until: dict[str, float] = {}
        self._to_publish = asyncio.Event()
        self._check_all = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- ringing --------------------------------------------------------------------------------------

    def ring(self, heads: Heads, topics: Collection[Topic] = ()) -> None:
        """Announce new heads and waiting work after their commit. Returns at once and never raises."""
        for tenant_id, head in heads.items():
            self._hear_head(tenant_id, head)
            self._publish_later(f"t{tenant_id.hex}", f"{head.epoch.hex}.{head.seq}")
        for topic in topics:
            self._hear_topic(topic)
            self._publish_later(f"w{topic}", "")

    def announce_revoked(self, session_id: UUID) -> None:
        """Tell every process that a device session has ended, after the commit that ended it."""
        self._hear_revoked(session_id)
        self._publish_later(f"r{session_id.hex}", "")

    # --- listening ------------------------------------------------------------------------------------

    async def wait(self, topic: Topic, timeout: float) -> None:
        """Return when the topic is rung, or after `timeout` seconds.

        A ring since the calling task's previous `wait` counts, so a loop that looks for work, finds none and
        waits misses nothing. Await it in the loop's own task, not wrapped in a new one.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        seen = self._seen.setdefault(task, {})
        if seen.get(topic, self._rings[topic]) == self._rings[topic]:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._rung[topic].wait()
        seen[topic] = self._rings[topic]

    def watch(self, tenant_id: UUID, callback: OnHead) -> AbstractContextManager[None]:
        """Call back with each new head of this tenant, from a ring or from the poll.

        Read the head once after entering: what was committed before is not announced again.
        """
        return self._watching(tenant_id, callback)

    @contextlib.contextmanager
    def _watching(self, tenant_id: UUID, callback: OnHead) -> Iterator[None]:
        self._on_head[tenant_id].add(callback)
        try:
            yield
        finally:
            self._on_head[tenant_id].discard(callback)
            if not self._on_head[tenant_id]:
                del self._on_head[tenant_id]
                self._heard.pop(tenant_id, None)

    @contextlib.contextmanager
    def watch_revoked(self, callback: OnRevoked) -> Iterator[None]:
        """Call back with the id of each device session announced as revoked."""
        self._on_revoked.add(callback)
        try:
            yield
        finally:
            self._on_revoked.discard(callback)

    # --- life -----------------------------------------------------------------------------------------

    async def start(self, read_heads: ReadHeads) -> None:
        """Connect in the background and poll the watched tenants with `read_heads`. Never waits or fails."""
        self._tasks = [
            asyncio.create_task(self._keep("listener", self._listen), name="doorbell-listener"),
            asyncio.create_task(self._keep("publisher", self._publish_loop), name="doorbell-publisher"),
            asyncio.create_task(self._poll_loop(read_heads), name="doorbell-poll"),
        ]

    async def stop(self) -> None:
        """Publish what still waits, for a second at most, and close. Without `start` it does just that."""
        while self._tasks:
            # Again and again: the Redis client now and then swallows a cancellation while it connects.
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=0.1)
            self._tasks = [task for task in self._tasks if not task.done()]
        with contextlib.suppress(*self.errors):  # failure policy: open, as in `_keep`
            async with asyncio.timeout(1):
                while self._unpublished:
                    await self._publish_now(self._unpublished)
        await self._close()

    async def _keep(self, side: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run one side for ever.

        Failure policy: open. Without its server the doorbell is silent, work goes on, polls stand in; the
        side comes back by itself, with full jitter so that many processes do not come back together.
        """
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await run()
            except self.errors as error:
                failures = 0 if loop.time() - began > RETRY_CAP_SECONDS else failures + 1
                log.warning("doorbell connection lost", side=side, error=repr(error), failures=failures)
            except Exception:
                failures += 1
                log.exception("doorbell failed", side=side)
            _reconnects.labels(side).inc()
            ceiling = min(RETRY_CAP_SECONDS, 0.1 * 2 ** min(failures, 10))
            await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311 - jitter, not a secret

    def _check_everything(self) -> None:
        """After a (re)connect: whatever was rung meanwhile was not heard, so look at everything once."""
        self.connected = True
        self._check_all.set()
        for topic in TOPICS:
            self._hear_topic(topic)

    async def _poll_loop(self, read_heads: ReadHeads) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._check_all.wait()
            self._check_all.clear()
            try:
                await self._poll(read_heads)
            except Exception:
                # Failure policy: open. Sockets keep their last head until the database answers again.
                log.warning("doorbell poll failed", exc_info=True)

    async def _poll(self, read_heads: ReadHeads) -> None:
        before = {tenant_id: self._heard.get(tenant_id) for tenant_id in self._on_head}
        if not before:
            return
        for tenant_id, head in (await read_heads(list(before))).items():
            # The table is the truth, also where it went back (a restore); a ring during the query is newer.
            if self._heard.get(tenant_id) == before[tenant_id] != head:
                self._deliver(tenant_id, head)

    # --- publishing -----------------------------------------------------------------------------------

    def _publish_later(self, key: str, value: str) -> None:
        self._unpublished[key] = value
        self._to_publish.set()

    async def _publish_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._to_publish.clear()
            now = loop.time()
            self._quiet_until = {key: until for key, until in self._quiet_until.items() if until > now}
            due = {key: v for key, v in self._unpublished.items() if key not in self._quiet_until}
            if due:
                published = await self._publish_now(due)
                self._quiet_until |= dict.fromkeys(published, loop.time() + QUIET_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)
                continue
            next_due = min((self._quiet_until[key] for key in self._unpublished), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_due):
                    await self._to_publish.wait()

    async def _publish_now(self, messages: Mapping[str, str]) -> list[str]:
        """Publish as many as fit into one payload and return their keys; raises one of `errors`."""
        payload, keys = _pack(messages)
        sent = {key: messages[key] for key in keys}
        await self._publish(f"{self._sender} {payload}")
        for key in keys:
            if self._unpublished.get(key) == sent[key]:  # else it was rung again meanwhile
                del self._unpublished[key]
        return keys

    @abstractmethod
    async def _publish(self, payload: str) -> None:
        """Hand one message to the server, connecting first where needed; raises one of `errors`."""

    @abstractmethod
    async def _listen(self) -> None:
        """Connect, call `_check_everything`, then pass on each message to `_hear` until the line fails."""

    @abstractmethod
    async def _close(self) -> None:
        """Close what is still open."""

    # --- hearing --------------------------------------------------------------------------------------

    def _hear(self, payload: str) -> None:
        """Take one message; this process has heard its own before they left."""
        sender, *tokens = payload.split(" ")
        if sender == self._sender:
            return
        for token in tokens:
            try:
                kind, name, value = token[:1], *token[1:].split("=", 1)
                match kind:
                    case "t":
                        epoch, seq = value.split(".")
                        self._hear_head(UUID(name), FeedHead(UUID(epoch), int(seq)))
                    case "w" if name in TOPICS:
                        self._hear_topic(name)
                    case "r":
                        self._hear_revoked(UUID(name))
            except ValueError:
                log.warning("doorbell message not understood", token=token[:100])

    def _hear_head(self, tenant_id: UUID, head: FeedHead) -> None:
        heard = self._heard.get(tenant_id)
        late_or_again = heard is not None and heard.epoch == head.epoch and head.seq <= heard.seq
        if tenant_id in self._on_head and not late_or_again:
            self._deliver(tenant_id, head)

    def _deliver(self, tenant_id: UUID, head: FeedHead) -> None:
        self._heard[tenant_id] = head
        for callback in list(self._on_head.get(tenant_id, ())):
            _call(callback, head)

    def _hear_topic(self, topic: Topic) -> None:
        self._rings[topic] += 1
        self._rung[topic].set()
        self._rung[topic] = asyncio.Event()

    def _hear_revoked(self, session_id: UUID) -> None:
        for callback in list(self._on_revoked):
            _call(callback, session_id)


class PostgresDoorbell(Doorbell):
    """NOTIFY on a small connection of its own, LISTEN on another.

    `direct_dsn` must reach Postgres itself: LISTEN does not work through a pooler in transaction mode.
    """

    errors = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

    def __init__(self, direct_dsn: str) -> None:
        super().__init__()
        self._dsn = direct_dsn
        self._publisher: asyncpg.Connection | None = None

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._dsn,
            timeout=TIMEOUT_SECONDS,
            command_timeout=TIMEOUT_SECONDS,
            # A hint need not survive a crash, so its commit waits for no disk.
            server_settings={"application_name": "relay-doorbell", "synchronous_commit": "off"},
        )

    async def _publish(self, payload: str) -> None:
        if self._publisher is None or self._publisher.is_closed():
            self._publisher = await self._connect()
        try:
            await self._publisher.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
        except self.errors:
            self._publisher.terminate()
            self._publisher = None
            raise

    async def _listen(self) -> None:
        connection = await self._connect()
        ended = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: ended.set())
            await connection.add_listener(CHANNEL, lambda _c, _pid, _channel, text: self._hear(str(text)))
            self._check_everything()
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEEPALIVE_SECONDS):
                        await ended.wait()
                if not ended.is_set():
                    await connection.fetchval("SELECT 1")
            raise ConnectionError("the listening connection has ended")
        finally:
            self.connected = False
            connection.terminate()

    async def _close(self) -> None:
        if self._publisher is not None:
            self._publisher.terminate()
            self._publisher = None


def _pack(messages: Mapping[str, str]) -> tuple[str, list[str]]:
    """As many of the messages as fit into one payload, and their keys."""
    tokens: list[str] = []
    keys: list[str] = []
    size = 0
    for key, value in messages.items():
        token = f"{key}={value}"
        size += len(token) + 1
        if size > TOKENS_MAX_BYTES:
            break
        tokens.append(token)
        keys.append(key)
    return " ".join(tokens), keys


def _call(callback: Callable[[_T], None], value: _T) -> None:
    """One listener's fault must not keep the ring from the others."""
    try:
        callback(value)
    except Exception:
        log.exception("doorbell listener failed")


def open_doorbell(direct_dsn: str, redis_url: str | None) -> Doorbell:
    """The doorbell of this installation: over Redis where there is one, else over Postgres."""
    if not redis_url:
        return PostgresDoorbell(direct_dsn)
    from relay.kit.doorbell_redis import RedisDoorbell  # noqa: PLC0415 - no Redis client without a Redis

    return RedisDoorbell(redis_url)
