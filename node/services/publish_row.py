"""One source row, published: specimen and media documents, their tables, search, and what strictness undoes.

Everything here happens inside the caller's transaction.
"""

import json
import sqlite3
from dataclasses import dataclass, replace
from typing import Final, Literal

from linkeddata.access import AccessClass
from linkeddata.source import SourceRow
from linkeddata.times import format_time
from node.services.ingest_rules import Protection
from node.services.intake_bytes import WITHDRAWN_CODE
from node.services.prepare_row import look_at, specimen_record
from node.services.publish_medium import (
    MediumOutcome,
    RowContext,
    enforce_classes,
    publish_medium,
    specimen_iri,
    tombstone,
    withdraw_medium,
)
from node.storage import corrections, forget, issues, records
from node.storage.search_index import index_specimen

_TRIPLET: Final = ("dwc:institutionCode", "dwc:collectionCode", "dwc:catalogNumber")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOutcome:
    """What became of a row."""

    outcome: Literal["new", "changed", "unchanged"]
    media_replaced: int
    left_behind: tuple[str, ...] = ()
    """Keys of files that stayed as they were while another file of their exposure was replaced."""


def publish_row(conn: sqlite3.Connection, row: SourceRow, context: RowContext) -> RowOutcome:
    """Publishes a row; a re-keyed one keeps the IRI of its old key."""
    old_key = context.rekeyed.get(row.key)
    if old_key is not None:
        _rekey(conn, row.source, old_key, row.key)
    iri = specimen_iri(conn, context, row.key)
    looked = look_at(row, context.rules, context.checker, today=context.now.date())
    protection = looked.protection
    is_unknown = row.key in context.unknown
    before = set() if is_unknown else _images_of(conn, iri)
    if not is_unknown:
        _move_media(conn, iri, row, context)
    media = tuple(item for item in row.media if _may_be(conn, item.key, context))
    named = row if len(media) == len(row.media) else replace(row, media=media, known_bytes=None)
    outcomes = [publish_medium(conn, item, context) for item in context.exposures(conn, named)]
    shown = [item.iri for item in outcomes if item.access is not AccessClass.PRIVATE]
    hides_media = len(shown) < len(outcomes)
    record = specimen_record(row, looked, iri=iri, media=shown, rules=context.rules, hides_media=hides_media)
    published = records.publish(conn, record, now=context.now)
    if protection.is_sensitive:
        _forget_names(conn, iri, protection)
    for ordinal, item in enumerate(outcomes):
        conn.execute("INSERT OR REPLACE INTO medium_specimen VALUES (?, ?, ?)", (item.iri, iri, ordinal))
    stamp = format_time(context.now)
    conn.execute(
        """INSERT INTO source_row (source, key, digest, body, iri, state, first_seen, last_seen, run, mids)
           VALUES (?, ?, ?, ?, ?, 'present', ?, ?, ?, ?)
           ON CONFLICT (source, key) DO UPDATE SET digest = excluded.digest, body = excluded.body, state = 'present',
             last_seen = excluded.last_seen, run = excluded.run, mids = excluded.mids""",
        (
            row.source, row.key, row.digest, row.canonical, iri, stamp, stamp, context.run,
            looked.said.mids.level,
        ),
    )  # fmt: skip
    issues.set_issues(conn, iri, looked.issues, is_new=is_unknown)
    if not is_unknown:
        corrections.settle(conn, iri, row.fields, now=context.now)
    if outcomes or not is_unknown:
        _drop_media(conn, iri, {item.iri for item in outcomes}, context)
        enforce_classes(conn, before | _images_of(conn, iri), now=context.now)
    index_specimen(conn, iri)
    for item in outcomes:
        _tell_others(conn, iri, item, context)
    is_changed = any(item.is_changed for item in outcomes)
    return RowOutcome(
        outcome="changed" if published.outcome == "unchanged" and is_changed else published.outcome,
        media_replaced=sum(item.is_replaced for item in outcomes),
        left_behind=tuple(key for item in outcomes for key in item.left_behind),
    )


