"""Derived pictures on disk: pyramids and thumbnails, which can always be made again, within a budget of bytes.

::

    derived/pyramids/ab/<sha256>.<recipe>.tif
    derived/thumbnails/ab/<sha256>.<recipe>.jpg

Invariants:
- A file appears under its name whole and durable: written beside it, fsync, rename.
- The recipe (what was made, by which version of the library) is part of the name: another recipe is another file.
- Never authoritative: a file that is missing, damaged or of another recipe is made anew.
- Withdrawn bytes have none: whoever withdraws sets the mark first and then looks for files, and here the mark is asked
  after a file is there (``node.services.withdraw``). What lies half written bears the id in its name too.
- Files that were used longest ago go first when the budget is spent.

It leaves out: making pictures (``runners.pictures``), who may see them. Blocking; used from threads.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import secrets
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cas.errors import BlobWithdrawn
from cas.ids import ContentId
from cas.store import BlobStore
from linkeddata.access import AccessClass
from node.config import Settings
from node.storage.db import Database
from node.storage.facts import bytes_facts
from runners.pyramid_file import PyramidDamaged, PyramidFile

FORM: Final = 1
"""Goes up when pyramids are made in another way."""
TILE_QUALITY: Final = 85
THUMBNAIL_PX: Final = 400
"""Longest side of the one thumbnail that is kept."""
MOST_OPEN: Final = 128
"""Pyramids kept open; a process may have 1,024 files."""
TOUCH_S: Final = 3600.0
"""How exactly the last use is remembered."""
AFTER_SPENT: Final = 0.95
"""Share of the budget that is left filled when files are removed."""
UNFINISHED_S: Final = 3600.0
"""A file that is half written for so long was left by a killed process."""
KINDS: Final = {"pyramids": ".tif", "thumbnails": ".jpg"}


class DerivedPictures:
    """The derived pictures of one node; thread-safe."""

    def __init__(self, settings: Settings, blobs: BlobStore, *, may_write: bool = True) -> None:
        self._may_write = may_write
        self._root = settings.derived_path
        self._blobs = blobs
        self._budget = settings.images.pyramids_max_bytes
        self.tile_px: Final = settings.images.tile_px
        self.recipe: Final = recipe_of(tile_px=self.tile_px)
        self._open: OrderedDict[str, tuple[PyramidFile, float]] = OrderedDict()
        self._guard = threading.Lock()
        self._used: int | None = None

    def pyramid(self, cid: ContentId, *, width: int, height: int) -> PyramidFile | None:
        """The pyramid of a picture of this size, if a sound one is there.

        Raises:
            BlobWithdrawn: the bytes were withdrawn.
        """
        path = self.path("pyramids", cid)
        with self._guard:
            known = self._open.get(cid.hex)
        if known is not None and _is_there(path, known[0].fd):
            self._touch(cid, path, known)
            return known[0]
        self.forget_open(cid)
        try:
            found = PyramidFile.open(path, width=width, height=height, tile_px=self.tile_px)
        except FileNotFoundError:
            return None
        except (OSError, PyramidDamaged):
            self.drop(cid)
            return None
        self._unless_withdrawn(cid, path)
        self._touch(cid, path, (found, 0.0))
        return found

    def keep_pyramid(
        self, cid: ContentId, *, width: int, height: int, write: Callable[[int], tuple[int, int]]
    ) -> PyramidFile:
        """Makes a pyramid durable under its name and opens it.

        Args:
            cid: of the picture.
            width: what its record says, pixels.
            height: the same.
            write: writes it into an open, empty file and returns the size of the picture.

        Raises:
            PyramidDamaged: what was written is not the pyramid of a picture of this size.
            BlobWithdrawn: the bytes were withdrawn meanwhile.
            OSError: the disk refused.
        """
        path = self.path("pyramids", cid)
        with self._writing(path) as (temporary, descriptor):
            if write(descriptor) != (width, height):
                raise PyramidDamaged("the picture has another size than its record says")
            os.fsync(descriptor)
            try:
                found = PyramidFile.open(temporary, width=width, height=height, tile_px=self.tile_px)
                self._publish(temporary, path)
            except FileNotFoundError:  # whoever withdraws removes what is half written, too
                self._unless_withdrawn(cid, path)
                raise
        self._unless_withdrawn(cid, path)
        self._touch(cid, path, (found, 0.0))
        self._spend(found.size, spare=path)
        return found

    def thumbnail(self, cid: ContentId) -> bytes | None:
        """The kept thumbnail."""
        try:
            data = self.path("thumbnails", cid).read_bytes()
        except OSError:
            return None
        return data if data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9") else None

    def keep_thumbnail(self, cid: ContentId, data: bytes) -> None:
        """Keeps a thumbnail; a full disk costs the cache, not the picture.

        Raises:
            BlobWithdrawn: the bytes were withdrawn meanwhile.
        """
        path = self.path("thumbnails", cid)
        with contextlib.suppress(OSError), self._writing(path) as (temporary, descriptor):
            os.write(descriptor, data)
            os.fsync(descriptor)
            self._publish(temporary, path)
        self._unless_withdrawn(cid, path)
        self._spend(len(data), spare=path)

    def drop(self, cid: ContentId, damaged: PyramidFile | None = None) -> None:
        """Removes the pyramid of these bytes: it is damaged. One that was made anew meanwhile stays."""
        path = self.path("pyramids", cid)
        if damaged is None or _is_there(path, damaged.fd):
            self.forget_open(cid)
            if self._may_write:
                path.unlink(missing_ok=True)

    def is_open(self, cid: ContentId, pyramid: PyramidFile) -> bool:
        """Whether this is the pyramid that is given out now."""
        known = self._open.get(cid.hex)
        return known is not None and known[0] is pyramid

    def forget_open(self, cid: ContentId) -> None:
        """Closes the pyramid of these bytes once nobody reads it any more."""
        with self._guard:
            self._open.pop(cid.hex, None)

    def path(self, kind: str, cid: ContentId) -> Path:
        """Where a derived picture of these bytes lies."""
        return self._root / kind / cid.hex[:2] / f"{cid.hex}.{self.recipe}{KINDS[kind]}"

    def sweep(self) -> int:
        """Removes files of other recipes and what killed processes left; returns how many."""
        count = 0
        for path in list(self._files()):
            is_left = path.name.endswith(".tmp") and _age_s(path) > UNFINISHED_S
            is_old = not path.name.endswith(".tmp") and path.name.split(".")[1:2] != [self.recipe]
            if is_left or is_old:
                path.unlink(missing_ok=True)
                count += 1
        return count

    def used_bytes(self) -> int:
        """What all of them take, read anew."""
        return sum(size for _, size, _ in self._listing())

    # ------------------------------------------------------------------ inside
    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[tuple[Path, int]]:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield temporary, descriptor
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)

    def _publish(self, temporary: Path, path: Path) -> None:
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _unless_withdrawn(self, cid: ContentId, path: Path) -> None:
        if self._blobs.is_withdrawn(cid):
            if self._may_write:
                path.unlink(missing_ok=True)
            raise BlobWithdrawn(cid)

    def _touch(self, cid: ContentId, path: Path, entry: tuple[PyramidFile, float]) -> None:
        found, last = entry
        now = time.monotonic()
        if self._may_write and (not last or now - last > TOUCH_S):
            with contextlib.suppress(OSError):
                os.utime(path)
            last = now
        with self._guard:
            self._open[cid.hex] = (found, last)
            self._open.move_to_end(cid.hex)
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)

    def _spend(self, size: int, *, spare: Path) -> None:
        with self._guard:
            self._used = self._used + size if self._used is not None else self.used_bytes()
            if self._used <= self._budget:
                return
            files = sorted(self._listing())
            self._used = sum(item for _, item, _ in files)
            for _, item, path in files:
                if self._used <= self._budget * AFTER_SPENT:
                    break
                if path != spare:
                    path.unlink(missing_ok=True)
                    self._used -= item

    def _listing(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
        return found

    def _files(self) -> Iterator[Path]:
        for kind in KINDS:
            yield from (self._root / kind).glob("*/*")


def recipe_of(*, tile_px: int) -> str:
    """A short name of everything that decides the bytes of a derived picture besides the picture."""
    version = importlib.metadata.version("pyvips-binary").split(".")
    parts = {"form": FORM, "tile": tile_px, "quality": TILE_QUALITY, "libvips": version[:2], "colour": "sRGB"}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def remove_of_closed(settings: Settings, database: Database) -> int:
    """Removes derived pictures of images that are not open (any more); returns how many.

    To be called after classes became stricter. What staff look at is made again when they do.
    """
    count = 0
    with database.reader(limit_s=None) as conn:
        for path in _derived(settings):
            if not _is_open(conn, path.name[:64]):
                path.unlink(missing_ok=True)
                count += 1
    return count


def _derived(settings: Settings) -> list[Path]:
    return [
        path for kind in (*KINDS, "preview-*") for path in settings.derived_path.glob(f"{kind}/*/*") if path.is_file()
    ]


def _is_open(conn: sqlite3.Connection, hex_digits: str) -> bool:
    try:
        facts = bytes_facts(conn, ContentId.from_hex(hex_digits))
    except ValueError:
        return True  # not ours to judge
    return facts.exists and facts.access is AccessClass.OPEN and (facts.is_redacted or not facts.sensitive)


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        there, here = path.stat(), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
