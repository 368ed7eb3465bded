"""The guard before `/api/v1`: a valid access token, or no entry."""

from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from relay.accounts.identity import Authenticator, Identity, bearer_token

WITHOUT_TOKEN: Final = {"without_token": True}
"""The `opt` of a route that checks its callers itself: sign-in, and the socket."""


async def require_token(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Raises ProblemError `unauthenticated` or `session_revoked`."""
    if handler.opt.get("without_token"):
        return
    authenticator: Authenticator = connection.app.state.authenticator
    token = bearer_token(connection.headers.get("authorization"))
    connection.scope["user"] = await authenticator.authenticate(token)


def provide_identity(request: Request[Identity, Any, Any]) -> Identity:
    """Whom the guard let in."""
    return request.user
