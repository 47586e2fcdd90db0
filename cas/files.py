"""Files where the institution keeps them: opening one inside its volume, and telling whether it is still the same.

Invariants:
- A descriptor is given out only for a regular file inside the root of its volume; that is asked of the opened
  descriptor, so no link that is put in place between the question and the opening leads out.
- Nothing here writes, and a file that is gone changes nothing.

It leaves out: the index (``cas.index``), hashing (``cas.durable``).
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from cas.errors import BlobRefused
from cas.index import Identity, Location, VolumeRow

SAMPLED_FILES: Final = 64
"""How many files are looked at to judge a volume: enough to tell "many" from "one", and quick on a network drive."""
FEWEST_FILES: Final = 8
"""Below this many nothing is said about a volume as a whole."""


def check_relpath(relpath: str) -> None:
    """Refuses what cannot be a path inside a folder.

    Raises:
        BlobRefused: with the reason.
    """
    if not relpath or relpath.startswith("/") or ".." in relpath.split("/") or "\0" in relpath:
        raise BlobRefused("the path leaves its folder")
    try:
        relpath.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BlobRefused("the file name is not UTF-8, and no record could name it: rename the file") from error


def open_inside(root: Path, relpath: str) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file below ``root``, and what is known about it; the caller closes it.

    Raises:
        BlobRefused: the path leaves the root, or is no regular file.
        OSError: it is not there, or cannot be read.
    """
    check_relpath(relpath)
    folder = str(root).rstrip("/") + "/"  # texts: building Path objects takes longer than opening the file
    descriptor = os.open(folder + relpath, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BlobRefused("not a regular file")
        if not _real_path(descriptor, folder + relpath).startswith(folder):
            raise BlobRefused("a link leads out of the folder")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, found


def is_same(known: Location, found: os.stat_result, identity: Identity) -> bool:
    """Whether a file is still the one that was indexed, as far as its inode says."""
    return (
        known.size == found.st_size
        and known.mtime_ns == found.st_mtime_ns
        and (identity != "inode" or known.ino == found.st_ino)
    )


def root_problem(volume: VolumeRow) -> str | None:
    """What is wrong with the root of a volume: missing or empty means a drive that is not mounted."""
    try:
        with os.scandir(volume.root) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        return f"volume {volume.name}: {volume.root} cannot be read ({error.strerror})"
    return f"volume {volume.name}: {volume.root} is empty (is the drive mounted?)" if is_empty else None


def sample_problem(volume: VolumeRow, sample: list[Location]) -> str | None:
    """Says when more than half of the sampled files are not what was indexed: then it is the tree, not the files."""
    changed = sum(not _is_there(volume, item, volume.identity) for item in sample)
    if len(sample) < FEWEST_FILES or changed * 2 <= len(sample):
        return None
    if renumbered(volume, sample) == changed:
        return inode_problem(volume, sample)
    return (
        f"volume {volume.name}: {changed} of {len(sample)} sampled files below {volume.root} are not what was indexed"
        " (another tree is mounted there?)"
    )


def inode_problem(volume: VolumeRow, sample: list[Location]) -> str | None:
    """Says when files have other inodes than when they were indexed, and everything else as it was."""
    count = renumbered(volume, sample)
    if not count:
        return None
    return (
        f"volume {volume.name}: {count} of {len(sample)} sampled files have the size and time they had, and another"
        ' inode, so they are not served. A network drive renumbers its files: write identity = "size+mtime" where'
        " node.toml has this volume or source. Copied or restored: `vasculum volume moved` with the same folder,"
        " and they are read again"
    )


def renumbered(volume: VolumeRow, sample: list[Location]) -> int:
    """How many files have only another inode than when they were indexed."""
    if volume.identity != "inode":
        return 0
    return sum(
        _is_there(volume, item, "size+mtime") and not _is_there(volume, item, volume.identity) for item in sample
    )


def edited(volume: VolumeRow, sample: list[Location]) -> int:
    """How many files are there with another size or time than when they were indexed."""
    found = 0
    for item in sample:
        with contextlib.suppress(OSError):
            found += not is_same(item, (volume.root / item.path).stat(), "size+mtime")
    return found


def _is_there(volume: VolumeRow, known: Location, identity: Identity) -> bool:
    try:
        found = (volume.root / known.path).stat()
    except OSError:
        return False
    return is_same(known, found, identity)


def _real_path(descriptor: int, path: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - see above
    except OSError:  # no /proc here
        return os.path.realpath(path)
