"""Runs of the institution's own: by command, by themselves, anew; what they may see, who goes first, what stays inside."""

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from conftest import ingest, jpeg, rows_of, write_archive
from federation_world import BARCODE, ENVIRONMENT, MANIFEST, QUALITY, Clock, SmallNode, make_node, make_spec, signed
from made_models import write_model

from federation.identity import SigningKey
from linkeddata.access import AccessClass
from linkeddata.pipeline import PipelineManifest
from linkeddata.selection import parse_where
from node import app as application
from node.access import STAFF, Viewer
from node.app import build_application
from node.cli.main import run
from node.config import load_settings
from node.folder import NodeFolder, open_folder, serve_lock
from node.services import own_runs, review
from node.services.job_rules import OfferedPipeline
from node.services.jobs import JobService
from node.services.new_bytes import pipeline_requests, queue_pipelines
from node.services.own_runs import RunTarget, choose_media
from node.services.retract import RunSelection, begin_retraction, carry_on
from node.storage import annotations, reviews
from node.storage.journal import SqliteJournal
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
R = SigningKey.from_seed(b"r" * 32)
TEXT = RunTarget.of(MANIFEST)
NEWER = replace(MANIFEST, version="2.0.0", implementation="sha256:" + "9" * 64)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SmallNode]:
    made = make_node(tmp_path / "n", clock=Clock(), manifests=(MANIFEST, BARCODE))
    made.enrol(R)
    for number in range(4):
        made.add_sheet(f"s{number}", lines=["Herbarium Martii"])
    yield made
    made.database.close()


def begin(node: SmallNode, target: RunTarget = TEXT, *, where: str = "", only_older: bool = False) -> list[str]:
    with node.database.transaction() as conn:
        media = choose_media(conn, target, parse_where(where), only_older=only_older)
        return own_runs.add_runs(
            conn, target, media, purpose="test", name=f"{where} {only_older} {node.clock()}", kid=node.key.kid,
            institution="N", now=node.clock(),
        )  # fmt: skip


async def finish(node: SmallNode) -> None:
    for _ in range(20):
        await node.jobs.poll()
        if not await node.work():
            break
    await node.jobs.poll()


def offer(node: SmallNode, manifest: PipelineManifest) -> None:
    """The node was started again with this version."""
    others = [item for item in node.offers if item.manifest.output != manifest.output]
    node.offers[:] = [OfferedPipeline(manifest=manifest, environment=ENVIRONMENT, conformance="pass"), *others]


def statements(node: SmallNode) -> list[reviews.ReviewRow]:
    with node.database.reader() as conn:
        return sorted(reviews.find(conn, reviews.Rule(), state=None), key=lambda row: (row.medium, row.created))


def progress(node: SmallNode, jobs: list[str]) -> own_runs.RunProgress:
    with node.database.reader() as conn:
        return own_runs.progress_of(conn, jobs)


async def test_a_run_makes_statements_that_wait_and_nothing_public(node: SmallNode) -> None:
    jobs = begin(node)
    await finish(node)
    assert progress(node, jobs) == own_runs.RunProgress(total=4, done=4, failed=0, is_finished=True)
    found = statements(node)
    assert [(row.state, row.asked, row.output) for row in found] == 4 * [("pending", False, "label-text/1")]
    with node.database.reader() as conn:
        assert conn.execute("SELECT count(*) FROM change WHERE record_type = 'annotation'").fetchone()[0] == 0
        assert choose_media(conn, TEXT, parse_where(""), only_older=False) == [], "nothing is left to do"
    for viewer in (Viewer(kid=R.kid), Viewer()):
        assert await node.jobs.status(jobs[0], viewer) is None
        assert await node.jobs.results(jobs[0], viewer) is None
    assert await node.jobs.status(jobs[0], STAFF) is not None


