"""One source row, published: specimen and media documents, their tables, search, and what strictness undoes.

Everything here happens inside the caller's transaction.
"""

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cas.ids import ContentId
from linkeddata.access import AccessClass, parse_access_class, strictest
from linkeddata.canon import canonical_bytes
from linkeddata.licences import Licence, normalise_licence
from linkeddata.records import MediumFacts, build_medium, build_specimen, build_tombstone
from linkeddata.sensitive import SensitiveRule, find_category, generalise
from linkeddata.source import SourceMedia, SourceRow
from linkeddata.times import format_time
from node.config import Settings, SourceSettings
from node.services.intake_source import Intake
from node.storage import annotations, records
from node.storage.search import index_specimen


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RowContext:
    """What all rows of a batch share."""

    settings: Settings
    source: SourceSettings
    intake: Intake
    media: Mapping[str, MediumBytes]
    run: int
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOutcome:
    """What became of a row."""

    outcome: Literal["new", "changed", "unchanged"]
    media_replaced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Protection:
    fields: Mapping[str, str]
    is_sensitive: bool
    access: AccessClass


def publish_row(conn: sqlite3.Connection, row: SourceRow, context: RowContext, *, old_key: str | None) -> RowOutcome:
    """Publishes a row; with ``old_key`` the record of that key gets the new one and keeps its IRI."""
    origin = context.settings.origin
    if old_key is not None:
        _rekey(conn, row.source, old_key, row.key)
    known = conn.execute("SELECT iri FROM source_row WHERE source = ? AND key = ?", (row.source, row.key)).fetchone()
    iri = (
        known["iri"]
        if known
        else records.iri_of(origin, "specimen", records.mint_id(conn, row.source, "specimen", row.key))
    )
    protection = _protect(row, context)
    replaced = 0
    visible: list[str] = []
    for ordinal, medium in enumerate(row.media):
        medium_iri, access, was_replaced = _publish_medium(conn, row, medium, context, protection, iri, ordinal)
        replaced += was_replaced
        if access is not AccessClass.PRIVATE:
            visible.append(medium_iri)
    _drop_media(conn, iri, row)
    published = records.publish(
        conn,
        records.NewRecord(
            kind="specimen",
            iri=iri,
            body=build_specimen(
                iri=iri, fields=protection.fields, media=visible,
                licence=normalise_licence(row.fields.get("dcterms:license") or context.source.licence),
                access=protection.access, organisation=context.settings.node.organisation,
            ),
            access=protection.access,
            sensitive=protection.is_sensitive,
            source=row.source,
            aliases=_aliases(row),
        ),
        now=context.now,
    )  # fmt: skip
    stamp = format_time(context.now)
    conn.execute(
        """INSERT INTO source_row VALUES (?, ?, ?, ?, ?, 'present', ?, ?, ?)
           ON CONFLICT (source, key) DO UPDATE SET digest = excluded.digest, body = excluded.body, state = 'present',
             last_seen = excluded.last_seen, run = excluded.run""",
        (row.source, row.key, row.digest, canonical_bytes(row.to_json()), iri, stamp, stamp, context.run),
    )
    index_specimen(conn, iri)
    outcome = published.outcome
    if outcome == "unchanged" and replaced:
        outcome = "changed"
    return RowOutcome(outcome=outcome, media_replaced=replaced)


def withdraw_row(conn: sqlite3.Connection, source: str, key: str, *, now: datetime) -> int:
    """Tombstones the record of a row and the media that only it has; returns how many records."""
    row = conn.execute("SELECT iri FROM source_row WHERE source = ? AND key = ?", (source, key)).fetchone()
    if row is None:
        return 0
    reason = "no longer in the institution's collection data"
    count = 0
    media = conn.execute(
        """SELECT m.medium FROM medium_specimen m WHERE m.specimen = ?
           AND NOT EXISTS (SELECT 1 FROM medium_specimen o WHERE o.medium = m.medium AND o.specimen <> m.specimen)""",
        (row["iri"],),
    ).fetchall()
    for item in media:
        count += _tombstone(conn, item["medium"], "medium", reason, now)
        conn.execute("UPDATE medium SET state = 'withdrawn' WHERE iri = ?", (item["medium"],))
        for annotation in conn.execute("SELECT iri FROM annotation WHERE medium = ?", (item["medium"],)).fetchall():
            count += _tombstone(conn, annotation["iri"], "annotation", reason, now)
    count += _tombstone(conn, row["iri"], "specimen", reason, now)
    conn.execute("UPDATE source_row SET state = 'vanished' WHERE source = ? AND key = ?", (source, key))
    index_specimen(conn, row["iri"])
    return count


def _tombstone(
    conn: sqlite3.Connection, iri: str, kind: Literal["specimen", "medium", "annotation"], reason: str, now: datetime
) -> int:
    body = build_tombstone(iri=iri, kind=kind, reason=reason, at=now)
    return int(records.tombstone(conn, iri, body, now=now) is not None)


def _protect(row: SourceRow, context: RowContext) -> _Protection:
    """Applies the list of sensitive taxa and the access rules of the source, before anything is published."""
    rules = tuple(
        SensitiveRule(term=f"dwc:{item.field}", value=item.value, category=item.category)
        for item in context.settings.sensitive
    )
    category = find_category(row.fields, rules)
    fields = dict(row.fields) if category is None else generalise(row.fields, category)
    access = AccessClass.OPEN
    if _rule_access(row, context.source) is AccessClass.PRIVATE or context.source.access == "private":
        access = AccessClass.PRIVATE
    return _Protection(fields=fields, is_sensitive=category is not None, access=access)


