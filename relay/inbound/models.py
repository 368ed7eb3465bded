"""Tables of inbound work: raw webhooks as Meta sent them, and the items they were split into."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from relay.kit.schema import global_table, uuid_column

TIMESTAMP = DateTime(timezone=True)

# Partitioned by day. `scope_tenant_id` is set when a tenant's own Meta app signed the body: its items may
# reach that tenant's numbers only.
webhook_raw = global_table(
    "webhook_raw",
    Column("received_at", TIMESTAMP, nullable=False, server_default=func.clock_timestamp()),
    Column("id", BigInteger, Identity(), nullable=False),
    uuid_column("scope_tenant_id", nullable=True),
    Column("body", LargeBinary, nullable=False),
    Column("headers", JSONB, nullable=False, server_default=text("'{}'")),
    Column("state", Text, nullable=False, server_default="new"),  # new, split, parked
    Column("error", Text),
    PrimaryKeyConstraint("received_at", "id"),
    Index("webhook_raw_new_idx", "id", postgresql_where=text("state = 'new'")),
    postgresql_partition_by="RANGE (received_at)",
)

# One message, status or other change. Items of one lane are applied in the order of their ids.
webhook_item = global_table(
    "webhook_item",
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("raw_received_at", TIMESTAMP, nullable=False),
    Column("raw_id", BigInteger, nullable=False),
    Column("ordinal", Integer, nullable=False),  # position within the raw webhook
    uuid_column("tenant_id", nullable=True),  # unknown numbers have none and are parked
    uuid_column("number_id", nullable=True),
    Column("field", Text, nullable=False),  # Meta's webhook field
    Column("kind", Text, nullable=False),  # message, status, error, change
    Column("lane_hash", BigInteger, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default="new"),  # new, kept, parked; applied items go
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("not_before", TIMESTAMP),
    Column("error", Text),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.clock_timestamp()),
    Index("webhook_item_new_idx", "tenant_id", "id", postgresql_where=text("state = 'new'")),
    Index("webhook_item_lane_idx", "tenant_id", "lane_hash", "id", postgresql_where=text("state = 'new'")),
    Index(
        "webhook_item_waiting_idx",
        "tenant_id",
        "lane_hash",
        postgresql_where=text("state = 'new' AND not_before IS NOT NULL"),
    ),
    Index("webhook_item_resting_idx", "id", postgresql_where=text("state <> 'new'")),
    Index("webhook_item_raw_idx", "raw_received_at", "raw_id"),
)

# The lane of a person on a number, by a hash of each identity seen: a webhook may show the BSUID, the phone
# number, or both, and all of them must end up in one lane.
webhook_lane = global_table(
    "webhook_lane",
    uuid_column("number_id", primary_key=True),
    Column("person_hash", BigInteger, primary_key=True, autoincrement=False),
    Column("lane_hash", BigInteger, nullable=False),
    uuid_column("tenant_id"),
    ForeignKeyConstraint(
        ["tenant_id", "number_id"], ["phone_number.tenant_id", "phone_number.id"], ondelete="CASCADE"
    ),
)
