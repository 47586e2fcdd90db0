"""Taking a whole run back and bringing it back: records, search, result rows, later jobs; and kills in the middle."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW
from federation_world import MANIFEST
from kill_harness import finish, start
from review_world import NEWER, ReviewWorld, line, review_world, text_result

from linkeddata.selection import parse_where
from node.cli.main import run
from node.folder import NodeFolder
from node.services import retract, review
from node.services.annotate import take_results
from node.services.retract import RetractError, RunSelection
from node.storage import jobs as job_store
from node.storage.db import Database

Make = Callable[..., NodeFolder]
RUN = RunSelection(pipeline=MANIFEST.digest)


@pytest.fixture
def world(make_node: Make, tmp_path: Path) -> ReviewWorld:
    return review_world(make_node, tmp_path)


def take_back(world: ReviewWorld, run_of: RunSelection = RUN) -> int:
    with world.node.database.transaction() as conn:
        number = retract.begin_retraction(conn, run_of, reason="reads stamps as dates", by="anna", now=world.now)
    retract.carry_on(world.node.database, number, clock=world.clock, batch=3)
    return number


def undo(world: ReviewWorld, number: int) -> None:
    with world.node.database.transaction() as conn:
        retract.begin_undo(conn, number, by="anna", now=world.now)
    retract.carry_on(world.node.database, number, clock=world.clock, batch=3)


def plan(world: ReviewWorld, run_of: RunSelection = RUN) -> retract.RetractionPlan:
    with world.node.database.reader() as conn:
        return retract.plan_retraction(conn, run_of)


async def test_a_run_is_taken_back_and_brought_back_as_it_was(world: ReviewWorld) -> None:
    job_id = await world.run_job({0: text_result(line("Martii")), 1: text_result(line("Closed"))})
    iri, hidden = world.statement(0).iri, world.statement(1).iri
    with world.node.database.transaction() as conn:
        review.decide_on(conn, iri, "accepted", by="anna", reason="", now=NOW)
    before = await world.results(job_id)
    body_before = (world.record(iri) or ("", 0, {}))[2]
    found = plan(world)
    assert (found.statements, found.public, found.accepted, found.rows, found.jobs) == (6, 5, 1, 6, 1)
    assert world.log(iri) == ["Create", "Update"], "a plan changes nothing"

    number = take_back(world)
    state, _, body = world.record(iri) or ("", 0, {})
    assert state == "tombstone"
    assert (
        body["ods:hasTombstoneMetadata"]["ods:tombstoneText"] == "retracted by the institution: reads stamps as dates"
    )
    assert world.finds("Martii") == 0
    assert world.log(iri) == ["Create", "Update", "Delete"]
    assert world.log(hidden) == []
    rows = await world.results(job_id)
    assert {row["answer"] for row in rows} == {"cannot tell"}
    assert {row["reason"] for row in rows} == {"retracted: the institution took this run back (reads stamps as dates)"}
    assert "Martii" not in json.dumps(rows)
    assert world.waiting() == 0
    with world.node.database.reader() as conn, pytest.raises(review.ReviewError, match="retracted"):
        review.decide_on(conn, iri, "rejected", by="anna", reason="", now=NOW)
    with pytest.raises(RetractError, match="taken back already"):
        take_back(world)

    undo(world, number)
    assert await world.results(job_id) == before
    assert world.finds("Martii") == 1
    assert world.log(iri) == ["Create", "Update", "Delete", "Create"]
    body_after = (world.record(iri) or ("", 0, {}))[2]
    times = ("ods:version", "dcterms:modified")
    assert {k: v for k, v in body_after.items() if k not in times} == {
        k: v for k, v in body_before.items() if k not in times
    }
    assert body_after["ods:version"] == body_before["ods:version"] + 2
    assert world.again(iri).state == "accepted"
    assert world.record(hidden) is None, "what was not public does not become so"
    with pytest.raises(RetractError, match="undone already"):
        undo(world, number)
    take_back(world)
    assert world.finds("Martii") == 0


async def test_later_jobs_do_not_get_it_again_until_it_is_undone(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Martii"))})
    number = take_back(world)
    later = await world.run_job({})
    assert {row["answer"] for row in await world.results(later)} == {"cannot tell"}
    assert world.finds("Martii") == 0
    undo(world, number)
    assert [row["answer"] for row in await world.results(later)].count("yes") == 1


async def test_results_that_were_taken_back_are_not_taken_into_the_review(world: ReviewWorld) -> None:
    job_id = await world.run_job({0: text_result(line("Martii"))}, publish=False)
    take_back(world)
    with world.node.database.transaction() as conn:
        job = job_store.get(conn, job_id)
        assert job is not None
        made, _ = take_results(
            conn, origin=world.node.settings.origin, labels=frozenset(), job=job, after=0, limit=100, now=NOW
        )
    assert made == 0


async def test_one_job_or_some_specimens_only(world: ReviewWorld) -> None:
    first = await world.run_job({0: text_result(line("Martii")), 2: text_result(line("Second"))})
    second = await world.run_job({})
    number = take_back(world, RunSelection(pipeline=MANIFEST.digest, job=second))
    assert {row["answer"] for row in await world.results(second)} == {"cannot tell"}
    assert "yes" in {row["answer"] for row in await world.results(first)}
    assert world.finds("Martii") == 1, "the statements are those of the first job"
    third = await world.run_job({})
    assert "yes" in {row["answer"] for row in await world.results(third)}, "only one job was taken back"
    undo(world, number)
    take_back(world, RunSelection(pipeline=MANIFEST.digest, where=parse_where("catalogNumber=X-2")))
    assert world.finds("Second") == 0
    assert world.finds("Martii") == 1
    assert [row["answer"] for row in await world.results(first)].count("cannot tell") == 1


async def test_what_a_person_corrected_stays_and_what_stood_before_is_current_again(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Oldword")), 2: text_result(line("Martit"))})
    await world.run_job({0: text_result(line("Newword"))}, offer=NEWER)
    with world.node.database.transaction() as conn:
        done = review.correct(
            conn, world.node.settings, world.statement(2, pipeline=NEWER.digest).iri, texts={}, specimen=None, by="a",
            reason="", values={"dwc:country": "Brazil"}, now=NOW,
        )  # fmt: skip
    assert world.finds("Newword") == 1
    assert world.finds("Oldword") == 0
    run_of = RunSelection(pipeline=NEWER.digest)
    assert plan(world, run_of).corrected == 1
    number = take_back(world, run_of)
    assert world.finds("Newword") == 0
    assert world.finds("Oldword") == 1
    assert (world.record(done.iri) or ("",))[0] == "active"
    undo(world, number)
    assert world.finds("Newword") == 1
    assert world.finds("Oldword") == 0
    old = world.record(world.again(done.iri).supersedes or "")
    assert old is not None
    assert old[2]["dcterms:isReplacedBy"] == {"@id": done.iri}


async def test_undoing_shows_nothing_that_may_not_be_shown_any_more(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Martii"))})
    iri = world.statement(0).iri
    number = take_back(world)
    rows = [dict(row) for row in world.rows]
    rows[0]["licence"] = "all rights reserved"
    world.take_in(rows)
    undo(world, number)
    assert (world.record(iri) or ("",))[0] == "tombstone"
    assert world.finds("Martii") == 0


async def test_the_command_tries_first_does_then_undoes(world: ReviewWorld, capsys: pytest.CaptureFixture[str]) -> None:
    await world.run_job({0: text_result(line("Martii"))})
    folder = str(world.node.settings.folder)

    def vasculum(*words: str, code: int = 0) -> str:
        assert run(["retract", folder, *words]) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    digest = MANIFEST.digest[:24]
    assert "nothing was changed" in vasculum("--pipeline", digest)
    assert world.finds("Martii") == 1
    assert "--reason" in vasculum("--pipeline", digest, "--yes", code=2)
    assert "which pipeline" in vasculum(code=2)
    assert "nothing here was made" in vasculum("--pipeline", "sha256:ffff", code=1)
    assert "did you mean" in vasculum("--pipeline", digest, "--where", "kingdon=x", code=1)
    assert "retracted as number 1" in vasculum("--pipeline", digest, "--reason", "wrong", "--yes")
    assert world.finds("Martii") == 0
    (listed,) = json.loads(vasculum("--list", "--json"))
    assert (listed["state"], listed["statements"], listed["rows"]) == ("retracted", 6, 6)
    assert "is undone" in vasculum("--undo", "1")
    assert world.finds("Martii") == 1
    assert "no retraction 7" in vasculum("--undo", "7", code=1)


CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from node.config import load_settings
from node.services import retract
from node.services.retract import RunSelection
from node.storage.db import Database
folder, pipeline, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
now = lambda: datetime(2026, 11, 24, 12, tzinfo=UTC)
database = Database.open(load_settings(folder).database_path)
SABOTAGE
with database.transaction() as conn:
    if what == "undo":
        retract.begin_undo(conn, 1, by="x", now=now())
    else:
        retract.begin_retraction(conn, RunSelection(pipeline=pipeline), reason="r", by="x", now=now())
print("ack begun")
retract.carry_on(database, 1, clock=now, batch=2)
print("ack done")
"""
SABOTAGED = """
def step(conn, number, *, limit, now):
    # The twin: marks the items in a transaction of their own, before the one that does the work.
    run = conn.execute("SELECT state FROM retraction WHERE id = ?", (number,)).fetchone()
    undoing = run["state"] == "undoing"
    rows = conn.execute("SELECT * FROM retraction_annotation WHERE retraction = ? AND done = ? LIMIT ?",
                        (number, int(undoing), limit)).fetchall()
    for row in rows:
        conn.execute("UPDATE retraction_annotation SET done = ? WHERE retraction = ? AND iri = ?",
                     (int(not undoing), number, row["iri"]))
    conn.execute("COMMIT")
    conn.execute("BEGIN IMMEDIATE")
    for row in rows:
        if undoing:
            retract._bring_back(conn, row["iri"], number, was_public=bool(row["was_public"]), now=now)
        else:
            retract._withdraw(conn, row["iri"], number, "r", now=now)
    return len(rows) or real(conn, number, limit=limit, now=now)
real = retract._step
retract._step = step
"""


