"""New rows published together, also prepared by another process, leave the tables as if each had come alone."""

import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from linkeddata.access import AccessClass
from linkeddata.source import SourceMedia, SourceRow, row_of
from node.folder import NodeFolder
from node.services import prepare_ahead
from node.services.ingest import Ingest
from node.services.intake_source import open_intake
from node.services.prepare_process import read_frame, write_frame
from node.storage import records
from node.storage.new_records import draft, publish_new

Make = Callable[..., NodeFolder]
SETTINGS = """
[[sources.collection.rules]]
field = "country"
match = "Hidden"
access = "private"
[[sensitive]]
value = "Orchis militaris"
field = "scientificName"
category = 2
"""
TABLES = (
    "record", "record_version", "record_alias", "change", "medium", "medium_specimen", "source_row", "record_issue",
    "specimen_facet", "finding",
)  # fmt: skip
RANDOM = {"salt"}


def archive(folder: Path) -> Path:
    rows = rows_of(24)
    rows[3]["country"] = rows[4]["country"] = "Hidden"
    rows[5] |= {"scientificName": "Orchis militaris L.", "decimalLatitude": "48.12345", "decimalLongitude": "9.12345"}
    rows[6]["locality"] = 'Zürich "dcterms:created":"\u0001'
    rows[7]["image"] = rows[8]["image"] = "https://images.example/shared.jpg"
    rows[9]["image"] = "https://images.example/9.jpg"
    rows[10]["image"] = ""
    rows[11] |= {"eventDate": "1901-02-30", "image": "images/missing.jpg"}
    rows[13]["country"], rows[13]["image"] = "Hidden", "https://images.example/13.jpg"
    rows[14]["catalogNumber"] = rows[15]["catalogNumber"]
    for number in (20, 21, 22, 23):
        rows[number]["image"] = ""
    path = write_archive(folder, rows, images=lambda number: jpeg(number))
    (path / "images/missing.jpg").unlink(missing_ok=True)
    return path


def content(node: NodeFolder) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    with node.database.reader() as conn:
        for table in TABLES:
            rows = [{name: row[name] for name in row.keys()} for row in conn.execute(f"SELECT * FROM {table}")]
            for row in rows:
                for name in RANDOM | ({"digest"} if table == "change" else set()):
                    row.pop(name, None)
            found[table] = sorted(rows, key=repr)
        found["words"] = [dict(row) for row in conn.execute("SELECT rowid, body FROM specimen_text ORDER BY rowid")]
    return found


def make_twin(make_node: Make, name: str) -> NodeFolder:
    node = make_node(name, settings=SETTINGS)
    with node.database.transaction() as conn:
        conn.execute("UPDATE meta SET value = ? WHERE key = 'id_salt'", ("ab" * 32,))
    return node


