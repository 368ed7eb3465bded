"""Tables of the change feed: one gapless counter per tenant, and thin entries that say what changed."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Text,
    func,
    text,
)

from relay.kit.schema import tenant_table, uuid_column

TIMESTAMP = DateTime(timezone=True)

feed_head = tenant_table(
    "feed_head",
    # A new epoch (after a restore) tells every client to start from a snapshot again.
    uuid_column("epoch", server_default=text("gen_random_uuid()")),
    Column("last_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("floor_seq", BigInteger, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], ondelete="CASCADE"),
    primary_key=(),
    system="every_tenant",
)

feed = tenant_table(
    "feed",
    Column("seq", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    uuid_column("entity_id"),
    Column("at", TIMESTAMP, nullable=False, server_default=func.clock_timestamp()),
    ForeignKeyConstraint(["tenant_id"], ["feed_head.tenant_id"], ondelete="CASCADE"),
    CheckConstraint("kind IN ('conversation', 'message')", name="kind"),
    Index("feed_at_idx", "tenant_id", "at"),
    primary_key=("seq",),
    system="every_tenant",
)
