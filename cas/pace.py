"""How fast bytes may be read from a volume: people first, work that can wait takes what is left.

Every read of a volume is counted. People never wait; what they took is time that work in the background waits.

It leaves out: other processes (each keeps its own pace, so two of them take twice as much).
"""

import threading
from collections.abc import Callable
from typing import Final

Took = Callable[[int], None]
"""Told how many bytes were just read; may wait."""
TookOf = Callable[[str, int], None]
"""Told of which volume (empty: own copies), and how many bytes were just read; may wait."""
MAX_DEBT_S: Final = 10.0
"""A burst of visitors stops work in the background for at most this long after it."""


class Pace:
    """At most so many bytes a second; thread-safe. A rate of 0 means no limit.

    Args:
        bytes_per_s: the limit.
        clock: seconds that only go forward.
        wait: sleeps; may raise to end the work.
    """

    def __init__(self, bytes_per_s: float, *, clock: Callable[[], float], wait: Callable[[float], None]) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._wait = wait
        self._free_at = clock()
        self._lock = threading.Lock()

    def took(self, count: int) -> None:
        """Work in the background has read ``count`` bytes; returns when it may go on."""
        pause = self._spend(count)
        if pause > 0:
            self._wait(pause)

    def took_for_people(self, count: int) -> None:
        """A visitor was sent ``count`` bytes; returns at once."""
        self._spend(count)

    def _spend(self, count: int) -> float:
        if self._rate <= 0:
            return 0.0
        with self._lock:
            now = self._clock()
            free_at = max(self._free_at, now) + count / self._rate
            self._free_at = min(free_at, now + max(MAX_DEBT_S, count / self._rate))
            return self._free_at - now
