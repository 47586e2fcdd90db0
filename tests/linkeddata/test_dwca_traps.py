"""What exports do by mistake: cut-off files, stray line ends, event cores, the same image told twice, damage."""

import random
import tracemalloc
import zipfile
from pathlib import Path

import archives
import pytest
from archives import AC, CSV, DCTERMS, DWC, TABS

from linkeddata.archive_files import FolderFiles
from linkeddata.dwca import open_archive
from linkeddata.dwca_media import split_associated_media
from linkeddata.dwca_meta import DwcaError, parse_meta
from linkeddata.eml import read_eml
from linkeddata.source import SourceRow

TERMS = [DWC + "occurrenceID", DWC + "country", DWC + "locality"]
MULTIMEDIA = "http://rs.gbif.org/terms/1.0/Multimedia"
OCCURRENCE = DWC + "Occurrence"


def read(path: Path) -> tuple[list[SourceRow], list[str], bool]:
    codes: list[str] = []
    with open_archive(path) as opened:
        rows = list(opened.rows("s", note=lambda key, code, message: codes.append(code)))
        return rows, codes, opened.ends_early


def one_table(path: Path, data: bytes, *, form: str = TABS) -> Path:
    return archives.folder(path, archives.table("core", OCCURRENCE, "o.txt", TERMS, form=form), {"o.txt": data})


@pytest.mark.parametrize(
    ("data", "form", "is_cut"),
    [
        (b"1\ta\tb\n2\tc\td\n", TABS, False),
        (b"1\ta\tb\n2\tc\td", TABS, False),
        (b"1\ta\tb\n2\tc", TABS, True),
        (b"1\ta\tb\n2", TABS, True),
        (b"1\ta\n2\tc", TABS, False),
        (b"1\ta\n2\tc\n", TABS, False),
        (b'1,a,"b"\n2,c,"d', CSV, True),
        (b'1,a,"b"\n2,c,"d\ne', CSV, True),
        (b'1,a,"b"\n2,c,"d\ne"\n', CSV, False),
        (b'1,a,"b"\n2,c,"d"', CSV, False),
        (b"", TABS, False),
    ],
)
def test_a_table_that_was_cut_off_is_told_from_one_that_is_written_short(
    tmp_path: Path, data: bytes, form: str, is_cut: bool
) -> None:
    _, codes, ends_early = read(one_table(tmp_path / "a", data, form=form))
    assert ends_early is is_cut
    assert ("ends-early" in codes) is is_cut


def test_a_header_tells_how_wide_a_cut_row_should_have_been(tmp_path: Path) -> None:
    head = b"id\tcountry\tlocality\tx\ty\n"
    form = TABS + ' ignoreHeaderLines="1"'
    assert not read(one_table(tmp_path / "a", head + b"1\ta\tb\tc\td\n2\te\tf\tg\th", form=form))[2]
    assert read(one_table(tmp_path / "b", head + b"1\ta\tb\tc\td\n2\te\tf\tg", form=form))[2]


@pytest.mark.parametrize(("form", "kept"), [(TABS, "a\rx"), (CSV.replace('","', '"\\t"'), "a x")])
def test_a_stray_carriage_return_does_not_cut_a_row(tmp_path: Path, form: str, kept: str) -> None:
    rows, _, _ = read(one_table(tmp_path / "a", b"1\ta\rx\tb\r\n2\tc\td\r\n", form=form))
    assert [dict(row.fields)["dwc:country"] for row in rows] == [kept, "c"]


def test_a_file_with_old_line_ends_is_read(tmp_path: Path) -> None:
    assert len(read(one_table(tmp_path / "a", b"1\ta\tb\r2\tc\td\r"))[0]) == 2


def test_only_the_broken_cell_of_a_row_is_repaired(tmp_path: Path) -> None:
    data = "1\tÖsterreich\t".encode() + "Köln".encode("cp1252") + b"\n"
    assert dict(read(one_table(tmp_path / "a", data))[0][0].fields) == {
        "dwc:occurrenceID": "1", "dwc:country": "Österreich", "dwc:locality": "Köln",
    }  # fmt: skip


def test_blank_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    rows, codes, _ = read(one_table(tmp_path / "a", b"1\ta\tb\n\t\t\n\n2\tc\td\n"))
    assert [row.key for row in rows] == ["1", "2"]
    assert "blank-rows" in codes


