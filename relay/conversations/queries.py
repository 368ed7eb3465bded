"""Every statement on conversations, messages and their statuses. People are in `contact_queries`."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Row, Select, bindparam, func, null, select, text, true, tuple_, update

from relay.accounts.models import user
from relay.conversations.models import contact, contact_identity, conversation, message, message_status
from relay.kit.cursor import Position
from relay.kit.db import TenantWork
from shared.content import Content, summary
from shared.delivery import RANK, DeliveryStatus
from shared.wire.inbox import Contact, Conversation, Direction, LastMessage, Message, SendError

# --- reading, as clients see it -------------------------------------------------------------------

_last = (
    select(message.c.id, message.c.direction, message.c.content, message.c.status, message.c.sent_at)
    .where(message.c.tenant_id == conversation.c.tenant_id, message.c.conversation_id == conversation.c.id)
    .order_by(message.c.sent_at.desc(), message.c.id.desc())
    .limit(1)
    .lateral("last_message")
)


def _newest_identity(kind: str) -> ColumnElement[Any]:
    return (
        select(contact_identity.c.value)
        .where(
            contact_identity.c.tenant_id == conversation.c.tenant_id,
            contact_identity.c.contact_id == conversation.c.contact_id,
            contact_identity.c.kind == kind,
        )
        .order_by(contact_identity.c.created_at.desc(), contact_identity.c.value)
        .limit(1)
        .scalar_subquery()
        .label(kind)
    )


_CONVERSATIONS = (
    select(
        conversation,
        contact.c.profile_name,
        _newest_identity("phone"),
        _newest_identity("username"),
        _last.c.id.label("last_id"),
        _last.c.direction.label("last_direction"),
        _last.c.content.label("last_content"),
        _last.c.status.label("last_status"),
        _last.c.sent_at.label("last_sent_at"),
    )
    .join(
        contact,
        (contact.c.tenant_id == conversation.c.tenant_id) & (contact.c.id == conversation.c.contact_id),
    )
    .join(_last, true(), isouter=True)
)

_MESSAGES = select(message, user.c.name.label("author_name")).join(
    user, (user.c.tenant_id == message.c.tenant_id) & (user.c.id == message.c.author_id), isouter=True
)


async def conversation_rows(work: TenantWork, ids: Collection[UUID]) -> list[Conversation]:
    """These conversations as clients see them, in no particular order; unknown ids are left out."""
    found = conversation.c.id == func.any(bindparam("ids", list(ids), unique=True))
    return await _conversations(work, _CONVERSATIONS.where(found))


async def conversation_page(work: TenantWork, limit: int, before: Position | None) -> list[Conversation]:
    """Up to `limit` conversations, newest activity first, from after `before`."""
    page = _CONVERSATIONS.order_by(conversation.c.last_activity_at.desc(), conversation.c.id.desc())
    if before is not None:
        page = page.where(tuple_(conversation.c.last_activity_at, conversation.c.id) < tuple_(*before))
    return await _conversations(work, page.limit(limit))


async def message_rows(work: TenantWork, ids: Collection[UUID]) -> list[Message]:
    """These messages as clients see them, in no particular order; unknown ids are left out."""
    found = message.c.id == func.any(bindparam("ids", list(ids), unique=True))
    return await _messages(work, _MESSAGES.where(found))


async def message_page(
    work: TenantWork, conversation_id: UUID, limit: int, before: Position | None
) -> list[Message]:
    """Up to `limit` messages of a conversation, newest first, from before `before`."""
    page = _MESSAGES.where(message.c.conversation_id == conversation_id)
    page = page.order_by(message.c.sent_at.desc(), message.c.id.desc())
    if before is not None:
        page = page.where(tuple_(message.c.sent_at, message.c.id) < tuple_(*before))
    return await _messages(work, page.limit(limit))


async def conversation_exists(work: TenantWork, conversation_id: UUID) -> bool:
    """Whether the tenant has this conversation."""
    found = select(conversation.c.id).where(
        conversation.c.tenant_id == work.tenant_id, conversation.c.id == conversation_id
    )
    return (await work.execute(found)).first() is not None


async def _conversations(work: TenantWork, page: Select[Any]) -> list[Conversation]:
    rows = await work.execute(page.where(conversation.c.tenant_id == work.tenant_id))
    return [_to_conversation(row) for row in rows]


async def _messages(work: TenantWork, page: Select[Any]) -> list[Message]:
    rows = await work.execute(page.where(message.c.tenant_id == work.tenant_id))
    return [_to_message(row) for row in rows]


def _to_conversation(row: Row[Any]) -> Conversation:
    last = None
    if row.last_id is not None:
        last = LastMessage(
            id=row.last_id,
            direction=Direction(row.last_direction),
            summary=summary(_content(row.last_content)),
            status=DeliveryStatus(row.last_status),
            sent_at=row.last_sent_at,
        )
    return Conversation(
        id=row.id,
        number_id=row.number_id,
        contact=Contact(id=row.contact_id, name=row.profile_name, phone=row.phone, username=row.username),
        last_activity_at=row.last_activity_at,
        version=row.version,
        unread_count=row.unread_count,
        last_inbound_at=row.last_inbound_at,
        last_message=last,
    )


def _to_message(row: Row[Any]) -> Message:
    return Message(
        id=row.id,
        conversation_id=row.conversation_id,
        direction=Direction(row.direction),
        content=_content(row.content),
        status=DeliveryStatus(row.status),
        sent_at=row.sent_at,
        version=row.version,
        client_id=row.client_id,
        author_id=row.author_id,
        author_name=row.author_name or "",
        status_at=row.status_at,
        error=None if row.error is None else msgspec.convert(row.error, SendError),
        reply_to_wamid=row.reply_to_wamid,
        wamid=row.wamid,
    )


def _content(document: Any) -> Content:
    content: Content = msgspec.convert(document, Content)
    return content


# --- inbound messages -----------------------------------------------------------------------------


async def find_conversations(
    work: TenantWork, pairs: Collection[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], UUID]:
    """The conversations of these (number, contact) pairs, as far as they exist."""
    parameters = {
        "tenant_id": work.tenant_id,
        "numbers": [number_id for number_id, _ in pairs],
        "contacts": [contact_id for _, contact_id in pairs],
    }
    rows = await work.execute(_FIND_CONVERSATIONS, parameters)
    return {(row.number_id, row.contact_id): row.id for row in rows}


_FIND_CONVERSATIONS = text("""
    SELECT c.id, c.number_id, c.contact_id
    FROM unnest(CAST(:numbers AS uuid[]), CAST(:contacts AS uuid[])) AS pair (number_id, contact_id)
    JOIN conversation c ON c.number_id = pair.number_id AND c.contact_id = pair.contact_id
    WHERE c.tenant_id = :tenant_id
