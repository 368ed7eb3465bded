"""Every change of the cache. Called by the engine alone, inside `Cache.writing()`.

What comes from the relay is kept by version: an older row never replaces a newer one, so the same change may
be applied twice and in any order.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import CursorResult, Insert, Table, delete, func, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from desktop.cache.queries import search_text
from desktop.cache.rows import OutboxState
from desktop.cache.schema import (
    STALE,
    account,
    conversation,
    draft,
    history,
    message,
    micros,
    outbox,
    read_mark,
    sync_state,
)
from shared.wire.auth import Me
from shared.wire.inbox import Conversation, Message

_encode = msgspec.json.encode

_FIRST_ID = UUID(int=0)


def _newer_wins(table: Table) -> Insert:
    """Insert, or replace an older version."""
    statement = insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name != "id"}
    return statement.on_conflict_do_update(
        index_elements=["id"], set_=changed, where=statement.excluded.version > table.c.version
    )


_UPSERT_CONVERSATION = _newer_wins(conversation)
_UPSERT_MESSAGE = _newer_wins(message)


# --- from the relay -------------------------------------------------------------------------------


async def put_conversations(connection: AsyncConnection, rows: Sequence[Conversation]) -> None:
    """Keep these rows where they are newer; local effects (read here, message waiting) stay on top."""
    if not rows:
        return
    await connection.execute(_UPSERT_CONVERSATION, [_conversation_values(row) for row in rows])
    await _replay_local(connection, [row.id for row in rows])


def _conversation_values(row: Conversation) -> dict[str, Any]:
    contact = row.contact
    return {
        "id": row.id,
        "activity_at": micros(row.last_activity_at),
        "unread_count": row.unread_count,
        "last_inbound_at": None if row.last_inbound_at is None else micros(row.last_inbound_at),
        "search": search_text(contact.name, contact.phone, contact.username),
        "version": row.version,
        "doc": _encode(row),
    }


async def _replay_local(connection: AsyncConnection, ids: Iterable[UUID]) -> None:
    """Lay what this device did, and the relay does not know yet, over the relay's rows."""
    await _replay_reading(connection, ids)
    await _replay_waiting(connection, ids)


async def _replay_reading(connection: AsyncConnection, ids: Iterable[UUID]) -> None:
    marked = await connection.scalars(select(read_mark.c.conversation_id))
    touched = set(marked.all()).intersection(ids)
    if not touched:
        return
    up_to = select(read_mark.c.up_to).where(read_mark.c.conversation_id == conversation.c.id)
    await connection.execute(
        update(conversation)
        .where(
            conversation.c.id.in_(touched),
            func.coalesce(conversation.c.last_inbound_at, 0) <= up_to.scalar_subquery(),
        )
        .values(unread_count=0)
    )


async def _replay_waiting(connection: AsyncConnection, ids: Iterable[UUID]) -> None:
    waiting = await connection.scalars(select(outbox.c.conversation_id).distinct())
    touched = set(waiting.all()).intersection(ids)
    if not touched:
        return
    written = select(func.max(outbox.c.created_at)).where(outbox.c.conversation_id == conversation.c.id)
    await connection.execute(
        update(conversation)
        .where(
            conversation.c.id.in_(touched),
            conversation.c.activity_at < written.scalar_subquery(),
        )
        .values(activity_at=written.scalar_subquery())
    )


async def rederive(connection: AsyncConnection, ids: Iterable[UUID]) -> None:
    """After something local went away: these conversations as the relay has them, plus what is left."""
    wanted = list(ids)
    if not wanted:
        return
    documents = await connection.scalars(select(conversation.c.doc).where(conversation.c.id.in_(wanted)))
    for document in documents.all():
        row = msgspec.json.decode(document, type=Conversation)
        await connection.execute(
            update(conversation)
            .where(conversation.c.id == row.id)
            .values(activity_at=micros(row.last_activity_at), unread_count=row.unread_count)
        )
    await _replay_local(connection, wanted)


