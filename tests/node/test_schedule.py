"""Sources on a schedule, for years: what is due, brakes that hold, exports that come back halved, re-keyed, re-ordered."""

import asyncio
import random
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, jpeg, rows_of, write_archive
from test_sensitive_later import medium_of, set_list, state
from web_world import SECRET_PLACE

from node import app as application
from node.app import build_application
from node.cli.main import run
from node.folder import NodeFolder, ingest_lock
from node.services.ingest import IngestStopped
from node.services.protect_known import protect_known
from node.services.schedule import RETRY, Schedule, Turn, due_at, last_turn, waiting_plans
from node.storage import records
from node.web.session import make_token
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
WEEK = timedelta(days=7)


class Years:
    """Time that goes by when told to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, *, by: timedelta = WEEK) -> None:
        self.now += by


@pytest.fixture
def clock() -> Years:
    return Years()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "export", rows_of(30), images=jpeg)


@pytest.fixture
def node(make_node: Make, archive: Path) -> NodeFolder:
    made = make_node()
    path = made.settings.folder / "node.toml"
    text = path.read_text("utf-8")
    every = f'[sources.collection]\npath = "{archive}"\nevery_hours = 168\n'
    path.write_text(text.replace("[sources.collection]\n", every), "utf-8")
    return made


def query(node: NodeFolder, sql: str, *parameters: object) -> list[sqlite3.Row]:
    with node.database.reader() as conn:
        return conn.execute(sql, parameters).fetchall()


def log_of(node: NodeFolder) -> list[tuple[str, str]]:
    return [(row["record_type"], row["op"]) for row in query(node, "SELECT * FROM change ORDER BY seq")]


def addresses(node: NodeFolder) -> dict[str, str]:
    return {row["key"]: row["iri"] for row in query(node, "SELECT key, iri FROM source_row WHERE state = 'present'")}


MONDAY = datetime(2026, 1, 5, 3, tzinfo=UTC)


def turn(state: str, at: datetime = MONDAY) -> Turn:
    return Turn(source="s", at=at, state=state)  # type: ignore[arg-type]


def test_what_is_due_follows_from_what_was_done() -> None:
    assert due_at(168, done=None, last=None) is None
    assert due_at(168, done=MONDAY, last=None) == MONDAY + WEEK
    assert due_at(168, done=MONDAY, last=turn("done")) == MONDAY + WEEK
    assert due_at(168, done=MONDAY, last=turn("held", MONDAY + WEEK)) == MONDAY + 2 * WEEK
    assert due_at(168, done=MONDAY, last=turn("failed", MONDAY + WEEK)) == MONDAY + WEEK + RETRY
    assert due_at(168, done=None, last=turn("failed")) == MONDAY + RETRY
    assert due_at(168, done=MONDAY, last=turn("stopped", MONDAY + WEEK)) == MONDAY + WEEK
    assert due_at(168, done=MONDAY + 2 * WEEK, last=turn("failed", MONDAY + WEEK)) == MONDAY + 3 * WEEK, "done by hand"


def test_it_is_read_when_it_is_due_and_a_lost_tick_changes_only_the_hour(
    node: NodeFolder, archive: Path, clock: Years
) -> None:
    schedule = Schedule(node, clock=clock)
    first = schedule.run_due()
    assert [(item.state, item.text) for item in first] == [("done", "30 new, 0 changed, 0 unchanged")]
    assert schedule.run_due() == []
    clock.go_on(by=WEEK - timedelta(hours=1))
    assert schedule.run_due() == []
    rows = rows_of(30)
    rows[4]["country"] = "Austria"
    write_archive(archive, rows)
    clock.go_on(by=5 * WEEK)  # the node was off for weeks
    assert [item.text for item in Schedule(node, clock=clock).run_due()] == ["0 new, 1 changed, 29 unchanged"]
    assert schedule.run_due() == []
    assert len(query(node, "SELECT * FROM ingest_run")) == 2


def test_a_year_of_unchanged_exports_says_nothing_new(node: NodeFolder, archive: Path, clock: Years) -> None:
    schedule = Schedule(node, clock=clock)
    schedule.run_due()
    before = log_of(node)
    shuffled = rows_of(30)
    for week in range(6):
        random.Random(week).shuffle(shuffled)
        write_archive(archive, shuffled)  # the same rows in another order
        clock.go_on()
        assert [item.text for item in schedule.run_due()] == ["0 new, 0 changed, 30 unchanged"]
    assert log_of(node) == before


@pytest.mark.parametrize("flaw", ["halved", "rekeyed", "cut"])
def test_a_plan_that_is_held_waits_for_a_person_and_is_shown(
    node: NodeFolder, archive: Path, clock: Years, capsys: pytest.CaptureFixture[str], flaw: str
) -> None:
    schedule = Schedule(node, clock=clock)
    schedule.run_due()
    before, iris = log_of(node), addresses(node)
    rows = rows_of(30)
    if flaw == "halved":
        write_archive(archive, rows[:15])
    elif flaw == "rekeyed":
        write_archive(archive, [{**row, "occurrenceID": row["occurrenceID"].replace("urn:x", "urn:y")} for row in rows])
    else:
        table = archive / "occurrence.txt"
        table.write_bytes(table.read_bytes()[:-90])
    clock.go_on()
    held = schedule.run_due()
    assert [item.state for item in held] == ["held"]
    assert log_of(node) == before
    clock.go_on()
    assert schedule.run_due()[0].plan == held[0].plan, "it is still the same plan"
    with node.database.reader() as conn:
        assert [item.id for item in waiting_plans(conn)] == [held[0].plan]
    folder = str(node.settings.folder)
    run(["doctor", folder])
    command = f"vasculum ingest {folder} --source collection --accept-plan {held[0].plan}"
    assert command in " ".join(capsys.readouterr().out.split())
    assert run(["ingest", folder, "--source", "collection", "--accept-plan", held[0].plan]) == 0
    with node.database.reader() as conn:
        assert waiting_plans(conn) == []
    if flaw == "rekeyed":
        assert {key.replace("urn:y", "urn:x"): iri for key, iri in addresses(node).items()} == iris
        with node.database.reader() as conn:
            assert records.resolve(conn, "urn:x:3") == records.resolve(conn, "urn:y:3") == [iris["urn:x:3"]]
    if flaw == "halved":
        assert not query(node, "SELECT 1 FROM record WHERE state = 'tombstone'"), "the schedule never withdraws"


def test_an_export_that_is_whole_again_goes_ahead_by_itself(node: NodeFolder, archive: Path, clock: Years) -> None:
    schedule = Schedule(node, clock=clock)
    schedule.run_due()
    before = log_of(node)
    write_archive(archive, rows_of(15))
    clock.go_on()
    assert schedule.run_due()[0].state == "held"
    write_archive(archive, rows_of(30))
    clock.go_on()
    assert schedule.run_due()[0].text == "0 new, 0 changed, 30 unchanged"
    assert log_of(node) == before
    with node.database.reader() as conn:
        assert waiting_plans(conn) == [], "the plan of the broken export is no longer shown"


async def test_staff_see_what_waits(node: NodeFolder, archive: Path, clock: Years) -> None:
    schedule = Schedule(node, clock=clock)
    schedule.run_due()
    write_archive(archive, rows_of(15))
    clock.go_on()
    plan = schedule.run_due()[0].plan
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        with node.database.transaction() as conn:
            token = make_token(conn, now=NOW)
        answer = await client.post(
            "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
        )
        headers = {"Cookie": f"vasculum_staff={answer.cookies['vasculum_staff'].value}"}
        assert plan in await (await client.get("/staff/jobs", headers=headers)).text()
        client.session.cookie_jar.clear()
        assert plan not in await (await client.get("/staff/jobs")).text()


def test_a_drive_that_is_not_there_is_tried_again(
    node: NodeFolder, archive: Path, clock: Years, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = Schedule(node, clock=clock)
    away = archive.rename(archive.with_name("away"))
    assert schedule.run_due()[0].state == "failed"
    run(["doctor", str(node.settings.folder)])
    assert "the schedule could not read it" in " ".join(capsys.readouterr().out.split())
    clock.go_on(by=RETRY / 2)
    assert schedule.run_due() == []
    away.rename(archive)
    clock.go_on(by=RETRY)
    assert schedule.run_due()[0].state == "done"


def test_a_stopped_node_goes_on_where_it_was(node: NodeFolder, clock: Years, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(node, clock=clock)

    def end_now(done: int, total: int) -> None:
        schedule.stop()
        raise IngestStopped(f"{done} of {total}")

    monkeypatch.setattr(schedule, "_progress", end_now)
    assert [item.state for item in schedule.run_due()] == ["stopped"]
    assert query(node, "SELECT state FROM ingest_run")[0]["state"] == "stopped"
    assert [item.state for item in Schedule(node, clock=clock).run_due()] == ["done"]


def test_a_person_goes_first(node: NodeFolder, clock: Years) -> None:
    schedule = Schedule(node, clock=clock)
    with ingest_lock(node.settings.folder):
        assert schedule.run_due() == []
    assert schedule.run_due() != []


def test_settings_that_cannot_be_read_change_nothing(
    node: NodeFolder, clock: Years, caplog: pytest.LogCaptureFixture
) -> None:
    path = node.settings.folder / "node.toml"
    good = path.read_text("utf-8")
    path.write_text(good + "\n[nonsense]\n", "utf-8")
    assert Schedule(node, clock=clock).run_due() == []
    path.write_text(good.replace("127.0.0.1:8765", "127.0.0.1:9999"), "utf-8")
    assert Schedule(node, clock=clock).run_due() == []
    assert "cannot be read" in caplog.text
    assert "not what this node was started with" in caplog.text


async def test_the_node_does_it_by_itself(node: NodeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "SOURCES_TICK_S", 0.02)
    done, real = asyncio.Event(), application._ingest_sources

    async def noted(app) -> None:  # type: ignore[no-untyped-def]
        await real(app)
        done.set()

    monkeypatch.setattr(application, "_ingest_sources", noted)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client, asyncio.timeout(30):
        await done.wait()
        assert (await (await client.get("/search?kingdom=Plantae")).json())["total"] == 30
    with node.database.reader() as conn:
        found = last_turn(conn, "collection")
    assert found is not None
    assert found.state == "done"


def test_a_longer_list_protects_at_once_while_the_plan_is_held(node: NodeFolder, archive: Path, clock: Years) -> None:
    rows = rows_of(30)
    rows[1] |= {"locality": SECRET_PLACE, "decimalLatitude": "47.1234"}
    write_archive(archive, rows)
    schedule = Schedule(node, clock=clock)
    schedule.run_due()
    assert state(node)["hits"] == 1
    digests = {row["key"]: row["digest"] for row in query(node, "SELECT key, digest FROM source_row")}
    write_archive(archive, rows[:15])
    set_list(node, 1)
    clock.go_on()
    assert schedule.run_due()[0].state == "held"
    found = state(node)
    assert found["sensitive"]
    assert found["hits"] == 0
    assert len(found["versions"]) == 1  # type: ignore[arg-type]
    assert "ac:accessURI" not in medium_of(node)
    assert {row["key"]: row["digest"] for row in query(node, "SELECT key, digest FROM source_row")} == digests
    write_archive(archive, rows)
    clock.go_on()
    assert schedule.run_due()[0].text == "0 new, 0 changed, 30 unchanged"
    assert state(node)["sensitive"]


def test_protecting_what_is_known_costs_one_look_when_nothing_changed(node: NodeFolder, clock: Years) -> None:
    schedule = Schedule(node, clock=clock)
    schedule.run_due()
    assert protect_known(node.settings, node.database, clock=clock) == 0
    before = log_of(node)
    with node.database.transaction() as conn:
        conn.execute("UPDATE source_row SET body = x'00'")  # it would not be read
    assert protect_known(node.settings, node.database, clock=clock) == 0
    assert log_of(node) == before


# ---------------------------------------------------------------------- tombstones name the successor
@pytest.fixture
def restored(make_node: Make, tmp_path: Path) -> tuple[NodeFolder, Path]:
    made = make_node("restored")
    path = write_archive(tmp_path / "r", rows_of(30), images=jpeg)
    return made, path


def test_a_tombstone_names_the_record_that_took_its_place(restored: tuple[NodeFolder, Path]) -> None:
    """An export that lists old and new key for a while: the old record ends later, and says which one goes on."""
    node, path = restored
    rows = rows_of(30)
    assert run(["ingest", str(node.settings.folder), str(path)]) == 0
    both = [*rows, {**rows[3], "occurrenceID": "urn:new:3"}]
    write_archive(path, both)
    assert run(["ingest", str(node.settings.folder), str(path)]) == 0
    iris = addresses(node)
    write_archive(path, [row for row in both if row["occurrenceID"] != "urn:x:3"])
    assert run(["ingest", str(node.settings.folder), str(path), "--prune"]) == 0
    with node.database.reader() as conn:
        gone = records.get_by_iri(conn, iris["urn:x:3"])
    assert gone is not None
    assert gone.state == "tombstone"
    assert f'"dcterms:isReplacedBy":{{"@id":"{iris["urn:new:3"]}"}}'.encode() in gone.body


def test_a_record_that_is_simply_gone_names_nobody(restored: tuple[NodeFolder, Path]) -> None:
    node, path = restored
    assert run(["ingest", str(node.settings.folder), str(path)]) == 0
    write_archive(path, rows_of(29))
    assert run(["ingest", str(node.settings.folder), str(path), "--prune"]) == 0
    bodies = [bytes(row["body"]) for row in query(node, "SELECT body FROM record WHERE state = 'tombstone'")]
    assert len(bodies) == 2
    assert not any(b"isReplacedBy" in body for body in bodies)


def test_a_record_that_comes_back_is_the_same_record(restored: tuple[NodeFolder, Path]) -> None:
    node, path = restored
    folder = str(node.settings.folder)
    assert run(["ingest", folder, str(path)]) == 0
    before = addresses(node)
    write_archive(path, rows_of(29))
    assert run(["ingest", folder, str(path), "--prune"]) == 0
    write_archive(path, rows_of(30))
    assert run(["ingest", folder, str(path)]) == 0
    assert addresses(node) == before
    assert not query(node, "SELECT 1 FROM record WHERE state = 'tombstone'")
    versions = query(node, "SELECT version FROM record WHERE iri = ?", before["urn:x:29"])
    assert versions[0]["version"] == 3
