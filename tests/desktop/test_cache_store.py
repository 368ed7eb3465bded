"""The file itself: encryption, versions, and what the computer can do to it."""

import secrets
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2

from desktop.cache import store, writes
from desktop.cache.errors import CacheError
from desktop.cache.store import Cache
from tests.desktop.fake_relay import ME

KEY = secrets.token_bytes(32)


def contents(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("cache.db*")))


async def test_nothing_readable_reaches_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "account" / "cache.db"
    cache = await Cache.open(path, KEY)
    async with cache.writing() as connection:
        await writes.put_me(connection, ME)
    on_disk = contents(tmp_path)
    await cache.close()
    for found in (on_disk, contents(tmp_path)):
        assert found
        assert b"Flowers" not in found
        assert b"SQLite format 3" not in found
        assert b"CREATE TABLE" not in found
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def delete_then_fail(cache: Cache) -> None:
    async with cache.writing() as connection:
        await connection.exec_driver_sql("DELETE FROM account")
        _ = 1 / 0


async def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    cache = await Cache.open(tmp_path / "cache.db", KEY)
    async with cache.writing() as connection:
        await writes.put_me(connection, ME)
    with pytest.raises(ZeroDivisionError):
        await delete_then_fail(cache)
    await cache.close()
    cache = await Cache.open(tmp_path / "cache.db", KEY)
    async with cache.reading() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM account")).scalar() == 1
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == 1
    await cache.close()


async def test_reader_sees_one_moment_while_a_writer_commits(tmp_path: Path) -> None:
    cache = await Cache.open(tmp_path / "cache.db", KEY)
    count = "SELECT count(*) FROM account"
    async with cache.reading() as reader:
        assert (await reader.exec_driver_sql(count)).scalar() == 0
        async with cache.writing() as writer:
            await writes.put_me(writer, ME)
        assert (await reader.exec_driver_sql(count)).scalar() == 0
    async with cache.reading() as reader:
        assert (await reader.exec_driver_sql(count)).scalar() == 1
    await cache.close()


async def test_wrong_key(tmp_path: Path) -> None:
    await (await Cache.open(tmp_path / "cache.db", KEY)).close()
    before = contents(tmp_path)
    with pytest.raises(CacheError) as caught:
        await Cache.open(tmp_path / "cache.db", secrets.token_bytes(32))
    assert caught.value.code == "cache_corrupt"  # the caller, who knows the key's fingerprint, tells which
    assert contents(tmp_path) == before


async def test_damaged_first_page(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    await (await Cache.open(path, KEY)).close()
    damaged = bytearray(path.read_bytes())
    damaged[1_000:1_100] = bytes(100)
    path.write_bytes(damaged)
    with pytest.raises(CacheError) as caught:
        await Cache.open(path, KEY)
    assert caught.value.code == "cache_corrupt"
    assert caught.value.can_rebuild


async def test_newer_major_is_refused_and_left_alone(tmp_path: Path) -> None:
    cache = await Cache.open(tmp_path / "cache.db", KEY)
    async with cache.writing() as connection:
        await connection.exec_driver_sql("PRAGMA user_version = 2000")
    await cache.close()
    before = contents(tmp_path)
    with pytest.raises(CacheError) as caught:
        await Cache.open(tmp_path / "cache.db", KEY)
    assert caught.value.code == "cache_newer"
    assert contents(tmp_path) == before


async def test_newer_minor_still_opens(tmp_path: Path) -> None:
    cache = await Cache.open(tmp_path / "cache.db", KEY)
    async with cache.writing() as connection:
        await connection.exec_driver_sql("PRAGMA user_version = 1999")
    await cache.close()
    cache = await Cache.open(tmp_path / "cache.db", KEY)
    async with cache.reading() as connection:
        assert (await connection.exec_driver_sql("PRAGMA user_version")).scalar() == 1999
    await cache.close()


async def fill_disk(cache: Cache) -> None:
    async with cache.writing() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 1")
        await connection.exec_driver_sql("CREATE TABLE big (x)")
        await connection.exec_driver_sql("INSERT INTO big VALUES (randomblob(1000000))")


async def test_full_disk_is_told_and_over_once_there_is_space(tmp_path: Path) -> None:
    cache = await Cache.open(tmp_path / "cache.db", KEY)
    with pytest.raises(CacheError) as caught:
        await fill_disk(cache)
    assert caught.value.code == "cache_full"
    async with cache.writing() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 100000")
        await writes.put_me(connection, ME)
    await cache.close()


async def test_file_in_use_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "cache.db"
    cache = await Cache.open(path, KEY)
    other = dbapi2.connect(str(path), isolation_level=None)  # type: ignore[attr-defined]  # no stubs
    other.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CacheError) as caught:
        async with cache.writing() as connection:
            await writes.put_me(connection, ME)
    assert caught.value.code == "cache_locked"
    other.execute("ROLLBACK")
    other.close()
    async with cache.writing() as connection:
        await writes.put_me(connection, ME)
    await cache.close()


async def test_read_only(tmp_path: Path) -> None:
    cache = await Cache.open(tmp_path / "cache.db", KEY)
    with pytest.raises(CacheError) as caught:
        async with cache.reading() as connection:
            await writes.put_me(connection, ME)
    assert caught.value.code == "cache_read_only"
    await cache.close()


async def test_our_own_mistakes_are_not_the_computers(tmp_path: Path) -> None:
    cache = await Cache.open(tmp_path / "cache.db", KEY)
    with pytest.raises(dbapi2.OperationalError, match="no such table"):  # type: ignore[attr-defined]  # no stubs
        async with cache.reading() as connection:
            await connection.exec_driver_sql("SELECT * FROM missing_table")
    await cache.close()
