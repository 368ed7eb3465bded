"""The desktop with 100,000 cached conversations: its start until the inbox is painted, and its memory.

And opening a chat of 100,000 messages from the encrypted cache.

The program is the real one, offscreen, with a real cache file and no relay to reach. The floor it is held
against in the same run is a Python process that imports Qt and paints one empty window.
"""

import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import psutil
from keyring.backend import KeyringBackend

from desktop.cache import writes
from desktop.cache.store import KEY_BYTES, Cache
from desktop.engine.account_file import AccountFile, account_folder, key_check, set_current_account
from desktop.platform.paths import app_paths
from shared.content import TextContent
from shared.delivery import DeliveryStatus
from shared.wire.auth import Me, TenantInfo, UserInfo
from shared.wire.inbox import Contact, Conversation, Direction, LastMessage, Message

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / ".cache" / "bench" / "desktop_start.json"
KEYRING_VARIABLE = "BENCH_KEYRING"
CONVERSATIONS = 100_000
MESSAGES = 100_000
ROUNDS = 5
WANTED_OPEN_MS = 60
ME = Me(UserInfo(UUID(int=1), "agent@example.com", "Agent", "agent"), TenantInfo(UUID(int=2), "Bench"), [])
HOLDER = "bench_desktop_start.FileKeyring"

FLOOR = """
import time
from PySide6.QtWidgets import QApplication, QWidget
app = QApplication(["-platform", "offscreen"])
class Window(QWidget):
    def paintEvent(self, event):
        print(time.time(), flush=True)
window = Window(); window.resize(1180, 780); window.show(); app.processEvents()
"""


class FileKeyring(KeyringBackend):
    """A keyring for this measurement: a JSON file."""

    priority = 5

    def get_password(self, service: str, username: str) -> str | None:
        return self._read().get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        Path(os.environ[KEYRING_VARIABLE]).write_text(json.dumps({**self._read(), username: password}))

    def delete_password(self, service: str, username: str) -> None:
        """Nothing is deleted while measuring."""

    @staticmethod
    def _read() -> dict[str, str]:
        file = Path(os.environ[KEYRING_VARIABLE])
        return json.loads(file.read_text()) if file.exists() else {}


# --- the cache ------------------------------------------------------------------------------------


def message(number: int, conversation: UUID, at: datetime) -> Message:
    inbound = number % 5 < 3
    return Message(
        id=UUID(int=(1 << 100) + number),
        conversation_id=conversation,
        direction=Direction.INBOUND if inbound else Direction.OUTBOUND,
        content=TextContent(f"Message {number}: " + "the parcel, the lamp and the invoice " * (number % 7)),
        status=DeliveryStatus.RECEIVED if inbound else DeliveryStatus.READ,
        sent_at=at,
        version=1,
        author_id=None if inbound else ME.user.id,
    )


def conversation(number: int, now: datetime) -> Conversation:
    at = now - timedelta(seconds=30 * number)
    ids = UUID(int=(1 << 90) + number)
    newest = LastMessage(ids, Direction.INBOUND, f"What about order {number}?", DeliveryStatus.RECEIVED, at)
    return Conversation(
        id=ids,
        number_id=UUID(int=3),
        contact=Contact(ids, f"Customer {number}", f"+4917{number:09}"),
        last_activity_at=at,
        version=1,
        unread_count=1 if number % 10 == 9 else 0,
        last_inbound_at=at,
        last_message=newest,
    )


async def fill(folder: Path) -> None:
    """An account as it is after its first synchronisation."""
    now = datetime.now(UTC)
    key = secrets.token_bytes(KEY_BYTES)
    paths = app_paths(folder)
    account = account_folder(paths, ME.user.id, lasting=True)
    account.path.mkdir(parents=True, exist_ok=True)
    cache = await Cache.open(account.cache, key)
    async with cache.writing() as connection:
        await writes.put_me(connection, ME)
        await writes.begin_epoch(connection, UUID(int=9), 1)
        for start in range(0, CONVERSATIONS, 5_000):
            rows = [conversation(number, now) for number in range(start, start + 5_000)]
            await writes.put_conversations(connection, rows)
        first = conversation(0, now).id
        for start in range(0, MESSAGES, 5_000):
            await writes.put_messages(
                connection,
                [
                    message(number, first, now - timedelta(seconds=60 * (MESSAGES - number)))
                    for number in range(start, start + 5_000)
                ],
            )
        oldest = message(0, first, now - timedelta(seconds=60 * MESSAGES))
        await writes.put_history_page(connection, first, [oldest], None)
        await writes.finish_resync(connection)
    await cache.close()
    keyring = FileKeyring()  # type: ignore[no-untyped-call]  # the library's own constructor
    keyring.set_password("", f"{ME.user.id}/cache-key", key.hex())
    keyring.set_password("", f"{ME.user.id}/refresh-token", "of no use here")
    account.write(
        AccountFile(
            user_id=ME.user.id,
            email=ME.user.email,
            relay_url="http://127.0.0.1:9",
            holder=f"{FileKeyring.__module__}.{FileKeyring.__qualname__}",
            key_check=key_check(key),
        )
    )
    set_current_account(paths, ME.user.id)


