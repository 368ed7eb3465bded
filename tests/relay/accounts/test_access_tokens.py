"""Access tokens, and how fast a revoked device session stops working."""

import asyncio
from datetime import timedelta

import httpx
import jwt
import pytest
from litestar import Litestar
from sqlalchemy import text

from relay.accounts import identity as identities
from relay.accounts.identity import AccessTokens, Identity
from relay.app import create_app
from relay.kit import clock, ids
from relay.kit.db import Database
from relay.kit.problem import ProblemError
from relay.settings import Settings
from tests.conftest import JWT_SECRET, TenantFixture, sign_in

OTHER_SECRET = "another secret, which is long enough too"


def someone(expires_in: timedelta = timedelta(minutes=10)) -> Identity:
    return Identity(
        ids.new_id(),
        ids.new_id(),
        ids.new_id(),
        "agent",
        "Ana",
        (clock.now() + expires_in).replace(microsecond=0),
    )


def test_what_was_issued_is_read_back() -> None:
    tokens, identity = AccessTokens([JWT_SECRET]), someone()
    token = tokens.issue(identity, version=3)
    assert tokens.read(token) == identity
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims["ver"]) == (str(identity.user_id), 3)


def test_an_old_secret_still_reads_and_no_longer_signs() -> None:
    identity = someone()
    old = AccessTokens([JWT_SECRET]).issue(identity, version=1)
    rotated = AccessTokens([OTHER_SECRET, JWT_SECRET])
    assert rotated.read(old) == identity
    with pytest.raises(ProblemError):
        AccessTokens([JWT_SECRET]).read(rotated.issue(identity, version=1))


def test_expired_foreign_unsigned_and_broken_tokens_are_refused() -> None:
    tokens = AccessTokens([JWT_SECRET])
    good = tokens.issue(someone(), version=1)
    claims = jwt.decode(good, options={"verify_signature": False})
    headers = jwt.get_unverified_header(good)
    bad = {
        "expired": tokens.issue(someone(timedelta(seconds=-1)), version=1),
        "foreign": AccessTokens([OTHER_SECRET]).issue(someone(), version=1),
        "same name, other key": jwt.encode(claims, OTHER_SECRET, "HS256", headers=headers),
        "unsigned": jwt.encode(claims, "", "none", headers={"kid": headers["kid"]}),
        "other issuer": jwt.encode({**claims, "iss": "x"}, JWT_SECRET, "HS256", headers=headers),
        "no session": jwt.encode(
            {k: v for k, v in claims.items() if k != "sid"}, JWT_SECRET, "HS256", headers=headers
        ),
        "broken": good[:-2],
        "empty": "",
    }
    for name, token in bad.items():
        with pytest.raises(ProblemError) as caught:
            tokens.read(token)
        assert caught.value.code == "unauthenticated", name


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer nonsense"])
async def test_every_route_of_the_api_wants_a_token(client: httpx.AsyncClient, header: str | None) -> None:
    answer = await client.get("/api/v1/me", headers={"Authorization": header} if header is not None else {})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def other_process(settings: Settings) -> tuple[Litestar, httpx.AsyncClient]:
    app = create_app(settings)
    return app, httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),  # type: ignore[arg-type]  # Litestar's own ASGI types
        base_url="http://relay.test",
    )


async def test_another_process_refuses_a_revoked_session_within_a_second(
    client: httpx.AsyncClient, tenant: TenantFixture, settings: Settings
) -> None:
    await sign_in(client, tenant)
    app, other = await other_process(settings)
    async with app.lifespan(), other:
        other.headers["Authorization"] = client.headers["Authorization"]
        assert (await other.get("/api/v1/me")).status_code == 200
        await until_listening(app)
        await client.post("/api/v1/auth/logout")
        async with asyncio.timeout(1):
            while (await other.get("/api/v1/me")).status_code == 200:
                await asyncio.sleep(0.01)


async def test_the_poll_finds_what_the_doorbell_did_not_say(
    client: httpx.AsyncClient,
    app: Litestar,
    tenant: TenantFixture,
    database: Database,
) -> None:
    await sign_in(client, tenant)
    async with database.tenant(tenant.id) as work:
        await work.execute(text("UPDATE device_session SET revoked_at = now()"))
    assert (await client.get("/api/v1/me")).status_code == 200
    revoked: identities.RevokedSessions = app.state.authenticator.revoked
    await revoked.refresh()
    assert (await client.get("/api/v1/me")).json()["code"] == "session_revoked"


async def until_listening(app: Litestar) -> None:
    async with asyncio.timeout(5):
        while not app.state.doorbell.connected:
            await asyncio.sleep(0.01)
