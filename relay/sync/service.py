"""What readers of the feed may ask, and its upkeep.

A client reads the snapshot once, then changes from the snapshot's `seq` on, for ever. Positions are checked
against epoch, floor and head; a cursor that does not fit starts again with a snapshot, by the same code.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from relay.conversations.queries import conversation_page, conversation_rows, message_rows
from relay.kit import cursor as list_cursor
from relay.kit.db import Database, FeedHead, Heads, TenantWork
from relay.kit.doorbell import ReadHeads
from relay.kit.problem import ProblemError
from relay.sync import queries
from relay.sync.queries import Entry
from shared.wire.problem import Code
from shared.wire.sync import Change, Changes, ConversationChange, MessageChange, Snapshot

log = structlog.get_logger(__name__)

KEEP_DAYS: Final = 30
CLEAR_BATCH: Final = 5_000
SNAPSHOTS_AT_ONCE: Final = 2
"""Pages read for one tenant at the same time by one process; the rest of a stampede queues."""
SNAPSHOT_WAIT_SECONDS: Final = 10.0
RETRY_AFTER_SECONDS: Final = 5

_snapshot_slots: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()


class SnapshotCursor(NamedTuple):
    """Where the next page starts, and the head that was read before the first one."""

    head: FeedHead
    before: list_cursor.Position

    def encode(self) -> str:
        return f"{self.head.epoch.hex}.{self.head.seq}.{list_cursor.encode(self.before)}"

    @classmethod
    def decode(cls, text: str) -> "SnapshotCursor":
        """Raises ProblemError `invalid_cursor`."""
        try:
            epoch, seq, before = text.split(".")
            return cls(FeedHead(UUID(epoch), int(seq)), list_cursor.decode(before))
        except ValueError as error:
            raise ProblemError(
                Code.INVALID_CURSOR, "This cursor is not one that the relay gave out. Start without one."
            ) from error


async def snapshot(database: Database, tenant_id: UUID, cursor: str | None, limit: int) -> Snapshot:
    """One page of the inbox, newest activity first.

    The head is read before the first page and kept in the cursor. Each page is a short transaction of its
    own: what moves while a client pages is in the feed after that head.
    """
    position = None if cursor is None else SnapshotCursor.decode(cursor)
    async with _snapshot_slot(tenant_id), database.tenant(tenant_id) as work:
        head = await queries.read_head(work)
        if position is not None:
            if position.head.epoch != head.epoch:
                raise _resync(head, "The feed has a new epoch.")
            head = position.head
        rows = await conversation_page(work, limit, None if position is None else position.before)
    next_cursor = None
    if len(rows) == limit:
        last = list_cursor.Position(rows[-1].last_activity_at, rows[-1].id)
        next_cursor = SnapshotCursor(head, last).encode()
    return Snapshot(epoch=head.epoch, seq=head.seq, conversations=rows, next_cursor=next_cursor)


async def changes(database: Database, tenant_id: UUID, after: int, epoch: UUID | None, limit: int) -> Changes:
    """What changed in `(after, after + limit]`, each entity once with its current row.

    Raises ProblemError `resync_required` when `epoch` is given and is not the feed's, or `after` lies below
    the kept floor or above the head.
    """
    async with database.tenant(tenant_id) as work:
        reading = await queries.read(work, after, limit)
        head = reading.head
        if epoch is not None and epoch != head.epoch:
            raise _resync(head, "The feed has a new epoch.")
        if after < reading.floor:
            raise _resync(head, "The feed no longer reaches back that far.")
        if after > head.seq:
            raise _resync(head, "The feed has not come that far.")
        current = await _current_rows(work, reading.entries)
    return Changes(
        epoch=head.epoch, after=after, to=min(after + limit, head.seq), head=head.seq, changes=current
    )


async def _current_rows(work: TenantWork, entries: list[Entry]) -> list[Change]:
    """Each entry with its row as it is now. A filter on what the reader may see belongs here."""
    conversation_ids = [entry.entity_id for entry in entries if entry.kind == "conversation"]
    message_ids = [entry.entity_id for entry in entries if entry.kind == "message"]
    conversations = (
        {row.id: row for row in await conversation_rows(work, conversation_ids)} if conversation_ids else {}
    )
    messages = {row.id: row for row in await message_rows(work, message_ids)} if message_ids else {}
    return [
        ConversationChange(entry.seq, entry.entity_id, conversations.get(entry.entity_id))
        if entry.kind == "conversation"
        else MessageChange(entry.seq, entry.entity_id, messages.get(entry.entity_id))
        for entry in entries
    ]


def _resync(head: FeedHead, detail: str) -> ProblemError:
    return ProblemError(Code.RESYNC_REQUIRED, detail, extra={"epoch": str(head.epoch), "head": head.seq})


@asynccontextmanager
async def _snapshot_slot(tenant_id: UUID) -> AsyncIterator[None]:
    slots = _snapshot_slots.setdefault(tenant_id, asyncio.Semaphore(SNAPSHOTS_AT_ONCE))
    try:
        async with asyncio.timeout(SNAPSHOT_WAIT_SECONDS):
            await slots.acquire()
    except TimeoutError:
        raise ProblemError(
            Code.UNAVAILABLE,
            "Too many devices are loading this inbox at once. Try again in a moment.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        ) from None
    try:
        yield
    finally:
        slots.release()


# --- for the doorbell and for upkeep --------------------------------------------------------------


def heads_reader(database: Database) -> ReadHeads:
    """What the doorbell polls with: the heads of many tenants in one query."""

    async def read(tenant_ids: Collection[UUID]) -> Heads:
        async with database.system() as work:
            return await queries.read_heads(work, tenant_ids)

    return read


async def clear_old_entries(database: Database, days: int = KEEP_DAYS) -> int:
    """Clear feed entries older than `days` away and raise the floors; returns how many went.

    Tenant by tenant, in short transactions. Safe to run again, and by several processes at once.
    """
    async with database.system() as work:
        tenant_ids = await queries.tenants_with_old_entries(work, days)
    total = 0
    for tenant_id in tenant_ids:
        cleared = CLEAR_BATCH
        while cleared >= CLEAR_BATCH:
            async with database.system_for(tenant_id) as work_for_tenant:
                cleared = await queries.clear_old_entries(work_for_tenant, days, CLEAR_BATCH)
            total += cleared
    log.info("feed.cleared", tenants=len(tenant_ids), entries=total)
    return total


async def start_new_epoch(database: Database) -> Heads:
    """Give every feed a new epoch, so that each client starts again from a snapshot.

    Needed after the database was restored from a backup: positions given out since then mean something else
    now. Open sockets learn of it from the returned heads, when they are rung, or else from their poll.
    """
    async with database.system() as work:
        heads = await queries.new_epochs(work)
    log.warning("feed.new_epoch", tenants=len(heads))
    return heads
