"""Tables of accounts: tenants, the people who sign in, and their devices."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
    text,
)

from relay.kit.schema import global_table, tenant_table, uuid_column

TIMESTAMP = DateTime(timezone=True)

tenant = tenant_table(
    "tenant",
    # The tenant's own row: its key is tenant_id alone.
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False, server_default="active"),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    CheckConstraint("status IN ('active', 'suspended')", name="status"),
    primary_key=(),
    system="every_tenant",
)

# One person may belong to several tenants and signs in before a tenant is known, so this is global.
login = global_table(
    "login",
    uuid_column("id", primary_key=True),
    Column("email", Text, nullable=False),  # lower case
    Column("password_hash", Text, nullable=False),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    UniqueConstraint("email"),
)

user = tenant_table(
    "app_user",
    uuid_column("id"),
    uuid_column("login_id"),
    Column("email", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    Column("disabled_at", TIMESTAMP),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["login_id"], ["login.id"]),
    UniqueConstraint("tenant_id", "email"),
    UniqueConstraint("tenant_id", "login_id"),
    CheckConstraint("role IN ('owner', 'admin', 'supervisor', 'agent', 'viewer')", name="role"),
    system="every_tenant",
)

device_session = tenant_table(
    "device_session",
    uuid_column("id"),
    uuid_column("user_id"),
    Column("name", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("refresh_hash", LargeBinary, nullable=False),
    Column("generation", Integer, nullable=False, server_default=text("0")),
    # For a minute after a rotation the previous token answers with the same successor, kept sealed.
    Column("previous_hash", LargeBinary),
    Column("previous_valid_until", TIMESTAMP),
    Column("successor_sealed", Text),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    Column("last_seen_at", TIMESTAMP, nullable=False, server_default=func.now()),
    Column("expires_at", TIMESTAMP, nullable=False),
    Column("revoked_at", TIMESTAMP),
    Column("revoked_reason", Text),
    ForeignKeyConstraint(["tenant_id", "user_id"], ["app_user.tenant_id", "app_user.id"], ondelete="CASCADE"),
    Index("device_session_user_idx", "tenant_id", "user_id"),
    Index("device_session_revoked_idx", "revoked_at", postgresql_where=text("revoked_at IS NOT NULL")),
    system="every_tenant",
)

# GCRA of sign-in attempts: until when this e-mail or address has used up its allowance. Keys are hashes.
attempt_limit = global_table(
    "attempt_limit",
    Column("key", LargeBinary, primary_key=True),
    Column("next_at", TIMESTAMP, nullable=False),
)
