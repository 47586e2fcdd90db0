"""Forgetting bytes in the database: every row that was made from an image goes, in the caller's one transaction.

What happens to each table is said in ``docs/how-to-withdraw.md``; a test compares it with the schema.

Invariants:
- Media of the bytes become tombstones in the publication log; specimens that named them get a version without them,
  and older versions that did are purged. The log keeps salted digests, whose salts are purged with the versions.
- Jobs keep their rows: the answer is "cannot tell", the reason that the image was withdrawn, the image an id of
  nothing (64 zeros).
- What the institution's own rows say about the specimen stays; what they say about the file does not.
- Again, it changes nothing.

It leaves out: the bytes (``cas.withdrawn``), files (``node.services.withdraw``), free pages of the database.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.canon import canonical_bytes
from linkeddata.records import build_tombstone, without_variant
from node.storage import jobs, luggage, records, redactions
from node.storage.search_index import index_specimen

WITHDRAWN: Final = "withdrawn: the institution withdrew the image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What the database knows that was made from some bytes."""

    media: tuple[str, ...]
    """IRIs of media that show them now."""
    earlier: tuple[str, ...]
    """IRIs of media that showed them in an older version."""
    variant_of: tuple[str, ...]
    """IRIs of media of which they are another file, not the one that is processed."""
    specimens: tuple[str, ...]
    annotations: tuple[str, ...]
    units: int
    result_rows: int


def find_traces(conn: sqlite3.Connection, image: str) -> Traces:
    """Everything that ``forget`` would remove or change about these bytes (SHA-256, hex)."""

    def column(sql: str) -> tuple[str, ...]:
        return tuple(row[0] for row in conn.execute(sql, {"image": image}))

    return Traces(
        media=column("SELECT iri FROM medium WHERE image = :image ORDER BY iri"),
        earlier=column(
            """SELECT DISTINCT v.iri FROM medium_version v JOIN medium m ON m.iri = v.iri
               WHERE v.image = :image AND m.image IS NOT :image ORDER BY v.iri"""
        ),
        variant_of=column("SELECT DISTINCT medium FROM medium_variant WHERE image = :image ORDER BY medium"),
        specimens=column(
            """SELECT DISTINCT s.specimen FROM medium_specimen s JOIN medium m ON m.iri = s.medium
               WHERE m.image = :image ORDER BY s.specimen"""
        ),
        annotations=column(
            """SELECT iri FROM annotation WHERE image = :image
               OR work_key IN (SELECT work_key FROM unit WHERE image = :image)
               OR medium IN (SELECT iri FROM medium WHERE image = :image) ORDER BY iri"""
        ),
        units=conn.execute("SELECT count(*) FROM unit WHERE image = ?", (image,)).fetchone()[0],
        result_rows=conn.execute("SELECT count(*) FROM job_unit WHERE image = ?", (image,)).fetchone()[0],
    )


