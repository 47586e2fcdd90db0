"""Deciding on statements about images: accept, reject, correct; and what the public sees of each.

What the public sees (docs/adr/0013):

| state | its job asked, the policy agreed, the image is open | otherwise |
|---|---|---|
| pending | public, says *Pending* | staff only |
| accepted | public, says *Approved* | public once a person accepted it and the image is open; else staff only |
| rejected | withdrawn: a tombstone | staff only |

Invariants:
- A decision, its entry in the log of staff actions, and what it does to public records, search and corrections are one
  transaction.
- Nothing about an image that is not open, is sensitive, or is not the image any more becomes public by any decision;
  nor does a statement with a finding that blocks.
- A new pending statement never takes the place of an accepted one: it waits beside it until somebody decides.
- A correction is a new statement that supersedes; the old one stays, and says by what it was replaced.
- The public document never says which person decided.

It leaves out: samples and rules (``node.services.review_rules``), whole runs (``node.services.retract``).
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json
from linkeddata.records import build_tombstone
from linkeddata.statement import corrected, summarise, with_decision, with_successor
from linkeddata.times import parse_time
from node.config import Settings
from node.storage import annotations, corrections, records, reviews
from node.storage.facts import bytes_facts, record_facts
from node.storage.reviews import ReviewRow

REJECTED = "rejected in review by the institution"


class ReviewError(Exception):
    """It cannot be decided as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a decision did."""

    iri: str
    state: str
    seq: int | None
    """Its entry in the publication log; None when there was nothing to say in public."""
    hidden_because: str = ""
    """Why an accepted statement is not public; empty when it is."""


def find_statement(conn: sqlite3.Connection, origin: str, text: str) -> ReviewRow:
    """A statement by its IRI, its id, or at least six letters of the beginning of its id.

    Raises:
        ReviewError: there is none, or there are several.
    """
    name = text.removeprefix(f"{origin}/annotation/").removeprefix("/annotation/")
    base = f"{origin}/annotation/"
    rows = conn.execute(
        "SELECT iri FROM review WHERE iri = :whole OR (:long AND substr(iri, 1, length(:whole)) = :whole) LIMIT 2",
        {"whole": base + name, "long": len(name) >= 6},
    ).fetchall()
    found = reviews.get(conn, rows[0]["iri"]) if len(rows) == 1 else None
    if found is None:
        raise ReviewError(f"there is no statement {text!r}" if not rows else f"{text!r} fits several statements")
    return found


def decide_on(
    conn: sqlite3.Connection, iri: str, decision: Literal["accepted", "rejected"], *, by: str, reason: str,
    now: datetime, action: int | None = None,
) -> Decided:  # fmt: skip
    """Accepts or rejects one statement; the same again changes nothing, but publishes what may be public by now.

    Args:
        conn: in a write transaction.
        iri: which.
        decision: what.
        by: who, for the log.
        reason: for the log.
        now: when.
        action: the entry of the log that this is part of (a rule); None: it gets its own.

    Raises:
        ReviewError: there is none, or it cannot be decided on any more.
    """
    row = reviews.get(conn, iri)
    if row is None:
        raise ReviewError(f"there is no statement {iri}")
    _check_live(conn, row)
    if row.state == decision:
        why = hidden_because(conn, row)
        opened = decision == "accepted" and not why and not is_public(conn, iri)
        again = publish(conn, row, now=now) if opened else None
        return Decided(iri=iri, state=decision, seq=again.seq if again else None, hidden_because=why)
    if action is None:
        action = reviews.log_action(
            conn, by=by, action=decision, subject=iri, detail={"reason": reason, "was": row.state}, now=now
        )
    reviews.set_decision(conn, iri, decision, by=by, reason=reason, action=action, now=now)
    _give_verdict(conn, iri, "right" if decision == "accepted" else "wrong")
    row = reviews.get(conn, iri)
    assert row is not None  # it was just written
    if decision == "accepted":
        if row.supersedes is not None:
            _replace(conn, row.supersedes, iri, now=now)
        published = publish(conn, row, now=now)
        corrections.propose(conn, row, seq=published.seq if published else None, now=now)
        return Decided(
            iri=iri, state=decision, seq=published.seq if published else None, hidden_because=hidden_because(conn, row)
        )
    if row.supersedes is not None:
        _bring_back(conn, row.supersedes, iri, now=now)
    seq = unpublish(conn, iri, REJECTED, now=now)
    corrections.withdraw(conn, iri, now=now)
    return Decided(iri=iri, state=decision, seq=seq)


def correct(
    conn: sqlite3.Connection, settings: Settings, iri: str, *, texts: Mapping[int, str], values: Mapping[str, str],
    specimen: str | None, by: str, reason: str, now: datetime,
) -> Decided:  # fmt: skip
    """Makes a correction: a new, accepted statement that supersedes this one.

    Raises:
        ReviewError: it cannot be corrected as asked.
    """
    old = reviews.get(conn, iri)
    if old is None:
        raise ReviewError(f"there is no statement {iri}")
    _check_live(conn, old)
    shown = {
        row["specimen"] for row in conn.execute("SELECT specimen FROM medium_specimen WHERE medium = ?", (old.medium,))
    }
    if specimen is not None and specimen not in shown:
        raise ReviewError(f"the image does not show {specimen}")
    if values and specimen is None and len(shown) > 1:
        raise ReviewError(f"the image shows {len(shown)} specimens: say with --specimen which one has the value")
    number = conn.execute("SELECT count(*) FROM review WHERE supersedes = ?", (iri,)).fetchone()[0]
    name = records.mint_id(conn, "corrections", "annotation", f"{iri}\0{number}")
    new_iri = records.iri_of(settings.origin, "annotation", name)
    try:
        document = corrected(
            old.document, iri=new_iri, corrector=settings.node.name, texts=texts, values=values, specimen=specimen
        )
    except DocumentError as error:
        raise ReviewError(str(error)) from error
    statement = reviews.NewStatement(
        iri=new_iri, maker="person", medium=old.medium, image=old.image, output=old.output, pipeline=old.pipeline,
        environment=old.environment, work_key=old.work_key, job=old.job, document=document,
        summary=summarise(document), asked=old.asked, supersedes=iri,
    )  # fmt: skip
    reviews.add(conn, statement, reviews.findings_of(conn, iri), now=now)
    action = reviews.log_action(
        conn, by=by, action="corrected", subject=iri, now=now,
        detail={"reason": reason, "by": new_iri, "lines": {str(key): text for key, text in texts.items()},
                "values": dict(values)},
    )  # fmt: skip
    _give_verdict(conn, iri, "wrong")
    reviews.set_decision(conn, new_iri, "accepted", by=by, reason=reason, action=action, now=now)
    _replace(conn, iri, new_iri, now=now)
    row = reviews.get(conn, new_iri)
    assert row is not None  # it was just written
    published = publish(conn, row, now=now)
    corrections.propose(conn, row, seq=published.seq if published else None, now=now)
    return Decided(
        iri=new_iri,
        state="accepted",
        seq=published.seq if published else None,
        hidden_because=hidden_because(conn, row),
    )


def publish(conn: sqlite3.Connection, row: ReviewRow, *, now: datetime) -> records.Published | None:
    """Says a statement in public and makes it the current one, where that may be; None where it may not."""
    if hidden_because(conn, row):
        return None
    published = records.publish(
        conn,
        records.NewRecord(
            kind="annotation", iri=row.iri, body=with_decision(row.document, row.state, _time(row.at)),
            access=AccessClass.OPEN,
        ),
        now=now,
    )  # fmt: skip
    annotations.add(
        conn,
        annotations.AnnotationRow(
            iri=row.iri, medium=row.medium, image=row.image, output=row.output, pipeline=row.pipeline,
            environment=row.environment, work_key=row.work_key, job=row.job,
        ),
        now=now,
    )  # fmt: skip
    return published


def publish_again(conn: sqlite3.Connection, row: ReviewRow, *, now: datetime) -> records.Published | None:
    """Says a statement again that was public before: as the current one, or as the one that a correction replaced."""
    if row.superseded_by is None:
        return publish(conn, row, now=now)
    if hidden_because(conn, row):
        return None
    said = with_successor(with_decision(row.document, row.state, _time(row.at)), row.superseded_by)
    return _say_again(conn, row.iri, said, now=now)


def unpublish(conn: sqlite3.Connection, iri: str, why: str, *, now: datetime) -> int | None:
    """Leaves a tombstone where a statement was public, and what stood before it is current again; its log entry."""
    body = build_tombstone(iri=iri, kind="annotation", reason=why, at=now)
    done = records.tombstone(conn, iri, body, now=now)
    annotations.step_back(conn, iri)
    return None if done is None else done.seq


def hidden_because(conn: sqlite3.Connection, row: ReviewRow) -> str:
    """Why the public does not see this statement; empty when it may."""
    if row.state == "rejected":
        return "it was rejected"
    if row.retraction is not None:
        return "its run was retracted"
    if row.state == "pending" and not row.asked:
        return "its job did not ask for public annotations: a person has to accept it"
    found = next((item for item in reviews.findings_of(conn, row.iri) if item.blocks), None)
    if found is not None:
        return f"{found.code}: {found.message}"
    medium = conn.execute("SELECT image, state FROM medium WHERE iri = ?", (row.medium,)).fetchone()
    if medium is None or medium["state"] != "active" or medium["image"] != row.image:
        return "the medium does not show this image any more"
    specimens = conn.execute("SELECT specimen FROM medium_specimen WHERE medium = ?", (row.medium,)).fetchall()
    for facts in (
        bytes_facts(conn, ContentId.from_hex(row.image)), *(record_facts(conn, item["specimen"]) for item in specimens)
    ):  # fmt: skip
        if not facts.exists or facts.access is not AccessClass.OPEN:
            return "the image is not open"
        if facts.sensitive:
            return "the specimen is of a sensitive taxon"
    if row.state == "pending" and row.superseded_by is None:
        standing = conn.execute(
            f"""SELECT v.iri FROM annotation a JOIN review v ON v.iri = a.iri JOIN record r ON r.iri = a.iri
               WHERE a.medium = ? AND {annotations.CLAIM} = ? AND a.iri <> ? AND a.state = 'current'
                 AND v.state = 'accepted' AND r.state = 'active'""",  # noqa: S608 - a constant
            (row.medium, annotations.claim_of(conn, row.output, row.pipeline), row.iri),
        ).fetchone()
        if standing is not None:
            return f"an accepted statement stands: {standing['iri']}"
    return ""


def is_public(conn: sqlite3.Connection, iri: str) -> bool:
    """Whether the publication log says that it is there."""
    row = conn.execute("SELECT published FROM record WHERE iri = ? AND state = 'active'", (iri,)).fetchone()
    return row is not None and bool(row["published"])


def supersede_older(conn: sqlite3.Connection, iri: str, *, now: datetime) -> list[str]:
    """A statement of a new version of a pipeline takes the place of what older versions said about the same image.

    What waits is superseded at once, and the new one is public where the old one was. What a person accepted stands
    until somebody accepts the new one; what was rejected stays so.

    Returns:
        IRIs of those that it replaced.
    """
    new = reviews.get(conn, iri)
    if new is None or new.supersedes is not None:
        return []
    replaced: list[str] = []
    for old in reviews.of_older_versions(
        conn, pipeline=new.pipeline, medium=new.medium, output=new.output, image=new.image
    ):
        if old.state == "rejected":
            continue
        conn.execute("UPDATE review SET supersedes = ?, asked = max(asked, ?) WHERE iri = ?", (old.iri, old.asked, iri))
        if old.state == "accepted":
            continue
        current = reviews.get(conn, iri)
        assert current is not None  # it was just written
        if is_public(conn, old.iri):
            publish(conn, current, now=now)
        _replace(conn, old.iri, iri, now=now)
        replaced.append(old.iri)
    return replaced


def bring_back(conn: sqlite3.Connection, iri: str, *, now: datetime) -> None:
    """The run that made this statement was taken back: what it replaced stands again."""
    row = reviews.get(conn, iri)
    if row is not None and row.supersedes is not None and row.maker == "machine":
        _bring_back(conn, row.supersedes, iri, now=now)


def _replace(conn: sqlite3.Connection, iri: str, successor: str, *, now: datetime) -> None:
    """A correction takes the place of a statement: it stays where it is public, and says so; its values go."""
    old = reviews.get(conn, iri)
    if old is None or old.superseded_by == successor:
        return
    if old.superseded_by is not None:
        raise ReviewError(f"{iri} was corrected otherwise meanwhile: {old.superseded_by}")
    conn.execute("UPDATE review SET superseded_by = ? WHERE iri = ?", (successor, iri))
    corrections.withdraw(conn, iri, now=now)
    if is_public(conn, iri):
        _say_again(conn, iri, with_successor(with_decision(old.document, old.state, _time(old.at)), successor), now=now)
        annotations.step_back(conn, iri)


def _bring_back(conn: sqlite3.Connection, iri: str, successor: str, *, now: datetime) -> None:
    """A correction was rejected: what it replaced stands again."""
    freed = conn.execute(
        "UPDATE review SET superseded_by = NULL WHERE iri = ? AND superseded_by = ?", (iri, successor)
    ).rowcount
    if not freed:
        return
    old = reviews.get(conn, iri)
    if old is None or old.superseded_by is not None:
        return
    if is_public(conn, iri):
        _say_again(conn, iri, with_decision(old.document, old.state, _time(old.at)), now=now)
    if old.state == "accepted" and old.retraction is None:
        corrections.propose(conn, old, seq=None, now=now)


def _say_again(conn: sqlite3.Connection, iri: str, body: dict[str, Json], *, now: datetime) -> records.Published:
    return records.publish(
        conn, records.NewRecord(kind="annotation", iri=iri, body=body, access=AccessClass.OPEN), now=now
    )


def _check_live(conn: sqlite3.Connection, row: ReviewRow) -> None:
    if row.retraction is not None:
        raise ReviewError(f"{row.iri}: its run was retracted (retraction {row.retraction})")
    if row.superseded_by is not None:
        raise ReviewError(f"{row.iri} was corrected: decide on {row.superseded_by}")
    medium = conn.execute("SELECT image, state FROM medium WHERE iri = ?", (row.medium,)).fetchone()
    if medium is None or medium["state"] != "active" or medium["image"] != row.image:
        raise ReviewError(f"{row.iri}: the image that it is about was replaced or withdrawn")


def _give_verdict(conn: sqlite3.Connection, iri: str, verdict: str) -> None:
    """A decision on a single statement is the verdict of every sample that holds it."""
    conn.execute("UPDATE review_sample_item SET verdict = ? WHERE iri = ?", (verdict, iri))


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)
