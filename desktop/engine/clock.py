"""Time, and waiting between attempts."""

import random
import time
from datetime import UTC, datetime


class Clock:
    """The computer's clocks. `now` may jump when the computer's time is set; `monotonic` never goes back."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Backoff:
    """How long to wait before the next attempt: random between zero and a bound that doubles.

    Starting from zero spreads clients that were thrown off at the same moment over the whole interval.
    """

    def __init__(self, first: float, cap: float) -> None:
        self._first = first
        self._cap = cap
        self.failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        wait = backoff_seconds(self.failures, self._first, self._cap)
        self.failures += 1
        return wait

    def reset(self) -> None:
        self.failures = 0


def backoff_seconds(failures: int, first: float, cap: float) -> float:
    """Seconds to wait after `failures` earlier ones; full jitter."""
    bound = min(cap, first * 2.0 ** min(failures, 30))
    return random.uniform(0.0, bound)  # noqa: S311 - spreads load, guards nothing
