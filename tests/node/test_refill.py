"""Search tables that a migration left empty are filled in steps; whoever opens the node next goes on where it ended."""

import sqlite3
from pathlib import Path

import pytest
from search_world import open_database, publish, random_truths

from node.storage import db, search_index
from node.storage.db import Database


def rows(path: Path) -> list[tuple[object, ...]]:
    conn = sqlite3.connect(path)
    found = conn.execute(
        """SELECT f.iri, f.family, t.body, (SELECT count(*) FROM annotation_mark k WHERE k.n = f.n)
           FROM specimen_facet f JOIN specimen_text t ON t.rowid = f.n ORDER BY f.iri"""
    ).fetchall()
    conn.close()
    return found


def test_it_goes_on_where_it_was_cut_off_and_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "node.sqlite"
    database = open_database(path)
    with database.transaction() as conn:
        for truth in random_truths(25, seed=8):
            publish(conn, truth)
    before = rows(path)
    with database.transaction() as conn:
        for table in ("specimen_facet", "specimen_text", "annotation_mark", "annotation_text"):
            conn.execute(f"DELETE FROM {table}")
        conn.execute("INSERT INTO meta VALUES ('search_stale', 'schema 5')")
    database.close()
    monkeypatch.setattr(db, "REFILL_ROWS", 4)
    monkeypatch.setattr(db, "SAID_EVERY", 8)
    plain, written = search_index.write, [0]

    def write(conn: sqlite3.Connection, iri: str, *, prefix: str = "") -> bool:
        written[0] += 1
        if written[0] == 10:
            raise RuntimeError("cut off")
        return plain(conn, iri, prefix=prefix)

    monkeypatch.setattr(search_index, "write", write)
    with pytest.raises(RuntimeError):
        Database.open(path)
    assert len(rows(path)) == 8
    Database.open(path).close()
    assert rows(path) == before
    assert written[0] == 10 + 25 - 8
    assert "8 records are in the new search tables" in caplog.text
    Database.open(path).close()
    assert written[0] == 10 + 25 - 8
