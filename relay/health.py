"""`/health/live`, `/health/ready` and `/metrics`: for whoever runs the relay. None of them needs a token."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.migrate import fits_schema, head_revision

log = structlog.get_logger(__name__)

DATABASE_TIMEOUT_SECONDS: Final = 2.0
_SCHEMA: Final = text(
    "SELECT version_num::int AS found, (SELECT oldest_revision FROM schema_compat) AS oldest"
    " FROM alembic_version"
)


class Health(msgspec.Struct):
    """`checks` says of each part whether it is `ok`; the doorbell may be `polling`, which is only slower."""

    status: str
    checks: dict[str, str]


class Readiness:
    """Whether this process should get requests."""

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self.draining = False
        self._database = database
        self._doorbell = doorbell
        self._revision = int(head_revision())

    async def check(self) -> Health:
        checks = {
            "database": "ok",
            "schema": "ok",
            "doorbell": "ok" if self._doorbell.connected else "polling",
            "process": "draining" if self.draining else "ok",
        }
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS), self._database.system() as work:
                row = (await work.execute(_SCHEMA)).one()
            if not fits_schema(self._revision, row.found, row.oldest):
                checks["schema"] = f"at {row.found:04}, needs {self._revision:04}"
        except Exception as error:  # noqa: BLE001 - whatever it is, we are not ready
            log.warning("health.database", error=repr(error))
            checks |= {"database": "unavailable", "schema": "unknown"}
        ready = all(value in ("ok", "polling") for value in checks.values())
        return Health("ready" if ready else "unready", checks)


@get("/health/live", summary="Does the process run?", tags=["health"], sync_to_thread=False)
def live() -> Health:
    """Answers without touching anything else, so a slow database does not get the process restarted."""
    return Health("live", {})


@get("/health/ready", summary="Should the process get requests?", tags=["health"])
async def ready(readiness: NamedDependency[Readiness]) -> Response[Health]:
    """503 while the database is out of reach, the schema does not fit, or the process is shutting down."""
    health = await readiness.check()
    return Response(health, status_code=200 if health.status == "ready" else 503)


@get("/metrics", include_in_schema=False, sync_to_thread=False)
def metrics() -> Response[bytes]:
    """Prometheus's text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


route_handlers: Sequence[ControllerRouterHandler] = (live, ready, metrics)
