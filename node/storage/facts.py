"""Looking up what ``node.access.decide`` needs to know about a record or about bytes."""

import sqlite3

from cas.ids import ContentId
from linkeddata.access import AccessClass
from node.access import ABSENT, Facts


def record_facts(conn: sqlite3.Connection, iri: str) -> Facts:
    """Facts of a record as it stands; ``ABSENT`` when there is none."""
    row = conn.execute("SELECT access, sensitive, state FROM record WHERE iri = ?", (iri,)).fetchone()
    if row is None:
        return ABSENT
    return Facts(access=AccessClass(row["access"]), sensitive=bool(row["sensitive"]))


def bytes_facts(conn: sqlite3.Connection, cid: ContentId) -> Facts:
    """Facts of bytes: the strictest over all media (any version) and the specimens they show.

    Bytes that no medium uses are private: nothing has been said about them yet.
    """
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
               (SELECT max(max(width, height)) FROM medium WHERE image = :image) AS longest
        FROM users u JOIN medium m ON m.iri = u.iri
        GROUP BY m.iri ORDER BY access DESC, sensitive DESC
        """,
        {"image": cid.hex},
    ).fetchall()
    if not row:
        return ABSENT
    return Facts(
        access=AccessClass(max(item["access"] for item in row)),
        sensitive=any(item["sensitive"] for item in row),
        longest_px=row[0]["longest"],
    )


def medium_facts(conn: sqlite3.Connection, iri: str) -> Facts:
    """Facts of the bytes of a medium's newest version; ``ABSENT`` for an unknown medium."""
    row = conn.execute("SELECT image, access, sensitive FROM medium WHERE iri = ?", (iri,)).fetchone()
    if row is None:
        return ABSENT
    if row["image"] is None:
        return Facts(access=AccessClass(row["access"]), sensitive=bool(row["sensitive"]))
    return bytes_facts(conn, ContentId.from_hex(row["image"]))
