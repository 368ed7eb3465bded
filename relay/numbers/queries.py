"""SQL of WhatsApp Business accounts, phone numbers and webhook routes."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import RowMapping, text

from relay.kit.db import SystemWork, TenantWork, UnitOfWork
from shared.wire.auth import NumberInfo


class Route(NamedTuple):
    """Which tenant a WhatsApp Business account belongs to, and how its own Meta app signs."""

    waba_id: str
    tenant_id: UUID
    waba_row_id: UUID
    endpoint_key: str
    verify_token: str
    app_secret_sealed: str | None


class Sender(NamedTuple):
    """What a send needs to know of a number; the token is sealed for the row `waba_row_id`."""

    tenant_id: UUID
    phone_number_id: str
    messages_per_second: int
    waba_row_id: UUID
    access_token_sealed: str


class NumberRoute(NamedTuple):
    tenant_id: UUID
    number_id: UUID


_ROUTE_COLUMNS = "waba_id, tenant_id, waba_row_id, endpoint_key, verify_token, app_secret_sealed"
_ROUTE_BY_WABA = text(f"SELECT {_ROUTE_COLUMNS} FROM waba_route WHERE waba_id = :value")  # noqa: S608 - constant
_ROUTE_BY_KEY = text(f"SELECT {_ROUTE_COLUMNS} FROM waba_route WHERE endpoint_key = :value")  # noqa: S608


async def route_by_waba(work: SystemWork, waba_id: str) -> Route | None:
    row = (await work.execute(_ROUTE_BY_WABA, {"value": waba_id})).one_or_none()
    return None if row is None else Route._make(row)


async def route_by_endpoint(work: SystemWork, endpoint_key: str) -> Route | None:
    row = (await work.execute(_ROUTE_BY_KEY, {"value": endpoint_key})).one_or_none()
    return None if row is None else Route._make(row)


async def number_route(work: SystemWork, phone_number_id: str) -> NumberRoute | None:
    result = await work.execute(
        text("SELECT tenant_id, number_id FROM number_route WHERE phone_number_id = :phone_number_id"),
        {"phone_number_id": phone_number_id},
    )
    row = result.one_or_none()
    return None if row is None else NumberRoute._make(row)


async def sender(work: UnitOfWork, number_id: UUID) -> Sender | None:
    result = await work.execute(
        text(
            "SELECT n.tenant_id, n.phone_number_id, n.messages_per_second, w.id, w.access_token_sealed"
            " FROM phone_number AS n JOIN waba AS w ON w.tenant_id = n.tenant_id AND w.id = n.waba_row_id"
            " WHERE n.id = :number_id"
        ),
        {"number_id": number_id},
    )
    row = result.one_or_none()
    return None if row is None else Sender._make(row)


async def number_infos(work: TenantWork) -> list[NumberInfo]:
    """The tenant's numbers, oldest first."""
    result = await work.execute(
        text(
            "SELECT id, phone_number_id, display_phone_number, verified_name FROM phone_number"
            " WHERE tenant_id = :tenant_id ORDER BY created_at, id"
        ),
        {"tenant_id": work.tenant_id},
    )
    return [NumberInfo(**row) for row in result.mappings()]


async def numbers(work: SystemWork, tenant_id: UUID | None) -> Sequence[RowMapping]:
    """All numbers, or one tenant's, with what an operator wants to see."""
    result = await work.execute(
        text(
            "SELECT n.id AS number_id, n.tenant_id, t.name AS tenant_name, n.phone_number_id, w.waba_id,"
            " n.display_phone_number, n.verified_name, r.endpoint_key"
            " FROM phone_number AS n JOIN tenant AS t USING (tenant_id)"
            " JOIN waba AS w ON w.tenant_id = n.tenant_id AND w.id = n.waba_row_id"
            " JOIN waba_route AS r ON r.tenant_id = w.tenant_id AND r.waba_row_id = w.id"
            " WHERE CAST(:tenant_id AS uuid) IS NULL OR n.tenant_id = :tenant_id"
            " ORDER BY n.created_at, n.id"
        ),
        {"tenant_id": tenant_id},
    )
    return result.mappings().all()


async def insert_waba_route(work: SystemWork, route: Route) -> bool:
    """Claim a WhatsApp Business account for a tenant; False when it is claimed already."""
    result = await work.execute(
        text(
            "INSERT INTO waba_route"
            " (waba_id, tenant_id, waba_row_id, endpoint_key, verify_token, app_secret_sealed) VALUES"
            " (:waba_id, :tenant_id, :waba_row_id, :endpoint_key, :verify_token, :app_secret_sealed)"
            " ON CONFLICT (waba_id) DO NOTHING"
        ),
        route._asdict(),
    )
    return result.rowcount == 1


async def insert_waba(
    work: SystemWork,
    tenant_id: UUID,
    row_id: UUID,
    *,
    waba_id: str,
    portfolio_id: str,
    access_token_sealed: str,
) -> None:
    await work.execute(
        text(
            "INSERT INTO waba (tenant_id, id, waba_id, portfolio_id, access_token_sealed)"
            " VALUES (:tenant_id, :id, :waba_id, :portfolio_id, :access_token_sealed)"
        ),
        {
            "tenant_id": tenant_id,
            "id": row_id,
            "waba_id": waba_id,
            "portfolio_id": portfolio_id,
            "access_token_sealed": access_token_sealed,
        },
    )


async def update_credentials(
    work: SystemWork, route: Route, access_token_sealed: str, app_secret_sealed: str | None
) -> None:
    """Replace the access token, and the app secret where a new one is given."""
    where = {"tenant_id": route.tenant_id, "id": route.waba_row_id}
    await work.execute(
        text("UPDATE waba SET access_token_sealed = :sealed WHERE tenant_id = :tenant_id AND id = :id"),
        {"sealed": access_token_sealed, **where},
    )
    if app_secret_sealed is not None:
        await work.execute(
            text(
                "UPDATE waba_route SET app_secret_sealed = :sealed"
                " WHERE tenant_id = :tenant_id AND waba_row_id = :id"
            ),
            {"sealed": app_secret_sealed, **where},
        )


async def insert_number(
    work: SystemWork,
    tenant_id: UUID,
    number_id: UUID,
    *,
    waba_row_id: UUID,
    phone_number_id: str,
    display_phone_number: str,
    verified_name: str,
) -> None:
    await work.execute(
        text(
            "INSERT INTO phone_number"
            " (tenant_id, id, waba_row_id, phone_number_id, display_phone_number, verified_name) VALUES"
            " (:tenant_id, :id, :waba_row_id, :phone_number_id, :display_phone_number, :verified_name)"
        ),
        {
            "tenant_id": tenant_id,
            "id": number_id,
            "waba_row_id": waba_row_id,
            "phone_number_id": phone_number_id,
            "display_phone_number": display_phone_number,
            "verified_name": verified_name,
        },
    )
    await work.execute(
        text(
            "INSERT INTO number_route (phone_number_id, tenant_id, number_id)"
            " VALUES (:phone_number_id, :tenant_id, :number_id)"
        ),
        {"phone_number_id": phone_number_id, "tenant_id": tenant_id, "number_id": number_id},
    )
