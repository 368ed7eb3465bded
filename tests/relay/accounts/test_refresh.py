"""Rotating refresh tokens: one successor, a minute of grace, and an end to sessions that were copied."""

import asyncio
from datetime import timedelta

import httpx
import msgspec
import pytest
from litestar import Litestar
from sqlalchemy import text

from relay.accounts import refresh_token, sessions
from relay.kit import ids
from relay.kit.db import Database
from relay.kit.secrets import KeyRing, Secrets
from shared.wire.auth import TokenPair
from tests.conftest import TenantFixture, sign_in


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/v1/auth/refresh", json={"refresh_token": token})


async def refreshed(client: httpx.AsyncClient, token: str) -> TokenPair:
    answer = await refresh(client, token)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=TokenPair)


async def age(database: Database, tenant: TenantFixture, by: timedelta) -> None:
    """Let time pass for the tenant's device sessions."""
    async with database.tenant(tenant.id) as work:
        await work.execute(
            text(
                "UPDATE device_session AS s SET created_at = created_at - passed.time,"
                " expires_at = expires_at - passed.time,"
                " previous_valid_until = previous_valid_until - passed.time"
                " FROM (SELECT CAST(:by AS interval)) AS passed (time)"
            ),
            {"by": by},
        )


async def revoked_reason(database: Database, tenant: TenantFixture) -> str | None:
    async with database.tenant(tenant.id) as work:
        reason: str | None = (
            await work.execute(text("SELECT revoked_reason FROM device_session WHERE revoked_at IS NOT NULL"))
        ).scalar_one_or_none()
        return reason


async def test_fifty_at_once_get_one_successor(
    client: httpx.AsyncClient, tenant: TenantFixture, database: Database
) -> None:
    pair = await sign_in(client, tenant)
    answers = await asyncio.gather(*(refreshed(client, pair.refresh_token) for _ in range(50)))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert answers[0].refresh_token != pair.refresh_token
    async with database.tenant(tenant.id) as work:
        generations = await work.execute(text("SELECT generation FROM device_session"))
        assert generations.scalars().all() == [1]
    client.headers["Authorization"] = f"Bearer {answers[17].access_token}"
    assert (await client.get("/api/v1/me")).status_code == 200


async def test_a_lost_answer_is_given_again(client: httpx.AsyncClient, tenant: TenantFixture) -> None:
    pair = await sign_in(client, tenant)
    lost = await refreshed(client, pair.refresh_token)
    again = await refreshed(client, pair.refresh_token)
    assert again.refresh_token == lost.refresh_token
    assert (await refreshed(client, again.refresh_token)).refresh_token != again.refresh_token


async def test_a_token_replaced_twice_ends_the_session_for_good(
    client: httpx.AsyncClient, tenant: TenantFixture, database: Database
) -> None:
    first = await sign_in(client, tenant)
    second = await refreshed(client, first.refresh_token)
    third = await refreshed(client, second.refresh_token)
    refused = await refresh(client, first.refresh_token)
    assert (refused.status_code, refused.json()["code"]) == (401, "session_revoked")
    assert await revoked_reason(database, tenant) == "an old refresh token was used again"
    # Neither the newest refresh token nor an access token of the session works any more.
    assert (await refresh(client, third.refresh_token)).json()["code"] == "session_revoked"
    client.headers["Authorization"] = f"Bearer {third.access_token}"
    assert (await client.get("/api/v1/me")).json()["code"] == "session_revoked"


async def test_the_grace_ends_after_a_minute(
    client: httpx.AsyncClient, tenant: TenantFixture, database: Database
) -> None:
    pair = await sign_in(client, tenant)
    await refreshed(client, pair.refresh_token)
    await age(database, tenant, sessions.GRACE - timedelta(seconds=5))
    await refreshed(client, pair.refresh_token)
    await age(database, tenant, timedelta(seconds=6))
    assert (await refresh(client, pair.refresh_token)).json()["code"] == "session_revoked"
    assert await revoked_reason(database, tenant) is not None


async def test_an_idle_session_ends(
    client: httpx.AsyncClient, tenant: TenantFixture, database: Database
) -> None:
    pair = await sign_in(client, tenant)
    await age(database, tenant, sessions.IDLE - timedelta(minutes=1))
    pair = await refreshed(client, pair.refresh_token)
    await age(database, tenant, sessions.IDLE)
    answer = await refresh(client, pair.refresh_token)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert await revoked_reason(database, tenant) is None


async def test_no_session_outlives_its_absolute_age(
    client: httpx.AsyncClient, tenant: TenantFixture, database: Database
) -> None:
    token = (await sign_in(client, tenant)).refresh_token
    for _ in range(6):
        await age(database, tenant, sessions.IDLE - timedelta(minutes=1))
        token = (await refreshed(client, token)).refresh_token
    await age(database, tenant, timedelta(hours=1))
    assert (await refresh(client, token)).json()["code"] == "unauthenticated"


async def test_a_made_up_token_touches_no_session(
    client: httpx.AsyncClient, tenant: TenantFixture, database: Database
) -> None:
    pair = await sign_in(client, tenant)
    async with database.tenant(tenant.id) as work:
        session_id = (await work.execute(text("SELECT id FROM device_session"))).scalar_one()
    # Someone who knows both ids (they are in every access token) but not our key.
    forged = refresh_token.new_token(Secrets(KeyRing.parse(KeyRing.generate())), tenant.id, session_id)
    for token in (forged, "", "rdr_", pair.refresh_token[:-1] + "x", pair.refresh_token.upper()):
        answer = await refresh(client, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    await refreshed(client, pair.refresh_token)


@pytest.mark.parametrize("what", ["user", "tenant"])
async def test_whoever_is_shut_out_gets_no_new_tokens(
    client: httpx.AsyncClient, tenant: TenantFixture, database: Database, what: str
) -> None:
    pair = await sign_in(client, tenant)
    statement = (
        "UPDATE app_user SET disabled_at = now()"
        if what == "user"
        else "UPDATE tenant SET status = 'suspended'"
    )
    async with database.tenant(tenant.id) as work:
        await work.execute(text(statement))
    assert (await refresh(client, pair.refresh_token)).json()["code"] == "session_revoked"
    assert await revoked_reason(database, tenant) == "user or tenant shut out"


async def test_tokens_survive_a_key_rotation(
    app: Litestar, client: httpx.AsyncClient, tenant: TenantFixture
) -> None:
    pair = await sign_in(client, tenant)
    old = app.state.settings.encryption_keys
    device_sessions: sessions.DeviceSessions = app.state.device_sessions
    device_sessions._secrets = Secrets(KeyRing.parse(f"{KeyRing.generate()},{old}"))
    successor = await refreshed(client, pair.refresh_token)
    assert (await refreshed(client, pair.refresh_token)).refresh_token == successor.refresh_token
    await refreshed(client, successor.refresh_token)


def test_a_token_carries_what_a_scanner_needs(relay_secrets: Secrets) -> None:
    token = refresh_token.new_token(relay_secrets, ids.new_id(), ids.new_id())
    assert token.startswith("rdr_")
    assert refresh_token.parse(relay_secrets, token) is not None
    changed = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
    assert refresh_token.parse(relay_secrets, changed) is None
