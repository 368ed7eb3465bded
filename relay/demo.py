"""`relay demo`: the whole system on this machine, with customers that write.

Everything is the real thing, as processes of their own: the relay's web process and worker on an embedded
Postgres, the sandbox in Meta's place, and the desktop, signed in as a demo agent. Each run begins with an
empty inbox, in a data folder that is the demo's alone.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import httpx
import psutil
import psycopg
from psycopg import sql

from relay.accounts import service as accounts
from relay.boot import DATABASE, SERVER_FOLDER, booted, make_data_dir
from relay.demo_programs import DemoError, Desktop, Program, Sandbox
from relay.kit import log
from relay.kit.db import PoolOptions
from relay.kit.embedded_postgres import EmbeddedPostgres
from relay.kit.passwords import hash_password
from relay.numbers import service as numbers
from relay.sandbox import defaults
from relay.services import open_services
from relay.settings import Settings

OWNER_EMAIL: Final = "owner@kiln-and-clay.example"
EMAIL: Final = "robin@kiln-and-clay.example"
PASSWORD: Final = "kiln-and-clay"  # noqa: S105 - of a demo that listens on this machine only
AGENT: Final = "Robin Ashdown"
CUSTOMERS: Final = 14
PACE_SECONDS: Final = 2.5
FIRST_CUSTOMER_SECONDS: Final = 20
CUSTOMER: Final = ("447700900142", "Maja Lindqvist")
QUESTION: Final = "Hi! Do you still have the blue bowl with the wide rim?"
REPLY: Final = "Hello Maja, yes: two are left. Shall I put one aside for you?"
TICKS: Final = ("sent", "delivered", "read")
TICK_SECONDS: Final = 20.0


@click.command()
@click.option("--once", is_flag=True, help="One round trip with its times, then stop; exit code 0 or 1.")
@click.option("--offscreen", is_flag=True, help="Run the desktop without a display, also where there is one.")
def demo(*, once: bool, offscreen: bool) -> None:
    """Show the whole system: relay, an emulator of Meta with customers that write, and the desktop.

    Without a display the desktop runs off screen, and its pictures are written into the demo's folder.
    """
    log.configure("error", "console")
    folder = _folder()
    with _only_one(folder):
        finished = asyncio.run(_until_stopped(_run(folder, once=once, offscreen=offscreen or not _display())))
    sys.exit(0 if finished else 1)


class Steps:
    """What has been reached, with the seconds since this process was started."""

    def __init__(self) -> None:
        self._start = psutil.Process().create_time()

    def __call__(self, words: str) -> None:
        click.echo(f"{time.time() - self._start:7.1f} s  {words}")


async def _run(folder: Path, *, once: bool, offscreen: bool) -> bool:
    step = Steps()
    relay_port, sandbox_port = _free_ports(2)
    relay_url, sandbox_url = (f"http://127.0.0.1:{port}" for port in (relay_port, sandbox_port))
    environment = _environment(
        DATA_DIR=str(folder / "relay"),
        HOST="127.0.0.1",
        PORT=str(relay_port),
        META_GRAPH_URL=sandbox_url,
        META_APP_SECRET=defaults.APP_SECRET,
        WEBHOOK_VERIFY_TOKEN=defaults.VERIFY_TOKEN,
        LOG_LEVEL="info",
        LOG_FORMAT="console",
    )
    settings = Settings.from_environment(environment)
    logs = folder / "logs"
    relay = [sys.executable, "-m", "relay"]
    async with contextlib.AsyncExitStack() as stack:
        complete = stack.enter_context(_fresh_database(settings))
        shutil.rmtree(folder / "desktop", ignore_errors=True)
        step("Postgres is ready")
        # They start side by side, and meanwhile there is somebody to work for.
        web, worker = [
            await stack.enter_async_context(
                Program.running(name, [*relay, command, "--supervised"], environment, logs)
            )
            for name, command in (("web", "serve"), ("worker", "worker"))
        ]
        sandbox = await stack.enter_async_context(Sandbox.running(sandbox_port, environment, logs))
        await _make_business(complete)
        await _until_ready(web, relay_url)
        await sandbox.ready()
        await sandbox.deliver_to(defaults.APP_ID, f"{relay_url}/webhooks/meta")
        step(f"The relay is ready at {relay_url}, with one business and its agent")
        if not once:
            await sandbox.bring_customers(CUSTOMERS, PACE_SECONDS)

        desktop = await stack.enter_async_context(
            Desktop.running(
                relay_url, (EMAIL, PASSWORD), folder, offscreen=offscreen, environment=environment
            )
        )
        if desktop.fell_back:
            step("The display cannot be used: the desktop runs off screen")
        await desktop.wait_for("page", 30, page="main")
        step(f"The desktop is open, signed in as {AGENT}")
        if not once:
            first = await desktop.wait_for("row", FIRST_CUSTOMER_SECONDS, text="")
            step(f"Customers are writing; {first['title']} is the first")
            await _show(desktop, step, folder, pictures=desktop.offscreen)
            click.echo(
                f"\nSign in elsewhere with {EMAIL} and the password {PASSWORD} at {relay_url}.\n"
                f"Logs: {folder / 'logs'}. Ctrl+C stops everything."
            )
            ended = await Program.first_to_end(web, worker, sandbox.program, desktop.program)
            if ended is not desktop.program:
                raise DemoError(ended.obituary())
            return True
        await _round_trip(desktop, sandbox, step)
        await sandbox.bring_customers(CUSTOMERS, PACE_SECONDS / 10)
        await _show(desktop, step, folder, pictures=True)
        return True


async def _round_trip(desktop: Desktop, sandbox: Sandbox, step: Steps) -> None:
    """A customer writes, the agent answers by keyboard, and the answer's ticks go up to read."""
    await sandbox.say(*CUSTOMER, QUESTION)
    step(f"{CUSTOMER[1]} writes")
    await desktop.wait_for("row", 15, text=CUSTOMER[1])
    step("… and stands in the agent's inbox")
    await desktop.ask("open", text=CUSTOMER[1])
    await desktop.wait_for("bubble", 15, text=QUESTION)
    step("… and her message is painted")
    await desktop.ask("type", text=REPLY)
    await desktop.ask("press", key="Return")
    await desktop.painted(REPLY, ("waiting", *TICKS), TICK_SECONDS)
    step("The agent replies; the reply is painted")
    for at, tick in enumerate(TICKS):
        await desktop.painted(REPLY, TICKS[at:], TICK_SECONDS)  # a later one may have overtaken it
        step(f"… {tick}")


