"""Clearing away device sessions that ended long ago."""

from typing import Final

import structlog
from sqlalchemy import text

from relay.kit.db import Database

log = structlog.get_logger(__name__)

SESSION_DAYS_KEPT: Final = 30
"""How long an ended device session stays, so that the use of an old refresh token of it is still noticed."""
_BATCH: Final = 5_000

_CLEAR_SESSIONS: Final = text("""
    DELETE FROM device_session
    WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM device_session
        WHERE least(expires_at, revoked_at) < clock_timestamp() - make_interval(days => :days)
        LIMIT :batch
    )
""")


async def clear_ended_sessions(database: Database) -> int:
    """Delete them and return how many went. May run again at any time."""
    total, cleared = 0, _BATCH
    while cleared == _BATCH:
        async with database.system() as work:
            result = await work.execute(_CLEAR_SESSIONS, {"days": SESSION_DAYS_KEPT, "batch": _BATCH})
        cleared = result.rowcount
        total += cleared
    log.info("device_sessions.cleared", sessions=total)
    return total
