"""The engine as a process of its own, to be killed: `python -m tests.desktop.engine_process FOLDER URL DO`.

DO is `offline N` (queue N messages without a relay), `online N` (queue N while sending), or `drain` (send
what waits, then end). Each queued message is printed as soon as `send_text` returned, which is the promise
that it is on disk.
"""

import asyncio
import json
import sys
from pathlib import Path

from desktop.cache.rows import InboxQuery
from desktop.engine.engine import Engine
from desktop.engine.events import Event
from desktop.platform.paths import app_paths
from tests.desktop.fake_relay import EMAIL, PASSWORD


class FileKeyring:
    """A keyring for tests that survives the process."""

    lasting = True
    holder = "test file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self) -> dict[str, str]:
        return dict(json.loads(self._path.read_text())) if self._path.exists() else {}

    def get(self, name: str) -> str | None:
        return self._read().get(name)

    def set(self, name: str, value: str) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({**self._read(), name: value}))
        new.replace(self._path)

    def delete(self, name: str) -> None:
        self._path.write_text(json.dumps({k: v for k, v in self._read().items() if k != name}))


def say(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


async def main(folder: Path, url: str, do: str, count: int) -> None:
    def ignore(_batch: tuple[Event, ...]) -> None: ...

    keyring = FileKeyring(folder / "keyring.json")
    engine = Engine(app_paths(folder), ignore, open_keyring=lambda: keyring)
    await engine.start()
    if do == "sign-in":
        await engine.sign_in(url, EMAIL, PASSWORD, remember=True)
        while not (await engine.queries.inbox_page(InboxQuery())).rows:
            await asyncio.sleep(0.01)
        await engine.close()
        return
    if do == "drain":
        while await engine.queries.unsent():
            await asyncio.sleep(0.02)
        await engine.close()
        return
    page = await engine.queries.inbox_page(InboxQuery())
    for number in range(count):
        row = page.rows[number % len(page.rows)]
        echo = await engine.send_text(row.id, str(number), None)
        say(str(echo.key))
        if do == "online":
            await asyncio.sleep(0.01)
    say("queued")
    await asyncio.Event().wait()  # until killed


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]) if sys.argv[4:] else 0))
