"""Drives that are not mounted and names that are not text, as the commands of a node meet them."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from cas.errors import BlobChanged, VolumeProblem
from cas.ids import ContentId
from node import doctor
from node.cli.main import run
from node.config import VolumeSettings, load_settings
from node.folder import NodeFolder
from node.services.care import follow_identities


def said(node: NodeFolder) -> list[tuple[str, str]]:
    return [(item.level, item.text) for item in doctor.examine(node.settings.folder, now=NOW) if item.about == "images"]


def test_doctor_says_which_tree_is_not_there(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "drive", rows_of(2), images=jpeg))
    assert said(node) == [("ok", "2 images (0 MB) are indexed")]
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


def test_doctor_tests_whether_inodes_hold_and_its_advice_works(
    make_node: Callable[..., NodeFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "drive", rows_of(10), images=jpeg))
    cid = ContentId.of(jpeg(3))
    for path in sorted((tmp_path / "drive" / "images").iterdir()):
        copy = path.with_suffix(".copy")
        shutil.copy2(path, copy)  # as a network drive that was mounted anew: another inode, all else as it was
        copy.replace(path)
    [(level, text)] = said(node)
    assert level == "problem"
    assert "10 of 10 sampled files have the size and time they had, and another inode" in text
    assert 'identity = "size+mtime"' in text
    with pytest.raises(BlobChanged):
        node.blobs.open_blob(cid)
    assert run(["fsck", str(node.settings.folder)]) == 1
    assert capsys.readouterr().out.count("another inode") == 1, "one finding, not ten"
    toml = node.settings.folder / "node.toml"
    toml.write_text(
        toml.read_text("utf-8") + '\n[volumes.drive]\nroot = "../drive"\nidentity = "size+mtime"\n', "utf-8"
    )
    ingest(replace(node, settings=load_settings(node.settings.folder)), tmp_path / "drive")
    node.blobs.open_blob(cid).close()
    assert said(node)[0][0] == "ok"


def test_one_renumbered_file_is_said_and_other_changes_are_not_taken_for_it(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "drive", rows_of(3), images=jpeg))
    path = tmp_path / "drive" / "images" / "0.jpg"
    path.write_bytes(b"edited")
    assert said(node)[0][0] == "ok", "one edited file is no problem of the volume"
    other = tmp_path / "drive" / "images" / "1.jpg"
    shutil.copy2(other, path.with_name("copy"))
    path.with_name("copy").replace(other)
    assert "1 of 3 sampled files" in said(node)[0][1]


def test_how_files_are_recognised_follows_the_settings_without_an_ingest(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "drive", rows_of(2), images=jpeg))
    sources = {name: replace(item, identity="size+mtime") for name, item in node.settings.sources.items()}
    follow_identities(replace(node.settings, sources=sources), node.blobs)
    assert node.blobs.volume("collection").identity == "size+mtime"
    follow_identities(node.settings, node.blobs)
    assert node.blobs.volume("collection").identity == "inode"
    volumes = {"other": VolumeSettings(root="/x", identity="size+mtime")}
    follow_identities(replace(node.settings, volumes=volumes), node.blobs)
    assert set(node.blobs.index.volumes()) == {"collection"}


def test_doctor_warns_of_inodes_on_a_network_drive(
    make_node: Callable[..., NodeFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "drive", rows_of(2), images=jpeg))
    monkeypatch.setattr(doctor, "_filesystem", lambda path: "nfs4" if "drive" in str(path) else "ext4")
    assert ("warning", True) in [(level, "network drive (nfs4)" in text) for level, text in said(node)]


def test_an_ingest_of_another_tree_is_held_until_a_person_accepts_it(
    make_node: Callable[..., NodeFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node()
    archive = write_archive(tmp_path / "drive", rows_of(10), images=jpeg)
    ingest(node, archive)
    folder, images = str(node.settings.folder), sorted((archive / "images").iterdir())
    for path in images[:5]:
        path.write_bytes(path.read_bytes() + b"edited")
    assert run(["ingest", folder, str(archive)]) == 0, "half of them may be edited"
    for path in images[:6]:
        path.write_bytes(path.read_bytes() + b"another tree")
    capsys.readouterr()
    assert run(["ingest", folder, str(archive), "--dry-run"]) == 0
    assert "HELD" in capsys.readouterr().out
    assert run(["ingest", folder, str(archive)]) == 1
    said = capsys.readouterr().err
    assert "6 of 10 sampled files" in said
    with node.database.reader() as conn:
        assert conn.execute("SELECT max(version) FROM medium").fetchone()[0] == 2, "nothing of it was taken in"
    plan = said.strip().split()[-1]
    assert run(["ingest", folder, str(archive), "--accept-plan", plan]) == 0
    with node.database.reader() as conn:
        assert conn.execute("SELECT max(version) FROM medium").fetchone()[0] == 3
    for path in images:  # a network drive that renumbers, or a copy of the tree, is not another tree
        shutil.copy2(path, path.with_name("copy"))
        path.with_name("copy").replace(path)
    assert run(["ingest", folder, str(archive)]) == 0
    for path in images:  # files that are gone are said by their records
        path.rename(path.with_suffix(".gone"))
    assert "sampled" not in str(node.blobs.tree_problem("collection", archive))
