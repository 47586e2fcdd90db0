"""A medium has other bytes than before: what was said about the old ones is marked or carried over, in one transaction.

Three cases:
- **Another picture** (a re-scan): annotations on the old bytes stay and say ``evidence image replaced``; the new bytes
  wait for the node's pipelines (``queue_pipelines``).
- **The same picture, other metadata**: annotations and statements under review get a version about the new bytes that
  names those which they were computed from; the link is kept in ``carried_over`` also where nothing was said yet, so
  that nobody computes again what is known.
- **Bytes that were there before**: what was said about them stands again.

Everything here happens inside the caller's transaction. It leaves out: who publishes the medium
(``node.services.publish_medium``, ``node.services.publish_remote``), and running pipelines.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.canon import canonical_bytes
from linkeddata.evidence import carried_over, moved_to, with_evidence_replaced, with_evidence_returned
from linkeddata.json_strict import Json
from linkeddata.times import format_time
from node.storage import annotations, luggage, records
from node.storage.claims import claim

RESCANNED: Final = "the image was replaced"
NEW: Final = "the image is new"
Change = Callable[[dict[str, Json]], dict[str, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An image that waits for the node's own pipelines."""

    medium: str
    image: str
    """SHA-256, hex."""
    reason: str


def settle_new_bytes(
    conn: sqlite3.Connection, medium: str, *, before: str, after: str, now: datetime
) -> Literal["replaced", "carried"]:
    """To be called when a medium that had other bytes has been published with new ones.

    Args:
        conn: in a write transaction, in which the table ``medium`` already says ``after``.
        medium: its IRI.
        before: SHA-256 (hex) of the bytes that it had.
        after: of those that it has now.
        now: of new versions.
    """
    picture = luggage.shared_picture(conn, before, after)
    if picture is not None:
        _carry(conn, medium, before, after, picture, now)
    else:
        queue_pipelines(conn, [(medium, after)], reason=RESCANNED, now=now)
    _mark(conn, medium, after, now)
    return "replaced" if picture is None else "carried"


def move_statements(conn: sqlite3.Connection, old: str, medium: str, *, now: datetime) -> None:
    """What was said about a medium that ends is said about another, of whose exposure it was a file.

    Its bytes are not those that the other medium processes, so that it is marked; where they are, it stands.
    """
    for row in conn.execute("SELECT iri, document FROM review WHERE medium = ?", (old,)).fetchall():
        document = canonical_bytes(moved_to(json.loads(row["document"]), medium))
        conn.execute("UPDATE review SET medium = ?, document = ? WHERE iri = ?", (medium, document, row["iri"]))
    rows = conn.execute("SELECT iri FROM annotation WHERE medium = ?", (old,)).fetchall()
    for row in rows:
        conn.execute(  # at most one is current: of the two media's that of the one that stays
            f"""UPDATE annotation AS a SET medium = ?1, state = CASE WHEN state = 'current' AND EXISTS (
                 SELECT 1 FROM annotation c WHERE c.medium = ?1 AND {claim("c")} = {claim("a")}
                   AND c.state = 'current') THEN 'superseded' ELSE state END WHERE iri = ?2""",  # noqa: S608 - constants
            (medium, row["iri"]),
        )
        _say(conn, row["iri"], lambda document: moved_to(document, medium), now=now)
    found = conn.execute("SELECT image FROM medium WHERE iri = ?", (medium,)).fetchone()
    if rows and found is not None and found["image"] is not None:
        _mark(conn, medium, found["image"], now)
    conn.execute("DELETE FROM pipeline_request WHERE medium = ?", (old,))
    conn.execute("UPDATE OR REPLACE carried_over SET medium = ? WHERE medium = ?", (medium, old))


def _mark(conn: sqlite3.Connection, medium: str, image: str, now: datetime) -> None:
    """Annotations on other bytes than these (SHA-256, hex) say so, those on these bytes do not."""
    for row in _stale(conn, medium, image):
        _say(conn, row["iri"], with_evidence_replaced, now=now)
    annotations.mark_evidence_replaced(conn, medium, image)
    for iri in annotations.revive(conn, medium, image):
        _say(conn, iri, with_evidence_returned, now=now)
    annotations.reindex_medium(conn, medium)


# ---------------------------------------------------------------------- what waits for pipelines
def queue_pipelines(conn: sqlite3.Connection, images: Iterable[tuple[str, str]], *, reason: str, now: datetime) -> None:
    """Notes that the node's own pipelines shall run on (medium IRI, SHA-256 hex); durable with the caller's commit."""
    conn.executemany(
        "INSERT OR REPLACE INTO pipeline_request VALUES (?, ?, ?, ?)",
        [(medium, image, reason, format_time(now)) for medium, image in images],
    )


