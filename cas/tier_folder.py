"""A folder as a tier: another disk, or a share of the institution's file server.

Files lie at ``ab/cd/<hex>`` and are written as the store writes its own (``cas.durable``): temporary file, hash,
fsync, link, fsync of the folder. Then they are read back.

Invariants:
- Only a folder with our mark in it is written to or said to lack something: the empty mount point of a drive that is
  not there has no mark. ``mark`` sets it, once, in an empty folder.

It leaves out: rights and space of the other disk.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from cas.durable import ShardTree, Sync, hash_descriptor, owned_path, sync_folder, write_blob
from cas.errors import BlobNotFound, StoreFailed, TierFailed
from cas.ids import ContentId
from cas.tier import CHUNK_BYTES, checked

MARK: Final = "vasculum-tier"
_STAGING: Final = "staging"


class FolderTier:
    """See ``cas.tier.Tier``."""

    def __init__(self, root: Path, *, sync: Sync = os.fsync, unlink: Callable[[Path], None] = os.unlink) -> None:
        self.root = root
        self._tree = ShardTree(root / "blobs", sync=sync)
        self._sync = sync
        self._unlink = unlink

    @property
    def where(self) -> str:
        """See ``Tier``."""
        return str(self.root)

    def is_marked(self) -> bool:
        """Whether our mark is there."""
        return (self.root / MARK).is_file()

    def mark(self) -> None:
        """Takes an existing empty folder as a tier; again, it changes nothing.

        Raises:
            TierFailed: it is not there, or holds something else.
        """
        try:
            if self.is_marked():
                return
            if any(self.root.iterdir()):
                raise TierFailed(f"{self.root} is not empty and no tier of a node: name an empty folder")
            for part in ("blobs", _STAGING):
                (self.root / part).mkdir()
            (self.root / MARK).write_text("Images of a Vasculum node, by hash. Do not change anything here.\n", "utf-8")
            sync_folder(self.root, self._sync)
        except OSError as error:
            raise TierFailed(f"{self.root} cannot be used: {error.strerror} (make the folder first)") from error

    def put(self, cid: ContentId, chunks: Iterable[bytes], *, size: int) -> None:
        """See ``Tier``."""
        self._must_be_marked()
        try:
            written = write_blob(
                checked(cid, chunks, size=size), tree=self._tree, staging=self.root / _STAGING, max_bytes=size,
                expected=cid,
            )  # fmt: skip
        except StoreFailed as error:
            raise TierFailed(f"{self.root}: {error}") from error
        written.settle()
        with self._translated():
            found = self._hash(cid)
        if found != cid:
            raise TierFailed(f"{self.root} does not read back what was written: is the disk failing?")

    def _hash(self, cid: ContentId) -> ContentId:
        descriptor = os.open(self._path(cid), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            with contextlib.suppress(OSError):
                # What was just written is read from the disk, not from memory, where the kernel can be asked to.
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            return hash_descriptor(descriptor)[0]
        finally:
            os.close(descriptor)

    def stat(self, cid: ContentId) -> int | None:
        """See ``Tier``."""
        with self._translated():
            try:
                return self._path(cid).stat().st_size
            except FileNotFoundError:
                self._must_be_marked()
                return None

    def read(self, cid: ContentId, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ``Tier``."""
        with self._translated():
            try:
                descriptor = os.open(self._path(cid), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError as error:
                self._must_be_marked()
                raise BlobNotFound(f"{cid} is not in {self.root}") from error
        try:
            left = length
            while left is None or left > 0:
                with self._translated():
                    chunk = os.pread(descriptor, CHUNK_BYTES if left is None else min(left, CHUNK_BYTES), offset)
                if not chunk:
                    return
                yield chunk
                offset += len(chunk)
                left = None if left is None else left - len(chunk)
        finally:
            os.close(descriptor)

    def delete(self, cid: ContentId) -> bool:
        """See ``Tier``."""
        self._must_be_marked()
        path = self._path(cid)
        with self._translated():
            try:
                self._unlink(path)
            except FileNotFoundError:
                return False
            sync_folder(path.parent, self._sync)
        return True

    def list(self) -> Iterator[tuple[str, int]]:
        """See ``Tier``."""
        self._must_be_marked()
        with self._translated():
            yield from self._below(self._tree.root, "")

    def sweep_staging(self) -> int:
        """Removes what interrupted copies left behind; only for who holds the lock of the tiers."""
        self._must_be_marked()
        with self._translated():
            left = list((self.root / _STAGING).iterdir())
            for path in left:
                path.unlink(missing_ok=True)
        return len(left)

    def _below(self, folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size

    def _path(self, cid: ContentId) -> Path:
        return owned_path(self._tree.root, cid)

    def _must_be_marked(self) -> None:
        if not self.is_marked():
            raise TierFailed(f"{self.root} has no mark of a tier: is its drive mounted?")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TierFailed(f"{self.root}: {error.strerror or error}") from error


__all__ = ["MARK", "FolderTier"]
