"""Workers and engine: isolation, death, hanging, lies; each costs one unit at most."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import NOW, jpeg
from engine_bench import Bench, bench, plain
from pipelines_for_tests import entry

from cas.errors import TierFailed
from cas.ids import ContentId
from cas.store import BlobStore, PutResult
from cas.tier_folder import FolderTier
from cas.tiering import Tiering
from linkeddata.outputs import NetworkProbe, parse_output
from linkeddata.pipeline import WorkUnit
from runners.catalogue import Catalogue
from runners.errors import PipelineUnavailable, WorkerDied
from runners.sandbox import report_isolation
from runners.workers import Worker


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between attempts are the journal's to test."""
    monkeypatch.setattr("runners.journal.RETRY_AFTER", timedelta(milliseconds=5))
    monkeypatch.setattr("runners.engine.IDLE_S", 0.02)


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = BlobStore.open(tmp_path / "blobs")
    yield made
    made.close()


async def test_a_worker_cannot_open_any_connection(store: BlobStore) -> None:
    """The proof of the walls, in the default suite: every attempt ends with EPERM."""
    assert report_isolation().is_enforced, "this machine cannot isolate workers: install libseccomp2"
    async with bench(store, "network-probe") as made:
        assert made.engine.offers[0].is_isolated
        [unit] = await made.work([jpeg(1)])
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        output = parse_output("network-probe/1", json.loads(status.body or b""))
        assert isinstance(output, NetworkProbe)
        assert {name: output.attempts[name] for name in ("tcp4", "tcp6", "udp4", "unix")} == dict.fromkeys(
            ("tcp4", "tcp6", "udp4", "unix"), "EPERM"
        )
        assert output.attempts["dns"] == "EPERM"
        assert output.attempts["resolver"] != "opened"


async def test_good_and_bad_images_each_have_their_end(store: BlobStore) -> None:
    async with bench(store, "quality") as made:
        units = await made.work([jpeg(1, size=(700, 500)), b"text\n", jpeg(2)[:200], b""])
        await made.wait(4)
        states = [made.journal.status(unit.key) for unit in units]
        assert [status.state for status in states if status] == ["done", "failed", "failed", "failed"]
        assert all(status.failure_kind == "permanent" and status.reason for status in states[1:] if status)


async def test_an_image_beyond_the_limits_is_worked_on_once_the_limit_is_raised(store: BlobStore) -> None:
    big = jpeg(1, size=(1200, 1000))
    async with bench(store, "quality") as made:
        [unit] = await made.work([big])
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        assert (status.state, status.failure_kind) == ("failed", "limit")
        assert "1,200 x 1,000 pixels" in status.reason
        journal = made.journal
    async with bench(store, "quality", max_pixels=2_000_000, journal=journal) as made:
        [again] = await made.work([big])
        assert again.key == unit.key
        await made.wait(1)
        status = journal.status(unit.key)
        assert status is not None
        assert status.state == "done"


async def test_an_image_that_does_not_fit_into_memory_spoils_nothing_for_the_next(store: BlobStore) -> None:
    async with bench(store, "Hungry") as made:
        units = await made.work([plain(0), plain(200), plain(201)])
        await made.wait(3)
        states = [made.journal.status(unit.key) for unit in units]
        assert [(status.state, status.failure_kind) for status in states if status] == [
            ("failed", "limit"), ("done", None), ("done", None),
        ]  # fmt: skip
        assert states[0] is not None
        assert "memory" in states[0].reason


async def test_a_dying_worker_fails_one_unit_and_the_rest_goes_on(store: BlobStore) -> None:
    async with bench(store, "Crashing") as made:
        units = await made.work([plain(200), plain(0), plain(201), plain(202), plain(203)])
        await made.wait(5)
        states = [made.journal.status(unit.key) for unit in units]
        assert [status.state for status in states if status] == ["done", "failed", "done", "done", "done"]
        assert states[1] is not None
        assert states[1].failure_kind == "transient"
        assert "3 times" in states[1].reason
        assert all(status.failures == 0 for number, status in enumerate(states) if status and number != 1)


async def test_a_hanging_worker_is_ended_and_replaced(store: BlobStore) -> None:
    async with bench(store, "Hanging", timeout_s=0.6) as made:
        units = await made.work([plain(0), plain(200)])
        await made.wait(2)
        states = [made.journal.status(unit.key) for unit in units]
        assert [status.state for status in states if status] == ["failed", "done"]
        assert states[0] is not None
        assert "no answer within" in states[0].reason


