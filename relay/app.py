"""The web process: routes, what they depend on, and what lives as long as the process does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ControllerRouterHandler

from relay import health
from relay.accounts import routes as accounts
from relay.accounts.guard import provide_identity, require_token
from relay.accounts.identity import AccessTokens, Authenticator, RevokedSessions
from relay.accounts.sessions import DeviceSessions
from relay.conversations import routes as conversations
from relay.health import Readiness
from relay.inbound import routes as inbound
from relay.inbound.ingest import Ingest
from relay.inbound.raw_store import RawStore
from relay.kit import metrics
from relay.kit.db import PoolOptions
from relay.kit.http import RequestContext
from relay.kit.problem import exception_handlers
from relay.numbers.endpoints import WebhookEndpoints
from relay.outbound import routes as outbound
from relay.services import open_services
from relay.settings import Settings
from relay.sync import routes as sync
from relay.sync.live import LiveSockets

log = structlog.get_logger(__name__)

API_BODY_MAX_BYTES: Final = 1024 * 1024
"""Webhooks have a limit of their own."""
SWAGGER_SOURCES: Final = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: https://cdn.jsdelivr.net;"
    " script-src 'unsafe-inline' https://cdn.jsdelivr.net; style-src 'unsafe-inline' https://cdn.jsdelivr.net"
)
"""Swagger UI comes from a public network; without one, /schema/openapi.json is the same in full."""
API_POOL: Final = PoolOptions(size=5, overflow=10)

API: Final[Sequence[ControllerRouterHandler]] = (
    *accounts.route_handlers,
    *conversations.route_handlers,
    *outbound.route_handlers,
    *sync.route_handlers,
)
PROVIDED: Final = (
    "database",
    "settings",
    "doorbell",
    "secrets",
    "device_sessions",
    "live_sockets",
    "readiness",
)
"""What handlers may ask for by name, besides `identity`."""


def create_app(settings: Settings) -> Litestar:
    """The application for complete settings (see `boot`)."""
    api = Router(
        "/api/v1",
        route_handlers=API,
        guards=[require_token],
        dependencies={"identity": Provide(provide_identity, sync_to_thread=False)},
        security=[{"access_token": []}],
    )
    app = Litestar(
        [api, *inbound.route_handlers, *health.route_handlers],
        dependencies={name: Provide(_from_state(name), sync_to_thread=False) for name in PROVIDED},
        state=State({"settings": settings}),
        lifespan=[_running],
        exception_handlers=exception_handlers,
        request_max_body_size=API_BODY_MAX_BYTES,
        openapi_config=_openapi(),
        logging_config=None,
    )
    app.asgi_handler = RequestContext(app.asgi_handler)
    return app


def _from_state(name: str) -> Any:
    def provide(state: State) -> Any:
        return state[name]

    return provide


@asynccontextmanager
async def _running(app: Litestar) -> AsyncIterator[None]:
    """Everything the process holds open, from before its first request until after its last."""
    settings: Settings = app.state.settings
    async with open_services(settings, application_name="relay-web", pool=API_POOL) as services:
        raw_store = RawStore(settings.database_direct_url, services.doorbell.ring)
        tokens = AccessTokens(settings.jwt_secrets)
        revoked = RevokedSessions(services.database, services.doorbell)
        authenticator = Authenticator(tokens, revoked)
        sockets = LiveSockets(services.database, services.doorbell, authenticator)
        ingest = Ingest(
            raw_store,
            WebhookEndpoints(services.database, services.secrets),
            app_secrets=settings.meta_app_secrets,
            verify_token=settings.webhook_verify_token,
        )
        app.state.update(
            database=services.database,
            doorbell=services.doorbell,
            secrets=services.secrets,
            authenticator=authenticator,
            device_sessions=DeviceSessions(
                services.database, services.secrets, services.doorbell, tokens, revoked
            ),
            live_sockets=sockets,
            readiness=Readiness(services.database, services.doorbell),
            ingest=ingest,
        )
        tasks = [
            asyncio.create_task(revoked.run(), name="revocations"),
            asyncio.create_task(sockets.run(), name="sockets"),
            asyncio.create_task(metrics.watch_event_loop(), name="loop-lag"),
        ]
        ingest.start()
        try:
            yield
        finally:
            await ingest.stop()
            for task in tasks:
                task.cancel()
            for task, outcome in zip(
                tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True
            ):
                if isinstance(outcome, Exception):
                    log.error("task.failed", task=task.get_name(), exc_info=outcome)
            await raw_store.close()


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Relaydesk",
        version="1",
        description="The API between a relay and its desktops and integrations. Errors are problem+json.",
        openapi_router=Router(
            "/schema", route_handlers=[], response_headers={"Content-Security-Policy": SWAGGER_SOURCES}
        ),
        render_plugins=[SwaggerRenderPlugin()],
        components=Components(
            security_schemes={
                "access_token": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")
            }
        ),
    )
