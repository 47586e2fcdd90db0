"""Composed pipelines over real workers: what they take, what they wait for, what becomes of them without it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import NOW, jpeg
from engine_bench import Bench, bench, plain

from cas.store import BlobStore
from linkeddata.outputs import MAX_BODY_BYTES
from linkeddata.pipeline import PipelineManifest, WorkUnit
from runners.composition import complete, refusal_of
from runners.errors import PipelineUnavailable
from runners.journal import UnitStatus


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between attempts are the journal's to test."""
    monkeypatch.setattr("runners.journal.RETRY_AFTER", timedelta(milliseconds=5))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    made = BlobStore.open(tmp_path / "blobs")
    yield made
    made.close()


def units_of(made: Bench, image: bytes, *, name: str = "tally") -> list[WorkUnit]:
    """The unit of a composed pipeline over an image, behind those it takes the results of."""
    offers = {offer.manifest.digest: offer for offer in made.engine.offers}
    offer = next(offer for offer in offers.values() if offer.manifest.name == name)
    stored = made.store.put_bytes(image, now=NOW).id.hex
    upstream = [
        WorkUnit(
            output=offers[digest].manifest.output, pipeline=digest, environment=offers[digest].environment.digest,
            image=stored,
        )
        for digest in offer.manifest.upstream
    ]  # fmt: skip
    composed = WorkUnit(
        output=offer.manifest.output, pipeline=offer.manifest.digest, environment=offer.environment.digest,
        image=stored, upstream=tuple(unit.key for unit in upstream),
    )  # fmt: skip
    return [*upstream, composed]


async def work(made: Bench, *units: Sequence[WorkUnit]) -> None:
    flat = [(turn, unit) for turn, group in enumerate(units) for unit in group]
    await made.journal.enqueue(flat, now=datetime.now(UTC))
    made.engine.wake()
    await made.wait(len({unit.key for _, unit in flat}))


def status(made: Bench, unit: WorkUnit) -> UnitStatus:
    found = made.journal.status(unit.key)
    assert found is not None
    return found


async def test_a_composed_pipeline_takes_the_results_of_others_whole(store: BlobStore) -> None:
    """The bodies it gets are together larger than a message between processes may be."""
    begun: list[str] = []
    async with bench(store, "Tally", "Codes", "Lines", gate=lambda unit: begun.append(unit.key)) as made:
        offers = {offer.manifest.name: offer for offer in made.engine.offers}
        assert offers["tally"].manifest.upstream == (offers["codes"].manifest.digest, offers["lines"].manifest.digest)
        assert offers["tally"].conformance.verdict == "pass", "its reference brings what it takes"
        units = units_of(made, plain(200))
        await work(made, units)
        assert json.loads(status(made, units[-1]).body or b"")["measures"] == {"found": "67", "taken": "2"}
        assert sorted(begun) == sorted(unit.key for unit in units), "each was computed once"
        await made.journal.enqueue([(0, unit) for unit in units], now=datetime.now(UTC))
        made.engine.wake()
        again = units_of(made, plain(201))
        await work(made, again)
        assert len(begun) == 6, "what is there is not computed again, by itself or as part of something else"


async def test_a_body_of_the_largest_size_reaches_a_composed_pipeline(store: BlobStore) -> None:
    async with bench(store, "Tally", "Codes", "Lines") as made:
        composed = units_of(made, plain(200))[-1]
        worker = next(worker for worker in made.engine._workers if worker.entry.name == "tally")
        filler = json.dumps({"codes": [], "doubts": ["x" * (MAX_BODY_BYTES - 30)]}).encode()
        with store.open_blob(made.store.put_bytes(plain(200), now=NOW).id) as blob:
            got = await worker.run(blob, {}, {"barcode/1": filler, "label-text/1": b'{"lines": [1]}'})
        assert got.body["measures"] == {"found": "1", "taken": "2"}
        assert composed.upstream


