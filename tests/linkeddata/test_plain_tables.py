"""Plain tables with a mapping: drafted by name, edited by a person, read as an archive of one table."""

import io
import zipfile
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkeddata.column_guess import guess_columns
from linkeddata.dwca import read_tables
from linkeddata.dwca_meta import DwcaError
from linkeddata.licences import normalise_licence
from linkeddata.plain_tables import draft_mapping, mapping_path, open_plain, read_mapping
from linkeddata.source import SourceRow

HEADER = ("Inv. Nr.", "Gattung", "Art", "Sammler", "Funddatum", "Land", "Bilddatei", "Schrank")
ROWS = (
    ("B 1", "Acer", "campestre", "A. Müller", date(1901, 5, 2), "Deutschland", "a.jpg|b.jpg", 7),
    ("B 2", "Quercus", "robur", "=1+1", datetime(1902, 6, 3, 0, 0), "Österreich", "", 7.5),
)  # fmt: skip


def workbook(path: Path, *sheets: tuple[str, list[tuple[object, ...]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)  # type: ignore[arg-type]
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def text_table(path: Path, delimiter: str, encoding: str) -> Path:
    lines = [delimiter.join(str(cell) for cell in row) for row in (HEADER, *ROWS)]
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode(encoding))
    return path


def read(path: Path) -> tuple[list[SourceRow], tuple[str, ...]]:
    with (
        open_plain(path, read_mapping(path)) as (files, description, left_out),
        read_tables(files, description, description.core) as archive,
    ):
        return list(archive.rows("s", note=lambda key, code, message: None)), left_out


def drafted(path: Path) -> Path:
    mapping_path(path).write_text(draft_mapping(path), "utf-8")
    return path


@pytest.mark.parametrize("kind", ["xlsx", "csv", "tsv", "csv-1252", "csv-utf16"])
def test_a_drafted_mapping_reads_the_table(tmp_path: Path, kind: str) -> None:
    path = {
        "xlsx": lambda: workbook(tmp_path / "t.xlsx", ("Belege", [HEADER, *ROWS])),
        "csv": lambda: text_table(tmp_path / "t.csv", ";", "utf-8-sig"),
        "tsv": lambda: text_table(tmp_path / "t.tsv", "\t", "utf-8"),
        "csv-1252": lambda: text_table(tmp_path / "t.csv", ";", "windows-1252"),
        "csv-utf16": lambda: text_table(tmp_path / "t.csv", ";", "utf-16"),
    }[kind]()
    rows, left_out = read(drafted(path))
    assert left_out == ("Schrank",)
    assert dict(rows[0].fields) == {
        "dwc:catalogNumber": "B 1", "dwc:genus": "Acer", "dwc:specificEpithet": "campestre",
        "dwc:recordedBy": "A. Müller", "dwc:eventDate": "1901-05-02", "dwc:country": "Deutschland",
        "dwc:associatedMedia": "a.jpg|b.jpg", "dwc:basisOfRecord": "PreservedSpecimen",
    }  # fmt: skip
    assert [medium.locator for medium in rows[0].media] == ["a.jpg", "b.jpg"]
    assert rows[1].fields["dwc:eventDate"].startswith("1902-06-03")
    # A formula of a workbook that was never calculated has no value; in a text file it is only a text.
    assert rows[1].fields.get("dwc:recordedBy", "") == ("" if kind == "xlsx" else "=1+1")


def test_the_sheet_that_the_mapping_names_is_read(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", ("Notes", [("x",), ("y",)]), ("Belege", [HEADER, *ROWS]))
    mapping_path(path).write_text(
        '[table]\nsheet = "Belege"\n[columns]\n"Inv. Nr." = "dwc:catalogNumber"\n'
        + "".join(f'"{name}" = ""\n' for name in HEADER[1:])
    )
    assert [row.key for row in read(path)[0]] == ["||B 1", "||B 2"]
    mapping_path(path).write_text('[table]\nsheet = "Other"\n[columns]\n"Inv. Nr." = "dwc:catalogNumber"\n')
    with pytest.raises(DwcaError, match="has no sheet 'Other': it has Notes, Belege"):
        read(path)


NUMBER = '"Inv. Nr." = "dwc:catalogNumber"\n'
IMAGE = '"Bilddatei" = "dwc:associatedMedia"\n'
REST = "".join(f'"{name}" = ""\n' for name in HEADER[1:])


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ("", "no column is dwc:catalogNumber or dwc:occurrenceID"),
        ("[columns", "mapping.toml"),
        ("[columns]\n" + NUMBER, "has a column 'Gattung' that t.csv.mapping.toml does not name"),
        ("[columns]\n" + NUMBER + REST + '"Extra" = ""\n', "names a column 'Extra' that t.csv does not have"),
        ("[columns]\n" + NUMBER + '"Gattung" = "genus"\n', "did you mean dwc:genus"),
        ("[columns]\n" + NUMBER + '"Gattung" = "dwc:catalogNumber"\n', "gives dwc:catalogNumber twice"),
        ("[columns]\n" + NUMBER + "[column]\n", "and no other"),
        ("[columns]\n" + NUMBER + "x = 7\n", "every value is a text in quotes"),
        ("[columns]\n" + NUMBER + '"Art" = "media:dcterms:license"\n', "and no column is dwc:associatedMedia"),
        ("[columns]\n" + NUMBER + IMAGE + '"Art" = "media:licence"\n', "'media:licence' is no term of an image"),
        ("[columns]\n" + NUMBER + IMAGE + '"Art" = "media:ac:accessURI"\n', "stand in dwc:associatedMedia"),
        ("[table]\nsheets = 'a'\n[columns]\n" + NUMBER, "sheet, delimiter and encoding"),
        ("[table]\nencoding = 'klingon'\n[columns]\n" + NUMBER + REST, "is not text in 'klingon'"),
        ("[table]\ndelimiter = '::'\n[columns]\n" + NUMBER + REST, "must be one character"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_with_one_line(tmp_path: Path, mapping: str, says: str) -> None:
    path = text_table(tmp_path / "t.csv", ";", "utf-8")
    mapping_path(path).write_text(mapping)
    with pytest.raises(DwcaError, match=says) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_columns_say_something_of_the_images_of_a_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "Nr,Bild,Lizenz,px\n"
        "1,a.jpg|b.jpg,CC0,20\n"  # one value for all
        "2,c.jpg|d.jpg,CC0 | CC BY 4.0,|11.5\n"  # one for each
        "3,e.jpg|f.jpg|g.jpg,CC0|CC BY 4.0,\n"  # neither: one text that no licence is
        "4,,CC0,20\n"
    )
    mapping_path(path).write_text(
        '[columns]\n"Nr" = "dwc:catalogNumber"\n"Bild" = "dwc:associatedMedia"\n"Lizenz" = "media:dcterms:license"\n'
        '"px" = "media:vasculum:pixelsPerMillimetre"\n[constants]\n"media:dcterms:creator" = "A. Foto"\n'
    )
    rows, _ = read(path)
    assert [[(item.key, item.licence) for item in row.media] for row in rows] == [
        [("a.jpg", "CC0"), ("b.jpg", "CC0")],
        [("c.jpg", "CC0"), ("d.jpg", "CC BY 4.0")],
        [(name, "CC0|CC BY 4.0") for name in ("e.jpg", "f.jpg", "g.jpg")],
        [],
    ]
    assert normalise_licence("CC0|CC BY 4.0").access != normalise_licence("CC0").access
    scales = [item.fields.get("vasculum:pixelsPerMillimetre", "") for row in rows for item in row.media]
    assert scales == ["20", "20", "", "11.5", "", "", ""]
    assert {item.fields["dcterms:creator"] for row in rows for item in row.media} == {"A. Foto"}
    assert not [term for row in rows for term in row.fields if term.startswith("media:")]


def test_without_a_mapping_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DwcaError, match="--guess-mapping drafts t.csv.mapping.toml"):
        read(text_table(tmp_path / "t.csv", ";", "utf-8"))


def rewritten(path: Path, change: dict[str, bytes]) -> Path:
    """The workbook with some members replaced or added."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()} | change
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    return path


ENTITY = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><worksheet>&a;</worksheet>'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"xl/worksheets/sheet1.xml": ENTITY}, "has a DTD"),
        ({"xl/worksheets/sheet1.xml": b"<!--" + b" " * 200_000 + b"-->" + ENTITY}, "has a DTD"),
        ({"xl/sharedStrings.xml": "<sst/>".encode("utf-16")}, "not UTF-8"),
        ({"xl/worksheets/sheet1.xml": b"<worksheet>" + b" " * 30_000_000 + b"</worksheet>"}, "zip bomb"),
        ({"../evil.xml": b"<a/>"}, "leaves the archive"),
        ({"xl/workbook.xml": b"<workbook"}, "no workbook that can be read"),
        ({"xl/worksheets/sheet1.xml": b"<worksheet><sheetData><row>"}, "no workbook that can be read"),
    ],
)
def test_hostile_workbooks_are_refused(tmp_path: Path, change: dict[str, bytes], says: str) -> None:
    path = rewritten(workbook(tmp_path / "t.xlsx", ("Belege", [HEADER, *ROWS])), change)
    with pytest.raises(DwcaError, match=says) as caught:
        draft_mapping(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    for data in (b"", b"PK\x03\x04", b"Inv;Art\n", io.BytesIO(b"\xd0\xcf\x11\xe0").getvalue()):
        path.write_bytes(data)
        with pytest.raises(DwcaError):
            draft_mapping(path)


def test_a_size_that_a_workbook_claims_is_not_believed(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", ("Belege", [HEADER, *ROWS]))
    with zipfile.ZipFile(path) as old:
        sheet = old.read("xl/worksheets/sheet1.xml")
    rewritten(path, {"xl/worksheets/sheet1.xml": sheet.replace(b'ref="A1:H3"', b'ref="A1:XFD1048576"')})
    assert len(read(drafted(path))[0]) == 2


def test_columns_are_guessed_in_several_languages_and_no_term_twice() -> None:
    found = guess_columns(["Barcode", "Catalogue No.", "Leg.", "Det.", "dwc:country", "Höhe", "Lat", "Lon", "Colour"])
    assert found == {
        "Barcode": "dwc:catalogNumber", "Catalogue No.": "", "Leg.": "dwc:recordedBy", "Det.": "dwc:identifiedBy",
        "dwc:country": "dwc:country", "Höhe": "dwc:minimumElevationInMeters", "Lat": "dwc:decimalLatitude",
        "Lon": "dwc:decimalLongitude", "Colour": "",
    }  # fmt: skip
    found = guess_columns(["Barcode", "Foto", "Fotograf", "Bildlizenz", "px/mm"])
    assert list(found.values()) == [
        "dwc:catalogNumber", "dwc:associatedMedia", "media:dcterms:creator", "media:dcterms:license",
        "media:vasculum:pixelsPerMillimetre",
    ]  # fmt: skip
    assert guess_columns(["Barcode", "Fotograf"]) == {"Barcode": "dwc:catalogNumber", "Fotograf": ""}
    assert guess_columns(["Barcode", "catalogNumber"]) == {"Barcode": "", "catalogNumber": "dwc:catalogNumber"}


@given(st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=8))
def test_guessing_never_fails_and_never_gives_a_term_twice(header: list[str]) -> None:
    terms = [term for term in guess_columns(header).values() if term]
    assert len(terms) == len(set(terms))
