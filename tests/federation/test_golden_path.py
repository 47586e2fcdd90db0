"""One question to two nodes and back, over real HTTP on loopback, with faults switched on one after another."""

import asyncio
from pathlib import Path

import pytest
from federation_world import Clock, FaultyTransport, free_port, make_job, make_node, make_ports, make_spec, serving

from federation.client import cancel, run
from federation.handle import Handle, load_handle, save_handle
from federation.http_transport import HttpTransport
from federation.identity import SigningKey
from federation.merge import merge
from linkeddata.access import AccessClass
from linkeddata.job import JobStep

RESEARCHER = SigningKey.from_seed(b"r" * 32)


def two_nodes(tmp_path: Path, clock: Clock, **changes):
    first = make_node(tmp_path / "a", clock=clock, port=free_port(), name="A", seed=1, **changes)
    second = make_node(tmp_path / "b", clock=clock, port=free_port(), name="B", seed=2, **changes)
    for node in (first, second):
        node.enrol(RESEARCHER)
        node.add_sheet("s1", lines=["HERBARIUM MARTII"])
        node.add_sheet("s2", lines=["Herbarium Berolinense"])
        node.add_sheet("s3", lines=["Herb. Martii"], access=AccessClass.RESTRICTED)
        node.add_sheet("hidden", lines=["Herbarium Martii"], access=AccessClass.PRIVATE)
        node.add_sheet("rare", lines=["Herbarium Martii"], sensitive=True)
        node.add_sheet("beetle", lines=["Martii"], kingdom="Animalia")
    return first, second


async def test_two_nodes_answer_one_question(tmp_path: Path) -> None:
    clock = Clock()
    nodes = two_nodes(tmp_path, clock)
    async with serving(*nodes), HttpTransport() as http:
        ports = make_ports(http, RESEARCHER, clock, nodes)
        spec = make_spec(
            RESEARCHER,
            [node.origin for node in nodes],
            steps=(JobStep(output="label-text/1"), JobStep(output="barcode/1")),
        )
        job = await make_job(spec, RESEARCHER, ports, spec.audience)
        path = tmp_path / "handle.json"
        await run(job, ports, save=lambda state: save_handle(Handle(job=state), path))
    answer = merge(load_handle(path).job.courses.values(), (), granularity="record")
    assert {note.origin for note in answer.answered} == {node.origin for node in nodes}
    text = next(item for item in answer.totals if item.step == "label-text/1")
    assert (text.yes, text.no, text.cannot_tell, text.pending) == (4, 2, 2, 0)
    assert text.reasons == {"withheld: the specimen is of a sensitive taxon": 2}
    found = {row.row.medium for row in answer.rows if row.row.answer == "yes"}
    assert found == {f"{node.origin}/media/{name}" for node in nodes for name in ("s1", "s3")}
    assert not any("hidden" in row.row.medium for row in answer.rows)
    assert all(row.row.matches for row in answer.rows if row.row.answer == "yes")
    assert nodes[0].computed == 6  # three images, two steps: what is private or sensitive was never read


async def test_another_word_computes_nothing_anew(tmp_path: Path) -> None:
    clock = Clock()
    nodes = two_nodes(tmp_path, clock)
    async with serving(*nodes), HttpTransport() as http:
        ports = make_ports(http, RESEARCHER, clock, nodes)
        for number, word in enumerate(("Martii~1", "Berolinense"), start=1):
            spec = make_spec(RESEARCHER, [node.origin for node in nodes], number=number, match=word)
            job = await make_job(spec, RESEARCHER, ports, spec.audience)
            await run(job, ports, save=lambda state: None)
            assert {course.phase for course in job.courses.values()} == {"done"}
    assert [node.computed for node in nodes] == [3, 3]


async def test_a_node_that_is_down_takes_none_of_the_others_with_it(tmp_path: Path) -> None:
    clock = Clock()
    nodes = two_nodes(tmp_path, clock)
    async with serving(*nodes), HttpTransport() as http:
        transport = FaultyTransport(http)
        ports = make_ports(transport, RESEARCHER, clock, nodes)
        spec = make_spec(RESEARCHER, [node.origin for node in nodes])
        job = await make_job(spec, RESEARCHER, ports, spec.audience)
        transport.at(nodes[1].origin).down = True
        await run(job, ports, save=lambda state: None)
    answer = merge(job.courses.values(), (), granularity="record")
    assert [note.origin for note in answer.answered] == [nodes[0].origin]
    assert [note.origin for note in answer.failed] == [nodes[1].origin]
    assert "not reached" in answer.failed[0].reasons[0]


async def test_lost_answers_and_a_restart_in_the_middle_lose_and_repeat_nothing(tmp_path: Path) -> None:
    clock = Clock()
    nodes = two_nodes(tmp_path, clock)
    port = nodes[1].sock_port
    async with serving(nodes[0]), HttpTransport() as http:
        await nodes[1].serve()
        transport = FaultyTransport(http)
        alive = list(nodes)
        lock = asyncio.Lock()
        ports = make_ports(transport, RESEARCHER, clock, alive, lock)
        spec = make_spec(RESEARCHER, [node.origin for node in nodes])
        job = await make_job(spec, RESEARCHER, ports, spec.audience)
        transport.at(nodes[0].origin).drop_answers = 2
        restarted = False

        def restart(request):
            nonlocal restarted
            if request.method != "GET" or restarted:
                return None
            restarted = True

            async def again() -> None:
                async with lock:
                    await alive[1].stop()
                    alive[1].database.close()
                    transport.at(nodes[1].origin).drop_answers = 1
                    alive[1] = make_node(tmp_path / "b", clock=clock, port=port, name="B", seed=2)
                    alive[1].texts = nodes[1].texts
                    await alive[1].serve()

            return again()

        transport.at(nodes[1].origin).before = restart
        await run(job, ports, save=lambda state: None)
        await alive[1].stop()
        alive[1].database.close()
    assert restarted
    assert {course.phase for course in job.courses.values()} == {"done"}
    assert [len(course.rows) for course in job.courses.values()] == [4, 4]
    assert nodes[0].computed == 3
    posts = [url for method, url in transport.sent if method == "POST" and url.startswith(nodes[0].origin)]
    assert len(posts) == 3  # sent again twice, and it stayed one job


