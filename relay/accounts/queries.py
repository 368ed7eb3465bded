"""SQL of tenants, users, device sessions and sign-in attempts."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import RowMapping, text

from relay.kit.db import SystemWork, TenantWork
from shared.wire.auth import TenantInfo, UserInfo


class Account(NamedTuple):
    """A user as sign-in finds them, with the password's hash."""

    tenant_id: UUID
    tenant_status: str
    login_id: UUID
    user_id: UUID
    name: str
    role: str
    version: int
    password_hash: str


class DeviceSession(NamedTuple):
    """A device session that did not rotate; its times were compared by the database."""

    user_id: UUID
    revoked: bool
    expired: bool
    previous_hash: bytes | None
    previous_is_valid: bool
    successor_sealed: str | None


class SessionUser(NamedTuple):
    """The user of a device session. `active`: neither they nor their tenant were shut out."""

    name: str
    role: str
    version: int
    active: bool


# --- tenants and users ----------------------------------------------------------------------------


async def insert_tenant(work: SystemWork, tenant_id: UUID, name: str) -> None:
    """A tenant with an empty feed."""
    await work.execute(
        text("INSERT INTO tenant (tenant_id, name) VALUES (:tenant_id, :name)"),
        {"tenant_id": tenant_id, "name": name},
    )
    await work.execute(
        text("INSERT INTO feed_head (tenant_id) VALUES (:tenant_id)"), {"tenant_id": tenant_id}
    )


async def insert_login(work: SystemWork, login_id: UUID, email: str, password_hash: str) -> bool:
    """False when the e-mail has a login already."""
    result = await work.execute(
        text(
            "INSERT INTO login (id, email, password_hash) VALUES (:id, :email, :password_hash)"
            " ON CONFLICT (email) DO NOTHING"
        ),
        {"id": login_id, "email": email, "password_hash": password_hash},
    )
    return result.rowcount == 1


async def insert_user(
    work: SystemWork, tenant_id: UUID, user_id: UUID, *, login_id: UUID, email: str, name: str, role: str
) -> None:
    await work.execute(
        text(
            "INSERT INTO app_user (tenant_id, id, login_id, email, name, role)"
            " VALUES (:tenant_id, :id, :login_id, :email, :name, :role)"
        ),
        {
            "tenant_id": tenant_id,
            "id": user_id,
            "login_id": login_id,
            "email": email,
            "name": name,
            "role": role,
        },
    )


async def tenants(work: SystemWork) -> Sequence[RowMapping]:
    """All tenants with the number of their users and numbers, oldest first."""
    result = await work.execute(
        text(
            "SELECT tenant_id AS id, name, status, created_at,"
            " (SELECT count(*) FROM app_user AS u WHERE u.tenant_id = tenant.tenant_id) AS users,"
            " (SELECT count(*) FROM phone_number AS n WHERE n.tenant_id = tenant.tenant_id) AS numbers"
            " FROM tenant ORDER BY created_at, tenant_id"
        )
    )
    return result.mappings().all()


async def tenants_named(work: SystemWork, name: str) -> Sequence[UUID]:
    result = await work.execute(text("SELECT tenant_id FROM tenant WHERE name = :name"), {"name": name})
    return result.scalars().all()


async def tenant_exists(work: SystemWork, tenant_id: UUID) -> bool:
    result = await work.execute(
        text("SELECT 1 FROM tenant WHERE tenant_id = :tenant_id"), {"tenant_id": tenant_id}
    )
    return result.first() is not None


async def tenant_name_of_login(work: SystemWork, email: str) -> str | None:
    """The name of a tenant this e-mail signs in to."""
    result = await work.execute(
        text(
            "SELECT tenant.name FROM app_user JOIN tenant USING (tenant_id)"
            " WHERE app_user.email = :email ORDER BY app_user.created_at LIMIT 1"
        ),
        {"email": email},
    )
    return result.scalar_one_or_none()


async def me(work: TenantWork, user_id: UUID) -> tuple[UserInfo, TenantInfo] | None:
    result = await work.execute(
        text(
            "SELECT app_user.email, app_user.name, app_user.role, tenant.name AS tenant_name"
            " FROM app_user JOIN tenant USING (tenant_id)"
            " WHERE app_user.tenant_id = :tenant_id AND app_user.id = :user_id"
        ),
        {"tenant_id": work.tenant_id, "user_id": user_id},
    )
    row = result.one_or_none()
    if row is None:
        return None
    return UserInfo(user_id, row.email, row.name, row.role), TenantInfo(work.tenant_id, row.tenant_name)


# --- sign-in --------------------------------------------------------------------------------------


async def account_by_email(work: SystemWork, email: str) -> Account | None:
    """The user an e-mail signs in as: of the oldest tenant, when there are several."""
    result = await work.execute(
        text(
            "SELECT u.tenant_id, t.status, l.id, u.id, u.name, u.role, u.version, l.password_hash"
            " FROM login AS l JOIN app_user AS u ON u.login_id = l.id JOIN tenant AS t USING (tenant_id)"
            " WHERE l.email = :email AND u.disabled_at IS NULL ORDER BY u.created_at, u.id LIMIT 1"
        ),
        {"email": email},
    )
    row = result.one_or_none()
    return None if row is None else Account._make(row)


async def replace_password_hash(work: SystemWork, login_id: UUID, old: str, new: str) -> None:
    await work.execute(
        text("UPDATE login SET password_hash = :new WHERE id = :id AND password_hash = :old"),
        {"id": login_id, "old": old, "new": new},
    )


