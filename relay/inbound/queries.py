"""Statements on raw webhooks, once they are stored, and on the items they are split into."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB

from relay.kit.db import SystemWork, TenantWork, UnitOfWork

ItemState = Literal["new", "kept", "parked"]

# --- raw webhooks ---------------------------------------------------------------------------------


class RawRow(NamedTuple):
    """A stored webhook that waits to be split."""

    received_at: datetime
    id: int
    scope_tenant_id: UUID | None
    body: bytes


async def try_lock(work: UnitOfWork, key: int) -> bool:
    """Hold an advisory lock until the transaction ends; False if another transaction has it."""
    return bool(
        (await work.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key})).scalar_one()
    )


async def new_raw(work: SystemWork, *, limit: int, max_bytes: int) -> list[RawRow]:
    """The oldest webhooks that wait to be split: at least one, and no more than fit into `max_bytes`."""
    rows = await work.execute(_NEW_RAW, {"limit": limit, "max_bytes": max_bytes})
    return [RawRow(row.received_at, row.id, row.scope_tenant_id, row.body) for row in rows]


_NEW_RAW = text("""
    SELECT received_at, id, scope_tenant_id, body
    FROM (
        SELECT *, sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body) AS bytes_before
        FROM (
            SELECT received_at, id, scope_tenant_id, body FROM webhook_raw
            WHERE state = 'new' ORDER BY id LIMIT :limit
        ) AS oldest
    ) AS measured
    WHERE bytes_before < :max_bytes
    ORDER BY id
""")


async def finish_raw(work: SystemWork, rows: Sequence[RawRow], errors: Sequence[str | None]) -> None:
    """These webhooks were split, or parked where there is an error."""
    parameters = {
        "times": [row.received_at for row in rows],
        "ids": [row.id for row in rows],
        "errors": list(errors),
    }
    await work.execute(_FINISH_RAW, parameters)


_FINISH_RAW = text("""
    UPDATE webhook_raw w
    SET state = CASE WHEN r.error IS NULL THEN 'split' ELSE 'parked' END, error = r.error
    FROM unnest(CAST(:times AS timestamptz[]), CAST(:ids AS bigint[]), CAST(:errors AS text[]))
         AS r (received_at, id, error)
    WHERE w.received_at = r.received_at AND w.id = r.id
""")

# --- the way to a tenant --------------------------------------------------------------------------


class Route(NamedTuple):
    """Whose something is; `number_id` where it is a number's."""

    tenant_id: UUID
    number_id: UUID | None


async def number_routes(work: SystemWork, phone_number_ids: Collection[str]) -> dict[str, Route]:
    """The tenant and number of each of Meta's phone number ids, as far as they are known."""
    statement = text(
        "SELECT phone_number_id, tenant_id, number_id FROM number_route"
        " WHERE phone_number_id = ANY(CAST(:ids AS text[]))"
    )
    rows = await work.execute(statement, {"ids": list(phone_number_ids)})
    return {row.phone_number_id: Route(row.tenant_id, row.number_id) for row in rows}


async def waba_routes(work: SystemWork, waba_ids: Collection[str]) -> dict[str, Route]:
    """The tenant of each of Meta's account ids, as far as they are known."""
    statement = text("SELECT waba_id, tenant_id FROM waba_route WHERE waba_id = ANY(CAST(:ids AS text[]))")
    rows = await work.execute(statement, {"ids": list(waba_ids)})
    return {row.waba_id: Route(row.tenant_id, None) for row in rows}


async def lanes_of(work: SystemWork, people: Collection[tuple[UUID, int]]) -> dict[tuple[UUID, int], int]:
    """The lane of each (number, hash of an identity), as far as there is one."""
    parameters = {"numbers": [number for number, _ in people], "people": [person for _, person in people]}
    rows = await work.execute(_LANES_OF, parameters)
    return {(row.number_id, row.person_hash): row.lane_hash for row in rows}


_LANES_OF = text("""
    SELECT l.number_id, l.person_hash, l.lane_hash
    FROM unnest(CAST(:numbers AS uuid[]), CAST(:people AS bigint[])) AS p (number_id, person_hash)
    JOIN webhook_lane l USING (number_id, person_hash)
""")


