"""Bringing a database's schema up to date, and refusing one that this release does not fit."""

import time
from pathlib import Path
from typing import Final

import alembic.command
import psycopg
import structlog
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from psycopg import errors
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from relay.kit.roles import DatabaseRefusedError
from relay.kit.schema import OWNER

log = structlog.get_logger(__name__)

ADVISORY_LOCK: Final = 0x52656C61  # any number of our own
LOCK_TIMEOUT: Final = "5s"
STATEMENT_TIMEOUT: Final = "10min"
ATTEMPTS: Final = 12
"""A migration that cannot get its locks gives way to the running relay and tries again, for a minute."""


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, kept in code; there is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    """The newest revision this release knows."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise RuntimeError("the release was built without migrations")
    return head


def migrate(dsn: str) -> str:
    """Apply what is missing, as `relay_owner`, in one transaction; returns the revision reached.

    Processes that migrate at once wait for each other. `dsn` must reach Postgres without a pooler.
    Raises DatabaseRefusedError on a schema newer than this release.
    """
    engine = create_engine(make_url(dsn).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with engine.begin() as connection:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
                connection.execute(
                    text(
                        "SELECT set_config('role', :owner, true), set_config('lock_timeout', :lock, true),"
                        " set_config('statement_timeout', :statement, true)"
                    ),
                    {"owner": OWNER, "lock": LOCK_TIMEOUT, "statement": STATEMENT_TIMEOUT},
                )
                alembic.command.upgrade(alembic_config(connection), "head")
            return head_revision()
        except CommandError as error:
            raise DatabaseRefusedError(
                f"The database's schema is newer than this release (newest migration here:"
                f" {head_revision()}). Install the release that made it. ({error})"
            ) from error
        except OperationalError as error:
            if not isinstance(error.orig, errors.LockNotAvailable) or attempt == ATTEMPTS:
                raise
            log.warning("migration.waits_for_locks", attempt=attempt)
            time.sleep(0.5)
    raise AssertionError("unreachable")


def fits_schema(ours: int, found: int, oldest: int) -> bool:
    """Whether a release that knows migration `ours` may run on a schema at `found`, open back to `oldest`."""
    return oldest <= ours <= found


def check_schema(connection: psycopg.Connection) -> None:
    """Refuse a schema that is older than this release, or too new for it. Raises DatabaseRefusedError.

    A newer schema is fine as long as it says that this release may still use it, so that a deployment can
    migrate first and replace its processes afterwards, and can step back.
    """
    ours = int(head_revision())
    with connection.transaction():
        connection.execute("SELECT set_config('role', 'relay_app', true)")
        try:
            row = connection.execute(
                "SELECT version_num::int, (SELECT oldest_revision FROM schema_compat) FROM alembic_version"
            ).fetchone()
        except (errors.UndefinedTable, errors.InsufficientPrivilege):
            row = None
    if row is None:
        raise DatabaseRefusedError("The database has no schema yet. Run: relay migrate")
    found, oldest = row
    if found < ours:
        raise DatabaseRefusedError(
            f"The database's schema is at migration {found:04}, this release needs {ours:04}."
            " Run: relay migrate"
        )
    if not fits_schema(ours, found, oldest):
        raise DatabaseRefusedError(
            f"The database's schema ({found:04}) needs a release that knows migration {oldest:04} at least;"
            f" this one knows {ours:04}. Install a newer release."
        )
