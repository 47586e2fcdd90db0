"""Ranges and conditions, decided without I/O, against slices of real bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.web.ranges import decide_bytes

TAG = '"sha256-abc"'
SIZES = st.integers(0, 40)
POSITIONS = st.one_of(st.integers(0, 45), st.integers(2**63 - 2, 2**70))


def ask(size: int, method: str = "GET", **headers: str):
    return decide_bytes(
        {name.replace("_", "-"): value for name, value in headers.items()}, size=size, etag=TAG, method=method
    )


@settings(max_examples=400, deadline=None)
@given(SIZES, POSITIONS, st.one_of(st.none(), POSITIONS), st.sampled_from(["", " ", "\t"]))
def test_a_single_range_is_the_slice_that_python_gives(size: int, first: int, last: int | None, space: str) -> None:
    data = bytes(range(size))
    answer = ask(size, Range=f"bytes={space}{first}-{'' if last is None else last}")
    expected = data[first:] if last is None else data[first : last + 1]
    if last is not None and last < first:
        assert (answer.status, answer.length) == (200, size)  # no valid range: ignored
    elif not expected:
        assert answer.status == 416
    else:
        assert answer.status == 206
        assert data[answer.offset : answer.offset + answer.length] == expected


@settings(max_examples=200, deadline=None)
@given(SIZES, POSITIONS)
def test_a_suffix_is_the_end_that_python_gives(size: int, count: int) -> None:
    data = bytes(range(size))
    answer = ask(size, Range=f"bytes=-{count}")
    expected = data[max(0, size - count) :]
    if expected:
        assert answer.status == 206
        assert data[answer.offset : answer.offset + answer.length] == expected
    else:
        assert answer.status == 416


@settings(max_examples=400, deadline=None)
@given(SIZES, st.text(max_size=30), st.sampled_from(["", "bytes=", "bytes=0-", "bytes=0-1,", "items="]))
def test_whatever_a_range_header_holds_the_answer_is_a_possible_one(size: int, text: str, start: str) -> None:
    answer = ask(size, Range=start + text)
    assert answer.status in (200, 206, 416)
    if answer.status == 200:
        assert (answer.offset, answer.length) == (0, size)
    if answer.status == 206:
        assert answer.length >= 1
        assert 0 <= answer.offset <= answer.offset + answer.length <= size


@pytest.mark.parametrize(
    "text",
    ["bytes=0-1,5-6", "bytes=0-0,", "bits=0-1", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1 0-2", "bytes=5-2", "bytes=0--1",
     "bytes=+1-2", "bytes=٣-", "bytes=0x1-2", "bytes=1_0-", "bytes=" + "9" * 41 + "-"],
)  # fmt: skip
def test_several_ranges_other_units_and_nonsense_are_ignored(text: str) -> None:
    assert ask(100, Range=text).status == 200


def test_units_are_case_insensitive() -> None:
    assert ask(100, Range="Bytes=0-1").length == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": TAG}, 304), ({"If-None-Match": "W/" + TAG}, 304), ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": f'"other", {TAG}'}, 304), ({"If-None-Match": '"other"'}, 200),
        ({"If-Match": TAG}, 200), ({"If-Match": "*"}, 200), ({"If-Match": '"other"'}, 412), ({"If-Match": "W/" + TAG}, 412),
        ({"If-Match": '"other"', "If-None-Match": TAG}, 412),  # 13.2.2: If-Match is asked first
        ({"If-None-Match": TAG, "Range": "bytes=0-1"}, 304),
        ({"Range": "bytes=0-1", "If-Range": TAG}, 206), ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-1", "If-Range": "W/" + TAG}, 200),
        ({"Range": "bytes=0-1", "If-Range": "Tue, 24 Nov 2026 10:00:00 GMT"}, 200),
        ({"Range": "bytes=200-", "If-Range": '"other"'}, 200),
    ],
)  # fmt: skip
def test_conditions_of_rfc_9110(headers: dict[str, str], status: int) -> None:
    assert decide_bytes(headers, size=100, etag=TAG).status == status


def test_a_head_gets_the_head_of_the_whole() -> None:
    assert ask(100, method="HEAD", Range="bytes=0-1").status == 200
    assert ask(100, method="HEAD", If_None_Match=TAG).status == 304
