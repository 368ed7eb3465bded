"""`relay all`."""

import asyncio
import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator

import click

from relay.boot import booted, make_data_dir
from relay.cli.process import host_option, load_settings, port_option
from relay.kit.errors import OperatorError
from relay.settings import Settings
from relay.supervisor import supervise


@click.command("all")
@host_option
@port_option
def all_(host: str | None, port: int | None) -> None:
    """Everything on one machine: database, migrations, web process and worker.

    Crashed processes are started again. SIGTERM and Ctrl+C stop everything in order.
    """
    settings = load_settings(host, port)
    with _only_one(settings), booted(settings, migrate=True):
        address = [*(["--host", host] if host else []), *(["--port", str(port)] if port is not None else [])]
        relay = [sys.executable, "-m", "relay"]
        commands = {
            "web": [*relay, "serve", "--supervised", *address],
            "worker": [*relay, "worker", "--supervised"],
        }
        asyncio.run(supervise(commands))


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """One `relay all` per data folder: two would fight over its port and its children."""
    make_data_dir(settings.data_dir)
    path = settings.data_dir / "relay.lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = file.read().strip()
            raise OperatorError(f"`relay all` already runs on {settings.data_dir} (process {pid}).") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
