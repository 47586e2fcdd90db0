"""From a work result to a public annotation, when the job asks and the image allows it.

Invariants:
- Published only for a job that asked (``publish``) and whose policy decision covered that, and only when the medium
  is open, not sensitive, and still shows the bytes the result was made from: asked again in the same transaction.
- One annotation per (medium, output contract) is current; a newer one supersedes it.
- The annotation says what was read, not what was asked: no question of a researcher shows in it.
- Idempotent: the IRI is minted from medium and work key.
"""

import sqlite3
from datetime import datetime

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.annotation import build_annotation
from linkeddata.answers import answer_of
from linkeddata.json_strict import parse_json
from linkeddata.outputs import parse_output
from node.storage import annotations, records
from node.storage.facts import bytes_facts, record_facts
from node.storage.jobs import JobRow


def publish_result(
    conn: sqlite3.Connection, *, origin: str, job: JobRow, ordinal: int, now: datetime
) -> records.Published | None:
    """Publishes the result behind one row of a job; None when it may not be public."""
    row = conn.execute(
        """SELECT ju.medium, ju.specimen, ju.image, ju.step, u.work_key, u.body, u.pipeline, u.environment, c.verdict,
                  m.image AS current, m.state AS medium_state
           FROM job_unit ju JOIN unit u ON u.work_key = ju.work_key JOIN medium m ON m.iri = ju.medium
           LEFT JOIN conformance c ON c.pipeline = u.pipeline AND c.environment = u.environment
           WHERE ju.job_id = ? AND ju.ordinal = ? AND u.state = 'done'""",
        (job.id, ordinal),
    ).fetchone()
    if row is None or row["current"] != row["image"] or row["medium_state"] != "active" or row["verdict"] == "fail":
        return None
    image = ContentId.from_hex(row["image"])
    for facts in (bytes_facts(conn, image), record_facts(conn, row["specimen"])):
        if not facts.exists or facts.access is not AccessClass.OPEN or facts.sensitive:
            return None
    known = conn.execute(
        "SELECT iri FROM annotation WHERE medium = ? AND work_key = ? AND state = 'current'",
        (row["medium"], row["work_key"]),
    ).fetchone()
    if known is not None:
        return None
    output = parse_output(row["step"], parse_json(bytes(row["body"])))
    step = next(item for item in job.steps if item.output == row["step"])
    iri = records.iri_of(
        origin, "annotation", records.mint_id(conn, "results", "annotation", f"{row['medium']}\0{row['work_key']}")
    )
    document = build_annotation(
        iri=iri,
        medium=row["medium"],
        image=image,
        output=output,
        contract=row["step"],
        pipeline=row["pipeline"],
        pipeline_name=step.name,
        environment=row["environment"],
        conformance=row["verdict"] or "none",
        job=f"{origin}/jobs/{job.id}",
        answer=answer_of(output, None, step=row["step"]),
    )
    published = records.publish(
        conn, records.NewRecord(kind="annotation", iri=iri, body=document, access=AccessClass.OPEN), now=now
    )
    annotations.add(
        conn,
        annotations.AnnotationRow(
            iri=iri, medium=row["medium"], image=row["image"], output=row["step"], pipeline=row["pipeline"],
            environment=row["environment"], work_key=row["work_key"], job=job.id,
        ),
        now=now,
    )  # fmt: skip
    return published
