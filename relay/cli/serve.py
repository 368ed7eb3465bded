"""`relay serve`."""

import click

from relay.boot import booted
from relay.cli.process import host_option, load_settings, port_option, supervised_option
from relay.kit.errors import OperatorError
from relay.serve import serve as run
from relay.supervisor import stop_with_parent


@click.command()
@host_option
@port_option
@click.option(
    "--drain-seconds",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 60),
    help="How long to be unready before stopping, so that a balancer notices.",
)
@supervised_option
def serve(host: str | None, port: int | None, drain_seconds: float, supervised: bool) -> None:
    """The web process: webhooks, API and sockets."""
    settings = load_settings(host, port)
    if supervised:
        stop_with_parent()
    with booted(settings, migrate=settings.embedded and not supervised) as complete:
        if not run(complete, drain_seconds=drain_seconds):
            raise OperatorError("The web process could not start; the log says why.")
