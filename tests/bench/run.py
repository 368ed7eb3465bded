"""Run the benchmarks and print their tables; with `--write`, put them into docs/BENCHMARKS.md.

    python tests/bench/run.py [--write] [NAME ...]      (NAME: webhooks for bench_webhooks.py; default all)

A benchmark is a program of its own: what it prints is its section, in Markdown; a non-zero exit is a failure.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "BENCHMARKS.md"
MARK = "<!-- Below this line `make bench ARGS=--write` writes. -->"


def main() -> int:
    programs = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    parser = argparse.ArgumentParser(description="Run the benchmarks and print their tables.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(programs)}; all by default")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/BENCHMARKS.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(programs):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")

    sections, failed = [machine()], []
    show(sections[0])
    for name in arguments.names or programs:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", f"tests.bench.{programs[name].stem}"],
            check=False,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode == 0:
            sections.append(done.stdout.strip())
            show(sections[-1])
        else:
            failed.append(name)
        sys.stderr.write(f"[{name}: {time.monotonic() - started:.0f} s, exit code {done.returncode}]\n")
    if arguments.write and not failed:
        head = PAGE.read_text().split(MARK)[0]
        PAGE.write_text("\n\n".join([head + MARK, *sections]) + "\n")
        sys.stderr.write(f"Written to {PAGE.relative_to(ROOT)}.\n")
    return len(failed)


def machine() -> str:
    cpuinfo = read("/proc/cpuinfo").splitlines()
    models = [line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")]
    model = next(iter(models), platform.processor() or "unknown processor")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    release = dict(line.split("=", 1) for line in read("/etc/os-release").splitlines() if "=" in line)
    system = release.get("PRETTY_NAME", platform.platform()).strip('"')
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({model}), {memory:.0f} GiB,"
        f" {system}, Python {platform.python_version()}. Command: `make bench ARGS=--write`."
    )


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
