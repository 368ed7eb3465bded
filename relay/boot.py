"""From settings to a database that the relay may run on: the steps before any process serves or works."""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg
import structlog
from sqlalchemy import make_url

from relay import migrate as migrations
from relay.kit import roles
from relay.kit.embedded_postgres import EmbeddedPostgres
from relay.kit.roles import DatabaseRefusedError
from relay.kit.secrets import KeyRing
from relay.settings import Settings

log = structlog.get_logger(__name__)

DATABASE: Final = "relaydesk"
"""The database's name on the embedded server."""
SERVER_FOLDER: Final = "postgres"
CONNECT_TIMEOUT_SECONDS: Final = 10


@contextmanager
def booted(settings: Settings, *, migrate: bool) -> Iterator[Settings]:
    """Settings that are complete, of a database that was checked; the embedded server runs meanwhile.

    On the embedded server roles, database and secrets are made where they are missing. `migrate` brings the
    schema up to date; without it, a schema that does not fit is refused.
    Raises DatabaseRefusedError or EmbeddedPostgresError, in words for the operator.
    """
    with contextlib.ExitStack() as stack:
        if settings.embedded:
            make_data_dir(settings.data_dir)
            settings = _with_secrets(settings)
            server = EmbeddedPostgres.start(settings.data_dir / SERVER_FOLDER)
            stack.callback(server.release)
            settings = _with_embedded_database(settings, server)
        direct = settings.database_direct_url or settings.database_url
        settings = replace(settings, database_direct_url=direct)
        with _connect(direct) as connection:
            roles.check_database(connection)
        if migrate:
            migrations.migrate(direct)
        with _connect(direct) as connection:
            migrations.check_schema(connection)
        yield settings


def make_data_dir(path: Path) -> None:
    """The data folder. Under root others may pass through it: the embedded server's user has to."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True)


def _with_secrets(settings: Settings) -> Settings:
    """The settings with the secrets that nobody set: made at the first boot and kept in the data folder."""
    folder = settings.data_dir / "secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    jwt_secrets, encryption_keys = settings.jwt_secrets, settings.encryption_keys
    if not jwt_secrets:
        jwt_secrets = (_kept_secret(folder / "jwt_secret", _random_text),)
    if not encryption_keys:
        path = folder / "encryption_key"
        if not path.exists() and (settings.data_dir / SERVER_FOLDER / "pgdata").exists():
            raise DatabaseRefusedError(
                f"{path} is missing, so nothing that was encrypted in the database beside it can be read."
                " Restore the file from your backup, or set ENCRYPTION_KEY."
            )
        encryption_keys = _kept_secret(path, KeyRing.generate)
    return replace(settings, jwt_secrets=jwt_secrets, encryption_keys=encryption_keys)


def _with_embedded_database(settings: Settings, server: EmbeddedPostgres) -> Settings:
    """The settings with the embedded server's database, whose roles and login are there from now on."""
    password = _kept_secret(settings.data_dir / "secrets" / "database_password", _random_text)
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        # A lock of this session: processes that boot together would trip over each other's roles.
        connection.execute("SELECT pg_advisory_lock(%s)", [migrations.ADVISORY_LOCK])
        roles.create_roles(connection, login_password=password)
        roles.create_database(connection, DATABASE)
    url = make_url(server.superuser_dsn(DATABASE)).set(username=roles.LOGIN, password=password)
    return replace(settings, database_url=url.render_as_string(hide_password=False))


def _random_text() -> str:
    return secrets.token_urlsafe(48)


def _kept_secret(path: Path, generate: Callable[[], str]) -> str:
    """The secret in this file, made at first use: the name appears with its content, so nobody reads half."""
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as fresh:  # 0600
            fresh.write(generate())
            fresh.flush()
            os.fsync(fresh.fileno())
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(fresh.name, path)
                log.warning("secret.generated", path=str(path), advice="Keep a copy in a safe place.")
    return path.read_text().strip()


@contextmanager
def _connect(dsn: str) -> Iterator[psycopg.Connection]:
    url = make_url(dsn)
    try:
        connection = psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS)
    except psycopg.OperationalError as error:
        where = url.render_as_string(hide_password=True)
        raise DatabaseRefusedError(f"Cannot connect to {where}: {error}".strip()) from error
    with connection:
        yield connection
