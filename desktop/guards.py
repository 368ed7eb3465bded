"""What must hold before anything heavy is imported."""

import sys
from importlib.metadata import PackageNotFoundError, version


def check_versions() -> None:
    """Leave with a clear message (exit code 2) on a combination that is known to crash.

    PySide6 6.12 loses one reference of None per call under Python 3.11: the process aborts within seconds.
    From Python 3.12 on None is immortal and the fault does no harm.
    """
    try:
        pyside = version("PySide6-Essentials")
    except PackageNotFoundError:
        pyside = ""
    problem = problem_with(sys.version_info[:2], pyside)
    if problem:
        sys.stderr.write(problem + "\n")
        raise SystemExit(2)


def problem_with(python: tuple[int, int], pyside: str) -> str:
    """Why this pair cannot run, in words for the person at the terminal; empty if it can."""
    if not pyside:
        return "Relaydesk needs Qt: install it with  pip install 'relaydesk[desktop]'"
    major, minor = (int(part) for part in pyside.split(".")[:2])
    if python < (3, 12) and (major, minor) >= (6, 12):
        return (
            f"PySide6 {pyside} crashes on Python {python[0]}.{python[1]}. "
            "Install PySide6-Essentials 6.11 (pip install 'PySide6-Essentials>=6.11.3,<6.12') "
            "or use Python 3.12 or newer."
        )
    return ""