async def test_a_composed_unit_starts_when_the_last_result_is_there_and_not_at_the_next_look(
    store: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runners.engine.IDLE_S", 3600.0)
    async with bench(store, "Tally", "Codes", "Lines") as made:
        await work(made, *(units_of(made, plain(100 + number)) for number in range(6)))


async def test_what_is_refused_upstream_is_refused_downstream_with_the_reason(store: BlobStore) -> None:
    async with bench(store, "Tally", "Codes", "Lines") as made:
        dark, deadly, broken = units_of(made, plain(20)), units_of(made, plain(0)), units_of(made, jpeg(1)[:300])
        await work(made, dark, deadly, broken)
        refused, ended = (status(made, units[-1]) for units in (dark, deadly))
        assert (refused.failure_kind, refused.reason) == ("permanent", "barcode/1: too dark for codes")
        assert ended.failure_kind == "upstream"
        assert ended.reason.startswith("barcode/1: the worker ended")
        assert status(made, broken[-1]).failure_kind == "permanent"
        assert await made.journal.enqueue([(0, unit) for unit in dark], now=datetime.now(UTC)) == 0
        assert await made.journal.enqueue([(0, unit) for unit in deadly], now=datetime.now(UTC)) == 2


async def test_the_gate_is_asked_for_the_composed_unit_too(store: BlobStore) -> None:
    async with bench(
        store, "Tally", "Codes", "Lines", gate=lambda unit: "private" if unit.upstream else None
    ) as made:  # fmt: skip
        units = units_of(made, plain(200))
        await work(made, units)
        assert [status(made, unit).state for unit in units] == ["done", "done", "withheld"]


async def test_a_pipeline_whose_inputs_nobody_gives_is_not_offered_and_says_what_to_add(
    store: BlobStore,
) -> None:
    async with bench(store, "Tally", "Codes") as made:
        assert [offer.manifest.name for offer in made.engine.offers] == ["codes"]
        assert made.engine.problems == {
            "tally": "tally needs label-text/1, which no pipeline of this node gives: "
            "add one that does to [jobs] pipelines (usually label-text)"
        }


async def test_a_pipeline_that_needs_itself_is_not_offered(store: BlobStore) -> None:
    async with bench(store, "Ouroboros", "Plain") as made:
        assert {offer.manifest.name for offer in made.engine.offers} == {"plain"}
        assert made.engine.problems == {"ouroboros": "ouroboros needs ouroboros: a pipeline cannot take its own result"}


def manifest(name: str, output: str, *needs: str) -> PipelineManifest:
    return PipelineManifest(
        output=output, name=name, version="1", title=name, description="", runtime="builtin", needs=needs,
        implementation="sha256:" + "0" * 64,
    )  # fmt: skip


def test_the_digest_of_a_composed_pipeline_covers_what_it_takes_all_the_way_up() -> None:
    known = {
        "traits": manifest("traits", "traits/1", "segment/1", "scale/1"),
        "segment": manifest("segment", "segment/1"),
        "scale": manifest("scale", "scale/1", "chart/1"),
        "chart": manifest("chart", "chart/1"),
    }
    before = complete("traits", known)
    assert before.upstream == (known["segment"].digest, complete("scale", known).digest)
    known["chart"] = replace(known["chart"], version="2")
    assert complete("traits", known).digest != before.digest
    known["other"] = manifest("other", "segment/1")
    assert complete("traits", known).upstream[0] == known["segment"].digest, "the first that gives it"
    known["chart"] = manifest("chart", "chart/1", "traits/1")
    with pytest.raises(PipelineUnavailable, match="traits needs scale needs chart needs traits"):
        complete("traits", known)


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (UnitStatus(state="done", attempt=1, body=b"{}"), None),
        (UnitStatus(state="failed", attempt=1, failure_kind="permanent", reason="cut"), ("permanent", "a/1: cut")),
        (UnitStatus(state="failed", attempt=1, failure_kind="limit", reason="large"), ("limit", "a/1: large")),
        (UnitStatus(state="failed", attempt=1, failure_kind="transient", reason="hung"), ("upstream", "a/1: hung")),
        (UnitStatus(state="failed", attempt=1, failure_kind="upstream", reason="b/1: x"), ("upstream", "a/1: b/1: x")),
        (UnitStatus(state="withheld", attempt=1, reason="private"), ("withheld", "private")),
        (UnitStatus(state="cancelled", attempt=1), ("upstream", "a/1: cancelled")),
    ],
)
def test_what_follows_from_the_end_of_an_input(ended: UnitStatus, outcome: tuple[str, str] | None) -> None:
    assert refusal_of({"a/1": ended}) == outcome
