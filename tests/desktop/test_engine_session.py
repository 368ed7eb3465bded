"""Signing in and out, tokens, and what happens when the relay ends a session."""

import asyncio

import pytest

from desktop.cache.errors import CacheError
from desktop.engine.api import NetworkError, RefusedError
from desktop.engine.engine import NotSignedIn, UnsentLeft, normal_relay_url
from desktop.engine.events import (
    CacheUnavailable,
    ConnectionChanged,
    Phase,
    SessionRevoked,
    SignedIn,
    SignInRequired,
)
from desktop.platform.keyring import KeyringUnavailable
from shared.content import TextContent
from tests.desktop.engine_client import Client, JumpingClock, MemoryKeyring, World, eventually, until
from tests.desktop.fake_relay import EMAIL, ME, Fault


async def test_first_start_asks_for_signing_in(world: World) -> None:
    async with world.running() as client:
        assert client.events == [SignInRequired(can_remember=True)]
        with pytest.raises(NotSignedIn):
            await client.engine.queries.inbox_counts()


async def test_sign_in_then_start_again_without_a_network(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in():
        pass
    world.relay.down = True
    async with world.running() as client:
        assert client.events[0] == SignedIn(ME, world.url, remembered=True)
        assert await client.inbox() == [ana]
        await until(lambda: client.connection.phase is Phase.OFFLINE)
        assert client.connection.last_sync_at is not None
        assert client.connection.reason


async def test_wrong_password_is_told_in_words(world: World) -> None:
    async with world.running() as client:
        with pytest.raises(RefusedError) as caught:
            await client.engine.sign_in(world.url, EMAIL, "guess", remember=True)
        assert caught.value.code == "invalid_credentials"
        assert caught.value.title == "E-mail or password is wrong."
        assert world.keyring.secrets == {}


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Fault.CAPTIVE_PORTAL, "not_the_relay"), (Fault.LOST, "unreachable")],
)
async def test_sign_in_through_a_bad_network(world: World, fault: Fault, code: str) -> None:
    world.relay.fail("POST", "login", fault)
    async with world.running() as client:
        with pytest.raises(NetworkError) as caught:
            await client.sign_in(world.url)
        assert caught.value.code == code


def test_addresses_are_completed() -> None:
    assert normal_relay_url(" world.relay.example.com/ ") == "https://world.relay.example.com"
    assert normal_relay_url("localhost:8000") == "http://localhost:8000"
    assert normal_relay_url("http://10.0.0.1:8000") == "http://10.0.0.1:8000"


async def test_many_requests_share_one_refresh(world: World) -> None:
    async with world.signed_in() as client:
        account = client.engine._open_account
        before = world.relay.refreshes
        world.relay.access_tokens.clear()  # as if the relay's clock were ahead
        await asyncio.gather(*(account._api.me() for _ in range(20)))
        assert world.relay.refreshes == before + 1
        assert world.keyring.secrets[f"{ME.user.id}/refresh-token"] in world.relay.refresh_tokens


async def test_tokens_are_renewed_ahead_of_their_end(world: World) -> None:
    clock = JumpingClock()
    async with world.signed_in(clock=clock) as client:
        before = world.relay.refreshes
        clock.skip = 500.0
        await client.engine._open_account._api.me()
        assert world.relay.refreshes == before
        clock.skip = 545.0
        await client.engine._open_account._api.me()
        assert world.relay.refreshes == before + 1


async def test_lost_refresh_answer_keeps_the_session(world: World) -> None:
    async with world.signed_in() as client:
        world.relay.fail("POST", "refresh", Fault.LOST, Fault.ERROR_500)
        world.relay.access_tokens.clear()
        world.relay.add_conversation()
        await eventually(lambda: _count(client), 1)
        assert client.told(SignInRequired) == [SignInRequired(can_remember=True)]


async def _count(client: Client) -> int:
    return (await client.engine.queries.inbox_counts()).total


