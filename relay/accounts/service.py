"""Tenants and their users."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from relay.accounts import queries
from relay.accounts.identity import Identity
from relay.kit import ids
from relay.kit.db import Database, SystemWork
from relay.kit.errors import OperatorError
from relay.kit.problem import ProblemError
from relay.numbers.service import number_infos
from shared.wire.auth import Me
from shared.wire.problem import Code

ROLES: Final = ("owner", "admin", "supervisor", "agent", "viewer")
NAME_MAX_CHARS: Final = 200
EMAIL_MAX_CHARS: Final = 254


class AccountError(OperatorError):
    """A tenant or user cannot be made or found as asked; the message is for people."""


class NewUser(msgspec.Struct, frozen=True):
    """A user that was made, and the tenant they belong to."""

    tenant_id: UUID
    user_id: UUID
    email: str


class TenantSummary(msgspec.Struct, frozen=True):
    id: UUID
    name: str
    status: str
    created_at: datetime
    users: int
    numbers: int


async def create_tenant(database: Database, name: str, admin_email: str, password_hash: str) -> NewUser:
    """A tenant with its first user, who owns it. Raises AccountError for a taken name or e-mail."""
    name = _checked_name(name)
    async with database.system() as work:
        if await queries.tenants_named(work, name):
            raise AccountError(f"There is a tenant named “{name}” already. Choose another name.")
        tenant_id = ids.new_id()
        await queries.insert_tenant(work, tenant_id, name)
        return await _insert_user(
            work, tenant_id, email=admin_email, name="", role="owner", password_hash=password_hash
        )


async def create_user(
    database: Database, tenant_id: UUID, *, email: str, name: str, role: str, password_hash: str
) -> NewUser:
    """One more user of a tenant. Raises AccountError."""
    if role not in ROLES:
        raise AccountError(f"There is no role “{role}”. Choose one of {', '.join(ROLES)}.")
    async with database.system() as work:
        return await _insert_user(
            work, tenant_id, email=email, name=name, role=role, password_hash=password_hash
        )


async def _insert_user(
    work: SystemWork, tenant_id: UUID, *, email: str, name: str, role: str, password_hash: str
) -> NewUser:
    email = _checked_email(email)
    login_id, user_id = ids.new_id(), ids.new_id()
    if not await queries.insert_login(work, login_id, email, password_hash):
        taken_by = await queries.tenant_name_of_login(work, email)
        raise AccountError(f"{email} already signs in to “{taken_by}”. Use another e-mail address.")
    shown_name = _checked_name(name) if name else email.partition("@")[0]
    await queries.insert_user(
        work, tenant_id, user_id, login_id=login_id, email=email, name=shown_name, role=role
    )
    return NewUser(tenant_id, user_id, email)


async def find_tenant(database: Database, reference: str) -> UUID:
    """The tenant with this id or exact name. Raises AccountError."""
    async with database.system() as work:
        try:
            tenant_id = UUID(reference)
        except ValueError:
            found = await queries.tenants_named(work, reference.strip())
        else:
            found = [tenant_id] if await queries.tenant_exists(work, tenant_id) else []
    if not found:
        raise AccountError(f"There is no tenant “{reference}”. `relay tenant list` shows them.")
    return found[0]


async def list_tenants(database: Database) -> Sequence[TenantSummary]:
    async with database.system() as work:
        return [TenantSummary(**row) for row in await queries.tenants(work)]


async def me(database: Database, identity: Identity) -> Me:
    """The user, their tenant and its numbers. Raises ProblemError."""
    async with database.tenant(identity.tenant_id) as work:
        found = await queries.me(work, identity.user_id)
        numbers = await number_infos(work)
    if found is None:
        raise ProblemError(Code.UNAUTHENTICATED, "This user no longer exists.")
    user, tenant = found
    return Me(user, tenant, numbers)


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= NAME_MAX_CHARS:
        raise AccountError(f"A name has between 1 and {NAME_MAX_CHARS} characters.")
    return name


def _checked_email(email: str) -> str:
    """Lower case and without surrounding space; whether it can receive mail is not our question here."""
    email = email.strip().lower()
    local, at, domain = email.rpartition("@")
    if not (local and at and domain) or " " in email or len(email) > EMAIL_MAX_CHARS:
        raise AccountError(f"“{email}” is not an e-mail address.")
    return email
