"""Signing in, who one is, signing out."""

import httpx
import pytest

from relay.accounts import attempts
from tests.conftest import TenantFixture, sign_in


async def test_login_me_logout(client: httpx.AsyncClient, tenant: TenantFixture) -> None:
    pair = await sign_in(client, tenant)
    assert pair.expires_in == 600
    me = await client.get("/api/v1/me")
    assert me.json() == {
        "user": {"id": str(tenant.user_id), "email": tenant.email, "name": "first", "role": "owner"},
        "tenant": {"id": str(tenant.id), "name": "First"},
        "numbers": [
            {
                "id": str(tenant.number_id),
                "phone_number_id": tenant.phone_number_id,
                "display_phone_number": "+49 30 901820101",
                "verified_name": "First",
            }
        ],
    }
    assert (await client.post("/api/v1/auth/logout")).status_code == 204
    after = await client.get("/api/v1/me")
    assert (after.status_code, after.json()["code"]) == (401, "session_revoked")
    again = await client.post("/api/v1/auth/refresh", json={"refresh_token": pair.refresh_token})
    assert (again.status_code, again.json()["code"]) == (401, "session_revoked")


async def test_the_address_is_taken_without_case_and_space(
    client: httpx.AsyncClient, tenant: TenantFixture
) -> None:
    body = {"email": f"  {tenant.email.upper()} ", "password": tenant.password}
    assert (await client.post("/api/v1/auth/login", json=body)).status_code == 200


@pytest.mark.parametrize("email", ["first@example.com", "nobody@example.com"])
async def test_a_wrong_password_and_an_unknown_address_look_the_same(
    client: httpx.AsyncClient, tenant: TenantFixture, email: str
) -> None:
    answer = await client.post("/api/v1/auth/login", json={"email": email, "password": "wrong password"})
    body = answer.json()
    body.pop("instance")
    assert answer.status_code == 401
    assert body == {
        "title": "E-mail or password is wrong",
        "status": 401,
        "code": "invalid_credentials",
        "detail": "Check both and try again.",
    }


async def test_attempts_on_one_address_run_out(
    client: httpx.AsyncClient, tenant: TenantFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "PER_EMAIL", attempts.PER_EMAIL._replace(burst=2))
    body = {"email": tenant.email, "password": "wrong password"}
    assert (await client.post("/api/v1/auth/login", json=body)).status_code == 401
    assert (await client.post("/api/v1/auth/login", json=body)).status_code == 401
    refused = await client.post("/api/v1/auth/login", json={**body, "password": tenant.password})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    other = {"email": "someone@else.example", "password": "wrong password"}
    assert (await client.post("/api/v1/auth/login", json=other)).status_code == 401
