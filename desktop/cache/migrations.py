"""The schema's version, in `PRAGMA user_version`: 1000 * major + minor.

A minor step adds what older programs can ignore; a file of a newer major is refused, never touched.
"""

from collections.abc import Callable

from sqlalchemy import Connection

from desktop.cache.errors import newer_schema
from desktop.cache.schema import INBOX_COUNT_DDL, metadata


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    for statement in INBOX_COUNT_DDL:
        connection.exec_driver_sql(statement)


# Each step leads to the version it stands under. Released steps are never edited.
MIGRATIONS: dict[int, Callable[[Connection], None]] = {1000: _create}

CURRENT = max(MIGRATIONS)


def migrate(connection: Connection) -> None:
    """Bring the file to this program's schema, inside the caller's transaction."""
    found = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if found // 1000 > CURRENT // 1000:
        raise newer_schema()
    for version, step in sorted(MIGRATIONS.items()):
        if version > found:
            step(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {version:d}")
