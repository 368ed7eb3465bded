"""Things that happen later, all of which a reset can cancel."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


class Timers:
    def __init__(self) -> None:
        self._handles: set[asyncio.TimerHandle] = set()

    def later(self, seconds: float, action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call `action` after a while, unless `cancel_all` comes before."""

        def run() -> None:
            self._handles.discard(handle)
            action(*args, **kwargs)

        handle = asyncio.get_running_loop().call_later(seconds, run)
        self._handles.add(handle)

    def __len__(self) -> int:
        return len(self._handles)

    def cancel_all(self) -> None:
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