async def test_private_and_sensitive_images_are_run_over_and_stay_inside(node: SmallNode) -> None:
    made = await node.jobs.submit(signed(make_spec(R, [node.origin]), R).to_json(), sender_kid=R.kid)
    node.set_class("s0", AccessClass.PRIVATE)
    node.set_class("s1", AccessClass.OPEN, sensitive=True)
    jobs = begin(node)
    await finish(node)
    assert progress(node, jobs).failed == 0
    assert len(statements(node)) == 4
    status = await node.jobs.status(made.status.job_id, Viewer(kid=R.kid))
    assert status is not None
    counts = status.steps[0].counts
    assert (counts.yes, counts.cannot_tell) == (2, 2), "the researcher learns nothing of the two"
    with node.database.reader() as conn:
        for row in statements(node):
            if row.medium.endswith(("s0", "s1")):
                assert review.hidden_because(conn, replace(row, asked=True))
    other = make_spec(R, [node.origin], number=2)
    again = await node.jobs.submit(signed(other, R).to_json(), sender_kid=R.kid)
    assert again.status.images == 3, "private: not selected; sensitive: counted and withheld"


async def test_without_a_run_the_gate_holds(node: SmallNode) -> None:
    made = await node.jobs.submit(signed(make_spec(R, [node.origin]), R).to_json(), sender_kid=R.kid)
    node.set_class("s0", AccessClass.PRIVATE)
    jobs = begin(node, where="")
    with node.database.transaction() as conn:
        assert own_runs.stop_runs(conn, None, now=node.clock()) == 1
    await finish(node)
    assert node.computed == 3
    assert not progress(node, jobs).done
    assert made.status.images == 4


async def test_researchers_go_first_and_may_move_what_they_want_forward(node: SmallNode) -> None:
    begin(node)
    await node.jobs.poll()
    node.add_sheet("late", lines=["Herbarium Martii"])
    for number, name in enumerate(("late", "s3")):
        spec = make_spec(R, [node.origin], number=number, where=f"catalogNumber={name}")
        await node.jobs.submit(signed(spec, R).to_json(), sender_kid=R.kid)
    leased = await SqliteJournal(node.database).lease(
        MANIFEST.digest, ENVIRONMENT, limit=2, now=node.clock(), lease_s=60, boot="b"
    )
    with node.database.reader() as conn:
        first = {
            conn.execute("SELECT key FROM medium WHERE image = ?", (item.unit.image,)).fetchone()["key"]
            for item in leased
        }
    assert first == {"late", "s3"}


async def test_a_run_is_queued_part_by_part(node: SmallNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_runs, "RUN_IMAGES", 1)
    jobs = begin(node)
    assert len(jobs) == 4
    await node.jobs.poll()
    await node.jobs.poll()
    with node.database.reader() as conn:
        assert conn.execute("SELECT count(*) FROM unit").fetchone()[0] == 1
    await finish(node)
    assert progress(node, jobs) == own_runs.RunProgress(total=4, done=4, failed=0, is_finished=True)


async def test_a_composed_pipeline_runs_over_private_images_too(node: SmallNode) -> None:
    node.offers.append(OfferedPipeline(manifest=QUALITY, environment=ENVIRONMENT, conformance="pass"))
    node.set_class("s0", AccessClass.PRIVATE)
    jobs = begin(node, RunTarget.of(QUALITY))
    await finish(node)
    assert (progress(node, jobs).done, progress(node, jobs).failed) == (4, 0)
    assert {row.output for row in statements(node)} == {"quality/1"}, "steps upstream make no statements"


# ---------------------------------------------------------------------- by themselves
def settings_with(node: SmallNode, **jobs: object) -> None:
    node.settings = replace(node.settings, jobs=replace(node.settings.jobs, **jobs))  # type: ignore[arg-type]


def take(node: SmallNode) -> int:
    targets = [RunTarget.of(item.manifest) for item in node.offers]
    return own_runs.take_due(node.database, node.settings, targets, kid=node.key.kid, now=node.clock())


async def test_new_images_are_run_over_once_by_what_the_settings_name(node: SmallNode) -> None:
    with node.database.transaction() as conn:
        media = [(row["iri"], row["image"]) for row in conn.execute("SELECT iri, image FROM medium ORDER BY iri")]
        queue_pipelines(conn, media[:2], reason="new", now=node.clock())
    assert take(node) == 0, "the settings name none"
    settings_with(node, on_new_images=("label-text",))
    assert take(node) == 2
    assert take(node) == 0
    await finish(node)
    assert [row.medium for row in statements(node)] == [medium for medium, _ in media[:2]]
    with node.database.reader() as conn:
        assert pipeline_requests(conn, limit=9) == []


OFFERED = 'pipelines = ["label-text", "barcode", "quality"]'


