"""Whatever goes wrong on HTTP is a problem document with a stable code, and carries the request's id."""

from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Litestar
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from relay.kit import problem
from relay.kit.db import Database
from relay.kit.problem import ProblemError
from shared.wire.problem import MEDIA_TYPE, Code, Problem
from tests.conftest import TenantFixture, sign_in


def read(answer: httpx.Response) -> Problem:
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    found = msgspec.json.decode(answer.content, type=Problem)
    assert found.status == answer.status_code
    assert found.instance == answer.headers["X-Request-ID"] != ""
    assert found.title
    return found


def test_every_code_has_a_status_and_a_title() -> None:
    assert problem.DEFAULTS.keys() == set(Code)


async def test_unknown_addresses_and_methods(client: httpx.AsyncClient) -> None:
    assert read(await client.get("/nowhere")).code == Code.NOT_FOUND
    assert read(await client.get("/api/v1/nowhere")).code == Code.NOT_FOUND
    wrong_method = await client.delete("/api/v1/me")
    assert read(wrong_method).code == Code.METHOD_NOT_ALLOWED
    assert "GET" in wrong_method.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b'{"email": "a@b.example"}', [""]),
        (b'{"email": 5, "password": "x"}', ["/email"]),
        (b"[]", []),
        (b"{", []),
        (b"", []),
        (b"\xff", []),
    ],
)
async def test_a_body_that_does_not_fit(client: httpx.AsyncClient, body: bytes, pointers: list[str]) -> None:
    headers = {"Content-Type": "application/json"}
    found = read(await client.post("/api/v1/auth/login", content=body, headers=headers))
    assert (found.status, found.code) == (400, Code.INVALID_REQUEST)
    assert [error.pointer for error in found.errors] == pointers or not pointers
    assert found.detail or found.errors


async def test_a_parameter_that_does_not_fit(client: httpx.AsyncClient, tenant: TenantFixture) -> None:
    await sign_in(client, tenant)
    found = read(await client.get("/api/v1/conversations", params={"limit": 0}))
    assert (found.status, found.code) == (400, Code.INVALID_REQUEST)
    assert [error.pointer for error in found.errors] == ["limit"]
    assert read(await client.get("/api/v1/conversations/no-uuid/messages")).code == Code.NOT_FOUND


async def test_a_body_that_is_too_large(client: httpx.AsyncClient) -> None:
    body = b'{"refresh_token": "' + b"x" * 1024 * 1024 + b'"}'
    headers = {"Content-Type": "application/json"}
    found = read(await client.post("/api/v1/auth/refresh", content=body, headers=headers))
    assert (found.status, found.code) == (413, Code.BODY_TOO_LARGE)


def break_refresh(app: Litestar, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]) -> None:
    async def broken(_token: str) -> None:
        raise error()

    monkeypatch.setattr(app.state.device_sessions, "refresh", broken)


async def test_a_fault_of_ours_is_logged_and_says_nothing(
    app: Litestar, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_refresh(app, monkeypatch, lambda: KeyError("inner secret"))
    with capture_logs() as logs:
        answer = await client.post("/api/v1/auth/refresh", json={"refresh_token": "x"})
    assert read(answer).code == Code.INTERNAL
    assert "inner secret" not in answer.text
    (logged,) = [entry for entry in logs if entry["event"] == "request.failed"]
    assert isinstance(logged["exc_info"], KeyError)


@pytest.mark.parametrize(
    "error",
    [
        lambda: ConnectionRefusedError("no server"),
        TimeoutError,
        lambda: DBAPIError("SELECT", None, asyncpg.LockNotAvailableError("lock timeout")),
        lambda: DBAPIError("SELECT", None, asyncpg.AdminShutdownError("shutting down")),
    ],
)
async def test_a_database_that_cannot_serve_is_worth_another_try(
    app: Litestar, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    break_refresh(app, monkeypatch, error)
    answer = await client.post("/api/v1/auth/refresh", json={"refresh_token": "x"})
    assert read(answer).code == Code.UNAVAILABLE
    assert answer.headers["Retry-After"] == "2"


async def test_a_statement_that_waits_for_a_lock_too_long_counts_as_that(
    database: Database, tenant: TenantFixture
) -> None:
    lock = text("SELECT * FROM tenant FOR UPDATE")
    async with database.tenant(tenant.id) as first:
        await first.execute(lock)
        with pytest.raises(DBAPIError) as caught:
            async with database.tenant(tenant.id) as second:
                await second.execute(text("SET LOCAL lock_timeout = '50ms'"))
                await second.execute(lock)
    assert problem.is_operational(caught.value)


async def test_a_bug_in_a_statement_does_not(database: Database, tenant: TenantFixture) -> None:
    with pytest.raises(DBAPIError) as caught:
        async with database.tenant(tenant.id) as work:
            await work.execute(text("SELECT nonsense"))
    assert not problem.is_operational(caught.value)


async def test_request_ids_and_headers(client: httpx.AsyncClient) -> None:
    taken = await client.get("/health/live", headers={"X-Request-ID": "proxy-12345678"})
    assert taken.headers["X-Request-ID"] == "proxy-12345678"
    refused = await client.get("/health/live", headers={"X-Request-ID": "bad id\nwith more"[:6]})
    assert len(refused.headers["X-Request-ID"]) == 36
    assert taken.headers["X-Content-Type-Options"] == "nosniff"
    assert taken.headers["Cache-Control"] == "no-store"


def test_words_and_extras_of_a_problem() -> None:
    error = ProblemError(Code.CONFLICT, "It moved.", status=412, title="Moved", extra={"now": 3})
    expected: dict[str, Any] = {
        "title": "Moved",
        "status": 412,
        "code": "conflict",
        "detail": "It moved.",
        "instance": "id",
        "extra": {"now": 3},
    }
    assert msgspec.to_builtins(error.problem("id")) == expected