@pytest.mark.parametrize("name", ["Babbling", "Huge"])
async def test_a_result_that_breaks_its_contract_never_gets_out(store: BlobStore, name: str) -> None:
    async with bench(store, name) as made:
        [unit] = await made.work([plain(100)])
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        assert status.state == "failed"
        assert status.body is None


async def test_members_that_no_contract_names_are_not_kept(store: BlobStore) -> None:
    async with bench(store, "Smuggling") as made:
        [unit] = await made.work([plain(100)])
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        assert set(json.loads(status.body or b"{}")) == {"image", "measures", "verdicts", "reasons", "doubts"}


async def test_a_reason_is_a_sentence_and_no_way_out_for_pixels(store: BlobStore) -> None:
    async with bench(store, "Chatty") as made:
        [unit] = await made.work([plain(100)])
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        assert status.reason.startswith("too dark ")
        assert status.reason.isprintable()
        assert len(status.reason) <= 200
        assert max(len(word) for word in status.reason.split()) <= 40


async def test_a_library_that_fails_costs_its_unit_and_not_the_worker(store: BlobStore) -> None:
    async with bench(store, "Raising") as made:
        pids = {worker.pid for worker in made.engine._workers}
        units = await made.work([plain(0), plain(200)])
        await made.wait(2)
        states = [made.journal.status(unit.key) for unit in units]
        assert [status.state for status in states if status] == ["failed", "done"]
        assert states[0] is not None
        assert (states[0].failure_kind, states[0].reason) == (
            "transient",
            "the pipeline failed: RuntimeError (3 times)",
        )
        assert {worker.pid for worker in made.engine._workers} == pids


