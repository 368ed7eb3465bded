"""`/auth/…` and `/me`."""

from collections.abc import Sequence
from typing import Any

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT
from litestar.types import ControllerRouterHandler

from relay.accounts import service
from relay.accounts.guard import WITHOUT_TOKEN
from relay.accounts.identity import Identity
from relay.accounts.sessions import DeviceSessions
from relay.kit.db import Database
from shared.wire.auth import LoginRequest, Me, RefreshRequest, TokenPair


@post(
    "/auth/login",
    summary="Sign in with e-mail and password",
    tags=["auth"],
    status_code=HTTP_200_OK,
    opt=WITHOUT_TOKEN,
    security=[{}],
)
async def login(
    data: JSONBody[LoginRequest],
    request: Request[Any, Any, Any],
    device_sessions: NamedDependency[DeviceSessions],
) -> TokenPair:
    """Starts a device session. Attempts are limited per e-mail and per network address."""
    return await device_sessions.login(data, request.client.host if request.client else "")


@post(
    "/auth/refresh",
    summary="Replace both tokens",
    tags=["auth"],
    status_code=HTTP_200_OK,
    opt=WITHOUT_TOKEN,
    security=[{}],
)
async def refresh(
    data: JSONBody[RefreshRequest], device_sessions: NamedDependency[DeviceSessions]
) -> TokenPair:
    """A refresh token works once, and for a minute after that it answers with the same successor.

    Using an older one again signs the device out (401 `session_revoked`).
    """
    return await device_sessions.refresh(data.refresh_token)


@post("/auth/logout", summary="Sign this device out", tags=["auth"], status_code=HTTP_204_NO_CONTENT)
async def logout(
    identity: NamedDependency[Identity], device_sessions: NamedDependency[DeviceSessions]
) -> None:
    """Ends the device session and closes its sockets."""
    await device_sessions.revoke(identity.tenant_id, identity.session_id, "signed out")


@get("/me", summary="The user, their tenant and its numbers", tags=["auth"])
async def get_me(identity: NamedDependency[Identity], database: NamedDependency[Database]) -> Me:
    """What a client shows and needs right after signing in."""
    return await service.me(database, identity)


route_handlers: Sequence[ControllerRouterHandler] = (login, refresh, logout, get_me)
