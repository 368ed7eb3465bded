"""The lock files: make them from pyproject.toml, or check that they still belong to it.

    python packaging/lock.py [--upgrade]     (in the virtual environment; asks the package registry)
    python packaging/lock.py --check         (offline)

Each lock's first line carries a digest of what it was made from; --check compares it.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEV, RELAY, DESKTOP = (f"requirements-{name}.lock" for name in ("dev", "relay", "desktop"))
COMPILE = ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
COMPILE += ["--no-emit-index-url", "--no-header", "pyproject.toml"]


def first_line() -> str:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = tables["project"]
    inputs = [
        project["requires-python"],
        project["dependencies"],
        project["optional-dependencies"],
        tables["dependency-groups"],
    ]
    return f"# made by `make lock` from {hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]}\n"


def update(options: list[str]) -> None:
    """Compile the lock of everything, then the two installs' locks within its versions."""
    for lock, selection in (
        (DEV, ["--all-extras", "--group", "dev", *options]),
        (RELAY, ["--extra", "relay", "--constraints", DEV]),
        (DESKTOP, ["--extra", "desktop", "--constraints", DEV]),
    ):
        command = [str(Path(sys.executable).with_name("uv")), *COMPILE[1:], *selection, "--output-file", lock]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        path = ROOT / lock
        path.write_text(first_line() + path.read_text())


def check() -> list[str]:
    return [
        f"{lock} was not made from this pyproject.toml: run `make lock`."
        for lock in (DEV, RELAY, DESKTOP)
        if not (ROOT / lock).read_text().startswith(first_line())
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(check()) or 0)
    update(sys.argv[1:])
