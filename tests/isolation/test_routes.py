"""Every route, called with one tenant's token and the other tenant's ids: 404, and not a word of theirs.

A new route needs an entry in `CALLS` or, with a reason, in `WITHOUT_TENANT`; the walk fails without one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.enums import ScopeType
from websockets.asyncio.client import connect

from relay.accounts import refresh_token
from relay.accounts.identity import AccessTokens, Identity
from relay.kit import clock, cursor, ids
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.kit.secrets import Secrets
from relay.settings import Settings
from relay.sync.service import SnapshotCursor, heads_reader
from shared.wire.sync import Head
from tests.conftest import RunningServer, TestDatabase
from tests.isolation import rows
from tests.isolation.rows import A, B

WITHOUT_TENANT: Final[Mapping[str, str]] = {
    "POST /api/v1/auth/login": "knows nobody yet; the password decides whose it is",
    "POST /webhooks/meta": "signed by Meta; answers with an empty body",
    "GET /health/live": "says nothing of tenants",
    "GET /health/ready": "says nothing of tenants",
    "GET /metrics": "counts, without labels of tenants",
    "GET /schema": "the description of the API",
    "GET /schema/swagger": "the description of the API",
    "GET /schema/openapi.json": "the description of the API",
    "GET /schema/oauth2-redirect.html": "the description of the API",
    "GET /schema/{path:str}": "the description of the API",
}


@dataclass(frozen=True)
class Call:
    """A request in A's name. `status`: what it must be answered with."""

    path: str
    status: int
    body: Any = None
    query: Mapping[str, Any] = field(default_factory=dict)


THEIRS: Final = B.id("conversation")
MESSAGES: Final = "/api/v1/conversations/{conversation_id:uuid}/messages"


def text_message(**more: Any) -> dict[str, Any]:
    return {"client_id": ids.new_id(), "content": {"type": "text", "body": "hello"}, **more}


def conversation(of: UUID, rest: str = "") -> str:
    return f"/api/v1/conversations/{of}{rest}"


def cursor_of_theirs() -> str:
    return cursor.encode(cursor.Position(rows.AT + timedelta(days=1), THEIRS))


CALLS: Final[Mapping[str, Callable[[], Sequence[Call]]]] = {
    "POST /api/v1/auth/refresh": lambda: [Call("/api/v1/auth/refresh", 401, {"refresh_token": "x"})],
    "GET /api/v1/me": lambda: [Call("/api/v1/me", 200)],
    "GET /api/v1/conversations": lambda: [
        Call("/api/v1/conversations", 200),
        Call("/api/v1/conversations", 200, query={"cursor": cursor_of_theirs()}),
    ],
    f"GET {MESSAGES}": lambda: [
        Call(conversation(THEIRS, "/messages"), 404),
        Call(conversation(A.id("conversation"), "/messages"), 200),
        Call(conversation(A.id("conversation"), "/messages"), 200, query={"before": cursor_of_theirs()}),
    ],
    f"POST {MESSAGES}": lambda: [
        Call(conversation(THEIRS, "/messages"), 404, text_message()),
        # Their message's id as ours: it must not be found, and must not be an oracle either.
        Call(conversation(THEIRS, "/messages"), 404, text_message(client_id=B.id("message"))),
    ],
    "POST /api/v1/conversations/{conversation_id:uuid}/read": lambda: [
        Call(conversation(THEIRS, "/read"), 404, {"message_id": B.id("message")}),
        Call(conversation(A.id("conversation"), "/read"), 404, {"message_id": B.id("message")}),
    ],
    f"POST {MESSAGES}/{{message_id:uuid}}/retry": lambda: [
        Call(conversation(of, f"/messages/{B.id('message')}/retry"), 404, {"may_arrive_twice": True})
        for of in (THEIRS, A.id("conversation"))
    ],
    f"POST {MESSAGES}/{{message_id:uuid}}/not-sent": lambda: [
        Call(conversation(of, f"/messages/{B.id('message')}/not-sent"), 404)
        for of in (THEIRS, A.id("conversation"))
    ],
    "GET /api/v1/sync/snapshot": lambda: [
        Call("/api/v1/sync/snapshot", 200),
    ],
    "GET /api/v1/sync/changes": lambda: [Call("/api/v1/sync/changes", 200, query={"after": 0})],
    "POST /api/v1/auth/logout": lambda: [Call("/api/v1/auth/logout", 204)],  # last: it ends the session
}


def routes(app: Litestar) -> set[str]:
    """`METHOD /path` of everything the application answers, sockets as `WS /path`."""
    found = set()
    for route in app.routes:
        if route.scope_type is ScopeType.WEBSOCKET:
            found.add(f"WS {route.path}")
        elif route.scope_type is ScopeType.ASGI:
            found.add(f"POST {route.path}")
        else:
            found |= {f"{method} {route.path}" for method in route.methods if method != "OPTIONS"}
    return found