""")


async def insert_conversations(work: TenantWork, rows: Sequence[tuple[UUID, UUID, UUID, datetime]]) -> None:
    """Start conversations: (id, number, contact, first activity). One that exists already is left alone."""
    ids, numbers, contacts, times = zip(*rows, strict=True)
    parameters = {
        "tenant_id": work.tenant_id,
        "ids": ids,
        "numbers": numbers,
        "contacts": contacts,
        "times": times,
    }
    await work.execute(_INSERT_CONVERSATIONS, parameters)


_INSERT_CONVERSATIONS = text("""
    INSERT INTO conversation (tenant_id, id, number_id, contact_id, last_activity_at)
    SELECT :tenant_id, *
    FROM unnest(CAST(:ids AS uuid[]), CAST(:numbers AS uuid[]), CAST(:contacts AS uuid[]),
                CAST(:times AS timestamptz[]))
    ON CONFLICT (tenant_id, number_id, contact_id) DO NOTHING
""")


async def insert_inbound(
    work: TenantWork,
    *,
    ids: Sequence[UUID],
    conversations: Sequence[UUID],
    numbers: Sequence[UUID],
    wamids: Sequence[str],
    contents: Sequence[Content],
    times: Sequence[datetime],
    replies: Sequence[str | None],
) -> set[UUID]:
    """Store inbound messages in this order; returns the ids of those that are new."""
    parameters = {
        "tenant_id": work.tenant_id,
        "ids": ids,
        "conversations": conversations,
        "numbers": numbers,
        "wamids": wamids,
        "contents": [msgspec.json.encode(content).decode() for content in contents],
        "times": times,
        "replies": replies,
        "status": DeliveryStatus.RECEIVED,
        "rank": RANK[DeliveryStatus.RECEIVED],
    }
    return set((await work.execute(_INSERT_INBOUND, parameters)).scalars())


_INSERT_INBOUND = text("""
    INSERT INTO message (tenant_id, id, conversation_id, number_id, direction, wamid, content, sent_at,
                         reply_to_wamid, status, status_rank)
    SELECT :tenant_id, m.id, m.conversation_id, m.number_id, 'inbound', m.wamid, CAST(m.content AS jsonb),
           m.sent_at, m.reply_to_wamid, CAST(:status AS text), CAST(:rank AS smallint)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:conversations AS uuid[]), CAST(:numbers AS uuid[]),
                CAST(:wamids AS text[]), CAST(:contents AS text[]), CAST(:times AS timestamptz[]),
                CAST(:replies AS text[]))
         WITH ORDINALITY
         AS m (id, conversation_id, number_id, wamid, content, sent_at, reply_to_wamid, n)
    ORDER BY m.n
    ON CONFLICT DO NOTHING
    RETURNING id