def test_values_longer_than_the_csv_modules_own_limit_are_read(tmp_path: Path) -> None:
    long = b"x" * 300_000
    assert (
        len(read(one_table(tmp_path / "a", b'1,a,"' + long + b'"\n', form=CSV))[0][0].fields["dwc:locality"]) == 300_000
    )


@pytest.mark.parametrize("encoding", ["rot13", "idna", "undefined", "utf-16", "utf-32", "base64", "punycode"])
def test_an_encoding_that_does_not_fit_is_one_clear_line(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DwcaError) as caught:
        read(one_table(tmp_path / "a", b"1\tcaf\xe9\tb\n2\tc\td\n.", form=TABS + f' encoding="{encoding}"'))
    assert "\n" not in str(caught.value)


def event_archive(path: Path, media: bytes) -> Path:
    tables = (
        archives.table("core", DWC + "Event", "event.txt", [DWC + "eventID", DWC + "country", DWC + "eventDate"])
        + archives.table(
            "extension", OCCURRENCE, "o.txt", ["", DWC + "occurrenceID", DWC + "scientificName", DWC + "country"]
        )
        + archives.table(
            "extension", AC + "Multimedia", "m.txt", ["", AC + "accessURI", AC + "associatedSpecimenReference"]
        )
    )
    files = {
        "event.txt": b"e1\tNorway\t1901\ne2\tPeru\t1902\n",
        "o.txt": b"e1\to1\tAcer\t\ne1\to2\tQuercus\tSweden\ne2\t\tTilia\t\ne2\t\tUlmus\t\n",
        "m.txt": media,
    }
    return archives.folder(path, tables, files)


def test_specimens_of_an_event_inherit_from_it_and_each_has_its_own_key(tmp_path: Path) -> None:
    rows, codes, _ = read(event_archive(tmp_path / "a", b""))
    assert [(row.fields["dwc:scientificName"], row.fields["dwc:country"], row.fields["dwc:eventDate"]) for row in rows] == [
        ("Acer", "Norway", "1901"), ("Quercus", "Sweden", "1901"), ("Tilia", "Peru", "1902"), ("Ulmus", "Peru", "1902"),
    ]  # fmt: skip
    assert len({row.key for row in rows}) == 4
    assert codes.count("empty-id") == 2


def test_media_of_an_event_belong_to_all_its_specimens_unless_they_name_one(tmp_path: Path) -> None:
    rows, _, _ = read(event_archive(tmp_path / "a", b"e1\tall.jpg\t\ne1\tone.jpg\to2\n"))
    assert [[medium.locator for medium in row.media] for row in rows] == [["all.jpg"], ["all.jpg", "one.jpg"], [], []]


def test_an_image_told_twice_keeps_https_and_the_stricter_licence(tmp_path: Path) -> None:
    media = [DCTERMS + "identifier", DCTERMS + "license", DCTERMS + "title"]
    tables = archives.table("core", OCCURRENCE, "o.txt", TERMS) + archives.table(
        "extension", MULTIMEDIA, "m.txt", ["", *media]
    )
    rows = b"1\thttp://x.example/1.jpg\tCC BY 4.0\t\n1\thttps://x.example/1.jpg\tall rights reserved\tA sheet\n"
    found, _, _ = read(archives.folder(tmp_path / "a", tables, {"o.txt": b"1\ta\tb\n", "m.txt": rows}))
    (medium,) = found[0].media
    assert (medium.locator, medium.licence, medium.title) == (
        "https://x.example/1.jpg", "all rights reserved", "A sheet",
    )  # fmt: skip


def test_sounds_and_rows_without_an_address_are_no_images_and_are_counted(tmp_path: Path) -> None:
    tables = archives.table("core", OCCURRENCE, "o.txt", TERMS) + archives.table(
        "extension", MULTIMEDIA, "m.txt", ["", DCTERMS + "identifier", DCTERMS + "type", DCTERMS + "format"]
    )
    rows = b"1\ta.mp3\tSound\taudio/mpeg\n1\tb.jpg\tStill Image\t\n1\tc.jpg\todd\timage/jpeg\n1\t\tStillImage\t\n"
    found, codes, _ = read(archives.folder(tmp_path / "a", tables, {"o.txt": b"1\ta\tb\n", "m.txt": rows}))
    assert [medium.locator for medium in found[0].media] == ["b.jpg", "c.jpg"]
    assert "media-not-image" in codes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.jpg; b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg, b.JPG | c.tif", ["a.jpg", "b.JPG", "c.tif"]),
        ("Smith, J. 1.jpg", ["Smith, J. 1.jpg"]),
        ("https://a/1;2,3.jpg, https://b/4.jpg", ["https://a/1;2,3.jpg", "https://b/4.jpg"]),
        ("https://a/1.jpg;", ["https://a/1.jpg"]),
    ],
)
def test_lists_of_media_in_one_cell(text: str, parts: list[str]) -> None:
    assert split_associated_media(text) == parts


