"""One medium, published: its document, its tables, and what new bytes or a stricter class undo.

Everything here happens inside the caller's transaction.
"""

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from linkeddata.access import AccessClass
from linkeddata.checks import Checker
from linkeddata.records import MediumFacts, VariantFacts, build_tombstone
from linkeddata.source import SourceRow
from linkeddata.times import format_time
from linkeddata.variants import Group, roles
from node.config import Settings
from node.services.exposures import (
    Exposure,
    bytes_of,
    exposure_with,
    exposures_of,
    known_file,
    make_one,
    owner_of,
    seen_of,
    write_variants,
)
from node.services.intake_bytes import MediumBytes
from node.services.new_bytes import NEW, queue_pipelines, settle_new_bytes
from node.services.prepare_row import MediumView, RowRules, Rows, is_address, medium_document, view_medium
from node.services.public_originals import public_original_of, redacted_of
from node.storage import annotations, records

WITHDRAWN: Final = "no longer in the institution's collection data"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowContext:
    """What all rows of a batch share."""

    settings: Settings
    rules: RowRules
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
    agreed: dict[Group, bool] = field(default_factory=dict)
    """Which files all specimens that show them call one exposure; filled on demand, like the next."""
    views: dict[Exposure, MediumView] = field(default_factory=dict)

    def view(self, exposure: Exposure) -> MediumView:
        """What all rows say together about a medium."""
        known = self.views.get(exposure)
        if known is None:
            known = view_medium(exposure.key, self.intake, self.rules, others=exposure.keys[1:])
            self.views[exposure] = known
        return known

    def exposures(self, conn: sqlite3.Connection, row: SourceRow) -> list[Exposure]:
        """Which files of a row are one exposure."""
        return exposures_of(conn, row, self.intake, self.media, self.rules.source.variants, agreed=self.agreed)

    def exposure_with(self, conn: sqlite3.Connection, media_key: str) -> Exposure:
        """The exposure that a file belongs to."""
        return exposure_with(conn, media_key, self.intake, self.media, self.rules.source.variants, agreed=self.agreed)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumOutcome:
    """What became of a medium."""

    iri: str
    access: AccessClass
    is_changed: bool
    is_replaced: bool
    """It had other bytes before, of another picture."""
    is_turned: bool = False
    """It is private and was not, or the other way round: what names it has to say so."""
    left_behind: tuple[str, ...] = ()
    """Then: keys of its other files that have the bytes which they had before."""


