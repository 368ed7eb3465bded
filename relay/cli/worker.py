"""`relay worker`."""

import asyncio

import click
from prometheus_client import start_http_server

from relay.boot import booted
from relay.cli.process import load_settings, supervised_option
from relay.supervisor import stop_with_parent
from relay.worker import work


@click.command()
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve /metrics on this port of HOST.")
@supervised_option
def worker(metrics_port: int | None, supervised: bool) -> None:
    """The worker process: applies webhooks, sends messages, runs schedules."""
    settings = load_settings()
    if supervised:
        stop_with_parent()
    if metrics_port is not None:
        start_http_server(metrics_port, settings.host)
    with booted(settings, migrate=settings.embedded and not supervised) as complete:
        asyncio.run(work(complete))
