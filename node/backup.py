"""Backup and restore of a node: database, blob index, keys and settings. No images: they stay where they are.

The file is a tar archive with a fixed list of members and a manifest of their SHA-256 digests.

Invariants:
- The copy of a database is taken by SQLite's online backup while the node runs, and is checked before it counts.
- A backup appears under its name only when it is complete and on disk (temporary file, fsync, rename).
- It holds the node's secret key, so it is readable by its owner only.
- Restore writes into a new folder, only known members, only after every digest was checked; the restored node
  gets a new epoch, because what it published after the backup is lost and others may have seen it.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from linkeddata.json_strict import parse_json
from linkeddata.times import format_time
from node.config import Settings
from node.storage.db import migrate

FORMAT: Final = 1
TAXA_MEMBER: Final = "sensitive-taxa.csv"
"""The list of sensitive taxa, wherever ``[protection] taxa_file`` has it; a node does not start without its list."""
MEMBERS: Final = (
    "node.toml", "keys/node.key", "keys/recovery.pub", "data/node.sqlite", "data/blobs/index.sqlite", TAXA_MEMBER,
)  # fmt: skip
_DATABASES: Final = ("data/node.sqlite", "data/blobs/index.sqlite")
MAX_MEMBER_BYTES: Final = 1 << 40
"""A database larger than 1 TiB is beyond one node; a tar header that says so is a forgery."""


class BackupError(Exception):
    """The backup was not made or not restored; nothing was changed. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What a backup holds."""

    path: Path
    bytes: int
    members: dict[str, str]
    """Member name -> SHA-256, hex."""


def make_backup(settings: Settings, target: Path, *, now: datetime) -> BackupReport:
    """Writes a backup of the node to ``target``.

    Raises:
        BackupError: the target exists, a database is damaged, or the disk refuses.
    """
    if target.exists():
        raise BackupError(f"{target} exists: choose another name, backups are not overwritten")
    try:
        with tempfile.TemporaryDirectory(prefix="vasculum-backup-", dir=target.resolve().parent) as scratch:
            return _write(settings, target, Path(scratch), now)
    except OSError as error:
        raise BackupError(f"{target}: {error.strerror or error}; no backup was written") from error


def _write(settings: Settings, target: Path, scratch: Path, now: datetime) -> BackupReport:
    sources: dict[str, Path] = {}
    for name in MEMBERS:
        path = settings.folder / name
        if name == TAXA_MEMBER:
            if not settings.protection.taxa_file:
                continue
            path = settings.folder / settings.protection.taxa_file
        if not path.exists():
            if name == "data/node.sqlite":
                raise BackupError(f"{path} is missing: there is nothing to back up")
            continue
        sources[name] = _copy_database(path, scratch / Path(name).name) if name in _DATABASES else path
    digests = {name: _sha256(path) for name, path in sources.items()}
    manifest = {
        "type": "vasculum:Backup",
        "format": FORMAT,
        "created": format_time(now),
        "public_url": settings.origin,
        "members": digests,
    }
    packed = scratch / "backup.tar"
    with packed.open("xb") as stream:
        os.fchmod(stream.fileno(), 0o600)
        with tarfile.open(fileobj=stream, mode="w") as archive:
            _add_bytes(archive, "manifest.json", json.dumps(manifest, indent=1).encode())
            for name, path in sources.items():
                info = archive.gettarinfo(str(path), arcname=name)
                info.mode, info.uid, info.gid, info.uname, info.gname = 0o600, 0, 0, "", ""
                with path.open("rb") as member:
                    archive.addfile(info, member)
        stream.flush()
        os.fsync(stream.fileno())
    size = packed.stat().st_size
    packed.rename(target)
    _fsync_folder(target.resolve().parent)
    return BackupReport(path=target, bytes=size, members=digests)


def restore_backup(source: Path, folder: Path, *, now: datetime) -> dict[str, str]:
    """Makes ``folder`` the node that ``source`` was made from; returns member names and digests.

    Raises:
        BackupError: the folder is in use, or the file is not a whole backup of ours.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty: restore into a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=folder) as scratch_name:
        scratch = Path(scratch_name)
        digests = _unpack(source, scratch)
        for name in _DATABASES:
            if (scratch / name).exists():
                _check_database(scratch / name)
        migrate(scratch / "data/node.sqlite")
        _new_epoch(scratch / "data/node.sqlite", now)
        for name in digests:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if name.startswith("keys/") else 0o755)
            shutil.move(scratch / name, path)
    for root in (folder / "keys", folder / "data" / "blobs", folder / "data", folder):
        if root.exists():
            _fsync_folder(root)
    return digests


def _unpack(source: Path, scratch: Path) -> dict[str, str]:
    try:
        with tarfile.open(source, mode="r:") as archive:
            first = archive.next()
            if first is None or first.name != "manifest.json" or first.size > 65_536:
                raise BackupError(f"{source} is not a backup made by `vasculum backup`")
            manifest = parse_json(_read_member(archive, first))
            expected = manifest.get("members") if isinstance(manifest, dict) else None
            if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not isinstance(expected, dict):
                raise BackupError(f"{source} has a manifest this version cannot read")
            digests = {str(name): str(digest) for name, digest in expected.items()}
            if not set(digests) <= set(MEMBERS) or "data/node.sqlite" not in digests or "node.toml" not in digests:
                raise BackupError(f"{source} lists members a backup does not have")
            seen: set[str] = set()
            while (member := archive.next()) is not None:
                if member.name not in digests or member.name in seen or not member.isreg():
                    raise BackupError(f"{source} holds {member.name!r}, which does not belong into a backup")
                seen.add(member.name)
                _write_member(archive, member, scratch / member.name, digests[member.name])
    except (tarfile.TarError, OSError, ValueError) as error:
        raise BackupError(f"{source} cannot be read as a backup: {error}") from error
    missing = set(digests) - seen
    if missing:
        raise BackupError(f"{source} is incomplete: {', '.join(sorted(missing))} is missing")
    return digests


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, digest: str) -> None:
    if member.size > MAX_MEMBER_BYTES:
        raise BackupError(f"{member.name} claims {member.size} bytes")
    stream = archive.extractfile(member)
    if stream is None:
        raise BackupError(f"{member.name} cannot be read")
    path.parent.mkdir(parents=True, exist_ok=True)
    sha = hashlib.sha256()
    with path.open("xb") as out:
        os.fchmod(out.fileno(), 0o600)
        while block := stream.read(1 << 20):
            sha.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if sha.hexdigest() != digest:
        raise BackupError(f"{member.name} is damaged: its SHA-256 is not the one in the manifest")


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream is not None else b""


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    archive.addfile(info, io.BytesIO(data))


def _copy_database(path: Path, target: Path) -> Path:
    with _database(path) as live, _database(target) as copy:
        live.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    _check_database(target)
    return target


def _check_database(path: Path) -> None:
    try:
        with _database(path) as conn:
            verdict = conn.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{path.name} is damaged: {error}") from error
    if verdict != "ok":
        raise BackupError(f"{path.name} is damaged: {verdict}")


def _new_epoch(path: Path, now: datetime) -> None:
    with _database(path) as conn:
        row = conn.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        epoch = int(row[0]) + 1 if row else 2
        conn.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (str(epoch),))
        conn.execute("INSERT OR REPLACE INTO meta VALUES ('restored', ?)", (format_time(now),))
        conn.commit()


@contextlib.contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    conn = sqlite3.connect(path)
    try:
        yield conn
    finally:
        conn.close()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
