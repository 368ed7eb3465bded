"""How views ask the cache. Each query is one short read of one moment; writers do not block it.

The functions below the class build rows inside a transaction of the caller: the engine uses them to tell what
it has just written.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Row, Select, case, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from desktop.cache.rows import (
    ConversationRow,
    Edge,
    InboxCounts,
    InboxPage,
    InboxPosition,
    InboxQuery,
    MessagePosition,
    MessageRow,
    OutboxState,
    TimelineSlice,
    Unsent,
    UnsentMessage,
)
from desktop.cache.schema import conversation, draft, history, inbox_count, message, micros, moment, outbox
from desktop.cache.store import Cache
from shared.content import summary
from shared.delivery import DeliveryStatus
from shared.phones import display
from shared.wire.inbox import Conversation, Message

INBOX_PAGE = 60
TIMELINE_PAGE = 100
TIMELINE_WINDOW = 200

AnyRow = Row[*tuple[Any, ...]]

_decode_conversation = msgspec.json.Decoder(Conversation).decode
_decode_message = msgspec.json.Decoder(Message).decode

_ECHO_STATUS = {
    OutboxState.QUEUED: DeliveryStatus.QUEUED,
    OutboxState.SENDING: DeliveryStatus.SENDING,
    OutboxState.RETRY_WAIT: DeliveryStatus.QUEUED,
    OutboxState.WEDGED: DeliveryStatus.FAILED,
}


class Queries:
    """Reads for the views. Raises `CacheError` when the file cannot be read."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def inbox_page(
        self, query: InboxQuery, after: InboxPosition | None = None, limit: int = INBOX_PAGE
    ) -> InboxPage:
        """The conversations below `after` (None: from the top), newest activity first."""
        wanted = select(conversation.c.id).where(*_matches(query))
        if after is not None:
            wanted = wanted.where(
                tuple_(conversation.c.activity_at, conversation.c.id) < (after.at, after.id)
            )
        wanted = wanted.order_by(conversation.c.activity_at.desc(), conversation.c.id.desc()).limit(limit + 1)
        async with self._cache.reading() as connection:
            ids = (await connection.scalars(wanted)).all()
            rows = await conversation_rows(connection, ids[:limit])
        return InboxPage(tuple(rows), rows[-1].position if len(ids) > limit else None)

    async def inbox_counts(self, query: InboxQuery | None = None) -> InboxCounts:
        """How many conversations match `query` (None: all), and how many of those are unread."""
        async with self._cache.reading() as connection:
            if query is None or query == InboxQuery():
                row = (await connection.execute(select(inbox_count.c.total, inbox_count.c.unread))).one()
                return InboxCounts(row.total, row.unread)
            unread = await connection.scalar(_count(InboxQuery(query.search, unread_only=True)))
            total = unread if query.unread_only else await connection.scalar(_count(query))
        return InboxCounts(total or 0, unread or 0)

    async def conversation(self, conversation_id: UUID) -> ConversationRow | None:
        async with self._cache.reading() as connection:
            rows = await conversation_rows(connection, [conversation_id])
        return rows[0] if rows else None

    async def timeline_newest(self, conversation_id: UUID, limit: int = TIMELINE_WINDOW) -> TimelineSlice:
        """The end of a conversation, unsent messages included (they do not count towards `limit`)."""
        async with self._cache.reading() as connection:
            rows, older, complete = await _upwards(connection, conversation_id, None, limit)
            echoes = await outbox_rows(connection, outbox.c.conversation_id == conversation_id)
        return TimelineSlice((*rows, *echoes), older, Edge.END, complete)

    async def timeline_before(
        self, conversation_id: UUID, before: MessagePosition, limit: int = TIMELINE_PAGE
    ) -> TimelineSlice:
        """Rows directly above `before`, without it."""
        async with self._cache.reading() as connection:
            above = None if before.pending else before
            rows, older, complete = await _upwards(connection, conversation_id, above, limit)
            echoes: list[MessageRow] = []
            if before.pending:
                echoes = await outbox_rows(
                    connection, outbox.c.conversation_id == conversation_id, outbox.c.seq < before.at
                )
        return TimelineSlice((*rows, *echoes), older, Edge.CACHED, complete)

    async def timeline_after(
        self, conversation_id: UUID, after: MessagePosition, limit: int = TIMELINE_PAGE
    ) -> TimelineSlice:
        """Rows directly below `after`, without it."""
        async with self._cache.reading() as connection:
            of_conversation = outbox.c.conversation_id == conversation_id
            if after.pending:
                echoes = await outbox_rows(connection, of_conversation, outbox.c.seq > after.at)
                return TimelineSlice(tuple(echoes), Edge.CACHED, Edge.END, complete=True)
            below = (
                select(message.c.doc)
                .where(
                    message.c.conversation_id == conversation_id,
                    tuple_(message.c.sent_at, message.c.id) > (after.at, after.id),
                )
                .order_by(message.c.sent_at, message.c.id)
                .limit(limit + 1)
            )
            docs = (await connection.scalars(below)).all()
            rows = [message_row(_decode_message(doc)) for doc in docs[:limit]]
            known = await _known_history(connection, conversation_id)
            if len(docs) > limit:
                return TimelineSlice(tuple(rows), Edge.CACHED, Edge.CACHED, known is not None)
            rows += await outbox_rows(connection, of_conversation)
        return TimelineSlice(tuple(rows), Edge.CACHED, Edge.END, known is not None)

    async def draft(self, conversation_id: UUID) -> str:
        """What the composer held; empty if nothing."""
        wanted = select(draft.c.text).where(draft.c.conversation_id == conversation_id)
        async with self._cache.reading() as connection:
            return await connection.scalar(wanted) or ""

    async def unsent(self) -> list[UnsentMessage]:
        """Everything in the outbox, oldest first."""
        async with self._cache.reading() as connection:
            return await unsent_messages(connection)


