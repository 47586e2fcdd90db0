"""Good bytes for damaged places: from another copy here, or from whoever hands in bytes with the right hash.

Invariants:
- Nothing counts as repaired but bytes that hash to the id; they are durable before the quarantine ends.
- A file of the institution is written only when that was asked for, and then as a whole: the damaged one is kept beside
  it under ``.damaged``, and at no time is there no file or half of one.

It leaves out: fetching (the node does), backups.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cas.durable import hash_descriptor, owned_path, sync_folder
from cas.errors import BlobChanged, BlobNotFound, BlobRefused, StoreFailed
from cas.files import check_relpath, open_inside
from cas.ids import ContentId
from cas.index import OWNED, Location
from cas.store import MAX_BLOB_BYTES, BlobStore
from cas.tier import TIER_VOLUME

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What repair did."""

    id: ContentId
    source: str
    """Where the good bytes came from, in words."""
    owned: bool
    """Whether a copy of our own was written."""
    written: tuple[str, ...] = ()
    """Files of the institution that were written, as ``volume:path``."""


def good_copy(store: BlobStore, cid: ContentId) -> Path | None:
    """A place here whose bytes hash to the id right now; reads the candidates."""
    for place, volume in store.index.places(cid):
        path = owned_path(store.folder / "owned", cid) if volume is None else volume.root / place.path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if hash_descriptor(descriptor)[0] == cid:
                return path
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return None


def recheck(store: BlobStore, cid: ContentId, *, now: datetime) -> list[str]:
    """Reads the institution's damaged files again; those that somebody put back leave quarantine: ``volume:path``.

    Raises:
        StoreFailed: the index could not be written.
    """
    good: list[Location] = []
    volumes = store.index.volumes()
    for name, path in damaged_places(store, cid):
        if name not in volumes:
            continue
        try:
            descriptor, before = open_inside(volumes[name].root, path)
            try:
                actual, size = hash_descriptor(descriptor)
                state = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, BlobRefused):
            continue
        if actual == cid and before.st_mtime_ns == state.st_mtime_ns:
            good.append(
                Location(
                    volume=name, path=path, sha=cid.digest, size=size, mtime_ns=state.st_mtime_ns, ino=state.st_ino,
                    dev=state.st_dev,
                )
            )  # fmt: skip
    if good:
        store.index.record(good, verified=now.isoformat())
    return [f"{item.volume}:{item.path}" for item in good]


def damaged_places(store: BlobStore, cid: ContentId) -> list[tuple[str, str]]:
    """Places of these bytes that are in quarantine: (volume, path)."""
    rows = store.index.select("SELECT volume, path FROM quarantine WHERE sha = ? ORDER BY 1, 2", cid.digest)
    return [(row["volume"], row["path"]) for row in rows]


def repair(
    store: BlobStore,
    cid: ContentId,
    chunks: Iterable[bytes],
    *,
    source: str,
    now: datetime,
    write_adopted: bool = False,
) -> Repaired:
    """Stores good bytes, and ends the quarantine of what they repair.

    Args:
        store: to repair.
        cid: what the bytes must hash to.
        chunks: the bytes.
        source: where they come from, in words.
        now: for the index.
        write_adopted: also write the institution's damaged files anew.

    Raises:
        BlobNotFound: the store does not know these bytes.
        BlobRefused: the bytes have another hash; nothing was changed.
        StoreFailed: the disk refused.
    """
    if store.index.size_of(cid) is None:
        raise BlobNotFound(f"{cid} is not known here")
    store.put_stream(chunks, now=now, max_bytes=MAX_BLOB_BYTES, expected=cid)
    written: list[str] = []
    for volume, path in damaged_places(store, cid):
        if volume != OWNED and not volume.startswith(TIER_VOLUME) and write_adopted:
            _write_adopted(store, cid, volume, path, now)
            written.append(f"{volume}:{path}")
    return Repaired(id=cid, source=source, owned=True, written=tuple(written))


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file."""
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _write_adopted(store: BlobStore, cid: ContentId, name: str, relpath: str, now: datetime) -> None:
    volume = store.volume(name)
    check_relpath(relpath)
    target = volume.root / relpath
    if target.is_symlink() or not str(target.parent.resolve()).startswith(str(volume.root)):
        raise BlobRefused(f"{relpath}: not written, because a link leads elsewhere")
    temporary = target.with_name(f".{target.name}.repair")
    kept = target.with_name(target.name + ".damaged")
    try:
        with store.open_blob(cid) as blob, temporary.open("wb") as stream:
            offset = 0
            while chunk := blob.pread(offset, _CHUNK):
                stream.write(chunk)
                offset += len(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        with temporary.open("rb") as stream:
            if hash_descriptor(stream.fileno())[0] != cid:
                raise BlobChanged("what was written does not read back as it should: is the disk failing?")
        if target.exists():
            shutil.copymode(target, temporary)
            if not kept.exists():
                os.link(target, kept)
        temporary.replace(target)
        sync_folder(target.parent, os.fsync)
        state = target.stat()
    except OSError as error:
        raise StoreFailed(f"{target} was not repaired: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    store.index.record(
        [
            Location(
                volume=name, path=relpath, sha=cid.digest, size=state.st_size, mtime_ns=state.st_mtime_ns,
                ino=state.st_ino, dev=state.st_dev,
            )
        ],
        verified=now.isoformat(),
    )  # fmt: skip