def forget(conn: sqlite3.Connection, image: str, *, reason: str, names: Iterable[str] = (), now: datetime) -> Traces:
    """Removes every trace of these bytes; returns what there was.

    Args:
        conn: in a write transaction.
        image: SHA-256, hex.
        reason: goes into the tombstones, which are public where the records were.
        names: paths and addresses of the bytes, which findings may repeat.
        now: of the new versions.
    """
    conn.execute("PRAGMA secure_delete=ON")
    traces = find_traces(conn, image)
    known = {image, *(name for name in names if name)}
    for medium in traces.media:
        row = conn.execute("SELECT key, locator FROM medium WHERE iri = ?", (medium,)).fetchone()
        known.update(name for name in (row["key"], row["locator"]) if name)
    for row in conn.execute("SELECT key, locator FROM medium_variant WHERE image = ?", (image,)).fetchall():
        known.update(name for name in (row["key"], row["locator"]) if name)
    spoken_of = {  # what was read from the image is found by these, also where the medium shows another by now
        row["specimen"]
        for iri in traces.annotations
        for row in conn.execute(
            "SELECT s.specimen FROM annotation a JOIN medium_specimen s ON s.medium = a.medium WHERE a.iri = ?", (iri,)
        ).fetchall()
    }
    for iri in traces.annotations:
        _bury(conn, iri, "annotation", reason, now)
        conn.execute("DELETE FROM annotation WHERE iri = ?", (iri,))
    _forget_reviews(conn, image, traces.media)
    for medium in traces.media:
        _forget_file(conn, medium, {conn.execute("SELECT key FROM medium WHERE iri = ?", (medium,)).fetchone()["key"]})
        _bury(conn, medium, "medium", reason, now)
        for table in ("medium_specimen WHERE medium", "medium_variant WHERE medium", "medium_version WHERE iri",
                      "record_alias WHERE iri", "medium WHERE iri"):  # fmt: skip
            conn.execute(f"DELETE FROM {table} = ?", (medium,))  # noqa: S608 - a fixed list
    for medium in traces.variant_of:
        _forget_variant(conn, medium, image, now)
    for medium in traces.earlier:
        conn.execute("DELETE FROM medium_version WHERE iri = ? AND image = ?", (medium, image))
        purge_versions(conn, medium, image)
    for specimen in traces.specimens:
        _unlink_media(conn, specimen, traces.media, now)
    for specimen in sorted(spoken_of.union(traces.specimens)):
        index_specimen(conn, specimen)
    _forget_work(conn, image)
    luggage.forget(conn, image)
    redactions.forget(conn, image)
    conn.execute("DELETE FROM staff_action WHERE subject = ?", (image,))
    conn.execute("DELETE FROM carried_over WHERE image = ?1 OR from_image = ?1", (image,))
    conn.execute("DELETE FROM pipeline_request WHERE image = ?", (image,))
    for name in known:
        conn.execute("DELETE FROM finding WHERE instr(message, ?) > 0", (name,))
    return traces


def _forget_reviews(conn: sqlite3.Connection, image: str, media: tuple[str, ...]) -> None:
    """Removes statements about the image, what was decided about them, and what they proposed."""
    marks = ", ".join("?" * len(media))
    iris = [
        row["iri"]
        for row in conn.execute(
            f"""SELECT iri FROM review WHERE image = ? OR medium IN ({marks})
                OR work_key IN (SELECT work_key FROM unit WHERE image = ?)""",  # noqa: S608 - question marks
            (image, *media, image),
        ).fetchall()
    ]
    for iri in iris:
        for place in ("review_finding WHERE iri", "review_sample_item WHERE iri", "retraction_annotation WHERE iri",
                      "correction WHERE iri", "staff_action WHERE subject", "review WHERE iri"):  # fmt: skip
            conn.execute(f"DELETE FROM {place} = ?", (iri,))  # noqa: S608 - a fixed list
        conn.execute("DELETE FROM review_finding WHERE instr(message, ?) > 0", (iri,))


def _bury(conn: sqlite3.Connection, iri: str, kind: Any, reason: str, now: datetime) -> None:
    records.tombstone(conn, iri, build_tombstone(iri=iri, kind=kind, reason=reason, at=now), now=now)


def _forget_variant(conn: sqlite3.Connection, medium: str, image: str, now: datetime) -> None:
    """A medium has these bytes no more among its files: its record gets a version without them."""
    rows = conn.execute("SELECT key FROM medium_variant WHERE medium = ? AND image = ?", (medium, image)).fetchall()
    if not rows:
        return  # it went with the medium
    _forget_file(conn, medium, {row["key"] for row in rows})
    conn.execute("DELETE FROM medium_variant WHERE medium = ? AND image = ?", (medium, image))
    stored = conn.execute("SELECT * FROM record WHERE iri = ? AND state = 'active'", (medium,)).fetchone()
    if stored is not None:
        body = {name: value for name, value in json.loads(stored["body"]).items() if name not in records.VOLATILE}
        left = without_variant(body, ContentId.from_hex(image))
        record = records.NewRecord(
            kind="medium", iri=medium, body=left, access=AccessClass(stored["access"]),
            sensitive=bool(stored["sensitive"]), source=stored["source"],
        )  # fmt: skip
        published = records.publish(conn, record, now=now)
        conn.execute("UPDATE medium SET version = ? WHERE iri = ?", (published.version, medium))
    purge_versions(conn, medium, image)


