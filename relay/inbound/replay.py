"""Putting stored webhooks back into work, once what stopped them is repaired: `relay replay`."""

from typing import Literal

import msgspec
from sqlalchemy import text

from relay.kit.db import Database

State = Literal["parked", "kept"]


class Replayed(msgspec.Struct, frozen=True):
    """Webhooks put back into work, and the items that had stopped in them."""

    webhooks: int
    items: int


async def replay(database: Database, state: State = "parked", *, dry_run: bool = False) -> Replayed:
    """Split again every webhook that is parked or has an item in this state; a dry run only counts them.

    Routes and lanes are looked up anew, so an item for a number that was unknown reaches it now. What was
    applied already is not applied twice.
    """
    async with database.system() as work:
        if dry_run:
            counts = (await work.execute(_COUNT, {"state": state})).one()
            return Replayed(counts.webhooks, counts.items)
        webhooks = (await work.execute(_REOPEN, {"state": state})).rowcount
        items = (await work.execute(_FORGET, {"state": state})).rowcount
        work.wake("webhook")
    return Replayed(webhooks, items)


_STOPPED = """(
    w.state = :state
    OR EXISTS (
        SELECT FROM webhook_item i
        WHERE i.raw_received_at = w.received_at AND i.raw_id = w.id AND i.state = :state
    )
)"""
_COUNT = text(f"""
    SELECT (SELECT count(*) FROM webhook_raw w WHERE w.state <> 'new' AND {_STOPPED}) AS webhooks,
           (SELECT count(*) FROM webhook_item WHERE state = :state) AS items
""")  # noqa: S608 - a constant of this file
_REOPEN = text(f"""
    UPDATE webhook_raw w SET state = 'new', error = NULL WHERE w.state <> 'new' AND {_STOPPED}
""")  # noqa: S608 - a constant of this file
_FORGET = text("""
    DELETE FROM webhook_item i USING webhook_raw w
    WHERE w.received_at = i.raw_received_at AND w.id = i.raw_id AND w.state = 'new' AND i.state = :state
""")
