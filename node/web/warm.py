"""Open bytes that were just sent: what is known about them, so that the next request needs no visit to a thread.

The first request for a file always goes the long way (``node.web.blobs``): a thread asks the database and opens the
file. Then the file is known here for a minute, and requests are answered in the event loop itself, which is three
times as fast. The loop may do that because nothing in it waits:

- only what anybody may see is kept, and only until the next commit of any process to the database (a changed licence
  closes the door at once), or until bytes were put into quarantine;
- only files of filesystems that promise to say "not in memory" instead of waiting (``RWF_NOWAIT``: local ones,
  no network drive), opened and read by a thread within the last minute;
- the file is opened anew and checked each time; whatever is unusual is left to the long way.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from cas.reader import BlobPlace
from cas.store import BlobStore
from node.storage.db import Database

MOST_PLACES: Final = 4096
"""About 2 KiB each."""
KEPT_S: Final = 60
"""As long as the names and inodes of a file just opened stay in memory, give or take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmPlace:
    """A file with open bytes."""

    place: BlobPlace
    media_type: str
    version: tuple[int, int]
    """Of the database and of the store, from before facts were read."""
    until: float


class WarmPlaces:
    """The files known at the moment; used by the event loop only."""

    def __init__(self, database: Database, store: BlobStore) -> None:
        self._database = database
        self._store = store
        self._places: OrderedDict[str, WarmPlace] = OrderedDict()

    def version(self) -> tuple[int, int] | None:
        """Of what decides who sees what, to be asked before facts are read; None when it cannot be told at once."""
        version = self._database.version()
        return None if version is None else (version, self._store.closings())

    def find(self, hex_digits: str) -> WarmPlace | None:
        """What is known about this file and still holds."""
        found = self._places.get(hex_digits)
        if found is None:
            return None
        if found.until < time.monotonic() or found.version != self.version():
            del self._places[hex_digits]
            return None
        return found

    def keep(self, place: BlobPlace, *, media_type: str, version: tuple[int, int]) -> None:
        """Remembers a file that a thread has just opened and read."""
        self._places[place.id.hex] = WarmPlace(
            place=place, media_type=media_type, version=version, until=time.monotonic() + KEPT_S
        )
        self._places.move_to_end(place.id.hex)
        if len(self._places) > MOST_PLACES:
            self._places.popitem(last=False)
