"""The web process around its routes: health, metrics, the API's description, its way to stop."""

import asyncio
import re
import signal

import httpx
import msgspec
import pytest
from litestar import Litestar
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from shared.wire.sync import Bye, ServerFrame
from tests.conftest import RunningServer, TenantFixture, sign_in


async def until_ready(client: httpx.AsyncClient) -> httpx.Response:
    async with asyncio.timeout(5):
        while (answer := await client.get("/health/ready")).json()["checks"]["doorbell"] != "ok":
            await asyncio.sleep(0.02)
    return answer


async def test_health(app: Litestar, client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/live")).json()["status"] == "live"
    answer = await until_ready(client)
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    app.state.readiness.draining = True
    draining = await client.get("/health/ready")
    assert (draining.status_code, draining.json()["checks"]["process"]) == (503, "draining")
    assert (await client.get("/health/live")).status_code == 200


async def test_unready_without_its_database(app: Litestar, client: httpx.AsyncClient) -> None:
    app.state.readiness._database.engine.sync_engine.pool._creator = _refuse
    await app.state.database.engine.dispose()
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "unavailable")


def _refuse(*_: object, **__: object) -> None:
    raise ConnectionRefusedError


async def test_metrics_have_no_ids_in_their_labels(client: httpx.AsyncClient, tenant: TenantFixture) -> None:
    await sign_in(client, tenant)
    await client.get(f"/api/v1/conversations/{tenant.id}/messages")
    await client.get(f"/nowhere/{tenant.id}")
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'route="/api/v1/conversations/{conversation_id}/messages",status="404"' in answer.text
    assert 'route="unmatched",status="404"' in answer.text
    assert str(tenant.id) not in answer.text


async def test_the_api_describes_itself(client: httpx.AsyncClient) -> None:
    document = (await client.get("/schema/openapi.json")).json()
    paths = document["paths"]
    assert {"/api/v1/auth/login", "/api/v1/me", "/api/v1/sync/changes"} <= paths.keys()
    assert "/metrics" not in paths
    assert paths["/api/v1/me"]["get"]["security"] == [{"access_token": []}]
    page = await client.get("/schema")
    assert page.headers["Content-Type"].startswith("text/html")
    # Whatever the page loads, its policy must let it.
    policy = page.headers["Content-Security-Policy"]
    for source in re.findall(r'(?:src|href)="(https://[^/"]+)', page.text):
        assert source in policy
    assert "cdn" not in (await client.get("/health/live")).headers["Content-Security-Policy"]


async def test_a_stopping_server_says_goodbye_and_finishes(
    running_server: RunningServer, tenant: TenantFixture
) -> None:
    async with httpx.AsyncClient(base_url=running_server.url) as client:
        await sign_in(client, tenant)
        url = running_server.url.replace("http:", "ws:") + "/api/v1/live"
        headers = {"Authorization": client.headers["Authorization"]}
        async with connect(url, additional_headers=headers, proxy=None) as socket:
            await socket.recv()
            running_server.server.handle_exit(signal.SIGTERM, None)
            assert isinstance(msgspec.json.decode(await socket.recv(), type=ServerFrame), Bye)
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
            assert socket.close_code == 1012
        async with asyncio.timeout(5):
            while running_server.server.servers and running_server.server.servers[0].is_serving():
                await asyncio.sleep(0.02)