def pipeline_requests(conn: sqlite3.Connection, *, limit: int) -> list[Request]:
    """The oldest images that wait; of those that their medium does not show any more none."""
    rows = conn.execute(
        """SELECT p.* FROM pipeline_request p JOIN medium m ON m.iri = p.medium AND m.image = p.image
           WHERE m.state = 'active' ORDER BY p.at, p.medium LIMIT ?""",
        (limit,),
    )
    return [Request(medium=row["medium"], image=row["image"], reason=row["reason"]) for row in rows]


def pipelines_queued(conn: sqlite3.Connection, done: Iterable[Request]) -> None:
    """Somebody queued the work: these images wait no longer, nor do images that their medium does not show any more."""
    conn.executemany(
        "DELETE FROM pipeline_request WHERE medium = ? AND image = ?", [(item.medium, item.image) for item in done]
    )
    conn.execute(
        """DELETE FROM pipeline_request WHERE NOT EXISTS
             (SELECT 1 FROM medium m WHERE m.iri = pipeline_request.medium AND m.image = pipeline_request.image
                AND m.state = 'active')"""
    )


# ---------------------------------------------------------------------- what was said
def computed_for(conn: sqlite3.Connection, image: str) -> list[str]:
    """SHA-256 (hex) of earlier bytes of the same picture, whose results hold for these; the newest first."""
    rows = conn.execute(
        "SELECT from_image FROM carried_over WHERE image = ? GROUP BY from_image ORDER BY max(at) DESC, from_image",
        (image,),
    )
    return [row["from_image"] for row in rows]


def moved(conn: sqlite3.Connection, medium: str, image: str, document: dict[str, Json]) -> tuple[str, dict[str, Json]]:
    """A new statement about bytes (SHA-256, hex) that its medium has no more, where it shows the same picture.

    Returns:
        The bytes that it is about, and its document; both as they were given when the bytes are still there, or when
        another picture is.
    """
    row = conn.execute(
        """SELECT c.image, c.picture FROM medium m JOIN carried_over c ON c.medium = m.iri AND c.image = m.image
           WHERE m.iri = ? AND c.from_image = ? AND m.image <> c.from_image""",
        (medium, image),
    ).fetchone()
    if row is None:
        return image, document
    return row["image"], carried_over(document, ContentId.from_hex(row["image"]), picture=row["picture"])


def _carry(conn: sqlite3.Connection, medium: str, before: str, after: str, picture: str, now: datetime) -> None:
    """Everything that was said about one file is said about the other."""
    cid = ContentId.from_hex(after)

    def change(document: dict[str, Json]) -> dict[str, Json]:
        return carried_over(document, cid, picture=picture)

    sources = {before, *computed_for(conn, before)} - {after}
    conn.executemany(
        "INSERT OR REPLACE INTO carried_over VALUES (?, ?, ?, ?, ?)",
        [(medium, after, source, picture, format_time(now)) for source in sorted(sources)],
    )
    conn.execute(  # what waited for the old bytes waits for the new ones
        "UPDATE OR REPLACE pipeline_request SET image = ? WHERE medium = ? AND image = ?", (after, medium, before)
    )
    for row in conn.execute(
        "SELECT iri, document FROM review WHERE medium = ? AND image = ?", (medium, before)
    ).fetchall():
        document = canonical_bytes(change(json.loads(row["document"])))
        conn.execute("UPDATE review SET image = ?, document = ? WHERE iri = ?", (after, document, row["iri"]))
    for row in conn.execute("SELECT iri FROM annotation WHERE medium = ? AND image = ?", (medium, before)).fetchall():
        conn.execute("UPDATE annotation SET image = ? WHERE iri = ?", (after, row["iri"]))
        _say(conn, row["iri"], change, now=now)


def _stale(conn: sqlite3.Connection, medium: str, image: str) -> list[sqlite3.Row]:
    return conn.execute("SELECT iri FROM annotation WHERE medium = ? AND image <> ?", (medium, image)).fetchall()


def _say(conn: sqlite3.Connection, iri: str, change: Change, *, now: datetime) -> None:
    """A new version of a record that stands, with the document changed; nothing when it stays the same."""
    row = conn.execute("SELECT * FROM record WHERE iri = ? AND state = 'active'", (iri,)).fetchone()
    if row is None:
        return
    body = {name: value for name, value in json.loads(row["body"]).items() if name not in records.VOLATILE}
    records.publish(
        conn,
        records.NewRecord(
            kind="annotation", iri=iri, body=change(body), access=AccessClass(row["access"]),
            sensitive=bool(row["sensitive"]), source=row["source"],
        ),
        now=now,
    )  # fmt: skip
