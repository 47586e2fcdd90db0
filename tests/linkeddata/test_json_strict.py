"""The strict JSON door: everything hostile is a JsonInputError, everything good is the same value."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkeddata.errors import DocumentError, JsonInputError
from linkeddata.json_strict import get_int, get_str, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[" * 100_000, "levels deep"),
        (b"[" * 33 + b"]" * 33, "levels deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "levels deep"),
        (b'{"a":1,"a":2}', "stands twice"),
        (b'{"a":{"b":1,"b":1}}', "stands twice"),
        (b"NaN", "not JSON"),
        (b"[Infinity]", "not JSON"),
        (b"[-Infinity]", "not JSON"),
        (b"1e999", "too large"),
        (b"9" * 5000, "64 bit"),
        (b"9223372036854775808", "64 bit"),
        (b"-9223372036854775809", "64 bit"),
        (b"0." + b"1" * 200, "60 characters"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'"\xff"', "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"{} x", "not JSON"),
        (b"", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b'"' + b"a" * 2_000_000 + b'"', "bytes"),
        ("\ud800", "surrogate"),
        (b'["\x00"]', "not JSON"),
    ],
)
def test_hostile_input_is_refused_with_a_reason(data: bytes | str, says: str) -> None:
    with pytest.raises(JsonInputError, match=says):
        parse_json(data)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_what_json_writes_is_read_back(value: object) -> None:
    assert parse_json(json.dumps(value), max_depth=64) == value


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_the_one_error(data: bytes) -> None:
    try:
        parse_json(data)
    except JsonInputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "data",
    [b'"' + b'\\"' * 500_000, b'"' * 1_000_001, b'"' + b"\\" * 1_000_001, b'["' + b'\\"[' * 300_000, b'{"' * 500_000],
    ids=["open string of escapes", "quotes", "backslashes", "escapes and brackets", "keys"],
)
def test_a_megabyte_of_anything_is_refused_at_once(data: bytes) -> None:
    """An open quotation mark before half a million escaped ones took the checker of depth hours."""
    started = time.process_time()
    with pytest.raises(JsonInputError):
        parse_json(data)
    assert time.process_time() - started < 2


def test_brackets_inside_strings_do_not_count_as_depth() -> None:
    assert parse_json(json.dumps("[" * 500 + '\\"')) == "[" * 500 + '\\"'


def test_members_of_the_wrong_type_are_named() -> None:
    with pytest.raises(DocumentError, match="name is missing"):
        get_str({}, "name")
    with pytest.raises(DocumentError, match="name must be text"):
        get_str({"name": 1}, "name")
    with pytest.raises(DocumentError, match="seq must be a whole number"):
        get_int({"seq": True}, "seq", low=0, high=9)
    with pytest.raises(DocumentError, match="seq must be 0 to 9"):
        get_int({"seq": 10}, "seq", low=0, high=9)
