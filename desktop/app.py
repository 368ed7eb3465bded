"""The program `relaydesk`: the order in which it comes up.

Nothing heavy is imported before the versions are known to fit, and the window is painted before the engine's
thread begins to import what it needs.
"""

import faulthandler
import sys
from collections.abc import Sequence

from desktop.guards import check_versions
from desktop.options import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the desktop until it is closed; gives the exit code."""
    options = parse(sys.argv[1:] if argv is None else argv)
    check_versions()
    # Threads take turns every millisecond: the default of five shows as stutter while the engine works.
    sys.setswitchinterval(0.001)
    if sys.stderr is not None:
        faulthandler.enable()
    from desktop.program import run  # noqa: PLC0415 - Qt comes after the check of versions

    return run(options)


if __name__ == "__main__":
    sys.exit(main())
