"""`GET /conversations`, `GET /conversations/{id}/messages` and `POST /conversations/{id}/read`."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT
from litestar.types import ControllerRouterHandler

from relay.accounts.identity import Identity
from relay.conversations import service
from relay.kit.db import Database
from shared.limits import PAGE_DEFAULT, PAGE_MAX
from shared.wire.inbox import ConversationPage, MarkReadRequest, MessagePage

Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)]


@get("/conversations", summary="A page of the inbox", tags=["conversations"])
async def list_conversations(
    identity: NamedDependency[Identity],
    database: NamedDependency[Database],
    cursor: FromQuery[str | None] = None,
    limit: Limit = PAGE_DEFAULT,
) -> ConversationPage:
    """Newest activity first; `cursor` is the `next_cursor` of the page before."""
    return await service.list_conversations(database, identity.tenant_id, cursor, limit)


@get("/conversations/{conversation_id:uuid}/messages", summary="A page of a timeline", tags=["conversations"])
async def list_messages(
    identity: NamedDependency[Identity],
    database: NamedDependency[Database],
    conversation_id: FromPath[UUID],
    before: FromQuery[str | None] = None,
    limit: Limit = PAGE_DEFAULT,
) -> MessagePage:
    """Newest first; `before` is the `next_before` of the page before."""
    return await service.list_messages(database, identity.tenant_id, conversation_id, before, limit)


@post(
    "/conversations/{conversation_id:uuid}/read",
    summary="Say what an agent has seen",
    tags=["conversations"],
    status_code=HTTP_204_NO_CONTENT,
)
async def mark_read(
    identity: NamedDependency[Identity],
    database: NamedDependency[Database],
    conversation_id: FromPath[UUID],
    data: JSONBody[MarkReadRequest],
) -> None:
    """Everything up to this message counts as read. Older news than the relay has changes nothing."""
    await service.mark_read(database, identity.tenant_id, conversation_id, data.message_id)


route_handlers: Sequence[ControllerRouterHandler] = (list_conversations, list_messages, mark_read)