""")


async def note_inbound(work: TenantWork, arrivals: Sequence[tuple[UUID, int, datetime]]) -> None:
    """Count new inbound messages on their conversations: (conversation, how many, newest of their times)."""
    conversations, counts, times = zip(*arrivals, strict=True)
    parameters = {
        "tenant_id": work.tenant_id,
        "conversations": conversations,
        "counts": counts,
        "times": times,
    }
    await work.execute(_NOTE_INBOUND, parameters)


# greatest() ignores NULL. Meta's times decide: a late webhook neither reopens the window nor moves the list.
_NOTE_INBOUND = text("""
    UPDATE conversation c
    SET last_inbound_at = greatest(c.last_inbound_at, a.newest),
        last_activity_at = greatest(c.last_activity_at, a.newest),
        unread_count = c.unread_count + a.count,
        version = c.version + 1
    FROM unnest(CAST(:conversations AS uuid[]), CAST(:counts AS int[]), CAST(:times AS timestamptz[]))
         AS a (conversation_id, count, newest)
    WHERE c.tenant_id = :tenant_id AND c.id = a.conversation_id
""")


async def bump_conversations_of(work: TenantWork, contact_ids: Collection[UUID]) -> list[UUID]:
    """A new version for every conversation of these people, whose name or identities changed."""
    bump = (
        update(conversation)
        .where(
            conversation.c.tenant_id == work.tenant_id,
            conversation.c.contact_id == func.any(bindparam("contacts", list(contact_ids), unique=True)),
        )
        .values(version=conversation.c.version + 1)
        .returning(conversation.c.id)
    )
    return list((await work.execute(bump)).scalars())


async def lock_conversation(work: TenantWork, conversation_id: UUID) -> bool:
    """Hold off new messages of this conversation until the transaction ends. False if there is none."""
    lock = (
        select(conversation.c.id)
        .where(conversation.c.tenant_id == work.tenant_id, conversation.c.id == conversation_id)
        .with_for_update()
    )
    return (await work.execute(lock)).first() is not None


async def lower_unread(work: TenantWork, conversation_id: UUID, message_id: UUID) -> bool | None:
    """Lower a locked conversation's unread count to what came after this message.

    Returns whether it changed, None if the conversation has no such message.
    """
    parameters = {
        "tenant_id": work.tenant_id,
        "conversation_id": conversation_id,
        "message_id": message_id,
    }
    row = (await work.execute(_LOWER_UNREAD, parameters)).one()
    return row.changed if row.known else None


_LOWER_UNREAD = text("""
    WITH seen AS (
        SELECT m.sent_at, m.id FROM message m
        WHERE m.tenant_id = :tenant_id AND m.conversation_id = :conversation_id AND m.id = :message_id
    ), rest AS (
        SELECT count(m.id) AS unread
        FROM seen LEFT JOIN message m
            ON m.tenant_id = :tenant_id AND m.conversation_id = :conversation_id
            AND (m.sent_at, m.id) > (seen.sent_at, seen.id) AND m.direction = 'inbound'
    ), changed AS (
        UPDATE conversation c SET unread_count = rest.unread, version = c.version + 1
        FROM rest
        WHERE c.tenant_id = :tenant_id AND c.id = :conversation_id AND c.unread_count > rest.unread
            AND EXISTS (SELECT FROM seen)
        RETURNING c.id
    )
    SELECT EXISTS (SELECT FROM seen) AS known, EXISTS (SELECT FROM changed) AS changed
