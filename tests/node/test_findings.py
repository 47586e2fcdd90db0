"""Issues of records: kept per record, shown to staff with values and to everybody as flags, never staler than the row."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from web_world import SETTINGS, serving

from linkeddata.issues import FLAGS
from node.cli.main import run
from node.folder import NodeFolder
from node.storage.issues import count_issues, count_levels
from node.web.session import make_token

Make = Callable[..., NodeFolder]


def flags(node: NodeFolder, key: str) -> dict[str, int]:
    """Flag -> whether it is public, of one row."""
    with node.database.reader() as conn:
        rows = conn.execute(
            "SELECT i.code, i.is_public FROM record_issue i JOIN source_row s ON s.iri = i.iri WHERE s.key = ?", (key,)
        )
        return {row["code"]: row["is_public"] for row in rows}


def body(node: NodeFolder, key: str) -> dict[str, object]:
    with node.database.reader() as conn:
        row = conn.execute(
            "SELECT r.body FROM record r JOIN source_row s ON s.iri = r.iri WHERE s.key = ?", (key,)
        ).fetchone()
        return json.loads(row["body"])  # type: ignore[no-any-return]


def counts(node: NodeFolder) -> dict[str, int]:
    with node.database.reader() as conn:
        return dict(count_issues(conn))


USUAL = {"LICENSE_MISSING"}


def test_flags_stand_in_the_table_and_in_the_document_and_go_when_the_row_is_mended(
    make_node: Make, tmp_path: Path
) -> None:
    node, rows = make_node(), rows_of(2)
    rows[1] |= {"eventDate": "1901-02-30"}
    path = write_archive(tmp_path / "a", rows, images=jpeg)
    report = ingest(node, path)
    assert flags(node, "urn:x:1").keys() - USUAL == {"RECORDED_DATE_INVALID"}
    assert set(flags(node, "urn:x:1").values()) == {1}
    assert body(node, "urn:x:1")["vasculum:issue"] == sorted({"RECORDED_DATE_INVALID", *flags(node, "urn:x:0")})
    assert report.issues == sum(counts(node).values())
    assert ingest(node, path).issues == report.issues  # an unchanged archive keeps them
    rows[1]["eventDate"] = "1901-02-28"
    write_archive(path, rows)
    again = ingest(node, path)
    assert (again.changed, again.unchanged) == (1, 1)
    assert flags(node, "urn:x:1") == flags(node, "urn:x:0")
    assert body(node, "urn:x:1")["vasculum:issue"] == body(node, "urn:x:0")["vasculum:issue"]


def test_flags_across_records_are_for_staff_and_follow_the_whole_source(make_node: Make, tmp_path: Path) -> None:
    node, rows = make_node(), rows_of(4)
    rows[1]["catalogNumber"] = rows[0]["catalogNumber"]
    path = write_archive(tmp_path / "a", rows, images=lambda number: jpeg(min(number, 2)))
    ingest(node, path)
    for key, expected in (
        ("urn:x:0", {"DUPLICATE_CATALOG_NUMBER"}), ("urn:x:1", {"DUPLICATE_CATALOG_NUMBER"}),
        ("urn:x:2", {"IMAGE_OF_OTHER_RECORD"}), ("urn:x:3", {"IMAGE_OF_OTHER_RECORD"}),
    ):  # fmt: skip
        assert flags(node, key).keys() & {"DUPLICATE_CATALOG_NUMBER", "IMAGE_OF_OTHER_RECORD"} == expected
        assert not expected & set(body(node, key)["vasculum:issue"])  # type: ignore[call-overload]
    rows[1]["catalogNumber"] = "X-1"
    write_archive(path, rows)
    ingest(node, path)
    assert "DUPLICATE_CATALOG_NUMBER" not in flags(node, "urn:x:0"), "its row has not changed, the other has"


def test_flags_of_withdrawn_records_go(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path = write_archive(tmp_path / "a", rows_of(3), images=jpeg)
    ingest(node, path)
    write_archive(path, rows_of(2))
    ingest(node, path, prune=True)
    assert flags(node, "urn:x:2") == {}
    with node.database.reader() as conn:
        assert sum(count for _, count in count_levels(conn)) == 2


def test_a_sensitive_record_shows_only_flags_of_what_it_shows(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings='[[sensitive]]\nvalue = "Planta numero1"\ncategory = 1\n')
    rows = rows_of(2)
    for row in rows:
        row |= {"decimalLatitude": "-52.5", "decimalLongitude": "13.4"}
    ingest(node, write_archive(tmp_path / "a", rows, images=jpeg))
    placed = {"PRESUMED_NEGATED_LATITUDE", "COUNTRY_COORDINATE_MISMATCH"}
    assert placed <= set(body(node, "urn:x:0")["vasculum:issue"])  # type: ignore[call-overload]
    assert not placed & set(body(node, "urn:x:1")["vasculum:issue"])  # type: ignore[call-overload]
    assert {code: flags(node, "urn:x:1")[code] for code in placed} == dict.fromkeys(placed, 0)


def test_mids_level_is_published_counted_and_asks_the_settings_too(make_node: Make, tmp_path: Path) -> None:
    lines = (
        "occurrenceID,catalogNumber,institutionCode,scientificName,preparations,modified,basisOfRecord",
        "urn:x:0,1,X,Acer campestre,sheet,2024-01-01,PreservedSpecimen",
        "urn:x:1,2,X,Acer campestre,sheet,,PreservedSpecimen",
        "urn:x:2,3,,Acer campestre,sheet,,PreservedSpecimen",
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a/occurrence.csv").write_text("\n".join(lines) + "\n", "utf-8")
    node = make_node(settings='[sources.licensed]\nlicence = "CC0"\n')
    ingest(node, tmp_path / "a", source="licensed")
    assert [body(node, f"urn:x:{number}").get("ods:midsLevel") for number in range(3)] == [1, 0, None]
    with node.database.reader() as conn:
        assert count_levels(conn) == [(None, 1), (0, 1), (1, 1)]


def test_the_command_lists_and_sums_up(make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node, rows = make_node(), rows_of(2)
    rows[1]["eventDate"] = "1901-02-30"
    ingest(node, write_archive(tmp_path / "a", rows, images=jpeg))
    folder = str(node.settings.folder)
    assert run(["findings", folder, "--code", "RECORDED_DATE_INVALID"]) == 0
    said = capsys.readouterr().out
    assert "urn:x:1  RECORDED_DATE_INVALID: eventDate 1901-02-30" in said
    assert FLAGS["RECORDED_DATE_INVALID"].advice in said
    assert run(["findings", folder, "--key", "urn:x:0", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["code"] for line in lines} == set(flags(node, "urn:x:0"))
    assert run(["findings", folder, "--summary", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == counts(node)
    assert found["mids"] == {"0": 2}
    assert run(["doctor", folder]) == 0
    assert "2 at MIDS 0" in capsys.readouterr().out


async def test_the_page_shows_flags_to_all_and_values_to_staff(make_node: Make, tmp_path: Path) -> None:
    async with serving(make_node(settings=SETTINGS), tmp_path) as world:
        path = "/" + world.specimens["open"].split("/", 3)[3]
        html = {"Accept": "text/html"}
        page = await (await world.client.get(path, headers=html)).text()
        assert "MIDS level" in page
        assert "LICENSE_MISSING" in page
        assert "dcterms:license empty" not in page
        with world.node.database.transaction() as conn:
            token = make_token(conn, now=NOW)
        answer = await world.client.post(
            "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
        )
        cookie = {"Cookie": f"vasculum_staff={answer.cookies['vasculum_staff'].value}"}
        assert "dcterms:license empty" in await (await world.client.get(path, headers=html | cookie)).text()


def test_nothing_but_an_ingest_writes_flags_that_are_in_no_table(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(2), images=jpeg))
    assert counts(node).keys() <= FLAGS.keys()
    with pytest.raises(sqlite3.IntegrityError), node.database.transaction() as conn:
        conn.execute("INSERT INTO record_issue SELECT * FROM record_issue")


def test_a_plain_table_is_drafted_edited_and_ingested_like_an_archive(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node()
    folder, table = str(node.settings.folder), tmp_path / "t" / "list.csv"
    table.parent.mkdir()
    lines = [
        "Barcode;Artname;Funddatum;Bild;Schrank",
        *(f"B {n};Acer campestre;1901-02-30;{n}.jpg;4" for n in range(3)),
    ]
    table.write_text("\n".join(lines) + "\n", "utf-8")
    for number in range(3):
        (table.parent / f"{number}.jpg").write_bytes(jpeg(number))
    assert run(["ingest", folder, str(table)]) == 2
    assert "--guess-mapping drafts list.csv.mapping.toml" in capsys.readouterr().err
    assert run(["ingest", folder, str(table), "--guess-mapping"]) == 0
    said = capsys.readouterr().out
    assert "(1 columns have no term yet)" in said
    assert f"then: vasculum ingest {folder} {table} --dry-run" in said
    assert run(["ingest", folder, str(table), "--guess-mapping"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["ingest", folder, str(table), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["new"], report["media"], report["filesMissing"], report["orphanFiles"]) == (3, 3, 0, 0)
    assert counts(node)["RECORDED_DATE_INVALID"] == 3
    assert run(["findings", folder, "--code", "column-left-out"]) == 0
    assert "Schrank" in capsys.readouterr().out
    table.write_text("\n".join(lines[:2]) + "\n", "utf-8")
    assert run(["ingest", folder, str(table)]) == 1
    assert "--accept-plan" in capsys.readouterr().err
    run(["doctor", folder])
    said = " ".join(capsys.readouterr().out.split())
    assert f"vasculum ingest {folder} PATH --source collection --accept-plan" in said
    assert "with the PATH that it read" in said
    (table.parent / f"{table.name}.mapping.toml").unlink()
    assert run(["ingest", folder, str(table), "--source", "collection", "--guess-mapping"]) == 0
    assert f"then: vasculum ingest {folder} {table} --source collection --dry-run" in capsys.readouterr().out
