"""Bytes of media made durable, and looked at: files adopted in place, members of a zip and fetched addresses copied.

Invariants:
- What is returned as having a content id is durable in the store before it is returned.
- One bad file is a problem of its media only; a disk that refuses stops everything (``StoreFailed``).
- What came over the network is stored only when it is an image.
- What is to be fetched at first need only is not asked for here; an id that it has keeps standing.

It leaves out: records.
"""

import hashlib
import io
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cas.errors import BlobArchived, BlobWithdrawn, CasError, StoreFailed
from cas.ids import ContentId
from cas.store import AdoptFailure, BlobStore
from cas.tier import TIER_VOLUME
from linkeddata.archive_files import DAMAGE
from linkeddata.dwca_meta import DwcaError
from linkeddata.file_match import FileMatch
from node.config import Settings
from node.services.intake_source import Intake
from runners.decode import Limits, read_header
from runners.errors import ImageRefused

Fetch = Callable[[str], bytes]
"""An address -> its bytes, within limits; raises OSError with the reason."""
CheckAddress = Callable[[str], str]
"""Why an address is never fetched; empty when it may be."""
ELSEWHERE: Final = "elsewhere"
"""Of a medium without a content id that lies at an address and is fetched at first need; nothing is wrong with it."""
WITHDRAWN_CODE: Final = "withdrawn"
"""The finding about bytes that came again after they were withdrawn."""
WITHDRAWN_PROBLEM: Final = "the institution withdrew these bytes: not taken in again"
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumBytes:
    """What is known about the bytes of a medium."""

    content_id: ContentId | None = None
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    format: str = ""
    problem: str = ""
    code: str = ""
    hashed_bytes: int = 0
    """Bytes that were read to find this out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeHome:
    """Where the files of a source lie: in which volume, below which folder of it (with a slash, or empty)."""

    volume: str
    prefix: str = ""


def volume_home(settings: Settings, source: str, root: Path | None) -> VolumeHome:
    """The volume of ``node.toml`` that holds ``root``, the innermost of several; else the source is its own volume."""
    found: list[tuple[int, VolumeHome]] = []
    for name, volume in settings.volumes.items():
        top = (settings.folder / volume.root).resolve()
        if root is not None and root.resolve().is_relative_to(top):
            inside = root.resolve().relative_to(top).as_posix()
            found.append((len(top.parts), VolumeHome(volume=name, prefix="" if inside == "." else inside + "/")))
    return max(found, key=lambda item: item[0])[1] if found else VolumeHome(volume=source)


def known_bytes(row: sqlite3.Row) -> MediumBytes:
    """A row of the table ``medium`` as what is known."""
    return MediumBytes(
        content_id=ContentId.from_hex(row["image"]) if row["image"] else None, size_bytes=row["size_bytes"],
        width=row["width"], height=row["height"], format=row["format"] or "", problem=row["problem"] or "",
    )  # fmt: skip


class ByteIntake:
    """Stores and probes what one intake names."""

    def __init__(
        self,
        blobs: BlobStore,
        intake: Intake,
        limits: Limits,
        *,
        fetch: Fetch | None,
        home: VolumeHome,
        on_need: CheckAddress | None = None,
    ) -> None:
        self._blobs = blobs
        self._home = home
        self._intake = intake
        self._limits = limits
        self._fetch = fetch
        self._on_need = on_need

    def store(
        self, located: Mapping[str, FileMatch], known: Mapping[str, MediumBytes], *, now: datetime
    ) -> dict[str, MediumBytes]:
        """Makes the bytes of these media durable; by media key.

        Args:
            located: where each is.
            known: what is known of them from earlier; an address that gave an image is not fetched again.
            now: for the store.

        Raises:
            StoreFailed: the disk refused.
        """
        found: dict[str, MediumBytes] = {}
        by_path: dict[str, list[str]] = {}
        # Fetching takes its time, in which something may be withdrawn: then every address is asked for.
        may_be_barred = self._fetch is not None or self._blobs.withdrawals.has_any
        for key, where in located.items():
            if where.relpath is not None:
                by_path.setdefault(where.relpath, []).append(key)
            elif where.url is not None:
                found[key] = self._remote(where.url, known.get(key), now, may_be_barred=may_be_barred)
            else:
                found[key] = MediumBytes(problem="the file was not found", code="file-not-found")
        stored = self._adopt(by_path, now) if self._intake.root is not None else self._copy(by_path, known, now)
        for path, item in stored.items():
            for number, key in enumerate(by_path[path]):
                found[key] = item if number == 0 else replace(item, hashed_bytes=0)
        return found

    def probe(self, stored: MediumBytes) -> MediumBytes:
        """Adds what the header of the image says, or why there is none."""
        if stored.content_id is None or stored.width is not None:
            return stored
        try:
            with self._blobs.open_blob(stored.content_id) as blob, open(blob.fd, "rb", closefd=False) as stream:
                header = read_header(stream, blob.size, self._limits)
        except BlobArchived as error:
            return replace(stored, problem=str(error), code="image-archived")
        except (ImageRefused, CasError) as error:
            return replace(stored, problem=str(error), code="image-unreadable")
        except OSError as error:
            return replace(stored, problem=f"cannot be read: {error.strerror or error}", code="image-unreadable")
        return replace(stored, width=header.width, height=header.height, format=header.media_type, problem="", code="")

    def _adopt(self, paths: Mapping[str, list[str]], now: datetime) -> dict[str, MediumBytes]:
        found: dict[str, MediumBytes] = {}
        prefix = self._home.prefix
        for result in self._blobs.adopt_many(self._home.volume, (prefix + path for path in paths), now=now):
            path = result.relpath.removeprefix(prefix)
            if isinstance(result, AdoptFailure):
                found[path] = _barred() if result.is_withdrawn else _unusable(result.reason)
            else:
                found[path] = MediumBytes(
                    content_id=result.id, size_bytes=result.size,
                    hashed_bytes=0 if result.outcome == "unchanged" else result.size,
                )  # fmt: skip
        return found

    def _copy(
        self, paths: Mapping[str, list[str]], known: Mapping[str, MediumBytes], now: datetime
    ) -> dict[str, MediumBytes]:
        return {path: self._copy_member(path, [known.get(key) for key in keys], now) for path, keys in paths.items()}

    def _copy_member(self, name: str, known: Iterable[MediumBytes | None], now: datetime) -> MediumBytes:
        try:
            for item in known:  # the same zip again: reading is enough, nothing is written
                if item is not None and item.content_id is not None and self._has(name, item.content_id):
                    return self._as_known(item, self._intake.size_of(name))
            with self._intake.open_file(name) as stream:
                chunks = iter(lambda: stream.read(_CHUNK_BYTES), b"")
                put = self._blobs.put_stream(chunks, now=now, max_bytes=self._limits.max_file_bytes)
        except StoreFailed:
            raise
        except BlobWithdrawn:
            return _barred()
        except (CasError, DwcaError, OSError, *DAMAGE) as error:
            return _unusable(str(error))
        return MediumBytes(content_id=put.id, size_bytes=put.size, hashed_bytes=put.size)

    def _as_known(self, item: MediumBytes, size: int | None) -> MediumBytes:
        """The same bytes again: their header is read again, unless they are archived; then it is as it was read."""
        stat = None if item.content_id is None else self._blobs.stat(item.content_id)
        if stat is not None and stat.volume.startswith(TIER_VOLUME):
            return replace(item, size_bytes=size, hashed_bytes=0)
        return MediumBytes(content_id=item.content_id, size_bytes=size)

    def _has(self, name: str, cid: ContentId) -> bool:
        stat = self._blobs.stat(cid)
        if stat is None or stat.kind != "owned" or stat.size != self._intake.size_of(name):
            return False
        sha = hashlib.sha256()
        with self._intake.open_file(name) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sha.update(chunk)
        return sha.digest() == cid.digest

    def _remote(self, url: str, known: MediumBytes | None, now: datetime, *, may_be_barred: bool) -> MediumBytes:
        if known is not None and known.content_id is not None and not known.problem and self._blobs.stat(
            known.content_id
        ):  # fmt: skip
            return self._as_known(known, known.size_bytes)
        if may_be_barred and self._blobs.withdrawals.is_barred(url):
            return _barred()
        if self._fetch is None and self._on_need is not None:
            return self._elsewhere(url, known, self._on_need)
        if self._fetch is None:
            return MediumBytes(problem="known only by its address, which is not fetched (--fetch)", code="not-fetched")
        try:
            data = self._fetch(url)
            read_header(io.BytesIO(data), len(data), self._limits)
        except OSError as error:
            return MediumBytes(problem=f"could not be fetched: {error}", code="not-fetched")
        except ImageRefused as error:
            return MediumBytes(problem=f"what the address gives is no image: {error}", code="not-fetched")
        try:
            put = self._blobs.put_bytes(data, now=now)
        except BlobWithdrawn:
            return _barred()
        return MediumBytes(content_id=put.id, size_bytes=put.size, hashed_bytes=put.size)

    def _elsewhere(self, url: str, known: MediumBytes | None, check: CheckAddress) -> MediumBytes:
        if known is not None and known.content_id is not None and not known.problem:
            return known  # its copy went to make room; it is fetched again when it is needed
        reason = check(url)
        if reason:
            return MediumBytes(problem=f"lies at an address that is never fetched: {reason}", code="not-fetched")
        return MediumBytes(code=ELSEWHERE)


def same_images(
    blobs_of: Mapping[str, tuple[int, str]], candidates: Iterable[tuple[str, str]], intake: Intake
) -> dict[str, str]:
    """New row key -> known row key, by the bytes of an image.

    Args:
        blobs_of: sha256 (hex) of images that exactly one vanished row has -> (bytes, row key).
        candidates: (new row key, path of an image of it).
        intake: where the files are.

    Only files of a size that one of the known images has are read.
    """
    sizes = {size for size, _ in blobs_of.values()}
    found: dict[str, str] = {}
    for key, path in candidates:
        if key in found or intake.size_of(path) not in sizes:
            continue
        try:
            with intake.open_file(path) as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        except (DwcaError, OSError, *DAMAGE):
            continue
        if digest in blobs_of:
            found[key] = blobs_of[digest][1]
    return found


def _barred() -> MediumBytes:
    return MediumBytes(problem=WITHDRAWN_PROBLEM, code=WITHDRAWN_CODE)


def _unusable(reason: str) -> MediumBytes:
    return MediumBytes(problem=f"the file cannot be used: {reason}", code="file-unreadable")
