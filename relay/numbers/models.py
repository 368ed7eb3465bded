"""Tables of WhatsApp Business accounts, their phone numbers, and the way from a webhook to a tenant."""

from sqlalchemy import Column, DateTime, ForeignKeyConstraint, Integer, Text, UniqueConstraint, func, text

from relay.kit.schema import global_table, tenant_table, uuid_column

TIMESTAMP = DateTime(timezone=True)

waba = tenant_table(
    "waba",
    uuid_column("id"),
    Column("waba_id", Text, nullable=False),
    # The business portfolio that scopes BSUIDs and phone identities; '' until it is known.
    Column("portfolio_id", Text, nullable=False, server_default=""),
    Column("access_token_sealed", Text, nullable=False),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], ondelete="CASCADE"),
    UniqueConstraint("tenant_id", "waba_id"),
    system="every_tenant",
)

phone_number = tenant_table(
    "phone_number",
    uuid_column("id"),
    uuid_column("waba_row_id"),
    Column("phone_number_id", Text, nullable=False),
    Column("display_phone_number", Text, nullable=False, server_default=""),
    Column("verified_name", Text, nullable=False, server_default=""),
    Column("messages_per_second", Integer, nullable=False, server_default=text("80")),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant_id", "waba_row_id"], ["waba.tenant_id", "waba.id"], ondelete="CASCADE"),
    UniqueConstraint("tenant_id", "phone_number_id"),
    system="every_tenant",
)

# A webhook names Meta's ids only. Each belongs to one tenant, which these two make certain.
waba_route = global_table(
    "waba_route",
    Column("waba_id", Text, primary_key=True),
    uuid_column("tenant_id"),
    uuid_column("waba_row_id"),
    # The tenant's own Meta app: its webhook address, verify token and secret (sealed).
    Column("endpoint_key", Text, nullable=False),
    Column("verify_token", Text, nullable=False),
    Column("app_secret_sealed", Text),
    UniqueConstraint("endpoint_key"),
    ForeignKeyConstraint(["tenant_id", "waba_row_id"], ["waba.tenant_id", "waba.id"], ondelete="CASCADE"),
)

number_route = global_table(
    "number_route",
    Column("phone_number_id", Text, primary_key=True),
    uuid_column("tenant_id"),
    uuid_column("number_id"),
    ForeignKeyConstraint(
        ["tenant_id", "number_id"], ["phone_number.tenant_id", "phone_number.id"], ondelete="CASCADE"
    ),
)
