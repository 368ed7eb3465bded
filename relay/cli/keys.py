"""`relay keys`."""

import click

from relay.kit.secrets import KeyRing


@click.group()
def keys() -> None:
    """Encryption keys."""


@keys.command("generate")
def keys_generate() -> None:
    """Print a fresh key for ENCRYPTION_KEY. To rotate, put it before the old ones, separated by a comma."""
    click.echo(KeyRing.generate())
