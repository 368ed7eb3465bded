"""`relay feed`."""

import click
import msgspec

from relay.cli.common import answer, as_json, with_services
from relay.kit.db import Heads
from relay.services import Services
from relay.sync.service import start_new_epoch


class NewEpoch(msgspec.Struct, frozen=True):
    tenants: int


@click.group()
def feed() -> None:
    """The change feed that every client follows."""


@feed.command("new-epoch")
@as_json
def new_epoch(as_json: bool) -> None:
    """Have every client start again from a snapshot. Needed after a restore from a backup."""

    async def run(services: Services) -> Heads:
        heads = await start_new_epoch(services.database)
        services.doorbell.ring(heads)
        return heads

    done = NewEpoch(len(with_services(run)))
    answer(done, f"The feeds of {done.tenants} tenants have a new epoch.", as_json)
