"""From a work result to a statement that people can decide on, and to a public annotation where the image allows it.

Invariants:
- A statement comes to be for a job that asked (``publish``) and whose policy decision covered that, or when a person
  takes the results of other jobs into the review (``take_results``). It is checked then, and waits for a decision.
- Public before anybody decided only when its job asked and the medium is open, not sensitive, and still shows the bytes
  that the result was made from: asked again in the same transaction.
- A result whose image got other metadata meanwhile is about the new bytes, and names those it was computed from.
- One annotation per (medium, claim) is current; a newer one supersedes it, unless a person accepted it.
- Results of runs of the institution itself wait for a person; they supersede what older versions of the pipeline said.
- The annotation says what was read, not what was asked: no question of a researcher shows in it.
- Idempotent: the IRI is minted from medium and work key. What was rejected or retracted does not come back.
"""

import sqlite3
from datetime import datetime
from typing import Final

from cas.ids import ContentId
from linkeddata.annotation import build_annotation
from linkeddata.annotation_checks import CheckFinding, Evidence, check_statement
from linkeddata.answers import answer_of
from linkeddata.json_strict import Json, parse_json
from linkeddata.outputs import Output, parse_output
from linkeddata.outputs.contracts import NOT_RELEASED
from linkeddata.statement import regions_of, summarise
from node.services import new_bytes, review
from node.storage import records, reviews
from node.storage.jobs import JobRow

_RESULTS: Final = """
  SELECT ju.ordinal, ju.medium, ju.specimen, ju.image, ju.step, u.work_key, u.body, u.pipeline, u.environment, c.verdict
  FROM job_unit ju JOIN unit u ON u.work_key = ju.work_key JOIN medium m ON m.iri = ju.medium
  LEFT JOIN conformance c ON c.pipeline = u.pipeline AND c.environment = u.environment
  WHERE ju.job_id = ? AND u.state = 'done' AND ju.withheld IS NULL"""


def publish_result(
    conn: sqlite3.Connection, *, origin: str, labels: frozenset[str], job: JobRow, ordinal: int, now: datetime
) -> records.Published | None:
    """Makes a statement of the result behind one row of a job that asked; None when it is not public.

    Args:
        conn: in a write transaction.
        origin: of this node.
        labels: classes that the institution knows beyond the vocabulary.
        job: whose result.
        ordinal: which row.
        now: when.
    """
    row = conn.execute(f"{_RESULTS} AND ju.ordinal = ?", (job.id, ordinal)).fetchone()
    if row is None:
        return None
    iri = _keep(conn, row, job, origin=origin, labels=labels, asked=True, now=now)
    known = reviews.get(conn, iri)
    if known is None or known.state == "rejected" or review.is_public(conn, iri):
        return None
    if not known.asked:  # somebody took it in before for a job that did not ask
        conn.execute("UPDATE review SET asked = 1 WHERE iri = ?", (iri,))
        known = reviews.get(conn, iri)
        assert known is not None  # it was just written
    return review.publish(conn, known, now=now)


def keep_result(
    conn: sqlite3.Connection, *, origin: str, labels: frozenset[str], job: JobRow, ordinal: int, now: datetime
) -> None:
    """Makes a statement of the result behind one row of a run of the institution: it waits for a person.

    Args:
        conn: in a write transaction.
        origin: of this node.
        labels: classes that the institution knows beyond the vocabulary.
        job: whose result.
        ordinal: which row.
        now: when.
    """
    row = conn.execute(f"{_RESULTS} AND ju.ordinal = ?", (job.id, ordinal)).fetchone()
    if row is None or row["step"] in NOT_RELEASED:
        return
    iri = _keep(conn, row, job, origin=origin, labels=labels, asked=False, replaces=True, now=now)
    review.supersede_older(conn, iri, now=now)


def take_results(
    conn: sqlite3.Connection, *, origin: str, labels: frozenset[str], job: JobRow, after: int, limit: int, now: datetime
) -> tuple[int, int | None]:
    """Takes results of a job that did not ask for publication into the review; nothing becomes public by it.

    Args:
        conn: in a write transaction.
        origin: of this node.
        labels: classes that the institution knows beyond the vocabulary.
        job: whose results.
        after: row to begin behind.
        limit: most rows to look at.
        now: when.

    Returns:
        How many statements came to be, and the row to go on behind; None at the end.
    """
    rows = conn.execute(f"{_RESULTS} AND ju.ordinal > ? ORDER BY ju.ordinal LIMIT ?", (job.id, after, limit)).fetchall()
    before = conn.execute("SELECT count(*) FROM review").fetchone()[0]
    for row in rows:
        _keep(conn, row, job, origin=origin, labels=labels, asked=False, now=now)
    made = conn.execute("SELECT count(*) FROM review").fetchone()[0] - before
    return made, rows[-1]["ordinal"] if len(rows) == limit else None


def _keep(
    conn: sqlite3.Connection, row: sqlite3.Row, job: JobRow, *, origin: str, labels: frozenset[str], asked: bool,
    now: datetime, replaces: bool = False,
) -> str:  # fmt: skip
    """The IRI of the statement behind a row, which is made and checked when it is new."""
    iri = records.iri_of(
        origin, "annotation", records.mint_id(conn, "results", "annotation", f"{row['medium']}\0{row['work_key']}")
    )
    if reviews.get(conn, iri) is not None:
        return iri
    output = parse_output(row["step"], parse_json(bytes(row["body"])))
    step = next(item for item in job.steps if item.output == row["step"])
    document = build_annotation(
        iri=iri,
        medium=row["medium"],
        image=ContentId.from_hex(row["image"]),
        output=output,
        contract=row["step"],
        pipeline=row["pipeline"],
        pipeline_name=step.name,
        environment=row["environment"],
        conformance=row["verdict"] or "none",
        job=f"{origin}/jobs/{job.id}",
        answer=answer_of(output, None, step=row["step"]),
    )
    image, document = new_bytes.moved(conn, row["medium"], row["image"], document)
    statement = reviews.NewStatement(
        iri=iri, maker="machine", medium=row["medium"], image=image, output=row["step"],
        pipeline=row["pipeline"], environment=row["environment"], work_key=row["work_key"], job=job.id,
        document=document, summary=summarise(document), asked=asked,
    )  # fmt: skip
    reviews.add(conn, statement, _check(conn, row, iri, image, document, output, labels, replaces=replaces), now=now)
    return iri


def _check(
    conn: sqlite3.Connection, row: sqlite3.Row, iri: str, image: str, document: dict[str, Json], output: Output,
    labels: frozenset[str], *, replaces: bool,
) -> tuple[CheckFinding, ...]:  # fmt: skip
    medium = conn.execute("SELECT image, width, height, state FROM medium WHERE iri = ?", (row["medium"],)).fetchone()
    others = {item.iri: item for item in reviews.others_about(conn, row["medium"], row["step"], but=iri)}
    if replaces:  # an older version that says the same is replaced, not repeated
        for item in reviews.of_older_versions(
            conn, pipeline=row["pipeline"], medium=row["medium"], output=row["step"], image=image
        ):
            others.pop(item.iri, None)
    return check_statement(
        contract=row["step"],
        image=image,
        width=output.image.width,
        height=output.image.height,
        regions=regions_of(document),
        evidence=None
        if medium is None or medium["state"] != "active"
        else Evidence(image=medium["image"], width=medium["width"], height=medium["height"]),
        labels=labels,
        others={item.iri: regions_of(item.document) for item in others.values()},
        conformance=row["verdict"] or "none",
    )
