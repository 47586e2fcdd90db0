"""Looking at what the metadata of an image tells, and making its public original where ``node.toml`` withholds it.

Files are looked at once, when they are taken in; a public original is made at the same time, stored as own bytes and
named by the database in the transaction that publishes the record. Jobs work on the true original.

Invariants:
- It says the rights of the medium that it was made for; another medium with the same bytes does not make another.
- A public original is made from the bytes that bear the id, or not at all.
- Blocking; nothing is decoded (``linkeddata.luggage`` and ``linkeddata.public_original`` are pure and bounded).

It leaves out: who gets what (``node.access``), what records say (``linkeddata.records``).
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from cas.errors import BlobArchived, BlobWithdrawn, CasError
from cas.ids import ContentId
from cas.store import BlobStore
from linkeddata.access import AccessClass
from linkeddata.licences import normalise_licence
from linkeddata.luggage import Luggage, WithheldFor, find_luggage, is_withheld
from linkeddata.picture_digest import picture_digest
from linkeddata.public_original import MOST_BYTES, NotLossless, public_original
from linkeddata.records import MediumFacts, PublicOriginal, Redacted, with_bytes, with_variant_bytes
from linkeddata.rights_packet import Rights, rights_packet
from linkeddata.sensitive_taxa import SensitiveTaxa
from linkeddata.source import SourceRow
from linkeddata.times import format_time
from node.config import Settings, SourceSettings
from node.services.ingest_rules import medium_access, protect
from node.services.intake_bytes import MediumBytes
from node.storage import luggage, records, redactions
from node.storage.db import Database
from node.storage.facts import bytes_facts
from node.storage.luggage import LuggageRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An image, and what is written into its public original."""

    cid: ContentId
    rights: Rights
    is_open: bool
    """Only of open images public originals are made."""