def offering(made: NodeFolder, text: str) -> Path:
    """The folder of a node whose settings of jobs say this."""
    file = made.settings.folder / "node.toml"
    assert OFFERED in file.read_text("utf-8")
    file.write_text(file.read_text("utf-8").replace(OFFERED, text), "utf-8")
    return made.settings.folder


def test_an_ingest_tells_what_is_new_and_what_was_scanned_again(make_node: Make, tmp_path: Path) -> None:
    made = make_node()
    offering(made, OFFERED + '\non_new_images = ["quality"]')
    made = replace(made, settings=load_settings(made.settings.folder))
    archive = write_archive(tmp_path / "a", rows_of(2), images=jpeg)
    ingest(made, archive)
    with made.database.transaction() as conn:
        first = pipeline_requests(conn, limit=9)
        assert [item.reason for item in first] == 2 * ["the image is new"]
        conn.execute("DELETE FROM pipeline_request")
    ingest(made, archive)
    with made.database.reader() as conn:
        assert pipeline_requests(conn, limit=9) == []
    (archive / "images/1.jpg").write_bytes(jpeg(77))
    ingest(made, archive)
    with made.database.reader() as conn:
        assert [item.reason for item in pipeline_requests(conn, limit=9)] == ["the image was replaced"]


def test_a_node_that_runs_nothing_by_itself_keeps_no_list(make_node: Make, tmp_path: Path) -> None:
    made = make_node()
    ingest(made, write_archive(tmp_path / "a", rows_of(2), images=jpeg))
    with made.database.reader() as conn:
        assert pipeline_requests(conn, limit=9) == []


async def test_new_images_wait_while_many_are_run_over(node: SmallNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_runs, "NEW_IMAGES", 1)
    monkeypatch.setattr(own_runs, "MAX_OPEN_NEW", 2)
    settings_with(node, on_new_images=("label-text",))
    with node.database.transaction() as conn:
        media = [(row["iri"], row["image"]) for row in conn.execute("SELECT iri, image FROM medium ORDER BY iri")]
        queue_pipelines(conn, media, reason="new", now=node.clock())
    assert [take(node) for _ in range(4)] == [1, 1, 0, 0]
    await finish(node)
    assert [take(node) for _ in range(4)] == [1, 1, 0, 0]
    await finish(node)
    assert len(statements(node)) == 4


# ---------------------------------------------------------------------- a new version
async def test_a_new_version_supersedes_what_waits_and_erases_nothing(node: SmallNode) -> None:
    begin(node)
    await finish(node)
    old = statements(node)
    with node.database.transaction() as conn:
        review.decide_on(conn, old[3].iri, "rejected", by="c", reason="", now=node.clock())
    offer(node, NEWER)
    node.clock.forward(60)
    await node.jobs.poll()
    assert begin(node, RunTarget.of(NEWER), only_older=True)
    await finish(node)
    found = {row.iri: row for row in statements(node)}
    assert len(found) == 8
    new = [row for row in found.values() if row.pipeline == NEWER.digest]
    for row in old[:3]:
        assert found[row.iri].superseded_by in {item.iri for item in new}
    assert found[old[3].iri].superseded_by is None, "what was rejected stays rejected"
    with node.database.reader() as conn:
        assert {row.iri for row in reviews.find(conn, reviews.Rule(), state="pending")} == {row.iri for row in new}
        said = {row.iri: [item.code for item in reviews.findings_of(conn, row.iri)] for row in new}
    assert all("duplicate" not in codes for codes in said.values()), "what is replaced is not repeated"
    assert begin(node, RunTarget.of(NEWER), only_older=True) == [], "once is enough"


async def test_an_accepted_statement_stands_until_the_new_one_is_accepted(node: SmallNode) -> None:
    begin(node, where="catalogNumber=s0")
    await finish(node)
    [old] = statements(node)
    with node.database.transaction() as conn:
        review.decide_on(conn, old.iri, "accepted", by="c", reason="", now=node.clock())
    offer(node, NEWER)
    node.clock.forward(60)
    await node.jobs.poll()
    begin(node, RunTarget.of(NEWER), only_older=True)
    await finish(node)
    new = next(row for row in statements(node) if row.pipeline == NEWER.digest)

    def current() -> list[str]:
        with node.database.reader() as conn:
            return [row["iri"] for row in conn.execute("SELECT iri FROM annotation WHERE state = 'current'")]

    assert current() == [old.iri]
    with node.database.transaction() as conn:
        review.decide_on(conn, new.iri, "accepted", by="c", reason="", now=node.clock())
        kept = reviews.get(conn, old.iri)
    assert current() == [new.iri]
    assert kept is not None
    assert kept.superseded_by == new.iri


