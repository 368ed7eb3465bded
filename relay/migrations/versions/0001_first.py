"""The first schema."""

from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from relay.kit import clock
from relay.kit.schema import APP, SYSTEM, TENANT_SETTING

revision: Final = "0001"
down_revision: Final = None

# This tenant's rows. A setting that was set locally reads back as '' after its transaction, hence nullif.
OWN: Final = f"tenant_id = nullif(current_setting('{TENANT_SETTING}', true), '')::uuid"


# Tables of tenants' data, and what relay_system sees of each.
TENANT_TABLES: Final = {
    "tenant": True,
    "app_user": True,
    "contact": False,
    "feed_head": True,
    "waba": True,
    "contact_identity": False,
    "device_session": True,
    "feed": True,
    "phone_number": True,
    "conversation": False,
    "message_status": False,
    "number_pace": True,
    "pair_pace": True,
    "message": False,
    "send_attempt": True,
    "send_queue": True,
}
GLOBAL_TABLES: Final = (
    "attempt_limit",
    "login",
    "schema_compat",
    "webhook_item",
    "webhook_raw",
    "waba_route",
    "number_route",
    "webhook_lane",
)
"""Used by relay_system alone."""
READABLE_GLOBAL_TABLES: Final = ("schema_compat",)
"""Of those, the ones relay_app may read."""


def upgrade() -> None:
    _create_tables()
    for table, every_tenant in TENANT_TABLES.items():
        system = "true" if every_tenant else OWN
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP}, {SYSTEM}")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {table}_app ON {table} TO {APP} USING ({OWN}) WITH CHECK ({OWN})")
        op.execute(
            f"CREATE POLICY {table}_system ON {table} TO {SYSTEM} USING ({system}) WITH CHECK ({system})"
        )
    for table in GLOBAL_TABLES:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {SYSTEM}")
    for table in READABLE_GLOBAL_TABLES:
        op.execute(f"GRANT SELECT ON {table} TO {APP}")
    op.execute(f"GRANT SELECT ON alembic_version TO {APP}, {SYSTEM}")
    op.execute("INSERT INTO schema_compat (oldest_revision) VALUES (1)")
    # A day without a partition of its own goes to the default one, so that no webhook is ever refused.
    op.execute("CREATE TABLE webhook_raw_default PARTITION OF webhook_raw DEFAULT")
    today = clock.now().date()
    for day in (today + timedelta(days=n) for n in range(4)):
        op.execute(
            f"CREATE TABLE webhook_raw_{day:%Y%m%d} PARTITION OF webhook_raw"
            f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
        )


