"""`relay number`."""

from collections.abc import Sequence

import click
import msgspec

from relay.accounts import service as accounts
from relay.cli.common import answer, as_json, with_services
from relay.numbers import service as numbers
from relay.numbers.service import NewNumber, NumberSummary
from relay.services import Services
from relay.settings import Settings


@click.group()
def number() -> None:
    """WhatsApp numbers."""


@number.command("add")
@click.option("--tenant", "tenant_reference", required=True, help="The tenant's id or name.")
@click.option("--waba-id", required=True, help="The WhatsApp Business account's id.")
@click.option("--phone-number-id", required=True, help="Meta's id of the number (not the number itself).")
@click.option("--access-token", required=True, help="A system user's token with both WhatsApp permissions.")
@click.option("--app-secret", help="Of the tenant's own Meta app; left out, the relay's shared app is used.")
@click.option("--portfolio-id", default="", help="The business portfolio's id, if known.")
@click.option("--display-number", default="", help="The number as people write it.")
@click.option("--verified-name", default="", help="The name that customers see.")
@as_json
def number_add(
    tenant_reference: str,
    waba_id: str,
    phone_number_id: str,
    access_token: str,
    app_secret: str | None,
    portfolio_id: str,
    display_number: str,
    verified_name: str,
    as_json: bool,
) -> None:
    """Add a number to a tenant, or give one new credentials."""

    async def run(services: Services) -> NewNumber:
        return await numbers.add_number(
            services.database,
            services.secrets,
            await accounts.find_tenant(services.database, tenant_reference),
            waba_id=waba_id,
            phone_number_id=phone_number_id,
            access_token=access_token,
            app_secret=app_secret,
            portfolio_id=portfolio_id,
            display_phone_number=display_number,
            verified_name=verified_name,
        )

    added = with_services(run)
    document = {
        **msgspec.to_builtins(added),
        "webhook_url": f"{Settings.from_environment().public_url}{added.webhook_path}",
    }
    words = (
        f"Number {added.number_id} is {'there' if added.created else 'updated'}.\n"
        f"Webhook address: {document['webhook_url']}\nVerify token:    {added.verify_token}"
    )
    answer(document, words, as_json)


@number.command("list")
@click.option("--tenant", "tenant_reference", help="Only this tenant's (id or name).")
@as_json
def number_list(tenant_reference: str | None, as_json: bool) -> None:
    """All numbers, oldest first."""

    async def run(services: Services) -> Sequence[NumberSummary]:
        tenant_id = (
            await accounts.find_tenant(services.database, tenant_reference) if tenant_reference else None
        )
        return await numbers.list_numbers(services.database, tenant_id)

    found = with_services(run)
    lines = [
        f"{n.number_id}  {n.phone_number_id:20}  {n.display_phone_number:20}  {n.tenant_name}" for n in found
    ]
    answer(found, "\n".join(lines) or "There is no number yet.", as_json)
