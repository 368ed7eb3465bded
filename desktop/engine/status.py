"""How the connection is, put together from what the parts see and told when it changes."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import msgspec

from desktop.engine.clock import Clock
from desktop.engine.events import ConnectionChanged, Phase
from desktop.engine.publisher import Publisher


class Status:
    """`online` is set while the last exchange with the relay succeeded; `on_online` is called when it is."""

    def __init__(self, publish: Publisher, clock: Clock, on_online: Callable[[], None]) -> None:
        self._publish = publish
        self._clock = clock
        self._phase = Phase.CONNECTING
        self._since = clock.now()
        self._told: ConnectionChanged | None = None
        self._on_online = on_online
        self.last_sync_at: datetime | None = None
        self.online = asyncio.Event()
        self.live = False
        self.syncing = False
        self.unsent = 0
        self.wedged = 0
        self.reason = ""

    def reached(self) -> None:
        """The relay answered and the cache matches it."""
        self.last_sync_at = self._clock.now()
        self.reason = ""
        self._enter(Phase.ONLINE)
        if not self.online.is_set():
            self.online.set()
            self._on_online()
        self.tell()

    def counts(self, unsent: int, wedged: int) -> None:
        """How many messages the outbox holds, and how many of them need the agent."""
        self.unsent, self.wedged = unsent, wedged
        self.tell()

    def lost(self, reason: str) -> None:
        """An attempt to reach the relay failed."""
        self.reason = reason
        self.online.clear()
        self._enter(Phase.OFFLINE)
        self.tell()

    def tell(self) -> None:
        """Publish, unless nothing but the time of the last sync differs from what was told."""
        now = ConnectionChanged(
            phase=self._phase,
            since=self._since,
            live=self.live,
            syncing=self.syncing,
            unsent=self.unsent,
            wedged=self.wedged,
            reason=self.reason,
        )
        if now != self._told:
            self._told = now
            self._publish(msgspec.structs.replace(now, last_sync_at=self.last_sync_at))

    def _enter(self, phase: Phase) -> None:
        if phase != self._phase:
            self._phase = phase
            self._since = self._clock.now()
