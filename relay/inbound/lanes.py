"""Applying items, lane by lane: many items of one tenant in one transaction, each lane in order.

A tenant's turn is one transaction, then comes the next tenant, so nobody's backlog keeps the others waiting.
An item that fails is tried again after 1, 2, 4 and 8 seconds, and its lane waits for it; then it is parked
and the lane goes on behind it. One that nobody could ever read is parked at once.
"""

import asyncio
import random
from collections import deque
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter

from relay.inbound import queries
from relay.inbound.handlers import Readable, apply, read
from relay.inbound.queries import Item
from relay.kit.db import Database, TenantWork
from relay.kit.doorbell import Doorbell
from relay.kit.lanes import drain
from relay.kit.problem import is_operational
from relay.kit.secrets import Secrets
from relay.meta.webhooks import UnreadableError

log = structlog.get_logger(__name__)

LANES_MAX: Final = 60
"""Lanes per transaction; each is one entry in Postgres' shared lock table."""
ITEMS_MAX: Final = 500
ITEMS_MAX_ONE_BY_ONE: Final = 50
WINDOW: Final = 2_000
"""How many of a tenant's oldest items are looked at for lanes."""
TRIES_MAX: Final = 5
BACKOFF_SECONDS: Final = 1.0
"""Before the second try; doubled before each further one."""

_applied = Counter("webhook_items_applied_total", "Items applied.")
_failed = Counter("webhook_items_failed_total", "Tries of items that failed.", ["outcome"])


class LaneWorker:
    """Any number of these may run, in one process or many."""

    def __init__(self, database: Database, doorbell: Doorbell, secrets: Secrets) -> None:
        self._database = database
        self._doorbell = doorbell
        self._secrets = secrets
        self._turns: deque[UUID] = deque()

    async def run(self, stop: asyncio.Event) -> None:
        """Apply items as they come until `stop` is set."""
        await drain(self.step, doorbell=self._doorbell, topic="webhook", stop=stop, name="lanes")

    async def step(self) -> int:
        """Serve the next tenant that has due items; returns how many were dealt with, 0 if nobody has any."""
        if not self._turns:
            async with self._database.system() as work:
                tenants = await queries.tenants_with_work(work)
            start = random.randrange(len(tenants)) if tenants else 0  # noqa: S311 - spreads workers, no secret
            self._turns.extend(tenants[start:] + tenants[:start])
        while self._turns:
            done = await self._serve(self._turns.popleft())
            if done:
                return done
        return 0

    async def _serve(self, tenant_id: UUID) -> int:
        try:
            return await self._apply_together(tenant_id)
        except Exception as error:
            if is_operational(error):
                raise
            log.warning(
                "items failed together, trying one by one", tenant_id=str(tenant_id), error=repr(error)
            )
        return await self._apply_one_by_one(tenant_id)

    async def _apply_together(self, tenant_id: UUID) -> int:
        """The fast way: all items at once. Whatever goes wrong undoes the whole transaction."""
        async with self._database.system_for(tenant_id) as work:
            items = await _claim(work, ITEMS_MAX)
            if not items:
                return 0
            readable: list[Readable] = []
            for item in items:
                try:
                    readable.append(read(item))
                except UnreadableError as error:
                    await _park(work, item, error)
            if readable:
                await apply(work, self._secrets, readable)
                await queries.delete_items(work, [entry.item.id for entry in readable])
        _applied.inc(len(readable))
        return len(items)

    async def _apply_one_by_one(self, tenant_id: UUID) -> int:
        """The careful way: a failing item is undone alone, and holds up its own lane only."""
        async with self._database.system_for(tenant_id) as work:
            items = await _claim(work, ITEMS_MAX_ONE_BY_ONE)
            applied: list[int] = []
            blocked: set[int] = set()
            for item in items:
                if item.lane_hash in blocked:
                    continue
                try:
                    async with work.savepoint():
                        await apply(work, self._secrets, [read(item)])
                except Exception as error:
                    if is_operational(error):
                        raise
                    if isinstance(error, UnreadableError) or item.attempts + 1 >= TRIES_MAX:
                        await _park(work, item, error)
                    else:
                        await _put_off(work, item, error)
                        blocked.add(item.lane_hash)
                else:
                    applied.append(item.id)
            if applied:
                await queries.delete_items(work, applied)
        _applied.inc(len(applied))
        return len(items)


async def _claim(work: TenantWork, limit: int) -> list[Item]:
    """The oldest due items of lanes that nobody else is working on, in order."""
    lanes = await queries.claim_lanes(work, lanes=LANES_MAX, window=WINDOW)
    items = await queries.items_of_lanes(work, lanes, limit=limit) if lanes else []
    # Between the two statements another worker may have put off the head of a lane.
    waiting = {item.lane_hash for item in items if item.waiting}
    return [item for item in items if item.lane_hash not in waiting]


async def _park(work: TenantWork, item: Item, error: Exception) -> None:
    _failed.labels("parked").inc()
    log.error("item parked", item_id=item.id, kind=item.kind, tries=item.attempts + 1, exc_info=error)
    await queries.park_item(work, item.id, _words(error))


async def _put_off(work: TenantWork, item: Item, error: Exception) -> None:
    _failed.labels("put_off").inc()
    log.warning("item put off", item_id=item.id, kind=item.kind, tries=item.attempts + 1, exc_info=error)
    await queries.put_off_item(work, item.id, _words(error), seconds=BACKOFF_SECONDS * 2**item.attempts)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, UnreadableError) else repr(error)
