"""Pictures of sensitive specimens with their labels blacked out: looked at by a person, made, replaced, taken back.

``vasculum images redact`` writes what would be given out into a folder; a person looks at it and approves what is
right. The approval is bound to what is covered. From then on this module keeps what is given out in step with what is
known: it makes the picture, makes it anew when rights change, and takes it back when the labels were read again with
another outcome, when the specimen is not sensitive any more, or when ``node.toml`` says so.

Invariants:
- Nothing is given out that no person has looked at, and nothing that ``node.storage.redactions.planned`` would cover
  in another way now: the doors ask that at every request, and do not wait for this module.
- A picture is made from the bytes that bear the id, and carries nothing but pixels and the rights of its record.
- The record says which picture is given out in the transaction that makes it so; bytes are stored before, and removed
  afterwards.
- Idempotent; killed anywhere, the next turn goes on. Blocking.

It leaves out: reading the labels (``node.services.read_labels``), covering (``runners.pictures``).
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cas.errors import BlobWithdrawn, CasError
from cas.garbage import discard
from cas.ids import ContentId
from cas.store import BlobStore
from linkeddata.luggage import luggage_of
from linkeddata.redaction import Redaction, Uncoverable
from linkeddata.rights_packet import put_in, rights_packet
from node.config import Settings
from node.services.public_originals import republish, rights_of
from node.services.withdraw import derived_files
from node.storage import redactions, reviews
from node.storage.db import Database
from node.storage.redactions import RedactionRow
from runners.decode import Limits
from runners.errors import RunnerError
from runners.pictures import Decoder

_SENSITIVE: Final = """
  SELECT DISTINCT m.image FROM medium m JOIN medium_specimen s ON s.medium = m.iri JOIN record r ON r.iri = s.specimen
  WHERE m.state = 'active' AND m.image IS NOT NULL AND (m.sensitive = 1 OR r.sensitive = 1) ORDER BY m.image"""


class CannotMake(Exception):
    """The picture could not be made this time; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """How it stands with one picture."""

    image: str
    """SHA-256, hex."""
    media: tuple[str, ...]
    """IRIs of the media that show it."""
    redaction: Redaction | None = None
    """What would be covered; None: it cannot be."""
    why: str = ""
    """Why nothing is given out, in one sentence; empty: it is, or will be at the next turn."""
    derivative: str | None = None
    """What is given out now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a turn did."""

    made: int = 0
    taken_back: int = 0
    problems: tuple[str, ...] = ()