def _create_tables() -> None:
    op.create_table(
        "attempt_limit",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("attempt_limit_pkey")),
    )
    op.create_table(
        "login",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("login_pkey")),
        sa.UniqueConstraint("email", name=op.f("login_email_key")),
    )
    op.create_table(
        "schema_compat",
        sa.Column("oldest_revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("oldest_revision", name=op.f("schema_compat_pkey")),
    )
    op.create_table(
        "tenant",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('active', 'suspended')", name=op.f("tenant_status_check")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("tenant_pkey")),
    )
    op.create_table(
        "webhook_item",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("raw_received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("raw_id", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("number_id", sa.Uuid(), nullable=True),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lane_hash", sa.BigInteger(), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), server_default="new", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_item_pkey")),
    )
    op.create_index(
        "webhook_item_lane_idx",
        "webhook_item",
        ["tenant_id", "lane_hash", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'new'"),
    )
    op.create_index(
        "webhook_item_new_idx",
        "webhook_item",
        ["tenant_id", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'new'"),
    )
    op.create_index("webhook_item_raw_idx", "webhook_item", ["raw_received_at", "raw_id"], unique=False)
    op.create_index(
        "webhook_item_resting_idx",
        "webhook_item",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state <> 'new'"),
    )
    op.create_index(
        "webhook_item_waiting_idx",
        "webhook_item",
        ["tenant_id", "lane_hash"],
        unique=False,
        postgresql_where=sa.text("state = 'new' AND not_before IS NOT NULL"),
    )
    op.create_table(
        "webhook_raw",
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("scope_tenant_id", sa.Uuid(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("headers", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state", sa.Text(), server_default="new", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("received_at", "id", name=op.f("webhook_raw_pkey")),
        postgresql_partition_by="RANGE (received_at)",
    )
    op.create_index(
        "webhook_raw_new_idx", "webhook_raw", ["id"], unique=False, postgresql_where=sa.text("state = 'new'")
    )
    op.create_table(
        "app_user",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("login_id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(
            "role IN ('owner', 'admin', 'supervisor', 'agent', 'viewer')", name=op.f("app_user_role_check")
        ),
        sa.ForeignKeyConstraint(["login_id"], ["login.id"], name=op.f("app_user_login_id_fkey")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("app_user_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("app_user_pkey")),
        sa.UniqueConstraint("tenant_id", "email", name=op.f("app_user_tenant_id_email_key")),
        sa.UniqueConstraint("tenant_id", "login_id", name=op.f("app_user_tenant_id_login_id_key")),
    )
    op.create_table(
        "contact",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("profile_name", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("contact_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("contact_pkey")),
    )
    op.create_table(
        "feed_head",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("floor_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("feed_head_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("feed_head_pkey")),
    )
    op.create_table(
        "waba",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("waba_id", sa.Text(), nullable=False),
        sa.Column("portfolio_id", sa.Text(), server_default="", nullable=False),
        sa.Column("access_token_sealed", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.tenant_id"], name=op.f("waba_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("waba_pkey")),
        sa.UniqueConstraint("tenant_id", "waba_id", name=op.f("waba_tenant_id_waba_id_key")),
    )
    op.create_table(
        "contact_identity",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('phone', 'bsuid', 'parent_bsuid', 'username')", name=op.f("contact_identity_kind_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "contact_id"],
            ["contact.tenant_id", "contact.id"],
            name=op.f("contact_identity_tenant_id_contact_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "portfolio_id", "kind", "value", name=op.f("contact_identity_pkey")
        ),
    )
    op.create_index(
        "contact_identity_contact_idx", "contact_identity", ["tenant_id", "contact_id"], unique=False
    )
    op.create_table(
        "device_session",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("refresh_hash", sa.LargeBinary(), nullable=False),
        sa.Column("generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("successor_sealed", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["app_user.tenant_id", "app_user.id"],
            name=op.f("device_session_tenant_id_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("device_session_pkey")),
    )
    op.create_index(
        "device_session_revoked_idx",
        "device_session",
        ["revoked_at"],
        unique=False,
        postgresql_where=sa.text("revoked_at IS NOT NULL"),
    )
    op.create_index("device_session_user_idx", "device_session", ["tenant_id", "user_id"], unique=False)
    op.create_table(
        "feed",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Uuid(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("kind IN ('conversation', 'message')", name=op.f("feed_kind_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["feed_head.tenant_id"], name=op.f("feed_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "seq", name=op.f("feed_pkey")),
    )
    op.create_index("feed_at_idx", "feed", ["tenant_id", "at"], unique=False)
    op.create_table(
        "phone_number",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("waba_row_id", sa.Uuid(), nullable=False),
        sa.Column("phone_number_id", sa.Text(), nullable=False),
        sa.Column("display_phone_number", sa.Text(), server_default="", nullable=False),
        sa.Column("verified_name", sa.Text(), server_default="", nullable=False),
        sa.Column("messages_per_second", sa.Integer(), server_default=sa.text("80"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "waba_row_id"],
            ["waba.tenant_id", "waba.id"],
            name=op.f("phone_number_tenant_id_waba_row_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("phone_number_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "phone_number_id", name=op.f("phone_number_tenant_id_phone_number_id_key")
        ),
    )
    op.create_table(
        "waba_route",
        sa.Column("waba_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("waba_row_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_key", sa.Text(), nullable=False),
        sa.Column("verify_token", sa.Text(), nullable=False),
        sa.Column("app_secret_sealed", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "waba_row_id"],
            ["waba.tenant_id", "waba.id"],
            name=op.f("waba_route_tenant_id_waba_row_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("waba_id", name=op.f("waba_route_pkey")),
        sa.UniqueConstraint("endpoint_key", name=op.f("waba_route_endpoint_key_key")),
    )
    op.create_table(
        "conversation",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number_id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("last_activity_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_inbound_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unread_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "contact_id"],
            ["contact.tenant_id", "contact.id"],
            name=op.f("conversation_tenant_id_contact_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "number_id"],
            ["phone_number.tenant_id", "phone_number.id"],
            name=op.f("conversation_tenant_id_number_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("conversation_pkey")),
        sa.UniqueConstraint(
            "tenant_id",
            "number_id",
            "contact_id",
            name=op.f("conversation_tenant_id_number_id_contact_id_key"),
        ),
    )
    op.create_index(
        "conversation_activity_idx",
        "conversation",
        ["tenant_id", sa.literal_column("last_activity_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "message_status",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number_id", sa.Uuid(), nullable=False),
        sa.Column("wamid", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "number_id"],
            ["phone_number.tenant_id", "phone_number.id"],
            name=op.f("message_status_tenant_id_number_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "number_id", "wamid", "status", name=op.f("message_status_pkey")
        ),
    )
    op.create_table(
        "number_pace",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number_id", sa.Uuid(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("'epoch'"), nullable=False),
        sa.Column("served_at", sa.DateTime(timezone=True), server_default=sa.text("'epoch'"), nullable=False),
        sa.Column("rate_factor", sa.Float(), server_default=sa.text("1"), nullable=False),
        sa.Column("slowed_at", sa.DateTime(timezone=True), server_default=sa.text("'epoch'"), nullable=False),
        sa.Column(
            "hold_until", sa.DateTime(timezone=True), server_default=sa.text("'epoch'"), nullable=False
        ),
        sa.Column("hold_code", sa.Integer(), nullable=True),
        sa.Column("strikes", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "number_id"],
            ["phone_number.tenant_id", "phone_number.id"],
            name=op.f("number_pace_tenant_id_number_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number_id", name=op.f("number_pace_pkey")),
    )
    op.create_table(
        "number_route",
        sa.Column("phone_number_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "number_id"],
            ["phone_number.tenant_id", "phone_number.id"],
            name=op.f("number_route_tenant_id_number_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("phone_number_id", name=op.f("number_route_pkey")),
    )
    op.create_table(
        "pair_pace",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number_id", sa.Uuid(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("backoff", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "number_id"],
            ["phone_number.tenant_id", "phone_number.id"],
            name=op.f("pair_pace_tenant_id_number_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number_id", "recipient", name=op.f("pair_pace_pkey")),
    )
    op.create_table(
        "webhook_lane",
        sa.Column("number_id", sa.Uuid(), nullable=False),
        sa.Column("person_hash", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lane_hash", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "number_id"],
            ["phone_number.tenant_id", "phone_number.id"],
            name=op.f("webhook_lane_tenant_id_number_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number_id", "person_hash", name=op.f("webhook_lane_pkey")),
    )
    op.create_table(
        "message",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("number_id", sa.Uuid(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("wamid", sa.Text(), nullable=True),
        sa.Column("client_id", sa.Uuid(), nullable=True),
        sa.Column("author_id", sa.Uuid(), nullable=True),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_rank", sa.SmallInteger(), nullable=False),
        sa.Column("status_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.Column("reply_to_wamid", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint("direction IN ('inbound', 'outbound')", name=op.f("message_direction_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "author_id"],
            ["app_user.tenant_id", "app_user.id"],
            name=op.f("message_tenant_id_author_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "conversation_id"],
            ["conversation.tenant_id", "conversation.id"],
            name=op.f("message_tenant_id_conversation_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("message_pkey")),
        sa.UniqueConstraint("tenant_id", "client_id", name=op.f("message_tenant_id_client_id_key")),
        sa.UniqueConstraint(
            "tenant_id", "number_id", "wamid", name=op.f("message_tenant_id_number_id_wamid_key")
        ),
    )
    op.create_index(
        "message_timeline_idx",
        "message",
        ["tenant_id", "conversation_id", sa.literal_column("sent_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "send_attempt",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("check_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wamid", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Integer(), nullable=True),
        sa.Column("detail", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            "state IN ('claimed', 'accepted', 'retry_later', 'failed', 'unknown', 'unconfirmed')",
            name=op.f("send_attempt_state_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "message_id"],
            ["message.tenant_id", "message.id"],
            name=op.f("send_attempt_tenant_id_message_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("send_attempt_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "message_id", "n", name=op.f("send_attempt_tenant_id_message_id_n_key")
        ),
    )
    op.create_index(
        "send_attempt_check_idx",
        "send_attempt",
        ["check_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('claimed', 'unknown')"),
    )
    op.create_table(
        "send_queue",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("number_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("recipient_kind", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "turn_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "recipient_kind IN ('phone', 'bsuid')", name=op.f("send_queue_recipient_kind_check")
        ),
        sa.CheckConstraint("state IN ('queued', 'claimed', 'unknown')", name=op.f("send_queue_state_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "message_id"],
            ["message.tenant_id", "message.id"],
            name=op.f("send_queue_tenant_id_message_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "message_id", name=op.f("send_queue_pkey")),
    )
    op.create_index(
        "send_queue_conversation_idx", "send_queue", ["tenant_id", "conversation_id"], unique=False
    )
    op.create_index(
        "send_queue_turn_idx",
        "send_queue",
        ["tenant_id", "number_id", "turn_at"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
