"""What several commands share: settings, one look at the database, answers for people or programs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
import msgspec

from relay.boot import booted
from relay.kit import log
from relay.kit.db import PoolOptions
from relay.services import Services, open_services
from relay.settings import Settings

T = TypeVar("T")

as_json = click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")


def with_services(run: Callable[[Services], Awaitable[T]]) -> T:
    """Run one thing against the database, quietly."""
    settings = Settings.from_environment()
    log.configure("warning", settings.log_format)

    async def opened(complete: Settings) -> T:
        async with open_services(
            complete, application_name="relay-cli", pool=PoolOptions(size=1, overflow=0)
        ) as services:
            return await run(services)

    with booted(settings, migrate=settings.embedded) as complete:
        return asyncio.run(opened(complete))


def answer(document: object, words: str, as_json: bool) -> None:
    click.echo(msgspec.json.encode(document).decode() if as_json else words)
