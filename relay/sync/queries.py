"""Reading the feed, its heads, and clearing away what is too old."""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text

from relay.kit.db import EntityKind, FeedHead, Heads, SystemWork, TenantWork


class Entry(NamedTuple):
    """The newest change of one entity within the positions read."""

    seq: int
    kind: EntityKind
    entity_id: UUID


class Reading(NamedTuple):
    """Where the feed stood, and what changed in the positions asked for, in the order of `seq`.

    Positions up to `floor` are cleared away.
    """

    head: FeedHead
    floor: int
    entries: list[Entry]


_HEAD = text("SELECT epoch, last_seq FROM feed_head WHERE tenant_id = :tenant_id")

_HEADS = text("""
    SELECT tenant_id, epoch, last_seq FROM feed_head WHERE tenant_id = ANY(CAST(:tenant_ids AS uuid[]))
""")

# One statement sees one snapshot: head, floor and entries belong together, whatever commits meanwhile.
_READ = text("""
    SELECT head.epoch, head.last_seq, head.floor_seq, entry.seq, entry.kind, entry.entity_id
    FROM feed_head AS head
    LEFT JOIN LATERAL (
        SELECT max(feed.seq) AS seq, feed.kind, feed.entity_id
        FROM feed
        WHERE feed.tenant_id = head.tenant_id AND feed.seq > :after AND feed.seq <= :up_to
        GROUP BY feed.kind, feed.entity_id
    ) AS entry ON true
    WHERE head.tenant_id = :tenant_id
    ORDER BY entry.seq
""")

_TENANTS_WITH_OLD_ENTRIES = text("""
    SELECT head.tenant_id
    FROM feed_head AS head
    JOIN feed AS oldest ON oldest.tenant_id = head.tenant_id AND oldest.seq = head.floor_seq + 1
    WHERE oldest.at < clock_timestamp() - make_interval(days => :days)
""")

# Entries go from the bottom, and the floor rises over them in the same statement. The counter row, which
# writers need, is taken last here too.
_CLEAR = text("""
    WITH batch AS (
        SELECT max(seq) AS seq FROM (
            SELECT seq FROM feed
            WHERE tenant_id = :tenant_id AND at < clock_timestamp() - make_interval(days => :days)
            ORDER BY seq LIMIT :limit
        ) AS old
    ), cleared AS (
        DELETE FROM feed USING batch WHERE feed.tenant_id = :tenant_id AND feed.seq <= batch.seq
        RETURNING feed.seq
    )
    UPDATE feed_head SET floor_seq = cleared.newest
    FROM (SELECT max(seq) AS newest, count(*) AS entries FROM cleared) AS cleared
    WHERE feed_head.tenant_id = :tenant_id AND cleared.newest > feed_head.floor_seq
    RETURNING cleared.entries
""")

_NEW_EPOCH = text("UPDATE feed_head SET epoch = gen_random_uuid() RETURNING tenant_id, epoch, last_seq")


async def read_head(work: TenantWork) -> FeedHead:
    """Where the tenant's feed stands."""
    row = (await work.execute(_HEAD, {"tenant_id": work.tenant_id})).one()
    return FeedHead(row.epoch, row.last_seq)


async def read_heads(work: SystemWork, tenant_ids: Collection[UUID]) -> Heads:
    """Where the feeds of these tenants stand; unknown tenants are left out."""
    rows = await work.execute(_HEADS, {"tenant_ids": list(tenant_ids)})
    return {row.tenant_id: FeedHead(row.epoch, row.last_seq) for row in rows}


async def read(work: TenantWork, after: int, limit: int) -> Reading:
    """The entities changed in `(after, after + limit]`, each once, at the position of its newest change."""
    parameters = {"tenant_id": work.tenant_id, "after": after, "up_to": after + limit}
    rows = (await work.execute(_READ, parameters)).all()
    head = FeedHead(rows[0].epoch, rows[0].last_seq)
    entries = [Entry(row.seq, row.kind, row.entity_id) for row in rows if row.seq is not None]
    return Reading(head, rows[0].floor_seq, entries)


async def tenants_with_old_entries(work: SystemWork, days: int) -> list[UUID]:
    """Tenants whose oldest kept entry is older than `days`."""
    return list((await work.execute(_TENANTS_WITH_OLD_ENTRIES, {"days": days})).scalars())


async def clear_old_entries(work: TenantWork, days: int, limit: int) -> int:
    """Clear away about `limit` of the entries older than `days`, the oldest first; returns how many went."""
    parameters = {"tenant_id": work.tenant_id, "days": days, "limit": limit}
    return (await work.execute(_CLEAR, parameters)).scalar_one_or_none() or 0


async def new_epochs(work: SystemWork) -> Heads:
    """Give every tenant's feed a new epoch."""
    rows = await work.execute(_NEW_EPOCH)
    return {row.tenant_id: FeedHead(row.epoch, row.last_seq) for row in rows}
