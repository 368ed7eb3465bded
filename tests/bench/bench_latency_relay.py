"""From a customer's message to a client that has its row, stage by stage, at 50 messages a second.

The relay (web process, worker, embedded Postgres) runs as a person would start it; the client is a plain
socket and plain HTTP in this process, without a window. Stages: the webhook is acknowledged; the socket says
that the feed has come that far; the changes are pulled.
"""

import asyncio
import bisect
import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect

from relay.demo_programs import Program
from shared.content import TextContent
from shared.wire.auth import TokenPair
from shared.wire.sync import Changes, Head, MessageChange, ServerFrame, Snapshot
from tests.bench.bench_painted import (
    CONVERSATIONS,
    EMAIL,
    PASSWORD,
    RATE,
    SECONDS,
    SECRET,
    add_tenant,
    load,
    post,
)

RESULTS = Path(__file__).resolve().parent.parent.parent / ".cache" / "bench" / "latency_relay.json"


@dataclass
class Client:
    """Follows the feed and notes when it learned of what. Times are Unix seconds."""

    http: httpx.AsyncClient
    cursor: int
    heads: list[tuple[int, float]] = field(default_factory=list)
    pulled: dict[str, tuple[int, float]] = field(default_factory=dict)
    pulls: int = 0

    async def follow(self, live: ClientConnection) -> None:
        async for text in live:
            frame = msgspec.json.decode(text, type=ServerFrame)
            if not isinstance(frame, Head):
                continue
            if not self.heads or frame.seq > self.heads[-1][0]:
                self.heads.append((frame.seq, time.time()))
            while self.cursor < frame.seq:
                await self._pull()

    async def _pull(self) -> None:
        answer = await self.http.get("/api/v1/sync/changes", params={"after": self.cursor})
        answer.raise_for_status()
        page = msgspec.json.decode(answer.content, type=Changes)
        now = time.time()
        self.pulls += 1
        self.cursor = page.to
        for change in page.changes:
            if isinstance(change, MessageChange) and change.row is not None:
                content = change.row.content
                if isinstance(content, TextContent):
                    self.pulled.setdefault(content.body, (change.seq, now))

    def told_at(self, seq: int) -> float:
        """When the socket first said that the feed had come to `seq`."""
        return self.heads[bisect.bisect_left(self.heads, (seq, 0.0))][1]


async def measure(folder: Path) -> dict[str, list[float]]:
    """Seconds from just before each POST until each stage, and how many pulls it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    foreign = {"DATABASE_URL", "DATABASE_DIRECT_URL", "REDIS_URL", "JWT_SECRET"}
    environment = {key: value for key, value in os.environ.items() if key not in foreign} | {
        "DATA_DIR": str(folder / "data"),
        "PORT": str(port),
        "META_APP_SECRET": SECRET,
        "META_GRAPH_URL": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "relay", "all"]
    async with (
        Program.running("relay", command, environment, folder / "logs") as relay,
        httpx.AsyncClient(timeout=30) as meta,
        httpx.AsyncClient(base_url=url, timeout=30) as http,
    ):
        while True:
            relay.require_alive()
            with contextlib.suppress(httpx.TransportError):
                if (await http.get("/health/ready")).is_success:
                    break
            await asyncio.sleep(0.1)
        await add_tenant(environment)
        for person in range(CONVERSATIONS):
            await post(meta, url, person, f"start {person}")
        signed_in = await http.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})
        token = msgspec.json.decode(signed_in.content, type=TokenPair).access_token
        http.headers["Authorization"] = f"Bearer {token}"
        snapshot = msgspec.json.decode((await http.get("/api/v1/sync/snapshot")).content, type=Snapshot)
        client = Client(http, snapshot.seq)
        async with connect(
            f"ws://127.0.0.1:{port}/api/v1/live",
            additional_headers={"Authorization": f"Bearer {token}"},
            proxy=None,
            compression=None,
        ) as live:
            following = asyncio.create_task(client.follow(live))
            await load(meta, url, 3, "warm")
            client.pulls = 0
            started, acknowledged = await load(meta, url, SECONDS, "m")
            async with asyncio.timeout(30):
                while not client.pulled.keys() >= started.keys():
                    await asyncio.sleep(0.05)
            following.cancel()
    return {
        "webhook acknowledged": acknowledged,
        "socket says so": [client.told_at(client.pulled[text][0]) - began for text, began in started.items()],
        "changes pulled": [client.pulled[text][1] - began for text, began in started.items()],
        "pulls": [float(client.pulls)],
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="relaydesk-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the database's user passes through
        (folder / "logs").mkdir()
        stages = asyncio.run(measure(folder))
    (pulls,) = stages.pop("pulls")
    report = {
        stage: {
            "p50_ms": statistics.median(times) * 1000,
            "p95_ms": statistics.quantiles(times, n=20)[-1] * 1000,
            "max_ms": max(times) * 1000,
            "count": len(times),
        }
        for stage, times in stages.items()
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1))
    sys.stdout.write(
        f"## Webhook to a client's row, {RATE} messages/s for {SECONDS} s\n\n"
        "| until | p50 | p95 | max | messages |\n|---|---|---|---|---|\n"
    )
    for stage, figures in report.items():
        sys.stdout.write(
            f"| {stage} | {figures['p50_ms']:.0f} ms | {figures['p95_ms']:.0f} ms"
            f" | {figures['max_ms']:.0f} ms | {figures['count']} |\n"
        )
    sys.stdout.write(f"\nThe client pulled {pulls:.0f} times.\n")


if __name__ == "__main__":
    main()