async def test_revoked_device_reports_unsent_then_deletes_everything(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        world.relay.fail("POST", "messages", *[Fault.UNAVAILABLE] * 50)
        await client.engine.send_text(ana, "not sent yet", None)
        world.relay.revoke()
        await until(lambda: bool(client.told(SessionRevoked)))
        await until(lambda: isinstance(client.events[-1], SignInRequired))
        (event,) = client.told(SessionRevoked)
        assert [(lost.contact, lost.text) for lost in event.lost] == [("Ana", "not sent yet")]
        assert world.keyring.secrets == {}
        assert not world.files("cache.db*")
        assert client.told(SignInRequired)[-1].email == EMAIL
        with pytest.raises(NotSignedIn):
            await client.engine.queries.inbox_counts()


async def test_ended_session_keeps_cache_and_outbox_for_the_next_sign_in(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        world.relay.fail("POST", "messages", *[Fault.UNAVAILABLE] * 3)
        await client.engine.send_text(ana, "later", None)
        world.relay.unknown_session = True
        world.relay.access_tokens.clear()
        await until(lambda: client.told(SignInRequired)[-1].reason != "")
        assert client.told(SignInRequired)[-1].email == EMAIL
        await client.sign_in(world.url)
        await until(lambda: len(world.relay.arrivals) == 1)
        assert [message.content for message in world.relay.timeline(ana)] == [TextContent("later")]


async def test_signing_out_asks_before_losing_messages(world: World) -> None:
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        world.relay.fail("POST", "messages", *[Fault.UNAVAILABLE] * 50)
        await client.engine.send_text(ana, "hello", None)
        with pytest.raises(UnsentLeft) as caught:
            await client.engine.sign_out()
        assert caught.value.count == 1
        await client.engine.sign_out(discard_unsent=True)
        assert world.relay.revoked
        assert world.keyring.secrets == {}
        assert not world.files("cache.db*")
        await until(lambda: isinstance(client.events[-1], SignInRequired))


async def test_without_a_keyring_the_session_leaves_nothing(world: World) -> None:
    world.relay.add_conversation("Ana")

    def no_keyring() -> MemoryKeyring:
        raise KeyringUnavailable("No keyring.", "Install one.")

    client = Client(world.data_dir, MemoryKeyring())
    client.engine._open_keyring = no_keyring
    await client.engine.start()
    assert client.told(SignInRequired) == [
        SignInRequired(can_remember=False, why_not="No keyring. Install one.")
    ]
    with pytest.raises(KeyringUnavailable):
        await client.sign_in(world.url, remember=True)
    await client.sign_in(world.url, remember=False)
    await client.until_synced()
    assert await _count(client) == 1
    assert not client.told(SignedIn)[0].remembered
    files = world.files("cache.db*")
    assert files
    assert all(b"Ana" not in file.read_bytes() for file in files)
    await client.engine.close()
    assert not world.files("cache.db*")


# --- the key --------------------------------------------------------------------------------------


async def _leave_unsent(world: World) -> None:
    """Sign in, leave one message unsent, end."""
    ana = world.relay.add_conversation("Ana")
    async with world.signed_in() as client:
        world.relay.down = True
        await client.engine.send_text(ana, "unsent", None)
    world.relay.down = False


@pytest.mark.parametrize("how", ["missing", "wrong", "other keyring", "corrupt"])
async def test_cache_that_cannot_be_opened_is_told_and_kept(world: World, how: str) -> None:
    await _leave_unsent(world)
    (file,) = world.files("cache.db")
    key_name = f"{ME.user.id}/cache-key"
    code = {"missing": "cache_key_missing", "wrong": "cache_key_wrong", "corrupt": "cache_corrupt"}.get(
        how, "cache_key_missing"
    )
    match how:
        case "missing":
            del world.keyring.secrets[key_name]
        case "wrong":
            world.keyring.secrets[key_name] = bytes(32).hex()
        case "other keyring":
            world.keyring.holder = "another keyring"
        case "corrupt":
            file.write_bytes(b"x" * file.stat().st_size)
    before = file.read_bytes()
    async with world.running() as client:
        (told,) = client.told(CacheUnavailable)
        assert (told.code, told.unsent, told.can_rebuild) == (code, 1, True)
        assert not client.told(SignedIn)
        assert file.read_bytes() == before
        await client.engine.rebuild_cache()
        await client.until_synced()
        assert await _count(client) == 1
        kept = world.files("unreadable-*-cache.db")
        assert [path.read_bytes() for path in kept] == [before]


async def test_newer_schema_is_refused_without_offering_to_delete(world: World) -> None:
    await _leave_unsent(world)
    async with world.running() as client:
        account = client.engine._open_account
        async with account._cache.writing() as connection:
            await connection.exec_driver_sql("PRAGMA user_version = 2000")
    async with world.running() as client:
        (told,) = client.told(CacheUnavailable)
        assert (told.code, told.can_rebuild) == ("cache_newer", False)


async def test_signing_in_again_never_replaces_a_cache_with_unsent_messages(world: World) -> None:
    await _leave_unsent(world)
    (file,) = world.files("cache.db")
    world.keyring.secrets.clear()
    async with world.running() as client:
        with pytest.raises(CacheError) as caught:
            await client.sign_in(world.url)
        assert caught.value.code == "cache_key_missing"
        assert file.exists()
        assert not client.told(ConnectionChanged)


async def test_keyring_that_is_locked_can_be_tried_again(world: World) -> None:
    await _leave_unsent(world)

    def locked(_name: str) -> str | None:
        raise KeyringUnavailable("The keyring did not answer.", "Unlock it.")

    unlocked = world.keyring.get
    world.keyring.get = locked  # type: ignore[method-assign,assignment]
    async with world.running() as client:
        (told,) = client.told(CacheUnavailable)
        assert (told.code, told.can_rebuild) == ("keyring_unavailable", False)
        world.keyring.get = unlocked  # type: ignore[method-assign]
        await client.engine.reopen()
        assert client.told(SignedIn)
        await until(lambda: len(world.relay.arrivals) == 1)


async def test_damage_found_while_running_offers_to_rebuild(world: World) -> None:
    await _leave_unsent(world)
    (file,) = world.files("cache.db")
    damaged = bytearray(file.read_bytes())
    for page in range(1, len(damaged) // 4096):  # all but the first: it opens, then reading fails
        damaged[page * 4096 + 100 : page * 4096 + 200] = bytes(100)
    file.write_bytes(damaged)
    async with world.running() as client:
        await until(lambda: bool(client.told(CacheUnavailable)))
        assert client.told(CacheUnavailable)[0].can_rebuild
        await client.engine.rebuild_cache()
        await client.until_synced()
        assert await _count(client) == 1
