"""Columns in memory follow the tables: after every change, in the transaction of whoever asks, and never beyond it."""

import random
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from search_world import open_database, publish, random_truths

from linkeddata.access import AccessClass
from linkeddata.selection import parse_where
from node.access import ANONYMOUS, STAFF
from node.services.reindex import rebuild
from node.storage import search_columns, search_index
from node.storage.column_store import ColumnStore
from node.storage.db import Database, connect
from node.storage.search import Wanted, look
from node.storage.search_columns import SearchColumns
from node.storage.search_index import index_specimen

WANTED = Wanted(limit=10, facets=("family", "country", "year"), facet_limit=100)
QUESTIONS = [
    parse_where(text) for text in ("", "country=Brazil", "!family=Fabaceae year=1817,1820", "q=rio kingdom=Plantae")
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = open_database(tmp_path / "node.sqlite")
    yield found
    found.close()


def agree(database: Database, columns: SearchColumns) -> int:
    """Compares both ways to answer; how many the columns gave."""
    given = 0
    for viewer in (ANONYMOUS, STAFF):
        for question in QUESTIONS:
            with database.reader(limit_s=None) as conn:
                known = columns.count(conn, question, viewer)
                found = look(conn, question, viewer, WANTED, columns=columns)
                plain = look(conn, question, viewer, WANTED)
            given += known is not None
            assert replace(found, facets=()) == replace(plain, facets=())
            for one, other in zip(found.facets, plain.facets, strict=True):
                assert sorted((name.lower(), number) for name, number in one.counts) == sorted(
                    (name.lower(), number) for name, number in other.counts
                )
    return given


def columns_of(database: Database, **options: int) -> SearchColumns:
    return SearchColumns(lambda: connect(database.path, read_only=True), **options)


def remove(conn: sqlite3.Connection, iri: str) -> None:
    conn.execute("UPDATE record SET state = 'tombstone' WHERE iri = ?", (iri,))
    index_specimen(conn, iri)


def test_they_follow_every_change(database: Database) -> None:
    truths = random_truths(60, seed=1)
    with database.transaction() as conn:
        for truth in truths[:40]:
            publish(conn, truth)
    columns = columns_of(database)
    columns.load()
    assert agree(database, columns) == 8
    rng = random.Random(3)
    for _ in range(15):
        with database.transaction() as conn:
            for _ in range(rng.randrange(1, 4)):
                truth = rng.choice(truths)
                match rng.randrange(3):
                    case 0:
                        publish(conn, replace(truth, fields=rng.choice(truths).fields))
                    case 1:  # it becomes private, or public again: another number
                        publish(conn, replace(truth, access=rng.choice([AccessClass.PRIVATE, AccessClass.OPEN])))
                    case _:
                        remove(conn, truth.iri)
        assert agree(database, columns) == 8


def test_a_change_that_is_rolled_back_was_none(database: Database) -> None:
    truths = random_truths(30, seed=2)
    with database.transaction() as conn:
        for truth in truths[:20]:
            publish(conn, truth)
    columns = columns_of(database)
    columns.load()
    with pytest.raises(RuntimeError), database.transaction() as conn:
        for truth in truths[20:]:
            publish(conn, truth)
        raise RuntimeError
    assert agree(database, columns) == 8
    with database.transaction() as conn:
        publish(conn, truths[25])
    assert agree(database, columns) == 8


def test_a_question_that_is_stopped_while_it_takes_in_news_spoils_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    truths = random_truths(30, seed=7)
    with database.transaction() as conn:
        for truth in truths[:20]:
            publish(conn, truth)
    columns = columns_of(database)
    columns.load()
    early = connect(database.path, read_only=True)
    early.execute("BEGIN")
    before = look(early, QUESTIONS[0], STAFF, WANTED)
    with database.transaction() as conn:
        publish(conn, replace(truths[2], fields=truths[25].fields))
        publish(conn, replace(truths[9], fields=truths[26].fields))
    read, asked = ColumnStore.read, [0]

    def stopped(self: ColumnStore, conn: sqlite3.Connection, low: int, high: int) -> object:
        asked[0] += 1
        if asked[0] == 2:
            raise sqlite3.OperationalError("interrupted")
        return read(self, conn, low, high)

    with monkeypatch.context() as patch:
        patch.setattr(ColumnStore, "read", stopped)
        with database.reader() as conn, pytest.raises(sqlite3.OperationalError):
            columns.count(conn, QUESTIONS[0], STAFF)
    assert look(early, QUESTIONS[0], STAFF, WANTED, columns=columns) == before
    early.close()
    assert agree(database, columns) == 8


def test_a_transaction_that_began_before_gets_the_answer_of_its_time(database: Database) -> None:
    truths = random_truths(30, seed=4)
    with database.transaction() as conn:
        for truth in truths[:20]:
            publish(conn, truth)
    columns = columns_of(database)
    columns.load()
    everything = parse_where("")
    with database.reader(limit_s=None) as early:
        before = look(early, everything, STAFF, WANTED)
        with database.transaction() as conn:
            for truth in truths[20:]:
                publish(conn, truth)
        later = connect(database.path, read_only=True)
        later.execute("BEGIN")
        assert look(later, everything, STAFF, WANTED, columns=columns).total == 30
        assert columns.count(early, everything, STAFF) is None
        assert look(early, everything, STAFF, WANTED, columns=columns) == before
        later.close()


def test_a_rebuild_a_long_absence_and_a_short_log_load_them_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    truths = random_truths(40, seed=5)
    with database.transaction() as conn:
        for truth in truths[:30]:
            publish(conn, truth)
    columns = columns_of(database, fewest=1)
    columns.load()

    def again() -> None:
        agree(database, columns)  # answers, from the tables where the columns are behind
        for thread in threading.enumerate():
            if thread.name == "search-columns":
                thread.join()

    with database.transaction() as conn:
        remove(conn, truths[0].iri)
    rebuild(database, token="t")
    again()
    assert agree(database, columns) == 8
    monkeypatch.setattr(search_columns, "MOST_NEWS", 5)
    with database.transaction() as conn:
        for truth in truths[30:]:
            publish(conn, truth)
    again()
    assert agree(database, columns) == 8
    monkeypatch.setattr(search_index, "CHANGES_KEPT", 1)
    with database.transaction() as conn:
        conn.execute("INSERT INTO search_change SELECT 999, low, high FROM search_change LIMIT 1")
        for truth in truths[:3]:
            publish(conn, truth)
        assert conn.execute("SELECT count(*) FROM search_change").fetchone()[0] < 10
    again()
    assert agree(database, columns) == 8
    columns.close()


def test_small_collections_are_not_loaded_and_close_ends_a_thread(database: Database) -> None:
    with database.transaction() as conn:
        for truth in random_truths(5, seed=6):
            publish(conn, truth)
    columns = columns_of(database)
    with database.reader() as conn:
        assert columns.count(conn, QUESTIONS[1], ANONYMOUS) is None
    assert not [thread for thread in threading.enumerate() if thread.name == "search-columns"]
    eager = columns_of(database, fewest=1)
    with database.reader() as conn:
        eager.prepare(conn)
    eager.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "search-columns"]


def test_many_at_once_and_one_by_one_are_noted_alike(database: Database) -> None:
    from linkeddata.access import AccessClass
    from node.storage.search_document import read_document
    from node.storage.search_index import NewSpecimen, index_new

    columns = columns_of(database)
    columns.load()
    with database.transaction() as conn:
        index_new(
            conn,
            [
                NewSpecimen(
                    iri=f"https://x.example/specimen/{number}", access=access, source="s", has_media=False, has_image=False,
                    document=read_document({"dwc:family": "Fabaceae"}),
                )
                for number, access in enumerate([AccessClass.OPEN, AccessClass.PRIVATE, AccessClass.OPEN])
            ],
        )  # fmt: skip
        for low, high in ((-1, -1), (1, 2)):
            assert conn.execute("SELECT 1 FROM search_change WHERE (low, high) = (?, ?)", (low, high)).fetchone()
    for viewer, total in ((ANONYMOUS, 2), (STAFF, 3)):
        with database.reader() as conn:
            found = columns.count(conn, parse_where("family=fabaceae"), viewer, facets=("family",), facet_limit=5)
            assert found is not None
            assert (found.total, found.facets) == (total, ((("Fabaceae", total),),))
