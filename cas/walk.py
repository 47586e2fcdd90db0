"""Walking a tree of files in the order of their paths, as the index has them; no file is opened.

Invariants:
- Paths come in the order of their bytes as UTF-8, which is the order of SQLite: ``a b`` before ``a/x`` before ``a0``.
- Links to folders are not followed. A folder or file that cannot be read is said and does not end the walk.
- Memory is that of the folders above the current file; each of them is one open descriptor.

It leaves out: the index, and what the differences mean (``cas.scan``).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file of the tree as its folder tells."""

    path: str
    size: int
    mtime_ns: int
    ino: int
    dev: int


def walk(root: Path, unreadable: list[tuple[str, str]] | None = None) -> Iterator[SeenFile]:
    """Every regular file below ``root``; what cannot be read is appended to ``unreadable`` as (path, reason)."""
    for path, state in walk_states(root, unreadable):
        yield seen_file(path, state)


def walk_states(root: Path, unreadable: list[tuple[str, str]] | None = None) -> Iterator[tuple[str, os.stat_result]]:
    """As ``walk``, without an object per file: a re-scan of an unchanged tree spends its time here."""
    base = str(root).rstrip("/") + "/"
    levels = [_Level.enter(base, "", unreadable)]
    try:
        while levels:
            level = levels[-1]
            folder, entries = level.folder, level.entries
            for name in level.names:
                path = folder + name
                if name[-1] == "/":
                    levels.append(_Level.enter(base, path, unreadable))
                    break
                try:
                    state = entries[name].stat()
                    if not path.isascii():
                        path.encode("utf-8")
                except (OSError, UnicodeEncodeError) as error:
                    _note_unreadable(unreadable, path, getattr(error, "strerror", None) or "the name is not UTF-8")
                    continue
                if state.st_mode & 0o170000 == 0o100000:
                    yield path, state
            else:
                levels.pop().close()
    finally:
        for level in levels:
            level.close()


class _Level:
    """One open folder of a walk: its files are asked about by name, so that their paths are not resolved each time."""

    def __init__(self, folder: str, descriptor: int, entries: dict[str, os.DirEntry[str]]) -> None:
        self.folder, self._descriptor, self.entries = folder, descriptor, entries
        self.names = iter(sorted(entries))

    @classmethod
    def enter(cls, base: str, folder: str, unreadable: list[tuple[str, str]] | None) -> Self:
        """Opens a folder; one that cannot be read is noted and has no entries."""
        descriptor = -1
        try:
            descriptor = os.open(base + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with os.scandir(descriptor) as found:
                # A folder sorts as its name with a slash, as the paths of its files do.
                entries = {
                    entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name: entry for entry in found
                }
        except OSError as error:
            _note_unreadable(unreadable, folder or ".", error.strerror or str(error))
            entries = {}
        return cls(folder, descriptor, entries)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _note_unreadable(unreadable: list[tuple[str, str]] | None, path: str, reason: str) -> None:
    if unreadable is not None:
        unreadable.append((path.encode("utf-8", "replace").decode(), reason))


def seen_file(path: str, state: os.stat_result) -> SeenFile:
    """A file from its path and what its folder tells."""
    return SeenFile(path, state.st_size, state.st_mtime_ns, state.st_ino, state.st_dev)