def publish_medium(conn: sqlite3.Connection, exposure: Exposure, context: RowContext) -> MediumOutcome:
    """Publishes the medium of an exposure whose files at least one row of the archive names."""
    view = context.view(exposure)
    source, origin = context.intake.source, context.settings.origin
    known = owner_of(conn, source, exposure, context.intake)
    files = {key: bytes_of(conn, source, key, context.media) for key in exposure.keys}
    found, locator = files[exposure.key], view.medium.locator
    iri = known["iri"] if known else _mint(conn, source, exposure.key, origin)
    image = found.content_id.hex if found.content_id else None
    before, is_replaced = known["image"] if known else None, False
    was = {key: known_file(conn, source, key) for key in exposure.keys[1:]} if known else {}
    make_one(conn, source, exposure, iri, now=context.now)
    published = records.publish(
        conn,
        records.NewRecord(
            kind="medium",
            iri=iri,
            body=medium_document(
                view, iri=iri, specimens=[specimen_iri(conn, context, item) for item in view.specimens],
                facts=_facts(conn, found, context), has_problem=bool(found.problem), rules=context.rules,
                variants=_variants(conn, exposure, view, files, context),
            ),
            access=view.access,
            sensitive=view.sensitive,
            source=source,
            aliases=tuple(item.locator for item in view.files.values() if is_address(item.locator)),
        ),
        now=context.now,
    )  # fmt: skip
    conn.execute(
        """INSERT INTO medium VALUES (:iri, :source, :key, :image, :format, :width, :height, :size, :access, :sensitive,
             :version, 'active', :locator, :problem, :otherwise)
           ON CONFLICT (iri) DO UPDATE SET key = :key, image = :image, format = :format, width = :width,
             height = :height, size_bytes = :size, access = :access, sensitive = :sensitive, version = :version,
             state = 'active', locator = :locator, problem = :problem, otherwise = :otherwise""",
        {
            "iri": iri, "source": source, "key": exposure.key, "image": image, "format": found.format,
            "width": found.width, "height": found.height, "size": found.size_bytes, "access": int(view.access),
            "sensitive": int(view.sensitive), "version": published.version, "locator": locator,
            "problem": found.problem or None, "otherwise": int(view.otherwise),
        },
    )  # fmt: skip
    if known is not None or len(exposure.keys) > 1:
        write_variants(conn, source, iri, [(view.files[key], files[key]) for key in exposure.keys[1:]])
    if published.outcome != "unchanged":
        conn.executemany(
            "INSERT OR REPLACE INTO medium_version VALUES (?, ?, ?, ?, ?, ?)",
            [
                (iri, published.version, item.content_id.hex, item.width, item.height, format_time(context.now))
                for item in files.values() if item.content_id is not None
            ],
        )  # fmt: skip
    if image is not None and before is not None and before != image:
        is_replaced = settle_new_bytes(conn, iri, before=before, after=image, now=context.now) == "replaced"
    elif image is not None and before is None and context.settings.jobs.on_new_images:
        queue_pipelines(conn, [(iri, image)], reason=NEW, now=context.now)
    return MediumOutcome(
        iri=iri, access=view.access, is_changed=published.outcome != "unchanged", is_replaced=is_replaced,
        is_turned=known is not None
        and (known["access"] == AccessClass.PRIVATE) != (view.access is AccessClass.PRIVATE),
        left_behind=_left_behind(exposure, known["key"] if known else "", was, files) if is_replaced else (),
    )  # fmt: skip


def _left_behind(
    exposure: Exposure, before: str, was: Mapping[str, sqlite3.Row | None], files: Mapping[str, MediumBytes]
) -> tuple[str, ...]:
    """Files whose bytes stayed while those of the same processed file changed."""
    if exposure.key != before:
        return ()
    now = {key: item.content_id.hex for key, item in files.items() if item.content_id is not None}
    return tuple(key for key, row in was.items() if row is not None and row["image"] and row["image"] == now.get(key))


def _facts(conn: sqlite3.Connection, found: MediumBytes, context: RowContext) -> MediumFacts:
    withheld_for = context.settings.images.originals_withheld_for
    return MediumFacts(
        content_id=found.content_id, width=found.width, height=found.height, format=found.format,
        size_bytes=found.size_bytes, public_original=public_original_of(conn, found.content_id, withheld_for),
        redacted=redacted_of(conn, found.content_id, context.settings),
    )  # fmt: skip


def _variants(
    conn: sqlite3.Connection,
    exposure: Exposure,
    view: MediumView,
    files: Mapping[str, MediumBytes],
    context: RowContext,
) -> list[VariantFacts]:
    """What the record lists: nothing when there is one file only; else the master first, then by size."""
    if len(exposure.keys) == 1:
        return []
    seen = {key: seen_of(files[key], view.files[key]) for key in exposure.keys}
    role = roles(seen)
    order = sorted(exposure.keys, key=lambda key: (role[key] != "archival master", -seen[key].pixels, key))
    return [
        VariantFacts(
            facts=_facts(conn, files[key], context), role=role[key], is_processed=key == exposure.key,
            stated=seen[key].stated,
            source_address=view.files[key].locator
            if is_address(view.files[key].locator) and not files[key].problem
            else "",
        )
        for key in order
    ]  # fmt: skip


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


def _mint(conn: sqlite3.Connection, source: str, key: str, origin: str) -> str:
    number = 0
    while True:
        name = f"{key}\0{number}" if number else key
        iri = records.iri_of(origin, "medium", records.mint_id(conn, source, "medium", name))
        if conn.execute("SELECT 1 FROM medium WHERE iri = ?", (iri,)).fetchone() is None:
            return iri
        number += 1
