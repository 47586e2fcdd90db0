"""Values for the collection system: the file, its numbers, inert cells, and what later ingests say about them."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from federation_world import MANIFEST
from review_world import CODES, ReviewWorld, code_result, line, review_world, text_result

from linkeddata.spreadsheet import inert
from node.cli.main import run
from node.folder import NodeFolder
from node.services import retract, review
from node.services.corrections import CorrectionTable, export_table
from node.services.retract import RunSelection
from node.sheet_files import write_table

Make = Callable[..., NodeFolder]


@pytest.fixture
def world(make_node: Make, tmp_path: Path) -> ReviewWorld:
    return review_world(make_node, tmp_path)


def accept(world: ReviewWorld, number: int, *, pipeline: str | None = None) -> str:
    iri = world.statement(number, pipeline=pipeline).iri
    with world.node.database.transaction() as conn:
        review.decide_on(conn, iri, "accepted", by="anna", reason="", now=world.now)
    return iri


def correct(world: ReviewWorld, number: int, **values: str) -> str:
    with world.node.database.transaction() as conn:
        return review.correct(
            conn, world.node.settings, world.statement(number).iri, texts={}, specimen=None, by="anna", reason="",
            values={f"dwc:{term}": value for term, value in values.items()}, now=world.now,
        ).iri  # fmt: skip


def export(world: ReviewWorld, since: int = 0) -> CorrectionTable:
    with world.node.database.transaction() as conn:
        return export_table(conn, world.node.settings, since=since)


def states(world: ReviewWorld) -> list[tuple[str, str]]:
    with world.node.database.reader() as conn:
        rows = conn.execute("SELECT state, coalesce(seen, '') AS seen FROM correction")
        return sorted((row["state"], row["seen"].strip()) for row in rows)


async def test_an_accepted_reading_proposes_values_for_the_institutions_own_row(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Herb. Martii"), line("1817", box=(30, 30, 9, 9)))})
    await world.run_job(
        {2: code_result("X-77"), 3: code_result("X-3"), 4: code_result("https://x.example/4")}, offer=CODES
    )
    text = accept(world, 0, pipeline=MANIFEST.digest)
    for number in (2, 3, 4):
        accept(world, number, pipeline=CODES.digest)
    found = {item["occurrenceID"]: item for item in export(world).documents}
    assert set(found) == {"urn:x:0", "urn:x:2"}, "the same value, an address, and nothing propose nothing"
    assert found["urn:x:0"] == {
        "occurrenceID": "urn:x:0", "catalogNumber": "X-0", "institutionCode": "X", "collectionCode": "C",
        "source": "collection", "key": "urn:x:0", "field": "verbatimLabel", "old": "", "new": "Herb. Martii\n1817",
        "evidence": text, "pipeline": MANIFEST.digest, "score": "0.950", "reviewer": "anna",
        "date": "2026-11-24", "status": "accepted", "annotation": text, "number": found["urn:x:0"]["number"],
    }  # fmt: skip
    assert (found["urn:x:2"]["field"], found["urn:x:2"]["old"], found["urn:x:2"]["new"]) == (
        "catalogNumber",
        "X-2",
        "X-77",
    )


async def test_a_reading_never_overwrites_what_a_person_typed(world: ReviewWorld) -> None:
    rows = [dict(row) for row in world.rows]
    rows[0]["verbatimLabel"] = "typed by hand"
    world.take_in(rows)
    await world.run_job({0: text_result(line("read by machine"))})
    accept(world, 0)
    assert export(world).rows == ()


async def test_since_misses_nothing_and_repeats_nothing(world: ReviewWorld) -> None:
    await world.run_job({number: text_result(line(f"word {number}")) for number in range(6)})
    assert export(world).rows == ()
    start = export(world).following
    seen: list[str] = []
    for number in (0, 1, 2, 1, 3, 4, 5):  # 1 is about a restricted image: it has no entry in the publication log
        accept(world, number)
        if number in (1, 3, 5):
            table = export(world, start)
            seen += [item["key"] for item in table.documents]
            assert table.following > start
            start = table.following
            assert export(world, start).rows == ()
            assert export(world, start).following == start
    assert sorted(seen) == [f"urn:x:{number}" for number in range(6)]
    assert len(export(world, 0).rows) == 6, "an earlier number gives it again"


async def test_a_closed_image_is_in_the_file_with_a_link_for_staff(world: ReviewWorld) -> None:
    await world.run_job({1: text_result(line("Closed"))})
    iri = accept(world, 1)
    (found,) = export(world).documents
    assert found["evidence"] == f"{world.node.settings.origin}/review/{iri.rpartition('/')[2]}"
    assert world.log(iri) == []


async def test_a_later_ingest_incorporates_or_contradicts(world: ReviewWorld) -> None:
    await world.run_job({})
    for number, country in ((0, "Brazil"), (2, "Brazil"), (3, "Brazil"), (4, "Brazil")):
        correct(world, number, country=country)
    rows = [dict(row) for row in world.rows]
    rows[0]["country"] = " Brazil  "
    rows[2]["country"] = "Peru"
    rows[3]["locality"] = "another place"
    world.take_in(rows)
    assert states(world) == [("contradicted", "Peru"), ("incorporated", "Brazil"), ("open", ""), ("open", "")]
    by_key = {item["key"]: item["status"] for item in export(world).documents}
    assert by_key == {
        "urn:x:0": "incorporated", "urn:x:2": "contradicted", "urn:x:3": "accepted", "urn:x:4": "accepted"
    }  # fmt: skip
    rows[2]["country"] = "Brazil"
    rows[0]["country"] = "Chile"
    world.take_in(rows)
    by_key = {item["key"]: item["status"] for item in export(world).documents}
    assert by_key["urn:x:2"] == "incorporated", "they changed their mind"
    assert by_key["urn:x:0"] == "incorporated", "what is closed stays closed"


async def test_what_was_handed_out_and_then_rejected_or_retracted_is_taken_back_in_the_file(world: ReviewWorld) -> None:
    await world.run_job({0: text_result(line("Martii")), 2: text_result(line("Second"))})
    first, second = accept(world, 0), accept(world, 2)
    following = export(world).following
    with world.node.database.transaction() as conn:
        review.decide_on(conn, first, "rejected", by="anna", reason="", now=world.now)
    table = export(world, following)
    assert [(item["annotation"], item["status"]) for item in table.documents] == [(first, "withdrawn")]
    with world.node.database.transaction() as conn:
        pipeline = world.statement(0).pipeline
        number = retract.begin_retraction(conn, RunSelection(pipeline=pipeline), reason="r", by="a", now=world.now)
    retract.carry_on(world.node.database, number, clock=world.clock)
    again = export(world, table.following)
    assert [(item["annotation"], item["status"]) for item in again.documents] == [(second, "withdrawn")]
    with world.node.database.transaction() as conn:
        retract.begin_undo(conn, number, by="a", now=world.now)
    retract.carry_on(world.node.database, number, clock=world.clock)
    last = export(world, again.following)
    assert [(item["annotation"], item["status"]) for item in last.documents] == [(second, "accepted")]


async def test_the_columns_are_the_institutions(make_node: Make, tmp_path: Path) -> None:
    world = review_world(
        make_node, tmp_path,
        settings='[[corrections.columns]]\nfield = "catalogNumber"\nname = "Barcode"\n'
        '[[corrections.columns]]\nfield = "dwc:family"\n[[corrections.columns]]\nfield = "new"\nname = "Value"\n',
    )  # fmt: skip
    await world.run_job({0: text_result(line("Martii"))})
    accept(world, 0)
    table = export(world)
    assert table.heading == ("Barcode", "dwc:family", "Value")
    assert table.rows == (("X-0", "Testaceae", "Martii"),)


FORMULAS = (
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "  =1+1", "\t=1", "\uff1d1+1", "\u200b=1", "|x", "%x",
    '=HYPERLINK("http://evil.example","x")',
)  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(tmp_path: Path, text: str) -> None:
    from openpyxl import load_workbook

    assert inert(text).startswith("'")
    write_table(tmp_path / "t.xlsx", "xlsx", ("=A", "b"), [(text, "x")])
    sheet = load_workbook(tmp_path / "t.xlsx").active
    assert sheet is not None
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} == {"s"}
    assert sheet["A2"].value == text
    with zipfile.ZipFile(tmp_path / "t.xlsx") as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")


@pytest.mark.parametrize("text", ["-23.5", "B 10 0001", "a=b", "", "São Paulo", "12-3"])
def test_ordinary_values_are_as_they_are(tmp_path: Path, text: str) -> None:
    assert inert(text) == text
    write_table(tmp_path / "t.csv", "csv", ("a",), [(text,), ("x\x00\x1b\u202ey",)])
    with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["a"]
    assert rows[1:] == [[text], ["xy"]]


async def test_the_command_writes_the_file_and_says_the_next_number(
    world: ReviewWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.run_job({0: text_result(line("=HYPERLINK(1)")), 2: text_result(line("Second"))})
    accept(world, 0)
    folder = str(world.node.settings.folder)

    def vasculum(*words: str, code: int = 0) -> tuple[str, str]:
        assert run(["corrections", "export", folder, *words]) == code
        printed = capsys.readouterr()
        return printed.out, printed.err

    out, err = vasculum("--since", "0")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["new"] == "'=HYPERLINK(1)"
    following = err.strip().rpartition(" ")[2]
    assert err.startswith("1 value(s); next time: --since ")
    accept(world, 2)
    out, _ = vasculum("--since", following, "--json")
    found = json.loads(out)
    assert [item["new"] for item in found["corrections"]] == ["Second"]
    assert found["next"] > int(following)
    target = tmp_path / "back.xlsx"
    vasculum("--out", str(target))
    assert zipfile.is_zipfile(target)
    assert "needs a file" in vasculum("--format", "xlsx", code=2)[1]
    assert "cannot be written" in vasculum("--out", str(tmp_path / "no" / "x.csv"), code=1)[1]


@pytest.mark.parametrize("columns", ['field = "nonsense"', 'field = "old"\n[[corrections.columns]]\nfield = "old"'])
def test_a_wrong_column_is_said(make_node: Make, columns: str) -> None:
    from node.config import ConfigError

    with pytest.raises(ConfigError, match=r"\[\[corrections.columns\]\]"):
        make_node(settings=f"[[corrections.columns]]\n{columns}\n")