async def set_lanes(work: SystemWork, lanes: Sequence[tuple[UUID, UUID, int, int]]) -> None:
    """Note lanes: (tenant, number, hash of an identity, lane)."""
    tenants, numbers, people, hashes = zip(*lanes, strict=True)
    parameters = {"tenants": tenants, "numbers": numbers, "people": people, "lanes": hashes}
    await work.execute(_SET_LANES, parameters)


_SET_LANES = text("""
    INSERT INTO webhook_lane (tenant_id, number_id, person_hash, lane_hash)
    SELECT * FROM unnest(CAST(:tenants AS uuid[]), CAST(:numbers AS uuid[]), CAST(:people AS bigint[]),
                         CAST(:lanes AS bigint[]))
    ON CONFLICT (number_id, person_hash) DO UPDATE SET lane_hash = excluded.lane_hash
""")

# --- items ----------------------------------------------------------------------------------------


class NewItem(NamedTuple):
    """A piece of a webhook on its way to a tenant."""

    raw: RawRow
    ordinal: int
    tenant_id: UUID | None
    number_id: UUID | None
    field: str
    kind: str
    lane_hash: int
    payload: dict[str, Any]
    state: ItemState
    error: str | None


async def insert_items(work: SystemWork, items: Sequence[NewItem]) -> None:
    """Store items; their ids grow in this order."""
    parameters = {
        "raw_times": [item.raw.received_at for item in items],
        "raw_ids": [item.raw.id for item in items],
        "ordinals": [item.ordinal for item in items],
        "tenants": [item.tenant_id for item in items],
        "numbers": [item.number_id for item in items],
        "fields": [item.field for item in items],
        "kinds": [item.kind for item in items],
        "lanes": [item.lane_hash for item in items],
        "payloads": [msgspec.json.encode(item.payload).decode() for item in items],
        "states": [item.state for item in items],
        "errors": [item.error for item in items],
    }
    await work.execute(_INSERT_ITEMS, parameters)


_INSERT_ITEMS = text("""
    INSERT INTO webhook_item (raw_received_at, raw_id, ordinal, tenant_id, number_id, field, kind, lane_hash,
                              payload, state, error)
    SELECT i.raw_received_at, i.raw_id, i.ordinal, i.tenant_id, i.number_id, i.field, i.kind, i.lane_hash,
           CAST(i.payload AS jsonb), i.state, i.error
    FROM unnest(CAST(:raw_times AS timestamptz[]), CAST(:raw_ids AS bigint[]), CAST(:ordinals AS int[]),
                CAST(:tenants AS uuid[]), CAST(:numbers AS uuid[]), CAST(:fields AS text[]),
                CAST(:kinds AS text[]), CAST(:lanes AS bigint[]), CAST(:payloads AS text[]),
                CAST(:states AS text[]), CAST(:errors AS text[]))
         WITH ORDINALITY AS i (raw_received_at, raw_id, ordinal, tenant_id, number_id, field, kind, lane_hash,
                               payload, state, error, n)
    ORDER BY i.n
""")


class Item(NamedTuple):
    """An item claimed for work. `waiting`: it failed and its next try is not due yet."""

    id: int
    raw_received_at: datetime
    number_id: UUID
    kind: str
    lane_hash: int
    payload: dict[str, Any]
    attempts: int
    waiting: bool


async def tenants_with_work(work: SystemWork) -> list[UUID]:
    """The tenants that have items to apply, due or not."""
    return list((await work.execute(_TENANTS_WITH_WORK)).scalars())


# Hops from tenant to tenant over the index, however many items each of them has.
_TENANTS_WITH_WORK = text("""
    WITH RECURSIVE waiting AS (
        (SELECT tenant_id FROM webhook_item WHERE state = 'new' ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT i.tenant_id FROM webhook_item i
            WHERE i.state = 'new' AND i.tenant_id > waiting.tenant_id ORDER BY i.tenant_id LIMIT 1
        )
        FROM waiting WHERE waiting.tenant_id IS NOT NULL
    )
    SELECT tenant_id FROM waiting WHERE tenant_id IS NOT NULL
""")


