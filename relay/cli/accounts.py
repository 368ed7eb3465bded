"""`relay tenant` and `relay user`."""

import secrets

import click

from relay.accounts import service as accounts
from relay.accounts.service import ROLES, AccountError, NewUser
from relay.cli.common import answer, as_json, with_services
from relay.kit.passwords import hash_password
from relay.services import Services


@click.group()
def tenant() -> None:
    """The businesses that share this relay."""


@tenant.command("create")
@click.option("--name", required=True, help="The business's name; unique on this relay.")
@click.option("--admin-email", required=True, help="Who signs in first, and owns the tenant.")
@click.option("--admin-password", help="Their password; one is made and shown if left out.")
@as_json
def tenant_create(name: str, admin_email: str, admin_password: str | None, as_json: bool) -> None:
    """Make a tenant with its first user."""
    password = admin_password or _new_password()

    async def run(services: Services) -> NewUser:
        return await accounts.create_tenant(services.database, name, admin_email, await _hashed(password))

    created = with_services(run)
    document = {
        "tenant_id": created.tenant_id,
        "user_id": created.user_id,
        "admin_email": created.email,
        **({} if admin_password else {"admin_password": password}),
    }
    words = f"Tenant {created.tenant_id} is there; {created.email} can sign in."
    if not admin_password:
        words += f"\nPassword (shown this once): {password}"
    answer(document, words, as_json)


@tenant.command("list")
@as_json
def tenant_list(as_json: bool) -> None:
    """All tenants, oldest first."""
    found = with_services(lambda services: accounts.list_tenants(services.database))
    lines = [f"{t.id}  {t.status:9}  {t.users:4} users  {t.numbers:3} numbers  {t.name}" for t in found]
    answer(found, "\n".join(lines) or "There is no tenant yet.", as_json)


@click.group()
def user() -> None:
    """The people who sign in."""


@user.command("create")
@click.option("--tenant", "tenant_reference", required=True, help="The tenant's id or name.")
@click.option("--email", required=True, help="Signs in with this; unique on this relay.")
@click.option("--name", default="", help="Shown to colleagues.")
@click.option("--role", default="agent", show_default=True, type=click.Choice(ROLES))
@click.option("--password", help="One is made and shown if left out.")
@as_json
def user_create(
    tenant_reference: str, email: str, name: str, role: str, password: str | None, as_json: bool
) -> None:
    """Add a user to a tenant."""
    chosen = password or _new_password()

    async def run(services: Services) -> NewUser:
        tenant_id = await accounts.find_tenant(services.database, tenant_reference)
        return await accounts.create_user(
            services.database,
            tenant_id,
            email=email,
            name=name,
            role=role,
            password_hash=await _hashed(chosen),
        )

    created = with_services(run)
    document = {
        "tenant_id": created.tenant_id,
        "user_id": created.user_id,
        "email": created.email,
        **({} if password else {"password": chosen}),
    }
    words = f"{created.email} can sign in."
    if not password:
        words += f"\nPassword (shown this once): {chosen}"
    answer(document, words, as_json)


async def _hashed(password: str) -> str:
    try:
        return await hash_password(password)
    except ValueError as error:
        raise AccountError(str(error)) from None


def _new_password() -> str:
    return secrets.token_urlsafe(12)
