"""Pins: bytes that are kept although no record names them. A pin has a name, so that somebody later knows why."""

from dataclasses import dataclass
from datetime import datetime

from cas.errors import BlobNotFound
from cas.ids import ContentId
from cas.store import BlobStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Why some bytes are kept."""

    id: ContentId
    name: str
    made: str


def add_pin(store: BlobStore, cid: ContentId, name: str, *, now: datetime) -> None:
    """Keeps these bytes; the same pin again changes nothing.

    Raises:
        BlobNotFound: the bytes are not here.
        StoreFailed: the index cannot be written.
    """
    with store.index.transaction() as conn:
        if conn.execute("SELECT 1 FROM blob WHERE sha = ?", (cid.digest,)).fetchone() is None:
            raise BlobNotFound(f"{cid} is not here")
        conn.execute("INSERT OR IGNORE INTO pin VALUES (?, ?, ?)", (cid.digest, name, now.isoformat()))
        conn.execute("DELETE FROM unnamed WHERE sha = ?", (cid.digest,))


def remove_pin(store: BlobStore, cid: ContentId, name: str) -> bool:
    """Takes a pin away; says whether there was one."""
    with store.index.transaction() as conn:
        return conn.execute("DELETE FROM pin WHERE sha = ? AND name = ?", (cid.digest, name)).rowcount > 0


def list_pins(store: BlobStore) -> list[Pin]:
    """Every pin, by name and id."""
    with store.index.long_reader() as conn:
        return [
            Pin(id=ContentId(row["sha"]), name=row["name"], made=row["made"])
            for row in conn.execute("SELECT * FROM pin ORDER BY name, sha")
        ]