async def conversation_rows(connection: AsyncConnection, ids: Iterable[UUID]) -> list[ConversationRow]:
    """The rows of these conversations, newest activity first; ids that are not cached are left out."""
    of_row = outbox.c.conversation_id == conversation.c.id
    unsent = select(func.count()).where(of_row).scalar_subquery()
    wedged = select(func.count()).where(of_row, outbox.c.state == OutboxState.WEDGED).scalar_subquery()
    newest = select(outbox.c.doc).where(of_row).order_by(outbox.c.seq.desc()).limit(1).scalar_subquery()
    wanted = (
        select(
            conversation.c.doc,
            conversation.c.activity_at,
            conversation.c.unread_count,
            func.coalesce(draft.c.text, "").label("draft"),
            unsent.label("unsent"),
            wedged.label("wedged"),
            newest.label("newest_unsent"),
        )
        .outerjoin(draft, draft.c.conversation_id == conversation.c.id)
        .where(conversation.c.id.in_(list(ids)))
        .order_by(conversation.c.activity_at.desc(), conversation.c.id.desc())
    )
    return [_conversation_row(row) for row in await connection.execute(wanted)]


def _conversation_row(row: AnyRow) -> ConversationRow:
    document = _decode_conversation(row.doc)
    return ConversationRow(
        id=document.id,
        number_id=document.number_id,
        contact_id=document.contact.id,
        name=document.contact.name,
        phone=document.contact.phone and display(document.contact.phone),
        username=document.contact.username,
        position=InboxPosition(row.activity_at, document.id),
        activity_at=moment(row.activity_at),
        version=document.version,
        unread_count=row.unread_count,
        last_inbound_at=document.last_inbound_at,
        last_message=document.last_message,
        draft=row.draft,
        unsent=row.unsent,
        wedged=row.wedged,
        unsent_summary=summary(_decode_message(row.newest_unsent).content) if row.newest_unsent else "",
    )


def message_row(document: Message) -> MessageRow:
    """A message of the relay as a bubble."""
    return MessageRow(
        key=document.client_id or document.id,
        id=document.id,
        conversation_id=document.conversation_id,
        position=MessagePosition(pending=False, at=micros(document.sent_at), id=document.id),
        direction=document.direction,
        content=document.content,
        status=document.status,
        sent_at=document.sent_at,
        version=document.version,
        author_id=document.author_id,
        author_name=document.author_name,
        status_at=document.status_at,
        error=document.error,
        reply_to_wamid=document.reply_to_wamid,
        wamid=document.wamid,
    )


async def message_rows(connection: AsyncConnection, ids: Iterable[UUID]) -> list[MessageRow]:
    """The bubbles of these messages that are above no gap: rows below a known history only."""
    wanted = (
        select(message.c.doc)
        .outerjoin(history, history.c.conversation_id == message.c.conversation_id)
        .where(
            message.c.id.in_(list(ids)),
            or_(
                history.c.conversation_id.is_(None),
                tuple_(message.c.sent_at, message.c.id) >= tuple_(history.c.from_at, history.c.from_id),
            ),
        )
        .order_by(message.c.sent_at, message.c.id)
    )
    return [message_row(_decode_message(doc)) for doc in await connection.scalars(wanted)]


