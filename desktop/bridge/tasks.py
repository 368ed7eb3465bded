"""Starting coroutines in the GUI's loop.

asyncio keeps only weak references to tasks and reports a failure only when the task is collected, so nothing
else in the desktop calls `create_task`: `spawn` keeps the task, logs its failure with its name and ends it
with its owner.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from PySide6.QtCore import QObject

from desktop.errors import UserFacing

log = logging.getLogger("desktop.tasks")

_running: set[asyncio.Task[Any]] = set()
_show: Callable[[UserFacing], None] | None = None


def show_errors_with(show: Callable[[UserFacing], None] | None) -> None:
    """Where a `UserFacing` error that ends a spawned task is shown (the toasts); None: only the log."""
    global _show  # noqa: PLW0603 - one GUI, one place for messages
    _show = show


def spawn(coroutine: Coroutine[Any, Any, None], *, name: str, owner: QObject | None) -> asyncio.Task[None]:
    """Run `coroutine` in the current loop until it ends or `owner` is destroyed.

    A `UserFacing` error is shown to the person; any other exception is logged as a bug. Neither reaches the
    caller.
    """
    task = asyncio.get_running_loop().create_task(_guarded(coroutine, name), name=name)
    _running.add(task)
    task.add_done_callback(_running.discard)
    # A task cancelled before its first step never touched the coroutine, which would complain.
    task.add_done_callback(lambda _task: coroutine.close())
    if owner is not None:

        def on_owner_destroyed() -> None:
            task.cancel()

        connection = owner.destroyed.connect(on_owner_destroyed)
        # Qt drops the connection itself once the owner is gone; disconnecting it then does nothing.
        task.add_done_callback(lambda _task: QObject.disconnect(connection))
    return task


async def cancel_all() -> None:
    """End every spawned task; part of shutting down."""
    tasks = [task for task in _running if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _guarded(coroutine: Coroutine[Any, Any, None], name: str) -> None:
    try:
        await coroutine
    except UserFacing as error:
        log.info("%s: %s", name, error)
        if _show is not None:
            _show(error)
    except Exception:
        log.exception("the task %r failed", name)
