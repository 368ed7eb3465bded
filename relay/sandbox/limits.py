"""Meta's two message rates: per pair of number and person, and per number."""

import time
from collections.abc import Callable, Hashable
from typing import Final

PAIR_SECONDS: Final = 6.0
PAIR_BURST: Final = 45
NUMBER_PER_SECOND: Final = 80


class LeakyBuckets:
    """One bucket per key that holds `capacity` drops and leaks `per_second` of them."""

    def __init__(
        self, capacity: float, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = capacity
        self._per_second = per_second
        self._clock = clock
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def add(self, key: Hashable, speed: float, *, force: bool = False) -> bool:
        """Add a drop; False, and nothing added, if it does not fit. `force` adds it anyway.

        `speed` multiplies the leak; 0 switches the limit off.
        """
        if speed == 0:
            return True
        now = self._clock()
        level, at = self._levels.get(key, (0.0, now))
        level = max(0.0, level - (now - at) * self._per_second * speed)
        # The tolerance forgives what floating point loses when a drop has leaked just now.
        if not force and level + 1 > self._capacity + 1e-9:
            return False
        self._levels[key] = (level + 1, now)
        return True

    def clear(self) -> None:
        self._levels.clear()


def pair_limit() -> LeakyBuckets:
    """One message per 6 s to the same person, of which 45 may be borrowed from the future."""
    return LeakyBuckets(PAIR_BURST, 1 / PAIR_SECONDS)


def number_limit() -> LeakyBuckets:
    """80 messages per second, sent and received."""
    return LeakyBuckets(NUMBER_PER_SECOND, NUMBER_PER_SECOND)
