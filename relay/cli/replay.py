"""`relay replay`."""

import click

from relay.cli.common import answer, as_json, with_services
from relay.inbound import replay as replays


@click.command()
@click.option("--state", default="parked", show_default=True, type=click.Choice(["parked", "kept"]))
@click.option("--dry-run", is_flag=True, help="Only count what would be replayed.")
@as_json
def replay(state: replays.State, dry_run: bool, as_json: bool) -> None:
    """Put webhooks that could not be applied back into work, once the reason is gone."""
    done = with_services(lambda services: replays.replay(services.database, state, dry_run=dry_run))
    verb = "would be" if dry_run else "are"
    answer(done, f"{done.webhooks} webhooks ({done.items} items) {verb} put back into work.", as_json)