class Redactions:
    """The blacked out pictures of one node; one at a time per process."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        images = settings.images
        self._settings = settings
        self._db = database
        self._blobs = blobs
        self._decoder = Decoder(Limits(max_pixels=images.max_pixels, max_file_bytes=images.max_file_bytes))

    def close(self) -> None:
        """Ends the process that decodes."""
        self._decoder.close()

    def picture(self, redaction: Redaction) -> bytes:
        """The picture with everything covered, without metadata.

        Raises:
            CannotMake: the message says why.
        """
        out = os.memfd_create("redacted")
        try:
            with self._blobs.open_blob(ContentId.from_hex(redaction.image)) as blob:
                size = self._decoder.write_redacted(blob.fd, out, boxes=redaction.boxes)
                blob.check_unchanged()
            data = os.pread(out, os.fstat(out).st_size, 0)
        except (CasError, OSError) as error:
            raise CannotMake(f"its bytes cannot be read now: {error}") from error
        except RunnerError as error:
            raise CannotMake(str(error)) from error
        finally:
            os.close(out)
        if size != (redaction.width, redaction.height):
            raise CannotMake("the picture has another size than its record says")
        if not data.startswith(b"\xff\xd8") or luggage_of(data):
            raise CannotMake("what was made is not a plain picture")
        return data

    def approve(self, approved: Iterable[tuple[str, str]], *, by: str, now: datetime) -> tuple[list[str], list[str]]:
        """Approves pictures that a person has looked at; safe to repeat.

        Args:
            approved: image (SHA-256, hex) and the first letters of the digest of what is covered on it.
            by: who looked.
            now: when.

        Returns:
            Images that are approved now, and why others are not.
        """
        done: list[str] = []
        problems: list[str] = []
        for image, seen in approved:
            with self._db.transaction() as conn:
                try:
                    redaction = redactions.planned(conn, image)
                except Uncoverable as error:
                    problems.append(f"{image}: {error}")
                    continue
                if not redaction.digest.startswith(seen):
                    problems.append(f"{image}: other parts would be covered than on the picture that was looked at")
                    continue
                known = redactions.get(conn, image)
                if known is None or known.approved != redaction.digest:
                    action = reviews.log_action(
                        conn, by=by, action="redaction approved", subject=image, now=now,
                        detail={"digest": redaction.digest, "covers": [list(box) for box in redaction.boxes]},
                    )  # fmt: skip
                    redactions.put(conn, RedactionRow(
                        image=image, approved=redaction.digest, action=action, width=redaction.width,
                        height=redaction.height, derivative=known.derivative if known else None,
                        size_bytes=known.size_bytes if known else None, packet=None,
                    ))  # fmt: skip
                done.append(image)
        return done, problems

    def take_back(self, images: Iterable[str], *, by: str, now: datetime) -> int:
        """Ends approvals; returns how many there were."""
        count = 0
        for image in images:
            with self._db.transaction() as conn:
                row = redactions.get(conn, image)
                if row is None:
                    continue
                reviews.log_action(conn, by=by, action="redaction taken back", subject=image, detail={}, now=now)
                redactions.forget(conn, image)
                republish(conn, image, self._settings, now=now)
            self._remove(row.derivative)
            count += 1
        return count

    def settle(self, *, now: datetime) -> Settled:
        """Makes what is approved and missing, and takes back what may not be given out any more."""
        with self._db.reader(limit_s=None) as conn:
            rows = redactions.every(conn)
        made = taken_back = 0
        problems: list[str] = []
        for row in rows:
            try:
                outcome = self._settle(row, now)
            except (CannotMake, CasError, sqlite3.Error) as error:
                problems.append(f"{row.image}: {error}")
                continue
            made += outcome == "made"
            taken_back += outcome == "taken back"
        return Settled(made=made, taken_back=taken_back, problems=tuple(problems))

    def _settle(self, row: RedactionRow, now: datetime) -> str:
        with self._db.reader(limit_s=None) as conn:
            redaction = self._wanted(conn, row)
            packet = rights_packet(rights_of(conn, row.image)) if redaction is not None else b""
        digest = hashlib.sha256(packet).hexdigest()
        if redaction is None:
            if row.derivative is None:
                return ""
            with self._db.transaction() as conn:
                redactions.clear(conn, row.derivative)
                republish(conn, row.image, self._settings, now=now)
            self._remove(row.derivative)
            return "taken back"
        if row.derivative is not None and row.packet == digest and self._is_here(row.derivative):
            self._say(row, now)
            return ""
        data = put_in(self.picture(redaction), packet)
        try:
            put = self._blobs.put_bytes(data, now=now)
        except BlobWithdrawn as error:
            raise CannotMake("it was withdrawn") from error
        with self._db.transaction() as conn:
            if redactions.get(conn, row.image) != row or not redactions.is_approved(conn, row):
                stays = redactions.of_derivative(conn, put.id.hex) is not None
            else:
                stays = True
                redactions.put(conn, replace(row, derivative=put.id.hex, size_bytes=len(data), packet=digest))
                republish(conn, row.image, self._settings, now=now)
        if not stays:  # meanwhile somebody decided otherwise: the next turn looks again
            self._remove(put.id.hex)
            return ""
        if row.derivative not in (None, put.id.hex):
            self._remove(row.derivative)
        return "made"

    def _say(self, row: RedactionRow, now: datetime) -> None:
        """Records that were published by another way meanwhile say it again."""
        with self._db.reader(limit_s=None) as conn:
            silent = conn.execute(
                """SELECT 1 FROM medium m JOIN record r ON r.iri = m.iri
                   WHERE m.image = ? AND m.state = 'active' AND instr(r.body, CAST(? AS BLOB)) = 0""",
                (row.image, row.derivative),
            ).fetchone()
        if silent is not None:
            with self._db.transaction() as conn:
                republish(conn, row.image, self._settings, now=now)

    def _wanted(self, conn: sqlite3.Connection, row: RedactionRow) -> Redaction | None:
        if not self._settings.images.shows_redacted:
            return None
        try:
            redaction = redactions.planned(conn, row.image)
        except Uncoverable:
            return None
        return redaction if redaction.digest == row.approved else None

    def _is_here(self, derivative: str) -> bool:
        return self._blobs.index.size_of(ContentId.from_hex(derivative)) is not None

    def _remove(self, derivative: str | None) -> None:
        """The bytes and everything drawn from them."""
        if derivative is None:
            return
        cid = ContentId.from_hex(derivative)
        discard(self._blobs, cid)
        for path in derived_files(self._settings, cid):
            path.unlink(missing_ok=True)


def sensitive_images(conn: sqlite3.Connection) -> list[str]:
    """Every picture of a sensitive specimen whose bytes are known (SHA-256, hex)."""
    return [row["image"] for row in conn.execute(_SENSITIVE)]


def look_at(conn: sqlite3.Connection, images: Iterable[str], settings: Settings) -> Iterator[Looked]:
    """How it stands with these pictures."""
    for image in images:
        media = tuple(
            row["iri"]
            for row in conn.execute(
                "SELECT iri FROM medium WHERE image = ? AND state = 'active' ORDER BY iri", (image,)
            )
        )
        row = redactions.get(conn, image)
        try:
            redaction = redactions.planned(conn, image)
        except Uncoverable as error:
            yield Looked(image=image, media=media, why=str(error))
            continue
        why, derivative = "", None
        if row is None:
            why = "nobody has looked at it and approved it yet"
        elif row.approved != redaction.digest:
            why = "other parts are covered now than those that were approved: look at it again"
        elif not settings.images.shows_redacted:
            why = '[images] sensitive_images is not "redacted"'
        else:
            derivative = row.derivative
        yield Looked(image=image, media=media, redaction=redaction, why=why, derivative=derivative)
