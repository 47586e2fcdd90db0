"""The course of a job at one node: every path ends, retries pause, and a file takes it up again."""

import ast
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from federation_world import START
from hypothesis import given, settings
from hypothesis import strategies as st

import federation
from federation.dispatch import (
    ENDED,
    AnswerWasBad,
    AskPage,
    AskStatus,
    CancelWanted,
    JobUnknown,
    NodeCourse,
    NotReached,
    PageSeen,
    Patience,
    Rest,
    SendCancel,
    StatusSeen,
    Submit,
    WasRefused,
    begin,
    course_to_json,
    handle,
    parse_course,
)
from federation.status import JobStatus, StepStatus
from linkeddata.job import ResultRow, StepCounts

COURSE = NodeCourse(origin="https://n.example.org", name="N")
ROW = ResultRow(
    specimen="s", medium="m", image="i", step="label-text/1", pipeline="p", environment="e", conformance="pass",
    answer="yes", reason="",
)  # fmt: skip


def status(state: str = "running", approval: str = "not needed", images: int = 2) -> JobStatus:
    return JobStatus(
        job_id="j", job_spec="urn:uuid:x", process_id="label-text", status=state, progress=0, message="m",
        created=START,
        updated=START, approval=approval, reasons=("r",), images=images,
        steps=(StepStatus(pipeline="p", counts=StepCounts(step="label-text/1", pending=images)),),
    )  # fmt: skip


def page(rows: int = 1, following: int | None = None) -> PageSeen:
    return PageSeen(rows=(ROW,) * rows, counts=(), granularity="record", next=following)


def play(*events, course: NodeCourse = COURSE):
    instruction = begin(course)
    for event in events:
        course, instruction = handle(course, event, now=START)
    return course, instruction


def test_the_straight_way() -> None:
    assert begin(COURSE) == Submit()
    course, instruction = play(StatusSeen(status=status("accepted")))
    assert (course.phase, instruction) == ("watching", AskStatus(after_s=1.0))
    course, instruction = play(StatusSeen(status=status("successful")), course=course)
    assert (course.phase, instruction) == ("collecting", AskPage(after=None))
    course, instruction = play(page(1, 5), course=course)
    assert instruction == AskPage(after=5)
    course, instruction = play(page(1), course=course)
    assert (course.phase, instruction, len(course.rows)) == ("done", Rest(), 2)


def test_a_held_job_is_asked_about_rarely() -> None:
    course, instruction = play(StatusSeen(status=status("accepted", "waiting")))
    assert course.is_held
    assert instruction == AskStatus(after_s=15.0)


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        ([WasRefused(reasons=("no",))], "refused"),
        ([StatusSeen(status=status("failed", "refused"))], "refused"),
        ([StatusSeen(status=status("failed", "expired"))], "refused"),
        ([StatusSeen(status=status("failed"))], "failed"),
        ([StatusSeen(status=status("dismissed"))], "cancelled"),
        ([AnswerWasBad(reason="x")], "failed"),
        ([CancelWanted()], "cancelled"),
        ([StatusSeen(status=status()), CancelWanted(), StatusSeen(status=status("dismissed"))], "cancelled"),
        ([StatusSeen(status=status()), CancelWanted(), JobUnknown()], "cancelled"),
        ([StatusSeen(status=status("successful")), page(3)], "failed"),
        ([StatusSeen(status=status("successful")), page(0, 3)], "failed"),
        ([StatusSeen(status=status("successful")), page(1, 3), page(1, 3)], "failed"),
        ([StatusSeen(status=status()), JobUnknown(), StatusSeen(status=status()), JobUnknown()], "failed"),
    ],
)
def test_ends(events, phase: str) -> None:
    course, instruction = play(*events)
    assert course.phase == phase
    assert instruction == Rest() or phase not in ENDED
    assert course.reasons or phase == "cancelled"


def test_a_node_that_forgot_the_job_gets_it_once_more() -> None:
    course, instruction = play(StatusSeen(status=status()), JobUnknown())
    assert instruction == Submit()
    assert course.rows == ()


def test_silence_is_borne_longer_after_the_node_was_reached() -> None:
    patience = Patience(submit_s=10, watch_s=100)
    for start, limit in ((COURSE, 10), (play(StatusSeen(status=status()))[0], 100)):
        course, now, pauses = start, START, []
        while not course.has_ended:
            course, instruction = handle(course, NotReached(reason="refused"), now=now, patience=patience)
            if not isinstance(instruction, Rest):
                pauses.append(instruction.after_s)
                now += timedelta(seconds=instruction.after_s)
        assert limit <= (now - START).total_seconds() <= limit + 30
        assert pauses == sorted(pauses)
        assert course.reasons == ("not reached: refused",)


def test_a_node_that_says_when_is_asked_then() -> None:
    _, instruction = play(NotReached(reason="429", retry_after_s=60.0))
    assert instruction == Submit(after_s=60.0)


EVENTS = st.one_of(
    st.builds(
        lambda state, approval: StatusSeen(status=status(state, approval)),
        st.sampled_from(["accepted", "running", "successful", "failed", "dismissed"]),
        st.sampled_from(["not needed", "waiting", "given", "refused", "expired"]),
    ),
    st.builds(page, st.integers(0, 3), st.none() | st.integers(0, 9)),
    st.just(NotReached(reason="x")),
    st.just(JobUnknown()),
    st.just(CancelWanted()),
    st.just(WasRefused(reasons=("no",))),
    st.just(AnswerWasBad(reason="x")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=12))
def test_any_events_in_any_order(events) -> None:
    course, now = COURSE, START
    for event in events:
        before = course
        course, instruction = handle(course, event, now=now)
        if before.has_ended:
            assert (course, instruction) == (before, Rest())
        assert isinstance(instruction, Rest) == course.has_ended
        assert parse_course(course_to_json(course)) == replace(course, tries=0)
        assert begin(course) == Rest() or not course.has_ended
    for _ in range(200):  # and from wherever it stands, silence ends it
        course, instruction = handle(course, NotReached(reason="x"), now=now)
        now += timedelta(seconds=getattr(instruction, "after_s", 0))
    assert course.has_ended
    assert not isinstance(instruction, SendCancel)


PURE = ("continuity", "dispatch", "merge", "plain_text", "policy", "registry", "status")
FORBIDDEN = {"asyncio", "aiohttp", "sqlite3", "time", "random", "socket", "secrets"}


@pytest.mark.parametrize("name", PURE)
def test_decisions_do_no_io(name: str) -> None:
    source = (Path(federation.__file__).parent / f"{name}.py").read_text("utf-8")
    imported = {
        alias.name.partition(".")[0]
        for item in ast.walk(ast.parse(source))
        if isinstance(item, ast.Import)
        for alias in item.names
    } | {
        (item.module or "").partition(".")[0]
        for item in ast.walk(ast.parse(source))
        if isinstance(item, ast.ImportFrom)
    }
    assert not imported & FORBIDDEN
    assert "datetime.now" not in source
