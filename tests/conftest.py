"""The database of the tests: the embedded server, started once per machine and shared by all runs.

A template database is migrated once per state of the schema's sources; each worker of a run clones it. Both
happen under a file lock, so that workers (and runs) may start together.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import httpx
import msgspec
import psutil
import psycopg
import pytest
import structlog
from argon2 import PasswordHasher
from litestar import Litestar
from psycopg import sql
from sqlalchemy import make_url

from relay.accounts.service import create_tenant
from relay.app import create_app
from relay.kit import roles
from relay.kit.db import Database
from relay.kit.doorbell import Doorbell, open_doorbell
from relay.kit.embedded_postgres import EmbeddedPostgres
from relay.kit.schema import OWNER
from relay.kit.secrets import KeyRing, Secrets
from relay.migrate import migrate
from relay.numbers.service import add_number
from relay.serve import Server, uvicorn_config
from relay.settings import Settings
from relay.sync import feed
from shared.wire.auth import TokenPair

pytest_plugins = ["tests.sandbox_client"]

ROOT = Path(__file__).resolve().parent.parent
SCHEMA_SOURCES = ("relay/migrations/**/*.py", "relay/migrate.py", "relay/kit/roles.py", "relay/kit/schema.py")
TEMPLATES_KEPT = 3


@dataclass(frozen=True)
class PostgresServer:
    """The server all tests share; `login_password` is that of the role `relay`."""

    embedded: EmbeddedPostgres
    login_password: str

    def superuser_dsn(self, database: str = "postgres") -> str:
        return self.embedded.superuser_dsn(database)

    def dsn(self, database: str) -> str:
        """For the role `relay`, as which the relay itself connects."""
        url = make_url(self.superuser_dsn(database)).set(username=roles.LOGIN, password=self.login_password)
        return url.render_as_string(hide_password=False)

    def execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.superuser_dsn(), autocommit=True) as connection:
            connection.execute(statement)

    def clone(self, template: str, name: str) -> None:
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                sql.Identifier(name), sql.Identifier(template), sql.Identifier(OWNER)
            )
        )

    def drop(self, name: str) -> None:
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass(frozen=True)
class TestDatabase:
    """One migrated database. `dsn` connects as the relay does, `superuser_dsn` past all rules."""

    __test__ = False  # not a test class, whatever its name says

    name: str
    dsn: str
    superuser_dsn: str


def _server_folder() -> Path:
    """Kept between runs, so that only the first one makes a cluster. The server's user can reach it."""
    return Path(tempfile.gettempdir()) / f"relaydesk-tests-{os.geteuid()}"


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Held while changing what all test runs on this machine share: the server's roles and templates."""
    path = _server_folder().with_suffix(".lock")
    with contextlib.closing(os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """structlog's default draws every local variable of a traceback, which takes seconds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The shared server with the relay's roles. Durable against crashes of processes, not of the machine."""
    with EmbeddedPostgres.start(
        _server_folder(), settings={"fsync": "off", "max_connections": "500"}
    ) as embedded:
        with machine_lock(), psycopg.connect(embedded.superuser_dsn(), autocommit=True) as connection:
            password_file = embedded.data_dir / "relay.password"
            if not password_file.exists():
                password_file.touch(mode=0o600)
                password_file.write_text(secrets.token_urlsafe(16))
            password = password_file.read_text()
            roles.create_roles(connection, login_password=password)
            _drop_leftovers(connection)
        yield PostgresServer(embedded, password)


def _drop_leftovers(connection: psycopg.Connection) -> None:
    """Remove databases of runs that were killed."""
    for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'"):
        if not psutil.pid_exists(int(name.split("_")[1])):
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> str:
    """The name of a migrated database without rows, to be cloned and never connected to."""
    digest = hashlib.sha256()
    for pattern in SCHEMA_SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    name = f"template_{digest.hexdigest()[:16]}"
    with machine_lock(), psycopg.connect(postgres_server.superuser_dsn(), autocommit=True) as connection:
        templates = [
            row[0]
            for row in connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE 'template\\_%' ORDER BY oid"
            )
        ]
        if name in templates:
            return name
        for old in templates[:-TEMPLATES_KEPT]:
            postgres_server.drop(old)
        postgres_server.drop("making_template")
        roles.create_database(connection, "making_template")
        migrate(postgres_server.dsn("making_template"))
        connection.execute(
            sql.SQL("ALTER DATABASE making_template RENAME TO {}").format(sql.Identifier(name))
        )
    return name