class PublicOriginals:
    """Looks and makes, for one node."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self._withheld_for = settings.images.originals_withheld_for
        self._db = database
        self._blobs = blobs

    def look(self, wanted: Iterable[Wanted], *, now: datetime) -> list[LuggageRow]:
        """What is new about these images, to be kept by ``keep``; what is known already is left out.

        Bytes that cannot be read now are left out too: nothing is given out of them before they were looked at.
        """
        found: dict[str, LuggageRow] = {}
        for item in wanted:
            image = item.cid.hex
            if image in found:
                continue
            with self._db.reader(limit_s=None) as conn:
                known = luggage.get(conn, image)
                is_shared = _media_of(conn, image) > 1
            if known is not None and known.public is not None and is_shared and self._is_here(known.public):
                continue
            row = self._look(item, known, now)
            if row is not None and row != known:
                found[image] = row
        return list(found.values())

    def look_at_rows(
        self,
        rows: Iterable[SourceRow],
        media: Mapping[str, MediumBytes],
        source: SourceSettings,
        taxa: SensitiveTaxa,
        *,
        now: datetime,
    ) -> list[LuggageRow]:
        """The same of the images of rows that are about to be published; ``media`` by media key."""
        return self.look((item for row in rows for item in wanted_of_row(row, media, source, taxa)), now=now)

    def _is_here(self, public: str) -> bool:
        try:
            self._blobs.open_blob(ContentId.from_hex(public)).close()
        except BlobArchived:
            return True
        except CasError:
            return False
        return True

    def _look(self, item: Wanted, known: LuggageRow | None, now: datetime) -> LuggageRow | None:
        packet = rights_packet(item.rights)
        digest = hashlib.sha256(packet).hexdigest()
        if known is not None and known.picture is None:
            known = self._look_at_picture(item.cid, known)
        if known is not None and (known.reason or not item.is_open or not is_withheld(known.tells, self._withheld_for)):
            return known
        if known is not None and known.public and known.public_packet == digest and self._is_here(known.public):
            return known
        try:
            with self._blobs.open_blob(item.cid) as blob:
                tells = known.tells if known is not None else find_luggage(blob.pread, blob.size)
                row = known or LuggageRow(
                    image=item.cid.hex, tells=tells, picture=picture_digest(blob.pread, blob.size)
                )
                if not item.is_open or not is_withheld(tells, self._withheld_for):
                    blob.check_unchanged()
                    return row
                if blob.size > MOST_BYTES:
                    return replace(row, reason=f"it is larger than {MOST_BYTES >> 20} MiB")
                data = blob.pread(0, blob.size)
                blob.check_unchanged()
        except (CasError, OSError):
            return known
        try:
            bare = public_original(data, packet)
        except NotLossless as error:
            return replace(row, reason=str(error))
        try:
            put = self._blobs.put_bytes(bare, now=now)
        except BlobWithdrawn:
            return replace(row, reason="it was withdrawn")
        return replace(row, public=put.id.hex, public_bytes=len(bare), public_packet=digest)

    def _look_at_picture(self, cid: ContentId, known: LuggageRow) -> LuggageRow:
        """Adds by what the picture is recognised to what was known before anybody asked for that."""
        try:
            with self._blobs.open_blob(cid) as blob:
                picture = picture_digest(blob.pread, blob.size)
                blob.check_unchanged()
        except (CasError, OSError):
            return known
        return replace(known, picture=picture)


def wanted_of_row(
    row: SourceRow, media: Mapping[str, MediumBytes], source: SourceSettings, taxa: SensitiveTaxa
) -> Iterator[Wanted]:
    """The images of a row as it is about to be published."""
    protection = protect(row, source, taxa)
    for medium in row.media:
        found = media.get(medium.key)
        if found is None or found.content_id is None:
            continue
        licence = normalise_licence(medium.licence or source.licence)
        access = medium_access(row, licence, source, protection)
        terms = licence.verbatim if licence.verbatim != licence.uri else ""
        yield Wanted(
            cid=found.content_id,
            rights=Rights(licence=licence.uri or "", terms=terms, holder=medium.rights_holder),
            is_open=access is AccessClass.OPEN and not protection.is_sensitive,
        )


def wanted_of_records(conn: sqlite3.Connection) -> list[Wanted]:
    """Every image that is published, with the rights of its first record."""
    rows = conn.execute(
        """SELECT f.image, r.body FROM medium m JOIN record r ON r.iri = m.iri
           JOIN (SELECT iri, image FROM medium UNION SELECT medium, image FROM medium_variant) f ON f.iri = m.iri
           WHERE f.image IS NOT NULL AND m.state = 'active' ORDER BY f.image, m.iri"""
    )
    found: dict[str, Wanted] = {}
    for row in rows:
        if row["image"] not in found:
            cid = ContentId.from_hex(row["image"])
            found[row["image"]] = Wanted(cid=cid, rights=_rights_of(row["body"]), is_open=_is_open(conn, cid))
    return list(found.values())


def wanted_at(conn: sqlite3.Connection, cid: ContentId, iri: str) -> Wanted:
    """An image that is about to be published as the bytes of this medium."""
    row = conn.execute("SELECT body, access, sensitive FROM record WHERE iri = ?", (iri,)).fetchone()
    return Wanted(
        cid=cid, rights=_rights_of(row["body"]), is_open=row["access"] == AccessClass.OPEN and not row["sensitive"]
    )


def public_original_of(
    conn: sqlite3.Connection, cid: ContentId | None, withheld_for: WithheldFor
) -> PublicOriginal | None:
    """What the record of a medium says is given out instead of its bytes; None: they are given out themselves."""
    if cid is None:
        return None
    row = luggage.get(conn, cid.hex)
    if not is_withheld(None if row is None else row.tells, withheld_for):
        return None
    public = None if row is None or row.public is None else ContentId.from_hex(row.public)
    return PublicOriginal(content_id=public, size_bytes=None if row is None else row.public_bytes)


def redacted_of(conn: sqlite3.Connection, cid: ContentId | None, settings: Settings) -> Redacted | None:
    """What the record of a medium says is given out instead of a picture whose labels tell a place."""
    row = None if cid is None or not settings.images.shows_redacted else redactions.current(conn, cid.hex)
    if row is None or row.derivative is None:
        return None
    return Redacted(content_id=ContentId.from_hex(row.derivative), size_bytes=row.size_bytes or 0)


def keep(conn: sqlite3.Connection, rows: Iterable[LuggageRow], *, now: datetime) -> None:
    """Keeps what was found; in the transaction that publishes."""
    for row in rows:
        luggage.put(conn, row, now=now)


def republish(conn: sqlite3.Connection, image: str, settings: Settings, *, now: datetime) -> int:
    """Records of media that show these bytes say what is given out of them now; returns how many changed."""
    count = 0
    media = conn.execute(
        """SELECT iri, image, width, height, format, size_bytes, 1 AS is_processed FROM medium
           WHERE image = ?1 AND state = 'active'
           UNION ALL SELECT m.iri, v.image, v.width, v.height, v.format, v.size_bytes, 0
             FROM medium_variant v JOIN medium m ON m.iri = v.medium WHERE v.image = ?1 AND m.state = 'active'""",
        (image,),
    ).fetchall()
    for row in media:
        stored = conn.execute("SELECT * FROM record WHERE iri = ? AND state = 'active'", (row["iri"],)).fetchone()
        if stored is None:
            continue
        access, sensitive = AccessClass(stored["access"]), bool(stored["sensitive"])
        body = {name: value for name, value in json.loads(stored["body"]).items() if name not in records.VOLATILE}
        cid = ContentId.from_hex(image)
        facts = MediumFacts(
            content_id=cid, width=row["width"], height=row["height"], format=row["format"] or "",
            size_bytes=row["size_bytes"],
            public_original=public_original_of(conn, cid, settings.images.originals_withheld_for),
            redacted=redacted_of(conn, cid, settings),
        )  # fmt: skip
        say = with_bytes if row["is_processed"] else with_variant_bytes
        document = say(body, facts, origin=settings.origin, access=access, sensitive=sensitive)
        published = records.publish(
            conn,
            records.NewRecord(
                kind="medium", iri=row["iri"], body=document, access=access, sensitive=sensitive,
                source=stored["source"],
            ),
            now=now, tells_less=False,
        )  # fmt: skip
        if published.outcome != "unchanged":
            count += 1
            conn.execute("UPDATE medium SET version = ? WHERE iri = ?", (published.version, row["iri"]))
            conn.execute(
                "INSERT OR REPLACE INTO medium_version VALUES (?, ?, ?, ?, ?, ?)",
                (row["iri"], published.version, image, row["width"], row["height"], format_time(now)),
            )
    return count


def _media_of(conn: sqlite3.Connection, image: str) -> int:
    row = conn.execute(
        """SELECT count(*) FROM medium WHERE state = 'active' AND (image = ?1
             OR iri IN (SELECT medium FROM medium_variant WHERE image = ?1))""",
        (image,),
    ).fetchone()
    return int(row[0])


def _rights_of(body: bytes) -> Rights:
    said = json.loads(body)
    return Rights(
        licence=str(said.get("dcterms:license", "")), terms=str(said.get("xmpRights:UsageTerms", "")),
        holder=str(said.get("dcterms:rightsHolder", "")),
    )  # fmt: skip


def rights_of(conn: sqlite3.Connection, image: str) -> Rights:
    """What the record of the first medium that shows these bytes says about rights."""
    row = conn.execute(
        """SELECT r.iri, r.body FROM medium m JOIN record r ON r.iri = m.iri
           WHERE m.image = ? AND m.state = 'active' AND r.state = 'active' ORDER BY m.iri LIMIT 1""",
        (image,),
    ).fetchone()
    return Rights() if row is None else replace(_rights_of(row["body"]), source=row["iri"])


def _is_open(conn: sqlite3.Connection, cid: ContentId) -> bool:
    facts = bytes_facts(conn, cid)
    return facts.exists and facts.access is AccessClass.OPEN and not facts.sensitive


def telling(found: Iterable[Luggage]) -> str:
    """In words, for people who may not see it: what kind of thing the file tells, not what it tells."""
    names = {
        Luggage.POSITION: "coordinates", Luggage.PLACE: "the name of a place", Luggage.SERIAL: "serial numbers",
        Luggage.PERSON: "names of people", Luggage.PREVIEW: "an embedded preview", Luggage.TEXT: "free text",
        Luggage.MAKER_NOTE: "notes of the camera's maker", Luggage.OTHER: "metadata of unknown kind",
        Luggage.TRAILER: "something behind the end of the picture",
        Luggage.UNREADABLE: "metadata that cannot be understood",
    }  # fmt: skip
    return ", ".join(name for kind, name in names.items() if kind in set(found))
