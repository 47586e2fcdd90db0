"""One medium, published: its document, its tables, and what new bytes or a stricter class undo.

A medium may show several specimens. What is said about it is computed from all rows of the archive that name it, so it
does not depend on which of them is published first: the strictest class, the stricter licence, every specimen.

Everything here happens inside the caller's transaction.
"""

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, Protocol

from linkeddata.access import AccessClass, strictest
from linkeddata.checks import Checker
from linkeddata.dwca_media import merge_media
from linkeddata.licences import Licence, normalise_licence
from linkeddata.local_contexts import LocalContexts, find_local_contexts
from linkeddata.presentation import parse_px_per_mm
from linkeddata.records import MediumFacts, build_medium, build_tombstone
from linkeddata.sensitive import PlaceWords
from linkeddata.sensitive_taxa import SensitiveTaxa
from linkeddata.source import SourceMedia, SourceRow
from linkeddata.times import format_time
from node.config import Settings, SourceSettings
from node.services.ingest_rules import medium_access, protect
from node.services.intake_bytes import MediumBytes, known_bytes
from node.services.new_bytes import settle_new_bytes
from node.services.public_originals import public_original_of
from node.storage import annotations, records

WITHDRAWN: Final = "no longer in the institution's collection data"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumView:
    """What all rows of the archive say together about a medium."""

    medium: SourceMedia
    specimens: tuple[str, ...]
    """Keys of its rows."""
    access: AccessClass
    sensitive: bool
    rights_holder: str
    """Left out where it repeats the place of a sensitive specimen."""


class Rows(Protocol):
    """Where the rows of a source are looked up: an archive that is read, or what is known of it."""

    @property
    def source(self) -> str:
        """Its name."""

    def row(self, key: str) -> SourceRow | None:
        """The row with this key."""

    def specimens_of(self, media_key: str) -> list[str]:
        """Keys of the rows that name a medium."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowContext:
    """What all rows of a batch share."""

    settings: Settings
    source: SourceSettings
    taxa: SensitiveTaxa
    intake: Rows
    checker: Checker
    media: Mapping[str, MediumBytes]
    """By media key; a medium that is not here keeps the bytes that are known."""
    rekeyed: Mapping[str, str]
    """New row key -> old row key."""
    run: int
    now: datetime
    unknown: Collection[str] = ()
    """Row keys that this node never heard of: nothing has to be looked up, moved or taken away for them."""
    views: dict[str, MediumView] = field(default_factory=dict)
    """Filled on demand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumOutcome:
    """What became of a medium."""

    iri: str
    access: AccessClass
    is_changed: bool
    is_replaced: bool
    """It had other bytes before, of another picture."""


def publish_medium(conn: sqlite3.Connection, key: str, context: RowContext) -> MediumOutcome:
    """Publishes the medium with this key, which at least one row of the archive names."""
    view = _view(key, context)
    source, origin = context.intake.source, context.settings.origin
    known = conn.execute("SELECT * FROM medium WHERE source = ? AND key = ?", (source, key)).fetchone()
    iri = known["iri"] if known else _mint(conn, source, key, origin)
    found = _bytes_of(context.media.get(key), known)
    image = found.content_id.hex if found.content_id else None
    before, is_replaced = known["image"] if known else None, False
    locator = view.medium.locator
    is_address = locator.lower().startswith(("http://", "https://"))
    published = records.publish(
        conn,
        records.NewRecord(
            kind="medium",
            iri=iri,
            body=build_medium(
                iri=iri, origin=origin, specimens=[specimen_iri(conn, context, item) for item in view.specimens],
                facts=MediumFacts(
                    content_id=found.content_id, width=found.width, height=found.height, format=found.format,
                    size_bytes=found.size_bytes,
                    public_original=public_original_of(
                        conn, found.content_id, context.settings.images.originals_withheld_for
                    ),
                ),
                licence=_licence(view, context.source), access=view.access,
                sensitive=view.sensitive, title=view.medium.title, rights_holder=view.rights_holder,
                identifier=locator if is_address else "",
                source_address=locator if is_address and not found.problem else "",
                px_per_mm=_px_per_mm(view.medium), local_contexts=_local_contexts(view),
            ),
            access=view.access,
            sensitive=view.sensitive,
            source=source,
            aliases=(locator,) if is_address else (),
        ),
        now=context.now,
    )  # fmt: skip
    conn.execute(
        """INSERT INTO medium VALUES (:iri, :source, :key, :image, :format, :width, :height, :size, :access, :sensitive,
             :version, 'active', :locator, :problem)
           ON CONFLICT (iri) DO UPDATE SET image = :image, format = :format, width = :width, height = :height,
             size_bytes = :size, access = :access, sensitive = :sensitive, version = :version, state = 'active',
             locator = :locator, problem = :problem""",
        {
            "iri": iri, "source": source, "key": key, "image": image, "format": found.format,
            "width": found.width, "height": found.height, "size": found.size_bytes, "access": int(view.access),
            "sensitive": int(view.sensitive), "version": published.version, "locator": locator,
            "problem": found.problem or None,
        },
    )  # fmt: skip
    if image is not None:
        if published.outcome != "unchanged":
            conn.execute(
                "INSERT OR REPLACE INTO medium_version VALUES (?, ?, ?, ?, ?, ?)",
                (iri, published.version, image, found.width, found.height, format_time(context.now)),
            )
        if before is not None and before != image:
            is_replaced = settle_new_bytes(conn, iri, before=before, after=image, now=context.now) == "replaced"
    return MediumOutcome(
        iri=iri, access=view.access, is_changed=published.outcome != "unchanged", is_replaced=is_replaced
    )


