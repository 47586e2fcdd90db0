"""What the kill tests of tiers do in the child, and the store they do it to."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from conftest import NOW

import cas.garbage
from cas.garbage import Garbage
from cas.ids import ContentId
from cas.store import BlobStore
from cas.tier_folder import FolderTier
from cas.tiering import Tiering

COUNT, KEPT = 18, 6
LATER = NOW + timedelta(days=60)
GRACE = timedelta(days=30)


def data_of(number: int) -> bytes:
    """Bytes of the blob of this number."""
    return f"master {number}".encode() * 300


def ids(start: int = 0, stop: int = COUNT) -> list[ContentId]:
    """Ids of some of them."""
    return [ContentId.of(data_of(number)) for number in range(start, stop)]


def open_world(
    folder: Path, sync: Callable[[int], None] = os.fsync, now: datetime = LATER
) -> tuple[BlobStore, Tiering]:
    """The store and its tier."""
    store = BlobStore.open(folder / "store", sync=sync)
    return store, Tiering(store, {"archive": FolderTier(folder / "archive", sync=sync)}, clock=lambda: now)


def fill(folder: Path, mode: str) -> None:
    """A store of active bytes; for gc they are in the tier, and most are long unnamed."""
    (folder / "archive").mkdir(parents=True)
    store, tiering = open_world(folder, now=NOW)
    tier = tiering.tiers["archive"]
    assert isinstance(tier, FolderTier)
    tier.mark()
    for cid, data in zip(ids(), map(data_of, range(COUNT)), strict=True):
        store.put_bytes(data, now=NOW)
        if mode == "gc":
            tiering.move(cid, "archive")
    if mode == "gc":
        Garbage(store, now=NOW, grace=GRACE).mark(cid.digest for cid in ids(0, KEPT))
    store.close()


def work(folder: Path, mode: str, sync: Callable[[int], None], *, sabotaged: bool) -> None:
    """Moves everything and brings a third of it back, or collects; says what is done."""
    cas.garbage.BATCH = 3  # type: ignore[misc]
    if sabotaged:
        sabotage()
    store, tiering = open_world(folder, sync)
    if mode == "gc":
        collect(store, tiering)
        return
    for number, cid in enumerate(ids()):
        if tiering.move(cid, "archive") == "moved":
            say("moved", cid)
        if number % 3 == 0:
            tiering.restore(cid)
            say("restored", cid)


def collect(store: BlobStore, tiering: Tiering) -> None:
    """One gc over the tier."""
    garbage = Garbage(
        store, now=LATER, grace=GRACE, tiering=tiering, progress=lambda done: say("swept", ContentId.of(b"%d" % done))
    )
    garbage.mark(cid.digest for cid in ids(0, KEPT))
    garbage.sweep(delete=True, even_most=True)


def say(what: str, cid: ContentId) -> None:
    """An acknowledgement."""
    os.write(1, f"ack {what} {cid.hex}\n".encode())


def sabotage() -> None:
    """The active copy goes while the bytes are on their way; gc takes what is named, too."""
    chunks, is_due = Tiering._active_chunks, Garbage._is_due

    def early(self: Tiering, cid: ContentId, took: Any) -> Iterator[bytes]:
        data = b"".join(chunks(self, cid, took))
        os.unlink(self._store.tree.path(cid))
        yield data

    def anything(self: Garbage, conn: Any, sha: bytes) -> bool:
        return is_due(self, conn, sha) or True

    Tiering._active_chunks = early  # type: ignore[method-assign]
    Garbage._is_due = anything  # type: ignore[method-assign]
    Garbage._due = lambda self: self._index.select("SELECT sha FROM blob ORDER BY sha")  # type: ignore[method-assign,assign,return-value]