# --- the program ----------------------------------------------------------------------------------


class Desktop:
    """The running program and what it reports."""

    def __init__(self, profile: Path) -> None:
        self.started_at = time.time()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "desktop.app", "--offscreen", "--automation"),
                *("--profile-dir", str(profile), "--theme", "light"),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHON_KEYRING_BACKEND": f"{FileKeyring.__module__}.{FileKeyring.__qualname__}",
                "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent))),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.command(do="quit")
        self._process.wait(20)

    def command(self, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(fields) + "\n")
        self._process.stdin.flush()

    def report(self, **wanted: object) -> dict[str, Any]:
        """The next report that has these fields."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            report: dict[str, Any] = json.loads(line)
            if report.items() >= wanted.items():
                return report
        raise RuntimeError(f"the program ended before {wanted}")

    def memory(self) -> float:
        return float(psutil.Process(self._process.pid).memory_info().rss / 2**20)


def measure(profile: Path) -> dict[str, float]:
    with Desktop(profile) as desktop:
        window = desktop.report(event="window")["at"] - desktop.started_at
        inbox = desktop.report(event="inbox")["at"] - desktop.started_at
        time.sleep(1)
        rss = desktop.memory()
        desktop.command(id=1, do="open", text="Customer 0")
        pressed = desktop.report(id=1)["at"]
        opened = desktop.report(event="painted")["at"] - pressed
        time.sleep(0.5)
        return {
            "window painted": window * 1000,
            "inbox painted": inbox * 1000,
            "memory, inbox": rss,
            "memory, chat open": desktop.memory(),
            "chat opened": opened * 1000,
        }


def floor() -> float:
    started = time.time()
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-c", FLOOR], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return (float(done.stdout.splitlines()[0]) - started) * 1000


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="relaydesk-bench-") as name:
        os.environ[KEYRING_VARIABLE] = str(Path(name) / "keyring.json")
        profile = Path(name) / "profile"
        asyncio.run(fill(profile))
        measure(profile)  # once to warm the file cache
        rounds = [measure(profile) for _ in range(ROUNDS)]
        empty = statistics.median(floor() for _ in range(ROUNDS))
    report = {what: statistics.median(each[what] for each in rounds) for what in rounds[0]}
    report["empty Qt window"] = empty
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"median": report, "rounds": rounds}, indent=1))
    opened = report["chat opened"]
    sys.stdout.write(
        f"## Start with {CONVERSATIONS:,} cached conversations\n\n"
        "| | median | of an empty Qt window |\n|---|---|---|\n"
        f"| empty Qt window painted (floor) | {empty:.0f} ms | 1 × |\n"
        f"| window painted | {report['window painted']:.0f} ms | {report['window painted'] / empty:.1f} × |\n"
        f"| inbox painted | {report['inbox painted']:.0f} ms | {report['inbox painted'] / empty:.1f} × |\n"
        f"| memory with the inbox | {report['memory, inbox']:.0f} MB | |\n"
        f"| memory with a chat of {MESSAGES:,} messages open | {report['memory, chat open']:.0f} MB | |\n"
        f"| that chat opened from the encrypted cache | {opened:.0f} ms | |\n\n"
        f"Wanted: the chat opened in at most {WANTED_OPEN_MS} ms"
        f" ({'met' if opened <= WANTED_OPEN_MS else 'missed'}).\n"
    )
    return 0


if __name__ == "__main__":
    # Under its own name, so that the keyring's class is the same one here and in the program.
    from tests.bench.bench_desktop_start import main as run

    sys.exit(run())