""")


# --- statuses -------------------------------------------------------------------------------------


async def insert_statuses(
    work: TenantWork,
    *,
    numbers: Sequence[UUID],
    wamids: Sequence[str],
    statuses: Sequence[str],
    times: Sequence[datetime],
    payloads: Sequence[dict[str, Any]],
) -> None:
    """Keep what Meta reported, each status of a message once."""
    parameters = {
        "tenant_id": work.tenant_id,
        "numbers": numbers,
        "wamids": wamids,
        "statuses": statuses,
        "times": times,
        "payloads": [msgspec.json.encode(payload).decode() for payload in payloads],
    }
    await work.execute(_INSERT_STATUSES, parameters)


_INSERT_STATUSES = text("""
    INSERT INTO message_status (tenant_id, number_id, wamid, status, occurred_at, payload)
    SELECT :tenant_id, s.number_id, s.wamid, s.status, s.occurred_at, CAST(s.payload AS jsonb)
    FROM unnest(CAST(:numbers AS uuid[]), CAST(:wamids AS text[]), CAST(:statuses AS text[]),
                CAST(:times AS timestamptz[]), CAST(:payloads AS text[]))
         AS s (number_id, wamid, status, occurred_at, payload)
    ON CONFLICT DO NOTHING
""")


async def statuses_of(
    work: TenantWork, keys: Collection[tuple[UUID, str]]
) -> list[tuple[UUID, str, str, datetime, dict[str, Any]]]:
    """What Meta reported about these (number, wamid) so far: (number, wamid, status, when, payload)."""
    parameters = {
        "tenant_id": work.tenant_id,
        "numbers": [number_id for number_id, _ in keys],
        "wamids": [wamid for _, wamid in keys],
    }
    rows = await work.execute(_STATUSES_OF, parameters)
    return [(row.number_id, row.wamid, row.status, row.occurred_at, row.payload) for row in rows]


_STATUSES_OF = text("""
    SELECT s.number_id, s.wamid, s.status, s.occurred_at, s.payload
    FROM unnest(CAST(:numbers AS uuid[]), CAST(:wamids AS text[])) AS key (number_id, wamid)
    JOIN message_status s ON s.number_id = key.number_id AND s.wamid = key.wamid
    WHERE s.tenant_id = :tenant_id
""").columns(payload=message_status.c.payload.type)


async def known_wamids(work: TenantWork, keys: Collection[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Which of these (number, wamid) name a stored message."""
    parameters = {
        "tenant_id": work.tenant_id,
        "numbers": [number_id for number_id, _ in keys],
        "wamids": [wamid for _, wamid in keys],
    }
    return {(row.number_id, row.wamid) for row in await work.execute(_KNOWN_WAMIDS, parameters)}


