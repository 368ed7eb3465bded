"""What the commands that start processes share."""

from dataclasses import replace

import click

from relay.kit import log
from relay.settings import Settings

supervised_option = click.option("--supervised", is_flag=True, hidden=True, help="Started by `relay all`.")
host_option = click.option("--host", help="Address to listen on, instead of HOST.")
port_option = click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on, instead of PORT."
)


def load_settings(host: str | None = None, port: int | None = None) -> Settings:
    """The environment's settings, with logging set up by them."""
    settings = Settings.from_environment()
    log.configure(settings.log_level, settings.log_format)
    return replace(settings, host=host or settings.host, port=settings.port if port is None else port)
