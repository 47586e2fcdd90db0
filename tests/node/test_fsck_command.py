"""``vasculum fsck`` over a node: records and previews, its exit codes and its lines."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from cas.ids import ContentId
from node.cli.main import run
from node.folder import NodeFolder

Make = Callable[..., NodeFolder]


def test_fsck_says_what_is_wrong_in_one_line_each(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "export", rows_of(3), images=lambda number: jpeg(number)))
    folder = str(node.settings.folder)
    assert run(["fsck", folder]) == 0
    assert capsys.readouterr().out == "nothing is wrong\n"

    stray = ContentId.of(b"gone")
    preview = node.settings.derived_path / "preview-800" / stray.hex[:2] / f"{stray.hex}.jpg"
    preview.parent.mkdir(parents=True)
    preview.write_bytes(b"jpeg")
    with node.database.transaction() as conn:
        conn.execute("UPDATE medium SET image = ? WHERE key = (SELECT min(key) FROM medium)", (stray.hex,))
    owned = node.blobs.put_bytes(b"owned", now=NOW).id
    node.blobs.tree.path(owned).unlink()
    assert run(["fsck", folder, "--json"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(item["code"] for item in found) == ["bytes-missing", "image-missing", "preview-left"]
    assert all("\n" not in item["text"] and len(item["text"]) < 200 for item in found)
    assert run(["fsck", folder, "--fix", "--read"]) == 1
    assert "3 finding(s), 1 mended" in capsys.readouterr().out
    assert not preview.exists()


def test_fsck_of_something_else_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fsck", str(tmp_path)]) == 2
    assert "Traceback" not in capsys.readouterr().err