def _rule_access(row: SourceRow, source: SourceSettings) -> AccessClass | None:
    found = [
        parse_access_class(rule.access)
        for rule in source.rules
        if re.search(rule.match, row.fields.get(rule.field if ":" in rule.field else f"dwc:{rule.field}", "")[:2000])
    ]
    return strictest(found) if found else None


def _medium_access(row: SourceRow, licence: Licence, context: RowContext, protection: _Protection) -> AccessClass:
    stated = context.source.access
    base = parse_access_class(stated) if stated else licence.access
    ruled = _rule_access(row, context.source)
    classes = [base, protection.access] if ruled is None else [base, protection.access, ruled]
    if protection.is_sensitive:
        classes.append(AccessClass.RESTRICTED)
    return strictest(classes)


def _publish_medium(
    conn: sqlite3.Connection,
    row: SourceRow,
    medium: SourceMedia,
    context: RowContext,
    protection: _Protection,
    specimen_iri: str,
    ordinal: int,
) -> tuple[str, AccessClass, int]:
    known = conn.execute("SELECT * FROM medium WHERE source = ? AND key = ?", (row.source, medium.key)).fetchone()
    origin = context.settings.origin
    iri = (
        known["iri"]
        if known
        else records.iri_of(origin, "medium", records.mint_id(conn, row.source, "medium", medium.key))
    )
    found = context.media[medium.key]
    licence = normalise_licence(medium.licence or context.source.licence)
    access = _medium_access(row, licence, context, protection)
    sensitive = protection.is_sensitive
    specimens = [
        records.iri_of(origin, "specimen", records.mint_id(conn, row.source, "specimen", key))
        for key in context.intake.specimens_of(medium.key)
    ]
    if specimen_iri not in specimens:
        specimens = [specimen_iri]
    if len(specimens) > 1 and known is not None:  # the strictest of everything it shows
        access = strictest([access, AccessClass(known["access"])])
        sensitive = sensitive or bool(known["sensitive"])
    image = found.content_id.hex if found.content_id else (known["image"] if known else None)
    was_replaced = int(known is not None and known["image"] is not None and image != known["image"])
    published = records.publish(
        conn,
        records.NewRecord(
            kind="medium",
            iri=iri,
            body=build_medium(
                iri=iri, origin=origin, specimens=specimens,
                facts=MediumFacts(
                    content_id=ContentId.from_hex(image) if image else None, width=found.width, height=found.height,
                    format=found.format, size_bytes=found.size_bytes,
                ),
                licence=licence, access=access, sensitive=sensitive, title=medium.title,
                rights_holder=medium.rights_holder,
                identifier=medium.locator if medium.locator.startswith(("http://", "https://")) else "",
            ),
            access=access,
            sensitive=sensitive,
            source=row.source,
            aliases=(medium.locator,) if medium.locator.startswith(("http://", "https://")) else (),
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
            "iri": iri, "source": row.source, "key": medium.key, "image": image, "format": found.format,
            "width": found.width, "height": found.height, "size": found.size_bytes, "access": int(access),
            "sensitive": int(sensitive), "version": published.version, "locator": medium.locator,
            "problem": found.problem or None,
        },
    )  # fmt: skip
    if image is not None and published.outcome != "unchanged":
        conn.execute(
            "INSERT OR REPLACE INTO medium_version VALUES (?, ?, ?, ?, ?, ?)",
            (iri, published.version, image, found.width, found.height, format_time(context.now)),
        )
    conn.execute("INSERT OR REPLACE INTO medium_specimen VALUES (?, ?, ?)", (iri, specimen_iri, ordinal))
    if image is not None:
        if was_replaced:
            annotations.mark_evidence_replaced(conn, iri, image)
        for other in {image, known["image"] if known else None} - {None}:
            annotations.enforce_class(conn, str(other), now=context.now)
    return iri, access, was_replaced


def _drop_media(conn: sqlite3.Connection, specimen: str, row: SourceRow) -> None:
    """Media that the row no longer names lose their link to the specimen (their records stay)."""
    keys = {medium.key for medium in row.media}
    linked = conn.execute(
        "SELECT m.iri, m.key FROM medium_specimen s JOIN medium m ON m.iri = s.medium WHERE s.specimen = ?", (specimen,)
    ).fetchall()
    for item in linked:
        if item["key"] not in keys:
            conn.execute("DELETE FROM medium_specimen WHERE medium = ? AND specimen = ?", (item["iri"], specimen))


def _rekey(conn: sqlite3.Connection, source: str, old_key: str, new_key: str) -> None:
    row = conn.execute("SELECT iri FROM source_row WHERE source = ? AND key = ?", (source, old_key)).fetchone()
    if row is None:
        return
    conn.execute("DELETE FROM source_row WHERE source = ? AND key = ?", (source, new_key))
    conn.execute("UPDATE source_row SET key = ? WHERE source = ? AND key = ?", (new_key, source, old_key))
    conn.execute("INSERT OR IGNORE INTO record_alias VALUES (?, ?)", (old_key, row["iri"]))


def _aliases(row: SourceRow) -> tuple[str, ...]:
    found = (row.key, row.fields.get("dwc:occurrenceID", ""), row.fields.get("dwc:catalogNumber", ""))
    return tuple(dict.fromkeys(item for item in found if item))