async def test_what_was_public_is_replaced_in_public_and_says_by_what(node: SmallNode) -> None:
    spec = replace(make_spec(R, [node.origin], where="catalogNumber=s0"), publish=True)
    node.settings = replace(node.settings)
    made = await node.jobs.submit(signed(spec, R).to_json(), sender_kid=R.kid)
    if made.status.approval == "waiting":
        pytest.fail("the policy of this world publishes without asking")
    await finish(node)
    [old] = statements(node)
    offer(node, NEWER)
    node.clock.forward(60)
    await node.jobs.poll()
    begin(node, RunTarget.of(NEWER), where="catalogNumber=s0", only_older=True)
    await finish(node)
    new = next(row for row in statements(node) if row.pipeline == NEWER.digest)
    with node.database.transaction() as conn:
        assert review.is_public(conn, new.iri)
        body = json.loads(conn.execute("SELECT body FROM record WHERE iri = ?", (old.iri,)).fetchone()["body"])
        assert new.iri in json.dumps(body), "the old document names what took its place"
        number = begin_retraction(
            conn, RunSelection(pipeline=NEWER.digest), reason="worse", by="c", now=node.clock()
        )  # fmt: skip
    carry_on(node.database, number, clock=node.clock)
    with node.database.reader() as conn:
        back = reviews.get(conn, old.iri)
        assert back is not None
        assert back.superseded_by is None
        states = dict(conn.execute("SELECT iri, state FROM annotation").fetchall())
    assert states[old.iri] == "current"


async def test_older_results_are_looked_for_as_often_as_the_settings_say(node: SmallNode) -> None:
    begin(node)
    await finish(node)
    offer(node, NEWER)
    await node.jobs.poll()
    settings_with(node, on_new_images=("label-text",))
    assert take(node) == 0, "not by itself"
    settings_with(node, rerun_hours=24)
    assert take(node) == 4
    assert take(node) == 0, "while it runs nothing is queued twice"
    await finish(node)
    assert take(node) == 0
    node.clock.forward(25 * 3600)
    assert take(node) == 0, "all are of the newest version"
    assert sum(row.pipeline == NEWER.digest for row in statements(node)) == 4


def test_two_classifiers_may_say_something_about_one_image(node: SmallNode) -> None:
    """With classes/1 what is current is told apart by the name of the pipeline."""
    with node.database.transaction() as conn:
        for digest, name in (("sha256:a1", "stains"), ("sha256:a2", "stains"), ("sha256:b1", "flowers")):
            conn.execute(
                "INSERT INTO pipeline VALUES (?, ?, '1', 'classes/1', NULL, '2026-01-01T00:00:00Z')", (digest, name)
            )
            row = annotations.AnnotationRow(
                iri=f"x:{digest}", medium="m", image="i", output="classes/1", pipeline=digest, environment="e",
                work_key=digest, job=None,
            )  # fmt: skip
            annotations.add(conn, row, now=node.clock())
        states = dict(conn.execute("SELECT iri, state FROM annotation").fetchall())
    assert states == {"x:sha256:a1": "superseded", "x:sha256:a2": "current", "x:sha256:b1": "current"}


