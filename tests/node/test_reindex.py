"""Rebuilding the search tables beside a serving node: answers stay right all the time, also when it ends half-way."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import NOW
from search_world import Truth, open_database, publish, random_truths

from linkeddata.access import AccessClass
from linkeddata.records import build_tombstone
from linkeddata.selection import parse_where
from node.access import ANONYMOUS, STAFF
from node.services import reindex as service
from node.services.reindex import RebuildOvertaken, rebuild
from node.storage import records, search_index
from node.storage.db import Database
from node.storage.search import Wanted, look
from node.storage.search_index import index_specimen

QUESTIONS = (
    "",
    "kingdom=Plantae",
    "q=hortus",
    "annotation.text~Martii",
    "annotation.class=barcode scoreMin=0.5",
    "country=Peru",
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = open_database(tmp_path / "node.sqlite")
    yield found
    found.close()


@pytest.fixture
def truths(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[Truth]:
    """Sixty specimens, in batches of seven."""
    monkeypatch.setattr(service, "BATCH", 7)
    monkeypatch.setattr(service, "LAST_BATCH", 3)
    found = random_truths(60, seed=8)
    with database.transaction() as conn:
        for truth in found:
            publish(conn, truth)
    return found


def answers(database: Database) -> dict[tuple[str, bool], tuple[int, tuple[str, ...]]]:
    """What is found, for strangers and for staff."""
    found = {}
    with database.reader() as conn:
        for text in QUESTIONS:
            for viewer in (ANONYMOUS, STAFF):
                page = look(conn, parse_where(text), viewer, Wanted(limit=200, facets=("family",)))
                found[text, viewer.is_staff] = (page.total, tuple(sorted(hit.iri for hit in page.hits)))
    return found


def numbers(database: Database) -> dict[str, int]:
    with database.reader() as conn:
        return {row["iri"]: row["n"] for row in conn.execute("SELECT iri, n FROM specimen_facet")}


def content(conn: sqlite3.Connection) -> list[tuple[object, ...]]:
    """Everything in the tables, but for the numbers of marks."""
    facets = conn.execute(
        "SELECT f.*, t.body FROM specimen_facet f JOIN specimen_text t ON t.rowid = f.n ORDER BY f.iri"
    )
    marks = conn.execute(
        """SELECT n, annotation, class, score, pipeline, pipeline_name, is_public,
             (SELECT body FROM annotation_text t WHERE t.rowid = k.id) FROM annotation_mark k ORDER BY annotation, id"""
    )
    return [tuple(row) for row in (*facets.fetchall(), *marks.fetchall())]


class Life:
    """What goes on while a rebuild is on: each turn one specimen is new, one is changed, one goes, one becomes private."""

    def __init__(self, database: Database, truths: list[Truth]) -> None:
        self.database, self.truths, self.turn = database, list(truths), 0
        self.new = random_truths(200, seed=9)[100:]

    def go_on(self) -> None:
        turn, self.turn = self.turn, self.turn + 1
        with self.database.transaction() as conn:
            publish(conn, self.new[turn])
            changed = self.truths[3 * turn % 60]
            publish(
                conn, replace(changed, fields={**changed.fields, "dwc:country": "Peru", "dwc:verbatimLabel": "hortus"})
            )
            gone = self.truths[(3 * turn + 1) % 60].iri
            body = build_tombstone(iri=gone, kind="specimen", reason="x", at=NOW)
            records.tombstone(conn, gone, body, now=NOW)
            index_specimen(conn, gone)
            hidden = self.truths[(3 * turn + 32) % 60]
            publish(conn, replace(hidden, access=AccessClass.PRIVATE))


def test_answers_stay_right_while_the_tables_are_built_and_after(database: Database, truths: list[Truth]) -> None:
    life = Life(database, truths)

    def between(done: int, total: int) -> None:
        assert done <= total
        life.go_on()
        with database.transaction() as conn:
            live = content(conn)
            conn.execute("SAVEPOINT there")
            search_index.reindex(conn)
            assert content(conn) == live, "the tables in use follow every change"
            conn.execute("ROLLBACK TO there")

    kept = numbers(database)
    count = rebuild(database, token="a", progress=between)
    assert life.turn > 8
    after = answers(database)
    assert after["", True][0] == count
    with database.transaction() as conn:
        built = content(conn)
        search_index.reindex(conn)
        assert content(conn) == built, "the new tables hold what the records say"
    assert answers(database) == after
    moved = [iri for iri, n in numbers(database).items() if kept.get(iri, n) != n and (kept[iri] > 0) == (n > 0)]
    assert moved == [], "pages stay where they are"


def test_a_change_that_is_not_noted_would_be_lost(
    database: Database, truths: list[Truth], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test above: without the notes it fails."""
    monkeypatch.setattr(service, "_take_changed", lambda conn, limit: conn.execute("DELETE FROM search_dirty"))
    with pytest.raises(AssertionError, match="the new tables hold what the records say"):
        test_answers_stay_right_while_the_tables_are_built_and_after(database, truths)


@pytest.mark.parametrize("ends_at", range(0, 12, 3))
def test_a_rebuild_that_ends_half_way_has_changed_nothing(
    database: Database, truths: list[Truth], ends_at: int
) -> None:
    before, left = answers(database), ends_at

    def end(done: int, total: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(database, token="a", progress=end)
    assert answers(database) == before
    assert rebuild(database, token="b") == 60
    assert answers(database) == before
    with database.reader() as conn:
        names = {row[0] for row in conn.execute("SELECT name FROM sqlite_master")}
        assert not any(name.startswith(service.NEXT) for name in names)
        assert conn.execute("SELECT count(*) FROM search_dirty").fetchone()[0] == 0
        assert conn.execute("SELECT count(*) FROM meta WHERE key = 'search_rebuild'").fetchone()[0] == 0


def test_of_two_rebuilds_the_later_one_wins(database: Database, truths: list[Truth]) -> None:
    before, others = answers(database), []

    def overtake(done: int, total: int) -> None:
        if done == 14:
            others.append(rebuild(database, token="later"))

    with pytest.raises(RebuildOvertaken):
        rebuild(database, token="first", progress=overtake)
    assert others == [60]
    assert answers(database) == before


def test_the_schema_stays_the_same_through_rebuilds(database: Database, truths: list[Truth]) -> None:
    def schema() -> list[str]:
        with database.reader() as conn:
            rows = conn.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_stat%'")
            texts = [" ".join(row[0].replace('"', "").replace("'", "").split()) for row in rows]
            return sorted(text.replace("_b ON", " ON") for text in texts)

    before = schema()
    for number in range(3):
        rebuild(database, token=str(number))
        assert schema() == before
    with database.reader() as conn:
        indexes = conn.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = 'specimen_facet'"
        )
        assert indexes.fetchone()[0] == 17


def test_damaged_tables_are_mended(database: Database, truths: list[Truth]) -> None:
    before = answers(database)
    with database.transaction() as conn:
        conn.execute("DELETE FROM specimen_facet WHERE n % 2 = 0")
        conn.execute("UPDATE specimen_facet SET kingdom = 'Fungi'")
        conn.execute("DELETE FROM specimen_text WHERE rowid % 3 = 0")
        conn.execute("UPDATE annotation_mark SET is_public = 1")
    assert answers(database) != before
    assert rebuild(database, token="a") == 60
    assert answers(database) == before