async def test_a_specification_replayed_at_another_node_is_refused(tmp_path: Path) -> None:
    clock = Clock()
    nodes = two_nodes(tmp_path, clock)
    async with serving(*nodes), HttpTransport() as http:
        ports = make_ports(http, RESEARCHER, clock, nodes)
        spec = make_spec(RESEARCHER, [nodes[0].origin])
        job = await make_job(spec, RESEARCHER, ports, [nodes[1].origin])
        await run(job, ports, save=lambda state: None)
    course = job.courses[nodes[1].origin]
    assert course.phase == "refused"
    assert course.reasons[0].startswith("audience:")


async def test_cancel_stops_the_units_that_nobody_else_wants(tmp_path: Path) -> None:
    clock = Clock()
    nodes = two_nodes(tmp_path, clock)
    async with serving(*nodes), HttpTransport() as http:
        ports = make_ports(http, RESEARCHER, clock)  # nobody works
        spec = make_spec(RESEARCHER, [node.origin for node in nodes])
        job = await make_job(spec, RESEARCHER, ports, spec.audience)
        for node in nodes:
            await node.jobs.submit(job.envelope.to_json(), sender_kid=RESEARCHER.kid)
        for origin, course in job.courses.items():
            node = next(item for item in nodes if item.origin == origin)
            status = (await node.jobs.list_jobs(_viewer()))[0]
            job.courses[origin] = _watching(course, status)
        await cancel(job, ports, save=lambda state: None)
        assert {course.phase for course in job.courses.values()} == {"cancelled"}
        assert [await node.work() for node in nodes] == [0, 0]


def _viewer():
    from node.access import Viewer

    return Viewer(kid=RESEARCHER.kid)


def _watching(course, status):
    from dataclasses import replace

    return replace(course, phase="watching", job_id=status.job_id, status=status)


@pytest.mark.parametrize("trust", ["closed", "held"])
async def test_policies_that_do_not_accept_are_told_with_their_reason(tmp_path: Path, trust: str) -> None:
    clock = Clock()
    preset = "closed" if trust == "closed" else "open"
    nodes = two_nodes(tmp_path, clock, preset=preset)
    stranger = SigningKey.from_seed(b"s" * 32)
    async with serving(*nodes), HttpTransport() as http:
        ports = make_ports(http, stranger, clock, nodes)
        spec = make_spec(stranger, [node.origin for node in nodes])
        job = await make_job(spec, stranger, ports, spec.audience)
        await run(job, ports, save=lambda state: None, stop_when=lambda course: course.is_held)
    answer = merge(job.courses.values(), (), granularity="record")
    notes = answer.refused if trust == "closed" else answer.held
    assert len(notes) == 2
    assert all(note.reasons for note in notes)
    assert nodes[0].computed == 0


@pytest.mark.parametrize("sabotaged", [False, True])
async def test_lost_answers_make_one_job_and_without_derived_ids_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sabotaged: bool
) -> None:
    """The sabotaged twin gives every submission a new id: the same fault then makes three jobs, which must be seen."""
    from itertools import count

    from node.access import STAFF
    from node.services import job_rules

    if sabotaged:
        numbers = count()
        monkeypatch.setattr(job_rules, "job_id_of", lambda kid, spec_id: f"{next(numbers):032x}")
    clock = Clock()
    node = make_node(tmp_path / "a", clock=clock, port=free_port())
    node.enrol(RESEARCHER)
    node.add_sheet("s1", lines=["Martii"])
    async with serving(node), HttpTransport() as http:
        transport = FaultyTransport(http)
        ports = make_ports(transport, RESEARCHER, clock, [node])
        job = await make_job(make_spec(RESEARCHER, [node.origin]), RESEARCHER, ports, [node.origin])
        transport.at(node.origin).drop_answers = 2
        await run(job, ports, save=lambda state: None)
        jobs = await node.jobs.list_jobs(STAFF)
    assert job.courses[node.origin].phase == "done"
    assert (len(jobs) == 1) is not sabotaged


@pytest.mark.parametrize("sabotaged", [False, True])
async def test_a_recorded_request_is_worth_nothing_and_without_nonces_it_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sabotaged: bool
) -> None:
    """A thief who recorded a signed DELETE sends it again; the twin forgets nonces, and the thief gets through."""
    from federation.transport import OutgoingRequest
    from node.storage.people import SqliteReplayGuard

    if sabotaged:

        async def forget(self, kid, nonce, expires) -> None:
            return None

        monkeypatch.setattr(SqliteReplayGuard, "remember", forget)
    clock = Clock()
    node = make_node(tmp_path / "a", clock=clock, port=free_port())
    async with serving(node), HttpTransport() as http:
        from federation.http_signatures import sign_request

        url = f"{node.origin}/jobs"
        headers = sign_request(RESEARCHER, method="GET", url=url, now=clock(), nonce="n" * 22)
        answers = [await http.send(OutgoingRequest(method="GET", url=url, headers=headers)) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200 if sabotaged else 401]
