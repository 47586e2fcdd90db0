"""Settings that change between ingests, media that rows share, and keys that come back."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from node.config import load_settings
from node.folder import FolderBusy, NodeFolder, ingest_lock
from node.services.ingest import Ingest, Progress
from node.services.ingest_report import IngestReport
from node.services.intake_source import open_intake

Make = Callable[..., NodeFolder]
SENSITIVE = '[[sensitive]]\nfield = "scientificName"\nvalue = "Planta numero1"\ncategory = 1\n'


class Stopped(Exception):
    """Stands for whatever ends an ingest in the middle."""


def again(node: NodeFolder, path: Path, *, progress: Progress | None = None) -> IngestReport:
    """An ingest with the settings that node.toml has now, one row to a batch."""
    settings = load_settings(node.settings.folder)
    with open_intake(path, "collection") as intake:
        work = Ingest(settings, node.database, node.blobs, intake, clock=lambda: NOW, batch_rows=1)
        return work.run(progress=progress)


def stop_after(rows: int) -> Progress:
    def progress(done: int, total: int) -> None:
        if done >= rows:
            raise Stopped

    return progress


def set_sensitive(node: NodeFolder, *, to: bool) -> None:
    path = node.settings.folder / "node.toml"
    text = path.read_text("utf-8").replace("\n" + SENSITIVE, "")
    path.write_text(text + ("\n" + SENSITIVE if to else ""), "utf-8")


def said(node: NodeFolder) -> bytes:
    with node.database.reader() as conn:
        rows = conn.execute("SELECT body FROM record UNION ALL SELECT body FROM record_version").fetchall()
    return b"\n".join(bytes(row["body"]) for row in rows)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rows = rows_of(3)
    rows[1]["locality"] = "Secret valley"
    return write_archive(tmp_path / "a", rows, images=jpeg)


def test_a_new_sensitive_taxon_reaches_rows_that_did_not_change(make_node: Make, archive: Path) -> None:
    node = make_node()
    again(node, archive)
    assert b"Secret valley" in said(node)
    set_sensitive(node, to=True)
    report = again(node, archive)
    assert b"Secret valley" not in said(node)
    assert (report.changed, report.unchanged) == (1, 2)
    assert again(node, archive).changed == 0


def test_settings_that_changed_while_the_first_ingest_was_stopped_reach_what_it_had_done(
    make_node: Make, archive: Path
) -> None:
    node = make_node()
    with pytest.raises(Stopped):
        again(node, archive, progress=stop_after(2))
    assert b"Secret valley" in said(node)
    set_sensitive(node, to=True)
    again(node, archive)
    assert b"Secret valley" not in said(node)


def test_settings_that_changed_there_and_back_leave_nothing_from_between(make_node: Make, archive: Path) -> None:
    node = make_node()
    set_sensitive(node, to=True)
    again(node, archive)
    set_sensitive(node, to=False)
    with pytest.raises(Stopped):
        again(node, archive, progress=stop_after(2))
    assert b"Secret valley" in said(node)
    set_sensitive(node, to=True)
    again(node, archive)
    assert b"Secret valley" not in said(node)


def test_a_database_of_an_older_version_is_looked_at_whole(make_node: Make, archive: Path) -> None:
    node = make_node()
    again(node, archive)
    with node.database.transaction() as conn:
        conn.execute("DELETE FROM meta WHERE key LIKE 'ingest_rules:%'")
    set_sensitive(node, to=True)
    again(node, archive)
    assert b"Secret valley" not in said(node)


def test_an_image_that_an_open_and_a_private_row_share_is_never_open(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings='[[sources.collection.rules]]\nfield = "country"\nmatch = "Hidden"\naccess = "private"\n')
    rows = rows_of(2)
    rows[1] |= {"country": "Hidden", "image": rows[0]["image"]}
    path = write_archive(tmp_path / "shared", rows, images=jpeg)
    with pytest.raises(Stopped):
        again(node, path, progress=stop_after(1))
    with node.database.reader() as conn:
        assert [tuple(row) for row in conn.execute("SELECT access FROM medium")] == [(2,)]
        assert [tuple(row) for row in conn.execute("SELECT access FROM record WHERE kind = 'medium'")] == [(2,)]
    assert rows[0]["image"].encode() not in said(node)


def test_a_key_that_comes_back_does_not_get_the_address_that_moved_on(make_node: Make, tmp_path: Path) -> None:
    node, rows = make_node(), rows_of(3)
    path = write_archive(tmp_path / "a", rows, images=jpeg)
    ingest(node, path)
    old = rows[1]["occurrenceID"]
    moved = [dict(row) for row in rows]
    moved[1]["occurrenceID"] = "urn:new-key"
    write_archive(path, moved)
    report = ingest(node, path)
    assert report.plan.rekeyed == {"urn:new-key": old}
    moved.append({**rows[1], "catalogNumber": "another", "image": ""})
    write_archive(path, moved)
    ingest(node, path)
    with node.database.reader() as conn:
        iris = {row["key"]: row["iri"] for row in conn.execute("SELECT key, iri FROM source_row")}
    assert len(iris) == 4
    assert iris[old] != iris["urn:new-key"]


def test_a_second_ingest_waits_its_turn(tmp_path: Path) -> None:
    with ingest_lock(tmp_path), pytest.raises(FolderBusy, match="another ingest"), ingest_lock(tmp_path):
        pass
    with ingest_lock(tmp_path):
        pass


CLOSED = "[[sources.collection.rules]]\nfield = 'collectionCode'\nmatch = 'closed'\naccess = 'private'\n"
OPEN_ROW, CLOSED_ROW = "1,open,Planta una,donor-x.jpg|own.jpg", "2,closed,Planta bina,donor-x.jpg"


def table(folder: Path, *rows: str) -> Path:
    """A list of specimens with the names of their images."""
    folder.mkdir(exist_ok=True)
    (folder / "donor-x.jpg").write_bytes(jpeg(1))
    (folder / "own.jpg").write_bytes(jpeg(2))
    (folder / "list.csv").write_text("\n".join(("Nr,Coll,Art,Bild", *rows)) + "\n", "utf-8")
    (folder / "list.csv.mapping.toml").write_text(
        '[table]\ndelimiter = ","\nencoding = "UTF-8"\n[columns]\n"Nr" = "dwc:catalogNumber"\n'
        '"Coll" = "dwc:collectionCode"\n"Art" = "dwc:scientificName"\n"Bild" = "dwc:associatedMedia"\n',
        "utf-8",
    )
    return folder / "list.csv"


def public(node: NodeFolder) -> bytes:
    """Every version of every public record of a specimen."""
    with node.database.reader() as conn:
        rows = conn.execute(
            """SELECT r.body, v.body AS older FROM record r JOIN record_version v ON v.iri = r.iri
               WHERE r.kind = 'specimen' AND r.access < 2"""
        ).fetchall()
    return b"\n".join(bytes(row["body"]) + bytes(row["older"]) for row in rows)


def media_iri(node: NodeFolder, key: str) -> bytes:
    with node.database.reader() as conn:
        row = conn.execute("SELECT iri FROM medium WHERE key = ?", (key,)).fetchone()
    return str(row["iri"]).encode()


@pytest.mark.parametrize("is_later", [False, True])
def test_no_public_record_names_an_image_that_another_row_makes_private(
    make_node: Make, tmp_path: Path, is_later: bool
) -> None:
    node = make_node(settings=CLOSED)
    if is_later:
        again(node, table(tmp_path / "a", OPEN_ROW))
        assert b"donor-x.jpg" in public(node)
    again(node, table(tmp_path / "a", OPEN_ROW, CLOSED_ROW))
    assert media_iri(node, "own.jpg") in public(node)
    assert media_iri(node, "donor-x.jpg") not in public(node)
    assert b"donor-x" not in public(node)
    again(node, table(tmp_path / "a", OPEN_ROW, CLOSED_ROW.replace("donor-x", "own")))
    assert media_iri(node, "donor-x.jpg") in public(node), "no private row names it any more"
    assert media_iri(node, "own.jpg") not in public(node)
    assert again(node, table(tmp_path / "a", OPEN_ROW, CLOSED_ROW.replace("donor-x", "own"))).changed == 0
