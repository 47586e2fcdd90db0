"""Jobs of composed pipelines at a node: what is computed for them, what is shared, what is given out, what is cancelled."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from federation_world import BARCODE, MANIFEST, QUALITY, Clock, SmallNode, make_node, make_spec, signed

from federation.identity import SigningKey
from linkeddata.access import AccessClass
from linkeddata.job import JobStep, ResultPage, parse_result_page
from linkeddata.json_strict import parse_json
from node.access import STAFF, Viewer
from node.services.job_rules import OfferedPipeline
from node.services.retract import RunSelection, begin_retraction, begin_undo, carry_on, plan_retraction

R = SigningKey.from_seed(b"r" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)
COMPOSED = (JobStep(output="quality/1"),)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SmallNode]:
    made = make_node(tmp_path / "n", clock=Clock(), manifests=(MANIFEST, BARCODE, QUALITY))
    made.enrol(R)
    made.enrol(OTHER)
    made.add_sheet("s1", lines=["Herbarium Martii"])
    made.add_sheet("s2", lines=["Something else"])
    yield made
    made.database.close()


async def submit(node: SmallNode, *, steps: Sequence[JobStep] = COMPOSED, key: SigningKey = R, number: int = 1) -> str:
    spec = make_spec(key, [node.origin], steps=steps, match=None, number=number)
    return (await node.jobs.submit(signed(spec, key).to_json(), sender_kid=key.kid)).status.job_id


async def page(node: SmallNode, job_id: str, viewer: Viewer) -> ResultPage:
    envelope = await node.jobs.results(job_id, viewer)
    assert envelope is not None
    return parse_result_page(parse_json(envelope.payload))


def states(node: SmallNode) -> dict[str, list[str]]:
    """By output contract, the states of its units."""

    def read(conn: sqlite3.Connection) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in conn.execute("SELECT output, state FROM unit ORDER BY output, image"):
            found.setdefault(row["output"], []).append(row["state"])
        return found

    with node.database.reader() as conn:
        return read(conn)


async def test_what_a_composed_step_takes_is_computed_and_not_given_out(node: SmallNode) -> None:
    job_id = await submit(node)
    assert states(node) == {name: ["queued", "queued"] for name in ("barcode/1", "label-text/1", "quality/1")}
    assert await node.work() == 6
    status = await node.jobs.status(job_id, Viewer(kid=R.kid))
    assert status is not None
    assert (status.status, [step.counts.step for step in status.steps]) == ("successful", ["quality/1"])
    for viewer in (Viewer(kid=R.kid), STAFF):
        rows = (await page(node, job_id, viewer)).rows
        assert [(row.step, row.values) for row in rows] == 2 * [("quality/1", {"measures": {"taken": "2"}})]


async def test_composing_computes_nothing_twice(node: SmallNode) -> None:
    """Jobs before, beside and after: each unit runs once."""
    await submit(node, steps=(JobStep(output="barcode/1"),), key=OTHER, number=7)
    await node.work()
    assert node.computed == 2
    first = await submit(node, steps=(*COMPOSED, JobStep(output="label-text/1")))
    second = await submit(node, key=OTHER, number=8)
    await node.work()
    assert node.computed == 6
    await submit(node, steps=COMPOSED, number=3)
    await node.work()
    assert node.computed == 6
    assert {row.step for row in (await page(node, first, Viewer(kid=R.kid))).rows} == {"quality/1", "label-text/1"}
    assert {row.step for row in (await page(node, second, Viewer(kid=OTHER.kid))).rows} == {"quality/1"}


async def test_a_step_with_other_parameters_shares_nothing_with_the_composed_one(node: SmallNode) -> None:
    await submit(node, steps=(*COMPOSED, JobStep(output="label-text/1", parameters={"language": "la"})))
    assert len(states(node)["label-text/1"]) == 4


async def test_an_image_that_is_refused_upstream_cannot_be_told_downstream(node: SmallNode) -> None:
    job_id = await submit(node)
    bad = next(image for image, lines in node.texts.items() if lines == ["Something else"])
    await node.work(fail=[bad])
    rows = {row.image[-64:]: row for row in (await page(node, job_id, Viewer(kid=R.kid))).rows}
    assert (rows[bad].answer, rows[bad].reason) == ("cannot tell", "label-text/1: truncated file")
    assert sum(row.answer == "yes" for row in rows.values()) == 1


async def test_an_image_that_became_private_is_withheld_as_ever(node: SmallNode) -> None:
    job_id = await submit(node)
    node.set_class("s1", AccessClass.PRIVATE)
    await node.work()
    assert sorted(states(node)["quality/1"]) == ["done", "withheld"]
    assert [row.answer for row in (await page(node, job_id, Viewer(kid=R.kid))).rows] == ["yes"]


async def test_cancelling_takes_out_what_only_this_job_needed(node: SmallNode) -> None:
    job_id = await submit(node)
    await submit(node, steps=(JobStep(output="barcode/1"),), key=OTHER, number=2)
    await node.jobs.cancel(job_id, Viewer(kid=R.kid))
    assert states(node) == {
        "barcode/1": ["queued", "queued"], "label-text/1": ["cancelled", "cancelled"],
        "quality/1": ["cancelled", "cancelled"],
    }  # fmt: skip
    again = await submit(node, number=3)
    await node.work()
    status = await node.jobs.status(again, Viewer(kid=R.kid))
    assert status is not None
    assert (status.status, node.computed) == ("successful", 6)


async def test_cancelling_leaves_what_the_composed_unit_of_another_job_needs(node: SmallNode) -> None:
    job_id = await submit(node, steps=(JobStep(output="label-text/1"), JobStep(output="barcode/1")))
    other = await submit(node, key=OTHER, number=2)
    await node.jobs.cancel(job_id, Viewer(kid=R.kid))
    assert {state for found in states(node).values() for state in found} == {"queued"}
    await node.work()
    status = await node.jobs.status(other, Viewer(kid=OTHER.kid))
    assert status is not None
    assert status.status == "successful"


async def test_a_finished_composed_unit_of_another_environment_is_taken_with_what_it_took(node: SmallNode) -> None:
    await submit(node)
    await node.work()
    with node.database.transaction() as conn:
        for manifest in (MANIFEST, BARCODE, QUALITY):
            conn.execute(
                "INSERT INTO conformance VALUES (?, ?, 'pass', x'', '2026-01-01T00:00:00Z')",
                (manifest.digest, node.offers[0].environment),
            )
    node.offers[:] = [replace(offer, environment="sha256:" + "f" * 64) for offer in node.offers]
    await submit(node, number=2)
    assert await node.work() == 0
    assert node.computed == 6


async def test_a_composed_job_waits_for_what_is_not_offered_yet(node: SmallNode) -> None:
    barcode = next(offer for offer in node.offers if offer.manifest is BARCODE)
    node.offers.remove(barcode)
    job_id = await submit(node)
    assert states(node) == {}
    node.offers.append(barcode)
    await node.jobs.poll()
    await node.work()
    await node.work()
    status = await node.jobs.status(job_id, Viewer(kid=R.kid))
    assert status is not None
    assert status.status == "successful"


async def test_workers_upstream_must_be_walled_in_too_for_restricted_images(tmp_path: Path) -> None:
    made = make_node(tmp_path / "n", clock=Clock(), manifests=(MANIFEST, BARCODE, QUALITY))
    made.enrol(R)
    made.add_sheet("s1", access=AccessClass.RESTRICTED)
    made.offers[1] = replace(made.offers[1], is_isolated=False)
    assert isinstance(made.offers[1], OfferedPipeline)
    with pytest.raises(Exception, match="Workers cannot be isolated"):
        await submit(made)
    made.database.close()


async def test_what_was_made_from_a_result_is_taken_back_with_it_and_comes_back_with_it(node: SmallNode) -> None:
    await node.jobs.poll()  # manifests are kept
    job_id = await submit(node)
    await node.work()
    with node.database.transaction() as conn:
        run = RunSelection(pipeline=BARCODE.digest)
        plan = plan_retraction(conn, run)
        number = begin_retraction(conn, run, reason="reads stamps", by="c", now=node.clock())
    assert (plan.rows, plan.composed) == (2, ("quality",)), "no job asked for the codes themselves"
    carry_on(node.database, number, clock=node.clock)
    later = await submit(node, key=OTHER, number=2)
    await node.jobs.poll()
    for job, key in ((job_id, R), (later, OTHER)):
        rows = (await page(node, job, Viewer(kid=key.kid))).rows
        assert {row.answer for row in rows} == {"cannot tell"}
        assert all("reads stamps" in row.reason for row in rows)
    with node.database.transaction() as conn:
        begin_undo(conn, number, by="c", now=node.clock())
    carry_on(node.database, number, clock=node.clock)
    for job, key in ((job_id, R), (later, OTHER)):
        assert {row.answer for row in (await page(node, job, Viewer(kid=key.kid))).rows} == {"yes"}


async def test_a_result_that_was_retracted_as_such_is_not_taken_by_a_later_composed_job(node: SmallNode) -> None:
    await node.jobs.poll()
    await submit(node, steps=(JobStep(output="barcode/1"),), key=OTHER, number=2)
    await node.work()
    with node.database.transaction() as conn:
        number = begin_retraction(
            conn, RunSelection(pipeline=BARCODE.digest), reason="wrong", by="c", now=node.clock()
        )  # fmt: skip
    carry_on(node.database, number, clock=node.clock)
    job_id = await submit(node)
    await node.work()
    rows = (await page(node, job_id, Viewer(kid=R.kid))).rows
    assert {(row.answer, "wrong" in row.reason) for row in rows} == {("cannot tell", True)}
