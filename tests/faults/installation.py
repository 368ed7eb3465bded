"""A relay as its operator runs it: Postgres, web process and worker, each of which may be killed at any time.

The processes are the command line's own. Like systemd or `relay all`, a keeper starts again what has ended.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy import make_url

from relay.accounts.service import create_tenant
from relay.kit import roles
from relay.kit.db import Database
from relay.kit.embedded_postgres import EmbeddedPostgres
from relay.kit.secrets import KeyRing, Secrets
from relay.migrate import migrate
from relay.numbers.service import add_number
from relay.sync import feed

ROOT = Path(__file__).resolve().parents[2]
RELAY = (sys.executable, "-m", "relay")
APP_SECRET = "the shared app's secret"
PASSWORD = "of-the-tests"
WABA_ID, PHONE_NUMBER_ID = "482019384756102", "720193847561029"


class Process:
    """A process that is started again whenever it ends, until it is stopped."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        self.starts = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while not self._stopping:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, env=self._environment, cwd=ROOT, stdout=log, stderr=log
                )
            self.starts += 1
            await self._process.wait()
            await asyncio.sleep(0.1)

    def kill(self) -> None:
        """As the kernel would, out of memory: no goodbye."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        if self._keeper is not None:
            await asyncio.wait_for(self._keeper, 40)


class Installation:
    """One tenant with one number."""

    def __init__(self, folder: Path, relay: Sequence[str], postgres: EmbeddedPostgres) -> None:
        self.folder = folder
        self.postgres = postgres
        with psycopg.connect(postgres.superuser_dsn(), autocommit=True) as connection:
            roles.create_roles(connection, login_password=PASSWORD)
            roles.create_database(connection, "relaydesk")
        url = make_url(postgres.superuser_dsn("relaydesk")).set(username=roles.LOGIN, password=PASSWORD)
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "JWT_SECRET": "a secret for tests that is long enough",
            "ENCRYPTION_KEY": KeyRing.generate(),
            "META_APP_SECRET": APP_SECRET,
            "META_GRAPH_URL": "http://127.0.0.1:9",
            "DATA_DIR": str(folder / "data"),
            "LOG_LEVEL": "warning",
            "PORT": str(_free_port()),
        }
        self.url = f"http://127.0.0.1:{self.environment['PORT']}"
        self.web = Process([*relay, "serve"], self.environment, folder / "web.log")
        self.worker = Process([*relay, "worker"], self.environment, folder / "worker.log")

    @classmethod
    @asynccontextmanager
    async def running(
        cls, *, relay: Sequence[str] = RELAY, settings: Mapping[str, str] | None = None
    ) -> AsyncIterator["Installation"]:
        """Set everything up and run it; `settings` are Postgres's."""
        with _folder() as folder, EmbeddedPostgres.start(folder / "postgres", settings=settings) as postgres:
            installation = cls(folder, relay, postgres)
            try:
                await installation._set_up()
                yield installation
            except BaseException:
                for log in sorted(folder.glob("*.log")):
                    print(f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}")
                raise
            finally:
                await asyncio.gather(installation.web.stop(), installation.worker.stop())

    async def _set_up(self) -> None:
        await asyncio.to_thread(migrate, self.environment["DATABASE_URL"])
        database = Database(
            self.environment["DATABASE_URL"],
            application_name="set-up",
            append_feed=feed.append,
            ring=lambda _heads, _topics: None,
        )
        secrets = Secrets(KeyRing.parse(self.environment["ENCRYPTION_KEY"]))
        owner = await create_tenant(database, "Shop", "ada@shop.example", "no password")
        await add_number(
            database,
            secrets,
            owner.tenant_id,
            waba_id=WABA_ID,
            phone_number_id=PHONE_NUMBER_ID,
            access_token="token",
        )
        await database.close()
        with psycopg.connect(self.postgres.superuser_dsn(), autocommit=True) as connection:
            connection.execute("CHECKPOINT")  # what is set up survives, whatever the test loses
        self.web.start()
        self.worker.start()
        await self.wait_until_ready(60)

    async def wait_until_ready(self, seconds: float) -> None:
        """Wait until the web process serves."""
        async with asyncio.timeout(seconds), httpx.AsyncClient(base_url=self.url) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/health/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def crash_postgres(self) -> None:
        """An immediate stop: what is not on disk is gone, every connection is cut."""
        await asyncio.to_thread(self.postgres.stop_immediately)

    async def start_postgres(self) -> None:
        await asyncio.to_thread(self.postgres.restart)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Past all rules."""
        with psycopg.connect(self.postgres.superuser_dsn("relaydesk")) as connection:
            return connection.execute(query.encode()).fetchall()

    async def wait_until_worked_off(self, seconds: float) -> None:
        """Wait until every stored webhook has been split and every item applied or parked."""
        open_work = (
            "SELECT (SELECT count(*) FROM webhook_raw WHERE state = 'new')"
            " + (SELECT count(*) FROM webhook_item WHERE state = 'new')"
        )
        async with asyncio.timeout(seconds):
            while self.rows(open_work) != [(0,)]:
                await asyncio.sleep(0.1)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Not in pytest's own folder, which the database's user cannot enter when this runs as root."""
    with tempfile.TemporaryDirectory(prefix="relaydesk-faults-") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