def problems(database: Database, *, is_undone: bool) -> list[str]:
    """What is not as it must be after a retraction was finished, or undone."""
    found: list[str] = []
    with database.reader() as conn:
        for item in conn.execute("SELECT * FROM retraction_annotation WHERE was_public = 1").fetchall():
            record = conn.execute("SELECT state, published FROM record WHERE iri = ?", (item["iri"],)).fetchone()
            ops = [
                row["op"] for row in conn.execute("SELECT op FROM change WHERE iri = ? ORDER BY seq", (item["iri"],))
            ]
            wanted = ["Create", "Delete"] + (["Create"] if is_undone else [])
            if ops != wanted or record["published"] != int(is_undone):
                found.append(f"{item['iri']}: {ops}")
        rows = conn.execute("SELECT withheld FROM job_unit").fetchall()
        found += [f"row {row['withheld']}" for row in rows if (row["withheld"] is None) != is_undone]
        numbers = [row["seq"] for row in conn.execute("SELECT seq FROM change ORDER BY seq")]
        if numbers != list(range(1, len(numbers) + 1)):
            found.append("the log has gaps")
        states = {row["state"] for row in conn.execute("SELECT state FROM retraction")}
        if states != {"undone" if is_undone else "retracted"}:
            found.append(f"not finished: {states}")
    return found


