"""`relay migrate`."""

import click

from relay.boot import booted
from relay.cli.common import answer, as_json
from relay.cli.process import load_settings
from relay.migrate import head_revision


@click.command()
@as_json
def migrate(as_json: bool) -> None:
    """Bring the database's schema up to date."""
    with booted(load_settings(), migrate=True):
        revision = head_revision()
    answer({"revision": revision}, f"The schema is at migration {revision}.", as_json)