async def insert_session(
    work: SystemWork,
    tenant_id: UUID,
    session_id: UUID,
    user_id: UUID,
    refresh_hash: bytes,
    *,
    device_name: str,
    platform: str,
    idle: timedelta,
) -> None:
    await work.execute(
        text(
            "INSERT INTO device_session (tenant_id, id, user_id, name, platform, refresh_hash, expires_at)"
            " VALUES (:tenant_id, :id, :user_id, :name, :platform, :refresh_hash, clock_timestamp() + :idle)"
        ),
        {
            "tenant_id": tenant_id,
            "id": session_id,
            "user_id": user_id,
            "name": device_name,
            "platform": platform,
            "refresh_hash": refresh_hash,
            "idle": idle,
        },
    )


_ROTATE = text("""
    UPDATE device_session
    SET refresh_hash = :new_hash,
        previous_hash = refresh_hash,
        previous_valid_until = clock_timestamp() + :grace,
        successor_sealed = :successor_sealed,
        generation = generation + 1,
        last_seen_at = clock_timestamp(),
        expires_at = least(clock_timestamp() + :idle, created_at + :absolute)
    WHERE tenant_id = :tenant_id AND id = :id AND refresh_hash = ANY(CAST(:hashes AS bytea[]))
        AND revoked_at IS NULL AND expires_at > clock_timestamp()
    RETURNING user_id
""")

_SESSION = text("""
    SELECT user_id, revoked_at IS NOT NULL, expires_at <= clock_timestamp(), previous_hash,
        coalesce(previous_valid_until > clock_timestamp(), false), successor_sealed
    FROM device_session WHERE tenant_id = :tenant_id AND id = :id
""")

_SESSION_USER = text("""
    SELECT app_user.name, app_user.role, app_user.version,
        app_user.disabled_at IS NULL AND tenant.status = 'active'
    FROM app_user JOIN tenant USING (tenant_id)
    WHERE app_user.tenant_id = :tenant_id AND app_user.id = :user_id
""")

_REVOKE = text("""
    UPDATE device_session
    SET revoked_at = clock_timestamp(), revoked_reason = :reason, successor_sealed = NULL
    WHERE tenant_id = :tenant_id AND id = :id AND revoked_at IS NULL
""")


async def rotate(
    work: TenantWork,
    session_id: UUID,
    hashes: Sequence[bytes],
    *,
    new_hash: bytes,
    successor_sealed: str,
    grace: timedelta,
    idle: timedelta,
    absolute: timedelta,
) -> UUID | None:
    """Replace the session's refresh token, if it is the current one; returns the user's id.

    One conditional update: of many at once one wins, and the others find the token replaced.
    """
    parameters = {
        "tenant_id": work.tenant_id,
        "id": session_id,
        "hashes": hashes,
        "new_hash": new_hash,
        "successor_sealed": successor_sealed,
        "grace": grace,
        "idle": idle,
        "absolute": absolute,
    }
    return (await work.execute(_ROTATE, parameters)).scalar_one_or_none()


async def device_session(work: TenantWork, session_id: UUID) -> DeviceSession | None:
    row = (await work.execute(_SESSION, {"tenant_id": work.tenant_id, "id": session_id})).one_or_none()
    return None if row is None else DeviceSession._make(row)


async def session_user(work: TenantWork, user_id: UUID) -> SessionUser:
    row = (await work.execute(_SESSION_USER, {"tenant_id": work.tenant_id, "user_id": user_id})).one()
    return SessionUser._make(row)


async def revoke(work: TenantWork, session_id: UUID, reason: str) -> bool:
    """End a device session; False when it had ended before."""
    parameters = {"tenant_id": work.tenant_id, "id": session_id, "reason": reason}
    return (await work.execute(_REVOKE, parameters)).rowcount == 1


async def sessions_revoked_within(work: SystemWork, window: timedelta) -> Sequence[UUID]:
    """Device sessions revoked in the last `window`."""
    result = await work.execute(
        text(
            "SELECT id FROM device_session WHERE revoked_at > clock_timestamp() - CAST(:window AS interval)"
        ),
        {"window": window},
    )
    return result.scalars().all()


# --- sign-in attempts -----------------------------------------------------------------------------

# GCRA: each attempt moves the key's clock one interval on; attempts are refused while it is more than the
# allowed burst ahead of now. The row lock makes attempts of one key wait for each other.
_TAKE_ATTEMPT = text("""
    INSERT INTO attempt_limit AS kept (key, next_at) VALUES (:key, clock_timestamp() + :interval)
    ON CONFLICT (key) DO UPDATE SET next_at = greatest(kept.next_at, clock_timestamp()) + :interval
    WHERE kept.next_at + :interval <= clock_timestamp() + :interval * :burst
    RETURNING true
""")

_ATTEMPT_WAIT = text("""
    SELECT next_at + :interval - :interval * :burst - clock_timestamp() FROM attempt_limit WHERE key = :key
""")


async def take_attempt(work: SystemWork, key: bytes, interval: timedelta, burst: int) -> timedelta | None:
    """Count one attempt; None if it is allowed, else the time until the next one is."""
    parameters = {"key": key, "interval": interval, "burst": burst}
    if (await work.execute(_TAKE_ATTEMPT, parameters)).scalar_one_or_none():
        return None
    wait: timedelta = (await work.execute(_ATTEMPT_WAIT, parameters)).scalar_one()
    return wait


async def forget_attempts(work: SystemWork, key: bytes) -> None:
    await work.execute(text("DELETE FROM attempt_limit WHERE key = :key"), {"key": key})


async def clear_old_attempts(work: SystemWork) -> int:
    """Remove keys whose allowance has long been full again."""
    result = await work.execute(
        text("DELETE FROM attempt_limit WHERE next_at < clock_timestamp() - interval '1 day'")
    )
    return result.rowcount
