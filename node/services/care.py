"""Looking after bytes while the node serves: how fast volumes are read, and what is read in the background.

Visitors are counted and never wait; jobs wait for the limit of their volume; scrub and leaf tables wait for that and
for their own limit. Work in the background lives from the index: a slice that is lost is done by a later one.

It leaves out: what scrub does (``cas.scrub``), when slices run (``node.app``).
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cas.errors import BlobChanged, CasError
from cas.ids import ContentId
from cas.leaves import build_leaf_table, without_leaf_table
from cas.pace import Pace
from cas.scrub import ScrubResult, doubt, scrub
from cas.store import BlobStore
from node.config import Settings

MOST_WANTED: Final = 100
"""Leaf tables that strangers may have asked for at a time: each costs the reading of a file."""
NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""Before it was last read only what was not read since it moved, or since somebody doubted it."""
_MIB: Final = 1 << 20


class CareStopped(Exception):
    """The node is ending: what is being read is left for another time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What one slice of work in the background did."""

    read: int
    bad: tuple[ScrubResult, ...]
    tables: int


def follow_identities(settings: Settings, store: BlobStore) -> None:
    """Files are recognised as ``node.toml`` says now, without another ingest: of volumes, and of sources that are one.

    Raises:
        StoreFailed: the index could not be written.
    """
    wanted = {name: source.identity for name, source in settings.sources.items()}
    wanted |= {name: volume.identity for name, volume in settings.volumes.items()}
    for name, row in store.index.volumes().items():
        if wanted.get(name, row.identity) != row.identity:
            store.index.set_volume(replace(row, identity=wanted[name]))


class Care:
    """Paces of one process, and its work in the background."""

    def __init__(
        self,
        store: BlobStore,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._ending = threading.Event()
        self._guard = threading.Lock()
        self._wanted: dict[ContentId, None] = {}
        self._sleep = wait or self._ending.wait
        self._own = self._pace(settings.care.scrub_mib_s)
        self._volumes = {
            name: self._pace(volume.max_read_mib_s)
            for name, volume in settings.volumes.items()
            if volume.max_read_mib_s
        }

    def served(self, volume: str, count: int) -> None:
        """A visitor was sent bytes of this volume; returns at once."""
        pace = self._volumes.get(volume)
        if pace is not None:
            pace.took_for_people(count)

    def took_for_job(self, volume: str, count: int) -> None:
        """A job reads bytes of this volume; blocking."""
        pace = self._volumes.get(volume)
        if pace is not None:
            pace.took(count)

    def took(self, volume: str, count: int) -> None:
        """Work in the background has read bytes of this volume; blocking.

        Raises:
            CareStopped: the node ends.
        """
        self._own.took(count)
        self.took_for_job(volume, count)

    def want_leaf_table(self, cid: ContentId) -> bool:
        """Asks for a leaf table soon; False when too many are asked for already."""
        with self._guard:
            if len(self._wanted) >= MOST_WANTED and cid not in self._wanted:
                return False
            self._wanted[cid] = None
            return True

    def run_slice(self, seconds: float) -> Slice:
        """Scrubs, and builds leaf tables if that is asked for, for about so long; blocking.

        Raises:
            StoreFailed: the index cannot be used.
        """
        until = self._monotonic() + seconds
        bad: list[ScrubResult] = []
        read = tables = 0

        def is_over() -> bool:
            return self._ending.is_set() or self._monotonic() >= until

        try:
            while (cid := self._next_wanted()) is not None and not is_over():
                tables += self._build(cid)
            days = self._settings.care.scrub_days
            # Without rounds, only what was moved or is in doubt: it was never read since.
            older = self._clock() - timedelta(days=days) if days else NEVER
            for found in scrub(self._store, clock=self._clock, older_than=older, took=self.took, should_stop=is_over):
                read += 1
                if found.verdict != "good":
                    bad.append(found)
            if self._settings.care.leaf_tables == "background":
                for cid, _ in without_leaf_table(self._store):
                    if is_over():
                        break
                    tables += self._build(cid)
        except CareStopped:
            pass
        return Slice(read=read, bad=tuple(bad), tables=tables)

    def stop(self) -> None:
        """Ends a slice that is running soon."""
        self._ending.set()

    def _next_wanted(self) -> ContentId | None:
        with self._guard:
            return next(iter(self._wanted), None)

    def _build(self, cid: ContentId) -> int:
        try:
            build_leaf_table(self._store, cid, now=self._clock(), took=self.took)
        except BlobChanged:
            with contextlib.suppress(CasError):
                doubt(self._store, cid)  # read first by the next scrub, and closed if it is damaged
            return 0
        except (CasError, OSError):
            return 0
        finally:
            with self._guard:
                self._wanted.pop(cid, None)
        return 1

    def _pace(self, mib_s: int) -> Pace:
        return Pace(mib_s * _MIB, clock=self._monotonic, wait=self._wait)

    def _wait(self, seconds: float) -> None:
        self._sleep(seconds)
        if self._ending.is_set():
            raise CareStopped
