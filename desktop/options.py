"""What the command line says. Imports nothing heavy: it is read before Qt."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PASSWORD_VARIABLE = "RELAYDESK_PASSWORD"  # noqa: S105 - the name of a variable, not a password


class Options(NamedTuple):
    """What the command line said. `password` is set for an unattended sign-in only."""

    relay_url: str
    email: str
    password: str
    profile_dir: Path | None
    keyring: str
    theme: str
    screenshot_dir: Path | None
    automation: bool


def parse(argv: Sequence[str]) -> Options:
    """The options; ends the program, as argparse does, where they are wrong or help is asked for."""
    parser = argparse.ArgumentParser(
        prog="relaydesk", description="Answer your customers on WhatsApp, as a team."
    )
    parser.add_argument("--relay-url", default="", help="the relay's address, as https://relay.example.com")
    parser.add_argument("--email", default="", help="sign in as this person")
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help=f"read the password from the first line of standard input (or set {PASSWORD_VARIABLE})",
    )
    parser.add_argument(
        "--profile-dir", type=Path, help="keep everything in this folder instead of the user's own"
    )
    parser.add_argument(
        "--keyring",
        choices=["system", "memory"],
        default="system",
        help="memory: the sign-in and its messages end with the program",
    )
    parser.add_argument("--theme", choices=["system", "light", "dark"], default="system")
    parser.add_argument("--offscreen", action="store_true", help="run without a display")
    parser.add_argument(
        "--screenshot-dir", type=Path, help="where pictures go that are asked for by automation"
    )
    parser.add_argument(
        "--automation",
        action="store_true",
        help="take commands as JSON lines on standard input, answer on standard output",
    )
    given = parser.parse_args(argv)
    if given.offscreen:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    password = os.environ.pop(PASSWORD_VARIABLE, "")
    if given.password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    return Options(
        relay_url=given.relay_url,
        email=given.email,
        password=password,
        profile_dir=given.profile_dir,
        keyring=given.keyring,
        theme=given.theme,
        screenshot_dir=given.screenshot_dir,
        automation=given.automation,
    )
