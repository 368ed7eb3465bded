"""Tables of conversations: people, their identities, threads, messages and what Meta said of them."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from relay.kit.schema import tenant_table, uuid_column

TIMESTAMP = DateTime(timezone=True)

contact = tenant_table(
    "contact",
    uuid_column("id"),
    # As WhatsApp reports it: chosen by the person, any Unicode, may be empty.
    Column("profile_name", Text, nullable=False, server_default=""),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], ondelete="CASCADE"),
)

contact_identity = tenant_table(
    "contact_identity",
    # The business portfolio a BSUID or phone is known in; '' until it is known.
    Column("portfolio_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    uuid_column("contact_id"),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    ForeignKeyConstraint(
        ["tenant_id", "contact_id"], ["contact.tenant_id", "contact.id"], ondelete="CASCADE"
    ),
    CheckConstraint("kind IN ('phone', 'bsuid', 'parent_bsuid', 'username')", name="kind"),
    Index("contact_identity_contact_idx", "tenant_id", "contact_id"),
    primary_key=("portfolio_id", "kind", "value"),
)

conversation = tenant_table(
    "conversation",
    uuid_column("id"),
    uuid_column("number_id"),
    uuid_column("contact_id"),
    Column("last_activity_at", TIMESTAMP, nullable=False),
    Column("last_inbound_at", TIMESTAMP),
    Column("unread_count", Integer, nullable=False, server_default=text("0")),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    ForeignKeyConstraint(
        ["tenant_id", "number_id"], ["phone_number.tenant_id", "phone_number.id"], ondelete="CASCADE"
    ),
    ForeignKeyConstraint(
        ["tenant_id", "contact_id"], ["contact.tenant_id", "contact.id"], ondelete="CASCADE"
    ),
    UniqueConstraint("tenant_id", "number_id", "contact_id"),
    Index("conversation_activity_idx", "tenant_id", text("last_activity_at DESC"), text("id DESC")),
)

message = tenant_table(
    "message",
    uuid_column("id"),
    uuid_column("conversation_id"),
    uuid_column("number_id"),
    Column("direction", Text, nullable=False),
    Column("wamid", Text),
    uuid_column("client_id", nullable=True),
    uuid_column("author_id", nullable=True),
    Column("content", JSONB, nullable=False),  # a document of shared.content
    Column("status", Text, nullable=False),  # shared.delivery.DeliveryStatus
    Column("status_rank", SmallInteger, nullable=False),
    Column("status_at", TIMESTAMP),
    Column("error", JSONB),  # shared.wire.inbox.SendError
    Column("reply_to_wamid", Text),
    Column("sent_at", TIMESTAMP, nullable=False),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    ForeignKeyConstraint(
        ["tenant_id", "conversation_id"], ["conversation.tenant_id", "conversation.id"], ondelete="CASCADE"
    ),
    ForeignKeyConstraint(["tenant_id", "author_id"], ["app_user.tenant_id", "app_user.id"]),
    UniqueConstraint("tenant_id", "number_id", "wamid"),
    UniqueConstraint("tenant_id", "client_id"),
    CheckConstraint("direction IN ('inbound', 'outbound')", name="direction"),
    Index("message_timeline_idx", "tenant_id", "conversation_id", text("sent_at DESC"), text("id DESC")),
)

# Every status webhook once, also those that arrive before their message is known here.
message_status = tenant_table(
    "message_status",
    uuid_column("number_id"),
    Column("wamid", Text, nullable=False),
    Column("status", Text, nullable=False),  # Meta's value, known to us or not
    Column("occurred_at", TIMESTAMP, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("received_at", TIMESTAMP, nullable=False, server_default=func.now()),
    ForeignKeyConstraint(
        ["tenant_id", "number_id"], ["phone_number.tenant_id", "phone_number.id"], ondelete="CASCADE"
    ),
    primary_key=("number_id", "wamid", "status"),
)
