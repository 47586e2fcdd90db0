"""Nodes that lie: everything that one origin says about another's things, or out of range, ends that node's course."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from federation_world import (
    START,
    Clock,
    FaultyTransport,
    free_port,
    make_job,
    make_node,
    make_ports,
    make_spec,
    serving,
)

from federation.client import fetch_descriptor, run
from federation.dispatch import NodeCourse
from federation.errors import DescriptorRefused
from federation.http_transport import HttpTransport
from federation.identity import SigningKey
from federation.merge import NotAsked, merge
from federation.transport import Answer
from linkeddata.envelope import RESULT_PAGE, parse_envelope, seal
from linkeddata.job import ResultRow, StepCounts
from linkeddata.json_strict import parse_json

R = SigningKey.from_seed(b"r" * 32)
NODE_KEY = SigningKey.from_seed(bytes([1]) * 32)
EVIL = SigningKey.from_seed(b"e" * 32)


def on_page(change, *, key: SigningKey = NODE_KEY, kind: str = RESULT_PAGE):
    """Changes a result page and signs it again."""

    def apply(request, answer: Answer) -> Answer:
        if "/results" not in request.url or answer.status != 200:
            return answer
        document = json.loads(answer.body)
        page = parse_json(parse_envelope(document["page"]["value"]).payload)
        change(page)
        document["page"]["value"] = seal(page, payload_type=kind, signers=[key]).to_json()
        return replace(answer, body=json.dumps(document).encode())

    return apply


def on_status(change):
    def apply(request, answer: Answer) -> Answer:
        if answer.status not in (200, 201) or "/results" in request.url:
            return answer
        document = json.loads(answer.body)
        change(document)
        return replace(answer, body=json.dumps(document).encode())

    return apply


def row_of(page):
    return page["rows"][0]


def bytes_changed(request, answer: Answer) -> Answer:
    if "/results" not in request.url:
        return answer
    document = json.loads(answer.body)
    payload = document["page"]["value"]["payload"]
    document["page"]["value"]["payload"] = ("A" if payload[0] != "A" else "B") + payload[1:]
    return replace(answer, body=json.dumps(document).encode())


LIES = {
    "another key": on_page(lambda page: None, key=EVIL),
    "another purpose": on_page(lambda page: None, kind="application/vnd.vasculum.job-spec+json"),
    "a changed byte": bytes_changed,
    "another node": on_page(lambda page: page.update(node="https://kew.example.org")),
    "another job": on_page(lambda page: page.update(job="urn:uuid:00000000-0000-4000-8000-ffffffffffff")),
    "a specimen of another": on_page(lambda page: row_of(page).update(specimen="https://kew.example.org/specimen/1")),
    "a medium of another": on_page(lambda page: row_of(page).update(medium="https://kew.example.org/media/1")),
    "an origin that only begins alike": on_page(
        lambda page: row_of(page).update(medium=page["node"] + "9/media/1", specimen=page["node"] + "9/specimen/1")
    ),
    "a step not asked for": on_page(lambda page: row_of(page).update(step="barcode/1")),
    "a pipeline not offered": on_page(lambda page: row_of(page).update(pipeline="sha256:" + "9" * 64)),
    "no image id": on_page(lambda page: row_of(page).update(image="hash://sha256/xyz")),
    "a fourth answer": on_page(lambda page: row_of(page).update(answer="perhaps")),
    "an escape sequence": on_page(lambda page: row_of(page).update(reason="\u001b]0;owned\u0007")),
    "a box outside": on_page(
        lambda page: row_of(page).update(matches=[{"text": "x", "score": "1", "box": [-1, 0, 5, 5]}])
    ),
    "more rows than images": on_page(lambda page: page.update(rows=page["rows"] * 50)),
    "pages without end": on_page(lambda page: page.update(next=1)),
    "counts of another step": on_page(lambda page: page["counts"][0].update(step="barcode/1")),
    "negative counts": on_page(lambda page: page["counts"][0].update(yes=-1)),
    "a status of another job": on_status(
        lambda status: status.update(jobSpec="urn:uuid:00000000-0000-4000-8000-ffffffffffff")
    ),
    "a job id with a path": on_status(lambda status: status.update(jobID="../../other")),
    "an unknown status": on_status(lambda status: status.update(status="sleeping")),
    "not json": lambda request, answer: replace(answer, body=b"<html>") if answer.status == 200 else answer,
    "deep json": lambda request, answer: replace(answer, body=b"[" * 100_000) if answer.status == 200 else answer,
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_ends_that_nodes_course_and_no_other(tmp_path: Path, lie: str) -> None:
    clock = Clock()
    nodes = [
        make_node(tmp_path / name, clock=clock, port=free_port(), seed=seed) for name, seed in (("a", 1), ("b", 2))
    ]
    for node in nodes:
        node.enrol(R)
        node.add_sheet("s1", lines=["Martii"])
    async with serving(*nodes), HttpTransport() as http:
        transport = FaultyTransport(http)
        ports = make_ports(transport, R, clock, nodes)
        spec = make_spec(R, [node.origin for node in nodes])
        job = await make_job(spec, R, ports, spec.audience)
        transport.at(nodes[0].origin).change = LIES[lie]
        await run(job, ports, save=lambda state: None)
    liar, honest = (job.courses[node.origin] for node in nodes)
    assert honest.phase == "done"
    assert liar.phase == "failed"
    assert "cannot be believed" in liar.reasons[0]
    answer = merge(job.courses.values(), (), granularity="record")
    assert {row.node for row in answer.rows} == {nodes[1].origin}
    assert sum(item.total for item in answer.totals) == 1


async def test_without_a_lie_the_same_world_answers(tmp_path: Path) -> None:
    """The twin of the test above: the machinery of lying, with nothing changed, must not end a course."""
    clock = Clock()
    node = make_node(tmp_path / "a", clock=clock, port=free_port())
    node.enrol(R)
    node.add_sheet("s1", lines=["Martii"])
    async with serving(node), HttpTransport() as http:
        transport = FaultyTransport(http)
        transport.at(node.origin).change = on_page(lambda page: None)
        ports = make_ports(transport, R, clock, [node])
        job = await make_job(make_spec(R, [node.origin]), R, ports, [node.origin])
        await run(job, ports, save=lambda state: None)
    assert job.courses[node.origin].phase == "done"


async def test_a_descriptor_of_another_key_is_refused_where_one_is_pinned(tmp_path: Path) -> None:
    clock, port = Clock(), free_port()
    node = make_node(tmp_path / "a", clock=clock, port=port, seed=1)
    async with HttpTransport() as http:
        async with serving(node):
            ports = make_ports(http, R, clock)
            known, _ = await fetch_descriptor(ports, node.origin, None)
        other = make_node(tmp_path / "b", clock=clock, port=port, seed=2)
        clock.forward(10)
        async with serving(other):
            with pytest.raises(DescriptorRefused, match="key changed"):
                await fetch_descriptor(ports, other.origin, known.pin)


# ---------------------------------------------------------------------- the merged answer, pure
def row(answer: str, *, pipeline: str = "sha256:1", conformance: str = "pass") -> ResultRow:
    return ResultRow(
        specimen="s", medium="m", image="i", step="label-text/1", pipeline=pipeline, environment="e",
        conformance=conformance, answer=answer, reason="",
    )  # fmt: skip


def course(number: int, phase: str, **changes) -> NodeCourse:
    return NodeCourse(origin=f"https://n{number}.example.org", name=f"N{number}", phase=phase, **changes)


def test_every_node_stands_in_one_place_and_failing_rows_stand_apart() -> None:
    courses = [
        course(
            1, "done", rows=(row("yes"), row("no", conformance="fail")), counts=(StepCounts(step="x", yes=1, no=1),)
        ),
        course(2, "done", rows=(row("no", pipeline="sha256:2"),), counts=(StepCounts(step="x", no=1),)),
        course(3, "refused", reasons=("why",), rows=(row("yes"),)), course(4, "failed", rows=(row("yes"),)),
        course(5, "watching"), course(6, "cancelled"), course(7, "done", granularity="count"),
    ]  # fmt: skip
    skipped = NotAsked(origin="https://n8.example.org", name="N8", rule="holds no plants", summary_age_s=60)
    answer = merge(courses, [skipped], granularity="record")
    assert [item.row.answer for item in answer.rows] == ["yes", "no"]
    assert [item.row.answer for item in answer.out_of_tolerance] == ["no"]
    assert answer.totals == (StepCounts(step="x", yes=1, no=2),)
    places = [answer.answered, answer.working, answer.held, answer.refused, answer.failed, answer.cancelled]
    assert [len(place) for place in places] == [3, 1, 0, 1, 1, 1]
    assert set(answer.differing_versions["label-text/1"]) == {"sha256:1", "sha256:2"}
    assert [note.origin for note in answer.coarser] == ["https://n7.example.org"]
    document = answer.to_json()
    assert len(document["asked"]) == 7
    assert document["notAsked"][0]["rule"] == "holds no plants"
    assert START.year == 2026
