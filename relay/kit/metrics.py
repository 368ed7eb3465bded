"""What every process measures; parts of the relay add their own with `prometheus_client`.

Labels are fixed sets: never a tenant, a number or a path with ids in it.
"""

import asyncio
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

http_requests = Counter("http_requests_total", "Requests answered.", ["method", "route", "status"])
http_seconds = Histogram(
    "http_request_seconds", "Time to the start of the answer.", ["method", "route"], buckets=_BUCKETS
)
loop_failures = Counter(
    "loop_failures_total", "Times a worker's loop failed and was started again.", ["loop"]
)
_lag = Gauge("event_loop_lag_seconds", "How late the event loop ran a timer, at worst in the last seconds.")

LAG_SAMPLES: Final = 50
LAG_INTERVAL_SECONDS: Final = 0.1


async def watch_event_loop() -> None:
    """Measure the loop's lag until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        worst = 0.0
        for _ in range(LAG_SAMPLES):
            due = loop.time() + LAG_INTERVAL_SECONDS
            await asyncio.sleep(LAG_INTERVAL_SECONDS)
            worst = max(worst, loop.time() - due)
        _lag.set(worst)
