"""Durable acknowledgements of webhooks per second: ours, ours without storing, and the usual stack.

All three run at once on one Postgres; wrk loads them in turn, round after round, with 64 kept-alive
connections and signed bodies made beforehand. Each figure is the median of its rounds. At the end every
acknowledged webhook must be in the database.
"""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import structlog

from relay.boot import DATABASE, SERVER_FOLDER
from relay.kit.embedded_postgres import EmbeddedPostgres
from relay.meta.signature import sign

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / ".cache" / "bench" / "webhooks.json"
PEER = HERE / "peer_express"

APP_SECRET = "bench-app-secret"
CONNECTIONS = 64
BODIES = 2_000
WARM_UP_S = 3
ROUND_S = 8
ROUNDS = 3


@dataclass
class Contestant:
    """A server under load. `stored` asks the database how many webhooks it holds, if it is to hold any."""

    name: str
    port: int
    stored: str | None
    acknowledged: int = 0
    rounds: list[dict[str, float]] = field(default_factory=list)

    def median(self, key: str) -> float:
        return statistics.median(one[key] for one in self.rounds)


def main() -> None:
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )  # standard output is the report
    for program, package in (
        ("wrk", "wrk"),
        ("node", "nodejs"),
        ("npm", "npm"),
        ("redis-server", "redis-server"),
    ):
        if shutil.which(program) is None:
            sys.exit(
                f"{program} is missing: run `make bench`, which installs it, or: apt-get install {package}"
            )
    install_peer()
    ours = Contestant("Relaydesk", free_port(), "SELECT count(*) FROM webhook_raw")
    bare = Contestant("Relaydesk without storing", free_port(), None)
    peer = Contestant("Express + pg + BullMQ", free_port(), "SELECT count(*) FROM peer_webhook")
    everyone = (ours, bare, peer)
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="relaydesk-bench-", dir="/var/tmp"))
        )
        folder.chmod(0o711)  # the database's user passes through
        database = start_all(stack, folder, ours, bare, peer)
        bodies = folder / "bodies"
        bodies.write_text("".join(f"{sign(APP_SECRET, body)} {body.decode()}\n" for body in webhooks(BODIES)))
        for contestant in everyone:
            contestant.acknowledged += answers(load(contestant.port, bodies, WARM_UP_S))
        for number in range(ROUNDS):
            for contestant in everyone[number % 3 :] + everyone[: number % 3]:  # nobody is always first
                result = load(contestant.port, bodies, ROUND_S)
                if result["refused"] or result["broken"]:
                    sys.exit(f"{contestant.name} did not answer everything with 200: {result}")
                contestant.acknowledged += answers(result)
                contestant.rounds.append({**result, "per_second": result["answers"] / result["seconds"]})
                progress(
                    f"round {number + 1}: {contestant.name} {contestant.rounds[-1]['per_second']:,.0f}/s"
                )
        for contestant in everyone:
            check_stored(contestant, database)
    report(ours, bare, peer)


