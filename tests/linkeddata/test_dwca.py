"""Darwin Core Archives as they are, and archives that are meant to harm."""

import struct
import zipfile
from pathlib import Path

import pytest
from conftest import rows_of, write_archive

from linkeddata.dwca import open_archive
from linkeddata.dwca_media import split_associated_media
from linkeddata.dwca_meta import DwcaError, parse_meta
from linkeddata.source import SourceRow

META = """<archive xmlns="http://rs.tdwg.org/dwc/text/"><core rowType="http://rs.tdwg.org/dwc/terms/Occurrence" {form}>
<files><location>o.txt</location></files><id index="0"/>{fields}</core>{more}</archive>"""
TABS = 'fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy=""'
FIELDS = (
    '<field index="0" term="http://rs.tdwg.org/dwc/terms/occurrenceID"/>'
    '<field index="1" term="http://rs.tdwg.org/dwc/terms/country"/>'
    '<field index="2" term="http://rs.tdwg.org/dwc/terms/locality"/>'
)


def archive(folder: Path, table: bytes, *, form: str = TABS, fields: str = FIELDS, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "meta.xml").write_text(META.format(form=form, fields=fields, more=more), "utf-8")
    (folder / "o.txt").write_bytes(table)
    return folder


def read(path: Path) -> tuple[list[SourceRow], list[tuple[str, str, str]], bool]:
    notes: list[tuple[str, str, str]] = []
    with open_archive(path) as opened:
        rows = list(opened.rows("s", note=lambda *note: notes.append(note)))
        return rows, notes, opened.ends_early


def values(path: Path) -> list[dict[str, str]]:
    return [dict(row.fields) for row in read(path)[0]]


def test_tabs_csv_crlf_and_other_encodings_give_the_same_rows(tmp_path: Path) -> None:
    expected = [{"dwc:occurrenceID": "1", "dwc:country": "Österreich", "dwc:locality": 'a "b", c'}]
    plain = '1\tÖsterreich\ta "b", c\n'
    quoted = '1,Österreich,"a ""b"", c"\r\n'
    csv = 'fieldsTerminatedBy="," linesTerminatedBy="\\r\\n" fieldsEnclosedBy=\'"\''
    assert values(archive(tmp_path / "a", plain.encode())) == expected
    assert values(archive(tmp_path / "b", quoted.encode(), form=csv)) == expected
    assert values(archive(tmp_path / "c", plain.encode("cp1252"), form=TABS + ' encoding="windows-1252"')) == expected
    assert values(archive(tmp_path / "d", plain.encode("utf-8-sig"))) == expected
    rows, notes, _ = read(archive(tmp_path / "e", plain.encode("cp1252")))
    assert dict(rows[0].fields) == expected[0]
    assert [code for _, code, _ in notes] == ["encoding-repaired"]


def test_constants_defaults_and_headers(tmp_path: Path) -> None:
    fields = FIELDS.replace('country"/>', 'country" default="Norway"/>') + (
        '<field term="http://rs.tdwg.org/dwc/terms/basisOfRecord" default="PreservedSpecimen"/>'
    )
    table = b"id\tcountry\tlocality\n1\t\tx\n2\tSweden\ty\n"
    found = values(archive(tmp_path / "a", table, form=TABS + ' ignoreHeaderLines="1"', fields=fields))
    assert [row["dwc:country"] for row in found] == ["Norway", "Sweden"]
    assert {row["dwc:basisOfRecord"] for row in found} == {"PreservedSpecimen"}


def test_a_next_line_character_inside_a_value_does_not_cut_the_row(tmp_path: Path) -> None:
    found = values(archive(tmp_path / "a", "1\tx\u0085y\u2028z\tw".encode()))
    assert found == [{"dwc:occurrenceID": "1", "dwc:country": "x\u0085y\u2028z", "dwc:locality": "w"}]


def test_quoted_values_may_hold_line_ends(tmp_path: Path) -> None:
    csv = 'fieldsTerminatedBy="," linesTerminatedBy="\\n" fieldsEnclosedBy=\'"\''
    assert values(archive(tmp_path / "a", b'1,"two\nlines",x\n', form=csv))[0]["dwc:country"] == "two\nlines"


def test_empty_and_missing_ids_are_findings_and_nothing_is_dropped(tmp_path: Path) -> None:
    rows, notes, _ = read(archive(tmp_path / "a", b"1\ta\tb\n\tc\td\n"))
    assert len(rows) == 2
    assert rows[1].key.startswith("row:")
    assert [code for _, code, _ in notes] == ["empty-id"]


