"""Taking back a whole run: every statement and every result row that a pipeline made, in one command, and undoing it.

Order, and what a kill leaves: the plan is durable first, one row per statement and result row; then they are withdrawn
in batches, each with its mark in the same transaction. Whoever finds a retraction that is not finished, the next
command or a serving node, goes on with it. Undoing is the same walk backwards.

Invariants:
- Every item is withdrawn once and brought back once, however often the walk is begun again, and by however many.
- Public statements leave a tombstone in the publication log; undone, they come back as a new version (Create), if the
  image may still be shown. What a person corrected is the person's, and stays.
- Result rows become "cannot tell", with the reason; undone, they get exactly the answer that they had.
- What composed pipelines made of the results is taken back with them.
- Later jobs do not get a retracted result again (``is_retracted``), nor one that was made from it, unless only one job
  was retracted.
- Decisions of people are kept: what was accepted before is accepted after undoing.

It leaves out: the images (``node.services.withdraw``), stopping a pipeline (``[jobs] pipelines`` in node.toml).
"""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from linkeddata.selection import Selection
from linkeddata.times import format_time
from node.access import STAFF
from node.services import review
from node.storage import corrections, reviews
from node.storage.db import Database
from node.storage.search_media import select_media

BATCH: Final = 200
"""Items that share one transaction; bounds how long other writers wait."""
RETRACTED: Final = "retracted: the institution took this run back"
Progress = Callable[[int, int], None]


class RetractError(Exception):
    """It cannot be taken back or undone as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSelection:
    """Which run."""

    pipeline: str
    job: str | None = None
    where: Selection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetractionPlan:
    """What would be taken back."""

    statements: int
    public: int
    accepted: int
    corrected: int
    """Statements that a person corrected: the corrections stay."""
    rows: int
    jobs: int
    open_units: int
    """Units of this pipeline that are still to be computed: they are not covered."""
    composed: tuple[str, ...] = ()
    """Names of pipelines that took its results: what they made of them is covered too."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take back."""
        return not (self.statements or self.rows)


def plan_retraction(conn: sqlite3.Connection, run: RunSelection) -> RetractionPlan:
    """What a retraction would cover; changes nothing."""
    statements, rows, params = _queries(conn, run)
    found = conn.execute(
        f"""SELECT count(*) AS statements, coalesce(sum(state = 'accepted'), 0) AS accepted,
                   coalesce(sum(superseded_by IS NOT NULL), 0) AS corrected, coalesce(sum(public), 0) AS public
            FROM ({statements})""",  # noqa: S608 - our own words
        params,
    ).fetchone()
    jobs = conn.execute(f"SELECT count(*) AS rows, count(DISTINCT job_id) AS jobs FROM ({rows})", params).fetchone()  # noqa: S608
    waiting = conn.execute(
        "SELECT count(*) FROM unit WHERE pipeline = ? AND state IN ('queued', 'leased')", (run.pipeline,)
    ).fetchone()
    return RetractionPlan(
        statements=found["statements"], public=found["public"], accepted=found["accepted"],
        corrected=found["corrected"], rows=jobs["rows"], jobs=jobs["jobs"], open_units=waiting[0],
        composed=tuple(name for digest, name in _made_from(conn, run.pipeline).items() if digest != run.pipeline),
    )  # fmt: skip


def begin_retraction(conn: sqlite3.Connection, run: RunSelection, *, reason: str, by: str, now: datetime) -> int:
    """Writes the plan; from here on it will be carried out, whatever happens. Returns its number.

    Raises:
        RetractError: there is nothing to take back.
    """
    plan = plan_retraction(conn, run)
    if plan.is_empty:
        raise RetractError("nothing here was made by that run, or it was taken back already")
    selection = "" if run.where is None else run.where.to_text()
    number = int(
        conn.execute(
            """INSERT INTO retraction (pipeline, job, selection, reason, by, at, state)
               VALUES (?, ?, ?, ?, ?, ?, 'retracting') RETURNING id""",
            (run.pipeline, run.job, selection, reason, by, format_time(now)),
        ).fetchone()["id"]
    )
    statements, rows, params = _queries(conn, run)
    params["number"] = number
    conn.execute(
        f"INSERT INTO retraction_annotation SELECT :number, iri, public, 0 FROM ({statements})",  # noqa: S608
        params,
    )
    conn.execute(
        f"INSERT INTO retraction_row SELECT :number, job_id, ordinal, work_key, answer, reason, 0 FROM ({rows})",  # noqa: S608
        params,
    )
    reviews.log_action(
        conn, by=by, action="retracted", subject=f"retraction {number}", now=now,
        detail={"pipeline": run.pipeline, "job": run.job, "where": selection, "reason": reason,
                "statements": plan.statements, "public": plan.public, "rows": plan.rows},
    )  # fmt: skip
    return number