def _forget_file(conn: sqlite3.Connection, medium: str, keys: Collection[str]) -> None:
    """Takes media rows out of the rows as received; their digests stay, so the next ingest finds them unchanged."""
    rows = conn.execute(
        """SELECT s.source, s.key, s.body FROM source_row s JOIN medium_specimen l ON l.specimen = s.iri
           JOIN medium m ON m.iri = l.medium WHERE l.medium = ? AND s.source = m.source""",
        (medium,),
    ).fetchall()
    for row in rows:
        body = json.loads(row["body"])
        body["media"] = [item for item in body["media"] if item["key"] not in keys]
        conn.execute(
            "UPDATE source_row SET body = ? WHERE source = ? AND key = ?",
            (canonical_bytes(body), row["source"], row["key"]),
        )


def _unlink_media(conn: sqlite3.Connection, specimen: str, media: tuple[str, ...], now: datetime) -> None:
    row = conn.execute("SELECT * FROM record WHERE iri = ? AND state = 'active'", (specimen,)).fetchone()
    if row is not None:
        body = {name: value for name, value in json.loads(row["body"]).items() if name not in records.VOLATILE}
        links = body.pop("ods:hasEntityRelationships", [])
        left = [item for item in links if item.get("dwc:relatedResourceID") not in media]
        if left:
            body["ods:hasEntityRelationships"] = left
        body["ods:isKnownToContainMedia"] = any(
            item.get("dwc:relationshipOfResource") == "hasDigitalMedia" for item in left
        )
        record = records.NewRecord(
            kind="specimen", iri=specimen, body=body, access=AccessClass(row["access"]),
            sensitive=bool(row["sensitive"]), source=row["source"],
        )  # fmt: skip
        records.publish(conn, record, now=now)
    for medium in media:
        purge_versions(conn, specimen, medium)


def purge_versions(conn: sqlite3.Connection, iri: str, text: str) -> None:
    """Removes older versions that say ``text``, with their salts."""
    conn.execute(
        """DELETE FROM record_version WHERE iri = ?1 AND instr(body, CAST(?2 AS BLOB)) > 0
           AND version <> (SELECT version FROM record WHERE iri = ?1)""",
        (iri, text),
    )


def _forget_work(conn: sqlite3.Connection, image: str) -> None:
    held = conn.execute(
        """SELECT DISTINCT j.id FROM job_unit u JOIN job j ON j.id = u.job_id
           WHERE u.image = ? AND j.decision = 'held' AND j.status = 'accepted'""",
        (image,),
    ).fetchall()
    conn.execute(
        """UPDATE job_unit SET answer = 'cannot tell', reason = :why, withheld = :why, work_key = NULL, image = :none
           WHERE image = :image""",
        {"why": WITHDRAWN, "none": jobs.NO_IMAGE, "image": image},
    )
    conn.execute(
        """DELETE FROM retraction_row WHERE (job_id, ordinal) IN
             (SELECT job_id, ordinal FROM job_unit WHERE image = :none AND withheld = :why)""",
        {"why": WITHDRAWN, "none": jobs.NO_IMAGE},
    )
    conn.execute("DELETE FROM unit WHERE image = ?", (image,))
    for row in held:  # whoever decides on it must see what it covers now
        job = jobs.get(conn, row["id"])
        if job is not None:
            digest = jobs.snapshot_digest(job.steps, jobs.snapshot_rows(conn, job.id))
            conn.execute("UPDATE job SET snapshot_digest = ? WHERE id = ?", (digest, job.id))
