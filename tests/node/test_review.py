"""Deciding on statements: what comes to be, what the public sees of it, corrections, rules with samples."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NOW, ROOT, ingest, jpeg, write_archive
from federation_world import MANIFEST
from review_world import CODES, NEWER, ReviewWorld, code_result, line, review_world, text_result

from node.cli.main import run
from node.folder import NodeFolder
from node.services import review, review_rules
from node.services.annotate import take_results
from node.services.review import ReviewError
from node.storage import jobs as job_store
from node.storage import reviews
from node.storage.db import migrate
from node.storage.reviews import Rule

Make = Callable[..., NodeFolder]


@pytest.fixture
def world(make_node: Make, tmp_path: Path) -> ReviewWorld:
    return review_world(make_node, tmp_path)


def decide(world: ReviewWorld, iri: str, decision: str, *, by: str = "anna") -> review.Decided:
    with world.node.database.transaction() as conn:
        return review.decide_on(conn, iri, decision, by=by, reason="seen", now=world.now)  # type: ignore[arg-type]


def correct(world: ReviewWorld, iri: str, **changes: object) -> review.Decided:
    given = {"texts": {}, "values": {}, "specimen": None, **changes}
    with world.node.database.transaction() as conn:
        return review.correct(conn, world.node.settings, iri, by="anna", reason="", now=world.now, **given)  # type: ignore[arg-type]


async def test_a_result_of_a_job_that_asked_is_public_and_says_that_it_waits(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Martii"))})
    found = world.statement(0)
    assert (found.state, found.asked, found.score, found.label) == ("pending", True, 950, "print")
    record = world.record(found.iri)
    assert record is not None
    assert record[2]["ods:mergingDecisionStatus"] == "Pending"
    assert world.log(found.iri) == ["Create"]
    assert world.finds("Martii") == 1


async def test_accepting_is_a_new_version_that_names_no_person(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Martii"))})
    iri = world.statement(0).iri
    world.later(hours=1)
    done = decide(world, iri, "accepted")
    assert done.seq is not None
    assert done.hidden_because == ""
    state, version, body = world.record(iri) or ("", 0, {})
    assert (state, version) == ("active", 2)
    assert body["ods:mergingDecisionStatus"] == "Approved"
    assert body["ods:mergingStateChangeDate"] == "2026-11-24T13:00:00Z"
    assert "anna" not in json.dumps(body)
    row = world.again(iri)
    assert (row.state, row.by, row.at, row.reason) == ("accepted", "anna", "2026-11-24T13:00:00Z", "seen")
    with world.node.database.reader() as conn:
        entries = reviews.actions_about(conn, iri)
    assert [(item["action"], item["by"], item["at"], item["detail"]["was"]) for item in entries] == [
        ("accepted", "anna", "2026-11-24T13:00:00Z", "pending")
    ]
    assert decide(world, iri, "accepted").seq is None, "the same again changes nothing"
    assert world.log(iri) == ["Create", "Update"]


async def test_rejecting_leaves_a_tombstone_and_can_be_taken_back(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Martii"))})
    iri = world.statement(0).iri
    decide(world, iri, "rejected")
    state, _, body = world.record(iri) or ("", 0, {})
    assert state == "tombstone"
    assert body["ods:hasTombstoneMetadata"]["ods:tombstoneText"] == review.REJECTED
    assert world.finds("Martii") == 0
    await world.run_job({0: text_result(line("Martii"))})
    assert (world.record(iri) or ("",))[0] == "tombstone", "the same result of another job does not bring it back"
    decide(world, iri, "accepted")
    assert world.log(iri) == ["Create", "Delete", "Create"]
    assert world.finds("Martii") == 1


async def test_statements_about_an_image_that_is_not_open_stay_with_staff(world: ReviewWorld) -> None:
    await world.run_job({1: text_result(line("Secretword"))})
    found = world.statement(1)
    assert found.state == "pending"
    assert world.record(found.iri) is None
    done = decide(world, found.iri, "accepted")
    assert done.seq is None
    assert done.hidden_because == "the image is not open"
    assert world.record(found.iri) is None
    assert world.log(found.iri) == []
    assert world.finds("Secretword") == 0


async def test_nothing_about_a_sensitive_specimen_is_published_though_its_image_be_called_open(
    world: ReviewWorld,
) -> None:
    await world.run_job({0: text_result(line("Martii"))}, publish=False)
    with world.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET sensitive = 1 WHERE iri = ?", (world.medium(0),))
        job = job_store.find(conn)[0]
        options = {"origin": world.node.settings.origin, "labels": frozenset[str](), "now": world.now}
        take_results(conn, job=job, after=0, limit=100, **options)  # type: ignore[arg-type]
    done = decide(world, world.statement(0).iri, "accepted")
    assert done.hidden_because == "the specimen is of a sensitive taxon"
    assert world.record(done.iri) is None


async def test_what_was_accepted_before_its_image_was_opened_is_public_once_accepted_again(world: ReviewWorld) -> None:
    await world.run_job({1: text_result(line("Opened"))})
    iri = world.statement(1).iri
    decide(world, iri, "accepted")
    rows = [dict(row) for row in world.rows]
    rows[1]["licence"] = "CC0"
    world.take_in(rows)
    assert world.finds("Opened") == 0, "opening an image publishes nothing by itself"
    assert decide(world, iri, "accepted").seq is not None
    assert world.finds("Opened") == 1
    with world.node.database.reader() as conn:
        assert len(reviews.actions_about(conn, iri)) == 1, "it was decided once"


async def test_results_of_other_jobs_are_taken_in_by_a_person_and_public_once_accepted(world: ReviewWorld) -> None:
    job_id = await world.run_job({0: text_result(line("Martii")), 1: text_result(line("Closed"))}, publish=False)
    assert world.waiting() == 0
    with world.node.database.transaction() as conn:
        job = job_store.get(conn, job_id)
        assert job is not None
        options = {"origin": world.node.settings.origin, "labels": frozenset[str](), "job": job, "now": world.now}
        made, following = take_results(conn, after=0, limit=4, **options)  # type: ignore[arg-type]
        assert (made, following is not None) == (4, True)
        made, following = take_results(conn, after=following or 0, limit=4, **options)  # type: ignore[arg-type]
        assert (made, following) == (2, None)
        assert take_results(conn, after=0, limit=100, **options)[0] == 0, "again, it changes nothing"  # type: ignore[arg-type]
    found = world.statement(0)
    assert world.waiting() == 6
    assert world.record(found.iri) is None
    assert world.finds("Martii") == 0
    with world.node.database.transaction() as conn:
        assert review.hidden_because(conn, found).startswith("its job did not ask")
        assert review.publish(conn, found, now=world.now) is None
    decide(world, found.iri, "accepted")
    assert world.log(found.iri) == ["Create"]
    assert world.finds("Martii") == 1


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (text_result(line("x"), size=(640, 480)), "size-differs"),
        (text_result(line("x", box=(60, 6, 20, 10)), size=(640, 48)), "region-outside"),
    ],
)
async def test_a_statement_that_does_not_fit_its_image_is_never_public(
    world: ReviewWorld, result: dict[str, object], code: str
) -> None:
    await world.run_job({0: result})
    found = world.statement(0)
    assert code in world.findings(found.iri)
    assert world.record(found.iri) is None
    with world.node.database.reader() as conn:
        fitting = reviews.iris(conn, Rule(), state="pending")
    assert found.iri not in fitting, "no rule touches it"
    assert len(fitting) == 5
    assert code in decide(world, found.iri, "accepted").hidden_because or "size-differs" in world.findings(found.iri)
    assert world.record(found.iri) is None


async def test_an_unknown_class_and_a_duplicate_are_flagged_and_nothing_is_dropped(world: ReviewWorld) -> None:
    await world.run_job({0: code_result("X-9", symbology="Klingon"), 2: code_result("X-8")}, offer=CODES)
    assert world.findings(world.statement(0).iri) == ["label-unknown"]
    assert world.record(world.statement(0).iri) is not None
    assert world.findings(world.statement(2).iri) == []
    await world.run_job({3: text_result(line("Same"))})
    await world.run_job({3: text_result(line("Same", score="0.700", box=(4, 6, 20, 11)))}, offer=NEWER)
    newer = world.statement(3, pipeline=NEWER.digest)
    assert world.findings(newer.iri) == ["duplicate"]
    assert world.waiting(finding="duplicate") == 1


async def test_the_institution_adds_classes_of_its_own(make_node: Make, tmp_path: Path) -> None:
    world = review_world(make_node, tmp_path, settings='[review]\nlabels = ["Klingon"]\n')
    await world.run_job({0: code_result("X-9", symbology="Klingon")}, offer=CODES)
    assert world.findings(world.statement(0).iri) == []


async def test_a_newer_statement_waits_beside_an_accepted_one(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Accepted")), 2: text_result(line("Unseen"))})
    old = world.statement(0).iri
    decide(world, old, "accepted")
    await world.run_job({0: text_result(line("Newer")), 2: text_result(line("Newtoo"))}, offer=NEWER)
    newer = world.statement(0, pipeline=NEWER.digest)
    assert world.record(newer.iri) is None
    assert world.finds("Accepted") == 1
    assert world.finds("Newer") == 0
    assert world.finds("Newtoo") == 1, "where nobody had decided, the newer one is current"
    assert world.finds("Unseen") == 0
    decide(world, newer.iri, "accepted")
    assert world.finds("Newer") == 1
    assert world.finds("Accepted") == 0
    decide(world, newer.iri, "rejected")
    assert world.finds("Accepted") == 1, "what stood before it stands again"


async def test_a_correction_supersedes_and_the_old_one_stays_and_says_so(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Martit"), line("shadow", box=(30, 30, 5, 5)))})
    old = world.statement(0)
    done = correct(world, old.iri, texts={1: "Martii", 2: ""})
    state, version, body = world.record(old.iri) or ("", 0, {})
    assert (state, version) == ("active", 2)
    assert body["dcterms:isReplacedBy"] == {"@id": done.iri}
    _, _, new = world.record(done.iri) or ("", 0, {})
    assert new["dcterms:replaces"] == {"@id": old.iri}
    assert new["oa:motivation"] == "oa:editing"
    assert [item["vasculum:text"] for item in new["vasculum:hasRegion"]] == ["Martii"]
    assert new["dcterms:creator"]["schema:name"] == "Test node"
    assert world.finds("Martii") == 1
    assert world.finds("Martit") == 0
    assert world.again(done.iri).state == "accepted"
    with pytest.raises(ReviewError, match="was corrected"):
        decide(world, old.iri, "rejected")
    decide(world, done.iri, "rejected")
    assert world.finds("Martit") == 1, "without the correction the old one stands again"
    assert "dcterms:isReplacedBy" not in (world.record(old.iri) or ("", 0, {}))[2]
    decide(world, done.iri, "accepted")
    assert world.finds("Martit") == 0
    decide(world, done.iri, "rejected")
    second = correct(world, old.iri, texts={1: "Martius"})
    assert second.iri != done.iri
    assert world.finds("Martius") == 1
    with pytest.raises(ReviewError, match="otherwise"):
        decide(world, done.iri, "accepted")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({}, "nothing is corrected"),
        ({"texts": {9: "x"}}, "no line 9"),
        ({"values": {"dwc:nonsense": "x"}}, "not a term"),
        ({"texts": {1: "a\x00b"}}, "control"),
        ({"texts": {1: "a\u202eb"}}, "control"),
        ({"values": {"dwc:country": "x"}, "specimen": "https://elsewhere.example/1"}, "does not show"),
    ],
)
async def test_a_correction_that_makes_no_sense_is_refused(
    world: ReviewWorld, changes: dict[str, object], match: str
) -> None:
    await world.run_job({0: text_result(line("Martit"))})
    with pytest.raises(ReviewError, match=match):
        correct(world, world.statement(0).iri, **changes)
    assert len(world.log(world.statement(0).iri)) == 1


async def test_nobody_decides_on_evidence_that_was_replaced(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Martii"))})
    iri = world.statement(0).iri
    (world.folder / "images/0.jpg").write_bytes(jpeg(99))
    world.take_in()
    assert world.waiting() == ARCHIVE_OTHERS
    with pytest.raises(ReviewError, match="replaced or withdrawn"):
        decide(world, iri, "accepted")


ARCHIVE_OTHERS = 5
"""Statements about the images that were not replaced."""


async def test_a_rule_needs_a_sample_that_is_decided_and_keeps_its_precision(world: ReviewWorld) -> None:
    scores = ("0.950", "0.990", "0.920", "0.800", "0.910", "0.980")
    await world.run_job({number: text_result(line(f"w{number}", score=score)) for number, score in enumerate(scores)})
    rule = Rule(pipeline=MANIFEST.digest, min_score=900, label="print")
    database = world.node.database

    def draw(seed: int) -> review_rules.Sample:
        with database.transaction() as conn:
            return review_rules.draw_sample(conn, rule, size=3, seed=seed, by="anna", now=world.now)

    def apply(number: int, given: Rule = rule) -> review_rules.RuleOutcome:
        return review_rules.decide_by_rule(
            database, given, "accepted", sample=number, by="bert", reason="", clock=world.clock
        )

    first, again, other = draw(7), draw(7), draw(8)
    assert (first.size, first.population) == (3, 5)
    assert first.open == again.open
    assert first.open != other.open
    with pytest.raises(ReviewError, match="not decided yet"):
        apply(first.id)
    decide(world, first.open[0], "accepted")
    decide(world, first.open[1], "rejected")
    correct(world, first.open[2], texts={1: "right"})
    with database.reader() as conn:
        done = review_rules.get_sample(conn, first.id)
    assert done.open == ()
    assert (done.precision.right, done.precision.decided) == (1, 3)
    with pytest.raises(ReviewError, match="another rule"):
        apply(first.id, Rule(pipeline=MANIFEST.digest))
    outcome = apply(first.id)
    assert outcome.decided == 2, "two of five are left that fit; the one of 0.8 does not"
    assert world.waiting() == 1
    with database.reader() as conn:
        entry = reviews.actions_about(conn, f"sample {first.id}")[-1]
        decided = conn.execute("SELECT count(*) FROM review WHERE action = ?", (outcome.action,)).fetchone()[0]
    assert (entry["action"], entry["by"]) == ("accepted by rule", "bert")
    assert entry["detail"]["precision"] == "0.3333"
    assert entry["detail"]["seed"] == 7
    assert entry["detail"]["rule"] == {"pipeline": MANIFEST.digest, "minScore": 900, "class": "print"}
    assert float(entry["detail"]["low"]) < 0.3333 < float(entry["detail"]["high"])
    assert decided == 2
    assert apply(first.id).decided == 0, "again, it changes nothing"


async def test_a_statement_is_as_sure_as_its_weakest_region(world: ReviewWorld) -> None:
    await world.run_job(
        {0: text_result(line("a", score="0.99"), line("b", score="0.3", box=(30, 30, 5, 5), writing="uncertain"))}
    )
    found = world.statement(0)
    assert (found.score, found.label) == (300, "mixed")
    assert world.waiting(min_score=301) == 0
    assert world.waiting(max_score=300, label="mixed") == 1


async def test_forgetting_an_image_forgets_what_was_said_and_decided_about_it(world: ReviewWorld) -> None:
    from node.storage.forget import forget

    await world.run_job({0: text_result(line("Personsname")), 2: text_result(line("Other"))})
    old = world.statement(0)
    correct(world, old.iri, texts={1: "Personsname X"}, values={"dwc:recordedBy": "Personsname"})
    with world.node.database.transaction() as conn:
        review_rules.draw_sample(conn, Rule(pipeline=MANIFEST.digest), size=5, seed=1, by="a", now=NOW)
        forget(conn, old.image, reason="asked", now=NOW)
    with world.node.database.reader() as conn:
        for table in ("review", "review_finding", "review_sample_item", "staff_action", "correction", "annotation"):
            for row in conn.execute(f"SELECT * FROM {table}"):
                assert "Personsname" not in str([bytes(v).decode() if isinstance(v, bytes) else v for v in row]), table
                assert old.iri not in tuple(row), table
    assert world.statement(2).state == "pending"


def test_annotations_of_an_older_schema_wait_for_a_decision(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    conn = sqlite3.connect(path)
    conn.executescript((ROOT / "tests/fixtures/schema-1.sql").read_text("utf-8"))
    iri, medium = "https://fixture.example/annotation/aaaaaaaaaaaaaaaa", "https://fixture.example/media/m"
    regions = [
        {"vasculum:x": 1, "vasculum:score": score, "vasculum:writing": "print"} for score in ("0.951", "1", "0.96")
    ]
    for number, found in ((1, regions), (2, [])):
        body = json.dumps({"@id": iri, "ods:version": 3, "vasculum:hasRegion": found}).encode()
        conn.execute(
            "INSERT INTO record VALUES (?, ?, 'annotation', 3, 'active', ?, 'd', 0, 0, NULL, ?, ?, 1)",
            (f"{iri}{number}", f"a{number}", body, "2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z"),
        )
        conn.execute(
            "INSERT INTO annotation VALUES (?, ?, 'ff', 'label-text/1', 'p', 'e', ?, NULL, 'current', 't')",
            (f"{iri}{number}", medium, f"w{number}"),
        )
    conn.execute("PRAGMA user_version=1")
    conn.commit()
    conn.close()
    migrate(path)
    conn = sqlite3.connect(path)
    conn.row_factory = sqlite3.Row
    rows = conn.execute("SELECT * FROM review ORDER BY iri").fetchall()
    assert [(row["state"], row["score"], row["class"], row["asked"]) for row in rows] == [
        ("pending", 951, "print", 1), ("pending", None, "", 1)
    ]  # fmt: skip
    assert "ods:version" not in json.loads(rows[0]["document"])
    conn.close()


async def test_the_commands_decide_show_and_sample(world: ReviewWorld, capsys: pytest.CaptureFixture[str]) -> None:
    await world.run_job({number: text_result(line(f"word{number}"), line("1817")) for number in range(6)})
    folder = str(world.node.settings.folder)

    def vasculum(*words: str, code: int = 0) -> str:
        assert run([*words[:2], folder, *words[2:]]) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    found = json.loads(vasculum("review", "list", "--json"))
    assert found["total"] == 6
    one, two = world.statement(0).id, world.statement(2).id
    assert one in vasculum("review", "list", "--min-score", "0.9", "--class", "print")
    assert "0 of 0 pending" in vasculum("review", "list", "--min-score", "0.96")
    assert "accepted" in vasculum("review", "accept", one)
    shown = json.loads(vasculum("review", "show", one[:10], "--json"))
    assert shown["state"] == "accepted"
    assert shown["public"] == "yes"
    assert [item["action"] for item in shown["log"]] == ["accepted"]
    assert "dwc:verbatimLabel: (none) -> word0 / 1817 (open)" in vasculum("review", "show", one)
    assert "rejected" in vasculum("review", "reject", two, "--reason", "a shadow")
    assert "a shadow" in vasculum("review", "show", two)
    assert "corrected" in vasculum("review", "correct", one, "--line", "1", "Better")
    assert "there is no statement" in vasculum("review", "accept", "zzzzzzzz", code=1)
    assert "which?" in vasculum("review", "accept", code=2)
    assert "not both" in vasculum("review", "accept", one, "--min-score", "0.9", code=2)
    assert "0 to 1" in vasculum("review", "list", "--min-score", "7", code=2)
    assert "--seed" in vasculum("review", "sample", "--size", "2", "--pipeline", MANIFEST.digest[:20], code=2)
    drawn = json.loads(
        vasculum("review", "sample", "--size", "2", "--seed", "3", "--pipeline", MANIFEST.digest[:20], "--json")
    )
    number = str(drawn["samples"][0]["id"])
    assert len(drawn["open"]) == 2
    assert "not decided yet" in vasculum("review", "accept", "--sample", number, code=1)
    vasculum("review", "accept", *(item["id"] for item in drawn["open"]))
    assert "1.000 (95 % interval 0.342 to 1.000; 2 of 2 right)" in vasculum("review", "sample", "--show", number)
    assert "2 statements; precision 1.000" in vasculum("review", "accept", "--sample", number)
    assert f"sample {number}: 2 of 4, seed 3" in vasculum("review", "sample")
    assert "there is no sample 99" in vasculum("review", "sample", "--show", "99", code=1)
    assert world.waiting() == 0


async def test_a_file_of_the_archive_may_show_two_specimens_and_then_nobody_guesses_whose_value_it_is(
    world: ReviewWorld,
) -> None:
    rows = [dict(row) for row in world.rows]
    rows[2]["image"] = rows[3]["image"]
    ingest(world.node, write_archive(world.folder, rows, images=jpeg))
    await world.run_job({3: text_result(line("Both"))})
    iri = world.statement(3).iri
    with pytest.raises(ReviewError, match="--specimen"):
        correct(world, iri, values={"dwc:country": "Brazil"})
    done = correct(world, iri, values={"dwc:country": "Brazil"}, specimen=world.specimen(2))
    with world.node.database.reader() as conn:
        kept = conn.execute("SELECT specimen FROM correction WHERE iri = ?", (done.iri,)).fetchall()
    assert [row["specimen"] for row in kept] == [world.specimen(2)]
