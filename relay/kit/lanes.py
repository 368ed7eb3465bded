"""Lanes: things that belong together are worked on one after another, everything else side by side.

A lane is a 64-bit number. Whoever works on it holds a transaction-scoped advisory lock of that number, which
Postgres drops with the transaction or the connection, so a killed worker blocks nothing. Two lanes that share
a number are merely worked on one after another.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from hashlib import blake2b

import structlog

from relay.kit.db import Topic
from relay.kit.doorbell import Doorbell

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
"""How often a loop looks for work that no ring announced."""
RETRY_CAP_SECONDS = 5.0


def lane_hash(*parts: object) -> int:
    """The number of a lane, for Postgres a bigint; the same in every process and release."""
    digest = blake2b("\x1f".join(map(str, parts)).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


async def drain(
    step: Callable[[], Awaitable[int]], *, doorbell: Doorbell, topic: Topic, stop: asyncio.Event, name: str
) -> None:
    """Call `step` until it reports that nothing was due, then sleep until the topic is rung.

    A step returns how many things it did, in a transaction of its own. One that fails has changed nothing and
    is tried again, later and later; the loop itself ends only when `stop` is set.
    """
    failures = 0
    while not stop.is_set():
        try:
            done = await step()
            failures = 0
        except Exception:
            failures += 1
            log.exception("step failed, trying again", loop=name, failures=failures)
            pause = min(RETRY_CAP_SECONDS, 0.05 * 2**failures) * random.uniform(0.5, 1)  # noqa: S311 - jitter
            await asyncio.sleep(pause)
            continue
        if not done:
            await doorbell.wait(topic, POLL_SECONDS)
