"""Every route, called with one tenant's token and the other tenant's ids: 404, and not a word of theirs.

A new route needs an entry in `CALLS` or, with a reason, in `WITHOUT_TENANT`; the walk fails without one.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import msgspec
import psycopg
import pytest
from litestar import Litestar
from litestar.enums import ScopeType
from psycopg import sql
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from relay.accounts import refresh_token
from relay.accounts.identity import AccessTokens, Identity
from relay.kit import clock, cursor, ids
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell
from relay.kit.secrets import Secrets
from relay.outbound import callback
from relay.settings import Settings
from relay.sync.service import SnapshotCursor, heads_reader
from shared.delivery import RANK, DeliveryStatus
from shared.wire.sync import CLOSE_UNAUTHENTICATED, Head, Reauthenticate
from tests import meta_webhooks
from tests.conftest import RunningServer, TestDatabase
from tests.isolation import catalogue, rows
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


SELF_CHECKED: Final = {"POST /api/v1/auth/refresh"}
"""Takes its caller's word from the body instead of the access token."""


@dataclass(frozen=True)
class Call:
    """A request in A's name. `status`: what it must be answered with."""

    path: str
    status: int
    body: Any = None
    query: Mapping[str, Any] = field(default_factory=dict)


OURS: Final = A.id("conversation")
THEIRS: Final = B.id("conversation")
MESSAGES: Final = "/api/v1/conversations/{conversation_id:uuid}/messages"


def text_message(**more: Any) -> dict[str, Any]:
    return {"client_id": ids.new_id(), "content": {"type": "text", "body": "hello"}, **more}


def conversation(of: UUID, rest: str = "") -> str:
    return f"/api/v1/conversations/{of}{rest}"


def stuck_messages() -> Sequence[tuple[UUID, UUID, int]]:
    """Conversations and messages, mixed up, and what asking for them is answered with. Ours comes last."""
    ours, theirs = A.id("message"), B.id("message")
    return [(THEIRS, theirs, 404), (THEIRS, ours, 404), (OURS, theirs, 404), (OURS, ours, 200)]


def cursor_of_theirs() -> str:
    return cursor.encode(cursor.Position(rows.AT + timedelta(days=1), THEIRS))