@pytest.fixture(scope="session")
def worker_database(postgres_server: PostgresServer, template_database: str) -> Iterator[TestDatabase]:
    """This worker's clone of the template. Its tests share it; `relay_database` empties it before each."""
    yield from _clone(postgres_server, template_database, f"test_{os.getpid()}_worker")


@pytest.fixture
def fresh_database(postgres_server: PostgresServer, template_database: str) -> Iterator[TestDatabase]:
    """A clone for one test alone, for those that change the schema or count on an untouched one (~0.1 s)."""
    yield from _clone(postgres_server, template_database, f"test_{os.getpid()}_{secrets.token_hex(4)}")


def _clone(server: PostgresServer, template: str, name: str) -> Iterator[TestDatabase]:
    server.clone(template, name)
    try:
        yield TestDatabase(name, server.dsn(name), server.superuser_dsn(name))
    finally:
        server.drop(name)


# --- the relay, on this worker's database ---------------------------------------------------------


@pytest.fixture(scope="session")
def _janitor(worker_database: TestDatabase) -> Iterator["Janitor"]:
    with psycopg.connect(worker_database.superuser_dsn, autocommit=True) as connection:
        yield Janitor(connection)


class Janitor:
    """Empties a database between tests: only the tables that have rows, which keeps it to milliseconds."""

    KEPT = ("alembic_version", "schema_compat", "saq_versions")

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        tables = connection.execute(
            "SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname IN ('public', 'jobs')"
            " AND relname <> ALL(%s)",
            [list(self.KEPT)],
        ).fetchall()
        self._find_filled = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, {} WHERE EXISTS (SELECT FROM {})").format(*table, sql.Identifier(*table))
            for table in tables
        )

    def clean(self) -> None:
        # What an earlier test left open would hold locks.
        self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        filled = self._connection.execute(self._find_filled).fetchall()
        if filled:
            with self._connection.transaction():
                self._connection.execute("SET LOCAL session_replication_role = replica")  # order is no matter
                for table in filled:
                    self._connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table)))


@pytest.fixture
def relay_database(worker_database: TestDatabase, _janitor: Janitor) -> TestDatabase:
    """A migrated database without rows, shared by the tests of this worker one after another."""
    _janitor.clean()
    return worker_database


JWT_SECRET = "a secret for tests that is long enough"
ENCRYPTION_KEY = "dGVzdHMgbmVlZCBhIGtleSBvZiAzMiBieXRlcy4uLi4="
PASSWORD = "correct horse battery"


@pytest.fixture
def settings(relay_database: TestDatabase, tmp_path: Path) -> Settings:
    return Settings(
        database_url=relay_database.dsn,
        database_direct_url=relay_database.dsn,
        jwt_secrets=(JWT_SECRET,),
        encryption_keys=ENCRYPTION_KEY,
        webhook_verify_token="verify me",
        meta_app_secrets=("shared app secret",),
        meta_graph_url="http://127.0.0.1:9",  # nobody answers there; tests that send start a sandbox
        public_url="http://relay.test",
        data_dir=tmp_path,
    )


@pytest.fixture
def relay_secrets(settings: Settings) -> Secrets:
    return Secrets(KeyRing.parse(settings.encryption_keys))


