"""The socket: news without delay, and a line that is dead without saying so."""

import asyncio
from uuid import UUID

import pytest

from desktop.engine import live
from desktop.engine.events import ConnectionChanged, MessagesChanged, Phase, SignInRequired
from shared.wire import sync
from tests.desktop.engine_client import Client, World, eventually, until
from tests.desktop.fake_relay import START, Socket


async def connected(world: World, client: Client) -> Socket:
    await until(lambda: client.connection.live and bool(world.relay.sockets))
    return world.relay.sockets[0]


def speak(socket: Socket, *frames: sync.ServerFrame) -> None:
    socket.frames += frames
    socket.wake()


async def test_news_arrives_without_polling(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("desktop.engine.sync.POLL_SECONDS", 3_600.0)
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        await connected(world, client)
        for number in range(20):
            world.relay.customer_writes(ana, str(number))
            await asyncio.sleep(0.01)
        await eventually(lambda: client.texts(ana), [str(number) for number in range(20)])
        assert len(client.told(MessagesChanged)) > 1


async def test_token_is_renewed_over_the_open_socket(world: World) -> None:
    async with world.signed_in() as client:
        socket = await connected(world, client)
        before = world.relay.refreshes
        speak(socket, sync.AuthExpiring(START))
        await until(lambda: bool(socket.heard))
        (frame,) = socket.heard
        assert isinstance(frame, sync.Reauthenticate)
        assert frame.token in world.relay.access_tokens
        assert world.relay.refreshes == before + 1
        assert world.relay.sockets == [socket]


async def test_silent_line_is_asked_then_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-open: the connection stands, but nothing comes any more."""
    monkeypatch.setattr(live, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(live, "ANSWER_SECONDS", 0.3)
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        first = await connected(world, client)
        await until(lambda: any(isinstance(frame, sync.Ping) for frame in first.heard))
        assert world.relay.sockets == [first]  # it answers: the line is kept
        first.mute = True
        world.relay.customer_writes(ana, "not heard of")
        await until(lambda: bool(world.relay.sockets) and world.relay.sockets[0] is not first)
        await eventually(lambda: client.texts(ana), ["not heard of"])
        assert any(not event.live for event in client.told(ConnectionChanged))


async def test_goodbye_brings_the_client_back_later(world: World) -> None:
    async with world.signed_in() as client:
        socket = await connected(world, client)
        speak(socket, sync.Bye(200))
        loop = asyncio.get_running_loop()
        left = loop.time()
        await until(lambda: socket not in world.relay.sockets)
        await connected(world, client)
        assert loop.time() - left >= 0.2


async def test_without_a_socket_news_comes_by_polling(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("desktop.engine.sync.POLL_SECONDS", 0.05)
    ana = world.relay.add_conversation("Ana")
    world.relay.sockets_refused = True
    async with world.signed_in() as client:
        world.relay.customer_writes(ana, "hello")
        await eventually(lambda: client.texts(ana), ["hello"])
        assert (client.connection.phase, client.connection.live) == (Phase.ONLINE, False)
        world.relay.sockets_refused = False
        await client.engine.retry_now()
        await connected(world, client)


async def test_relay_that_goes_away_and_comes_back(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        socket = await connected(world, client)
        world.relay.down = True
        socket.close_code = 1012
        socket.wake()
        await until(lambda: client.connection.phase is Phase.OFFLINE)
        since = client.connection.since
        await client.engine.send_text(ana, "written offline", None)
        await until(lambda: client.connection.unsent == 1)
        assert client.connection.since == since
        world.relay.down = False
        await until(lambda: client.connection.phase is Phase.ONLINE)
        await until(lambda: len(world.relay.arrivals) == 1)
        await connected(world, client)


async def test_frame_of_a_later_version_is_ignored(world: World) -> None:
    async with world.signed_in() as client:
        socket = await connected(world, client)
        speak(socket, sync.Head(UUID(int=0), 0))  # another epoch: only a reason to look
        await asyncio.sleep(0.1)
        assert client.engine._open_account.sync.epoch == world.relay.epoch
        assert world.relay.sockets == [socket]


@pytest.mark.parametrize("code", [sync.CLOSE_UNAUTHENTICATED, sync.CLOSE_TRY_LATER])
async def test_closed_sockets_come_back(world: World, code: int) -> None:
    async with world.signed_in() as client:
        socket = await connected(world, client)
        socket.close_code = code
        socket.wake()
        await until(lambda: bool(world.relay.sockets) and world.relay.sockets[0] is not socket)
        assert client.told(SignInRequired)[-1].reason == ""


async def test_revocation_reaches_an_idle_desktop(world: World) -> None:
    async with world.signed_in() as client:
        await connected(world, client)
        world.relay.revoke()
        await until(lambda: client.told(SignInRequired)[-1].reason != "", 3.0)
        assert not world.files("cache.db*")


async def test_relay_on_this_computer_needs_no_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    async with world.signed_in() as client:
        await connected(world, client)
