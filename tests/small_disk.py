"""A small disk that can be filled to the last byte and given room again; for tests of the tier ``fault``."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted tmpfs."""

    path: Path

    def fill(self) -> None:
        """Takes the last byte; journals of databases are emptied first, so that they have no room of their own."""
        for found in self.path.rglob("*.sqlite"):
            conn = sqlite3.connect(found)
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            conn.close()
        with (self.path / "filler").open("ab", buffering=0) as stream:
            for block in (1 << 20, 4096, 1):
                try:
                    while True:
                        stream.write(b"x" * block)
                except OSError:
                    continue

    def give_room(self) -> None:
        """The administrator has tidied up."""
        (self.path / "filler").unlink()


@contextmanager
def small_disk(place: Path, *, size_mb: int) -> Iterator[SmallDisk]:
    """Mounts one at ``place``; the test is left out, with the reason, where that is not permitted."""
    if os.geteuid() != 0:
        pytest.skip("did not run: needs root, to mount a small tmpfs")
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"did not run: no tmpfs mounts here ({mounted.stderr.decode().strip()})")
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