@pytest.fixture
async def doorbell(relay_database: TestDatabase) -> AsyncIterator[Doorbell]:
    """Rings within this process; a test that needs other processes to hear starts it."""
    bell = open_doorbell(relay_database.dsn, None)
    yield bell
    await bell.stop()


@pytest.fixture
async def database(relay_database: TestDatabase, doorbell: Doorbell) -> AsyncIterator[Database]:
    database = Database(
        relay_database.dsn, application_name="test", append_feed=feed.append, ring=doorbell.ring
    )
    yield database
    await database.close()


@dataclass(frozen=True)
class TenantFixture:
    """A tenant with an owner who can sign in and one WhatsApp number."""

    id: UUID
    user_id: UUID
    email: str
    password: str
    number_id: UUID
    phone_number_id: str
    waba_id: str
    webhook_path: str
    verify_token: str
    app_secret: str
    access_token: str


@pytest.fixture(scope="session")
def password_hash() -> str:
    """Of `PASSWORD`; computed once, since hashing takes its time on purpose."""
    return PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1).hash(PASSWORD)


@pytest.fixture
async def tenant(database: Database, relay_secrets: Secrets, password_hash: str) -> TenantFixture:
    return await make_tenant(database, relay_secrets, password_hash, "First", 1)


@pytest.fixture
async def other_tenant(database: Database, relay_secrets: Secrets, password_hash: str) -> TenantFixture:
    return await make_tenant(database, relay_secrets, password_hash, "Second", 2)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Litestar]:
    """The web application, started, without a server around it."""
    app = create_app(settings)
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await stop.wait()

    # In a task of its own: whoever enters the life span must leave it, which a fixture does not promise.
    life = asyncio.create_task(live())
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({life, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if life.done():
        await life
    yield app
    stop.set()
    await life


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Calls the application in this process."""
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # Litestar's own ASGI types
    async with httpx.AsyncClient(transport=transport, base_url="http://relay.test") as client:
        yield client


class RunningServer(NamedTuple):
    """A relay served over loopback by this process."""

    url: str
    server: Server


@pytest.fixture
async def running_server(settings: Settings) -> AsyncIterator[RunningServer]:
    """The web process's own server, for sockets and for what only real HTTP shows."""
    app = create_app(settings)
    server = Server(uvicorn_config(app, settings.host, 0), app, drain_seconds=0)
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if serving.done():
                await serving
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield RunningServer(f"http://127.0.0.1:{port}", server)
    finally:
        server.should_exit = True
        await serving


async def sign_in(client: httpx.AsyncClient, tenant: TenantFixture) -> TokenPair:
    """Sign in as the tenant's owner; from then on the client sends the access token."""
    answer = await client.post(
        "/api/v1/auth/login", json={"email": tenant.email, "password": tenant.password}
    )
    assert answer.status_code == 200, answer.text
    pair = msgspec.json.decode(answer.content, type=TokenPair)
    client.headers["Authorization"] = f"Bearer {pair.access_token}"
    return pair


async def make_tenant(
    database: Database, secrets: Secrets, password_hash: str, name: str, n: int
) -> TenantFixture:
    email = f"{name.lower()}@example.com"
    user = await create_tenant(database, name, email, password_hash)
    app_secret, access_token = f"app secret {n}", f"access token {n}"
    number = await add_number(
        database,
        secrets,
        user.tenant_id,
        waba_id=f"10000000000000{n}",
        phone_number_id=f"20000000000000{n}",
        access_token=access_token,
        app_secret=app_secret,
        portfolio_id=f"30000000000000{n}",
        display_phone_number=f"+49 30 90182010{n}",
        verified_name=name,
    )
    return TenantFixture(
        id=user.tenant_id,
        user_id=user.user_id,
        email=email,
        password=PASSWORD,
        number_id=number.number_id,
        phone_number_id=number.phone_number_id,
        waba_id=number.waba_id,
        webhook_path=number.webhook_path,
        verify_token=number.verify_token,
        app_secret=app_secret,
        access_token=access_token,
    )
