"""Ingest on small made archives: nothing twice, nothing lost, nothing said that must not be."""

import json
import sqlite3
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NOW, ORIGIN, ingest, jpeg, rows_of, write_archive

from cas.ids import ContentId
from linkeddata.dwca_meta import DwcaError
from linkeddata.source import SourceRow
from node.folder import NodeFolder
from node.services import ingest as ingesting
from node.services import intake_source
from node.services.ingest_ledger import PlanHeld
from node.storage import annotations, records

Make = Callable[..., NodeFolder]


def query(node: NodeFolder, sql: str, *parameters: object) -> list[sqlite3.Row]:
    with node.database.reader() as conn:
        return conn.execute(sql, parameters).fetchall()


def log(node: NodeFolder) -> list[tuple[int, str, str]]:
    return [(row["seq"], row["record_type"], row["op"]) for row in query(node, "SELECT * FROM change ORDER BY seq")]


def test_an_archive_becomes_records_media_blobs_and_a_dense_log(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path = write_archive(tmp_path / "a", rows_of(5), images=jpeg)
    report = ingest(node, path)
    assert (report.new, report.media, report.findings) == (5, 5, 0)
    assert [seq for seq, _, _ in log(node)] == list(range(1, 11))
    for row in query(node, "SELECT * FROM medium"):
        assert row["image"] == ContentId.of((path / row["locator"]).read_bytes()).hex
        assert (row["width"], row["height"], row["format"]) == (64, 48, "image/jpeg")
        assert node.blobs.verify(ContentId.from_hex(row["image"]))
    for row in query(node, "SELECT * FROM record"):
        body = json.loads(row["body"])
        assert (
            body["@id"] == row["iri"] == f"{ORIGIN}/{'specimen' if row['kind'] == 'specimen' else 'media'}/{row['id']}"
        )


def source_rows(node: NodeFolder) -> list[tuple[object, ...]]:
    with node.database.reader() as conn:
        return [tuple(row) for row in conn.execute("SELECT * FROM source_row ORDER BY key")]


def test_the_same_archive_again_changes_nothing(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path = write_archive(tmp_path / "a", rows_of(5), images=jpeg)
    ingest(node, path)
    before, rows = log(node), source_rows(node)
    again = ingest(node, path)
    assert again.is_unchanged
    assert again.bytes_hashed == 0
    assert log(node) == before
    assert source_rows(node) == rows  # a row that stands is not written: most rows of most exports do


def test_huge_rows_are_not_held_together(make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row may have four million characters: few of them are read, or written, at once, and all come in."""
    spool = intake_source.new_spool()
    rows = (SourceRow(source="s", key=str(n), fields={"dwc:habitat": str(n) + "x" * 1_000_000}) for n in range(60))
    tracemalloc.start()
    try:
        intake_source.add_rows(spool, rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert spool.execute("SELECT count(*) FROM row WHERE is_first").fetchone() == (60,)
    spool.close()
    assert peak < 6 * intake_source.BYTES_AT_ONCE, f"{peak / 1e6:.0f} MB; all of them together are twice 60"
    node, done = make_node(), list[int]()
    for module in (intake_source, ingesting):
        monkeypatch.setattr(module, "BYTES_AT_ONCE", 9_000)
    path = write_archive(tmp_path / "a", [{**row, "locality": "y" * 4_000} for row in rows_of(20)])
    report = ingest(node, path, progress=lambda now, _: done.append(now))
    assert report.new == 20
    assert done == sorted(done) and done[-1] == 20
    assert len(done) >= 6, "three rows share a transaction"
    assert ingest(node, path).is_unchanged


def test_a_zip_is_the_same_as_its_folder_and_its_images_are_copied(make_node: Make, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", rows_of(3), images=jpeg)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for item in path.rglob("*"):
            packed.write(item, item.relative_to(path))
    node = make_node()
    ingest(node, tmp_path / "a.zip")
    for row in query(node, "SELECT image FROM medium"):
        stat = node.blobs.stat(ContentId.from_hex(row["image"]))
        assert stat is not None
        assert stat.kind == "owned"


def test_a_changed_row_is_version_two_under_the_same_address(make_node: Make, tmp_path: Path) -> None:
    node, rows = make_node(), rows_of(3)
    path = write_archive(tmp_path / "a", rows, images=jpeg)
    ingest(node, path)
    iri = query(node, "SELECT iri FROM source_row WHERE key = 'urn:x:1'")[0]["iri"]
    rows[1]["country"] = "Austria"
    write_archive(path, rows)
    report = ingest(node, path)
    assert (report.new, report.changed, report.unchanged) == (0, 1, 2)
    with node.database.reader() as conn:
        now = records.get_by_iri(conn, iri)
        old = records.get_by_iri(conn, iri, version=1)
    assert now is not None
    assert old is not None
    assert now.version == 2
    assert b"Austria" in now.body
    assert b"Germany" in old.body


def test_a_rescan_is_version_two_of_the_medium_and_marks_what_was_read_before(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path = write_archive(tmp_path / "a", rows_of(2), images=jpeg)
    ingest(node, path)
    medium = query(node, "SELECT * FROM medium WHERE locator = 'images/0.jpg'")[0]
    with node.database.transaction() as conn:
        annotations.add(
            conn,
            annotations.AnnotationRow(
                iri=f"{ORIGIN}/annotation/x", medium=medium["iri"], image=medium["image"], output="label-text/1",
                pipeline="p", environment="e", work_key="w", job=None,
            ),
            now=NOW,
        )  # fmt: skip
    (path / "images/0.jpg").write_bytes(jpeg(99))
    report = ingest(node, path)
    assert (report.media_replaced, report.unchanged) == (1, 1)
    after = query(node, "SELECT * FROM medium WHERE iri = ?", medium["iri"])[0]
    assert after["version"] == 2
    assert after["image"] == ContentId.of(jpeg(99)).hex
    assert query(node, "SELECT state FROM annotation")[0]["state"] == "evidence replaced"
    assert len(query(node, "SELECT * FROM medium_version WHERE iri = ?", medium["iri"])) == 2


def test_same_bytes_twice_are_one_blob_and_two_media(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(2), images=lambda number: jpeg(7)))
    assert node.blobs.counts()[0] == 1
    assert len(query(node, "SELECT DISTINCT iri FROM medium")) == 2


@pytest.mark.parametrize("flaw", ["halved", "rekeyed", "cut"])
def test_the_brake_holds_and_a_person_can_let_go(make_node: Make, tmp_path: Path, flaw: str) -> None:
    node, rows = make_node(), rows_of(30)
    path = write_archive(tmp_path / "a", rows, images=jpeg)
    ingest(node, path)
    before = log(node)
    addresses = {row["key"]: row["iri"] for row in query(node, "SELECT key, iri FROM source_row")}
    if flaw == "halved":
        write_archive(path, rows[:15])
    elif flaw == "rekeyed":
        write_archive(path, [{**row, "occurrenceID": row["occurrenceID"].replace("urn:x", "urn:y")} for row in rows])
    else:
        table = path / "occurrence.txt"
        table.write_bytes(table.read_bytes()[:-90])
    with pytest.raises(PlanHeld) as held:
        ingest(node, path)
    assert log(node) == before
    report = ingest(node, path, accepted=held.value.plan.id)
    if flaw == "halved":
        assert report.tombstoned == 0
        assert log(node) == before
    if flaw == "rekeyed":
        now = {row["key"]: row["iri"] for row in query(node, "SELECT key, iri FROM source_row")}
        assert {key.replace("urn:y", "urn:x"): iri for key, iri in now.items()} == addresses
        with node.database.reader() as conn:
            assert records.resolve(conn, "urn:x:3") == records.resolve(conn, "urn:y:3") == [addresses["urn:x:3"]]


def test_pruning_leaves_tombstones(make_node: Make, tmp_path: Path) -> None:
    node, rows = make_node(), rows_of(30)
    path = write_archive(tmp_path / "a", rows, images=jpeg)
    ingest(node, path)
    write_archive(path, rows[:29])
    report = ingest(node, path, prune=True)
    assert report.tombstoned == 2
    gone = query(node, "SELECT * FROM record WHERE state = 'tombstone' AND kind = 'specimen'")[0]
    assert b"Place 29" not in gone["body"]
    assert not query(node, "SELECT * FROM record_version WHERE iri = ? AND body LIKE '%Place 29%'", gone["iri"])
    assert [op for _, _, op in log(node)][-2:] == ["Delete", "Delete"]


def png_bomb(width: int, height: int) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" * (width // 8 + 1)
    data = b"".join(packer.compress(row) for _ in range(min(height, 2000))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


BAD_IMAGES = {
    "zero bytes": (b"", "empty"),
    "text": (b"not an image\n", "text file"),
    "html": (b"<!doctype html><p>moved", "web page"),
    "bomb": (png_bomb(60_000, 60_000), "pixels"),
    "tiff": (b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 40, "TIFF"),
    "jpeg header": (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
}


def test_each_bad_image_has_its_reason_and_the_rest_goes_on(make_node: Make, tmp_path: Path) -> None:
    node, rows = make_node(), rows_of(len(BAD_IMAGES) + 2)
    rows[-1]["image"] = "images/absent.jpg"
    datas = [data for data, _ in BAD_IMAGES.values()]
    path = write_archive(tmp_path / "a", rows, images=lambda number: datas[number] if number < len(datas) else jpeg(1))
    (path / "images/absent.jpg").unlink()
    report = ingest(node, path)
    assert (report.new, report.images_unreadable, report.files_missing) == (len(rows), len(BAD_IMAGES), 1)
    for number, (_, says) in enumerate(BAD_IMAGES.values()):
        row = query(node, "SELECT message FROM finding WHERE key = ? AND code = 'image-unreadable'", f"urn:x:{number}")
        assert says in row[0]["message"]
    assert (
        query(node, "SELECT problem FROM medium WHERE locator = ?", f"images/{len(BAD_IMAGES)}.jpg")[0]["problem"]
        is None
    )
    again = ingest(node, path)
    assert again.is_unchanged
    assert again.images_unreadable == len(BAD_IMAGES)


def test_upright_dimensions_follow_the_exif_orientation(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: jpeg(1, orientation=6)))
    row = query(node, "SELECT width, height FROM medium")[0]
    assert (row["width"], row["height"]) == (48, 64)


SENSITIVE = '[[sensitive]]\nfield = "scientificName"\nvalue = "Planta numero1"\ncategory = 1\n'


def test_a_sensitive_specimen_is_generalised_and_its_image_restricted(make_node: Make, tmp_path: Path) -> None:
    node, rows = make_node(settings=SENSITIVE), rows_of(3)
    rows[1] |= {"locality": "Secret valley", "decimalLatitude": "47.1234", "verbatimLabel": "Secret label"}
    ingest(node, write_archive(tmp_path / "a", rows, images=jpeg))
    dump = "\n".join(
        str(tuple(row)) for table in ("record", "record_version", "specimen_facet", "specimen_text", "change", "record_alias")
        for row in query(node, f"SELECT * FROM {table}")
    )  # fmt: skip
    assert "Secret" not in dump
    assert "47.1234" not in dump
    row = query(node, "SELECT access, sensitive FROM medium WHERE locator = 'images/1.jpg'")[0]
    assert tuple(row) == (1, 1)


def test_becoming_sensitive_purges_the_older_version(make_node: Make, tmp_path: Path) -> None:
    rows = rows_of(3)
    rows[1]["locality"] = "Secret valley"
    path = write_archive(tmp_path / "a", rows, images=jpeg)
    node = make_node()
    ingest(node, path)
    settings = node.settings.folder / "node.toml"
    settings.write_text(settings.read_text("utf-8") + SENSITIVE, "utf-8")
    rows[1]["recordedBy"] = "Somebody else"
    write_archive(path, rows)
    from node.config import load_settings
    from node.services.ingest import Ingest
    from node.services.intake_source import open_intake

    with open_intake(path, "collection") as intake:
        Ingest(load_settings(node.settings.folder), node.database, node.blobs, intake, clock=lambda: NOW).run()
    bodies = [bytes(row["body"]) for row in query(node, "SELECT body FROM record_version")]
    assert not [body for body in bodies if b"Secret valley" in body]


def test_the_strictest_user_of_the_bytes_wins_and_withdraws_what_was_public(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings='[[sources.collection.rules]]\nfield = "country"\nmatch = "Hidden"\naccess = "private"\n')
    rows = rows_of(2)
    path = write_archive(tmp_path / "a", rows[:1], images=lambda number: jpeg(7))
    ingest(node, path)
    medium = query(node, "SELECT * FROM medium")[0]
    with node.database.transaction() as conn:
        body = {
            "@id": f"{ORIGIN}/annotation/aaaaaaaaaaaaaaaa",
            "@type": "oa:Annotation",
            "vasculum:text": "read from it",
        }
        from linkeddata.access import AccessClass

        records.publish(
            conn, records.NewRecord(kind="annotation", iri=body["@id"], body=body, access=AccessClass.OPEN), now=NOW
        )
        annotations.add(
            conn,
            annotations.AnnotationRow(
                iri=body["@id"], medium=medium["iri"], image=medium["image"], output="label-text/1", pipeline="p",
                environment="e", work_key="w", job=None,
            ),
            now=NOW,
        )  # fmt: skip
    rows[1] |= {"country": "Hidden"}
    write_archive(path, rows, images=lambda number: jpeg(7))
    ingest(node, path)
    assert query(node, "SELECT state FROM record WHERE kind = 'annotation'")[0]["state"] == "tombstone"
    assert not query(node, "SELECT * FROM change WHERE iri IN (SELECT iri FROM record WHERE access = 2)")


def test_a_folder_of_images_needs_no_archive(make_node: Make, tmp_path: Path) -> None:
    folder = tmp_path / "scans" / "box 1"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"sheet {number}.jpg").write_bytes(jpeg(number))
    node = make_node()
    report = ingest(node, tmp_path / "scans")
    assert report.new == 3
    assert {row["locator"] for row in query(node, "SELECT locator FROM medium")} == {
        f"box 1/sheet {n}.jpg" for n in range(3)
    }


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "records_", "media"), [("herbarium", 26, 26), ("insects", 53, 54), ("zoology", 16, 16)]
)
def test_the_real_collections_ingest_and_again_change_nothing(
    make_node: Make, shared_data: Path, name: str, records_: int, media: int
) -> None:
    node = make_node()
    report = ingest(node, shared_data / name)
    assert (report.new, report.media, report.files_missing, report.images_unreadable) == (records_, media, 0, 0)
    assert ingest(node, shared_data / name).is_unchanged


NO_SPECIMENS = "the core is Taxon and there is no Occurrence extension: the archive holds no specimens"
TWO_TABLES = "has no meta.xml, so it must hold exactly one table; found: 0008333-160118175350007.csv, random_file"
ARCHIVES: dict[str, tuple[int, int, int] | str] = {
    # specimens, media, rows whose id stood there before; or the one line that says why not
    "dwca-2extensions": NO_SPECIMENS, "dwca-default-metadata-filename": (2, 0, 0), "dwca-ids": NO_SPECIMENS,
    "dwca-invalid-simple-toomuch": f"dwca-invalid-simple-toomuch.zip {TWO_TABLES}",
    "dwca-invalid-simple-two": f"dwca-invalid-simple-two.zip {TWO_TABLES}", "dwca-kew-gbif-media": (19, 18, 0),
    "dwca-noheaders-1": (2, 0, 0), "dwca-noheaders-2": (2, 0, 0), "dwca-nometadata": (2, 0, 0),
    "dwca-orphaned-rows": NO_SPECIMENS, "dwca-partial-default": (2, 0, 0), "dwca-rbins": (9, 0, 2),
    "dwca-simple-csv": (3, 0, 0), "dwca-simple-csv-dos": (3, 0, 0), "dwca-simple-csv-eml": (3, 0, 0),
    "dwca-simple-csv-notenclosed": (3, 0, 0), "dwca-simple-subdir": (2, 0, 0), "dwca-simple-test-archive": (2, 0, 0),
    "dwca-simple-test-archive-enclosed": (2, 0, 0), "dwca-star-test-archive": NO_SPECIMENS,
    "dwca-test-default": (2, 0, 0), "dwca-utf8-eol-test": (1, 0, 0), "gbif-download-finch": (443, 1, 0),
    "gbif-results": (158, 0, 0), "gbif-results-lacks-s-metadata": (158, 0, 0),
    "gbif-results-whitespace-in-xml": (158, 0, 0), "herbarium": (26, 26, 0), "insects": (53, 54, 0),
    "zoology": (16, 16, 0),
}  # fmt: skip


@pytest.mark.real_data
def test_the_table_of_archives_is_the_table_of_files(shared_data: Path) -> None:
    files = {path.stem for path in (shared_data / "dwca").iterdir()} | {"herbarium", "insects", "zoology"}
    assert set(ARCHIVES) == files


@pytest.mark.real_data
@pytest.mark.parametrize("name", sorted(ARCHIVES))
def test_every_archive_is_published_and_found_whole_or_says_why_not_in_one_line(
    make_node: Make, shared_data: Path, name: str
) -> None:
    path = shared_data / "dwca" / f"{name}.zip"
    path, expected = (path if path.exists() else shared_data / name), ARCHIVES[name]
    node = make_node()
    if isinstance(expected, str):
        with pytest.raises(DwcaError) as caught:
            ingest(node, path)
        assert str(caught.value) == expected
        assert query(node, "SELECT count(*) AS n FROM record")[0]["n"] == 0
        return
    report = ingest(node, path)
    counts = query(
        node,
        """SELECT (SELECT count(*) FROM record WHERE kind = 'specimen') AS specimens,
                  (SELECT count(*) FROM specimen_facet) AS found, (SELECT count(*) FROM medium) AS media,
                  (SELECT count(*) FROM change) AS changes, (SELECT max(seq) FROM change) AS last""",
    )[0]
    specimens, media, doubled = expected
    assert (counts["specimens"], counts["media"], len(report.plan.duplicates)) == (specimens, media, doubled)
    assert counts["found"] == specimens
    assert counts["changes"] == counts["last"] == specimens + media
    assert ingest(node, path).is_unchanged