def withdraw_row(conn: sqlite3.Connection, key: str, context: RowContext) -> int:
    """Tombstones the record of a row and the media that only it has; returns how many records."""
    source = context.intake.source
    row = conn.execute("SELECT iri FROM source_row WHERE source = ? AND key = ?", (source, key)).fetchone()
    if row is None:
        return 0
    conn.execute("UPDATE source_row SET state = 'vanished' WHERE source = ? AND key = ?", (source, key))
    count = tombstone(conn, row["iri"], "specimen", context.now, successor=_successor(conn, source, key))
    for item in conn.execute("SELECT medium FROM medium_specimen WHERE specimen = ?", (row["iri"],)).fetchall():
        others = conn.execute(
            """SELECT 1 FROM medium_specimen m JOIN source_row s ON s.iri = m.specimen
               WHERE m.medium = ? AND s.state = 'present'""",
            (item["medium"],),
        ).fetchone()
        if others is None:
            count += withdraw_medium(conn, item["medium"], now=context.now)
    _drop_media(conn, row["iri"], set(), context, keep_links=True)
    issues.drop_issues(conn, row["iri"])
    index_specimen(conn, row["iri"])
    return count


def _successor(conn: sqlite3.Connection, source: str, key: str) -> str:
    """The one public record of the source that has the same institution, collection and number; empty: none or several.

    A key that was only changed has no successor: its record goes on under the same address.
    """
    row = conn.execute("SELECT iri, body FROM source_row WHERE source = ? AND key = ?", (source, key)).fetchone()
    number = json.loads(row["body"])["fields"].get("dwc:catalogNumber", "")
    if not number:
        return ""
    triplet = [json.loads(row["body"])["fields"].get(term, "") for term in _TRIPLET]
    found = [
        other["iri"]
        for other in conn.execute(
            """SELECT s.iri, s.body FROM record_alias a JOIN source_row s ON s.iri = a.iri
               JOIN record r ON r.iri = s.iri
               WHERE a.alias = ? AND s.source = ? AND s.state = 'present' AND s.iri <> ? AND r.published = 1""",
            (number, source, row["iri"]),
        )
        if [json.loads(other["body"])["fields"].get(term, "") for term in _TRIPLET] == triplet
    ]
    return found[0] if len(found) == 1 else ""


def _may_be(conn: sqlite3.Connection, key: str, context: RowContext) -> bool:
    """Whether a medium is published at all: not one that has nothing but withdrawn bytes."""
    found = context.media.get(key)
    if found is None or found.code != WITHDRAWN_CODE:
        return True
    known = conn.execute("SELECT 1 FROM medium WHERE source = ? AND key = ?", (context.intake.source, key)).fetchone()
    return known is not None


def _images_of(conn: sqlite3.Connection, specimen: str) -> set[str]:
    """Of all versions of its media: what was read from an earlier scan tells as much."""
    rows = conn.execute(
        """SELECT m.image FROM medium_specimen s JOIN medium m ON m.iri = s.medium
           WHERE s.specimen = ?1 AND m.image IS NOT NULL
           UNION SELECT v.image FROM medium_specimen s JOIN medium_version v ON v.iri = s.medium
           WHERE s.specimen = ?1 AND v.image IS NOT NULL""",
        (specimen,),
    )
    return {row["image"] for row in rows}


def _move_media(conn: sqlite3.Connection, specimen: str, row: SourceRow, context: RowContext) -> None:
    """A medium whose file has another name now, with the same bytes, stays the same medium."""
    linked = conn.execute(
        "SELECT m.iri, m.key, m.image FROM medium_specimen s JOIN medium m ON m.iri = s.medium"
        " WHERE s.specimen = ? AND m.source = ?",
        (specimen, row.source),
    ).fetchall()
    gone = {item["image"]: item for item in linked if item["image"] and not context.intake.specimens_of(item["key"])}
    for medium in row.media:
        found = context.media.get(medium.key)
        if not gone or found is None or found.content_id is None:
            continue
        known = conn.execute("SELECT 1 FROM medium WHERE source = ? AND key = ?", (row.source, medium.key)).fetchone()
        old = gone.pop(found.content_id.hex, None) if known is None else None
        if old is not None:
            conn.execute("UPDATE medium SET key = ? WHERE iri = ?", (medium.key, old["iri"]))