async def put_messages(connection: AsyncConnection, rows: Sequence[Message]) -> list[UUID]:
    """Keep these rows where they are newer; gives the client ids of unsent messages they settled."""
    if not rows:
        return []
    await connection.execute(_UPSERT_MESSAGE, [_message_values(row) for row in rows])
    own = [row.client_id for row in rows if row.client_id is not None]
    return await settle_outbox(connection, own)


def _message_values(row: Message) -> dict[str, Any]:
    return {
        "id": row.id,
        "conversation_id": row.conversation_id,
        "sent_at": micros(row.sent_at),
        "client_id": row.client_id,
        "version": row.version,
        "doc": _encode(row),
    }


async def remove_conversations(connection: AsyncConnection, ids: Iterable[UUID]) -> None:
    """Forget conversations with their messages. Unsent messages stay: the relay's refusal says why."""
    gone = list(ids)
    if not gone:
        return
    for table, column in (
        (message, message.c.conversation_id),
        (history, history.c.conversation_id),
        (draft, draft.c.conversation_id),
        (read_mark, read_mark.c.conversation_id),
        (conversation, conversation.c.id),
    ):
        await connection.execute(delete(table).where(column.in_(gone)))


async def remove_messages(connection: AsyncConnection, ids: Iterable[UUID]) -> list[tuple[UUID, UUID]]:
    """Forget messages; gives (conversation id, key) of those that were here."""
    wanted = list(ids)
    if not wanted:
        return []
    gone = await connection.execute(
        delete(message)
        .where(message.c.id.in_(wanted))
        .returning(message.c.conversation_id, message.c.client_id, message.c.id)
    )
    return [(row.conversation_id, row.client_id or row.id) for row in gone]


# --- how far the cache follows --------------------------------------------------------------------


async def put_sync_state(connection: AsyncConnection, **values: Any) -> None:
    """Set columns of `sync_state`; call it in the transaction of the rows it covers."""
    await connection.execute(
        insert(sync_state).values(id=1, **values).on_conflict_do_update(index_elements=["id"], set_=values)
    )


async def begin_resync(connection: AsyncConnection) -> None:
    """Start again from a snapshot. Everything stays readable; no history counts as complete any more.

    The outbox, drafts and read marks are kept as they are.
    """
    await connection.execute(delete(history))
    await put_sync_state(connection, epoch=None, cursor=0, snapshot_cursor=None, snapshot_done=False)


async def begin_epoch(connection: AsyncConnection, epoch: UUID, cursor: int) -> None:
    """The snapshot's first page is here: from now on any row of the relay replaces what is cached.

    Versions of another epoch mean nothing; that includes answers to sends from before the first snapshot.
    A page of history that was read before this moment may lack what the feed will no longer tell.
    """
    await connection.execute(delete(history))
    await connection.execute(update(conversation).values(version=STALE))
    await connection.execute(update(message).values(version=STALE))
    await put_sync_state(connection, epoch=epoch, cursor=cursor)


async def finish_resync(connection: AsyncConnection) -> None:
    """The snapshot is complete: what it did not mention is gone, unless something unsent belongs to it."""
    gone = await connection.scalars(
        select(conversation.c.id).where(
            conversation.c.version == STALE,
            conversation.c.id.not_in(select(outbox.c.conversation_id)),
        )
    )
    await remove_conversations(connection, gone.all())
    await put_sync_state(connection, snapshot_cursor=None, snapshot_done=True)


async def put_history_page(
    connection: AsyncConnection, conversation_id: UUID, rows: Sequence[Message], next_before: str | None
) -> list[UUID]:
    """A page of a conversation, newest first, that reaches the newest or joins the known history.

    The page is the truth about its stretch: rows from before a resync that it does not mention are removed.
    Gives the client ids of unsent messages it settled.
    """
    settled = await put_messages(connection, rows)
    if next_before is None or not rows:
        next_before, from_at, from_id = None, 0, _FIRST_ID
    else:
        from_at, from_id = micros(rows[-1].sent_at), rows[-1].id
    await connection.execute(
        delete(message).where(
            message.c.conversation_id == conversation_id,
            message.c.version == STALE,
            tuple_(message.c.sent_at, message.c.id) >= (from_at, from_id),
        )
    )
    values = {"from_at": from_at, "from_id": from_id, "next_before": next_before}
    await connection.execute(
        insert(history)
        .values(conversation_id=conversation_id, **values)
        .on_conflict_do_update(index_elements=["conversation_id"], set_=values)
    )
    return settled


