"""A table on disk for as long as something is read: memory stays flat, whatever the size of an archive."""

import sqlite3
from typing import Final

_CACHE_KIB: Final = 8 * 1024


def open_spool() -> sqlite3.Connection:
    """An empty database in a temporary file that SQLite removes itself. Nothing in it is ever rolled back or kept."""
    spool = sqlite3.connect("")
    for pragma in ("page_size=16384", "journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
        spool.execute(f"PRAGMA {pragma}")
    return spool
