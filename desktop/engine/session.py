"""Access to the relay on behalf of one signed-in device.

    signed in ── bearer() ──▶ token with time left: use it
                              near its end or rejected: refresh, one for all who wait
                                  ├─ new pair: kept in the keyring, then used
                                  ├─ no answer: the caller hears of it, stays signed in
                                  └─ refused as ended or revoked ──▶ ended, for good

The relay gives the same successor to a refresh whose answer was lost, so trying again is safe.
"""

import asyncio
import logging
from typing import Final

from desktop.engine.api import Api, RefusedError
from desktop.engine.clock import Clock
from desktop.platform.keyring import KeyringUnavailable, SecretStore
from shared.wire.auth import TokenPair
from shared.wire.problem import Code

log = logging.getLogger("desktop.session")

REFRESH_AHEAD_SECONDS: Final = 60.0
REFRESH_AHEAD_SHARE: Final = 0.2
"""Tokens are renewed this long, or this share of their life if that is shorter, before they end."""

_ENDS_SESSION: Final = frozenset({Code.UNAUTHENTICATED, Code.SESSION_REVOKED, Code.INVALID_CREDENTIALS})


class Session:
    """Tokens of one device. `ended` is set once the relay has refused to renew them; `refusal` says why."""

    def __init__(
        self, api: Api, secrets: SecretStore, secret_name: str, refresh_token: str, clock: Clock
    ) -> None:
        self._api = api
        self._secrets = secrets
        self._secret_name = secret_name
        self._refresh_token = refresh_token
        self._clock = clock
        self._access_token = ""
        self._renew_at = clock.monotonic()
        self._refreshing: asyncio.Task[None] | None = None
        self.refusal: RefusedError | None = None
        self.ended = asyncio.Event()
        api.authorize(self.bearer)

    async def adopt(self, pair: TokenPair) -> None:
        """Use this pair from now on; the refresh token is kept before the access token is used."""
        self._refresh_token = pair.refresh_token
        try:
            await asyncio.to_thread(self._secrets.set, self._secret_name, pair.refresh_token)
        except KeyringUnavailable as error:
            # The session goes on; after a restart the person signs in again.
            log.warning("the refresh token is only in memory: %s", error)
        self._access_token = pair.access_token
        ahead = min(REFRESH_AHEAD_SECONDS, REFRESH_AHEAD_SHARE * pair.expires_in)
        self._renew_at = self._clock.monotonic() + pair.expires_in - ahead

    async def bearer(self, rejected: str | None) -> str:
        """An access token with time left. `rejected`: the token the relay just refused.

        Raises `RefusedError` once the session has ended, `NetworkError` or `ServerError` if it could not be
        renewed now.
        """
        if self.refusal is not None:
            raise self.refusal
        if self._clock.monotonic() >= self._renew_at or rejected == self._access_token:
            if self._refreshing is None:
                self._refreshing = asyncio.create_task(self._refresh(), name="refresh tokens")
                self._refreshing.add_done_callback(self._refresh_done)
            # Shielded: one impatient caller must not lose the new pair for the others.
            await asyncio.shield(self._refreshing)
        return self._access_token

    async def close(self) -> None:
        """Let a refresh in flight finish: its answer replaces a token that no longer works."""
        if self._refreshing is not None:
            await asyncio.wait([self._refreshing], timeout=2.0)

    async def _refresh(self) -> None:
        try:
            pair = await self._api.refresh(self._refresh_token)
        except RefusedError as error:
            if error.code in _ENDS_SESSION:
                log.warning("the relay ended this session: %s", error)
                self.refusal = error
                self.ended.set()
            raise
        await self.adopt(pair)

    def _refresh_done(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("tokens were not renewed: %s", error)
