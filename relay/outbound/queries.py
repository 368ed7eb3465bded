"""Statements on messages that an agent sends. Attempts are in `attempt_queries`, the claim in `pacing`."""

from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB

from relay.kit.db import TenantWork
from relay.outbound.pacing import PRIORITY_WAIT_SECONDS
from shared.content import TextContent
from shared.delivery import RANK, DeliveryStatus
from shared.wire.inbox import SendError

# --- taking a message from an agent ---------------------------------------------------------------


class Target(NamedTuple):
    """Where a conversation's next message goes. `phone` and `bsuid` are the person's newest of each."""

    number_id: UUID
    last_inbound_at: datetime | None
    phone: str | None
    bsuid: str | None
    now: datetime


async def lock_target(
    work: TenantWork, conversation_id: UUID, *, now: datetime | None = None
) -> Target | None:
    """Where to send, with the conversation locked, so that its messages get their places one by one."""
    parameters = {"tenant_id": work.tenant_id, "conversation_id": conversation_id, "now": now}
    row = (await work.execute(_LOCK_TARGET, parameters)).one_or_none()
    return None if row is None else Target._make(row)


_NEWEST: Final = """(
    SELECT i.value FROM contact_identity i
    WHERE i.tenant_id = c.tenant_id AND i.contact_id = c.contact_id AND i.kind = '{kind}'
    ORDER BY i.created_at DESC, i.value LIMIT 1
)"""
_LOCK_TARGET = text(f"""
    SELECT c.number_id, c.last_inbound_at, {_NEWEST.format(kind="phone")}, {_NEWEST.format(kind="bsuid")},
        coalesce(CAST(:now AS timestamptz), clock_timestamp())
    FROM conversation c
    WHERE c.tenant_id = :tenant_id AND c.id = :conversation_id
    FOR UPDATE OF c
""")  # noqa: S608 - constants of this file


async def find_by_client_id(work: TenantWork, client_id: UUID) -> tuple[UUID, UUID, Any] | None:
    """The message that was made under this client id: (message, conversation, content)."""
    parameters = {"tenant_id": work.tenant_id, "client_id": client_id}
    row = (await work.execute(_BY_CLIENT_ID, parameters)).one_or_none()
    return None if row is None else (row.id, row.conversation_id, row.content)


_BY_CLIENT_ID = text("""
    SELECT id, conversation_id, content FROM message
    WHERE tenant_id = :tenant_id AND client_id = :client_id
""").columns(content=JSONB())


async def insert_message(
    work: TenantWork,
    *,
    client_id: UUID,
    conversation_id: UUID,
    number_id: UUID,
    author_id: UUID,
    content: TextContent,
    at: datetime,
) -> bool:
    """Store an agent's message under its client id. False if a message of that id exists."""
    parameters = {
        "tenant_id": work.tenant_id,
        "id": client_id,
        "conversation_id": conversation_id,
        "number_id": number_id,
        "author_id": author_id,
        "content": msgspec.json.encode(content).decode(),
        "status": DeliveryStatus.QUEUED,
        "rank": RANK[DeliveryStatus.QUEUED],
        "at": at,
    }
    return (await work.execute(_INSERT_MESSAGE, parameters)).first() is not None


_INSERT_MESSAGE = text("""
    INSERT INTO message (tenant_id, id, client_id, conversation_id, number_id, author_id, direction, content,
                         status, status_rank, status_at, sent_at)
    VALUES (:tenant_id, :id, :id, :conversation_id, :number_id, :author_id, 'outbound',
            CAST(:content AS jsonb), :status, :rank, :at, :at)
    ON CONFLICT DO NOTHING
    RETURNING id
""")


async def enqueue(
    work: TenantWork,
    *,
    message_id: UUID,
    conversation_id: UUID,
    number_id: UUID,
    recipient: str,
    recipient_kind: str,
    at: datetime,
    priority: int = 0,
) -> int | None:
    """Put a message in line. Returns Meta's code if the number's queue is held because of one."""
    parameters = {
        "tenant_id": work.tenant_id,
        "message_id": message_id,
        "conversation_id": conversation_id,
        "number_id": number_id,
        "recipient": recipient,
        "recipient_kind": recipient_kind,
        "priority": priority,
        "wait": priority * PRIORITY_WAIT_SECONDS,
        "at": at,
    }
    await work.execute(_ENQUEUE, parameters)
    key = {"tenant_id": work.tenant_id, "number_id": number_id}
    await work.execute(_ENSURE_PACE, key)
    code: int | None = (await work.execute(_HOLD_CODE, key)).scalar_one()
    return code


