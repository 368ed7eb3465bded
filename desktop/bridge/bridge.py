"""The one object through which view-models and the engine talk."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from PySide6.QtCore import QObject, Qt, Signal

from desktop.bridge.runtime import EngineGone, EngineThread
from desktop.engine.events import Event, Trouble

if TYPE_CHECKING:
    from desktop.engine.engine import Engine

T = TypeVar("T")

CALL_TIMEOUT_SECONDS = 30.0


class Bridge(QObject):
    """Give it the function that makes the engine; it runs on the engine's thread, so its imports do too.

    def make_engine(publish):
        from desktop.engine.engine import Engine
        return Engine(paths, publish=publish)

    bridge = Bridge(make_engine)
    bridge.events.connect(model.on_events)
    window.show()
    bridge.start()          # imports, opens the cache and reports through events
    ...
    await bridge.shutdown()
    """

    events = Signal(object)
    """A batch: `tuple[Event, ...]` (see `desktop.engine.events`), delivered on the GUI thread."""

    _delivered = Signal(object)

    def __init__(
        self,
        make_engine: "Callable[[Callable[[tuple[Event, ...]], None]], Engine]",
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._delivered.connect(self.events, Qt.ConnectionType.QueuedConnection)
        self._runtime = EngineThread(lambda: make_engine(self._delivered.emit), self._tell_failure)

    def start(self) -> None:
        """Start the engine's thread. Returns at once; what happens is told by `events`."""
        self._runtime.start()

    def submit(self, command: "Callable[[Engine], Awaitable[T]]") -> "Future[T]":
        """Start a command from plain Qt code. The future's callbacks run on the engine's thread."""
        return self._runtime.submit(command)

    async def call(
        self, command: "Callable[[Engine], Awaitable[T]]", *, timeout: float = CALL_TIMEOUT_SECONDS
    ) -> T:
        """Run `command` on the engine's thread and wait for its result in the GUI's loop.

        Calls made before the engine is ready wait for it. Raises what the command raised, or `TimeoutError`
        after `timeout` seconds; the command is then cancelled. Cancelling the caller cancels it too.
        """
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(self._runtime.submit(command))

    def _tell_failure(self, error: EngineGone) -> None:
        self._delivered.emit((Trouble(error.code, error.title, error.advice),))

    async def shutdown(self) -> None:
        """Stop the engine in order: sends in flight end, socket and cache close. At most 5 seconds."""
        await asyncio.get_running_loop().run_in_executor(None, self._runtime.stop)
