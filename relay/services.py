"""What every process of the relay has: database, doorbell and secrets, opened and closed together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from relay.kit.db import Database, PoolOptions
from relay.kit.doorbell import Doorbell, open_doorbell
from relay.kit.secrets import KeyRing, Secrets
from relay.settings import Settings
from relay.sync import feed
from relay.sync.service import heads_reader


@dataclass(frozen=True)
class Services:
    """The parts from which a process is composed."""

    settings: Settings
    secrets: Secrets
    doorbell: Doorbell
    database: Database


@asynccontextmanager
async def open_services(
    settings: Settings, *, application_name: str, pool: PoolOptions
) -> AsyncIterator[Services]:
    """Open them with complete settings (see `boot`). Nothing connects before it is needed."""
    direct_url = settings.database_direct_url
    doorbell = open_doorbell(direct_url, settings.redis_url or None)
    database = open_database(settings, doorbell, application_name=application_name, pool=pool)
    await doorbell.start(heads_reader(database))
    try:
        yield Services(settings, Secrets(KeyRing.parse(settings.encryption_keys)), doorbell, database)
    finally:
        await doorbell.stop()
        await database.close()


def open_database(
    settings: Settings, doorbell: Doorbell, *, application_name: str, pool: PoolOptions
) -> Database:
    """One more pool of its own on the same database."""
    return Database(
        settings.database_url,
        application_name=application_name,
        append_feed=feed.append,
        ring=doorbell.ring,
        pool=pool,
        behind_pooler=settings.database_direct_url not in ("", settings.database_url),
    )
