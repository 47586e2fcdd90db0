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
from linkeddata.records import MediumFacts, build_tombstone
from linkeddata.times import format_time
from node.config import Settings
from node.services.intake_bytes import MediumBytes, known_bytes
from node.services.new_bytes import settle_new_bytes
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
    views: dict[str, MediumView] = field(default_factory=dict)
    """Filled on demand."""

    def view(self, media_key: str) -> MediumView:
        """What all rows say together about a medium."""
        known = self.views.get(media_key)
        if known is None:
            known = self.views[media_key] = view_medium(media_key, self.intake, self.rules)
        return known


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
    view = context.view(key)
    source, origin = context.intake.source, context.settings.origin
    known = conn.execute("SELECT * FROM medium WHERE source = ? AND key = ?", (source, key)).fetchone()
    iri = known["iri"] if known else _mint(conn, source, key, origin)
    found = _bytes_of(context.media.get(key), known)
    image = found.content_id.hex if found.content_id else None
    before, is_replaced = known["image"] if known else None, False
    locator = view.medium.locator
    published = records.publish(
        conn,
        records.NewRecord(
            kind="medium",
            iri=iri,
            body=medium_document(
                view, iri=iri, specimens=[specimen_iri(conn, context, item) for item in view.specimens],
                facts=MediumFacts(
                    content_id=found.content_id, width=found.width, height=found.height, format=found.format,
                    size_bytes=found.size_bytes,
                    public_original=public_original_of(
                        conn, found.content_id, context.settings.images.originals_withheld_for
                    ),
                    redacted=redacted_of(conn, found.content_id, context.settings),
                ),
                has_problem=bool(found.problem), rules=context.rules,
            ),
            access=view.access,
            sensitive=view.sensitive,
            source=source,
            aliases=(locator,) if is_address(locator) else (),
        ),
        now=context.now,
    )  # fmt: skip
    conn.execute(
        """INSERT INTO medium VALUES (:iri, :source, :key, :image, :format, :width, :height, :size, :access, :sensitive,
             :version, 'active', :locator, :problem, :otherwise)
           ON CONFLICT (iri) DO UPDATE SET image = :image, format = :format, width = :width, height = :height,
             size_bytes = :size, access = :access, sensitive = :sensitive, version = :version, state = 'active',
             locator = :locator, problem = :problem, otherwise = :otherwise""",
        {
            "iri": iri, "source": source, "key": key, "image": image, "format": found.format,
            "width": found.width, "height": found.height, "size": found.size_bytes, "access": int(view.access),
            "sensitive": int(view.sensitive), "version": published.version, "locator": locator,
            "problem": found.problem or None, "otherwise": int(view.otherwise),
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
