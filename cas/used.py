"""On which day bytes were last asked for: collected in memory, written now and then, at most once a day for each blob.

The table is coarse on purpose: a write per day, not per request. What is collected when a process is killed is lost;
a rule that archives what was not used for months does not mind a day.

It leaves out: who asked.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

from cas.ids import ContentId
from cas.index import BlobIndex

MOST_SEEN: Final = 200_000
"""Blobs remembered in a day, 100 bytes each; more are asked for again and written again, which harms nobody."""


class UsedDays:
    """What was asked for; thread-safe."""

    def __init__(self, index: BlobIndex, *, clock: Callable[[], datetime]) -> None:
        self._index = index
        self._clock = clock
        self._lock = threading.Lock()
        self._fresh: set[bytes] = set()
        self._written: set[bytes] = set()
        self._day = ""

    def saw(self, cid: ContentId) -> None:
        """These bytes were asked for; costs a look into a set."""
        digest = cid.digest
        if digest not in self._written:
            with self._lock:
                self._fresh.add(digest)

    def flush(self) -> int:
        """Writes what was collected; returns how many rows that were.

        Raises:
            StoreFailed: the index could not be written; what was collected is kept for the next time.
        """
        day = self._clock().date().isoformat()
        with self._lock:
            if day != self._day or len(self._written) > MOST_SEEN:
                self._day, self._written = day, set()
            fresh = self._fresh - self._written
        if not fresh:
            return 0
        with self._index.transaction() as conn:
            # Only of own copies, which alone can move; and never a row that remembers withdrawn bytes.
            conn.executemany(
                """INSERT INTO used SELECT ?1, ?2
                   WHERE EXISTS (SELECT 1 FROM location WHERE sha = ?1 AND volume = '')
                   ON CONFLICT (sha) DO UPDATE SET day = excluded.day WHERE day < excluded.day""",
                [(digest, day) for digest in fresh],
            )
        with self._lock:
            self._fresh -= fresh
            self._written |= fresh
        return len(fresh)
