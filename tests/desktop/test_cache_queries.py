"""What views get from the cache."""

import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from uuid_utils.compat import uuid7

from desktop.cache import writes
from desktop.cache.queries import Queries
from desktop.cache.rows import Edge, InboxCounts, InboxPosition, InboxQuery
from desktop.cache.schema import micros, moment
from desktop.cache.store import Cache
from shared.content import TextContent, UnknownContent
from shared.delivery import DeliveryStatus
from shared.wire.inbox import Contact, Conversation, Direction, Message
from tests.desktop.fake_relay import START


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    cache = await Cache.open(tmp_path / "cache.db", secrets.token_bytes(32))
    yield cache
    await cache.close()


@pytest.fixture
def queries(cache: Cache) -> Queries:
    return Queries(cache)


def conversation(
    name: str = "Ana",
    at: datetime = START,
    *,
    phone: str | None = "+491700000001",
    username: str | None = None,
    unread: int = 0,
    version: int = 1,
) -> Conversation:
    return Conversation(
        id=uuid7(),
        number_id=uuid7(),
        contact=Contact(uuid7(), name, phone, username),
        last_activity_at=at,
        version=version,
        unread_count=unread,
        last_inbound_at=at,
    )


def message(conversation_id: UUID, number: int, *, version: int = 1) -> Message:
    return Message(
        id=uuid7(),
        conversation_id=conversation_id,
        direction=Direction.INBOUND,
        content=TextContent(str(number)),
        status=DeliveryStatus.RECEIVED,
        sent_at=START + timedelta(seconds=number // 3),  # several at the same moment
        version=version,
    )


async def put(cache: Cache, *rows: Conversation | Message) -> None:
    async with cache.writing() as connection:
        await writes.put_conversations(connection, [row for row in rows if isinstance(row, Conversation)])
        await writes.put_messages(connection, [row for row in rows if isinstance(row, Message)])


async def page_history(
    cache: Cache, id_: UUID, newest_first: Sequence[Message], next_before: str | None
) -> None:
    async with cache.writing() as connection:
        await writes.put_history_page(connection, id_, newest_first, next_before)


def texts(rows: Sequence[object]) -> list[str]:
    return [row.content.body for row in rows]  # type: ignore[attr-defined]  # rows of text messages


def test_times_survive_exactly() -> None:
    for at in (START, START + timedelta(microseconds=1), datetime.max.replace(tzinfo=START.tzinfo)):
        assert moment(micros(at)) == at


# --- inbox ----------------------------------------------------------------------------------------


async def test_pages_show_every_conversation_once_newest_first(cache: Cache, queries: Queries) -> None:
    rows = [conversation(str(number), START + timedelta(minutes=number // 4)) for number in range(50)]
    await put(cache, *rows)
    seen: list[UUID] = []
    after: InboxPosition | None = None
    while True:
        page = await queries.inbox_page(InboxQuery(), after, limit=7)
        seen += [row.id for row in page.rows]
        if page.next_after is None:
            break
        after = page.next_after
    expected = sorted(rows, key=lambda row: (row.last_activity_at, row.id), reverse=True)
    assert seen == [row.id for row in expected]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ana", ["Ana Müller"]),
        ("MÜLL", ["Ana Müller"]),
        ("straSSE", ["Café Straße"]),
        ("0170 12", ["Ana Müller"]),
        ("+49 (170) 1", ["Ana Müller"]),
        ("@ben", ["Ben"]),
        ("%", []),
        ("_", []),
        ("", ["Ana Müller", "Ben", "Café Straße"]),
    ],
)
async def test_search(cache: Cache, queries: Queries, search: str, found: list[str]) -> None:
    await put(
        cache,
        conversation("Ana Müller", phone="+49 0170 1234"),
        conversation("Ben", phone=None, username="ben.k"),
        conversation("Café Straße", phone="+33 1"),
    )
    if search == "+49 (170) 1":
        found = []  # digits "491701" are not in "4901701234": a search is for what was typed
    page = await queries.inbox_page(InboxQuery(search=search))
    assert sorted(row.name for row in page.rows) == found
    assert (await queries.inbox_counts(InboxQuery(search=search))).total == len(found)


async def test_unread_filter_and_counts(cache: Cache, queries: Queries) -> None:
    await put(cache, conversation("Ana", unread=2), conversation("Ben"), conversation("Cem", unread=1))
    page = await queries.inbox_page(InboxQuery(unread_only=True))
    assert sorted(row.name for row in page.rows) == ["Ana", "Cem"]
    assert await queries.inbox_counts() == InboxCounts(total=3, unread=2)


async def test_older_version_never_replaces_a_newer_one(cache: Cache, queries: Queries) -> None:
    new = conversation("New name", version=5)
    await put(cache, new)
    old = msgspec.structs.replace(new, contact=Contact(uuid7(), "Old name"), version=4)
    await put(cache, old)
    row = await queries.conversation(new.id)
    assert row is not None
    assert (row.name, row.version) == ("New name", 5)


def test_titles() -> None:
    """A person without a name is shown by what there is."""
    from desktop.cache.rows import ConversationRow

    def row(name: str, username: str | None, phone: str | None) -> ConversationRow:
        id_ = uuid7()
        return ConversationRow(
            id=id_,
            number_id=id_,
            contact_id=id_,
            name=name,
            phone=phone,
            username=username,
            position=InboxPosition(0, id_),
            activity_at=START,
            version=1,
            unread_count=0,
            last_inbound_at=None,
            last_message=None,
        )

    assert row("Ana", "ana", "+49").title == "Ana"
    assert row("", "ana", "+49").title == "@ana"
    assert row("", None, "+49").title == "+49"
    assert row("", None, None).title == "Unknown contact"


async def test_draft_is_kept_and_shown_in_the_list(cache: Cache, queries: Queries) -> None:
    row = conversation()
    await put(cache, row)
    for text in ("hello wor", "hello world", ""):
        async with cache.writing() as connection:
            await writes.put_draft(connection, row.id, text, START)
        assert await queries.draft(row.id) == text
        listed = await queries.conversation(row.id)
        assert listed is not None
        assert listed.draft == text


async def test_removed_conversation_takes_its_messages_along(cache: Cache, queries: Queries) -> None:
    row = conversation()
    await put(cache, row, message(row.id, 1))
    async with cache.writing() as connection:
        await writes.put_draft(connection, row.id, "text", START)
        await writes.remove_conversations(connection, [row.id])
    assert await queries.conversation(row.id) is None
    assert (await queries.timeline_newest(row.id)).rows == ()
    assert await queries.draft(row.id) == ""


# --- timeline -------------------------------------------------------------------------------------


async def test_slices_join_without_gap_or_overlap(cache: Cache, queries: Queries) -> None:
    row = conversation()
    rows = [message(row.id, number) for number in range(50)]
    await put(cache, row, *rows)
    await page_history(cache, row.id, rows[::-1], None)
    ordered = sorted(rows, key=lambda m: (m.sent_at, m.id))
    newest = await queries.timeline_newest(row.id, limit=8)
    assert (newest.older, newest.newer, newest.complete) == (Edge.CACHED, Edge.END, True)
    upwards = list(newest.rows)
    edge = newest.older
    while edge is Edge.CACHED:
        slice_ = await queries.timeline_before(row.id, upwards[0].position, limit=8)
        upwards = [*slice_.rows, *upwards]
        edge = slice_.older
    assert edge is Edge.END
    assert [r.id for r in upwards] == [m.id for m in ordered]
    downwards = [upwards[0]]
    edge = Edge.CACHED
    while edge is Edge.CACHED:
        slice_ = await queries.timeline_after(row.id, downwards[-1].position, limit=8)
        downwards += slice_.rows
        edge = slice_.newer
    assert downwards == upwards


async def test_rows_below_the_known_history_wait_until_it_reaches_them(
    cache: Cache, queries: Queries
) -> None:
    row = conversation()
    rows = [message(row.id, number * 3) for number in range(10)]
    await put(cache, row, rows[1])  # from the feed: a status of an old message
    unknown = await queries.timeline_newest(row.id)
    assert (texts(unknown.rows), unknown.older, unknown.complete) == (["3"], Edge.REMOTE, False)
    await page_history(cache, row.id, rows[:4:-1], "page 2")
    shown = await queries.timeline_newest(row.id)
    assert texts(shown.rows) == ["15", "18", "21", "24", "27"]
    assert (shown.older, shown.complete) == (Edge.REMOTE, True)
    await page_history(cache, row.id, rows[4::-1], None)
    shown = await queries.timeline_newest(row.id)
    assert texts(shown.rows) == [str(number * 3) for number in range(10)]
    assert (shown.older, shown.complete) == (Edge.END, True)


async def test_unsent_messages_stand_at_the_end(cache: Cache, queries: Queries) -> None:
    row = conversation()
    await put(cache, row, message(row.id, 1))
    echoes = [
        msgspec.structs.replace(message(row.id, number), client_id=uuid7(), direction=Direction.OUTBOUND)
        for number in (-60, -90)
    ]
    async with cache.writing() as connection:
        for echo in echoes:
            await writes.queue_message(connection, echo, None)
    slice_ = await queries.timeline_newest(row.id)
    assert texts(slice_.rows) == ["1", "-60", "-90"]
    assert [r.position for r in slice_.rows] == sorted(r.position for r in slice_.rows)
    below = await queries.timeline_after(row.id, slice_.rows[0].position)
    assert (texts(below.rows), below.newer) == (["-60", "-90"], Edge.END)
    above = await queries.timeline_before(row.id, slice_.rows[2].position)
    assert texts(above.rows) == ["1", "-60"]
    last = await queries.timeline_after(row.id, slice_.rows[1].position)
    assert texts(last.rows) == ["-90"]
    (first, second) = await queries.unsent()
    assert (first.contact, first.text, second.text) == ("Ana", "-60", "-90")


async def test_unknown_message_types_survive(cache: Cache, queries: Queries) -> None:
    row = conversation()
    content = UnknownContent("hologram", {"hologram": {"depth": 3}})
    odd = msgspec.structs.replace(message(row.id, 1), content=content)
    await put(cache, row, odd)
    (shown,) = (await queries.timeline_newest(row.id)).rows
    assert shown.content == content


# --- read marks -----------------------------------------------------------------------------------


async def test_read_here_counts_at_once_and_survives_an_older_row(cache: Cache, queries: Queries) -> None:
    row = conversation(unread=2, at=START)
    seen = msgspec.structs.replace(message(row.id, 0), sent_at=START)
    await put(cache, row, seen)
    async with cache.writing() as connection:
        assert await writes.mark_read(connection, row.id, seen.id)
        assert not await writes.mark_read(connection, row.id, seen.id)
    assert await unread(queries, row.id) == 0
    await put(cache, msgspec.structs.replace(row, version=2))  # the relay does not know yet
    assert await unread(queries, row.id) == 0
    later = START + timedelta(minutes=1)
    await put(cache, msgspec.structs.replace(row, version=3, unread_count=3, last_inbound_at=later))
    assert await unread(queries, row.id) == 3  # somebody wrote after what was read
    async with cache.writing() as connection:
        await writes.drop_read_mark(connection, row.id, seen.id)
        await writes.rederive(connection, [row.id])
    assert await unread(queries, row.id) == 3


async def unread(queries: Queries, conversation_id: UUID) -> int:
    row = await queries.conversation(conversation_id)
    assert row is not None
    return row.unread_count


# --- resync ---------------------------------------------------------------------------------------


async def test_resync_keeps_what_is_local_and_drops_what_is_gone(cache: Cache, queries: Queries) -> None:
    kept, gone, unsent = conversation("Kept", version=9), conversation("Gone"), conversation("Unsent")
    await put(cache, kept, gone, unsent, message(kept.id, 1, version=9), message(gone.id, 1))
    echo = msgspec.structs.replace(message(unsent.id, 2), client_id=uuid7())
    async with cache.writing() as connection:
        await writes.queue_message(connection, echo, None)
        await writes.put_draft(connection, kept.id, "draft", START)
        await writes.begin_resync(connection)
        await writes.begin_epoch(connection, uuid7(), 1)
    # Everything can still be read, and the relay's rows win although their versions begin anew.
    assert (await queries.inbox_counts()).total == 3
    renamed = msgspec.structs.replace(kept, contact=Contact(uuid7(), "Renamed"), version=1)
    await put(cache, renamed)
    async with cache.writing() as connection:
        await writes.finish_resync(connection)
    page = await queries.inbox_page(InboxQuery())
    assert sorted(row.name for row in page.rows) == ["Renamed", "Unsent"]
    assert await queries.draft(kept.id) == "draft"
    assert len(await queries.unsent()) == 1


async def test_page_after_a_resync_removes_what_the_relay_no_longer_has(
    cache: Cache, queries: Queries
) -> None:
    row = conversation()
    rows = [message(row.id, number * 3, version=7) for number in range(6)]
    await put(cache, row)
    await page_history(cache, row.id, rows[::-1], None)
    async with cache.writing() as connection:
        await writes.begin_resync(connection)
        await writes.begin_epoch(connection, uuid7(), 1)
    again = [msgspec.structs.replace(m, version=1) for m in (rows[5], rows[3])]  # 4 was lost
    await page_history(cache, row.id, again, "older")
    fresh = message(row.id, 99)
    await put(cache, fresh)
    assert texts((await queries.timeline_newest(row.id)).rows) == ["9", "15", "99"]
