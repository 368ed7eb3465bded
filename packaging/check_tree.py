"""Refuse what does not belong into the repository: a registry's host, a path of one machine, a huge file."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 1024 * 1024
REFUSED = {
    # Written in pieces, so that this file is not its own first finding.
    "names a package registry's host": r"py"
    r"pi\.org|python"
    r"hosted\.org|registry\.npm"
    r"js|deb\.deb"
    r"ian\.org",
    "holds a path of one machine": r"(?<![\w.-])/(?:root|home/[a-z_][\w-]*|Users/\w+)/"
    + "".join(f"|{re.escape(str(path))}(?![\\w-])" for path in (ROOT, Path.home()) if len(path.parts) > 2),
}


def findings() -> list[str]:
    found = []
    tracked = subprocess.run(["git", "ls-files", "-z"], check=True, cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        if path.stat().st_size > MAX_BYTES:
            found.append(f"{name}: larger than {MAX_BYTES} bytes")
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{name}:{number}: {what}: {line.strip()[:120]}"
            for number, line in enumerate(lines, 1)
            for what, pattern in REFUSED.items()
            if re.search(pattern, line)
        ]
    return found


if __name__ == "__main__":
    sys.exit("\n".join(findings()) or 0)
