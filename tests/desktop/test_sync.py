"""The cache follows the relay, whatever happens in between."""

import asyncio
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from desktop.cache import queries, writes
from desktop.cache.rows import Edge, InboxQuery
from desktop.engine import sync
from desktop.engine.api import NetworkError
from desktop.engine.events import (
    ConversationsChanged,
    InboxReset,
    MessagesChanged,
    Phase,
    TimelineReset,
    Trouble,
    TroubleOver,
)
from shared.delivery import DeliveryStatus
from tests.desktop.engine_client import Client, World, eventually, until
from tests.desktop.fake_relay import Fault, Request


async def unread(client: Client, conversation_id: UUID) -> int:
    row = await client.engine.queries.conversation(conversation_id)
    return -1 if row is None else row.unread_count


async def test_inbox_comes_in_pages_newest_first(world: World) -> None:
    world.relay.snapshot_page = 10
    ids = [world.relay.add_conversation(f"Contact {number}") for number in range(35)]
    async with world.signed_in() as client:
        assert await client.inbox() == ids[::-1]
        assert client.told(InboxReset)
    snapshots = [path for _method, path in world.relay.requests if path.endswith("/snapshot")]
    assert len(snapshots) == 4


async def test_news_is_told_with_the_rows(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        await until(lambda: client.connection.live)
        sent = world.relay.customer_writes(ana, "hello?")
        await until(lambda: bool(client.told(MessagesChanged)))
        (told,) = client.told(MessagesChanged)
        assert [(row.id, row.conversation_id) for row in told.rows] == [(sent.id, ana)]
        (rows,) = [event.rows for event in client.told(ConversationsChanged)]
        assert (rows[0].unread_count, rows[0].last_message.summary) == (1, "hello?")  # type: ignore[union-attr]


async def test_changes_while_the_snapshot_is_read_are_not_lost(world: World) -> None:
    world.relay.snapshot_page = 5
    ids = [world.relay.add_conversation(str(number)) for number in range(20)]
    written = 0

    def write(request: Request) -> None:
        nonlocal written
        if request.path.endswith("/snapshot"):
            written += 1
            world.relay.customer_writes(ids[written], "meanwhile")  # moves to the top, behind the reader
            if written == 2:
                world.relay.remove_conversation(ids[15])

    world.relay.before_answer = write
    async with world.signed_in() as client:
        await eventually(client.inbox, relay_inbox(world))


def relay_inbox(world: World) -> list[UUID]:
    rows = world.relay.conversations.values()
    return [row.id for row in sorted(rows, key=lambda row: (row.last_activity_at, row.id), reverse=True)]


async def test_start_after_being_away_reads_only_changes(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in():
        pass
    world.relay.customer_writes(ana, "while away")
    world.relay.requests.clear()
    async with world.running() as client:
        await eventually(lambda: client.texts(ana), ["while away"])
    assert not [path for _method, path in world.relay.requests if path.endswith("/snapshot")]


async def test_interrupted_snapshot_goes_on_where_it_was(world: World) -> None:
    world.relay.snapshot_page = 10
    for number in range(40):
        world.relay.add_conversation(str(number))
    async with world.running() as client:

        def break_off(request: Request) -> None:
            if request.path.endswith("/snapshot") and len(snapshots(world)) == 2:
                world.relay.down = True

        world.relay.before_answer = break_off
        await client.sign_in(world.url)
        await until(lambda: client.connection.phase is Phase.OFFLINE)
        assert (await client.engine.queries.inbox_counts()).total == 20
    world.relay.before_answer = None
    world.relay.down = False
    world.relay.requests.clear()
    async with world.running() as client:
        await client.until_synced()
        assert (await client.engine.queries.inbox_counts()).total == 40
    assert len(snapshots(world)) == 2


def snapshots(world: World) -> list[str]:
    return [path for _method, path in world.relay.requests if path.endswith("/snapshot")]


async def test_read_then_delivered_stays_read(world: World) -> None:
    """A change applied late, out of order, or twice, never moves a tick back."""
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        echo = await client.engine.send_text(ana, "hello", None)
        await until(lambda: bool(world.relay.arrivals))
        id_ = world.relay.by_client_id[echo.key]
        world.relay.status(id_, DeliveryStatus.DELIVERED)
        delivered = world.relay.messages[id_]
        world.relay.status(id_, DeliveryStatus.READ)
        await eventually(lambda: statuses(client, ana), [DeliveryStatus.READ])
        account = client.engine._open_account
        async with account._cache.writing() as connection:
            await writes.put_messages(connection, [delivered, delivered])
        assert await statuses(client, ana) == [DeliveryStatus.READ]


async def statuses(client: Client, conversation_id: UUID) -> list[DeliveryStatus]:
    return [row.status for row in await client.timeline(conversation_id)]


async def test_removed_rows_disappear(world: World) -> None:
    ana, ben = world.relay.add_conversation("Ana"), world.relay.add_conversation("Ben")
    kept, dropped = world.relay.customer_writes(ana, "kept"), world.relay.customer_writes(ana, "dropped")
    async with world.signed_in() as client:
        await client.engine.open_conversation(ana)
        assert await client.texts(ana) == ["kept", "dropped"]
        world.relay.remove_message(dropped.id)
        world.relay.remove_conversation(ben)
        await eventually(lambda: client.texts(ana), ["kept"])
        await eventually(client.inbox, [ana])
        await until(lambda: any(ben in event.removed for event in client.told(ConversationsChanged)))
        assert any(dropped.id in event.removed for event in client.told(MessagesChanged))
        assert not any(kept.id in event.removed for event in client.told(MessagesChanged))


@pytest.mark.parametrize("how", ["cursor expired", "restored from a backup"])
async def test_resync_keeps_unsent_messages_drafts_and_history(world: World, how: str) -> None:
    ana, ben = world.relay.add_conversation("Ana"), world.relay.add_conversation("Ben")
    for number in range(10):
        world.relay.customer_writes(ana, str(number))
    async with world.signed_in() as client:
        await client.engine.open_conversation(ana)
        await client.engine.save_draft(ana, "draft")
        world.relay.down = True
        await client.engine.send_text(ana, "unsent", None)
    match how:
        case "cursor expired":
            world.relay.remove_conversation(ben)
            expected = [str(number) for number in range(10)]
            world.relay.expire_cursors()
        case _:
            world.relay.remove_conversation(ben)
            world.relay.restore(lost_messages=2)
            expected = [str(number) for number in range(8)]
    async with world.running() as client:
        # Still offline: all of it can be read.
        assert await client.texts(ana) == [*map(str, range(10)), "unsent"]
        world.relay.down = False
        await client.engine.retry_now()
        await client.until_synced()
        await until(lambda: client.told(TimelineReset) != [])
        await client.engine.open_conversation(ana)
        await eventually(lambda: client.texts(ana), [*expected, "unsent"])
        await eventually(client.inbox, [ana])
        assert await client.engine.queries.draft(ana) == "draft"
        await until(lambda: len(world.relay.arrivals) == 1)


async def test_epoch_that_changes_while_connected(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    world.relay.customer_writes(ana, "old")
    async with world.signed_in() as client:
        await until(lambda: client.connection.live)
        world.relay.restore()
        world.relay.customer_writes(ana, "new")
        await eventually(lambda: newest(client, ana), "new")
        account = client.engine._open_account
        await until(lambda: account.sync.epoch == world.relay.epoch)


async def newest(client: Client, conversation_id: UUID) -> str:
    texts = await client.texts(conversation_id)
    return texts[-1] if texts else ""


@pytest.mark.parametrize(
    "fault", [Fault.CAPTIVE_PORTAL, Fault.GARBAGE, Fault.ERROR_500, Fault.LOST, Fault.RATE_LIMITED]
)
async def test_faults_on_the_way_heal(world: World, fault: Fault) -> None:
    ana = world.relay.add_conversation("Ana")
    world.relay.fail("GET", "changes", fault, fault)
    world.relay.fail("GET", "snapshot", fault)
    async with world.signed_in() as client:
        world.relay.fail("GET", "changes", fault, fault)
        world.relay.customer_writes(ana, "hello")
        await eventually(lambda: client.texts(ana), ["hello"])


async def test_captive_portal_is_offline_with_a_reason(world: World) -> None:
    async with world.signed_in() as client:
        world.relay.fail("GET", "changes", *[Fault.CAPTIVE_PORTAL] * 1_000)
        await client.engine.retry_now()
        await until(lambda: client.connection.phase is Phase.OFFLINE)
        assert client.connection.reason == "Something else answers instead of the relay."
        world.relay.planned.clear()
        await client.until_synced()


async def test_failure_while_applying_skips_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        account = client.engine._open_account
        message_rows = queries.message_rows
        failures = 0

        async def failing(*args: object) -> object:
            nonlocal failures
            failures += 1
            if failures <= 4:
                raise RuntimeError("a bug of ours")
            return await message_rows(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(sync, "message_rows", failing)  # used after all rows are written
        cursor = account.sync.cursor
        with caplog.at_level(logging.ERROR, "desktop.sync"):
            world.relay.customer_writes(ana, "hello")
            await until(lambda: failures >= 1)
            assert account.sync.cursor == cursor
            await until(lambda: failures >= 5)
            await eventually(lambda: client.texts(ana), ["hello"])
        assert "a bug of ours" in caplog.text
        await until(lambda: bool(client.told(TroubleOver)))
        assert [trouble.code for trouble in client.told(Trouble)] == ["sync"]


async def test_relay_that_is_restored_again_and_again(world: World) -> None:
    """Each time the snapshot is at its second page; in the end the client gets through."""
    world.relay.snapshot_page = 2
    ids = [world.relay.add_conversation(str(number)) for number in range(6)]
    restores = 0

    def restore(request: Request) -> None:
        nonlocal restores
        if request.path.endswith("/snapshot") and restores < 4:
            restores += 1
            world.relay.restore()

    world.relay.before_answer = restore
    async with world.signed_in() as client:
        assert await client.inbox() == ids[::-1]
    assert restores == 4


async def test_page_read_while_starting_again_is_not_taken_for_complete(world: World) -> None:
    """What is written between such a page and the new snapshot is told by neither."""
    ana = world.relay.add_conversation("Ana")
    world.relay.customer_writes(ana, "old")
    async with world.signed_in() as client:
        await client.engine.open_conversation(ana)
        account = client.engine._open_account
        messages, snapshot = account._api.messages, account._api.snapshot
        page_read, write_page = asyncio.Event(), asyncio.Event()

        async def slow_page(*args: Any) -> Any:
            page = await messages(*args)
            page_read.set()
            await write_page.wait()
            return page

        async def slow_snapshot(*args: Any) -> Any:
            account.sync.following.set()  # the worst case: a page is asked for although nothing is followed
            loading = asyncio.ensure_future(account.history.load_older(ana))
            await page_read.wait()
            world.relay.customer_writes(ana, "in between")
            answer = await snapshot(*args)
            write_page.set()
            await loading
            return answer

        monkey: Any = account._api
        monkey.messages, monkey.snapshot = slow_page, slow_snapshot
        world.relay.expire_cursors()
        world.relay.add_conversation("Ben")
        world.relay.expire_cursors()
        account.sync.cursor = 0  # as after a long time away
        account.sync.wake()
        await until(write_page.is_set)
        monkey.messages, monkey.snapshot = messages, snapshot
        await client.until_synced()
        await client.engine.open_conversation(ana)
        await eventually(lambda: client.texts(ana), ["old", "in between"])


# --- older messages -------------------------------------------------------------------------------


async def test_history_pages_join(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    for number in range(250):
        world.relay.customer_writes(ana, str(number))
    async with world.signed_in() as client:
        await client.engine.open_conversation(ana)
        shown = await client.engine.queries.timeline_newest(ana, limit=1_000)
        assert (shown.complete, shown.older) == (True, Edge.REMOTE)
        world.relay.customer_writes(ana, "250")
        while shown.older is Edge.REMOTE:
            # Two views asking at once share the request.
            counts = await asyncio.gather(*(client.engine.load_older(ana) for _ in range(2)))
            assert counts[0] == counts[1]
            shown = await client.engine.queries.timeline_newest(ana, limit=1_000)
        await eventually(lambda: client.texts(ana), [str(number) for number in range(251)])
        assert await client.engine.load_older(ana) == 0


async def test_late_message_below_the_known_history_waits(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    for number in range(150):
        world.relay.customer_writes(ana, str(number))
    async with world.signed_in() as client:
        await until(lambda: bool(client.told(TimelineReset)))  # prefetched: the newest 50
        first = world.relay.timeline(ana)[0]
        world.relay.customer_writes(ana, "late", sent_at=first.sent_at + timedelta(milliseconds=1))
        world.relay.customer_writes(ana, "150")
        await eventually(lambda: newest(client, ana), "150")
        assert "late" not in await client.texts(ana)
        while await client.engine.load_older(ana):
            pass
        assert await client.texts(ana) == ["0", "late", *(str(number) for number in range(1, 151))]


async def test_recent_conversations_can_be_read_offline(world: World) -> None:
    ids = [world.relay.add_conversation(str(number)) for number in range(5)]
    for id_ in ids:
        world.relay.customer_writes(id_, f"to {id_}")
    async with world.signed_in() as client:
        await until(lambda: {event.conversation_id for event in client.told(TimelineReset)} >= set(ids))
    world.relay.down = True
    async with world.running() as client:
        for id_ in ids:
            shown = await client.engine.queries.timeline_newest(id_)
            assert shown.complete
            assert await client.texts(id_) == [f"to {id_}"]


async def test_page_that_was_read_before_a_removal_is_not_kept(world: World) -> None:
    """The answer is on its way while the feed says that one of its messages is gone."""
    ana = world.relay.add_conversation("Ana")
    for number in range(3):
        world.relay.customer_writes(ana, str(number))
    async with world.running() as client:
        world.relay.fail("GET", f"{ana}/messages", *[Fault.ERROR_500] * 3)  # keeps the prefetch off
        await client.sign_in(world.url)
        await client.until_synced()
        account = client.engine._open_account
        messages = account._api.messages
        asked = 0

        async def slow(conversation_id: UUID, before: str | None, limit: int) -> object:
            nonlocal asked
            asked += 1
            page = await messages(conversation_id, before, limit)
            if asked == 1:
                world.relay.remove_message(world.relay.timeline(ana)[1].id)
                cursor = world.relay.head
                await until(lambda: account.sync.cursor >= cursor)
            return page

        world.relay.planned.clear()
        account._api.messages = slow  # type: ignore[method-assign,assignment]
        await client.engine.open_conversation(ana)
        await eventually(lambda: client.texts(ana), ["0", "2"])
        assert asked >= 2


async def test_older_messages_offline_say_so(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        world.relay.down = True
        client.engine._open_account.sync.following.set()
        async with client.engine._open_account._cache.writing() as connection:
            await writes.begin_resync(connection)
        with pytest.raises(NetworkError) as caught:
            await client.engine.open_conversation(ana)
        assert caught.value.advice


# --- read marks -----------------------------------------------------------------------------------


async def test_read_offline_is_told_later(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    message = world.relay.customer_writes(ana, "hello")
    async with world.signed_in() as client:
        await client.engine.open_conversation(ana)
        world.relay.down = True
        await client.engine.mark_read(ana, message.id)
        assert await unread(client, ana) == 0
        assert (await client.engine.queries.inbox_page(InboxQuery(unread_only=True))).rows == ()
    world.relay.down = False
    async with world.running() as client:
        await until(lambda: world.relay.conversations[ana].unread_count == 0)
        await client.until_synced()
        assert await unread(client, ana) == 0


async def test_refused_read_mark_is_taken_back(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    message = world.relay.customer_writes(ana, "hello")
    world.relay.fail("POST", "/read", Fault.REFUSED)
    async with world.signed_in() as client:
        await client.engine.open_conversation(ana)
        await client.engine.mark_read(ana, message.id)
        await until(lambda: not world.relay.planned)
        await eventually(lambda: unread(client, ana), 1)
