"""The plan of an ingest and its brakes; where files are looked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_model import IncomingRow, KnownRow, make_plan

from linkeddata.dwca_meta import DwcaError
from linkeddata.file_match import FileMatch, compile_rules, match_file


def known(count: int) -> dict[str, KnownRow]:
    return {f"k{n}": KnownRow(digest=f"d{n}", twin=f"t{n}") for n in range(count)}


def incoming(numbers: range, *, key: str = "k", digest: str = "d") -> list[IncomingRow]:
    return [IncomingRow(key=f"{key}{n}", digest=f"{digest}{n}", twin=f"t{n}") for n in numbers]


def test_the_same_archive_again_is_an_empty_plan() -> None:
    plan = make_plan(known(50), incoming(range(50)), ends_early=False)
    assert plan.is_empty
    assert plan.brake_reason is None


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (incoming(range(48)), None),
        (incoming(range(47)), "3 of 50 known records are missing"),
        (incoming(range(50), key="new"), "50 of 50 known records have another key"),
        ([*incoming(range(48)), *incoming(range(48, 50), key="new")], None),
        ([], "50 of 50"),
        (incoming(range(50), digest="x"), None),
    ],
)
def test_the_brake_is_on_above_five_per_cent(rows: list[IncomingRow], reason: str | None) -> None:
    found = make_plan(known(50), rows, ends_early=False).brake_reason
    assert found is None if reason is None else found is not None and reason in found


def test_an_archive_that_ends_early_is_always_held() -> None:
    assert make_plan(known(50), incoming(range(50)), ends_early=True).brake_reason is not None


def test_a_rekeyed_row_is_recognised_by_its_catalogue_number() -> None:
    plan = make_plan(known(3), [*incoming(range(2)), *incoming(range(2, 3), key="new")], ends_early=False)
    assert dict(plan.rekeyed) == {"new2": "k2"}
    assert plan.vanished == ()


def test_another_plan_has_another_id() -> None:
    one = make_plan(known(9), incoming(range(5)), ends_early=False)
    two = make_plan(known(9), incoming(range(4)), ends_early=False)
    assert one.id != two.id
    assert one.id == make_plan(known(9), incoming(range(5)), ends_early=False).id


ROW = st.builds(
    IncomingRow, key=st.sampled_from("abcdef"), digest=st.sampled_from("12"), twin=st.sampled_from(["", "x", "y", "z"])
)
KNOWN = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(KnownRow, digest=st.sampled_from("12"), twin=st.sampled_from(["", "x", "y", "z"])),
)


@settings(max_examples=200, deadline=None)
@given(KNOWN, st.lists(ROW, max_size=8))
def test_every_row_and_every_known_key_is_in_the_plan_once(
    before: dict[str, KnownRow], rows: list[IncomingRow]
) -> None:
    plan = make_plan(before, rows, ends_early=False)
    now = [*plan.new, *plan.changed, *plan.unchanged, *plan.rekeyed]
    assert sorted(now) == sorted({row.key for row in rows})
    assert sorted([*plan.changed, *plan.unchanged, *plan.vanished, *plan.rekeyed.values()]) == sorted(before)
    assert len(plan.duplicates) == len(rows) - len({row.key for row in rows})


NAMES = frozenset({"images/a.jpg", "scans/7/b.tif", "x y.jpg"})


@pytest.mark.parametrize(
    ("locator", "number", "expected"),
    [
        ("images/a.jpg", "", FileMatch(relpath="images/a.jpg")),
        ("./images/a.jpg", "", FileMatch(relpath="images/a.jpg")),
        ("x%20y.jpg", "", FileMatch(relpath="x y.jpg")),
        ("https://img.example/7/b", "", FileMatch(relpath="scans/7/b.tif")),
        ("https://img.example/8/b", "", FileMatch(url="https://img.example/8/b")),
        ("https://other.example/a.jpg", "", FileMatch(url="https://other.example/a.jpg")),
        ("../../etc/passwd", "", FileMatch()),
        ("/etc/passwd", "", FileMatch()),
        ("file:///etc/passwd", "", FileMatch()),
        ("javascript:alert(1)", "", FileMatch()),
        ("whatever", "CAT-a", FileMatch(relpath="images/a.jpg")),
        ("https://img.example/..%2f..%2fetc/passwd", "", FileMatch(url="https://img.example/..%2f..%2fetc/passwd")),
    ],
)
def test_a_media_row_finds_its_file_or_its_address_or_nothing(locator: str, number: str, expected: FileMatch) -> None:
    rules = compile_rules(
        [
            ("identifier", r"https://img\.example/(\d)/(?P<name>\w+)", "scans/{1}/{name}.tif"),
            ("catalogNumber", "CAT-(.)$", "images/{1}.jpg"),
        ]
    )
    assert match_file(locator, number, rules=rules, names=NAMES) == expected


def test_templates_cannot_reach_into_objects_or_out_of_the_folder() -> None:
    rules = compile_rules(
        [("identifier", "(.+)", "{0.__class__}"), ("identifier", "(.+)", "../{1}"), ("identifier", "(.+)", "{9}")]
    )
    assert match_file("a.jpg", "", rules=rules, names=frozenset({"a.jpg"})) == FileMatch(relpath="a.jpg")
    with pytest.raises(DwcaError, match="regular expression"):
        compile_rules([("identifier", "(", "x")])