# Attempts of an earlier stay in the queue keep their numbers.
_ENQUEUE = text("""
    INSERT INTO send_queue (tenant_id, message_id, conversation_id, number_id, recipient, recipient_kind,
                            priority, due_at, turn_at, created_at, attempts)
    SELECT :tenant_id, :message_id, :conversation_id, :number_id, :recipient, :recipient_kind,
        CAST(:priority AS smallint), CAST(:at AS timestamptz),
        CAST(:at AS timestamptz) + make_interval(secs => :wait), CAST(:at AS timestamptz),
        (SELECT coalesce(max(a.n), 0) FROM send_attempt a
         WHERE a.tenant_id = :tenant_id AND a.message_id = :message_id)
""")
_ENSURE_PACE = text("""
    INSERT INTO number_pace (tenant_id, number_id) VALUES (:tenant_id, :number_id) ON CONFLICT DO NOTHING
""")
_HOLD_CODE = text("""
    SELECT hold_code FROM number_pace WHERE tenant_id = :tenant_id AND number_id = :number_id
""")


async def note_outbound(work: TenantWork, conversation_id: UUID, at: datetime) -> None:
    """A message was added to the conversation."""
    parameters = {"tenant_id": work.tenant_id, "conversation_id": conversation_id, "at": at}
    await work.execute(_NOTE_OUTBOUND, parameters)


_NOTE_OUTBOUND = text("""
    UPDATE conversation
    SET last_activity_at = greatest(last_activity_at, CAST(:at AS timestamptz)), version = version + 1
    WHERE tenant_id = :tenant_id AND id = :conversation_id
""")


async def requeue_by_hand(work: TenantWork, message_id: UUID, at: datetime) -> None:
    """The agent sends a message again: it starts over from the bottom of the ladder, without a wamid."""
    parameters = {
        "tenant_id": work.tenant_id,
        "message_id": message_id,
        "status": DeliveryStatus.QUEUED,
        "rank": RANK[DeliveryStatus.QUEUED],
        "at": at,
    }
    await work.execute(_START_OVER, parameters)


_START_OVER = text("""
    UPDATE message
    SET status = :status, status_rank = :rank, status_at = :at, error = NULL, wamid = NULL,
        version = version + 1
    WHERE tenant_id = :tenant_id AND id = :message_id
""")


async def lock_message(work: TenantWork, conversation_id: UUID, message_id: UUID) -> DeliveryStatus | None:
    """The status of an outbound message of this conversation, with its row locked; None if there is none."""
    parameters = {
        "tenant_id": work.tenant_id,
        "conversation_id": conversation_id,
        "message_id": message_id,
    }
    status = (await work.execute(_LOCK_MESSAGE, parameters)).scalar_one_or_none()
    return None if status is None else DeliveryStatus(status)


_LOCK_MESSAGE = text("""
    SELECT status FROM message
    WHERE tenant_id = :tenant_id AND conversation_id = :conversation_id AND id = :message_id
        AND direction = 'outbound'
    FOR UPDATE
""")


async def read_clock(work: TenantWork) -> datetime:
    """The database's time, which all processes share."""
    at: datetime = (await work.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return at


async def set_error(work: TenantWork, message_id: UUID, error: SendError | None) -> UUID | None:
    """Say on a waiting message what it waits for; returns its conversation, None if nothing changed."""
    parameters = {
        "tenant_id": work.tenant_id,
        "message_id": message_id,
        "error": None if error is None else msgspec.json.encode(error).decode(),
    }
    return (await work.execute(_SET_ERROR, parameters)).scalar_one_or_none()


_SET_ERROR = text(f"""
    UPDATE message SET error = CAST(:error AS jsonb), version = version + 1
    WHERE tenant_id = :tenant_id AND id = :message_id AND status_rank < {RANK[DeliveryStatus.ACCEPTED]}
        AND error IS DISTINCT FROM CAST(:error AS jsonb)
    RETURNING conversation_id
""")  # noqa: S608 - a constant