# ---------------------------------------------------------------------- the command
def test_the_command_runs_lists_and_has_nothing_to_do_again(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_node()
    folder = offering(made, 'pipelines = ["quality", "brightness"]')
    write_model(folder / "models" / "brightness")
    ingest(made, write_archive(tmp_path / "a", rows_of(4), images=jpeg))
    made.database.close()
    assert run(["pipelines", "run", str(folder), "--pipeline", "quality", "--where", "catalogNumber=X-0"]) == 0
    assert "quality: 1 of 1 images are done" in capsys.readouterr().out
    assert run(["pipelines", "run", str(folder), "--json"]) == 0
    found = {item["pipeline"]: item for item in json.loads(capsys.readouterr().out)}
    assert found["quality"]["total"] == found["brightness"]["total"] - 1
    assert run(["pipelines", "run", str(folder)]) == 0
    assert "nothing to do, every image has a result of this version" in capsys.readouterr().out
    assert run(["pipelines", "rerun", str(folder), "quality"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(["pipelines", "list", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "brightness 1.0.0  classes/1" in out
    assert "results of" in out
    assert run(["pipelines", "list", str(folder), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {item["results"] for item in listed["pipelines"]} == {listed["images"]}
    assert run(["pipelines", "run", str(folder), "--pipeline", "barcode"]) == 2
    assert "is not offered here: [jobs] pipelines has quality, brightness" in capsys.readouterr().err
    with open_folder(folder) as opened, opened.database.reader() as conn:
        kinds = {row.output for row in reviews.find(conn, reviews.Rule(), state="pending")}
    assert kinds == {"quality/1", "classes/1"}


def test_a_run_that_was_interrupted_goes_on_with_the_same_words(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_node()
    folder = offering(made, 'pipelines = ["quality"]')
    ingest(made, write_archive(tmp_path / "a", rows_of(3), images=jpeg))
    made.database.close()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("node.cli.pipelines._work", interrupted)
        assert run(["pipelines", "run", str(folder)]) == 130
    assert "with the same command" in capsys.readouterr().err
    assert run(["pipelines", "run", str(folder), "--detach"]) == 0
    assert "3 images are queued" in capsys.readouterr().out
    with open_folder(folder) as opened, opened.database.reader() as conn:
        assert conn.execute("SELECT count(*) FROM job").fetchone()[0] == 1
    assert run(["pipelines", "stop", str(folder)]) == 0
    assert "1 unfinished parts of runs are stopped" in capsys.readouterr().out
    assert run(["pipelines", "run", str(folder)]) == 0
    assert "3 of 3 images are done" in capsys.readouterr().out


def test_the_commands_of_the_page_run_as_they_are_written(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_node("hortus")
    folder = offering(made, 'pipelines = ["quality"]')
    write_model(folder / "models" / "brightness")
    ingest(made, write_archive(tmp_path / "a", rows_of(2, family="Fagaceae"), images=jpeg))
    made.database.close()
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "how-to-pipelines.md").read_text("utf-8")
    shown = re.findall(r"^    vasculum (pipelines .*)$", page, re.MULTILINE)
    shown += re.findall(r"`vasculum (pipelines stop [^`]*)`", page)
    assert len(shown) == 5
    for line in shown:
        code = run(shlex.split(line))
        printed = capsys.readouterr()
        assert code == 0, f"{line}: {printed.out}{printed.err}"
        if line.startswith("pipelines run"):
            assert "quality: 2 of 2 images are done" in printed.out


async def test_a_serving_node_runs_over_new_images_and_does_what_the_command_asks_for(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_node()
    folder = offering(made, 'pipelines = ["quality", "brightness"]\non_new_images = ["quality"]')
    write_model(folder / "models" / "brightness")
    made = replace(made, settings=load_settings(folder))
    monkeypatch.setattr(application, "JOBS_TICK_S", 0.05)
    ended, enough = 0, asyncio.Event()
    settle = JobService.on_finished

    async def noted(service: JobService, work_key: str) -> None:
        nonlocal ended
        await settle(service, work_key)
        ended += 1
        if ended == 3:
            enough.set()

    monkeypatch.setattr(JobService, "on_finished", noted)
    catalogue = Catalogue.of(made.settings.jobs.pipelines, models=made.settings.models_path)
    app = build_application(made, catalogue=catalogue, clock=lambda: datetime.now(UTC))
    with serve_lock(made.settings.lock_path):
        async with TestServer(app):
            archive = write_archive(tmp_path / "a", rows_of(3), images=jpeg)
            await asyncio.to_thread(ingest, made, archive)
            async with asyncio.timeout(300):
                await enough.wait()
            code = await asyncio.to_thread(run, ["pipelines", "run", str(folder), "--json"])
    out = capsys.readouterr().out
    assert code == 0, out
    found = {item["pipeline"]: item for item in json.loads(out[out.index("[") :])}
    assert (found["quality"]["total"], found["brightness"]["done"]) == (0, 3)
    with made.database.reader() as conn:
        assert {row.output for row in reviews.find(conn, reviews.Rule(), state="pending")} == {"quality/1", "classes/1"}
