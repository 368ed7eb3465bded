"""Tables of outbound work: the queue, every attempt, and the pace of numbers and pairs."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Float,
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

# One row per message to send; it goes when the message has reached an end.
send_queue = tenant_table(
    "send_queue",
    uuid_column("message_id"),
    uuid_column("number_id"),
    uuid_column("conversation_id"),
    Column("recipient", Text, nullable=False),  # the pair: a phone number or a BSUID
    Column("recipient_kind", Text, nullable=False),  # phone, bsuid
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),  # 0 replies … 20 campaigns
    Column("state", Text, nullable=False, server_default="queued"),
    Column("due_at", TIMESTAMP, nullable=False, server_default=func.clock_timestamp()),
    # The place in the number's line: due_at, later by a wait that grows with `priority`. So replies go first,
    # and a campaign's turn still comes however many replies there are.
    Column("turn_at", TIMESTAMP, nullable=False, server_default=func.clock_timestamp()),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.clock_timestamp()),
    ForeignKeyConstraint(
        ["tenant_id", "message_id"], ["message.tenant_id", "message.id"], ondelete="CASCADE"
    ),
    CheckConstraint("state IN ('queued', 'claimed', 'unknown')", name="state"),
    CheckConstraint("recipient_kind IN ('phone', 'bsuid')", name="recipient_kind"),
    Index(
        "send_queue_turn_idx", "tenant_id", "number_id", "turn_at", postgresql_where=text("state = 'queued'")
    ),
    Index("send_queue_conversation_idx", "tenant_id", "conversation_id"),
    primary_key=("message_id",),
    system="every_tenant",
)

# Committed before a byte leaves. Its signed id travels as Meta's biz_opaque_callback_data.
# `started_at` is set just before the request begins: without it, certainly nothing was sent.
# `check_at` is when the reconciler looks: a claim's lease ends, an unknown outcome has been quiet for long.
send_attempt = tenant_table(
    "send_attempt",
    uuid_column("id"),
    uuid_column("message_id"),
    Column("n", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("check_at", TIMESTAMP),
    Column("claimed_at", TIMESTAMP, nullable=False, server_default=func.clock_timestamp()),
    Column("started_at", TIMESTAMP),
    Column("finished_at", TIMESTAMP),
    Column("wamid", Text),
    Column("error_code", Integer),
    Column("detail", JSONB),
    ForeignKeyConstraint(
        ["tenant_id", "message_id"], ["message.tenant_id", "message.id"], ondelete="CASCADE"
    ),
    UniqueConstraint("tenant_id", "message_id", "n"),
    CheckConstraint(
        "state IN ('claimed', 'accepted', 'retry_later', 'failed', 'unknown', 'unconfirmed')", name="state"
    ),
    Index("send_attempt_check_idx", "check_at", postgresql_where=text("state IN ('claimed', 'unknown')")),
    system="every_tenant",
)

# GCRA: `next_at` is the theoretical arrival time of the next message, of a number or of a pair.
# `rate_factor` slows a number that Meta throttled at `slowed_at`; it recovers with time. `strikes` counts
# failures in a row that say nothing gets through; from a few on, one message at a time tries the line after
# each hold. `hold_code` is Meta's code where it says why.
number_pace = tenant_table(
    "number_pace",
    uuid_column("number_id"),
    Column("next_at", TIMESTAMP, nullable=False, server_default=text("'epoch'")),
    Column("served_at", TIMESTAMP, nullable=False, server_default=text("'epoch'")),
    Column("rate_factor", Float, nullable=False, server_default=text("1")),
    Column("slowed_at", TIMESTAMP, nullable=False, server_default=text("'epoch'")),
    Column("hold_until", TIMESTAMP, nullable=False, server_default=text("'epoch'")),
    Column("hold_code", Integer),
    Column("strikes", SmallInteger, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(
        ["tenant_id", "number_id"], ["phone_number.tenant_id", "phone_number.id"], ondelete="CASCADE"
    ),
    primary_key=("number_id",),
    system="every_tenant",
)

pair_pace = tenant_table(
    "pair_pace",
    uuid_column("number_id"),
    Column("recipient", Text, nullable=False),
    Column("next_at", TIMESTAMP, nullable=False),
    Column("backoff", SmallInteger, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(
        ["tenant_id", "number_id"], ["phone_number.tenant_id", "phone_number.id"], ondelete="CASCADE"
    ),
    primary_key=("number_id", "recipient"),
    system="every_tenant",
)