async def killed(world: ReviewWorld, what: str, at: int, *, sabotage: str = "") -> tuple[list[str], bool]:
    """Kills a child at a write boundary, lets the next start finish; what is wrong then, and whether it was killed."""
    child = start(
        CHILD.replace("SABOTAGE", sabotage), str(world.node.settings.folder), MANIFEST.digest, what, kill_at=at
    )
    acks, status = finish(child)
    assert status in (0, -signal.SIGKILL), "the child ended otherwise"
    was_killed = status == -signal.SIGKILL
    begun = bool(acks)
    finished = retract.finish_begun(world.node.database, clock=world.clock)
    with world.node.database.reader() as conn:
        known = conn.execute("SELECT count(*) FROM retraction").fetchone()[0]
    if not begun and not known:
        return [], was_killed  # before it was durable: nothing happened
    is_undone = what == "undo" and (begun or finished > 0)
    return problems(world.node.database, is_undone=is_undone), was_killed


@pytest.mark.fault
@pytest.mark.parametrize("what", ["retract", "undo"])
async def test_killed_anywhere_it_is_finished_at_the_next_start(
    make_node: Make, tmp_path: Path, what: str, figures: Callable[..., None]
) -> None:
    kills = 0
    for number, at in enumerate(range(1, 24, 2)):
        world = await _filled(make_node, tmp_path, f"{what}{number}", what)
        wrong, was_killed = await killed(world, what, at)
        assert wrong == [], f"killed at boundary {at}"
        kills += was_killed
    assert kills >= 8
    figures(f"{what} of runs", kills=kills)


@pytest.mark.fault
async def test_twin_marks_before_the_work_are_noticed(make_node: Make, tmp_path: Path) -> None:
    wrong: list[str] = []
    for number, at in enumerate(range(4, 16)):
        world = await _filled(make_node, tmp_path, f"twin{number}", "retract")
        wrong += (await killed(world, "retract", at, sabotage=SABOTAGED))[0]
    assert wrong, "a sabotaged retraction was not noticed"


async def test_a_serving_node_finishes_what_was_interrupted(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Martii"))})
    with world.node.database.transaction() as conn:
        retract.begin_retraction(conn, RUN, reason="r", by="x", now=NOW)
        retract._step(conn, 1, limit=2, now=NOW)
    await _start_and_stop(world)
    assert problems(world.node.database, is_undone=False) == []


async def _start_and_stop(world: ReviewWorld) -> None:
    from aiohttp.test_utils import TestServer

    from node.app import build_application
    from runners.catalogue import Catalogue

    async with TestServer(build_application(world.node, catalogue=Catalogue.of(()), clock=lambda: NOW)):
        pass


async def _filled(make_node: Make, tmp_path: Path, name: str, what: str) -> ReviewWorld:
    def make(**options: Any) -> NodeFolder:
        return make_node(name, **options)

    world = review_world(make, tmp_path / f"a-{name}")
    await world.run_job({0: text_result(line("Martii"))})
    if what == "undo":
        take_back(world)
    return world