def test_an_archive_that_ends_in_the_middle_of_a_row_is_noticed(tmp_path: Path) -> None:
    assert read(archive(tmp_path / "a", b"1\ta\tb\n2\tc\td\n"))[2] is False
    assert read(archive(tmp_path / "b", b"1\ta\tb\n2\tc\td"))[2] is False
    assert read(archive(tmp_path / "c", b"1\ta\tb\n2"))[2] is True


def test_the_same_image_by_three_ways_is_one_medium(tmp_path: Path) -> None:
    fields = FIELDS + '<field index="3" term="http://rs.tdwg.org/dwc/terms/associatedMedia"/>'
    extension = (
        f'<extension rowType="{{kind}}" {TABS}><files><location>{{file}}</location></files><coreid index="0"/>'
        '<field index="1" term="{term}"/></extension>'
    )
    more = extension.format(
        kind="http://rs.gbif.org/terms/1.0/Multimedia", file="m.txt", term="http://purl.org/dc/terms/identifier"
    ) + extension.format(
        kind="http://rs.tdwg.org/ac/terms/Multimedia", file="n.txt", term="http://rs.tdwg.org/ac/terms/accessURI"
    )
    folder = archive(
        tmp_path / "a", b"1\ta\tb\thttps://x.example/1.jpg|https://x.example/2.jpg\n", fields=fields, more=more
    )
    (folder / "m.txt").write_bytes(b"1\thttp://x.example/1.jpg\n9\thttp://x.example/orphan.jpg\n")
    (folder / "n.txt").write_bytes(b"1\thttps://x.example/1.jpg\n")
    with open_archive(folder) as opened:
        rows = list(opened.rows("s", note=lambda *note: None))
        assert opened.orphan_media() == 1
    assert sorted(medium.key for medium in rows[0].media) == ["x.example/1.jpg", "x.example/2.jpg"]


def test_lists_of_associated_media() -> None:
    assert split_associated_media("https://a/1,2.jpg; https://b/3.jpg|c.jpg") == [
        "https://a/1,2.jpg",
        "https://b/3.jpg",
        "c.jpg",
    ]
    assert split_associated_media(" ") == []


