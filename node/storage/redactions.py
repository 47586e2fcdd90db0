"""Which pictures of sensitive specimens may be given out with their labels blacked out, in the database.

Invariants:
- A row says what a person looked at and approved (a digest of what is covered), and what is given out now.
- ``planned`` decides from what is known at this moment, so an approval ends by itself: with another reading of the
  labels, another class, another picture.
- Results that a person rejected or took back are not relied on; what they found is covered all the same.

It leaves out: making pictures and approving (``node.services.redactions``), who gets them (``node.access``).
"""

import json
import sqlite3
from dataclasses import dataclass
from typing import Final

from linkeddata.access import AccessClass
from linkeddata.errors import DocumentError
from linkeddata.outputs import Box, parse_output
from linkeddata.redaction import (
    CODES,
    LABELS,
    OBJECTS,
    Reading,
    Redaction,
    Uncoverable,
    areas_of_statement,
    boxes_of_statement,
    plan_redaction,
    reading_of,
)

_LEAST_SIDE: Final = 2800
"""The pipeline's own ``maxSide``: a run at a smaller size sees less and is sure of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionRow:
    """What was approved for one picture. Ids are SHA-256 in hex."""

    image: str
    approved: str
    """Digest of the redaction that a person looked at."""
    action: int
    width: int
    height: int
    derivative: str | None = None
    size_bytes: int | None = None
    packet: str | None = None
    """Digest of the rights that are written in the derivative."""


def get(conn: sqlite3.Connection, image: str) -> RedactionRow | None:
    """What was approved for a picture."""
    row = conn.execute("SELECT * FROM redaction WHERE image = ?", (image,)).fetchone()
    return None if row is None else _row(row)


def of_derivative(conn: sqlite3.Connection, derivative: str) -> RedactionRow | None:
    """The row that names this picture as the one that is given out."""
    row = conn.execute("SELECT * FROM redaction WHERE derivative = ?", (derivative,)).fetchone()
    return None if row is None else _row(row)


def every(conn: sqlite3.Connection) -> list[RedactionRow]:
    """Every row, by image."""
    return [_row(row) for row in conn.execute("SELECT * FROM redaction ORDER BY image")]


def put(conn: sqlite3.Connection, row: RedactionRow) -> None:
    """Keeps a row in the place of the one that was there."""
    conn.execute(
        "INSERT OR REPLACE INTO redaction VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (row.image, row.approved, row.action, row.width, row.height, row.derivative, row.size_bytes, row.packet),
    )


def clear(conn: sqlite3.Connection, derivative: str) -> None:
    """A derivative is not given out any more; what was approved stays."""
    conn.execute(
        "UPDATE redaction SET derivative = NULL, bytes = NULL, packet = NULL WHERE derivative = ?", (derivative,)
    )


def forget(conn: sqlite3.Connection, image: str) -> None:
    """Removes what is known about a picture, and about a derivative of this id."""
    conn.execute("DELETE FROM redaction WHERE image = ?", (image,))
    clear(conn, image)


def planned(conn: sqlite3.Connection, image: str) -> Redaction:
    """What is to be covered on a picture, by what is known now.

    Raises:
        Uncoverable: it cannot be covered surely, or it is not a picture that this is for.
    """
    users = conn.execute(
        """SELECT max(coalesce(m.otherwise, :closed), coalesce(max(r.access), 0)) AS otherwise, m.width, m.height,
                  m.problem, m.state, m.image = :image AS is_newest,
                  max(m.sensitive, coalesce(max(r.sensitive), 0)) AS sensitive
           FROM medium m LEFT JOIN medium_specimen s ON s.medium = m.iri LEFT JOIN record r ON r.iri = s.specimen
           WHERE m.iri IN (SELECT iri FROM medium WHERE image = :image
                           UNION SELECT iri FROM medium_version WHERE image = :image)
           GROUP BY m.iri ORDER BY m.iri""",
        {"image": image, "closed": int(AccessClass.RESTRICTED)},
    ).fetchall()
    newest = next((item for item in users if item["is_newest"] and item["state"] == "active"), None)
    if newest is None:
        raise Uncoverable("it is not the picture of a medium any more")
    if not any(item["sensitive"] for item in users):
        raise Uncoverable("its specimen is not of a sensitive taxon: its labels need not be covered")
    if any(item["otherwise"] != AccessClass.OPEN for item in users):
        raise Uncoverable("it would not be open if its taxon were not sensitive: no open licence is known for it")
    if not newest["width"] or not newest["height"] or newest["problem"]:
        raise Uncoverable("the picture could not be read when it was taken in")
    before = _readings_before(conn, image)
    return plan_redaction(
        _readings(conn, image), [*_stated(conn, image), *(box for item in before for box in item.boxes)],
        [*_stated_areas(conn, image), *(box for item in before for box in item.areas)],
        image=image, width=newest["width"], height=newest["height"],
    )  # fmt: skip


def current(conn: sqlite3.Connection, image: str) -> RedactionRow | None:
    """The row of a picture whose derivative may be given out at this moment; None when none may."""
    row = get(conn, image)
    return row if row is not None and row.derivative is not None and is_approved(conn, row) else None


def is_approved(conn: sqlite3.Connection, row: RedactionRow) -> bool:
    """Whether what a person approved is still what would be covered."""
    try:
        return planned(conn, row.image).digest == row.approved
    except Uncoverable:
        return False


def _readings(conn: sqlite3.Connection, image: str) -> list[Reading]:
    rows = conn.execute(
        """SELECT u.output, u.body, u.finished, u.parameters, coalesce(c.verdict, '') AS verdict,
             EXISTS (SELECT 1 FROM review v WHERE v.work_key = u.work_key AND v.image = u.image
                     AND (v.state = 'rejected' OR v.retraction IS NOT NULL))
             OR EXISTS (SELECT 1 FROM retraction_row x JOIN retraction t ON t.id = x.retraction
                        WHERE x.work_key = u.work_key AND t.state IN ('retracting', 'retracted'))
             OR EXISTS (SELECT 1 FROM retraction t WHERE t.pipeline = u.pipeline AND t.job IS NULL AND t.selection = ''
                        AND t.at >= u.finished AND t.state IN ('retracting', 'retracted')) AS taken_back
           FROM unit u LEFT JOIN conformance c ON c.pipeline = u.pipeline AND c.environment = u.environment
           WHERE u.image = ? AND u.state = 'done' AND u.output IN (?, ?, ?)""",
        (image, LABELS, CODES, OBJECTS),
    )
    return [found for row in rows if (found := _reading(row)) is not None]


def _reading(row: sqlite3.Row) -> Reading | None:
    unsure = ""
    if row["taken_back"]:
        unsure = "the newest reading of its labels was rejected or taken back"
    elif _side(row["parameters"]) < _LEAST_SIDE:
        unsure = "the newest reading of its labels was made at a smaller size than usual"
    elif row["verdict"] == "fail":
        unsure = "the newest reading of its labels was made where the pipeline does not do what it should"
    try:
        output = parse_output(row["output"], json.loads(row["body"]))
    except (DocumentError, ValueError) as error:
        raise Uncoverable("what was read on it cannot be understood any more: read it again") from error
    return reading_of(output, at=row["finished"] or "", unsure=unsure)


def _side(parameters: str) -> int:
    said = json.loads(parameters).get("maxSide", _LEAST_SIDE)
    return said if isinstance(said, int) else 0


def _stated(conn: sqlite3.Connection, image: str) -> list[Box]:
    """Regions of every statement about the picture, whatever became of it."""
    rows = conn.execute("SELECT document FROM review WHERE image = ? AND output IN (?, ?)", (image, LABELS, CODES))
    return [box for row in rows for box in boxes_of_statement(json.loads(row["document"]))]


def _stated_areas(conn: sqlite3.Connection, image: str) -> list[Box]:
    """Labels, codes and stamps in statements about the objects on the picture."""
    rows = conn.execute("SELECT document FROM review WHERE image = ? AND output = ?", (image, OBJECTS))
    return [box for row in rows for box in areas_of_statement(json.loads(row["document"]))]


def _readings_before(conn: sqlite3.Connection, image: str) -> list[Reading]:
    """Of earlier files of the same picture, which had other metadata: what they found is covered, not relied on."""
    rows = conn.execute("SELECT DISTINCT from_image FROM carried_over WHERE image = ? ORDER BY from_image", (image,))
    return [found for row in rows.fetchall() for found in _readings(conn, row["from_image"])]


def _row(row: sqlite3.Row) -> RedactionRow:
    return RedactionRow(
        image=row["image"], approved=row["approved"], action=row["action"], width=row["width"], height=row["height"],
        derivative=row["derivative"], size_bytes=row["bytes"], packet=row["packet"],
    )  # fmt: skip
