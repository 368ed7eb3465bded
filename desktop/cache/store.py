"""Opening the cache: an SQLCipher file with a raw 32-byte key, one writer, a few readers.

The write-ahead log lets readers go on while the writer works. Transactions are explicit: a reader sees one
moment, a writer commits everything or nothing.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlcipher3 import dbapi2

from desktop.cache.errors import SqlError, known_error
from desktop.cache.migrations import migrate
from desktop.platform.paths import make_private_folder

KEY_BYTES = 32
READERS = 2
BUSY_TIMEOUT_MS = 5_000
PAGE_CACHE_KIB = 8_192
"""Decrypted pages kept by each connection; each page that is not kept is decrypted again."""


class Cache:
    """One account's file. `open` it, close it with `close`."""

    def __init__(self, path: Path, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key has {len(key)} bytes, not {KEY_BYTES}")
        self.path = path
        self._writer = _engine(path, key, size=1, begin="BEGIN IMMEDIATE", query_only=False)
        self._readers = _engine(path, key, size=READERS, begin="BEGIN", query_only=True)

    @classmethod
    async def open(cls, path: Path, key: bytes) -> "Cache":
        """Open or create the file and bring it to the current schema.

        Raises `CacheError`. A file that the key does not open gives `cache_corrupt`: whether the key or the
        file is wrong is for the caller, who knows which key was used before.
        """
        _make_private_file(path)
        cache = cls(path, key)
        try:
            async with cache.writing() as connection:
                await connection.run_sync(migrate)
        except BaseException:
            await cache.close()
            raise
        return cache

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes. Only the engine calls this; writers wait for each other."""
        with _known_errors():
            async with self._writer.begin() as connection:
                yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A read of one moment."""
        with _known_errors():
            async with self._readers.begin() as connection:
                yield connection

    async def close(self) -> None:
        """Close all connections; the last one folds the log into the file."""
        await self._readers.dispose()
        await self._writer.dispose()


class _known_errors:  # noqa: N801 - reads as a statement
    """Turns faults of the computer into `CacheError`; faults of ours pass as they are."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        # SQLAlchemy knows sqlite3's exceptions, not sqlcipher3's, and lets them through unwrapped.
        if isinstance(error, SqlError) and (known := known_error(error)) is not None:
            raise known from error


def _make_private_file(path: Path) -> None:
    make_private_folder(path.parent)
    path.touch(mode=0o600)
    path.chmod(0o600)


def _engine(path: Path, key: bytes, *, size: int, begin: str, query_only: bool) -> AsyncEngine:
    async def connect() -> aiosqlite.Connection:
        connection = aiosqlite.Connection(_connector(path, key, query_only=query_only), 64)
        # As SQLAlchemy does for its own connections: an open file must not keep the program alive.
        connection._thread.daemon = True  # noqa: SLF001
        try:
            return await connection
        except BaseException:
            # It stops its thread without waiting, which then reports to a loop that may be closed by now.
            await asyncio.to_thread(connection._thread.join)  # noqa: SLF001
            raise

    engine = create_async_engine(
        "sqlite+aiosqlite://",
        async_creator=connect,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=None,
        pool_reset_on_return=None,
    )
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _connector(path: Path, key: bytes, *, query_only: bool) -> Callable[[], sqlite3.Connection]:
    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver begins nothing by itself, transactions are ours.
        connection: sqlite3.Connection = dbapi2.connect(  # type: ignore[attr-defined]  # no stubs
            str(path), isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in (
                "cipher_log_level = NONE",  # it would write to stderr; errors come as exceptions
                f"key = \"x'{key.hex()}'\"",
                f"busy_timeout = {BUSY_TIMEOUT_MS}",
                "journal_mode = WAL",
                "synchronous = NORMAL",
                "temp_store = MEMORY",
                f"cache_size = -{PAGE_CACHE_KIB}",
                f"query_only = {int(query_only)}",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    return connect
