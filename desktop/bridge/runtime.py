"""The engine's thread and its asyncio loop."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from desktop.errors import UserFacing

if TYPE_CHECKING:
    from desktop.engine.engine import Engine

log = logging.getLogger("desktop.runtime")

T = TypeVar("T")

SHUTDOWN_SECONDS = 5.0


class EngineGone(UserFacing):
    """The engine did not start, or has stopped. `code` is `engine_gone`."""

    code = "engine_gone"

    def __init__(self) -> None:
        super().__init__("Relaydesk's engine is not running.", "Start Relaydesk again.")


class EngineThread:
    """Runs one engine from `start` to `stop`; `on_failure` is called on its thread if it dies.

    The loop is asyncio's own (on Windows the proactor), independent of Qt. Commands given before the engine
    exists wait for it. The thread is a daemon: when the engine does not stop in time, the program still ends.
    """

    def __init__(self, make_engine: "Callable[[], Engine]", on_failure: Callable[[EngineGone], None]) -> None:
        self._make_engine = make_engine
        self._on_failure = on_failure
        self._loop = asyncio.new_event_loop()
        self._engine: Engine | None = None
        self._started = asyncio.Event()  # or failed to
        self._ended = False
        self._ending = threading.Lock()
        self._stop_requested = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, command: "Callable[[Engine], Awaitable[T]]") -> "Future[T]":
        """Run `command` on the engine's loop as soon as the engine is ready.

        The future fails with `EngineGone` if it never is, or no longer is.
        """

        async def run() -> T:
            try:
                await self._started.wait()
                if self._engine is None:
                    raise EngineGone
                return await command(self._engine)
            except asyncio.CancelledError:
                if self._ended:
                    raise EngineGone from None
                raise

        with self._ending:
            if self._ended:
                gone: Future[T] = Future()
                gone.set_exception(EngineGone())
                return gone
            return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def stop(self, timeout: float = SHUTDOWN_SECONDS) -> bool:
        """Stop the engine and wait for its thread, at most `timeout` seconds. Says whether it ended."""
        with self._ending:
            if not self._ended and self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._stop_requested.set)
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if self._thread.is_alive():
            pending = [task.get_name() for task in asyncio.all_tasks(self._loop)]
            log.error("the engine did not stop within %.0f s; still running: %s", timeout, pending)
            return False
        return True

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(_log_loop_error)
        try:
            self._loop.run_until_complete(self._main())
        except Exception:
            log.exception("the engine failed")
            self._on_failure(EngineGone())
        finally:
            self._end()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _main(self) -> None:
        engine = self._make_engine()
        try:
            await engine.start()
            self._engine = engine
            self._started.set()
            await self._stop_requested.wait()
        finally:
            await engine.close()

    def _end(self) -> None:
        """Commands that still wait fail with `EngineGone`, so that nobody waits for them for ever."""
        with self._ending:
            self._ended = True  # none comes after this
        self._loop.run_until_complete(asyncio.sleep(0))  # those just handed over become tasks
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("in the engine's loop: %s", context.get("message"), exc_info=context.get("exception"))