def _drop_media(
    conn: sqlite3.Connection, specimen: str, named: set[str], context: RowContext, *, keep_links: bool = False
) -> None:
    """Media that the row no longer names lose their link to the specimen; those that others name say so."""
    linked = conn.execute(
        "SELECT m.iri, m.key, m.source FROM medium_specimen s JOIN medium m ON m.iri = s.medium WHERE s.specimen = ?",
        (specimen,),
    ).fetchall()
    for item in linked:
        if item["iri"] in named or item["source"] != context.intake.source:
            continue
        if context.intake.specimens_of(item["key"]):
            conn.execute("DELETE FROM medium_specimen WHERE medium = ? AND specimen = ?", (item["iri"], specimen))
            outcome = publish_medium(conn, context.exposure_with(conn, item["key"]), context)
            _tell_others(conn, specimen, outcome, context)
        elif not keep_links:
            conn.execute("DELETE FROM medium_specimen WHERE medium = ? AND specimen = ?", (item["iri"], specimen))


def _tell_others(conn: sqlite3.Connection, specimen: str, medium: MediumOutcome, context: RowContext) -> None:
    """Records of other rows name a medium that became private no more, nor do their older versions; or name it again.

    A record that goes with this archive, or has another key in it, is left to that.
    """
    if not medium.is_turned:
        return
    if medium.access is AccessClass.PRIVATE:
        forget.purge_versions(conn, specimen, medium.iri)
    others = conn.execute(
        """SELECT r.key, r.iri FROM medium_specimen s JOIN source_row r ON r.iri = s.specimen
           WHERE s.medium = ? AND s.specimen <> ? AND r.source = ? AND r.state = 'present' ORDER BY r.key""",
        (medium.iri, specimen, context.intake.source),
    ).fetchall()
    for other in others:
        row = context.intake.row(other["key"])
        if row is None:
            continue
        media = conn.execute(
            """SELECT m.iri, m.access FROM medium_specimen s JOIN medium m ON m.iri = s.medium
               WHERE s.specimen = ? AND m.state = 'active' ORDER BY s.ordinal, m.iri""",
            (other["iri"],),
        ).fetchall()
        shown = [item["iri"] for item in media if item["access"] != AccessClass.PRIVATE]
        looked = look_at(row, context.rules, context.checker, today=context.now.date())
        record = specimen_record(
            row, looked, iri=other["iri"], media=shown, rules=context.rules, hides_media=len(shown) < len(media)
        )
        records.publish(conn, record, now=context.now)
        if medium.access is AccessClass.PRIVATE:
            forget.purge_versions(conn, other["iri"], medium.iri)
        index_specimen(conn, other["iri"])


def _rekey(conn: sqlite3.Connection, source: str, old_key: str, new_key: str) -> None:
    row = conn.execute("SELECT iri FROM source_row WHERE source = ? AND key = ?", (source, old_key)).fetchone()
    if row is None:
        return
    conn.execute("DELETE FROM source_row WHERE source = ? AND key = ?", (source, new_key))
    conn.execute("UPDATE source_row SET key = ? WHERE source = ? AND key = ?", (new_key, source, old_key))
    conn.execute("INSERT OR IGNORE INTO record_alias VALUES (?, ?)", (old_key, row["iri"]))


def _forget_names(conn: sqlite3.Connection, iri: str, protection: Protection) -> None:
    """Identifiers that repeat the place find the record no longer."""
    names = [row["alias"] for row in conn.execute("SELECT alias FROM record_alias WHERE iri = ?", (iri,))]
    kept = set(protection.place.only_without(names))
    conn.executemany(
        "DELETE FROM record_alias WHERE alias = ? AND iri = ?", [(name, iri) for name in names if name not in kept]
    )
