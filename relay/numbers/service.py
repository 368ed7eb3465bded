"""WhatsApp Business accounts and their numbers: adding them, finding a webhook's tenant, sending as one."""

import secrets as random
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from relay.kit import ids
from relay.kit.db import Database, SystemWork, TenantWork, UnitOfWork
from relay.kit.errors import OperatorError
from relay.kit.secrets import Secrets
from relay.numbers import queries
from relay.numbers.queries import NumberRoute, Route
from shared.wire.auth import NumberInfo

_ACCESS_TOKEN: Final = {"table": "waba", "column": "access_token_sealed"}
_APP_SECRET: Final = {"table": "waba_route", "column": "app_secret_sealed"}


class NumberError(OperatorError):
    """A number cannot be added as asked; the message is for people."""


class NewNumber(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator needs after adding a number: where Meta shall deliver, and the token it must show."""

    number_id: UUID
    tenant_id: UUID
    waba_id: str
    phone_number_id: str
    webhook_path: str
    verify_token: str
    created: bool
    """False when the number was there and got new credentials."""


class NumberSummary(msgspec.Struct, frozen=True, kw_only=True):
    number_id: UUID
    tenant_id: UUID
    tenant_name: str
    waba_id: str
    phone_number_id: str
    display_phone_number: str
    verified_name: str
    webhook_path: str


class SenderNumber(msgspec.Struct, frozen=True, kw_only=True):
    """A number with what it takes to send as it. The token is kept out of `repr` and must not be logged."""

    tenant_id: UUID
    phone_number_id: str
    messages_per_second: int
    access_token: str

    def __repr__(self) -> str:
        return f"SenderNumber({self.phone_number_id})"


class WebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's own Meta app, as its webhook needs it. The secrets are kept out of `repr`.

    `app_secret` is None for a tenant that uses the relay's shared app.
    """

    tenant_id: UUID
    waba_id: str
    verify_token: str
    app_secret: str | None

    def __repr__(self) -> str:
        return f"WebhookEndpoint({self.waba_id})"


async def add_number(
    database: Database,
    secrets: Secrets,
    tenant_id: UUID,
    *,
    waba_id: str,
    phone_number_id: str,
    access_token: str,
    app_secret: str | None = None,
    portfolio_id: str = "",
    display_phone_number: str = "",
    verified_name: str = "",
) -> NewNumber:
    """Add a number, and its WhatsApp Business account when that is new; again: replace the credentials.

    Raises NumberError when the account or the number belongs to another tenant.
    """
    async with database.system() as work:
        route = await _claim_waba(
            work,
            secrets,
            tenant_id,
            waba_id=waba_id,
            access_token=access_token,
            app_secret=app_secret,
            portfolio_id=portfolio_id,
        )
        found = await queries.number_route(work, phone_number_id)
        if found is not None and found.tenant_id != tenant_id:
            raise NumberError(f"The phone number {phone_number_id} belongs to another tenant.")
        number_id = found.number_id if found else ids.new_id()
        if found is None:
            await queries.insert_number(
                work,
                tenant_id,
                number_id,
                waba_row_id=route.waba_row_id,
                phone_number_id=phone_number_id,
                display_phone_number=display_phone_number,
                verified_name=verified_name,
            )
    return NewNumber(
        number_id=number_id,
        tenant_id=tenant_id,
        waba_id=waba_id,
        phone_number_id=phone_number_id,
        webhook_path=_webhook_path(route.endpoint_key),
        verify_token=route.verify_token,
        created=found is None,
    )


async def _claim_waba(
    work: SystemWork,
    secrets: Secrets,
    tenant_id: UUID,
    *,
    waba_id: str,
    access_token: str,
    app_secret: str | None,
    portfolio_id: str,
) -> Route:
    """The account's route: a new one, or the tenant's own with these credentials from now on."""
    found = await queries.route_by_waba(work, waba_id)
    if found is not None and found.tenant_id != tenant_id:
        raise NumberError(f"The WhatsApp Business account {waba_id} belongs to another tenant.")
    row_id = found.waba_row_id if found else ids.new_id()
    token_sealed = secrets.seal(access_token, tenant_id=tenant_id, row_id=row_id, **_ACCESS_TOKEN)
    secret_sealed = (
        secrets.seal(app_secret, tenant_id=tenant_id, row_id=row_id, **_APP_SECRET) if app_secret else None
    )
    if found is not None:
        await queries.update_credentials(work, found, token_sealed, secret_sealed)
        return found
    route = Route(
        waba_id, tenant_id, row_id, random.token_urlsafe(16), random.token_urlsafe(24), secret_sealed
    )
    await queries.insert_waba(
        work,
        tenant_id,
        row_id,
        waba_id=waba_id,
        portfolio_id=portfolio_id,
        access_token_sealed=token_sealed,
    )
    if not await queries.insert_waba_route(work, route):
        raise NumberError(f"The WhatsApp Business account {waba_id} was just added by somebody else.")
    return route


async def list_numbers(database: Database, tenant_id: UUID | None) -> Sequence[NumberSummary]:
    """All numbers, or one tenant's."""
    async with database.system() as work:
        rows = [dict(row) for row in await queries.numbers(work, tenant_id)]
    return [NumberSummary(webhook_path=_webhook_path(row.pop("endpoint_key")), **row) for row in rows]


async def number_infos(work: TenantWork) -> list[NumberInfo]:
    """The tenant's numbers as the desktop shows them."""
    return await queries.number_infos(work)


async def load_sender(work: UnitOfWork, secrets: Secrets, number_id: UUID) -> SenderNumber | None:
    """The number with its access token, opened. None when there is no such number."""
    row = await queries.sender(work, number_id)
    if row is None:
        return None
    token = secrets.reveal(
        row.access_token_sealed, tenant_id=row.tenant_id, row_id=row.waba_row_id, **_ACCESS_TOKEN
    )
    return SenderNumber(
        tenant_id=row.tenant_id,
        phone_number_id=row.phone_number_id,
        messages_per_second=row.messages_per_second,
        access_token=token.decode(),
    )


async def find_number(work: SystemWork, phone_number_id: str) -> NumberRoute | None:
    """Whose number a webhook names."""
    return await queries.number_route(work, phone_number_id)


async def find_endpoint(database: Database, secrets: Secrets, endpoint_key: str) -> WebhookEndpoint | None:
    """The Meta app that delivers to this webhook address."""
    async with database.system() as work:
        route = await queries.route_by_endpoint(work, endpoint_key)
    return _endpoint(secrets, route)


async def find_waba(work: SystemWork, secrets: Secrets, waba_id: str) -> WebhookEndpoint | None:
    """Whose WhatsApp Business account a webhook names."""
    return _endpoint(secrets, await queries.route_by_waba(work, waba_id))


def _endpoint(secrets: Secrets, route: Route | None) -> WebhookEndpoint | None:
    if route is None:
        return None
    app_secret = None
    if route.app_secret_sealed is not None:
        app_secret = secrets.reveal(
            route.app_secret_sealed, tenant_id=route.tenant_id, row_id=route.waba_row_id, **_APP_SECRET
        ).decode()
    return WebhookEndpoint(
        tenant_id=route.tenant_id,
        waba_id=route.waba_id,
        verify_token=route.verify_token,
        app_secret=app_secret,
    )


def _webhook_path(endpoint_key: str) -> str:
    return f"/webhooks/meta/{endpoint_key}"
