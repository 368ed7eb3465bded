"""The engine as the views know it: what can be asked of it, and who is signed in.

    start ──▶ account from last time ──▶ its cache opens ──▶ SignedIn, synchronising
      │                 │                    └─ it does not ──▶ CacheUnavailable ──▶ rebuild_cache, reopen
      └─ none ──────────┴─ no session ──▶ SignInRequired ──▶ sign_in ──▶ SignedIn
                                             ▲
        signed out or revoked (cache deleted), session ended (cache kept)

Reads go through `queries`; everything else is a command below. All of it runs on the engine's thread.
"""

import asyncio
import logging
import platform
import secrets as random_secrets
import sys
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import httpx
import msgspec

from desktop.cache import writes
from desktop.cache.errors import CacheError, key_missing, key_wrong
from desktop.cache.queries import Queries
from desktop.cache.rows import MessageRow, UnsentMessage
from desktop.cache.store import KEY_BYTES, Cache
from desktop.engine.account import Account, read_me
from desktop.engine.account_file import (
    AccountFile,
    AccountFolder,
    account_folder,
    current_account,
    delete_session_folders,
    key_check,
    set_current_account,
)
from desktop.engine.api import Api, ApiError, RefusedError
from desktop.engine.clock import Clock
from desktop.engine.events import CacheUnavailable, Event, SessionRevoked, SignedIn, SignInRequired
from desktop.engine.publisher import Publisher
from desktop.engine.session import Session
from desktop.errors import UserFacing
from desktop.platform.keyring import KeyringUnavailable, SecretStore, SessionSecrets, SystemKeyring
from desktop.platform.paths import AppPaths
from shared.wire.auth import LoginRequest, Me
from shared.wire.problem import Code

log = logging.getLogger("desktop.engine")

LOGOUT_SECONDS: Final = 5.0


class NotSignedIn(UserFacing):
    """No account is open. `code` is `not_signed_in`."""

    code = "not_signed_in"

    def __init__(self) -> None:
        super().__init__("You are not signed in.", "Sign in and try again.")


class UnsentLeft(UserFacing):
    """Signing out would lose `count` messages. `code` is `unsent_left`."""

    code = "unsent_left"

    def __init__(self, count: int) -> None:
        self.count = count
        what = "One message was" if count == 1 else f"{count} messages were"
        super().__init__(f"{what} not sent yet.", "Signing out deletes what was not sent.")


