"""The folder of a node: who may use it at a time, and opening what lies in it.

Invariants:
- One serving process per folder, by an exclusive lock that the kernel drops when the process dies.
- Command-line tools open the same database beside it; SQLite keeps the writers apart.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cas.store import BlobStore
from federation.identity import SigningKey
from node.config import Settings, load_settings
from node.storage.db import Database


class FolderBusy(Exception):
    """Another process serves this folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFolder:
    """Settings, database, blobs and key of one node, opened."""

    settings: Settings
    database: Database
    blobs: BlobStore
    key: SigningKey


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[NodeFolder]:
    """Opens a node's folder for a command or a server.

    Raises:
        ConfigError, DatabaseError: with what to do.
    """
    settings = load_settings(folder)
    with contextlib.ExitStack() as stack:
        database = Database.open(settings.database_path)
        stack.callback(database.close)
        blobs = BlobStore.open(settings.blobs_path)
        stack.callback(blobs.close)
        yield NodeFolder(settings=settings, database=database, blobs=blobs, key=SigningKey.load(settings.key_path))


@contextlib.contextmanager
def serve_lock(path: Path) -> Iterator[None]:
    """Holds the folder for one serving process.

    Raises:
        FolderBusy: another process holds it.
    """
    with _exclusive(path, f"another process already serves {path.parent.parent}"):
        yield


@contextlib.contextmanager
def ingest_lock(folder: Path) -> Iterator[None]:
    """Holds the folder for one ingest; a node may serve meanwhile.

    Raises:
        FolderBusy: another ingest is running.
    """
    with _exclusive(folder / "data" / "ingest.lock", f"another ingest into {folder} is running: wait for it"):
        yield


@contextlib.contextmanager
def withdraw_lock(folder: Path) -> Iterator[None]:
    """Holds the folder for one withdrawal; a node may serve meanwhile.

    Raises:
        FolderBusy: another withdrawal is running.
    """
    with _exclusive(folder / "data" / "withdraw.lock", f"another withdrawal in {folder} is running: wait for it"):
        yield


def is_served(lock: Path) -> bool:
    """Whether a process serves the folder of this lock."""
    try:
        with serve_lock(lock):
            return False
    except FolderBusy:
        return True


@contextlib.contextmanager
def _exclusive(path: Path, busy: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderBusy(busy) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