def test_every_route_is_walked(app: Litestar) -> None:
    walked = CALLS.keys() | WITHOUT_TENANT.keys() | {"WS /api/v1/live"}
    assert routes(app) - walked == set(), "say how to call these, or why nobody can"
    assert walked - routes(app) == set(), "these are gone"


def token_of(seed: rows.Seed, settings: Settings) -> str:
    expires_at = clock.now() + timedelta(minutes=10)
    identity = Identity(seed.tenant_id, seed.id("user"), seed.id("session"), "owner", seed.name, expires_at)
    return AccessTokens(settings.jwt_secrets).issue(identity, version=1)


def theirs(of: rows.Seed) -> list[str]:
    """The other tenant's name, which is part of every text it owns, and its ids."""
    kinds = ("tenant", "login", "user", "session", "waba", "number", "contact", "conversation", "message")
    return [of.name, *(str(of.id(kind)) for kind in kinds), *(of.id(kind).hex for kind in kinds)]


@pytest.mark.parametrize("route", CALLS)
async def test_a_route_shows_nothing_of_the_other_tenant(
    route: str, client: httpx.AsyncClient, relay_database: TestDatabase, settings: Settings
) -> None:
    rows.fill(relay_database)
    client.headers["Authorization"] = f"Bearer {token_of(A, settings)}"
    for call in CALLS[route]():
        answer = await client.request(
            route.split(" ", maxsplit=1)[0],
            call.path,
            params=call.query,
            content=None if call.body is None else msgspec.json.encode(call.body),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == call.status, f"{call}: {answer.text}"
        shown = answer.text + repr(answer.headers)
        for secret in theirs(B):
            assert secret not in shown, f"{call} shows {secret}"


async def test_the_walk_would_see_them(
    client: httpx.AsyncClient, relay_database: TestDatabase, settings: Settings
) -> None:
    """Their own token opens every list the walk looks at, and what it looks for is there."""
    rows.fill(relay_database)
    client.headers["Authorization"] = f"Bearer {token_of(B, settings)}"
    for path in ("/api/v1/me", "/api/v1/conversations", f"/api/v1/conversations/{THEIRS}/messages",
                 "/api/v1/sync/snapshot", "/api/v1/sync/changes?after=0"):  # fmt: skip
        answer = await client.get(path)
        assert answer.status_code == 200
        assert [secret for secret in theirs(B) if secret in answer.text], path


async def test_a_cursor_of_theirs_opens_nothing(
    client: httpx.AsyncClient, relay_database: TestDatabase, settings: Settings
) -> None:
    rows.fill(relay_database)
    client.headers["Authorization"] = f"Bearer {token_of(B, settings)}"
    snapshot = (await client.get("/api/v1/sync/snapshot", params={"limit": 1})).json()
    client.headers["Authorization"] = f"Bearer {token_of(A, settings)}"
    refused = await client.get("/api/v1/sync/snapshot", params={"cursor": snapshot["next_cursor"]})
    assert (refused.status_code, refused.json()["code"]) == (410, "resync_required")
    other_epoch = await client.get("/api/v1/sync/changes", params={"after": 0, "epoch": snapshot["epoch"]})
    assert (other_epoch.status_code, other_epoch.json()["code"]) == (410, "resync_required")
    assert snapshot["epoch"] not in refused.text + other_epoch.text
    assert SnapshotCursor.decode(snapshot["next_cursor"]).before.id == THEIRS


async def test_a_refresh_token_cannot_be_bent_to_another_tenant(
    client: httpx.AsyncClient, relay_database: TestDatabase, relay_secrets: Secrets
) -> None:
    rows.fill(relay_database)
    bent = refresh_token.new_token(relay_secrets, A.tenant_id, B.id("session"))
    answer = await client.post("/api/v1/auth/refresh", json={"refresh_token": bent})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_the_socket_says_nothing_of_the_other_tenant(
    running_server: RunningServer,
    relay_database: TestDatabase,
    settings: Settings,
    database: Database,
    doorbell: Doorbell,
) -> None:
    rows.fill(relay_database)
    await doorbell.start(heads_reader(database))
    url = running_server.url.replace("http:", "ws:") + "/api/v1/live"
    headers = {"Authorization": f"Bearer {token_of(A, settings)}"}
    async with connect(url, additional_headers=headers, proxy=None) as socket:
        first = msgspec.json.decode(await socket.recv(), type=Head)
        # Their feed moves on, then ours: what arrives next must be ours.
        for seed in (B, A):
            async with database.tenant(seed.tenant_id) as work:
                work.changed("conversation", seed.id("conversation"))
            await asyncio.sleep(0.2)
        frames = [msgspec.json.decode(await socket.recv(), type=Head)]
        try:
            async with asyncio.timeout(0.5):
                while True:
                    frames.append(msgspec.json.decode(await socket.recv(), type=Head))
        except TimeoutError:
            pass
    assert frames == [Head(first.epoch, first.seq + 1)]
