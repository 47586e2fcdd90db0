"""Drives that are not mounted and names that are not text, as the commands of a node meet them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from cas.errors import VolumeProblem
from cas.ids import ContentId
from node import doctor
from node.cli.main import run
from node.folder import NodeFolder


def said(node: NodeFolder) -> list[tuple[str, str]]:
    return [(item.level, item.text) for item in doctor.examine(node.settings.folder, now=NOW) if item.about == "images"]


def test_doctor_says_which_tree_is_not_there(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "drive", rows_of(2), images=jpeg))
    assert said(node) == [("ok", "2 images (0.0 GB) are indexed")]
    (tmp_path / "drive").rename(tmp_path / "unplugged")
    [(level, text)] = said(node)
    assert level == "problem"
    assert "collection" in text
    (tmp_path / "drive").mkdir()
    assert "is the drive mounted?" in said(node)[0][1]
    (tmp_path / "drive").rmdir()
    (tmp_path / "unplugged").rename(tmp_path / "drive")
    assert said(node)[0][0] == "ok"
    (node.settings.blobs_path / "index.sqlite").rename(tmp_path / "index")
    assert "restore a backup" in said(node)[0][1]


def test_a_drive_that_goes_away_during_an_ingest_changes_nothing(
    make_node: Callable[..., NodeFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    archive = write_archive(tmp_path / "drive", rows_of(3), images=jpeg)
    ingest(node, archive)
    with node.database.reader() as conn:
        before = [tuple(row) for row in conn.execute("SELECT iri, version FROM record ORDER BY iri")]
    real = node.blobs.adopt_many

    def unplug(*arguments, **options):
        archive.rename(tmp_path / "unplugged")
        return real(*arguments, **options)

    monkeypatch.setattr(node.blobs, "adopt_many", unplug)
    with pytest.raises(VolumeProblem, match="collection"):
        ingest(node, archive)
    with node.database.reader() as conn:
        assert [tuple(row) for row in conn.execute("SELECT iri, version FROM record ORDER BY iri")] == before


@pytest.mark.parametrize("kind", ["images", "archive"])
def test_files_whose_names_are_not_text_are_counted_and_left_out(
    make_node: Callable[..., NodeFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    node, folder = make_node(), tmp_path / "scans"
    if kind == "archive":
        write_archive(folder, rows_of(1), images=jpeg)
    else:
        folder.mkdir()
        (folder / "good.jpg").write_bytes(jpeg(0))
    (folder / os.fsdecode(b"M\xfcller.jpg")).write_bytes(jpeg(1))
    assert run(["ingest", str(node.settings.folder), str(folder)]) == 0, capsys.readouterr().err
    assert node.blobs.all_ids() == [ContentId.of(jpeg(0))]
    with node.database.reader() as conn:
        [message] = [row[0] for row in conn.execute("SELECT message FROM finding WHERE code = 'unnamable-files'")]
    assert message.startswith("files left out: 1;")