class Engine:
    """Commands raise `desktop.errors.UserFacing` for what a person should know.

    `deliver` gets batches of events on the engine's thread. `open_keyring` gives the lasting place for
    secrets or raises `KeyringUnavailable`.
    """

    def __init__(
        self,
        paths: AppPaths,
        deliver: Callable[[tuple[Event, ...]], None],
        *,
        open_keyring: Callable[[], SecretStore] = SystemKeyring,
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._paths = paths
        self._publish = Publisher(deliver)
        self._open_keyring = open_keyring
        self._clock = clock or Clock()
        self._transport = transport
        self._keyring: SecretStore | None = None
        self._session_secrets = SessionSecrets()
        self._why_no_keyring = ""
        self._account: Account | None = None
        self._store: SecretStore = self._session_secrets
        self._changing = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        # The account whose cache did not open, for `reopen` and `rebuild_cache`.
        self._shut: tuple[AccountFolder, SecretStore] | None = None

    # --- reading ---

    @property
    def queries(self) -> Queries:
        """Reads from the cache. Raises `NotSignedIn` while no account is open."""
        return self._open_account.queries

    @property
    def _open_account(self) -> Account:
        if self._account is None:
            raise NotSignedIn
        return self._account

    # --- session ---

    async def start(self) -> None:
        """Open the account of last time, or ask for signing in. Network faults do not matter here."""
        await asyncio.to_thread(delete_session_folders, self._paths)
        await self._find_keyring()
        async with self._changing:
            folder = current_account(self._paths)
            if folder is None or self._keyring is None:
                self._require_sign_in(folder)
            else:
                await self._open_or_tell(folder, self._keyring)

    async def sign_in(self, relay_url: str, email: str, password: str, *, remember: bool) -> Me:
        """Sign in and open the account's cache. `remember`: keep the session in the keyring.

        Without it the cache is encrypted with a key that only this process knows and is deleted at the end.
        A cache that was kept when its session ended is used again, with what was not sent.
        """
        relay_url = normal_relay_url(relay_url)
        if remember and self._keyring is None:
            await self._find_keyring()
            if self._keyring is None:
                raise KeyringUnavailable(self._why_no_keyring, "Sign in for this session only.")
        async with self._changing:
            if self._account is not None:
                raise UserFacing("You are already signed in.", "Sign out first.", code="signed_in")
            store = self._keyring if remember and self._keyring is not None else self._session_secrets
            api = Api(relay_url, transport=self._transport)
            try:
                request = LoginRequest(email.strip(), password, platform.node(), sys.platform)
                pair = await api.login(request)
                me = await api.me(pair.access_token)
            finally:
                await api.close()
            folder = account_folder(self._paths, me.user.id, lasting=store.lasting)
            await asyncio.to_thread(store.set, _token_name(me.user.id), pair.refresh_token)
            key = await self._key_for(folder, store, me.user.id)
            folder.write(
                AccountFile(
                    user_id=me.user.id,
                    email=me.user.email,
                    relay_url=relay_url,
                    holder=store.holder,
                    key_check=key_check(key),
                )
            )
            if store.lasting:
                set_current_account(self._paths, me.user.id)
            await self._open(folder, store, me)
            return me

    async def sign_out(self, *, discard_unsent: bool = False) -> None:
        """Sign out and delete the cache. Raises `UnsentLeft` if messages would be lost and not allowed.

        Offline the relay learns nothing of it: there the device stays until its session ends by age or an
        admin ends it.
        """
        async with self._changing:
            account = self._open_account
            unsent = await account.queries.unsent()
            if unsent and not discard_unsent:
                raise UnsentLeft(len(unsent))
            try:
                async with asyncio.timeout(LOGOUT_SECONDS):
                    await account.log_out()
            except (ApiError, TimeoutError) as error:
                log.warning("the relay was not told of the sign-out: %s", error)
            await self._close_account()
            await self._wipe(account)
            self._require_sign_in(None)

    async def reopen(self) -> None:
        """After `CacheUnavailable`: try once more (the keyring was unlocked, the disk has space)."""
        async with self._changing:
            if self._shut is None:
                return
            folder, store = self._shut
            await self._open_or_tell(folder, store)

    async def rebuild_cache(self) -> None:
        """After `CacheUnavailable`: set the unreadable file aside and load everything from the relay.

        Raises `ApiError` if the relay cannot be reached; then nothing was changed.
        """
        async with self._changing:
            if self._shut is None:
                return
            folder, store = self._shut
            account = folder.read()
            me = None if account is None else await self._ask_who(account, store)
            folder.set_cache_aside(f"{self._clock.now():%Y%m%dT%H%M%S}")
            if account is None or me is None:
                self._shut = None
                self._require_sign_in(folder)
                return
            key = await self._new_key(store, account.user_id)
            folder.write(msgspec.structs.replace(account, holder=store.holder, key_check=key_check(key)))
            await self._open(folder, store, me)

    async def _ask_who(self, account: AccountFile, store: SecretStore) -> Me | None:
        """Ask the relay with the session of last time; None if that is over."""
        token = await asyncio.to_thread(store.get, _token_name(account.user_id))
        if token is None:
            return None
        api, session = self._session(account, store, token)
        try:
            return await api.me()
        except RefusedError:
            if session.ended.is_set():
                return None
            raise
        finally:
            await session.close()
            await api.close()

    # --- messages ---

    async def send_text(self, conversation_id: UUID, body: str, seen_message_id: UUID | None) -> MessageRow:
        """Queue a message; it is on disk when this returns. `seen_message_id`: newest message on screen."""
        return await self._open_account.send_text(conversation_id, body, seen_message_id)

    async def retry_send(self, client_id: UUID) -> None:
        """Try an unsent message (wedged or waiting here) again now. For the relay's see `send_again`."""
        await self._open_account.outbox.retry(client_id)

    async def cancel_send(self, client_id: UUID) -> UnsentMessage:
        """Take an unsent message back, to edit or drop it. Raises `AlreadyLeaving` while it is being sent."""
        return await self._open_account.outbox.cancel(client_id)

    async def send_again(
        self, conversation_id: UUID, message_id: UUID, *, may_arrive_twice: bool = False
    ) -> None:
        """Have the relay send a failed or unconfirmed message again; needs the relay to be reachable.

        For an unconfirmed one the agent must have said that it `may_arrive_twice`. Raises `ApiError`.
        """
        await self._open_account.send_again(conversation_id, message_id, may_arrive_twice=may_arrive_twice)

    async def mark_not_sent(self, conversation_id: UUID, message_id: UUID) -> None:
        """The agent decides that an unconfirmed message did not arrive. Raises `ApiError`."""
        await self._open_account.mark_not_sent(conversation_id, message_id)

    async def mark_read(self, conversation_id: UUID, message_id: UUID) -> None:
        """Everything up to this message was seen. Takes effect here at once, at the relay when it can."""
        await self._open_account.read_marks.mark(conversation_id, message_id)

    async def open_conversation(self, conversation_id: UUID) -> None:
        """The agent looks at it: bring its newest page if the cache cannot promise to be complete.

        Raises `ApiError` when offline; what is cached can be shown all the same.
        """
        await self._open_account.history.open(conversation_id)

    async def load_older(self, conversation_id: UUID) -> int:
        """Bring one more page of older messages; how many came. 0 at the start of the conversation."""
        return await self._open_account.history.load_older(conversation_id)

    async def save_draft(self, conversation_id: UUID, text: str) -> None:
        """Keep what is in the composer; an empty text removes it."""
        await self._open_account.save_draft(conversation_id, text)

    async def retry_now(self) -> None:
        """Connect and send at once instead of waiting: "Try now", waking from sleep, a network change."""
        if self._account is not None:
            self._account.retry_now()

    async def close(self) -> None:
        """Stop everything in order. A session that is not remembered leaves nothing behind."""
        async with self._changing:
            await self._close_account()
            await asyncio.to_thread(delete_session_folders, self._paths)
            self._publish.flush()

    # --- opening and closing ---

    async def _find_keyring(self) -> None:
        try:
            self._keyring = await asyncio.to_thread(self._open_keyring)
            self._why_no_keyring = ""
        except KeyringUnavailable as error:
            log.warning("%s", error)
            self._keyring = None
            self._why_no_keyring = str(error)

    async def _open_or_tell(self, folder: AccountFolder, store: SecretStore) -> None:
        """Open an account from its files; what stands in the way is told as an event."""
        try:
            await self._open(folder, store, None)
        except KeyringUnavailable as error:
            self._shut = (folder, store)
            self._tell_unavailable(folder, error, can_rebuild=False)
        except CacheError:
            pass  # told by _open
        except NotSignedIn:
            self._require_sign_in(folder)

    async def _open(self, folder: AccountFolder, store: SecretStore, me: Me | None) -> None:
        """Open the cache and start to synchronise. `me`: fresh from the relay, else as cached.

        Raises `CacheError` (after telling), `KeyringUnavailable`, or `NotSignedIn` if there is no session.
        """
        account = folder.read()
        if account is None:
            raise NotSignedIn
        try:
            await self._open_and_begin(folder, store, account, me)
        except CacheError as error:
            log.exception("the cache of %s cannot be opened", account.user_id)
            self._shut = (folder, store)
            self._tell_unavailable(folder, error, can_rebuild=error.can_rebuild)
            raise

    async def _open_and_begin(
        self, folder: AccountFolder, store: SecretStore, account: AccountFile, me: Me | None
    ) -> None:
        token = await asyncio.to_thread(store.get, _token_name(account.user_id))
        cache = await self._open_cache(folder, store, account)
        try:
            if me is None:
                me = await read_me(cache)
            else:
                async with cache.writing() as connection:
                    await writes.put_me(connection, me)
            if token is not None and me is not None:
                await self._begin(folder, store, account, cache=cache, me=me, token=token)
                return
        except BaseException:
            await cache.close()
            raise
        await cache.close()
        raise NotSignedIn

    async def _begin(
        self,
        folder: AccountFolder,
        store: SecretStore,
        file: AccountFile,
        *,
        cache: Cache,
        me: Me,
        token: str,
    ) -> None:
        api, session = self._session(file, store, token)
        account = Account(
            me=me,
            folder=folder,
            cache=cache,
            api=api,
            session=session,
            publish=self._publish,
            clock=self._clock,
        )
        self._shut = None
        self._account, self._store = account, store
        self._publish(SignedIn(me, file.relay_url, store.lasting))
        try:
            await account.start()
        except BaseException:
            self._account = None
            await api.close()
            raise
        self._watch = asyncio.create_task(self._watch_account(account, file), name="watch account")
        self._watch.add_done_callback(_log_failure)

    async def _open_cache(self, folder: AccountFolder, store: SecretStore, account: AccountFile) -> Cache:
        stored = await asyncio.to_thread(store.get, _key_name(account.user_id))
        if stored is None or account.holder != store.holder:
            raise key_missing(account.holder)
        key = bytes.fromhex(stored)
        if key_check(key) != account.key_check:
            raise key_wrong(account.holder)
        return await Cache.open(folder.cache, key)

    def _session(self, account: AccountFile, store: SecretStore, token: str) -> tuple[Api, Session]:
        api = Api(account.relay_url, transport=self._transport)
        return api, Session(api, store, _token_name(account.user_id), token, self._clock)

    async def _key_for(self, folder: AccountFolder, store: SecretStore, user_id: UUID) -> bytes:
        """The key of the cache that was kept from an earlier session, or a new one for a new cache.

        Raises `CacheError` where a cache is there but not its key: it is never silently replaced.
        """
        known = folder.read()
        if known is None:
            folder.set_cache_aside(f"{self._clock.now():%Y%m%dT%H%M%S}")
        if known is None or not folder.cache.exists():
            return await self._new_key(store, user_id)
        stored = await asyncio.to_thread(store.get, _key_name(user_id))
        if stored is None or key_check(bytes.fromhex(stored)) != known.key_check:
            error = key_missing(known.holder) if stored is None else key_wrong(known.holder)
            self._shut = (folder, store)
            self._tell_unavailable(folder, error, can_rebuild=True)
            raise error
        return bytes.fromhex(stored)

    async def _new_key(self, store: SecretStore, user_id: UUID) -> bytes:
        key = random_secrets.token_bytes(KEY_BYTES)
        await asyncio.to_thread(store.set, _key_name(user_id), key.hex())
        return key

    async def _watch_account(self, account: Account, file: AccountFile) -> None:
        """Wait for what ends an open account: the relay ends its session, or its cache is damaged."""
        ended: asyncio.Future[Any] = asyncio.ensure_future(account.session.ended.wait())
        damage: asyncio.Future[Any] = account.sync.damage
        try:
            await asyncio.wait((ended, damage), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        async with self._changing:
            if self._account is not account:
                return
            self._watch = None  # this task; _close_account must not cancel it
            if account.session.ended.is_set():
                await self._session_ended(account, file)
            else:
                error = account.sync.damage.result()
                self._shut = (account.folder, self._store)
                await self._close_account()
                self._tell_unavailable(account.folder, error, can_rebuild=True)

    async def _session_ended(self, account: Account, file: AccountFile) -> None:
        """Revoked deletes the cache, after telling what was not sent; anything else keeps it."""
        refusal = account.session.refusal
        if refusal is not None and refusal.code == Code.SESSION_REVOKED:
            self._publish(SessionRevoked(tuple(await account.queries.unsent())))
            await self._close_account()
            await self._wipe(account)
            self._require_sign_in(None, reason=refusal.title, email=file.email, relay_url=file.relay_url)
        else:
            await self._close_account()
            self._require_sign_in(account.folder, reason="Your session has ended. Nothing is lost.")

    async def _close_account(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._account is not None:
            account, self._account = self._account, None
            await account.close()

    async def _wipe(self, account: Account) -> None:
        user_id = account.me.user.id
        set_current_account(self._paths, None)
        await asyncio.to_thread(account.folder.delete)
        try:
            for name in (_key_name(user_id), _token_name(user_id)):
                await asyncio.to_thread(self._store.delete, name)
        except KeyringUnavailable as error:
            log.warning("old secrets stay in the keyring: %s", error)

    def _require_sign_in(
        self, folder: AccountFolder | None, *, reason: str = "", email: str = "", relay_url: str = ""
    ) -> None:
        known = folder.read() if folder is not None else None
        self._publish(
            SignInRequired(
                can_remember=self._keyring is not None,
                why_not=self._why_no_keyring,
                reason=reason,
                relay_url=known.relay_url if known else relay_url,
                email=known.email if known else email,
            )
        )

    def _tell_unavailable(self, folder: AccountFolder, error: UserFacing, *, can_rebuild: bool) -> None:
        self._publish(
            CacheUnavailable(error.code, error.title, error.advice, can_rebuild, unsent=folder.unsent)
        )


def normal_relay_url(text: str) -> str:
    """The address as typed, made complete: `relay.example.com` becomes `https://relay.example.com`."""
    url = text.strip().rstrip("/")
    if "://" not in url:
        host = url.split("/")[0].rsplit(":", 1)[0]
        url = f"{'http' if host in {'localhost', '127.0.0.1', '[::1]'} else 'https'}://{url}"
    return url


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s failed", task.get_name(), exc_info=error)


def _key_name(user_id: UUID) -> str:
    return f"{user_id}/cache-key"


def _token_name(user_id: UUID) -> str:
    return f"{user_id}/refresh-token"
