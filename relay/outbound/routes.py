"""`POST /conversations/{id}/messages`, and what an agent can do about a message that got stuck."""

from collections.abc import Sequence
from uuid import UUID

from litestar import Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from litestar.types import ControllerRouterHandler

from relay.accounts.identity import Identity
from relay.kit.db import Database
from relay.outbound import service
from shared.wire.inbox import Message, SendAgainRequest, SendMessageRequest


@post("/conversations/{conversation_id:uuid}/messages", summary="Send a message", tags=["messages"])
async def send_message(
    conversation_id: FromPath[UUID],
    data: JSONBody[SendMessageRequest],
    identity: NamedDependency[Identity],
    database: NamedDependency[Database],
) -> Response[Message]:
    """201 with the new message, which then climbs the status ladder; 200 with the same client id again."""
    message, created = await service.send_message(database, identity, conversation_id, data)
    return Response(message, status_code=HTTP_201_CREATED if created else HTTP_200_OK)


@post(
    "/conversations/{conversation_id:uuid}/messages/{message_id:uuid}/retry",
    summary="Send a message again that failed or is unconfirmed",
    status_code=HTTP_200_OK,
    tags=["messages"],
)
async def send_again(
    conversation_id: FromPath[UUID],
    message_id: FromPath[UUID],
    data: JSONBody[SendAgainRequest],
    identity: NamedDependency[Identity],
    database: NamedDependency[Database],
) -> Message:
    """An unconfirmed message may arrive twice; the request must say that this is fine."""
    return await service.send_again(
        database, identity, conversation_id, message_id, may_arrive_twice=data.may_arrive_twice
    )


@post(
    "/conversations/{conversation_id:uuid}/messages/{message_id:uuid}/not-sent",
    summary="Mark an unconfirmed message as not sent",
    status_code=HTTP_200_OK,
    tags=["messages"],
)
async def mark_not_sent(
    conversation_id: FromPath[UUID],
    message_id: FromPath[UUID],
    identity: NamedDependency[Identity],
    database: NamedDependency[Database],
) -> Message:
    """Late proof that it was sent after all still moves it on."""
    return await service.mark_not_sent(database, identity, conversation_id, message_id)


route_handlers: Sequence[ControllerRouterHandler] = (send_message, send_again, mark_not_sent)