def specimen_iri(conn: sqlite3.Connection, context: RowContext, key: str) -> str:
    """The IRI of the specimen with this key: as it is known, as it was known under its old key, or minted."""
    source = context.intake.source
    for name in (key, context.rekeyed.get(key)):
        if name is not None and name not in context.unknown:
            row = conn.execute("SELECT iri FROM source_row WHERE source = ? AND key = ?", (source, name)).fetchone()
            if row is not None:
                return str(row["iri"])
    number = 0
    while True:
        name = f"{key}\0{number}" if number else key
        iri = records.iri_of(context.settings.origin, "specimen", records.mint_id(conn, source, "specimen", name))
        # A record that was re-keyed keeps the address that its old key gave; whoever gets that key now needs another.
        if conn.execute("SELECT 1 FROM source_row WHERE iri = ?", (iri,)).fetchone() is None:
            return iri
        number += 1


def enforce_classes(conn: sqlite3.Connection, images: set[str], *, now: datetime) -> None:
    """Withdraws public annotations of bytes (hex) that are no longer open to everyone."""
    for image in sorted(images):
        annotations.enforce_class(conn, image, now=now)


def withdraw_medium(conn: sqlite3.Connection, iri: str, *, now: datetime) -> int:
    """Tombstones a medium and what was said about it; returns how many records."""
    count = tombstone(conn, iri, "medium", now)
    conn.execute("UPDATE medium SET state = 'withdrawn' WHERE iri = ?", (iri,))
    for item in conn.execute("SELECT iri FROM annotation WHERE medium = ?", (iri,)).fetchall():
        count += tombstone(conn, item["iri"], "annotation", now)
    return count


def tombstone(
    conn: sqlite3.Connection,
    iri: str,
    kind: Literal["specimen", "medium", "annotation"],
    now: datetime,
    *,
    successor: str = "",
) -> int:
    """Leaves of a record that it was, and which one took its place; returns 1 when there was one."""
    body = build_tombstone(iri=iri, kind=kind, reason=WITHDRAWN, at=now, successor=successor)
    return int(records.tombstone(conn, iri, body, now=now) is not None)


def _px_per_mm(medium: SourceMedia) -> str:
    """The resolution that the media row states; what no picture can have is not repeated.

    Not the dots per inch in the file: cameras write 72 or 300 there, whatever they photograph.
    """
    text = medium.fields.get("vasculum:pixelsPerMillimetre", "").strip()
    return text if parse_px_per_mm(text) is not None else ""


def _view(key: str, context: RowContext) -> MediumView:
    known = context.views.get(key)
    if known is not None:
        return known
    media: list[SourceMedia] = []
    classes: list[AccessClass] = []
    specimens: list[str] = []
    places: list[PlaceWords] = []
    for specimen in context.intake.specimens_of(key):
        row = context.intake.row(specimen)
        named = [item for item in row.media if item.key == key] if row is not None else []
        if row is None or not named:
            continue  # only a repeated row, which does not count, names it
        protection = protect(row, context.source, context.taxa)
        media += named
        specimens.append(specimen)
        if protection.is_sensitive:
            places.append(protection.place)
        licence = normalise_licence(named[0].licence or context.source.licence)
        classes.append(medium_access(row, licence, context.source, protection))
    medium = merge_media(media)[0]
    view = MediumView(
        medium=medium, specimens=tuple(specimens), access=strictest(classes), sensitive=bool(places),
        rights_holder="" if any(place.are_in(medium.rights_holder) for place in places) else medium.rights_holder,
    )  # fmt: skip
    context.views[key] = view
    return view


def _local_contexts(view: MediumView) -> LocalContexts:
    return find_local_contexts(
        [{**view.medium.fields, "dcterms:license": view.medium.licence}], only_known=view.sensitive
    )


def _licence(view: MediumView, source: SourceSettings) -> Licence:
    """Of a sensitive medium only what the table of licences knows: people write about pictures in this field too."""
    licence = normalise_licence(view.medium.licence or source.licence)
    return replace(licence, verbatim="") if view.sensitive else licence


def _mint(conn: sqlite3.Connection, source: str, key: str, origin: str) -> str:
    number = 0
    while True:
        name = f"{key}\0{number}" if number else key
        iri = records.iri_of(origin, "medium", records.mint_id(conn, source, "medium", name))
        if conn.execute("SELECT 1 FROM medium WHERE iri = ?", (iri,)).fetchone() is None:
            return iri
        number += 1


def _bytes_of(found: MediumBytes | None, known: sqlite3.Row | None) -> MediumBytes:
    """What to publish: the bytes that came; without any, those that are known, and what is wrong now."""
    if found is not None and (found.content_id is not None or known is None or known["image"] is None):
        return found
    assert known is not None  # a medium is published with what came, or after it was published before
    kept = known_bytes(known)
    problem = found.problem if found is not None else kept.problem
    return MediumBytes(
        content_id=kept.content_id, size_bytes=kept.size_bytes, width=kept.width, height=kept.height,
        format=kept.format, problem=problem,
    )  # fmt: skip
