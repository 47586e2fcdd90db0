"""Jobs at a node: idempotence, audience, snapshot, approval, release, publishing, and what is left after a crash."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from federation_world import BARCODE, ENVIRONMENT, MANIFEST, Clock, SmallNode, make_node, make_spec, signed

from federation.dispatch import NodeCourse
from federation.identity import SigningKey
from federation.merge import merge
from federation.status import parse_status
from linkeddata.access import AccessClass
from linkeddata.envelope import parse_envelope
from linkeddata.job import JobStep, parse_result_page
from linkeddata.json_strict import parse_json
from linkeddata.selection import parse_where
from node.access import ANONYMOUS, STAFF, Viewer
from node.services import requests as service
from node.services.job_rules import JobNotTaken, job_id_of
from node.services.requests import RequestError
from node.storage import people, records
from node.storage.jobs import NO_IMAGE, NOT_FETCHED

R = SigningKey.from_seed(b"r" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def node(tmp_path: Path, clock: Clock):
    made = make_node(tmp_path / "n", clock=clock)
    made.enrol(R)
    made.add_sheet("s1", lines=["Herbarium Martii"])
    made.add_sheet("s2", lines=["Something else"])
    yield made
    made.database.close()


async def submit(node: SmallNode, spec, key=R, sender=None, **changes):
    return await node.jobs.submit(signed(spec, key).to_json(), sender_kid=(sender or key).kid, **changes)


async def rows_of(node: SmallNode, job_id: str, viewer: Viewer, **arguments):
    envelope = await node.jobs.results(job_id, viewer, **arguments)
    assert envelope is not None
    return parse_result_page(parse_json(envelope.payload))


async def test_a_job_runs_and_only_its_submitter_and_staff_see_it(node: SmallNode) -> None:
    made = await submit(node, make_spec(R, [node.origin]))
    assert made.is_new
    job_id = made.status.job_id
    assert (made.status.status, made.status.images, made.status.progress) == ("running", 2, 0)
    await node.work()
    status = await node.jobs.status(job_id, Viewer(kid=R.kid))
    assert status is not None
    assert (status.status, status.progress) == ("successful", 100)
    assert (status.steps[0].counts.yes, status.steps[0].counts.no) == (1, 1)
    for stranger in (ANONYMOUS, Viewer(kid=OTHER.kid)):
        assert await node.jobs.status(job_id, stranger) is None
        assert await node.jobs.results(job_id, stranger) is None
        assert await node.jobs.cancel(job_id, stranger) is None
        assert await node.jobs.list_jobs(stranger) == []
    assert await node.jobs.status(job_id, STAFF) is not None


async def test_a_job_tells_how_many_records_its_selection_could_not_decide(node: SmallNode) -> None:
    selection = parse_where("kingdom=Plantae year=1700,2000")
    made = await submit(node, replace(make_spec(R, [node.origin]), selection=selection))
    assert (made.status.images, [item.to_json() for item in made.status.no_value]) == (
        0,
        [{"keys": ["year"], "count": 2}],
    )
    document = made.status.to_json(origin=node.origin)
    assert parse_status(document) == made.status
    course = NodeCourse(origin=node.origin, name="N", phase="watching", status=made.status)
    assert merge([course], (), granularity="record").to_json()["noValue"] == {
        node.origin: [{"keys": ["year"], "count": 2}]
    }
    del document["selection"]["noValue"]  # a node of before
    assert parse_status(document).no_value == ()


async def test_a_job_runs_on_what_a_predicate_selects_and_never_on_a_local_key(node: SmallNode) -> None:
    predicate = '{"type": "or", "predicates": [{"type": "isNull", "parameter": "KINGDOM"}, {"type": "isNull", "parameter": "YEAR"}]}'
    made = await submit(node, replace(make_spec(R, [node.origin]), selection=parse_where(predicate)))
    assert made.status.images == 2
    with pytest.raises(JobNotTaken) as caught:
        await submit(node, replace(make_spec(R, [node.origin], number=2), selection=parse_where("localAccess=open")))
    assert (caught.value.status, "one node only" in str(caught.value.reasons)) == (400, True)


async def test_first_bounds_the_images_and_is_what_the_policy_sees(tmp_path: Path, clock: Clock) -> None:
    rule = {"decide": "hold", "max_images": 2, "reason": "many"}
    node = make_node(tmp_path / "m", clock=clock, rules=[rule])
    node.enrol(R)
    for name in ("s1", "s2", "s3", "s4"):
        node.add_sheet(name, lines=["Herbarium Martii"])
    node.set_class("s1", AccessClass.PRIVATE)  # never selected, so it takes no place either
    whole = await submit(node, make_spec(R, [node.origin], number=1))
    assert (whole.status.images, whole.status.approval) == (3, "waiting")
    some = await submit(node, make_spec(R, [node.origin], number=2, first=2))
    assert (some.status.images, some.status.status) == (2, "running")
    await node.work()
    assert node.computed == 2
    rows = (await rows_of(node, some.status.job_id, Viewer(kid=R.kid))).rows
    assert [row.medium.rsplit("/", 1)[1] for row in rows] == ["s2", "s3"]
    node.database.close()


async def test_the_same_specification_is_the_same_job_and_another_under_its_id_a_conflict(node: SmallNode) -> None:
    spec = make_spec(R, [node.origin])
    first = await submit(node, spec)
    again = await submit(node, spec)
    assert (again.is_new, again.status.job_id) == (False, first.status.job_id)
    with pytest.raises(JobNotTaken) as caught:
        await submit(node, replace(spec, purpose="another"))
    assert caught.value.status == 409


async def test_nobody_can_take_anothers_job_id(node: SmallNode) -> None:
    node.enrol(OTHER)
    theirs = await submit(node, make_spec(OTHER, [node.origin]), OTHER)
    mine = await submit(node, make_spec(R, [node.origin]))
    assert mine.is_new
    assert mine.status.job_id != theirs.status.job_id
    assert mine.status.job_id == job_id_of(R.kid, make_spec(R, [node.origin]).id)


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"audience": ("https://other.example.org",)}, 403, "audience"),
        ({"expires": Clock().now - timedelta(seconds=1)}, 403, "expired"),
        ({"issued": Clock().now + timedelta(hours=1)}, 400, "job-times"),
        ({"expires": Clock().now + timedelta(days=400)}, 400, "job-times"),
        ({"requester_kid": OTHER.kid}, 403, "not-the-requester"),
        ({"steps": (JobStep(output="quality/1"),), "emit": None}, 422, "pipeline-not-offered"),
        ({"steps": (JobStep(output="label-text/1", digests=("sha256:" + "0" * 64,)),)}, 422, "pipeline-not-offered"),
        ({"steps": (JobStep(output="label-text/1", parameters={"x": 1}),)}, 422, "unknown-parameter"),
        ({"steps": (JobStep(output="label-text/1", parameters={"language": 1}),)}, 422, "unknown-parameter"),
        ({"purpose": "\u001b[2Jhello"}, 400, "bad-job-spec"),
    ],
)
async def test_what_is_not_taken_leaves_nothing(node: SmallNode, change: dict, status: int, kind: str) -> None:
    with pytest.raises(JobNotTaken) as caught:
        await submit(node, replace(make_spec(R, [node.origin]), **change))
    assert (caught.value.status, caught.value.kind) == (status, kind)
    assert caught.value.reasons
    assert await node.jobs.list_jobs(STAFF) == []


async def test_a_specification_signed_by_somebody_else_is_refused(node: SmallNode) -> None:
    spec = make_spec(R, [node.origin])
    with pytest.raises(JobNotTaken):
        await submit(node, spec, OTHER, sender=R)
    with pytest.raises(JobNotTaken):
        await submit(node, spec, R, sender=OTHER)


async def test_a_revoked_key_is_refused_and_its_results_are_closed(node: SmallNode, clock: Clock) -> None:
    from node.storage.people import revoke

    made = await submit(node, make_spec(R, [node.origin]))
    await node.work()
    with node.database.transaction() as conn:
        assert revoke(conn, R.kid, now=clock())
    assert await node.jobs.results(made.status.job_id, Viewer(kid=R.kid)) is None
    with pytest.raises(JobNotTaken, match="revoked"):
        await submit(node, make_spec(R, [node.origin], number=2))


async def test_a_flood_of_jobs_is_told_to_wait(node: SmallNode) -> None:
    for number in range(3):
        await submit(node, make_spec(OTHER, [node.origin], number=number), OTHER)
    with pytest.raises(JobNotTaken) as caught:
        await submit(node, make_spec(OTHER, [node.origin], number=9), OTHER)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 60)


# ---------------------------------------------------------------------- persons
async def hold(node: SmallNode, number: int = 1):
    made = await submit(node, make_spec(OTHER, [node.origin], number=number), OTHER)
    assert (made.status.status, made.status.approval) == ("accepted", "waiting")
    assert "not enrolled" in made.status.reasons[0]
    assert made.status.message == "waiting for approval by the collection"
    return made.status


async def test_a_held_job_runs_after_approval_and_covers_what_was_shown(node: SmallNode, clock: Clock) -> None:
    status = await hold(node)
    assert await node.work() == 0
    node.add_sheet("s3", lines=["Herbarium Martii"])  # not in the snapshot
    with node.database.transaction() as conn:
        job = service.find_request(conn, status.job_id[:8])
        assert service.show(conn, job).access == {"open": 2}
        service.approve(conn, job.id, by="curator", reason="agreed", snapshot=status.snapshot, now=clock())
    await node.jobs.poll()
    assert await node.work() == 2
    page = await rows_of(node, status.job_id, Viewer(kid=OTHER.kid))
    assert {row.medium.rsplit("/", 1)[1] for row in page.rows} == {"s1", "s2"}
    done = await node.jobs.status(status.job_id, Viewer(kid=OTHER.kid))
    assert done is not None
    assert (done.approval, done.reasons) == ("given", ("approved by the collection: agreed",))


async def test_an_approval_of_another_snapshot_changes_nothing(node: SmallNode, clock: Clock) -> None:
    status = await hold(node)
    with node.database.transaction() as conn, pytest.raises(RequestError, match="something else"):
        service.approve(conn, status.job_id, by="c", reason="", snapshot="sha256:" + "0" * 64, now=clock())
    with node.database.transaction() as conn:  # somebody changes what the job covers after it was shown
        conn.execute("UPDATE job_unit SET image = ? WHERE ordinal = 1", ("0" * 64,))
    with node.database.transaction() as conn, pytest.raises(RequestError, match="not the one that was shown"):
        service.approve(conn, status.job_id, by="c", reason="", snapshot=status.snapshot, now=clock())
    await node.jobs.poll()
    assert await node.work() == 0


async def test_a_key_that_was_revoked_meanwhile_is_not_approved(node: SmallNode, clock: Clock) -> None:
    status = await hold(node)
    node.enrol(OTHER)
    with node.database.transaction() as conn:
        assert people.revoke(conn, OTHER.kid, now=clock())
    with node.database.transaction() as conn, pytest.raises(RequestError, match="revoked meanwhile"):
        service.approve(conn, status.job_id, by="c", reason="", snapshot=status.snapshot, now=clock())
    await node.jobs.poll()
    assert await node.work() == 0


async def test_a_refusal_reaches_the_requester_with_its_reason(node: SmallNode, clock: Clock) -> None:
    status = await hold(node)
    with node.database.transaction() as conn:
        service.refuse(conn, status.job_id, by="c", reason="on loan", snapshot=status.snapshot, now=clock())
    seen = await node.jobs.status(status.job_id, Viewer(kid=OTHER.kid))
    assert seen is not None
    assert (seen.status, seen.approval, seen.reasons) == ("failed", "refused", ("refused by the collection: on loan",))
    with pytest.raises(JobNotTaken) as caught:
        await node.jobs.results(status.job_id, Viewer(kid=OTHER.kid))
    assert (caught.value.status, caught.value.kind) == (403, "refused-by-person")
    with node.database.transaction() as conn, pytest.raises(RequestError, match="does not wait"):
        service.approve(conn, status.job_id, by="c", reason="", snapshot=status.snapshot, now=clock())


async def test_a_held_job_expires(node: SmallNode, clock: Clock) -> None:
    status = await hold(node)
    clock.forward(15 * 24 * 3600)
    with node.database.transaction() as conn, pytest.raises(RequestError, match="expired"):
        service.approve(conn, status.job_id, by="c", reason="", snapshot=status.snapshot, now=clock())
    await node.jobs.poll()
    seen = await node.jobs.status(status.job_id, Viewer(kid=OTHER.kid))
    assert seen is not None
    assert (seen.status, seen.approval) == ("failed", "expired")


async def test_a_pipeline_that_changed_after_approval_is_not_run_in_its_place(node: SmallNode, clock: Clock) -> None:
    status = await hold(node)
    with node.database.transaction() as conn:
        service.approve(conn, status.job_id, by="c", reason="", snapshot=status.snapshot, now=clock())
    node.offers[0] = replace(node.offers[0], manifest=replace(MANIFEST, version="2.0.0"))
    await node.jobs.poll()
    seen = await node.jobs.status(status.job_id, Viewer(kid=OTHER.kid))
    assert seen is not None
    assert seen.status == "failed"
    assert "not offered any more" in seen.message


async def test_a_job_waits_while_its_workers_are_starting(node: SmallNode) -> None:
    offers = list(node.offers)
    spec = make_spec(R, [node.origin])
    await hold(node, 7)
    with node.database.transaction() as conn:
        conn.execute("UPDATE job SET decision = 'accepted', approval = 'given'")
    node.offers.clear()
    await node.jobs.poll()
    assert {job.status for job in await node.jobs.list_jobs(STAFF)} == {"accepted"}
    node.offers.extend(offers)
    await node.jobs.poll()
    assert await node.work() == 2
    assert spec.audience == (node.origin,)


# ---------------------------------------------------------------------- release
async def test_what_becomes_private_or_sensitive_is_neither_computed_nor_released(node: SmallNode) -> None:
    node.add_sheet("s3", lines=["Herbarium Martii"])
    made = await submit(node, make_spec(R, [node.origin]))
    await node.work(limit=1)
    node.set_class("s2", AccessClass.PRIVATE)
    node.set_class("s3", AccessClass.OPEN, sensitive=True)
    await node.work()
    assert node.computed == 1
    node.set_class("s1", AccessClass.PRIVATE)
    page = await rows_of(node, made.status.job_id, Viewer(kid=R.kid))
    assert [(row.medium.rsplit("/", 1)[1], row.answer, row.matches, dict(row.values)) for row in page.rows] == [
        ("s3", "cannot tell", (), {})
    ]
    counts = page.counts[0]
    assert (counts.yes, counts.no, counts.cannot_tell, counts.total) == (0, 0, 3, 3)
    assert "Martii" not in json.dumps(page.to_json())
    staff_page = await rows_of(node, made.status.job_id, STAFF)
    assert len(staff_page.rows) == 3


async def test_the_strictest_user_of_the_same_bytes_counts(node: SmallNode) -> None:
    with node.database.transaction() as conn:
        image = conn.execute("SELECT image FROM medium WHERE key = 's1'").fetchone()[0]
        conn.execute(
            "INSERT INTO medium VALUES ('x:m', 'b', 'k', ?, NULL, 1, 1, 1, 2, 0, 1, 'active', '', NULL, NULL)", (image,)
        )
    made = await submit(node, make_spec(R, [node.origin]))
    assert made.status.images == 1
    await node.work()
    page = await rows_of(node, made.status.job_id, Viewer(kid=R.kid))
    assert [row.medium.rsplit("/", 1)[1] for row in page.rows] == ["s2"]


async def test_pages_are_dense_and_end(node: SmallNode) -> None:
    for number in range(5):
        node.add_sheet(f"t{number}", lines=["Martii"])
    made = await submit(node, make_spec(R, [node.origin]))
    await node.work()
    seen, after = [], 0
    while True:
        page = await rows_of(node, made.status.job_id, Viewer(kid=R.kid), after=after, limit=2)
        seen.extend(row.medium for row in page.rows)
        if page.next is None:
            break
        assert page.next > after
        after = page.next
    assert len(seen) == len(set(seen)) == 7


@pytest.mark.parametrize("granularity", ["count", "boolean"])
async def test_coarser_granularity_gives_no_rows(node: SmallNode, granularity: str) -> None:
    node.add_sheet("s3", lines=["Martii"])
    made = await submit(node, make_spec(R, [node.origin], granularity=granularity))
    await node.work()
    page = await rows_of(node, made.status.job_id, Viewer(kid=R.kid))
    assert page.rows == ()
    counts = page.counts[0]
    expected = (2, 1, 0) if granularity == "count" else (1, 0, 0)
    assert (counts.yes, counts.no, counts.cannot_tell) == expected
    status = await node.jobs.status(made.status.job_id, Viewer(kid=R.kid))
    assert status is not None
    assert (status.steps[0].counts.yes, status.steps[0].counts.no, status.steps[0].counts.cannot_tell) == expected


async def test_results_of_an_unfinished_job_are_not_ready(node: SmallNode) -> None:
    made = await submit(node, make_spec(R, [node.origin]))
    with pytest.raises(JobNotTaken) as caught:
        await node.jobs.results(made.status.job_id, Viewer(kid=R.kid))
    assert (caught.value.status, caught.value.kind) == (404, "result-not-ready")


async def test_a_failed_image_is_cannot_tell_with_its_reason(node: SmallNode) -> None:
    made = await submit(node, make_spec(R, [node.origin]))
    await node.work(fail=[next(iter(node.texts))])
    page = await rows_of(node, made.status.job_id, Viewer(kid=R.kid))
    assert [(row.answer, row.reason) for row in page.rows if row.answer == "cannot tell"] == [
        ("cannot tell", "truncated file")
    ]
    assert dict(page.counts[0].reasons) == {"truncated file": 1}


async def test_reuse_shows_in_no_count_row_or_message(node: SmallNode) -> None:
    node.enrol(OTHER)
    first = await submit(node, make_spec(R, [node.origin]))
    await node.work()
    second = await submit(node, make_spec(OTHER, [node.origin]), OTHER)
    assert node.computed == 2
    mine = await rows_of(node, first.status.job_id, Viewer(kid=R.kid))
    theirs = await rows_of(node, second.status.job_id, Viewer(kid=OTHER.kid))
    assert mine.rows == theirs.rows
    assert mine.counts == theirs.counts


async def test_cancelling_leaves_units_that_others_want(node: SmallNode) -> None:
    node.enrol(OTHER)
    first = await submit(node, make_spec(R, [node.origin]))
    second = await submit(node, make_spec(OTHER, [node.origin]), OTHER)
    status = await node.jobs.cancel(first.status.job_id, Viewer(kid=R.kid))
    assert status is not None
    assert status.status == "dismissed"
    assert await node.work() == 2
    done = await node.jobs.status(second.status.job_id, Viewer(kid=OTHER.kid))
    assert done is not None
    assert done.status == "successful"


async def test_results_of_a_finished_unit_of_another_conforming_environment_are_reused_only_if_allowed(
    node: SmallNode,
) -> None:
    await submit(node, make_spec(R, [node.origin]))
    await node.work()
    with node.database.transaction() as conn:
        conn.execute(
            "INSERT INTO conformance VALUES (?, ?, 'pass', x'', '2026-01-01T00:00:00Z')", (MANIFEST.digest, ENVIRONMENT)
        )
    node.offers[0] = replace(node.offers[0], environment="sha256:" + "f" * 64)
    reused = await submit(node, make_spec(R, [node.origin], number=2, reuse="conformant"))
    assert reused.status.status == "successful"
    exact = await submit(node, make_spec(R, [node.origin], number=3, reuse="exact"))
    assert exact.status.status == "running"


# ---------------------------------------------------------------------- publishing
def published(node: SmallNode) -> list[dict]:
    with node.database.reader() as conn:
        rows = conn.execute("SELECT body FROM record WHERE kind = 'annotation' AND state = 'active'").fetchall()
    return [json.loads(row[0]) for row in rows]


async def test_results_become_annotations_only_when_asked_and_only_of_open_images(node: SmallNode) -> None:
    node.add_sheet("r1", lines=["Martii"], access=AccessClass.RESTRICTED)
    node.add_sheet("x1", lines=["Martii"], sensitive=True)
    await submit(node, make_spec(R, [node.origin]))
    await node.work()
    assert published(node) == []
    await submit(node, make_spec(R, [node.origin], number=2, publish=True, match="Berolinense"))
    found = published(node)
    assert {body["oa:hasTarget"]["@id"].rsplit("/", 1)[1] for body in found} == {"s1", "s2"}
    assert "Berolinense" not in json.dumps(found)
    assert node.computed == 3
    await submit(node, make_spec(R, [node.origin], number=3, publish=True))
    assert len(published(node)) == 2  # the same statement is not made twice


async def test_a_newer_pipeline_supersedes_the_older_annotation(node: SmallNode) -> None:
    await submit(node, make_spec(R, [node.origin], publish=True))
    await node.work()
    node.offers[0] = replace(node.offers[0], manifest=replace(MANIFEST, version="2.0.0"))
    await submit(node, make_spec(R, [node.origin], number=2, publish=True))
    await node.work()
    with node.database.reader() as conn:
        states = [row[0] for row in conn.execute("SELECT state FROM annotation ORDER BY state")]
        assert len(records.changes_since(conn, 0, limit=100)) >= 4
    assert states == ["current", "current", "superseded", "superseded"]


async def test_a_pipeline_that_does_not_conform_publishes_nothing_and_says_so(node: SmallNode) -> None:
    with node.database.transaction() as conn:
        conn.execute(
            "INSERT INTO conformance VALUES (?, ?, 'fail', x'', '2026-01-01T00:00:00Z')", (MANIFEST.digest, ENVIRONMENT)
        )
    made = await submit(node, make_spec(R, [node.origin], publish=True))
    await node.work()
    page = await rows_of(node, made.status.job_id, Viewer(kid=R.kid))
    assert {row.conformance for row in page.rows} == {"fail"}
    assert published(node) == []


# ---------------------------------------------------------------------- crashes
async def test_what_a_crash_left_half_done_is_finished_by_the_next_start(tmp_path: Path, clock: Clock) -> None:
    node = make_node(tmp_path / "n", clock=clock)
    node.enrol(R)
    node.add_sheet("s1", lines=["Martii"])
    made = await submit(node, make_spec(R, [node.origin], publish=True))
    # 1. Written, but not in the journal: as if the process had died in between.
    with node.database.transaction() as conn:
        conn.execute("UPDATE job SET enqueued = 0, status = 'accepted'")
        conn.execute("UPDATE job_unit SET work_key = NULL")
        conn.execute("DELETE FROM unit")
    node.database.close()
    node_2 = make_node(tmp_path / "n", clock=clock)
    node_2.texts = node.texts
    await node_2.jobs.poll()

    # 2. Computed, but the job was not told.
    async def silent(work_key: str) -> None:
        return None

    node_2.jobs.on_finished = silent  # type: ignore[method-assign]
    assert await node_2.work() == 1
    assert published(node_2) == []
    node_2.database.close()
    node_3 = make_node(tmp_path / "n", clock=clock)
    await node_3.jobs.poll()
    status = await node_3.jobs.status(made.status.job_id, Viewer(kid=R.kid))
    assert status is not None
    assert (status.status, status.steps[0].counts.yes) == ("successful", 1)
    assert len(published(node_3)) == 1
    await node_3.jobs.poll()
    assert len(published(node_3)) == 1
    node_3.database.close()


async def test_isolation_is_asked_for_where_images_are_restricted(node: SmallNode) -> None:
    node.add_sheet("r1", access=AccessClass.RESTRICTED)
    node.offers[:] = [replace(offer, is_isolated=False) for offer in node.offers]
    with pytest.raises(JobNotTaken) as caught:
        await submit(node, make_spec(R, [node.origin]))
    assert caught.value.kind == "no-isolation"
    with node.database.transaction() as conn:
        conn.execute("UPDATE medium SET access = 0")
        conn.execute("UPDATE record SET access = 0")
    assert (await submit(node, make_spec(R, [node.origin]))).is_new


async def test_an_empty_selection_is_an_answer(node: SmallNode) -> None:
    made = await submit(node, make_spec(R, [node.origin], where="kingdom=Fungi"))
    assert (made.status.status, made.status.images) == ("successful", 0)
    assert (await rows_of(node, made.status.job_id, Viewer(kid=R.kid))).rows == ()


async def test_results_are_signed_by_the_node(node: SmallNode) -> None:
    from federation.identity import KeyRing
    from linkeddata.envelope import RESULT_PAGE, open_envelope

    made = await submit(node, make_spec(R, [node.origin]))
    await node.work()
    envelope = await node.jobs.results(made.status.job_id, Viewer(kid=R.kid))
    assert envelope is not None
    again = parse_envelope(envelope.to_json())
    assert open_envelope(again, payload_type=RESULT_PAGE, verifier=KeyRing.of([node.key.kid])).kids == (node.key.kid,)
    assert BARCODE.digest != MANIFEST.digest


async def test_images_that_were_never_fetched_count_as_cannot_tell_and_are_wanted(node: SmallNode) -> None:
    far = node.add_sheet("s3")
    private = node.add_sheet("s4", access=AccessClass.PRIVATE)
    with node.database.transaction() as conn:
        for medium in (far, private):
            conn.execute("DELETE FROM medium_version WHERE iri = ?", (medium,))
            conn.execute(
                "UPDATE medium SET image = NULL, size_bytes = NULL, locator = 'https://x.example/3.jpg' WHERE iri = ?",
                (medium,),
            )
    wanted: list[str] = []
    node.jobs._want = wanted.extend
    made = await submit(node, make_spec(R, [node.origin]))
    job_id = made.status.job_id
    assert (made.status.images, made.status.size_bytes) == (3, 2000)
    assert wanted == [far]
    await node.work()
    status = await node.jobs.status(job_id, Viewer(kid=R.kid))
    assert status is not None
    counts = status.steps[0].counts
    assert (status.status, counts.yes, counts.no, counts.cannot_tell) == ("successful", 1, 1, 1)
    assert counts.reasons == {NOT_FETCHED: 1}
    page = await rows_of(node, job_id, Viewer(kid=R.kid))
    (row,) = [row for row in page.rows if row.medium == far]
    assert (row.answer, row.reason, row.image) == ("cannot tell", NOT_FETCHED, "hash://sha256/" + NO_IMAGE)
    node.set_class("s3", AccessClass.PRIVATE)
    page = await rows_of(node, job_id, Viewer(kid=R.kid))
    assert far not in {row.medium for row in page.rows}, "what became private is not named any more"


async def test_a_held_job_causes_no_fetch_until_it_is_approved(tmp_path: Path, clock: Clock) -> None:
    node = make_node(tmp_path / "held", clock=clock)
    far = node.add_sheet("s3")
    with node.database.transaction() as conn:
        conn.execute("UPDATE medium SET image = NULL, locator = 'https://x.example/3.jpg' WHERE iri = ?", (far,))
    wanted: list[str] = []
    node.jobs._want = wanted.extend
    made = await submit(node, make_spec(R, [node.origin]))
    assert made.status.approval == "waiting"
    assert wanted == []
    with node.database.transaction() as conn:
        service.approve(conn, made.status.job_id, by="curator", reason="", snapshot=made.status.snapshot, now=clock())
    await node.jobs.poll()
    assert wanted == [far]
    node.database.close()