def start_all(
    stack: contextlib.ExitStack, folder: Path, ours: Contestant, bare: Contestant, peer: Contestant
) -> EmbeddedPostgres:
    """Start the three servers as a user would, on one embedded Postgres."""
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
        "DATA_DIR": str(folder / "data"),
        "META_APP_SECRET": APP_SECRET,
    }
    relay = str(Path(sys.executable).with_name("relay"))
    without_storing = [sys.executable, str(HERE / "serve_without_storing.py")]
    subprocess.run([relay, "migrate"], check=True, env=environment, stdout=subprocess.DEVNULL)
    for contestant, command in ((ours, [relay]), (bare, without_storing)):
        server = {**environment, "PORT": str(contestant.port)}
        stack.enter_context(running([*command, "serve"], server, folder / f"{contestant.port}.log"))
    database = stack.enter_context(EmbeddedPostgres.start(folder / "data" / SERVER_FOLDER))
    redis_socket = folder / "redis.sock"
    redis = [
        "redis-server",
        "--port",
        "0",
        "--unixsocket",
        str(redis_socket),
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    stack.enter_context(running(redis, environment, folder / "redis.log"))
    wait_for(redis_socket.exists, "redis-server")
    dsn = urlsplit(database.superuser_dsn())
    node = {
        **environment,
        "PORT": str(peer.port),
        "APP_SECRET": APP_SECRET,
        "REDIS_SOCKET": str(redis_socket),
        "NODE_ENV": "production",
        "PGHOST": parse_qs(dsn.query)["host"][0],
        "PGUSER": dsn.username or "",
        "PGPASSWORD": dsn.password or "",
        "PGDATABASE": "postgres",
    }
    stack.enter_context(running(["node", str(PEER / "server.js")], node, folder / "node.log"))
    for contestant in (ours, bare, peer):
        wait_for(partial(answers_http, contestant.port), contestant.name)
    return database


def install_peer() -> None:
    if not (PEER / "node_modules").exists():
        progress("installing the peer's packages")
        subprocess.run(
            ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"],
            check=True,
            cwd=PEER,
            stdout=sys.stderr,
        )


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], log_file: Path) -> Iterator[None]:
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def webhooks(count: int) -> Iterator[bytes]:
    """Text messages as Meta sends them, about 700 bytes each."""
    for n in range(count):
        wa_id = f"4915550{n % 500:06}"
        message = {
            "from": wa_id,
            "id": f"wamid.HBgNNDkxNTU1MDAwMDAwMBUCABIYFDNBN0E5RjQ3QkE2Q{n:08X}AA==",
            "timestamp": str(1_790_000_000 + n),
            "text": {
                "body": f"Message {n}: hello, is the blue one with the wide rim still there in size M? " * 2
            },
            "type": "text",
        }
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550102030", "phone_number_id": "720193847561029"},
            "contacts": [{"profile": {"name": f"Customer {n % 500}"}, "wa_id": wa_id}],
            "messages": [message],
        }
        entry = {"id": "482019384756102", "changes": [{"value": value, "field": "messages"}]}
        yield json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def load(port: int, bodies: Path, seconds: int) -> dict[str, float]:
    """One round of wrk; what tests/bench/load.lua reports."""
    command = [
        "wrk",
        "--threads=1",
        "--timeout=10s",
        f"--connections={CONNECTIONS}",
        f"--duration={seconds}s",
    ]
    command += [f"--script={HERE / 'load.lua'}", f"http://127.0.0.1:{port}", "--", str(bodies)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30)
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def answers(result: dict[str, float]) -> int:
    return int(result["answers"] - result["refused"])


def check_stored(contestant: Contestant, database: EmbeddedPostgres) -> None:
    """Acknowledged means stored; wrk leaves some unread at the end of a round, so there may be more."""
    if contestant.stored is None:
        return
    name = "postgres" if "peer" in contestant.stored else DATABASE
    with psycopg.connect(database.superuser_dsn(name)) as connection:
        row = connection.execute(contestant.stored).fetchone()
    if row is None or row[0] < contestant.acknowledged:
        sys.exit(f"{contestant.name} acknowledged {contestant.acknowledged} webhooks and stored {row}")


def report(ours: Contestant, bare: Contestant, peer: Contestant) -> None:
    best = ours.median("per_second")
    lines = [
        "## Webhooks: durable acknowledgements",
        "",
        f"{CONNECTIONS} connections, signed bodies of about 700 bytes, one process each, no worker running;",
        f"medians of {ROUNDS} alternating rounds of {ROUND_S} s.",
        "",
        "| Server | Webhooks/s | p50 ms | p99 ms | Relaydesk is |",
        "|---|---:|---:|---:|---:|",
    ]
    for one in (ours, bare, peer):
        ratio = "" if one is ours else f"{best / one.median('per_second'):.2f} ×"
        cells = f"{one.median('per_second'):,.0f} | {one.median('p50_ms'):.1f} | {one.median('p99_ms'):.1f}"
        lines.append(f"| {one.name} | {cells} | {ratio} |")
    sys.stdout.write("\n".join(lines) + "\n")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({one.name: one.rounds for one in (ours, bare, peer)}, indent=2) + "\n")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers_http(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=1).close()
    except urllib.error.HTTPError:
        return True  # it answers, if only with 404
    except OSError:
        return False
    return True


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not start")
        time.sleep(0.1)


def progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
