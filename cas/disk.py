"""Saying why a disk refused, when SQLite only says that it did."""

import os
from pathlib import Path
from typing import Final

LITTLE_BYTES: Final = 1 << 20
"""SQLite needs room for its journal even to read."""


def why_refused(path: Path, error: Exception) -> str:
    """The reason in words: ``disk I/O error`` of a disk without room is a full disk."""
    try:
        free = os.statvfs(path.parent)
    except OSError:
        return str(error)
    if free.f_bavail * free.f_frsize < LITTLE_BYTES:
        return f"the disk is full ({error}): make room and run the same command again, nothing is lost"
    return str(error)
