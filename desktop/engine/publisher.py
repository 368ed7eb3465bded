"""From the engine to the views: events in batches, the first at once, then about 30 times a second."""

import asyncio
from collections.abc import Callable
from typing import Final

from desktop.engine.events import Event

BATCH_SECONDS: Final = 1 / 30


class Publisher:
    """Called on the engine's loop. `deliver` gets the batches there and must not block."""

    def __init__(self, deliver: Callable[[tuple[Event, ...]], None]) -> None:
        self._deliver = deliver
        self._pending: list[Event] = []
        self._timer: asyncio.TimerHandle | None = None
        self._last_flush = -BATCH_SECONDS

    def __call__(self, *events: Event) -> None:
        """Events of one call stay together and in order."""
        if not events:
            return
        self._pending += events
        if self._timer is None:
            loop = asyncio.get_running_loop()
            wait = self._last_flush + BATCH_SECONDS - loop.time()
            if wait <= 0:
                self.flush()
            else:
                self._timer = loop.call_later(wait, self.flush)

    def flush(self) -> None:
        """Deliver what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            batch, self._pending = tuple(self._pending), []
            self._last_flush = asyncio.get_running_loop().time()
            self._deliver(batch)