def zipped(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive_file:
        for name, data in members.items():
            archive_file.writestr(name, data)
    return path


def test_a_zip_with_one_root_folder_and_junk_reads_like_a_folder(tmp_path: Path) -> None:
    folder = write_archive(tmp_path / "a", rows_of(3))
    members = {f"root/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}
    members["__MACOSX/root/._meta.xml"] = b"junk"
    members["root/.DS_Store"] = b"junk"
    assert values(zipped(tmp_path / "a.zip", members)) == values(folder)


def test_one_csv_without_meta_xml_is_an_archive_two_are_not(tmp_path: Path) -> None:
    table = b"OCCURRENCEID,scientificname,odd\n1,Acer,x\n"
    one = zipped(tmp_path / "one.zip", {"d.csv": table})
    assert values(one) == [{"dwc:occurrenceID": "1", "dwc:scientificName": "Acer", "dwc:odd": "x"}]
    with pytest.raises(DwcaError, match="exactly one table"):
        read(zipped(tmp_path / "two.zip", {"d.csv": table, "e.csv": table}))
    with pytest.raises(DwcaError, match="no column that is a Darwin Core term"):
        read(zipped(tmp_path / "not.zip", {"d.csv": b"a,b\n1,2\n"}))


def hostile(tmp_path: Path, kind: str) -> Path:
    good = {"meta.xml": META.format(form=TABS, fields=FIELDS, more="").encode(), "o.txt": b"1\ta\tb\n"}
    path = tmp_path / f"{kind}.zip"
    if kind == "bomb":
        return zipped(path, {**good, "o.txt": b"0" * 60_000_000})
    if kind == "traversal":
        return zipped(path, {**good, "../../evil.txt": b"x"})
    if kind == "absolute":
        return zipped(path, {**good, "/etc/evil": b"x"})
    if kind == "drive":
        return zipped(path, {**good, "C:/evil": b"x"})
    if kind == "entities":
        return zipped(path, {**good, "meta.xml": b'<!DOCTYPE a [<!ENTITY b "c">]><archive>&b;</archive>'})
    if kind == "external":
        return zipped(path, {**good, "meta.xml": b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><archive/>'})
    if kind == "missing":
        return zipped(path, {"meta.xml": good["meta.xml"]})
    if kind == "malformed":
        return zipped(path, {**good, "meta.xml": b"<archive"})
    if kind == "event":
        return zipped(path, {**good, "meta.xml": good["meta.xml"].replace(b"terms/Occurrence", b"terms/Event")})
    if kind == "encoding":
        return zipped(
            path, {**good, "meta.xml": META.format(form=TABS + ' encoding="klingon"', fields=FIELDS, more="").encode()}
        )
    if kind == "escape-name":
        return zipped(path, {**good, "meta.xml": good["meta.xml"].replace(b"o.txt", b"../o.txt")})
    if kind == "twice":
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive_file:
            for name, data in [*good.items(), ("o.txt", b"2\tx\ty\n")]:
                archive_file.writestr(name, data)
        return path
    if kind == "symlink":
        with zipfile.ZipFile(path, "w") as archive_file:
            for name, data in good.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = (0o120777 if name == "o.txt" else 0o100644) << 16
                archive_file.writestr(info, b"/etc/passwd" if name == "o.txt" else data)
        return path
    data = zipped(path, good).read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "damaged":
        path.write_bytes(data.replace(b"1\ta", b"2\ta") if b"1\ta" in data else data[:60] + b"\xff\xff" + data[62:])
    elif kind == "encrypted":
        at = data.index(b"PK\x01\x02") + 8
        path.write_bytes(data[:at] + struct.pack("<H", 1) + data[at + 2 :])
    else:
        path.write_bytes(b"this is no zip")
    return path


@pytest.mark.parametrize(
    "kind",
    ["bomb", "traversal", "absolute", "drive", "entities", "external", "missing", "malformed", "event", "encoding",
     "escape-name", "twice", "symlink", "truncated", "damaged", "encrypted", "text"],
)  # fmt: skip
def test_a_harmful_archive_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DwcaError) as caught:
        read(hostile(tmp_path, kind))
    assert "\n" not in str(caught.value)
    assert not (tmp_path.parent / "evil.txt").exists()


def test_a_link_in_a_folder_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = archive(tmp_path / "a", b"")
    (folder / "o.txt").unlink()
    (folder / "o.txt").symlink_to("/etc/passwd")
    with pytest.raises(DwcaError):
        read(folder)


@pytest.mark.parametrize(
    "data", [b"", b"<a/>", b"<archive/>", b"<archive><core/><core/></archive>", b"\x00" * 50, b"x" * 2_000_000]
)
def test_a_meta_xml_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(DwcaError):
        parse_meta(data)


@pytest.mark.parametrize("encoding", ["utf-7", "utf-16"])
def test_meta_xml_in_odd_encodings_does_no_harm(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY b "c">]><archive/>'
    with pytest.raises(DwcaError):
        parse_meta(text.encode(encoding))


EXPECTED = {
    "dwca-2extensions": "the core is Taxon", "dwca-default-metadata-filename": 2, "dwca-ids": "the core is Taxon",
    "dwca-invalid-simple-toomuch": "exactly one table", "dwca-invalid-simple-two": "exactly one table",
    "dwca-kew-gbif-media": 19, "dwca-noheaders-1": 2, "dwca-noheaders-2": 2, "dwca-nometadata": 2,
    "dwca-orphaned-rows": "the core is Taxon", "dwca-partial-default": 2, "dwca-rbins": 11, "dwca-simple-csv": 3,
    "dwca-simple-csv-dos": 3, "dwca-simple-csv-eml": 3, "dwca-simple-csv-notenclosed": 3, "dwca-simple-subdir": 2,
    "dwca-simple-test-archive": 2, "dwca-simple-test-archive-enclosed": 2, "dwca-star-test-archive": "the core is Taxon",
    "dwca-test-default": 2, "dwca-utf8-eol-test": 1, "gbif-download-finch": 443, "gbif-results": 158,
    "gbif-results-lacks-s-metadata": 158, "gbif-results-whitespace-in-xml": 158,
}  # fmt: skip


@pytest.mark.real_data
def test_every_real_and_broken_archive_gives_a_count_or_one_clear_line(shared_data: Path) -> None:
    found: dict[str, int | str] = {}
    for path in sorted((shared_data / "dwca").iterdir()):
        try:
            found[path.stem] = len(read(path)[0])
        except DwcaError as error:
            found[path.stem] = next(
                (text for text in ("the core is Taxon", "exactly one table") if text in str(error)), str(error)
            )
    assert found == EXPECTED
