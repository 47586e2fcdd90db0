"""``vasculum pyramids``, pyramids at ingest, and leftovers that fsck finds."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ingest, jpeg, rows_of, write_archive

from cas.ids import ContentId
from node.cli.main import run
from node.folder import NodeFolder

Make = Callable[..., NodeFolder]


def filled(make_node: Make, tmp_path: Path, settings: str = "") -> tuple[NodeFolder, Path]:
    node = make_node(settings=settings)
    rows = rows_of(3)
    rows[1]["licence"] = "all rights reserved"
    archive = write_archive(tmp_path / "a", rows, images=lambda number: jpeg(number, size=(1200, 300)))
    (archive / "images" / "2.jpg").write_bytes(jpeg(2, size=(1200, 300))[:9000])
    return node, archive


def test_open_images_get_their_pyramid_and_problems_are_named(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, archive = filled(make_node, tmp_path)
    ingest(node, archive)
    folder = str(node.settings.folder)
    assert run(["pyramids", "build", folder, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["there"] == 1
    assert [(item["id"], "truncated" in item["why"]) for item in said["failed"]] == [
        (str(ContentId.of((archive / "images" / "2.jpg").read_bytes())), True)
    ]
    (path,) = node.settings.derived_path.glob("pyramids/*/*")
    assert path.name.startswith(ContentId.of(jpeg(0, size=(1200, 300))).hex)
    inode = path.stat().st_ino
    assert run(["pyramids", "build", folder]) == 0
    assert path.stat().st_ino == inode, "what is there stays"
    assert "1 open images have their pyramid" in capsys.readouterr().out
    assert run(["pyramids", "show", folder, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["pyramids"], shown["bytes"], shown["tilePx"]) == (1, path.stat().st_size, 512)
    assert run(["pyramids", "clear", folder]) == 0
    assert not path.exists()


def test_pyramids_are_made_at_ingest_where_that_is_asked_for(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, archive = filled(make_node, tmp_path, '[images]\npyramids = "ingest"\n')
    assert run(["ingest", str(node.settings.folder), str(archive)]) == 0
    assert "1 open images have their pyramid, 1 have none" in capsys.readouterr().out
    assert len(list(node.settings.derived_path.glob("pyramids/*/*"))) == 1


def test_fsck_finds_pictures_of_images_that_are_gone(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, archive = filled(make_node, tmp_path)
    ingest(node, archive)
    folder = node.settings.derived_path
    left = []
    for kind, name in (("pyramids", f"{'ab' * 32}.0123456789ab.tif"), ("thumbnails", f"{'ab' * 32}.0123456789ab.jpg")):
        left.append(folder / kind / "ab" / name)
        left[-1].parent.mkdir(parents=True)
        left[-1].write_bytes(b"x")
    assert run(["fsck", str(node.settings.folder), "--json"]) == 1
    assert capsys.readouterr().out.count("preview-left") == 2
    run(["fsck", str(node.settings.folder), "--fix"])
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize(
    ("line", "word"),
    [("tile_px = 500", "256, 512 or 1024"), ("restricted_thumbnail_px = -1", "0 (none)"),
     ("sensitive_px = 401", "labels can be read"), ("cutters = 0", "larger than 0"),
     ('pyramids = "never"', "first-zoom, ingest"), ("pyramids_max_bytes = 0", "larger than 0")],
)  # fmt: skip
def test_wrong_settings_are_said(make_node: Make, capsys: pytest.CaptureFixture[str], line: str, word: str) -> None:
    node = make_node()
    with (node.settings.folder / "node.toml").open("a") as stream:
        stream.write(f"\n[images]\n{line}\n")
    assert run(["pyramids", "show", str(node.settings.folder)]) == 2
    assert word in capsys.readouterr().err