async def claim_lanes(work: TenantWork, *, lanes: int, window: int) -> list[int]:
    """Lock up to `lanes` lanes that have due items, looking at the oldest `window` items."""
    parameters = {"tenant_id": work.tenant_id, "lanes": lanes, "window": window}
    return list((await work.execute(_CLAIM_LANES, parameters)).scalars())


# A lane whose head waits for its next try waits as a whole. Locks are tried on the chosen few only.
_CLAIM_LANES = text("""
    WITH due AS MATERIALIZED (
        SELECT lane_hash
        FROM (
            SELECT id, lane_hash FROM webhook_item
            WHERE tenant_id = :tenant_id AND state = 'new' AND lane_hash NOT IN (
                SELECT lane_hash FROM webhook_item
                WHERE tenant_id = :tenant_id AND state = 'new' AND not_before IS NOT NULL
                    AND not_before > clock_timestamp()
            )
            ORDER BY id LIMIT :window
        ) AS oldest
        GROUP BY lane_hash ORDER BY min(id) LIMIT :lanes
    )
    SELECT lane_hash FROM due WHERE pg_try_advisory_xact_lock(lane_hash)
""")


async def items_of_lanes(work: TenantWork, lanes: Sequence[int], *, limit: int) -> list[Item]:
    """The oldest items of locked lanes, in order. A statement of its own: it must see what others committed
    before they gave up the lock."""
    parameters = {"tenant_id": work.tenant_id, "lanes": list(lanes), "limit": limit}
    return [Item._make(row) for row in await work.execute(_ITEMS_OF_LANES, parameters)]


_ITEMS_OF_LANES = text("""
    SELECT id, raw_received_at, number_id, kind, lane_hash, payload, attempts,
           coalesce(not_before > clock_timestamp(), false) AS waiting
    FROM webhook_item
    WHERE tenant_id = :tenant_id AND state = 'new' AND lane_hash = ANY(CAST(:lanes AS bigint[]))
    ORDER BY id LIMIT :limit
""").columns(payload=JSONB)


async def delete_items(work: TenantWork, item_ids: Sequence[int]) -> None:
    """These items have been applied."""
    statement = text(
        "DELETE FROM webhook_item WHERE tenant_id = :tenant_id AND id = ANY(CAST(:ids AS bigint[]))"
    )
    await work.execute(statement, {"tenant_id": work.tenant_id, "ids": list(item_ids)})


async def put_off_item(work: TenantWork, item_id: int, error: str, *, seconds: float) -> None:
    """An item failed and is tried again after this time."""
    parameters = {"tenant_id": work.tenant_id, "id": item_id, "error": error, "seconds": seconds}
    await work.execute(_PUT_OFF_ITEM, parameters)


_PUT_OFF_ITEM = text("""
    UPDATE webhook_item
    SET attempts = attempts + 1, error = :error,
        not_before = clock_timestamp() + make_interval(secs => CAST(:seconds AS float))
    WHERE tenant_id = :tenant_id AND id = :id
""")


async def park_item(work: TenantWork, item_id: int, error: str) -> None:
    """An item failed for good and stays for people to look at."""
    statement = text(
        "UPDATE webhook_item SET state = 'parked', attempts = attempts + 1, not_before = NULL, error = :error"
        " WHERE tenant_id = :tenant_id AND id = :id"
    )
    await work.execute(statement, {"tenant_id": work.tenant_id, "id": item_id, "error": error})


async def portfolios_of(work: TenantWork, number_ids: Collection[UUID]) -> dict[UUID, str]:
    """The business portfolio of each number; '' while it is not known."""
    parameters = {"tenant_id": work.tenant_id, "numbers": list(number_ids)}
    return {row.id: row.portfolio_id for row in await work.execute(_PORTFOLIOS_OF, parameters)}


_PORTFOLIOS_OF = text("""
    SELECT n.id, w.portfolio_id
    FROM phone_number n JOIN waba w ON w.tenant_id = n.tenant_id AND w.id = n.waba_row_id
    WHERE n.tenant_id = :tenant_id AND n.id = ANY(CAST(:numbers AS uuid[]))
""")