async def test_no_error_around_the_engine_ends_it(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The gate's database is locked once, the journal's disk is full once, a lease fails once: all units are done."""
    monkeypatch.setattr("runners.engine.RESTART_PAUSE_S", 0.01)
    trouble = {"gate": 1, "complete": 1, "lease": 1}

    def once(name: str) -> None:
        if trouble[name]:
            trouble[name] -= 1
            raise OSError(28, f"{name}: no space left on device")

    def gate(unit: WorkUnit) -> str | None:
        once("gate")
        return None

    made = Bench(store, Catalogue.of((), extra=(entry("Plain"),)), gate=gate)
    complete, lease = made.journal.complete, made.journal.lease

    async def failing_complete(*arguments: object, **options: object) -> bool:
        once("complete")
        return await complete(*arguments, **options)  # type: ignore[arg-type]

    async def failing_lease(*arguments: object, **options: object) -> object:
        once("lease")
        return await lease(*arguments, **options)  # type: ignore[arg-type]

    made.journal.complete, made.journal.lease = failing_complete, failing_lease  # type: ignore[method-assign,assignment]
    await made.start()
    try:
        units = await made.work([plain(100 + number) for number in range(6)])
        await made.wait(6)
        states = [made.journal.status(unit.key) for unit in units]
        assert {status.state for status in states if status} == {"done"}
        assert {status.failures for status in states if status} == {0}
        assert not any(trouble.values())
        assert "tries again" in caplog.text
    finally:
        await made.stop()


async def test_the_gate_is_asked_before_a_unit_starts(store: BlobStore) -> None:
    async with bench(store, "Crashing", gate=lambda unit: "private since this morning") as made:
        [unit] = await made.work([plain(0)])
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        assert (status.state, status.reason) == ("withheld", "private since this morning")


async def test_an_image_that_changed_on_disk_is_not_worked_on(store: BlobStore, tmp_path: Path) -> None:
    root = tmp_path / "scans"
    root.mkdir()
    (root / "a.png").write_bytes(plain(100))
    store.define_volume("scans", root)
    cid = store.adopt("scans", "a.png", now=NOW).id
    (root / "a.png").write_bytes(plain(101) + b"x")
    async with bench(store, "Plain") as made:
        offer = made.engine.offers[0]
        unit = WorkUnit(
            output="quality/1", pipeline=offer.manifest.digest, environment=offer.environment.digest, image=cid.hex
        )
        await made.journal.enqueue([(0, unit)], now=datetime.now(UTC))
        made.engine.wake()
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        assert (status.state, status.failure_kind) == ("failed", "transient")


@pytest.mark.parametrize("written", ["another image", "no image"])
async def test_an_image_overwritten_while_it_is_read_gives_no_result(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    root = tmp_path / "scans"
    root.mkdir()
    (root / "a.png").write_bytes(plain(100))
    store.define_volume("scans", root)
    cid, real = store.adopt("scans", "a.png", now=NOW).id, store.open_blob

    def open_then_overwrite(image: ContentId):  # type: ignore[no-untyped-def]
        blob = real(image)
        (root / "a.png").write_bytes(plain(101) if written == "another image" else b"x" * 100)
        return blob

    monkeypatch.setattr(store, "open_blob", open_then_overwrite)
    async with bench(store, "Plain") as made:
        offer = made.engine.offers[0]
        unit = WorkUnit(
            output="quality/1", pipeline=offer.manifest.digest, environment=offer.environment.digest, image=cid.hex
        )
        await made.journal.enqueue([(0, unit)], now=datetime.now(UTC))
        made.engine.wake()
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        assert (status.state, status.failure_kind) == ("failed", "transient")


async def test_a_unit_waits_for_an_archived_image_and_a_failed_restore_is_no_final_result(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is in a tier: the unit is asked for again and again, more often than a failure would be, until it is back."""
    monkeypatch.setattr("runners.journal.WAIT_FOR_IMAGE", timedelta(milliseconds=5))
    (tmp_path / "tier").mkdir()
    tier = FolderTier(tmp_path / "tier")
    tier.mark()
    tiering = Tiering(store, {"archive": tier}, clock=lambda: NOW)
    real, asked = store.open_blob, list[str]()

    def open_blob(cid: ContentId) -> object:
        asked.append(cid.hex)
        if len(asked) == 5:
            tiering.restore(cid)
        return real(cid)

    async with bench(store, "Plain") as made:
        image = store.put_bytes(jpeg(1), now=NOW).id
        lost = store.put_bytes(jpeg(2), now=NOW).id
        tiering.move(image, "archive")
        monkeypatch.setattr(store, "open_blob", open_blob)
        monkeypatch.setattr(store, "put_bytes", lambda data, now: PutResult(id=ContentId.of(data), size=1, is_new=True))
        [unit] = await made.work([jpeg(1)])
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        assert (status.state, status.failures, len(asked)) == ("done", 0, 5)

        def fails(_cid: ContentId) -> object:
            raise TierFailed("s3://secret-bucket: no such bucket")

        monkeypatch.setattr(store, "open_blob", fails)
        [unit] = await made.work([jpeg(2)])
        await made.wait(1)
        status = made.journal.status(unit.key)
        assert status is not None
        assert (status.state, status.failure_kind) == ("failed", "transient"), "asked again by the next job"
        assert "secret" not in status.reason
        assert lost.hex == unit.image


async def test_a_pipeline_that_cannot_run_is_a_problem_not_a_crash(store: BlobStore) -> None:
    async with bench(store, "Unavailable", "Nonconforming") as made:
        assert made.engine.problems == {"unavailable": "its model is missing"}
        assert [offer.conformance.verdict for offer in made.engine.offers] == ["fail"]


async def test_a_pipeline_that_could_not_start_is_tried_again(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.engine.RETRY_PAUSE_S", 0.01)
    start, failures = Worker.start, [OSError(11, "busy"), WorkerDied("killed: the machine was out of memory")]

    async def failing_start(self: Worker) -> object:
        if failures:
            raise failures.pop()
        return await start(self)

    monkeypatch.setattr(Worker, "start", failing_start)
    made = Bench(store, Catalogue.of((), extra=(entry("Plain"),)))
    await made.engine.start()
    assert made.engine.problems == {"plain": "killed: the machine was out of memory"}
    made.task = asyncio.create_task(made.engine.run())
    try:
        while not made.engine.offers:
            await asyncio.sleep(0)
            assert not made.task.done()
        await made.work([plain(10)])
        await made.wait(1)
        assert made.engine.problems == {}
        assert len(made.engine._workers) == 1, "the worker that failed is not kept"
    finally:
        await made.stop()


async def test_no_worker_outlives_its_engine(store: BlobStore) -> None:
    async with bench(store, "Plain", "Crashing") as made:
        pids = [worker.pid for worker in made.engine._workers]
        assert len(pids) == 2
    for pid in pids:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_workers_see_no_secrets_and_telemetry_is_off(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    async with bench(store, "Plain") as made:
        [worker] = made.engine._workers
        environment = Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
        assert b"ORT_DISABLE_TELEMETRY=1" in environment
        assert not [item for item in environment if item.startswith((b"SECRET", b"AWS", b"HOME=/root"))]


def test_unknown_pipelines_are_named() -> None:
    with pytest.raises(PipelineUnavailable, match="known are"):
        Catalogue.of(("label-txt",))
