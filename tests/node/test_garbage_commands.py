"""``vasculum gc`` and ``vasculum pin``, and what counts as naming bytes."""

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from cas.ids import ContentId
from node.cli.main import run
from node.folder import NodeFolder
from node.services.roots import TALK, named_digests

Make = Callable[..., NodeFolder]
LONG_AGO = (datetime.now(UTC) - timedelta(days=400)).isoformat()


def long_unnamed(node: NodeFolder) -> None:
    """As if an earlier run had been long ago."""
    with node.blobs.index.transaction() as conn:
        conn.execute("UPDATE unnamed SET since = ?", (LONG_AGO,))


def test_gc_removes_only_what_no_record_version_or_pin_names(
    make_node: Make, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    node = make_node()
    archive = write_archive(tmp_path / "export", rows_of(3), images=lambda number: jpeg(number))
    ingest(node, archive)
    first = node.blobs.all_ids()
    for cid in first:  # copies of our own, so that gc could remove them
        with node.blobs.open_blob(cid) as blob:
            node.blobs.put_bytes(blob.pread(0, blob.size), now=NOW)
    (archive / "images" / "1.jpg").write_bytes(jpeg(77))
    ingest(node, archive)
    with node.database.reader() as conn:
        assert conn.execute("SELECT max(version) FROM medium").fetchone()[0] == 2
    rubbish, pinned = (node.blobs.put_bytes(text, now=NOW).id for text in (b"rubbish", b"pinned"))
    folder = str(node.settings.folder)

    assert run(["pin", "add", folder, str(pinned), "--name", "a paper"]) == 0
    assert run(["gc", folder]) == 0
    assert "1 blobs are named by nobody" in capsys.readouterr().out
    long_unnamed(node)
    assert run(["gc", folder, "--json"]) == 0
    *lines, summary = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [(line["id"], line["due"]) for line in lines] == [(str(rubbish), True)]
    assert (summary["due"], summary["removed"]) == (1, 0)
    assert node.blobs.verify(rubbish)
    assert run(["gc", folder, "--delete"]) == 0
    assert "removed 1 blobs" in capsys.readouterr().out
    assert not node.blobs.verify(rubbish)
    assert node.blobs.verify(pinned)
    assert all(node.blobs.verify(cid) for cid in first)  # also the image that only an older version names


def test_everything_in_the_database_names_bytes_but_talk(make_node: Make) -> None:
    node = make_node()
    wanted = ContentId.of(b"named once")
    with node.database.reader() as conn:
        schema = conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%STRICT%'").fetchall()
        tables = {row["name"] for row in schema}
    assert tables >= TALK
    checked = 0
    for table in sorted(tables):
        conn = sqlite3.connect(node.settings.database_path, isolation_level=None)
        conn.execute("PRAGMA foreign_keys=OFF")
        conn.execute("PRAGMA ignore_check_constraints=ON")
        columns = conn.execute(f"PRAGMA table_info('{table}')").fetchall()
        texts = [row[1] for row in columns if row[2] in ("TEXT", "BLOB")]
        body = f'{{"id": "{wanted}"}}'
        for text in texts:
            values = [
                (body if row[1] == text else "x") if row[2] == "TEXT"
                else (body if row[1] == text else "x").encode() if row[2] == "BLOB" else 1
                for row in columns
            ]  # fmt: skip
            conn.execute("BEGIN")
            conn.execute(f'INSERT OR REPLACE INTO "{table}" VALUES ({",".join("?" * len(values))})', values)
            conn.execute("COMMIT")
            assert (wanted.digest in set(named_digests(node.database))) == (table not in TALK), f"{table}.{text}"
            names = " AND ".join(f'"{row[1]}" = ?' for row in columns)
            conn.execute(f'DELETE FROM "{table}" WHERE {names}', values)
            checked += 1
        conn.close()
    assert wanted.digest not in set(named_digests(node.database))
    assert checked > 100


def test_pins_are_listed_and_taken_away(make_node: Make, capsys: pytest.CaptureFixture[str]) -> None:
    node = make_node()
    folder, cid = str(node.settings.folder), node.blobs.put_bytes(b"x", now=NOW).id
    assert run(["pin", "list", folder]) == 0
    assert "nothing is pinned" in capsys.readouterr().err
    assert run(["pin", "add", folder, cid.to_cid(), "--name", "Ausstellung"]) == 0
    capsys.readouterr()
    assert run(["pin", "list", folder, "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["id"] == str(cid)
    assert run(["pin", "remove", folder, str(cid), "--name", "other"]) == 2
    assert "pin list" in capsys.readouterr().err
    assert run(["pin", "remove", folder, str(cid), "--name", "Ausstellung"]) == 0
    assert run(["pin", "add", folder, "no-id", "--name", "x"]) == 2
    assert run(["pin", "add", folder, str(ContentId.of(b"not here")), "--name", "x"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_gc_asks_before_most_of_the_store_goes(make_node: Make, capsys: pytest.CaptureFixture[str]) -> None:
    node = make_node()
    for number in range(12):
        node.blobs.put_bytes(bytes([number]), now=NOW)
    folder = str(node.settings.folder)
    assert run(["gc", folder]) == 0
    long_unnamed(node)
    assert run(["gc", folder, "--delete"]) == 1
    assert "right database" in capsys.readouterr().err
    assert len(node.blobs.all_ids()) == 12
    assert run(["gc", folder, "--delete", "--even-most"]) == 0
    assert node.blobs.all_ids() == []
    assert run(["gc", folder, "--delete", "--grace", "0"]) == 2
