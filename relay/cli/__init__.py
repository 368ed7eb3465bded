"""The command `relay`. Each command's code is loaded when it is called for, so none waits for another's.

Exit codes: 0 done; 1 refused or failed, and why is on standard error; 2 wrong usage or settings.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from relay.kit.errors import OperatorError
from relay.settings import SettingsError

FAILED: Final = 1
USAGE: Final = 2
COMMANDS: Final[Mapping[str, str]] = {
    "all": "relay.cli.all:all_",
    "demo": "relay.demo:demo",
    "feed": "relay.cli.feed:feed",
    "keys": "relay.cli.keys:keys",
    "migrate": "relay.cli.migrate:migrate",
    "number": "relay.cli.numbers:number",
    "replay": "relay.cli.replay:replay",
    "sandbox": "relay.sandbox.cli:sandbox",
    "serve": "relay.cli.serve:serve",
    "tenant": "relay.cli.accounts:tenant",
    "user": "relay.cli.accounts:user",
    "worker": "relay.cli.worker:worker",
}


class Commands(click.Group):
    """Loads commands by name, and turns errors that are for people into words and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            click.echo("The settings need attention (.env.example explains them):", err=True)
            for problem in error.problems:
                click.echo(f"  - {problem}", err=True)
            sys.exit(USAGE)
        except OperatorError as error:
            click.echo(str(error), err=True)
            sys.exit(FAILED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="relaydesk", prog_name="relay")
def main() -> None:
    """The hosted part of Relaydesk: takes WhatsApp's webhooks, keeps conversations, serves the desktops.

    Settings come from the environment; .env.example explains each. Without DATABASE_URL a Postgres server of
    its own runs under DATA_DIR.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings.
    """