async def _show(desktop: Desktop, step: Steps, folder: Path, *, pictures: bool) -> None:
    """Without a display: what a person would see, as pictures."""
    if not pictures:
        return
    await asyncio.sleep(4)  # let some customers write
    rows = (await desktop.ask("rows"))["rows"]
    await desktop.ask("open", text=rows[0]["title"])
    await asyncio.sleep(1)
    for mode in ("light", "dark"):
        await desktop.ask("theme", mode=mode)
        await asyncio.sleep(0.3)
        answer = await desktop.ask("screenshot", path=str(folder / "pictures" / f"inbox-{mode}.png"))
        step(f"Picture: {answer['path']}")


# --- before the programs ---------------------------------------------------------------------------


def _environment(**settings: str) -> dict[str, str]:
    """Ours without the relay's settings, which are for another relay, plus the demo's."""
    foreign = {
        "DATABASE_URL",
        "DATABASE_DIRECT_URL",
        "REDIS_URL",
        "JWT_SECRET",
        "ENCRYPTION_KEY",
        "PUBLIC_URL",
    }
    foreign |= {"META_API_VERSION"}
    return {name: value for name, value in os.environ.items() if name not in foreign} | settings


def _folder() -> Path:
    """The demo's data folder, beside the relay's own data."""
    here = {name: os.environ[name] for name in ("DATA_DIR", "XDG_DATA_HOME") if name in os.environ}
    data_dir = Settings.from_environment(here).data_dir
    make_data_dir(data_dir)
    folder = data_dir / "demo"
    make_data_dir(folder)
    (folder / "logs").mkdir(exist_ok=True)
    return folder


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / "demo.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise DemoError(
                f"A demo already runs here (process {file.read().strip()}). Stop it first."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _fresh_database(settings: Settings) -> Iterator[Settings]:
    """Complete settings of an embedded server with an empty, migrated database, which runs meanwhile."""
    cluster = settings.data_dir / SERVER_FOLDER
    with contextlib.ExitStack() as stack:
        if (cluster / "pgdata").exists():
            # Emptied, because the sandbox begins anew each time and repeats its ids.
            server = stack.enter_context(EmbeddedPostgres.start(cluster))
            with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
                drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                connection.execute(drop.format(sql.Identifier(DATABASE)))
        yield stack.enter_context(booted(settings, migrate=True))


async def _make_business(settings: Settings) -> None:
    """A tenant with an owner, an agent, and the sandbox's first number."""
    pool = PoolOptions(size=1, overflow=1)
    async with open_services(settings, application_name="relay-demo", pool=pool) as services:
        database = services.database
        hashed = await hash_password(PASSWORD)
        owner = await accounts.create_tenant(database, defaults.WABA_NAME, OWNER_EMAIL, hashed)
        tenant_id = owner.tenant_id
        await accounts.create_user(
            database, tenant_id, email=EMAIL, name=AGENT, role="agent", password_hash=hashed
        )
        await numbers.add_number(
            database,
            services.secrets,
            tenant_id,
            waba_id=defaults.WABA_ID,
            phone_number_id=defaults.PHONE_NUMBER_IDS[0],
            access_token=defaults.ACCESS_TOKEN,
            portfolio_id=defaults.PORTFOLIO_ID,
            display_phone_number=defaults.DISPLAY_PHONE_NUMBERS[0],
            verified_name=defaults.VERIFIED_NAMES[0],
        )


async def _until_ready(web: Program, url: str) -> None:
    async with httpx.AsyncClient() as http:
        while True:
            web.require_alive()
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(f"{url}/health/ready")).is_success:
                    return
            await asyncio.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _display() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


async def _until_stopped(work: Any) -> bool:
    """Run until it is done, or until SIGINT or SIGTERM, a good end too. All is taken down either way."""
    task = asyncio.ensure_future(work)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            click.echo("\nStopping …")
        stopped = True
        task.cancel()

    for sig in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sig, stop)
    try:
        return bool(await task)
    except asyncio.CancelledError:
        return stopped
