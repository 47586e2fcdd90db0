"""Deciding on many statements by a rule, and the random sample that says how often the rule is right.

A person looks at a sample first: each decision on one of its statements is a verdict (accepted: right; rejected or
corrected: wrong). The rule then decides on the rest, and the log keeps rule, seed, verdicts and estimate together.

Invariants:
- A sample is drawn from what waits and fits the rule, by a seed: the same seed over the same statements draws the same.
- A rule decides only with a sample of exactly this rule that is decided to the end.
- A rule never touches what a check blocks, nor what is decided already. Killed in the middle, the same command goes on.

It leaves out: single decisions (``node.services.review``), the interval (``linkeddata.precision``).
"""

import json
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from linkeddata.precision import Precision, wilson
from linkeddata.times import format_time
from node.services.review import ReviewError, decide_on
from node.storage import reviews
from node.storage.db import Database
from node.storage.reviews import Rule

BATCH: Final = 100
"""Decisions that share one transaction: other writers wait for so many."""
MAX_SAMPLE: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample and how far it is."""

    id: int
    rule: dict[str, object]
    seed: int
    size: int
    population: int
    """How many statements it was drawn from."""
    by: str
    at: str
    open: tuple[str, ...]
    """IRIs that nobody has decided on."""
    precision: Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """What a rule did."""

    action: int
    decided: int
    public: int
    """Of these, how many entries it made in the publication log."""
    sample: Sample


def draw_sample(conn: sqlite3.Connection, rule: Rule, *, size: int, seed: int, by: str, now: datetime) -> Sample:
    """Draws a sample from what waits and fits; in a write transaction.

    Raises:
        ReviewError: nothing fits, or the size is none.
    """
    if rule.pipeline is None:
        raise ReviewError("a sample is of one pipeline: give --pipeline")
    if not 1 <= size <= MAX_SAMPLE:
        raise ReviewError(f"a sample has 1 to {MAX_SAMPLE} statements")
    fitting = reviews.iris(conn, rule, state="pending")
    if not fitting:
        raise ReviewError("nothing that waits fits this rule")
    drawn = random.Random(seed).sample(fitting, min(size, len(fitting)))  # noqa: S311 - to be repeated, not secret
    found = conn.execute(
        "INSERT INTO review_sample (rule, seed, size, population, by, at) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        (json.dumps(rule.to_json(), sort_keys=True), seed, len(drawn), len(fitting), by, format_time(now)),
    ).fetchone()
    conn.executemany(
        "INSERT INTO review_sample_item VALUES (?, ?, ?, NULL)",
        [(found["id"], ordinal, iri) for ordinal, iri in enumerate(drawn, 1)],
    )
    reviews.log_action(
        conn, by=by, action="sample drawn", subject=f"sample {found['id']}", now=now,
        detail={"rule": rule.to_json(), "seed": seed, "size": len(drawn), "population": len(fitting)},
    )  # fmt: skip
    return get_sample(conn, int(found["id"]))


def get_sample(conn: sqlite3.Connection, number: int) -> Sample:
    """A sample with its estimate so far.

    Raises:
        ReviewError: there is none of this number.
    """
    row = conn.execute("SELECT * FROM review_sample WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise ReviewError(f"there is no sample {number}")
    items = conn.execute(
        "SELECT iri, verdict FROM review_sample_item WHERE sample = ? ORDER BY ordinal", (number,)
    ).fetchall()
    right = sum(item["verdict"] == "right" for item in items)
    return Sample(
        id=number, rule=json.loads(row["rule"]), seed=row["seed"], size=row["size"], population=row["population"],
        by=row["by"], at=row["at"], open=tuple(item["iri"] for item in items if item["verdict"] is None),
        precision=wilson(right, sum(item["verdict"] is not None for item in items)),
    )  # fmt: skip


def list_samples(conn: sqlite3.Connection) -> list[Sample]:
    """Every sample, newest first."""
    rows = conn.execute("SELECT id FROM review_sample ORDER BY id DESC").fetchall()
    return [get_sample(conn, row["id"]) for row in rows]


def decide_by_rule(
    database: Database, rule: Rule, decision: Literal["accepted", "rejected"], *, sample: int, by: str, reason: str,
    clock: Callable[[], datetime], progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> RuleOutcome:  # fmt: skip
    """Decides on everything that waits and fits.

    Raises:
        ReviewError: the sample is of another rule, or not decided to the end.
    """
    with database.transaction() as conn:
        found = get_sample(conn, sample)
        if found.rule != rule.to_json():
            raise ReviewError(f"sample {sample} is of another rule: {json.dumps(found.rule, ensure_ascii=False)}")
        if found.open:
            raise ReviewError(f"{len(found.open)} of {found.size} statements of sample {sample} are not decided yet")
        todo = reviews.iris(conn, rule, state="pending")
        action = reviews.log_action(
            conn, by=by, action=f"{decision} by rule", subject=f"sample {sample}", now=clock(),
            detail={
                "rule": rule.to_json(), "reason": reason, "statements": len(todo), "sample": sample, "seed": found.seed,
                "size": found.size, "population": found.population, "right": found.precision.right,
                "precision": f"{found.precision.estimate:.4f}", "low": f"{found.precision.low:.4f}",
                "high": f"{found.precision.high:.4f}",
            },
        )  # fmt: skip
    decided = public = 0
    for start in range(0, len(todo), BATCH):
        with database.transaction() as conn:
            for iri in todo[start : start + BATCH]:
                row = reviews.get(conn, iri)
                if row is None or row.state != "pending":
                    continue  # somebody decided meanwhile
                try:
                    outcome = decide_on(conn, iri, decision, by=by, reason=reason, now=clock(), action=action)
                except ReviewError:
                    continue  # replaced, retracted or withdrawn meanwhile
                decided += 1
                public += outcome.seq is not None
        progress(min(start + BATCH, len(todo)), len(todo))
    return RuleOutcome(action=action, decided=decided, public=public, sample=found)
