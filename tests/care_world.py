"""What the kill tests of gc and scrub do in the child, and the store they do it to."""

import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from conftest import NOW

import cas.garbage
import cas.scrub
from cas.garbage import Garbage
from cas.ids import ContentId
from cas.store import BlobStore

KEPT, RUBBISH, DAMAGED = 24, 48, 8
LATER = NOW + timedelta(days=60)
GRACE = timedelta(days=30)


def data_of(number: int) -> bytes:
    """Bytes of the blob of this number; the first ``KEPT`` are named."""
    return f"blob {number}".encode() * 400


def ids(start: int, stop: int) -> list[ContentId]:
    """Ids of some of them."""
    return [ContentId.of(data_of(number)) for number in range(start, stop)]


def fill(folder: Path, mode: str) -> None:
    """A store of named bytes, of bytes that are long unnamed, and for scrub of some that are damaged."""
    store = BlobStore.open(folder / "store")
    for number in range(KEPT + RUBBISH):
        store.put_bytes(data_of(number), now=NOW)
    if mode == "gc":
        Garbage(store, now=NOW, grace=GRACE).mark(cid.digest for cid in ids(0, KEPT))
    else:
        for cid in ids(0, DAMAGED):
            path = store.tree.path(cid)
            path.chmod(0o644)
            path.write_bytes(b"rot" + path.read_bytes()[3:])
            path.chmod(0o444)
    store.close()


def work(folder: Path, mode: str, sync: Callable[[int], None], *, sabotaged: bool) -> None:
    """One gc beside somebody who stores the same bytes again, or one scrub; says what is done."""
    cas.garbage.BATCH = cas.scrub.GROUP_PLACES = 6  # type: ignore[misc]
    if sabotaged:
        sabotage()
    store = BlobStore.open(folder / "store", sync=sync)
    if mode == "scrub":
        for found in cas.scrub.scrub(store, clock=lambda: LATER, older_than=LATER):
            say(found.verdict, found.id.hex)
        return
    garbage = Garbage(store, now=LATER, grace=GRACE, progress=lambda done: say("swept", str(done)))
    garbage.mark(cid.digest for cid in ids(0, KEPT))

    def store_again() -> None:
        for number in range(KEPT, KEPT + RUBBISH, 5):
            say("stored", store.put_bytes(data_of(number), now=LATER).id.hex)

    thread = threading.Thread(target=store_again)
    thread.start()
    garbage.sweep(delete=True, even_most=True)
    thread.join()


def say(what: str, text: str) -> None:
    """An acknowledgement: one write, so that two threads do not mix their lines."""
    os.write(1, f"ack {what} {text}\n".encode())


def sabotage() -> None:
    """Files go before their rows, and results are said before they are committed."""
    rows, settle = Garbage._drop_rows, cas.scrub._settle

    def files_first(self: Garbage, batch: Any) -> list[int]:
        for sha in batch:
            cas.garbage.owned_path(self._store.tree.root, ContentId(sha)).unlink(missing_ok=True)
        return rows(self, batch)

    def said_first(store: Any, group: Any, now: Any) -> Iterator[Any]:
        group = list(group)
        yield from (found for _, found in group)
        list(settle(store, group, now))

    Garbage._drop_rows = files_first  # type: ignore[method-assign]
    cas.scrub._settle = said_first