def begin_undo(conn: sqlite3.Connection, number: int, *, by: str, now: datetime) -> None:
    """Turns a retraction around; what is withdrawn so far comes back.

    Raises:
        RetractError: there is none, or it is undone already.
    """
    row = conn.execute("SELECT state FROM retraction WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise RetractError(f"there is no retraction {number}: `vasculum retract NODE_DIR --list` shows them")
    if row["state"] == "undone":
        raise RetractError(f"retraction {number} is undone already")
    if row["state"] != "undoing":
        conn.execute("UPDATE retraction SET state = 'undoing', finished = NULL WHERE id = ?", (number,))
        reviews.log_action(conn, by=by, action="retraction undone", subject=f"retraction {number}", detail={}, now=now)


def carry_on(
    database: Database, number: int, *, clock: Callable[[], datetime], progress: Progress = lambda _done, _total: None,
    batch: int = BATCH,
) -> None:  # fmt: skip
    """Finishes a retraction, or its undoing. Safe to repeat after a kill at any point, and beside a server."""
    with database.reader(limit_s=None) as conn:
        total = sum(
            conn.execute(f"SELECT count(*) FROM {table} WHERE retraction = ?", (number,)).fetchone()[0]  # noqa: S608
            for table in ("retraction_annotation", "retraction_row")
        )
    done = 0
    while True:
        with database.transaction() as conn:
            count = _step(conn, number, limit=batch, now=clock())
        done += count
        progress(min(done, total), total)
        if not count:
            return


def finish_begun(database: Database, *, clock: Callable[[], datetime]) -> int:
    """Goes on with everything that was interrupted; returns how many there were."""
    with database.reader() as conn:
        open_ones = [
            row["id"]
            for row in conn.execute("SELECT id FROM retraction WHERE state IN ('retracting', 'undoing') ORDER BY id")
        ]
    for number in open_ones:
        carry_on(database, number, clock=clock)
    return len(open_ones)


def is_retracted(conn: sqlite3.Connection, work_key: str) -> bool:
    """Whether a result was taken back as such, and not only from one job."""
    return _retraction_of(conn, work_key) is not None


def _retraction_of(conn: sqlite3.Connection, work_key: str) -> sqlite3.Row | None:
    """The retraction that covers a result, or one of those that it was made from."""
    row: sqlite3.Row | None = conn.execute(
        """WITH RECURSIVE taken (work_key) AS (
             VALUES (?) UNION SELECT n.upstream FROM unit_need n JOIN taken ON n.work_key = taken.work_key)
           SELECT t.id, t.reason FROM taken JOIN retraction_row x ON x.work_key = taken.work_key
           JOIN retraction t ON t.id = x.retraction
           WHERE t.job IS NULL AND t.state IN ('retracting', 'retracted') ORDER BY t.id LIMIT 1""",
        (work_key,),
    ).fetchone()
    return row


def withhold_row(
    conn: sqlite3.Connection, job_id: str, ordinal: int, work_key: str, *, answer: str, reason: str
) -> None:  # fmt: skip
    """A later job met a result that was taken back: its row is withheld like the others, and comes back with them."""
    run = _retraction_of(conn, work_key)
    assert run is not None  # ``is_retracted`` said so in this transaction
    conn.execute(
        "INSERT OR IGNORE INTO retraction_row VALUES (?, ?, ?, ?, ?, ?, 0)",
        (run["id"], job_id, ordinal, work_key, answer, reason or None),
    )
    row = conn.execute(
        "SELECT * FROM retraction_row WHERE retraction = ? AND job_id = ? AND ordinal = ?", (run["id"], job_id, ordinal)
    ).fetchone()
    _set_row(conn, row, run["reason"], is_undoing=False)


def list_retractions(conn: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every retraction with how far it is, newest first."""
    rows = conn.execute(
        """SELECT t.*, (SELECT count(*) FROM retraction_annotation a WHERE a.retraction = t.id) AS statements,
                  (SELECT count(*) FROM retraction_row r WHERE r.retraction = t.id) AS rows
           FROM retraction t ORDER BY t.id DESC"""
    )
    return [dict(row) for row in rows.fetchall()]


def _step(conn: sqlite3.Connection, number: int, *, limit: int, now: datetime) -> int:
    """One batch, in one transaction; 0 when nothing is left."""
    run = conn.execute("SELECT * FROM retraction WHERE id = ?", (number,)).fetchone()
    if run is None or run["state"] in ("retracted", "undone"):
        return 0
    is_undoing = run["state"] == "undoing"
    items = conn.execute(
        "SELECT * FROM retraction_annotation WHERE retraction = ? AND done = ? ORDER BY iri LIMIT ?",
        (number, int(is_undoing), limit),
    ).fetchall()
    for item in items:
        if is_undoing:
            _bring_back(conn, item["iri"], number, was_public=bool(item["was_public"]), now=now)
        else:
            _withdraw(conn, item["iri"], number, run["reason"], now=now)
        conn.execute(
            "UPDATE retraction_annotation SET done = ? WHERE retraction = ? AND iri = ?",
            (int(not is_undoing), number, item["iri"]),
        )
    rows = conn.execute(
        "SELECT * FROM retraction_row WHERE retraction = ? AND done = ? ORDER BY job_id, ordinal LIMIT ?",
        (number, int(is_undoing), limit - len(items)),
    ).fetchall()
    for row in rows:
        _set_row(conn, row, run["reason"], is_undoing=is_undoing)
    if not items and not rows:
        conn.execute(
            "UPDATE retraction SET state = ?, finished = ? WHERE id = ?",
            ("undone" if is_undoing else "retracted", format_time(now), number),
        )
    return len(items) + len(rows)


def _withdraw(conn: sqlite3.Connection, iri: str, number: int, reason: str, *, now: datetime) -> None:
    conn.execute("UPDATE review SET retraction = ? WHERE iri = ?", (number, iri))
    review.bring_back(conn, iri, now=now)
    review.unpublish(conn, iri, f"retracted by the institution: {reason}", now=now)
    corrections.withdraw(conn, iri, now=now)


def _bring_back(conn: sqlite3.Connection, iri: str, number: int, *, was_public: bool, now: datetime) -> None:
    conn.execute("UPDATE review SET retraction = NULL WHERE iri = ? AND retraction = ?", (iri, number))
    row = reviews.get(conn, iri)
    if row is None or row.retraction is not None:
        return
    published = review.publish_again(conn, row, now=now) if was_public else None
    if row.state == "accepted" and row.superseded_by is None:
        corrections.propose(conn, row, seq=published.seq if published else None, now=now)


def _set_row(conn: sqlite3.Connection, row: sqlite3.Row, reason: str, *, is_undoing: bool) -> None:
    place = {"job": row["job_id"], "ordinal": row["ordinal"], "why": f"{RETRACTED} ({reason})"}
    if is_undoing:
        conn.execute(
            """UPDATE job_unit SET answer = :answer, reason = :reason, withheld = NULL
               WHERE job_id = :job AND ordinal = :ordinal AND withheld = :why""",
            {**place, "answer": row["answer"], "reason": row["reason"]},
        )
    else:
        conn.execute(
            """UPDATE job_unit SET answer = 'cannot tell', reason = :why, withheld = :why
               WHERE job_id = :job AND ordinal = :ordinal AND withheld IS NULL""",
            place,
        )
    conn.execute(
        "UPDATE retraction_row SET done = ? WHERE retraction = ? AND job_id = ? AND ordinal = ?",
        (int(not is_undoing), row["retraction"], row["job_id"], row["ordinal"]),
    )


def _made_from(conn: sqlite3.Connection, digest: str) -> dict[str, str]:
    """A pipeline and those that take its results, directly or not: digest -> name."""
    rows = conn.execute("SELECT digest, name, manifest FROM pipeline WHERE manifest IS NOT NULL").fetchall()
    takes = {row["digest"]: (row["name"], set(json.loads(row["manifest"])["upstream"])) for row in rows}
    found = {digest: takes[digest][0] if digest in takes else ""}
    while more := {key: name for key, (name, upstream) in takes.items() if key not in found and upstream & set(found)}:
        found |= more
    return found


def _queries(conn: sqlite3.Connection, run: RunSelection) -> tuple[str, str, dict[str, Any]]:
    """Statements and result rows of a run that are not taken back yet, as queries with their parameters."""
    digests = json.dumps(sorted(_made_from(conn, run.pipeline)))
    params: dict[str, Any] = {"pipelines": digests, "job": run.job, "media": None}
    if run.where is not None:
        params["media"] = json.dumps(sorted({item.medium for item in select_media(conn, run.where, STAFF)}))
    statements = """
      SELECT v.iri, v.state, v.superseded_by,
             coalesce((SELECT r.published FROM record r WHERE r.iri = v.iri), 0) AS public
      FROM review v WHERE v.pipeline IN (SELECT value FROM json_each(:pipelines)) AND v.maker = 'machine'
        AND v.retraction IS NULL AND (:job IS NULL OR v.job = :job)
        AND (:media IS NULL OR v.medium IN (SELECT value FROM json_each(:media)))"""
    rows = """
      SELECT ju.job_id, ju.ordinal, ju.work_key, ju.answer, ju.reason
      FROM job_unit ju JOIN unit u ON u.work_key = ju.work_key
      WHERE u.pipeline IN (SELECT value FROM json_each(:pipelines)) AND u.state = 'done'
        AND ju.answer IS NOT NULL AND ju.withheld IS NULL
        AND (:job IS NULL OR ju.job_id = :job)
        AND (:media IS NULL OR ju.medium IN (SELECT value FROM json_each(:media)))"""
    return statements, rows, params
