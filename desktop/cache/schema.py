"""The cache's tables.

A row that came from the relay is kept whole as its JSON document (`doc`); the columns beside it are what SQL
sorts, filters and joins by. Times are microseconds UTC, ids are their 16 bytes: both sort as the relay sorts.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

STALE = -1
"""`version` of a row from before a resync: any row from the relay replaces it."""


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """The inverse of `micros`."""
    return _EPOCH + timedelta(microseconds=value)


class Id(TypeDecorator[UUID]):
    """A UUID as its 16 bytes."""

    impl = LargeBinary(16)
    cache_ok = True

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else value.bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:  # noqa: ARG002
        return None if value is None else UUID(bytes=value)


metadata = MetaData()

# One row: who this cache belongs to, so that it opens without a network.
account = Table(
    "account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("me", LargeBinary, nullable=False),
)

# One row: how far the cache follows the relay's feed. Written in the transaction of the rows it covers.
sync_state = Table(
    "sync_state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("epoch", Id),
    Column("cursor", Integer, nullable=False, default=0),
    Column("snapshot_cursor", String),
    Column("snapshot_done", Boolean, nullable=False, default=False),
    Column("last_sync_at", Integer),
)

conversation = Table(
    "conversation",
    metadata,
    Column("id", Id, primary_key=True),
    Column("activity_at", Integer, nullable=False),
    Column("unread_count", Integer, nullable=False),
    Column("last_inbound_at", Integer),
    Column("search", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("doc", LargeBinary, nullable=False),
)
# Cover listing and searching, so that neither reads the documents of rows it does not show.
Index(
    "conversation_inbox",
    conversation.c.activity_at.desc(),
    conversation.c.id.desc(),
    conversation.c.search,
)
Index(
    "conversation_unread",
    conversation.c.activity_at.desc(),
    conversation.c.id.desc(),
    conversation.c.search,
    conversation.c.unread_count,
    sqlite_where=conversation.c.unread_count > 0,
)

# One row, kept by triggers: counting 100,000 rows would mean decrypting them.
inbox_count = Table(
    "inbox_count",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("total", Integer, nullable=False),
    Column("unread", Integer, nullable=False),
)
_COUNT = "UPDATE inbox_count SET total = total + ({total}), unread = unread + ({unread})"
INBOX_COUNT_DDL = (
    "INSERT INTO inbox_count VALUES (1, 0, 0)",
    "CREATE TRIGGER conversation_added AFTER INSERT ON conversation BEGIN "
    + _COUNT.format(total="1", unread="new.unread_count > 0")
    + "; END",
    "CREATE TRIGGER conversation_removed AFTER DELETE ON conversation BEGIN "
    + _COUNT.format(total="-1", unread="-(old.unread_count > 0)")
    + "; END",
    "CREATE TRIGGER conversation_read AFTER UPDATE OF unread_count ON conversation "
    "WHEN (old.unread_count > 0) <> (new.unread_count > 0) BEGIN "
    + _COUNT.format(total="0", unread="(new.unread_count > 0) - (old.unread_count > 0)")
    + "; END",
)

message = Table(
    "message",
    metadata,
    Column("id", Id, primary_key=True),
    Column("conversation_id", Id, nullable=False),
    Column("sent_at", Integer, nullable=False),
    Column("client_id", Id),
    Column("version", Integer, nullable=False),
    Column("doc", LargeBinary, nullable=False),
)
Index("message_timeline", message.c.conversation_id, message.c.sent_at, message.c.id)

# Down to which message a conversation's history is complete. No row: unknown. `next_before` is the relay's
# cursor to the page above; NULL: the start of the conversation is reached and `from_*` are the minimum.
history = Table(
    "history",
    metadata,
    Column("conversation_id", Id, primary_key=True),
    Column("from_at", Integer, nullable=False),
    Column("from_id", Id, nullable=False),
    Column("next_before", String),
)

# Messages that the relay has not taken yet; `seq` is the order of writing. `doc` is the echo.
outbox = Table(
    "outbox",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("client_id", Id, nullable=False, unique=True),
    Column("conversation_id", Id, nullable=False, index=True),
    Column("seen_message_id", Id),
    Column("doc", LargeBinary, nullable=False),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Integer),
    Column("code", String, nullable=False),
    Column("title", String, nullable=False),
    Column("advice", String, nullable=False),
    Column("maybe_sent", Boolean, nullable=False),
    Column("created_at", Integer, nullable=False),
    sqlite_autoincrement=True,
)

draft = Table(
    "draft",
    metadata,
    Column("conversation_id", Id, primary_key=True),
    Column("text", String, nullable=False),
    Column("saved_at", Integer, nullable=False),
)

# What was read here and the relay does not know yet: inbound messages up to `up_to` count as read.
read_mark = Table(
    "read_mark",
    metadata,
    Column("conversation_id", Id, primary_key=True),
    Column("message_id", Id, nullable=False),
    Column("up_to", Integer, nullable=False),
)