@pytest.fixture
def one_by_one(make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    node = make_twin(make_node, "one-by-one")
    with monkeypatch.context() as patch:
        patch.setattr(Ingest, "_is_alone", lambda *_: False)
        ingest(node, archive(tmp_path / "a"))
    return content(node)


def test_together_is_as_one_by_one(
    make_node: Make, tmp_path: Path, one_by_one: dict[str, list[dict[str, Any]]]
) -> None:
    node = make_twin(make_node, "together")
    report = ingest(node, tmp_path / "a")
    assert report.new == 24
    assert content(node) == one_by_one
    assert ingest(node, tmp_path / "a").is_unchanged


def test_beside_is_as_here_and_a_process_that_is_killed_costs_nothing(
    make_node: Make,
    tmp_path: Path,
    one_by_one: dict[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(prepare_ahead, "MANY_ROWS", 1)
    monkeypatch.setattr(prepare_ahead.os, "sched_getaffinity", lambda _: {0, 1})
    started: list[int] = []
    plain = prepare_ahead.subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> Any:
        process = plain(*arguments, **options)
        started.append(process.pid)
        return process

    monkeypatch.setattr(prepare_ahead.subprocess, "Popen", popen)
    beside = make_twin(make_node, "beside")
    assert ingest(beside, tmp_path / "a").new == 24
    assert content(beside) == one_by_one
    assert len(started) == 1
    assert not caplog.messages

    killed = make_twin(make_node, "killed")
    with open_intake(tmp_path / "a", "collection") as intake:
        work = Ingest(killed.settings, killed.database, killed.blobs, intake, clock=lambda: NOW, batch_rows=1)
        seen: list[int] = []

        def kill(done: int, _: int) -> None:
            seen.append(done)
            if len(seen) == 1:
                os.kill(started[-1], signal.SIGKILL)

        work.run(progress=kill)
    assert len(seen) > 3
    with prepare_ahead.preparer(*handed(killed), rows=10) as ahead:
        os.kill(started[-1], signal.SIGKILL)
        ahead.hand_in([(SourceRow(source="s", key="k", fields={}), ())], NOW.date())
        assert [item.key for item in ahead.take()] == ["k"]
    assert content(killed) == one_by_one
    assert "takes longer" in caplog.text


def handed(node: NodeFolder) -> tuple[Any, Any, bytes]:
    from linkeddata.checks import Checker
    from linkeddata.sensitive_taxa import SensitiveTaxa
    from node.config import SourceSettings
    from node.services.prepare_row import RowRules

    return RowRules.of(node.settings, SourceSettings(), SensitiveTaxa.of(())), Checker(), bytes(32)


def test_an_address_that_another_record_kept_is_not_taken(make_node: Make, tmp_path: Path) -> None:
    """A re-keyed record keeps the address that its old key gave; the old key comes back for another specimen."""
    node = make_twin(make_node, "node")
    rows = rows_of(3)
    for row in rows:
        row["image"] = ""
    ingest(node, write_archive(tmp_path / "1", rows))
    renamed = [dict(row) for row in rows]
    renamed[0]["occurrenceID"] = "urn:x:new"
    report = ingest(node, write_archive(tmp_path / "2", renamed))
    assert list(report.plan.rekeyed) == ["urn:x:new"]
    again = [*renamed, {**rows[0], "catalogNumber": "X-99"}]
    assert ingest(node, write_archive(tmp_path / "3", again)).new == 1
    with node.database.reader() as conn:
        iris = [row["iri"] for row in conn.execute("SELECT iri FROM source_row")]
        assert len(set(iris)) == len(iris) == 4
        assert conn.execute("SELECT count(*) FROM record").fetchone()[0] == 4


def test_the_times_of_a_draft_are_those_of_its_publication(make_node: Make) -> None:
    body: dict[str, Any] = {
        "@id": "x", "vasculum:verbatim": [{"dcterms:created": "y", "dcterms:modified": '"dcterms:created":"'}],
    }  # fmt: skip
    iri = "https://x.example/specimen/abc"
    record = records.NewRecord(kind="specimen", iri=iri, body=body, access=AccessClass.OPEN, source="s")
    one, many = make_node("one"), make_node("many")
    with one.database.transaction() as conn:
        records.publish(conn, record, now=NOW)
    with many.database.transaction() as conn:
        publish_new(conn, [draft(record)], now=NOW)
    assert content(one)["record"] == content(many)["record"]


def test_an_older_version_keeps_its_body(make_node: Make) -> None:
    node = make_node()
    iri = "https://x.example/specimen/abc"
    with node.database.transaction() as conn:
        for text in ("one", "two", "three"):
            body: dict[str, Any] = {"@id": iri, "dwc:locality": text}
            records.publish(
                conn, records.NewRecord(kind="specimen", iri=iri, body=body, access=AccessClass.OPEN), now=NOW
            )
        for version, text in enumerate((b"one", b"two", b"three"), start=1):
            stored = records.get_by_iri(conn, iri, version=version)
            assert stored is not None
            assert text in stored.body
            assert stored.digest == records.hashlib.sha256(stored.body).hexdigest()


def test_frames_and_rows_come_back_as_they_were() -> None:
    stream = io.BytesIO()
    write_frame(stream, ["ä\ud800", {"a": None}], [b"12", b"", b"345"])
    stream.seek(0)
    assert read_frame(stream) == (["ä\ud800", {"a": None}], b"12345")
    assert read_frame(stream) is None
    cut = io.BytesIO(stream.getvalue()[:-1])
    assert read_frame(cut) is None
    row = SourceRow(source="s", key="k", fields={"dwc:x": "ü"}, media=(SourceMedia(key="m", locator="l", title="t"),))
    assert row_of(row.canonical) == row
