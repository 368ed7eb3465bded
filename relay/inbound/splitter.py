"""From raw webhooks to items: whose is each piece, and in which lane does it wait its turn?

One splitter works at a time in the whole cluster, so items get their ids in the order of the webhooks.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from prometheus_client import Counter

from relay.inbound import queries
from relay.inbound.queries import ItemState, NewItem, RawRow, Route
from relay.inbound.split import EnvelopeError, Piece, split
from relay.kit.db import Database, SystemWork
from relay.kit.doorbell import Doorbell
from relay.kit.lanes import drain, lane_hash
from relay.kit.problem import is_operational

log = structlog.get_logger(__name__)

BATCH_ROWS: Final = 500
BATCH_BYTES: Final = 8 * 1024 * 1024
_LOCK: Final = lane_hash("splitter")

_items = Counter("webhook_items_total", "Pieces of webhooks by what became of them.", ["kind", "state"])
_unreadable = Counter("webhooks_unreadable_total", "Stored webhooks that could not be split.")


class _Taken(NamedTuple):
    """A webhook, with its pieces or the reason why it has none."""

    raw: RawRow
    pieces: Sequence[Piece]
    error: str | None


class Splitter:
    """Run by every worker; whoever holds the lock works, the others look again later."""

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self._database = database
        self._doorbell = doorbell

    async def run(self, stop: asyncio.Event) -> None:
        """Split webhooks as they come until `stop` is set."""
        await drain(self.step, doorbell=self._doorbell, topic="webhook", stop=stop, name="splitter")

    async def step(self) -> int:
        """Split the oldest webhooks in one transaction; returns how many."""
        async with self._database.system() as work:
            if not await queries.try_lock(work, _LOCK):
                return 0
            rows = await queries.new_raw(work, limit=BATCH_ROWS, max_bytes=BATCH_BYTES)
            if not rows:
                return 0
            taken = [_take_apart(row) for row in rows]
            try:
                async with work.savepoint():
                    counts = await _store(work, taken)
            except Exception as error:
                if is_operational(error):
                    raise
                log.warning("webhooks could not be split together, trying one by one", error=repr(error))
                counts = await _store_one_by_one(work, taken)
            work.wake("webhook")
        for (kind, state), count in counts.items():
            _items.labels(kind, state).inc(count)
        return len(rows)


def _take_apart(raw: RawRow) -> _Taken:
    try:
        return _Taken(raw, split(raw.body), None)
    except EnvelopeError as error:
        return _Taken(raw, (), str(error))


async def _store_one_by_one(work: SystemWork, taken: Sequence[_Taken]) -> dict[tuple[str, str], int]:
    """One webhook that cannot be stored is parked and keeps no other from being split."""
    counts: dict[tuple[str, str], int] = {}
    for webhook in taken:
        try:
            async with work.savepoint():
                found = await _store(work, [webhook])
        except Exception as error:
            if is_operational(error):
                raise
            log.exception("a webhook could not be split", raw_id=webhook.raw.id)
            await _store(work, [webhook._replace(pieces=(), error=f"it could not be split: {error!r}")])
            continue
        for key, count in found.items():
            counts[key] = counts.get(key, 0) + count
    return counts


async def _store(work: SystemWork, taken: Sequence[_Taken]) -> dict[tuple[str, str], int]:
    """Write the items of these webhooks and mark the webhooks; returns the items by kind and state."""
    pieces = [piece for webhook in taken for piece in webhook.pieces]
    numbers = await queries.number_routes(work, {p.phone_number_id for p in pieces if p.phone_number_id})
    accounts = await queries.waba_routes(work, {p.waba_id for p in pieces if not p.phone_number_id})
    items = [
        _address(webhook.raw, ordinal, piece, numbers, accounts)
        for webhook in taken
        for ordinal, piece in enumerate(webhook.pieces)
    ]
    items = await _assign_lanes(work, items, pieces)
    if items:
        await queries.insert_items(work, items)
    await queries.finish_raw(work, [webhook.raw for webhook in taken], [webhook.error for webhook in taken])
    for webhook in taken:
        if webhook.error is not None:
            _unreadable.inc()
            log.warning("webhook parked", raw_id=webhook.raw.id, error=webhook.error)
    counts: dict[tuple[str, str], int] = {}
    for item in items:
        counts[item.kind, item.state] = counts.get((item.kind, item.state), 0) + 1
    return counts


def _address(
    raw: RawRow, ordinal: int, piece: Piece, numbers: dict[str, Route], accounts: dict[str, Route]
) -> NewItem:
    """Whose a piece is, and whether it can be applied, is kept for a later version, or must be parked."""
    route = numbers.get(piece.phone_number_id) if piece.phone_number_id else accounts.get(piece.waba_id)
    problem = piece.problem
    if route is None:
        problem = problem or (
            f"the number {piece.phone_number_id} is not known"
            if piece.phone_number_id
            else f"the account {piece.waba_id} is not known"
        )
    elif raw.scope_tenant_id not in (None, route.tenant_id):
        # Signed by one tenant's app about another's number: nobody gets to see it.
        problem, route = "it is about another tenant's number than its signer's", None
    elif piece.kind in ("message", "status") and route.number_id is None:
        problem = problem or "it does not say which number it is for"
    state: ItemState = "new" if piece.kind in ("message", "status") else "kept"
    return NewItem(
        raw=raw,
        ordinal=ordinal,
        tenant_id=route.tenant_id if route else None,
        number_id=route.number_id if route else None,
        field=piece.field,
        kind=piece.kind,
        lane_hash=0,
        payload={**piece.payload, "waba_id": piece.waba_id, "phone_number_id": piece.phone_number_id},
        state="parked" if problem else state,
        error=problem or None,
    )


async def _assign_lanes(work: SystemWork, items: Sequence[NewItem], pieces: Sequence[Piece]) -> list[NewItem]:
    """Give each item to be applied the lane of its person on its number.

    A webhook may show a person's BSUID, phone number, or both. Every identity seen remembers its lane, so
    that all of a person's items meet in one. Should two lanes turn out to be one person's, the BSUID's stays;
    items still waiting in the other are then worked on side by side, which the handlers allow.
    """
    people = {
        (item.number_id, lane_hash(item.number_id, name))
        for item, piece in zip(items, pieces, strict=True)
        if item.state == "new" and item.number_id is not None
        for name in piece.people
    }
    if not people:
        return list(items)
    lanes = await queries.lanes_of(work, people)
    fresh: dict[tuple[UUID, int], tuple[UUID, UUID, int, int]] = {}
    addressed: list[NewItem] = []
    for item, piece in zip(items, pieces, strict=True):
        if item.state != "new" or item.number_id is None or item.tenant_id is None:
            addressed.append(item)
            continue
        keys = [(item.number_id, lane_hash(item.number_id, name)) for name in piece.people]
        lane = next((lanes[key] for key in keys if key in lanes), keys[0][1])
        for key in keys:
            if lanes.get(key) != lane:
                lanes[key] = lane
                fresh[key] = (item.tenant_id, item.number_id, key[1], lane)
        addressed.append(item._replace(lane_hash=lane))
    if fresh:
        await queries.set_lanes(work, list(fresh.values()))
    return addressed