# In the order of the walk.
CALLS: Final[Mapping[str, Callable[[], Sequence[Call]]]] = {
    "POST /api/v1/auth/refresh": lambda: [Call("/api/v1/auth/refresh", 401, {"refresh_token": "x"})],
    "GET /api/v1/me": lambda: [Call("/api/v1/me", 200)],
    "GET /api/v1/conversations": lambda: [
        Call("/api/v1/conversations", 200),
        Call("/api/v1/conversations", 200, query={"cursor": cursor_of_theirs()}),
    ],
    f"GET {MESSAGES}": lambda: [
        Call(conversation(THEIRS, "/messages"), 404),
        Call(conversation(OURS, "/messages"), 200),
        Call(conversation(OURS, "/messages"), 200, query={"before": cursor_of_theirs()}),
    ],
    "POST /api/v1/conversations/{conversation_id:uuid}/read": lambda: [
        Call(conversation(THEIRS, "/read"), 404, {"message_id": B.id("message")}),
        Call(conversation(THEIRS, "/read"), 404, {"message_id": A.id("message")}),
        Call(conversation(OURS, "/read"), 404, {"message_id": B.id("message")}),
        Call(conversation(OURS, "/read"), 204, {"message_id": A.id("message")}),
    ],
    f"POST {MESSAGES}/{{message_id:uuid}}/retry": lambda: [
        Call(conversation(of, f"/messages/{message}/retry"), status, {"may_arrive_twice": True})
        for of, message, status in stuck_messages()
    ],
    f"POST {MESSAGES}/{{message_id:uuid}}/not-sent": lambda: [
        Call(conversation(of, f"/messages/{message}/not-sent"), status)
        for of, message, status in stuck_messages()
    ],
    "GET /api/v1/sync/snapshot": lambda: [
        Call("/api/v1/sync/snapshot", 200),
    ],
    "GET /api/v1/sync/changes": lambda: [Call("/api/v1/sync/changes", 200, query={"after": 0})],
    # What it makes with their ids is ours from then on, so nothing reads after it.
    f"POST {MESSAGES}": lambda: [
        Call(conversation(THEIRS, "/messages"), 404, text_message()),
        # Their message's id as ours: it must not be found, and must not be an oracle either.
        Call(conversation(THEIRS, "/messages"), 404, text_message(client_id=B.id("message"))),
        Call(conversation(OURS, "/messages"), 201, text_message(client_id=B.id("message"))),
        Call(conversation(OURS, "/messages"), 201, text_message(seen_message_id=B.id("message"))),
    ],
    "POST /api/v1/auth/logout": lambda: [Call("/api/v1/auth/logout", 204)],  # it ends the session
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


async def ask(client: httpx.AsyncClient, route: str, call: Call) -> httpx.Response:
    return await client.request(
        route.split(" ", maxsplit=1)[0],
        call.path,
        params=call.query,
        content=None if call.body is None else msgspec.json.encode(call.body),
        headers={"Content-Type": "application/json"},
    )


@pytest.fixture
def filled_database(relay_database: TestDatabase) -> TestDatabase:
    """With open service windows, and messages that an agent can do something about."""
    rows.fill(relay_database)
    get_stuck(relay_database)
    return relay_database


def get_stuck(database: TestDatabase) -> None:
    unconfirmed = DeliveryStatus.UNCONFIRMED
    with psycopg.connect(database.superuser_dsn) as connection:
        connection.execute("DELETE FROM send_queue")
        connection.execute("UPDATE conversation SET last_inbound_at = now()")
        connection.execute(
            "UPDATE message SET status = %s, status_rank = %s", [unconfirmed, RANK[unconfirmed]]
        )


@pytest.fixture(params=["policies", "queries alone"])
def walls(request: pytest.FixtureRequest, filled_database: TestDatabase) -> Iterator[None]:
    """What keeps tenants apart: row-level security and the queries' own conditions, or just the latter."""
    if request.param == "policies":
        yield
        return
    with psycopg.connect(filled_database.superuser_dsn, autocommit=True) as connection:
        try:
            _replace_policies(connection, "true")
            yield
        finally:
            _replace_policies(connection, catalogue.OWN_ROWS)


def _replace_policies(connection: psycopg.Connection, expression: str) -> None:
    for table in rows.ROWS:
        connection.execute(
            f"ALTER POLICY {table}_app ON {table} USING ({expression}) WITH CHECK ({expression})".encode()
        )


@pytest.mark.usefixtures("walls")
async def test_no_route_shows_or_changes_anything_of_the_other_tenant(
    client: httpx.AsyncClient, filled_database: TestDatabase, settings: Settings
) -> None:
    client.headers.update(bearer(A, settings))
    for route, calls in CALLS.items():
        get_stuck(filled_database)
        before = state_of(B, filled_database)
        for call in calls():
            answer = await ask(client, route, call)
            assert answer.status_code == call.status, f"{route} {call}: {answer.text}"
            # What was sent may come back; nothing else of theirs may.
            sent = repr(call)
            shown = answer.text + repr(answer.headers)
            for secret in theirs(B):
                assert secret not in shown or secret in sent, f"{route} {call} shows {secret}"
        assert state_of(B, filled_database) == before, route


async def test_what_is_theirs_looks_like_what_is_nobodys(
    client: httpx.AsyncClient, filled_database: TestDatabase, settings: Settings
) -> None:
    """Or ids could be tried out."""
    client.headers.update(bearer(A, settings))
    nobody = rows.Seed("nobody")
    refused = [(route, call) for route, calls in CALLS.items() for call in calls() if call.status == 404]
    assert len(refused) >= 12
    for route, call in refused:
        text = msgspec.json.encode((call.path, call.body)).decode()
        for kind in ("conversation", "message"):
            text = text.replace(str(B.id(kind)), str(nobody.id(kind)))
        path, body = msgspec.json.decode(text)
        assert (path, body) != (call.path, call.body)
        of_theirs, of_nobodys = (
            await ask(client, route, call),
            await ask(client, route, Call(path, 404, body)),
        )
        assert comparable(of_theirs) == comparable(of_nobodys), f"{route} {call}"


def comparable(answer: httpx.Response) -> tuple[int, Any, Any]:
    """Without what differs from request to request."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, answer.json() | {"instance": ""}, headers


def state_of(seed: rows.Seed, database: TestDatabase) -> list[Any]:
    """Every row of a tenant."""
    with psycopg.connect(database.superuser_dsn) as connection:
        return [
            connection.execute(
                sql.SQL("SELECT t::text FROM {} AS t WHERE tenant_id = %s").format(sql.Identifier(table)),
                [seed.tenant_id],
            ).fetchall()
            for table in rows.ROWS
        ]


async def test_nothing_is_answered_without_a_token(client: httpx.AsyncClient, app: Litestar) -> None:
    for route in sorted(CALLS.keys() - SELF_CHECKED):
        for token in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": f"Basic {B.name}"}):
            client.headers.pop("Authorization", None)
            client.headers.update(token)
            answer = await ask(client, route, CALLS[route]()[0])
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), (route, token)


async def test_sign_in_does_not_tell_who_exists(
    client: httpx.AsyncClient, filled_database: TestDatabase, password_hash: str
) -> None:
    with psycopg.connect(filled_database.superuser_dsn) as connection:
        connection.execute("UPDATE login SET password_hash = %s", [password_hash])
    answers = [
        await client.post("/api/v1/auth/login", json={"email": email, "password": "wrong"})
        for email in (f"{B.name}@example.com", "nobody@example.com")
    ]
    assert comparable(answers[0]) == comparable(answers[1])
    assert answers[0].status_code == 401


async def test_a_status_of_our_number_moves_no_message_of_theirs(
    filled_database: TestDatabase, database: Database, doorbell: Doorbell, relay_secrets: Secrets
) -> None:
    """Neither by its wamid, nor by the name of the attempt that only the relay can have signed."""
    with psycopg.connect(filled_database.superuser_dsn) as connection:
        connection.execute(
            "INSERT INTO number_route (phone_number_id, tenant_id, number_id) VALUES (%s, %s, %s)",
            [A.name, A.tenant_id, A.id("number")],
        )
    before = state_of(B, filled_database)
    value = {
        "metadata": {"phone_number_id": A.name},
        "statuses": [
            meta_webhooks.status(B.name, "read"),
            meta_webhooks.status(
                "wamid.new",
                "delivered",
                biz_opaque_callback_data=callback.encode(relay_secrets, B.tenant_id, B.id("attempt")),
            ),
        ],
    }
    inbox = meta_webhooks.Inbox(database, doorbell, relay_secrets)
    await inbox.take(meta_webhooks.envelope(A.name, ("messages", value)))
    assert state_of(B, filled_database) == before
    with psycopg.connect(filled_database.superuser_dsn) as connection:
        recorded = connection.execute(
            "SELECT count(*) FROM message_status WHERE tenant_id = %s", [A.tenant_id]
        )
        assert recorded.fetchone() == (1 + 2,)


async def test_the_walk_would_see_them(
    client: httpx.AsyncClient, relay_database: TestDatabase, settings: Settings
) -> None:
    """Their own token opens every list the walk looks at, and what it looks for is there."""
    rows.fill(relay_database)
    client.headers.update(bearer(B, settings))
    for path in ("/api/v1/me", "/api/v1/conversations", f"/api/v1/conversations/{THEIRS}/messages",
                 "/api/v1/sync/snapshot", "/api/v1/sync/changes?after=0"):  # fmt: skip
        answer = await client.get(path)
        assert answer.status_code == 200
        assert [secret for secret in theirs(B) if secret in answer.text], path


async def test_a_cursor_of_theirs_opens_nothing(
    client: httpx.AsyncClient, relay_database: TestDatabase, settings: Settings
) -> None:
    rows.fill(relay_database)
    client.headers.update(bearer(B, settings))
    snapshot = (await client.get("/api/v1/sync/snapshot", params={"limit": 1})).json()
    client.headers.update(bearer(A, settings))
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
    filled_database: TestDatabase,
    settings: Settings,
    database: Database,
    doorbell: Doorbell,
) -> None:
    await doorbell.start(heads_reader(database))

    async def change(seed: rows.Seed) -> None:
        async with database.tenant(seed.tenant_id) as work:
            work.changed("conversation", seed.id("conversation"))

    async with connect(
        live_url(running_server), additional_headers=bearer(A, settings), proxy=None
    ) as socket:
        head = msgspec.json.decode(await socket.recv(), type=Head)
        # Once a head was rung, the poll repeats it no more.
        await change(A)
        while (frame := msgspec.json.decode(await socket.recv(), type=Head)).seq == head.seq:
            assert frame == head
        assert frame == Head(head.epoch, head.seq + 1)
        # Their feed moves on, then ours: what arrives next is ours.
        await change(B)
        await asyncio.sleep(0.1)
        await change(B)
        await asyncio.sleep(0.2)
        await change(A)
        assert msgspec.json.decode(await socket.recv(), type=Head) == Head(head.epoch, head.seq + 2)


async def test_the_socket_closes_without_a_token(running_server: RunningServer) -> None:
    async with connect(live_url(running_server), proxy=None) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == CLOSE_UNAUTHENTICATED


async def test_the_socket_takes_no_token_of_the_other_tenant(
    running_server: RunningServer, filled_database: TestDatabase, settings: Settings
) -> None:
    async with connect(
        live_url(running_server), additional_headers=bearer(A, settings), proxy=None
    ) as socket:
        await socket.recv()
        await socket.send(msgspec.json.encode(Reauthenticate(token_of(B, settings))).decode())
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == CLOSE_UNAUTHENTICATED


def live_url(server: RunningServer) -> str:
    return server.url.replace("http:", "ws:") + "/api/v1/live"


def bearer(seed: rows.Seed, settings: Settings) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(seed, settings)}"}