async def put_me(connection: AsyncConnection, me: Me) -> None:
    values = {"me": _encode(me)}
    await connection.execute(
        insert(account).values(id=1, **values).on_conflict_do_update(index_elements=["id"], set_=values)
    )


# --- what is done here ----------------------------------------------------------------------------


async def queue_message(connection: AsyncConnection, echo: Message, seen_message_id: UUID | None) -> None:
    """The outbox row and its echo (they are one row), and the conversation moves to the top."""
    created_at = micros(echo.sent_at)
    await connection.execute(
        insert(outbox).values(
            client_id=echo.client_id,
            conversation_id=echo.conversation_id,
            seen_message_id=seen_message_id,
            doc=_encode(echo),
            state=OutboxState.QUEUED,
            attempts=0,
            code="",
            title="",
            advice="",
            maybe_sent=False,
            created_at=created_at,
        )
    )
    await _replay_local(connection, [echo.conversation_id])


async def move_outbox(
    connection: AsyncConnection, client_id: UUID, from_states: Sequence[OutboxState], **values: Any
) -> bool:
    """Compare-and-set: change the row if it is still in one of `from_states`. Says whether it was."""
    moved: CursorResult[Any] = await connection.execute(
        update(outbox)
        .where(outbox.c.client_id == client_id, outbox.c.state.in_(from_states))
        .values(**values)
    )
    return moved.rowcount == 1


async def settle_outbox(connection: AsyncConnection, client_ids: Sequence[UUID]) -> list[UUID]:
    """The relay has these messages: they leave the outbox. Gives those that were in it."""
    if not client_ids:
        return []
    found = await connection.execute(
        delete(outbox)
        .where(outbox.c.client_id.in_(client_ids))
        .returning(outbox.c.client_id, outbox.c.conversation_id)
    )
    settled = found.all()
    await rederive(connection, {row.conversation_id for row in settled})
    return [row.client_id for row in settled]


async def put_draft(
    connection: AsyncConnection, conversation_id: UUID, text: str, saved_at: datetime
) -> None:
    """Keep a draft; an empty one is removed."""
    if not text:
        await connection.execute(delete(draft).where(draft.c.conversation_id == conversation_id))
        return
    values = {"text": text, "saved_at": micros(saved_at)}
    await connection.execute(
        insert(draft)
        .values(conversation_id=conversation_id, **values)
        .on_conflict_do_update(index_elements=["conversation_id"], set_=values)
    )


async def mark_read(connection: AsyncConnection, conversation_id: UUID, message_id: UUID) -> bool:
    """Note that everything up to this message was read. False if there is nothing new in that."""
    position = select(message.c.sent_at).where(message.c.id == message_id)
    up_to = await connection.scalar(position)
    unread = await connection.scalar(
        select(conversation.c.unread_count).where(conversation.c.id == conversation_id)
    )
    if up_to is None or not unread:
        return False
    values = {"message_id": message_id, "up_to": up_to}
    statement = insert(read_mark).values(conversation_id=conversation_id, **values)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["conversation_id"],
            set_=values,
            where=statement.excluded.up_to > read_mark.c.up_to,
        )
    )
    await _replay_local(connection, [conversation_id])
    return True


async def drop_read_mark(connection: AsyncConnection, conversation_id: UUID, message_id: UUID) -> None:
    """The relay knows (or refused) this mark; a newer one stays."""
    await connection.execute(
        delete(read_mark).where(
            read_mark.c.conversation_id == conversation_id, read_mark.c.message_id == message_id
        )
    )
