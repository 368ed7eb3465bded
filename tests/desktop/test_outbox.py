"""Messages that wait to be sent: order, races, refusals, and nothing sent twice."""

import asyncio
import contextlib
from datetime import timedelta
from uuid import UUID

import pytest

from desktop.cache.rows import MessageRow, OutboxState, UnsentMessage
from desktop.engine.api import RefusedError
from desktop.engine.events import ConversationsChanged, MessagesChanged
from desktop.engine.outbox import AlreadyLeaving
from desktop.errors import UserFacing
from shared.content import TextContent
from shared.delivery import DeliveryStatus
from tests.desktop.engine_client import Client, JumpingClock, World, eventually, until
from tests.desktop.fake_relay import ME, Fault, Request


def states(rows: list[MessageRow]) -> list[OutboxState | None]:
    return [row.unsent.state if row.unsent else None for row in rows]


async def settled(client: Client, conversation_id: UUID) -> None:
    """Wait until nothing of this conversation is unsent."""

    async def waiting() -> int:
        return sum(row.unsent is not None for row in await client.timeline(conversation_id))

    await eventually(waiting, 0)


async def test_message_is_shown_at_once_and_becomes_the_relays(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        echo = await client.engine.send_text(ana, "  hello  ", None)
        assert echo.unsent is not None
        assert (echo.id, echo.status, echo.content) == (None, DeliveryStatus.QUEUED, TextContent("hello"))
        assert echo.author_name == ME.user.name
        await settled(client, ana)
        (row,) = await client.timeline(ana)
        assert row.key == echo.key
        assert row.id == world.relay.by_client_id[echo.key]
        told = [row for event in client.told(MessagesChanged) for row in event.rows]
        assert {row.key for row in told} == {echo.key}
        assert [row.status for row in told][:2] == [DeliveryStatus.QUEUED, DeliveryStatus.SENDING]


@pytest.mark.parametrize(
    ("body", "code"), [("  \n ", "empty"), ("x" * 4_097, "too_long")], ids=["empty", "too long"]
)
async def test_what_cannot_be_sent_is_not_queued(world: World, body: str, code: str) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        with pytest.raises(UserFacing) as caught:
            await client.engine.send_text(ana, body, None)
        assert caught.value.code == code
        assert await client.timeline(ana) == []


async def test_sent_in_the_order_of_writing(world: World) -> None:
    ana, ben = world.relay.add_conversation("Ana"), world.relay.add_conversation("Ben")
    world.relay.fail("POST", f"{ana}/messages", Fault.UNAVAILABLE, Fault.LOST)
    async with world.signed_in() as client:
        for number in range(5):
            await client.engine.send_text(ana, f"a{number}", None)
            await client.engine.send_text(ben, f"b{number}", None)
        await settled(client, ana)
        await settled(client, ben)
    for conversation, letter in ((ana, "a"), (ben, "b")):
        sent = [message.content for message in world.relay.timeline(conversation)]
        assert sent == [TextContent(f"{letter}{number}") for number in range(5)]


async def test_response_lost_after_accept_is_sent_once(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    world.relay.fail("POST", "messages", Fault.ANSWER_LOST, Fault.ANSWER_LOST)
    async with world.signed_in() as client:
        echo = await client.engine.send_text(ana, "hello", None)
        await settled(client, ana)
        assert world.relay.arrivals == [echo.key]
        assert await client.texts(ana) == ["hello"]


async def test_echo_before_response(world: World) -> None:
    """The feed brings the message while the answer to the request is still on its way."""
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        taken = asyncio.Event()
        go_on = asyncio.Event()
        account = client.engine._open_account
        send = account._api.send

        async def slow_send(*args: object) -> object:
            message = await send(*args)  # type: ignore[arg-type]
            taken.set()
            await go_on.wait()
            return message

        account._api.send = slow_send  # type: ignore[method-assign,assignment]
        await client.engine.send_text(ana, "hello", None)
        await taken.wait()
        await settled(client, ana)
        assert await client.texts(ana) == ["hello"]
        go_on.set()
        await account.outbox.drain()
        assert await client.texts(ana) == ["hello"]
        assert len(world.relay.arrivals) == 1


async def test_failure_after_the_echo_is_ignored(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        account = client.engine._open_account
        failing = asyncio.Event()
        send = account._api.send

        async def send_then_fail(*args: object) -> object:
            await send(*args)  # type: ignore[arg-type]
            await failing.wait()
            raise RuntimeError("after the fact")

        account._api.send = send_then_fail  # type: ignore[method-assign,assignment]
        await client.engine.send_text(ana, "hello", None)
        await settled(client, ana)
        failing.set()
        await account.outbox.drain()
        (row,) = await client.timeline(ana)
        assert row.unsent is None
        assert len(world.relay.arrivals) == 1


async def test_response_before_echo(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        account = client.engine._open_account
        changes = account._api.changes
        held = asyncio.Event()

        async def held_changes(after: int, epoch: UUID) -> object:
            await held.wait()
            return await changes(after, epoch)

        account._api.changes = held_changes  # type: ignore[method-assign,assignment]
        echo = await client.engine.send_text(ana, "hello", None)
        await settled(client, ana)
        held.set()
        message_id = world.relay.by_client_id[echo.key]
        world.relay.status(message_id, DeliveryStatus.DELIVERED)
        await eventually(lambda: _statuses(client, ana), [DeliveryStatus.DELIVERED])
        assert [row.key for row in await client.timeline(ana)] == [echo.key]


async def _statuses(client: Client, conversation_id: UUID) -> list[DeliveryStatus]:
    return [row.status for row in await client.timeline(conversation_id)]


async def test_refused_message_is_wedged_with_words_and_blocks_nobody(world: World) -> None:
    ana, ben = world.relay.add_conversation("Ana"), world.relay.add_conversation("Ben")
    world.relay.fail("POST", f"{ana}/messages", Fault.WINDOW_CLOSED)
    async with world.signed_in() as client:
        first = await client.engine.send_text(ana, "first", None)
        await client.engine.send_text(ana, "second", None)
        await client.engine.send_text(ben, "other", None)
        await until(lambda: len(world.relay.arrivals) == 2)
        await until(lambda: client.connection.wedged == 1)
        await eventually(lambda: client.texts(ana), ["second", "first"])
        rows = await client.timeline(ana)
        unsent = rows[1].unsent
        assert unsent is not None
        assert (unsent.state, unsent.code, unsent.maybe_sent) == (OutboxState.WEDGED, "window_closed", False)
        assert unsent.title == "The 24-hour window of this customer is closed."
        assert unsent.advice
        assert rows[1].status is DeliveryStatus.FAILED
        conversation = await client.engine.queries.conversation(ana)
        assert conversation is not None
        assert (conversation.unsent, conversation.wedged) == (1, 1)
        # wedge, fix, unwedge
        await client.engine.retry_send(first.key)
        await settled(client, ana)
        assert len(world.relay.arrivals) == 3


async def test_trouble_of_one_conversation_does_not_stop_another(world: World) -> None:
    ana, ben = world.relay.add_conversation("Ana"), world.relay.add_conversation("Ben")
    world.relay.fail("POST", f"{ana}/messages", *[Fault.ERROR_500] * 1_000)
    async with world.signed_in() as client:
        await client.engine.send_text(ana, "stuck", None)
        for number in range(5):
            await client.engine.send_text(ben, str(number), None)
        await settled(client, ben)
        (row,) = await client.timeline(ana)
        assert row.unsent is not None
        assert row.unsent.code == "internal"


@pytest.mark.parametrize(
    "fault", [Fault.RATE_LIMITED, Fault.CAPTIVE_PORTAL, Fault.GARBAGE, Fault.ERROR_500, Fault.LOST]
)
async def test_temporary_faults_are_tried_again(world: World, fault: Fault) -> None:
    ana = world.relay.add_conversation("Ana")
    world.relay.fail("POST", "messages", fault)
    async with world.signed_in() as client:
        await client.engine.send_text(ana, "hello", None)
        await settled(client, ana)
    assert len(world.relay.arrivals) == 1


async def test_taking_back_what_waits(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    world.relay.fail("POST", "messages", *[Fault.ERROR_500] * 1_000)
    async with world.signed_in() as client:
        position = (await client.engine.queries.conversation(ana)).position  # type: ignore[union-attr]
        echo = await client.engine.send_text(ana, "wrong words", None)
        await eventually(lambda: _states(client, ana), [OutboxState.RETRY_WAIT])
        taken = await _taken_back(client, echo.key)
        assert (taken.text, taken.contact, taken.unsent.maybe_sent) == ("wrong words", "Ana", True)
        assert await client.timeline(ana) == []
        assert (await client.engine.queries.conversation(ana)).position == position  # type: ignore[union-attr]
        await until(lambda: client.connection.unsent == 0)
        with pytest.raises(AlreadyLeaving):
            await client.engine.cancel_send(echo.key)


async def _taken_back(client: Client, key: UUID) -> UnsentMessage:
    """Between two tries: during one it cannot be taken back, and the first retry may come at once."""
    while True:
        with contextlib.suppress(AlreadyLeaving):
            return await client.engine.cancel_send(key)
        await asyncio.sleep(0.01)


async def _states(client: Client, conversation_id: UUID) -> list[OutboxState | None]:
    return states(await client.timeline(conversation_id))


async def test_what_is_on_its_way_cannot_be_taken_back(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        refused: list[bool] = []
        loop = asyncio.get_running_loop()
        keys: list[UUID] = []

        def while_sending(request: Request) -> None:
            if request.method == "POST" and "messages" in request.path:
                cancel = asyncio.run_coroutine_threadsafe(client.engine.cancel_send(keys[0]), loop)
                refused.append(isinstance(cancel.exception(5), AlreadyLeaving))

        world.relay.before_answer = while_sending
        keys.append((await client.engine.send_text(ana, "hello", None)).key)
        await settled(client, ana)
        assert refused == [True]


async def test_queue_is_loaded_at_start_and_sent_in_order(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        world.relay.down = True
        for number in range(3):
            await client.engine.send_text(ana, str(number), None)
        conversation = await client.engine.queries.conversation(ana)
        assert conversation is not None
        assert conversation.unsent == 3
    world.relay.down = False
    async with world.running() as client:
        await settled(client, ana)
        assert await client.texts(ana) == ["0", "1", "2"]
    assert len(world.relay.arrivals) == 3


async def test_yesterdays_message_is_not_sent_without_asking(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    clock = JumpingClock()
    async with world.signed_in(clock=clock) as client:
        world.relay.down = True
        echo = await client.engine.send_text(ana, "good morning", None)
    clock.jump = timedelta(hours=25)
    world.relay.down = False
    async with world.running(clock=clock) as client:
        await eventually(lambda: _states(client, ana), [OutboxState.WEDGED])
        assert world.relay.arrivals == []
        await client.engine.retry_send(echo.key)
        await settled(client, ana)
    assert world.relay.arrivals == [echo.key]


async def test_clock_set_back_does_not_hold_messages(world: World) -> None:
    """`next_at` of a waiting message lies far ahead once the clock was set back; it must not matter."""
    ana = world.relay.add_conversation("Ana")
    clock = JumpingClock()
    world.relay.fail("POST", "messages", Fault.ERROR_500, Fault.ERROR_500)
    async with world.signed_in(clock=clock) as client:
        await client.engine.send_text(ana, "hello", None)
        clock.jump = -timedelta(days=3)
        await settled(client, ana)


async def test_wrong_clock_keeps_unsent_messages_at_the_end(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    clock = JumpingClock()
    clock.jump = -timedelta(days=400)
    async with world.signed_in(clock=clock) as client:
        world.relay.customer_writes(ana, "question")
        await eventually(lambda: client.texts(ana), ["question"])
        world.relay.fail("POST", "messages", Fault.ERROR_500)
        await client.engine.send_text(ana, "answer", None)
        assert await client.texts(ana) == ["question", "answer"]
        await settled(client, ana)
        assert await client.texts(ana) == ["question", "answer"]


async def test_conversation_with_a_waiting_message_moves_up(world: World) -> None:
    ana, ben = world.relay.add_conversation("Ana"), world.relay.add_conversation("Ben")
    async with world.signed_in() as client:
        assert await client.inbox() == [ben, ana]
        world.relay.fail("POST", "messages", *[Fault.ERROR_500] * 1_000)
        await client.engine.send_text(ana, "hello", None)
        assert await client.inbox() == [ana, ben]
        await until(lambda: bool(client.told(ConversationsChanged)))
        rows = [row for event in client.told(ConversationsChanged) for row in event.rows]
        assert rows[-1].id == ana
        assert rows[-1].unsent == 1


async def test_full_disk_while_sending_recovers_and_sends_once(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        account = client.engine._open_account
        account.outbox.kick()
        describe = account.outbox._describe
        failures = 2

        async def failing(*args: object, **kwargs: object) -> object:
            nonlocal failures
            if failures:
                failures -= 1
                raise OSError("no space left on device")
            return await describe(*args, **kwargs)  # type: ignore[arg-type]

        await client.engine.send_text(ana, "hello", None)
        account.outbox._describe = failing  # type: ignore[method-assign,assignment]
        await until(lambda: failures == 0)
        await account.outbox.drain()
        account.outbox.kick()
        await settled(client, ana)
        assert len(world.relay.arrivals) == 1


async def test_unconfirmed_message_is_settled_by_the_agent(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        echo = await client.engine.send_text(ana, "hello", None)
        await settled(client, ana)
        id_ = world.relay.by_client_id[echo.key]
        world.relay.status(id_, DeliveryStatus.UNCONFIRMED)
        await eventually(lambda: _statuses(client, ana), [DeliveryStatus.UNCONFIRMED])
        with pytest.raises(RefusedError):
            await client.engine.send_again(ana, id_)
        await client.engine.mark_not_sent(ana, id_)
        assert await _statuses(client, ana) == [DeliveryStatus.FAILED]
        await client.engine.send_again(ana, id_, may_arrive_twice=True)
        assert await _statuses(client, ana) == [DeliveryStatus.QUEUED]
        told = [row for event in client.told(MessagesChanged) for row in event.rows]
        assert {row.key for row in told} == {echo.key}
