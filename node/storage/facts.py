"""Looking up what ``node.access.decide`` needs to know about a record or about bytes."""

import sqlite3
from dataclasses import replace

from cas.ids import ContentId
from linkeddata.access import AccessClass
from node.access import ABSENT, Facts
from node.storage import luggage, redactions


def record_facts(conn: sqlite3.Connection, iri: str) -> Facts:
    """Facts of a record as it stands; ``ABSENT`` when there is none."""
    row = conn.execute("SELECT access, sensitive, state FROM record WHERE iri = ?", (iri,)).fetchone()
    if row is None:
        return ABSENT
    return Facts(access=AccessClass(row["access"]), sensitive=bool(row["sensitive"]))


def bytes_facts(conn: sqlite3.Connection, cid: ContentId) -> Facts:
    """Facts of bytes: the strictest over all media (any version) and the specimens they show.

    A public original follows the file it was made from, without its luggage. Bytes that no medium uses are private:
    nothing has been said about them yet. A picture with blacked out labels is there while it may be given out, and as
    sensitive as what it was made of.
    """
    found = _of_media(conn, cid)
    redaction = None if found.exists else redactions.of_derivative(conn, cid.hex)
    if redaction is not None:
        return _of_redaction(conn, redaction)
    source = luggage.source_of(conn, cid.hex)
    if source is None:
        return found
    original = replace(_of_media(conn, ContentId.from_hex(source)), luggage=frozenset(), public_original=None)
    if not (found.exists and original.exists):
        return original
    return replace(
        original,
        access=AccessClass(max(found.access, original.access)),
        sensitive=found.sensitive or original.sensitive,
    )


def _of_media(conn: sqlite3.Connection, cid: ContentId) -> Facts:
    """The strictest over all media (any version) that show these bytes and the specimens they show."""
    row = conn.execute(
        """
        WITH users AS (
          SELECT iri FROM medium WHERE image = :image
          UNION SELECT iri FROM medium_version WHERE image = :image
        )
        SELECT count(*) AS media,
               max(m.access, coalesce((SELECT max(r.access) FROM medium_specimen s JOIN record r ON r.iri = s.specimen
                                       WHERE s.medium = m.iri), 0)) AS access,
               max(m.sensitive, coalesce((SELECT max(r.sensitive) FROM medium_specimen s JOIN record r
                                          ON r.iri = s.specimen WHERE s.medium = m.iri), 0)) AS sensitive,
               coalesce(m.otherwise, :restricted) AS otherwise,
               (SELECT max(longest) FROM (
                  SELECT max(width, height) AS longest FROM medium WHERE image = :image
                  UNION ALL SELECT max(width, height) FROM medium_variant WHERE image = :image)) AS longest
        FROM users u JOIN medium m ON m.iri = u.iri
        GROUP BY m.iri ORDER BY access DESC, sensitive DESC
        """,
        {"image": cid.hex, "restricted": int(AccessClass.RESTRICTED)},
    ).fetchall()
    if not row:
        return ABSENT
    found = luggage.get(conn, cid.hex)
    return Facts(
        access=AccessClass(max(item["access"] for item in row)),
        sensitive=any(item["sensitive"] for item in row),
        otherwise=AccessClass(max(item["otherwise"] for item in row)),
        longest_px=row[0]["longest"],
        luggage=None if found is None else found.tells,
        public_original=None if found is None else found.public,
    )


def shown_instead(conn: sqlite3.Connection, image: str | None) -> tuple[str, Facts] | None:
    """The picture that is given out instead of a sensitive one, with its facts; None when none may be."""
    row = None if image is None else redactions.current(conn, image)
    if row is None or row.derivative is None:
        return None
    facts = _of_redaction(conn, row)
    return (row.derivative, facts) if facts.exists else None


def shown_instead_of_medium(conn: sqlite3.Connection, iri: str) -> tuple[str, Facts] | None:
    """The same of the newest bytes of a medium."""
    row = conn.execute("SELECT image FROM medium WHERE iri = ?", (iri,)).fetchone()
    return None if row is None else shown_instead(conn, row["image"])


def _of_redaction(conn: sqlite3.Connection, row: redactions.RedactionRow) -> Facts:
    original = _of_media(conn, ContentId.from_hex(row.image))
    if original.access is AccessClass.PRIVATE or not original.sensitive or not redactions.is_approved(conn, row):
        return ABSENT
    return Facts(
        access=AccessClass.OPEN, sensitive=True, luggage=frozenset(), is_redacted=True,
        longest_px=max(row.width, row.height),
    )  # fmt: skip


def medium_facts(conn: sqlite3.Connection, iri: str) -> Facts:
    """Facts of the bytes of a medium's newest version; ``ABSENT`` for an unknown medium."""
    row = conn.execute("SELECT image, access, sensitive FROM medium WHERE iri = ?", (iri,)).fetchone()
    if row is None:
        return ABSENT
    if row["image"] is None:
        return Facts(access=AccessClass(row["access"]), sensitive=bool(row["sensitive"]))
    return bytes_facts(conn, ContentId.from_hex(row["image"]))