async def outbox_rows(connection: AsyncConnection, *where: ColumnElement[bool]) -> list[MessageRow]:
    """The bubbles of unsent messages, in the order of writing."""
    found = await connection.execute(select(outbox).where(*where).order_by(outbox.c.seq))
    return [_outbox_row(row) for row in found]


def _outbox_row(row: AnyRow) -> MessageRow:
    unsent = _unsent(row)
    echo = message_row(_decode_message(row.doc))
    return msgspec.structs.replace(
        echo,
        id=None,
        position=MessagePosition(pending=True, at=row.seq, id=row.client_id),
        status=_ECHO_STATUS[unsent.state],
        unsent=unsent,
    )


def _unsent(row: AnyRow) -> Unsent:
    return Unsent(
        state=OutboxState(row.state),
        attempts=row.attempts,
        next_at=None if row.next_at is None else moment(row.next_at),
        code=row.code,
        title=row.title,
        advice=row.advice,
        maybe_sent=row.maybe_sent,
    )


async def unsent_messages(connection: AsyncConnection, *where: ColumnElement[bool]) -> list[UnsentMessage]:
    """Unsent messages with the name of their contact, oldest first."""
    found = await connection.execute(
        select(outbox, conversation.c.doc.label("conversation"))
        .outerjoin(conversation, conversation.c.id == outbox.c.conversation_id)
        .where(*where)
        .order_by(outbox.c.seq)
    )
    return [_unsent_message(row) for row in found]


def _unsent_message(row: AnyRow) -> UnsentMessage:
    contact = _decode_conversation(row.conversation).contact if row.conversation is not None else None
    content = _decode_message(row.doc).content
    return UnsentMessage(
        client_id=row.client_id,
        conversation_id=row.conversation_id,
        contact="" if contact is None else contact.name or contact.phone or contact.username or "",
        text=getattr(content, "body", "") or summary(content),
        created_at=moment(row.created_at),
        unsent=_unsent(row),
    )


async def outbox_counts(connection: AsyncConnection) -> tuple[int, int]:
    """How many messages wait, wedged ones included, and how many are wedged."""
    wedged = func.coalesce(func.sum(case((outbox.c.state == OutboxState.WEDGED, 1), else_=0)), 0)
    row = (await connection.execute(select(func.count(), wedged).select_from(outbox))).one()
    return int(row[0]), int(row[1])


async def _upwards(
    connection: AsyncConnection, conversation_id: UUID, before: MessagePosition | None, limit: int
) -> tuple[list[MessageRow], Edge, bool]:
    """Up to `limit` rows above `before`, ascending; what lies above them; whether nothing can be missing."""
    known = await _known_history(connection, conversation_id)
    key = tuple_(message.c.sent_at, message.c.id)
    wanted: Select[bytes] = select(message.c.doc).where(message.c.conversation_id == conversation_id)
    if known is not None:
        wanted = wanted.where(key >= (known.from_at, known.from_id))
    if before is not None:
        wanted = wanted.where(key < (before.at, before.id))
    wanted = wanted.order_by(message.c.sent_at.desc(), message.c.id.desc()).limit(limit + 1)
    docs = (await connection.scalars(wanted)).all()
    rows = [message_row(_decode_message(doc)) for doc in reversed(docs[:limit])]
    if len(docs) > limit:
        older = Edge.CACHED
    elif known is not None and known.next_before is None:
        older = Edge.END
    else:
        older = Edge.REMOTE
    return rows, older, known is not None


async def _known_history(connection: AsyncConnection, conversation_id: UUID) -> AnyRow | None:
    wanted = select(history).where(history.c.conversation_id == conversation_id)
    return (await connection.execute(wanted)).one_or_none()


def search_text(name: str, phone: str | None, username: str | None) -> str:
    """What a search looks through: name and user name without case, the phone's digits."""
    return " ".join((name.casefold(), (username or "").casefold(), _digits(phone or "")))


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def _matches(query: InboxQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.unread_only:
        conditions.append(conversation.c.unread_count > 0)
    if text := query.search.strip().casefold().removeprefix("@"):
        found = func.instr(conversation.c.search, text) > 0
        digits = _digits(text)
        # "+49 (170) 12" is a way to write digits; "flat 12" is not.
        if digits and not any(character.isalpha() for character in text):
            found = or_(found, func.instr(conversation.c.search, digits) > 0)
        conditions.append(found)
    return conditions


def _count(query: InboxQuery) -> Select[int]:
    return select(func.count()).select_from(conversation).where(*_matches(query))
