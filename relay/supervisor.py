"""`relay all`: the web process and the worker as children, restarted when they crash, gone when we are.

Each child holds the reading end of a pipe whose other end is ours. When we die, however suddenly, the pipe
closes, and the child stops as if it had been told to. So nothing is left behind, not even after kill -9.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

log = structlog.get_logger(__name__)

STOP_SECONDS: Final = 45.0
"""What a child gets to finish, before it is killed; more than its own grace."""
RETRY_CAP_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A child that ran this long counts as healthy: its next crash is its first again."""


def stop_with_parent() -> None:
    """In a child: watch standard input, and stop once the parent is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        log.warning("parent.gone")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)  # whatever hangs, an orphan is worse

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


async def supervise(commands: Mapping[str, Sequence[str]]) -> None:
    """Keep the commands running until SIGTERM or SIGINT, then stop them all and return."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    async with asyncio.TaskGroup() as group:
        for name, command in commands.items():
            group.create_task(_keep(name, command, stop), name=name)


async def _keep(name: str, command: Sequence[str], stop: asyncio.Event) -> None:
    failures = 0
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        began = clock()
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            process_group=0,  # Ctrl+C reaches us alone; we pass it on
        )
        log.info("process.started", name=name, pid=process.pid)
        exited = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({exited, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if stop.is_set():
            await _end(name, process)
            return
        failures = 1 if clock() - began > STEADY_SECONDS else failures + 1
        pause = min(RETRY_CAP_SECONDS, 0.25 * 2**failures)
        log.error("process.crashed", name=name, code=exited.result(), restart_in_seconds=pause)
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            continue


async def _end(name: str, process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            code = await process.wait()
    except TimeoutError:
        log.warning("process.killed", name=name, pid=process.pid, after_seconds=STOP_SECONDS)
        process.kill()
        code = await process.wait()
    log.info("process.stopped", name=name, code=code)