_KNOWN_WAMIDS = text("""
    SELECT m.number_id, m.wamid
    FROM unnest(CAST(:numbers AS uuid[]), CAST(:wamids AS text[])) AS key (number_id, wamid)
    JOIN message m ON m.number_id = key.number_id AND m.wamid = key.wamid
    WHERE m.tenant_id = :tenant_id
""")


async def lock_wamids(work: TenantWork, locks: Collection[int]) -> None:
    """Wait for every other transaction that is pairing one of these messages with its statuses."""
    parameters = {"locks": sorted(set(locks))}
    await work.execute(
        text("SELECT pg_advisory_xact_lock(k) FROM unnest(CAST(:locks AS bigint[])) AS k"), parameters
    )


class Move(NamedTuple):
    """A status to move a message to, if that is forward."""

    number_id: UUID
    wamid: str
    status: DeliveryStatus
    at: datetime
    error: SendError | None


async def advance(work: TenantWork, moves: Sequence[Move]) -> list[tuple[UUID, UUID]]:
    """Move messages forward, one move per message; returns (message, conversation) of those that moved."""
    parameters = {
        "tenant_id": work.tenant_id,
        "numbers": [move.number_id for move in moves],
        "wamids": [move.wamid for move in moves],
        "statuses": [move.status for move in moves],
        "ranks": [RANK[move.status] for move in moves],
        "times": [move.at for move in moves],
        "errors": [_json_or_none(move.error) for move in moves],
    }
    rows = await work.execute(_ADVANCE, parameters)
    return [(row.id, row.conversation_id) for row in rows]


_ADVANCE = text("""
    UPDATE message m
    SET status = s.status, status_rank = s.rank, status_at = s.at, error = CAST(s.error AS jsonb),
        version = m.version + 1
    FROM unnest(CAST(:numbers AS uuid[]), CAST(:wamids AS text[]), CAST(:statuses AS text[]),
                CAST(:ranks AS smallint[]), CAST(:times AS timestamptz[]), CAST(:errors AS text[]))
         AS s (number_id, wamid, status, rank, at, error)
    WHERE m.tenant_id = :tenant_id AND m.number_id = s.number_id AND m.wamid = s.wamid
        AND m.status_rank < s.rank
    RETURNING m.id, m.conversation_id
""")


async def advance_one(
    work: TenantWork, message_id: UUID, status: DeliveryStatus, at: datetime, error: SendError | None
) -> UUID | None:
    """Move one message forward; returns its conversation, None if it stays where it is."""
    moved = await work.execute(
        update(message)
        .where(
            message.c.tenant_id == work.tenant_id,
            message.c.id == message_id,
            message.c.status_rank < RANK[status],
        )
        .values(
            status=status,
            status_rank=RANK[status],
            status_at=at,
            error=null() if error is None else msgspec.to_builtins(error),
            version=message.c.version + 1,
        )
        .returning(message.c.conversation_id)
    )
    return moved.scalar_one_or_none()


async def bump_where_newest(work: TenantWork, moved: Collection[tuple[UUID, UUID]]) -> list[UUID]:
    """A new version for each conversation whose newest message is among the moved (message, conversation)."""
    parameters = {
        "tenant_id": work.tenant_id,
        "messages": [message_id for message_id, _ in moved],
        "conversations": list({conversation_id for _, conversation_id in moved}),
    }
    return list((await work.execute(_BUMP_WHERE_NEWEST, parameters)).scalars())


_BUMP_WHERE_NEWEST = text("""
    UPDATE conversation c SET version = c.version + 1
    WHERE c.tenant_id = :tenant_id AND c.id = ANY(CAST(:conversations AS uuid[]))
        AND (
            SELECT m.id FROM message m
            WHERE m.tenant_id = c.tenant_id AND m.conversation_id = c.id
            ORDER BY m.sent_at DESC, m.id DESC LIMIT 1
        ) = ANY(CAST(:messages AS uuid[]))
    RETURNING c.id
""")


def _json_or_none(error: SendError | None) -> str | None:
    return None if error is None else msgspec.json.encode(error).decode()
