"""The spool's comparison, in SQL, against its model in memory."""

from hypothesis import given
from hypothesis import strategies as st
from plan_model import IncomingRow, KnownRow, make_plan

from linkeddata.ingest_plan import plan_from
from linkeddata.source import SourceMedia, SourceRow
from node.services.intake_source import Intake, Standing, add_rows, new_spool


def row_of(key: str, number: str, media: set[str]) -> SourceRow:
    return SourceRow(
        source="s", key=key, fields={"dwc:catalogNumber": number} if number else {},
        media=tuple(SourceMedia(key=name, locator=name) for name in sorted(media)),
    )  # fmt: skip


ROWS = st.lists(
    st.builds(
        row_of,
        st.sampled_from("abcdef"),
        st.sampled_from(["", "1", "2", "3"]),
        st.sets(st.sampled_from("xyz"), max_size=2),
    ),
    max_size=9,
)


def twin(row: SourceRow) -> str:
    number = row.fields.get("dwc:catalogNumber", "")
    return f"||{number}" if number else ""


@given(ROWS, ROWS, st.sets(st.sampled_from("wxyz")))
def test_the_plan_of_the_spool_is_the_plan_of_the_model(
    before: list[SourceRow], now: list[SourceRow], media: set[str]
) -> None:
    known = {row.key: row for row in sorted(before, key=lambda row: row.key)}
    spool = new_spool()
    try:
        add_rows(spool, now)
        intake = Intake(
            source="s", kind="archive", root=None, names=frozenset(), spool=spool, notes=[], ends_early=False,
            _files=None,  # type: ignore[arg-type]  # no file is opened here
        )  # fmt: skip
        intake.set_known(((key, row.digest) for key, row in known.items()), [(key, key) for key in sorted(media)])
        keys, (vanished_media, known_media) = intake.keys(), intake.vanished_media()
        found = plan_from(
            keys, vanished={key: twin(known[key]) for key in intake.vanished_keys()}, new=intake.twins(keys.new),
            duplicates=intake.duplicate_keys(), contents=intake.contents(), ends_early=False,
            vanished_media=vanished_media, known_media=known_media,
        )  # fmt: skip
        looked = list(intake.rows_to_look_at())
        everything = list(intake.rows_to_look_at(whole=True))
        first = {row.key: row for row in intake.rows()}
        shown = {name: intake.specimens_of(name) for name in "xyz"}
    finally:
        spool.close()
    came = {row.key: row for row in reversed(now)}
    assert first == came
    states = {row.key: state for row, state in looked}
    order = list(dict.fromkeys(row.key for row in now))
    assert everything == [(came[key], states[key]) for key in order]
    numbers = {key: row.fields.get("dwc:catalogNumber", "") for key, row in came.items()}
    assert looked == [
        (came[key] if states[key] else Standing(key, numbers[key], came[key].media), states[key]) for key in order
    ]
    for name, keys in shown.items():
        assert keys == [key for key in order if name in {medium.key for medium in came[key].media}]
    arrived = {medium.key for row in {row.key: row for row in reversed(now)}.values() for medium in row.media}
    expected = make_plan(
        {key: KnownRow(digest=row.digest, twin=twin(row)) for key, row in known.items()},
        [IncomingRow(key=row.key, digest=row.digest, twin=twin(row)) for row in now],
        ends_early=False, known_media=sorted(media), incoming_media=arrived,
    )  # fmt: skip
    assert found == expected
    assert found.id == expected.id
    assert {key for key, state in states.items() if state == 0} == set(expected.unchanged)
    assert {key for key, state in states.items() if state == 2} == {*expected.new, *expected.rekeyed}
