"""Writing the feed: the last statement of a transaction, so that commit order is the order of `seq`."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.kit.db import Change, FeedHead, Heads

# One statement takes the counter and writes the entries. It runs last: the counter row stays locked from
# here to the commit, and a transaction that rolls back returns its numbers, so `seq` has no gaps.
_APPEND = text("""
    WITH head AS (
        UPDATE feed_head SET last_seq = last_seq + cardinality(CAST(:ids AS uuid[]))
        WHERE tenant_id = :tenant_id
        RETURNING epoch, last_seq
    ), entries AS (
        INSERT INTO feed (tenant_id, seq, kind, entity_id)
        SELECT :tenant_id, head.last_seq - cardinality(CAST(:ids AS uuid[])) + entry.n, entry.kind, entry.id
        FROM head, unnest(CAST(:kinds AS text[]), CAST(:ids AS uuid[])) WITH ORDINALITY AS entry (kind, id, n)
    )
    SELECT epoch, last_seq FROM head
""")


async def append(connection: AsyncConnection, changes: Sequence[Change]) -> Heads:
    """Append the changes to their tenants' feeds and return the new heads.

    Tenants are taken in the order of their ids, so that two transactions cannot wait for each other.
    """
    by_tenant: dict[UUID, list[Change]] = defaultdict(list)
    for change in changes:
        by_tenant[change.tenant_id].append(change)
    heads: dict[UUID, FeedHead] = {}
    for tenant_id in sorted(by_tenant):
        entries = by_tenant[tenant_id]
        parameters = {
            "tenant_id": tenant_id,
            "kinds": [entry.kind for entry in entries],
            "ids": [entry.entity_id for entry in entries],
        }
        epoch, seq = (await connection.execute(_APPEND, parameters)).one()
        heads[tenant_id] = FeedHead(epoch, seq)
    return heads
