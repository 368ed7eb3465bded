"""`GET /sync/snapshot`, `GET /sync/changes` and the socket `/live`."""

from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import WebSocket, get, websocket
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from litestar.types import ControllerRouterHandler

from relay.accounts.guard import WITHOUT_TOKEN
from relay.accounts.identity import Identity
from relay.kit.db import Database
from relay.sync import service
from relay.sync.live import LiveSockets
from shared.limits import CHANGES_MAX, SNAPSHOT_PAGE_MAX
from shared.wire.sync import Changes, Snapshot

_SEQ_MAX: Final = 2**62


@get("/sync/snapshot", summary="A page of the inbox to start from", tags=["sync"])
async def get_snapshot(
    identity: NamedDependency[Identity],
    database: NamedDependency[Database],
    cursor: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=SNAPSHOT_PAGE_MAX)] = SNAPSHOT_PAGE_MAX,
) -> Snapshot:
    """Newest activity first. After the last page, read changes from the snapshot's `seq` on."""
    return await service.snapshot(database, identity.tenant_id, cursor, limit)


@get("/sync/changes", summary="What changed after a position", tags=["sync"])
async def get_changes(
    identity: NamedDependency[Identity],
    database: NamedDependency[Database],
    after: Annotated[int, QueryParameter(ge=0, le=_SEQ_MAX)],
    epoch: FromQuery[UUID | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=CHANGES_MAX)] = CHANGES_MAX,
) -> Changes:
    """Each entity once, with its current row. Answers 410 `resync_required` to a cursor that does not fit."""
    return await service.changes(database, identity.tenant_id, after, epoch, limit)


@websocket("/live", opt=WITHOUT_TOKEN)
async def live(socket: WebSocket[Any, Any, Any], live_sockets: NamedDependency[LiveSockets]) -> None:
    """Frames of `shared.wire.sync`: the relay says where the feed stands, the client pulls changes."""
    await live_sockets.serve(socket)


route_handlers: Sequence[ControllerRouterHandler] = (get_snapshot, get_changes, live)
