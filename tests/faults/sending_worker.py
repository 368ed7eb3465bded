"""Workers that send, with short times, to be killed: `python -m tests.faults.sending_worker <JSON>`.

Each line on standard input starts another worker, forked from this process, so that it need not load the
program first. It runs the loops that matter to a send as `relay worker` composes them, and writes its process
id when they run. Standard output carries nothing else; the log goes to standard error.
"""

import asyncio
import os
import signal
import sys

import msgspec

from relay.inbound.lanes import LaneWorker
from relay.inbound.splitter import Splitter
from relay.kit.db import Database, PoolOptions
from relay.kit.doorbell import open_doorbell
from relay.kit.log import configure
from relay.kit.secrets import KeyRing, Secrets
from relay.meta.graph import GraphClient
from relay.outbound.decisions import SendTimes
from relay.outbound.reconcile import Reconciler
from relay.outbound.sender import Sender
from relay.sync import feed
from relay.sync.service import heads_reader
from relay.worker import Loop, supervise


class Task(msgspec.Struct):
    """What the worker is told on its command line."""

    dsn: str
    encryption_keys: str
    graph_url: str
    times: SendTimes


async def work(task: Task) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    secrets = Secrets(KeyRing.parse(task.encryption_keys))
    doorbell = open_doorbell(task.dsn, None)
    database = Database(
        task.dsn,
        application_name="sending-worker",
        append_feed=feed.append,
        ring=doorbell.ring,
        pool=PoolOptions(size=6, overflow=6),
    )
    await doorbell.start(heads_reader(database))
    graph = GraphClient(task.graph_url, "v26.0", total_seconds=task.times.request)
    sender = Sender(database=database, doorbell=doorbell, secrets=secrets, graph=graph, times=task.times)
    loops = (
        Loop("splitter", Splitter(database, doorbell)),
        Loop("lanes", LaneWorker(database, doorbell, secrets)),
        Loop("sender", sender),
        Loop("reconciler", Reconciler(database=database, times=task.times)),
    )
    running = [asyncio.create_task(supervise(loop, stop)) for loop in loops]
    print(os.getpid(), flush=True)
    await asyncio.gather(*running)
    await graph.aclose()
    await doorbell.stop()
    await database.close()


def main() -> None:
    configure("info", "json")
    task = msgspec.json.decode(sys.argv[1], type=Task)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    print("loaded", flush=True)
    while sys.stdin.readline():
        if os.fork() == 0:
            asyncio.run(work(task))
            os._exit(0)


if __name__ == "__main__":
    main()