def test_a_zip_of_many_small_bombs_is_refused_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(4):
            target.writestr(f"{number}.jpg", b"\0" * 10_000_000)
    with pytest.raises(DwcaError, match="zip bomb"):
        read(path)


def test_meta_xml_may_begin_with_blanks_and_must_not_be_deep() -> None:
    text = (
        f'<archive xmlns="http://rs.tdwg.org/dwc/text/">{archives.table("core", OCCURRENCE, "o.txt", TERMS)}</archive>'
    )
    assert parse_meta(b'\n  <?xml version="1.0"?>' + text.encode()).core.location == "o.txt"
    with pytest.raises(DwcaError, match="nested deeper"):
        parse_meta(b"<archive>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</archive>")


def test_eml_gives_a_title_or_a_finding_and_never_an_error() -> None:
    assert read_eml(b"<eml><dataset><title> My\n sheets </title></dataset></eml>").title == "My sheets"
    odd = read_eml(b'\n<?xml version="1.0"?><eml><title>x</title></eml>')
    assert (odd.title, "blanks" in odd.finding) == ("x", True)
    assert "DTD" in read_eml(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>').finding
    assert "not well-formed" in read_eml(b"<eml").finding
    assert "not well-formed" in read_eml(b"<a>" * 500 + b"</a>" * 500).finding


def test_names_that_are_not_text_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "ok.jpg").write_bytes(b"x")
    (tmp_path / "caf\udce9.jpg").write_bytes(b"x")
    files = FolderFiles(tmp_path)
    assert files.names == {"ok.jpg"}
    assert files.unnamable == 1


@pytest.mark.parametrize("seed", range(4))
def test_damaged_archives_are_read_or_are_one_clear_line(tmp_path: Path, seed: int) -> None:
    """Bytes are flipped, cut out and put in, in the zip and in its members: nothing but DwcaError may come out."""
    rng = random.Random(seed)
    good = event_archive(tmp_path / "good", b"e1\thttps://x.example/a.jpg\t\n")
    path = archives.packed(good, tmp_path / "a.zip")
    whole, failed = path.read_bytes(), 0
    for _ in range(60):
        if rng.random() < 0.5:
            data = bytearray(whole)
            for _ in range(rng.randint(1, 5)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            path.write_bytes(data)
        else:
            with zipfile.ZipFile(path, "w") as target:
                for item in sorted(good.iterdir()):
                    data = bytearray(item.read_bytes())
                    for _ in range(rng.randint(1, 4)):
                        at = rng.randrange(len(data) + 1)
                        data[at : at + rng.randint(0, 9)] = rng.choice(
                            [b'"', b"\0", b"\r", b"\xff", b"\xed\xa0\x80", b""]
                        )
                    target.writestr(item.name, bytes(data))
        try:
            for row in read(path)[0]:
                assert row.digest
        except DwcaError as error:
            failed += 1
            assert str(error).isprintable()
    assert failed, "no damage did any harm: the test damages nothing"


def test_memory_stays_flat_whatever_extensions_hold(tmp_path: Path) -> None:
    tables = archives.table("core", OCCURRENCE, "o.txt", TERMS) + archives.table(
        "extension", MULTIMEDIA, "m.txt", ["", DCTERMS + "identifier"]
    )
    flood = b"".join(b"nobody%d\thttps://images.example.org/a/long/path/%d.jpg\n" % (n, n) for n in range(30_000))
    path = archives.folder(tmp_path / "a", tables, {"o.txt": b"1\ta\tb\n", "m.txt": flood})
    del flood
    with open_archive(path) as opened:
        tracemalloc.start()
        assert sum(1 for _ in opened.rows("s", note=lambda *note: None)) == 1
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert opened.orphan_media() == 30_000
    assert peak < 3_000_000, f"{peak} bytes for one specimen"
