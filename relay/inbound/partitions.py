"""Upkeep of the webhook tables: a partition per day ahead of time, and nothing kept beyond its time.

Run daily, or as often as you like; every step may run again.
"""

from datetime import date, timedelta
from typing import Final

import structlog
from prometheus_client import Gauge
from sqlalchemy import text

from relay.kit.db import Database, UnitOfWork

log = structlog.get_logger(__name__)

DAYS_AHEAD: Final = 3
DAYS_KEPT: Final = 14
"""Longer than the seven days for which Meta repeats a delivery, so a replay covers them all."""
_TABLE: Final = "webhook_raw"
_DEFAULT: Final = "webhook_raw_default"
_PURGE_ROWS: Final = 5_000

_default_rows = Gauge("webhook_raw_default_rows", "Webhooks in no day's partition; more than 0 needs a look.")


async def maintain(database: Database) -> None:
    """Make the partitions of the next days, drop what is older than `DAYS_KEPT`, look at the default one."""
    async with database.owner() as work:
        today = (await work.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date"))).scalar_one()
        existing = await _partition_days(work)
    for day in (today + timedelta(days=n) for n in range(DAYS_AHEAD + 1)):
        if day not in existing:
            await _create(database, day)
    for day in existing:
        if day < today - timedelta(days=DAYS_KEPT):
            await _drop(database, day)
    await _purge_items(database)
    rows = await default_rows(database)
    _default_rows.set(rows)
    if rows:
        log.error("webhooks lie in the default partition", rows=rows)


async def default_rows(database: Database) -> int:
    """How many webhooks arrived on a day without a partition. They are worked on like any other."""
    # Rights on the parent table do not reach a partition that is named itself.
    async with database.owner() as work:
        count: int = (await work.execute(text("SELECT count(*) FROM webhook_raw_default"))).scalar_one()
        return count


async def _partition_days(work: UnitOfWork) -> set[date]:
    rows = await work.execute(
        text(
            "SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day FROM pg_inherits i"
            " JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = CAST(:table AS regclass) AND c.relname ~ '_[0-9]{8}$'"
        ),
        {"table": _TABLE},
    )
    return set(rows.scalars())


async def _create(database: Database, day: date) -> None:
    """A day's partition. Webhooks of that day that had to go to the default one move over."""
    name = f"{_TABLE}_{day:%Y%m%d}"
    bounds = f"FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    within = f"received_at >= '{day}' AND received_at < '{day + timedelta(days=1)}'"
    async with database.owner() as work:
        # Nothing may arrive in the default partition between moving its rows and attaching the new one.
        await work.execute(text(f"LOCK TABLE {_DEFAULT} IN ACCESS EXCLUSIVE MODE"))
        await work.execute(text(f"CREATE TABLE {name} (LIKE {_TABLE} INCLUDING ALL EXCLUDING IDENTITY)"))
        await work.execute(
            text(
                f"WITH moved AS (DELETE FROM {_DEFAULT} WHERE {within} RETURNING *)"  # noqa: S608 - dates
                f" INSERT INTO {name} SELECT * FROM moved"
            )
        )
        await work.execute(text(f"ALTER TABLE {_TABLE} ATTACH PARTITION {name} {bounds}"))
    log.info("webhook partition made", name=name)


async def _drop(database: Database, day: date) -> None:
    name = f"{_TABLE}_{day:%Y%m%d}"
    async with database.owner() as work:
        await work.execute(text(f"DROP TABLE {name}"))
    log.info("webhook partition dropped", name=name)


async def _purge_items(database: Database) -> None:
    """Delete kept and parked items whose webhook is gone, a few thousand at a time."""
    purge = text(
        "DELETE FROM webhook_item WHERE id IN (SELECT id FROM webhook_item WHERE state <> 'new'"
        " AND created_at < now() - make_interval(days => :days) ORDER BY id LIMIT :rows)"
    )
    while True:
        async with database.system() as work:
            result = await work.execute(purge, {"days": DAYS_KEPT, "rows": _PURGE_ROWS})
        if result.rowcount < _PURGE_ROWS:
            return
