"""What a node computes for itself: every image once, behind everybody else's work; and vectors that can be found then."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from linkeddata.pipeline import PipelineManifest
from node.app import _do_own_work, build_application
from node.folder import NodeFolder
from node.services.job_rules import OfferedPipeline
from node.services.own_work import BATCH, MOST_QUEUED, REST_STEPS, TURN, OwnWork, enqueue
from node.web import similar_api
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]


def offer(output: str = "embed/1") -> OfferedPipeline:
    manifest = PipelineManifest(
        output=output, name="x", version="1", title="x", description="x", runtime="builtin", implementation="sha256:x"
    )
    return OfferedPipeline(manifest=manifest, environment="sha256:e")


def test_every_image_is_queued_once_and_behind_everything(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(7), images=jpeg))
    mine, work = offer(), OwnWork()
    earlier = replace(mine, manifest=replace(mine.manifest, version="0.9"))
    assert work.due((mine, offer("label-text/1"), earlier)) == (mine,)
    with node.database.transaction() as conn:
        images = work.missing(conn, mine)
        assert len(images) == 7
        assert enqueue(conn, mine, {mine.digest: mine}, images, now=NOW) == 7
        assert {row["turn"] for row in conn.execute("SELECT turn FROM unit")} == {TURN}
        assert work.missing(conn, mine) == []  # the walk ends, something was found in it
        assert work.missing(conn, mine) == []  # the next finds nothing: a rest
    assert work.due((mine,)) == () and BATCH > 7 and MOST_QUEUED > 7
    for _ in range(REST_STEPS - 1):
        work.due((mine,))
    assert work.due((mine,)) == (mine,)
    with node.database.transaction() as conn:
        conn.execute("UPDATE unit SET state = 'failed', failure_kind = 'permanent' WHERE image = ?", (images[0],))
        conn.execute("UPDATE unit SET state = 'failed', failure_kind = 'transient' WHERE image = ?", (images[1],))
        assert work.missing(conn, mine) == [images[1]], "what may pass is tried again, what is refused for good is not"
        assert OwnWork().missing(conn, mine, lambda image: image != images[1]) == [], "what is not here is left alone"


def test_few_wait_at_a_time(make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.services.own_work.MOST_QUEUED", 3)
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(8), images=jpeg))
    mine, work = offer(), OwnWork()
    seen: list[str] = []
    for step in range(1, 5):
        with node.database.transaction() as conn:
            images = work.missing(conn, mine)
            assert len(images) <= 3
            enqueue(conn, mine, {mine.digest: mine}, images, now=NOW)
            assert work.missing(conn, mine) == [] or len(images) < 3
            conn.execute("UPDATE unit SET state = 'done'")
            seen += images
        assert step < 5
    assert len(set(seen)) == len(seen) == 8


async def test_a_serving_node_embeds_its_images_and_finds_them(make_node: Make, tmp_path: Path) -> None:
    """The real pipeline, engine, file and page: from an ingest to `similar images`, private ones too, for staff."""
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(3), images=jpeg))
    app = build_application(node, catalogue=Catalogue.of(("embed",)), clock=lambda: NOW)
    similarity = app[similar_api.SIMILAR]
    with node.database.reader() as conn:
        media = [row["iri"] for row in conn.execute("SELECT iri FROM medium ORDER BY iri")]
    async with TestClient(TestServer(app)) as client, asyncio.timeout(120):
        await _do_own_work(app)
        while True:
            await _do_own_work(app)
            answer = await client.get("/similar", params={"id": media[0]}, headers={"Accept": "application/json"})
            document = await answer.json()
            assert answer.status == 200, document
            if document["hasVector"] and len(document["items"]) == 2:
                break
            await asyncio.sleep(0.05)
        assert {item["medium"] for item in document["items"]} == set(media[1:])
        page = await client.get("/similar", params={"id": media[0]}, headers={"Accept": "text/html"})
        assert "Planta numero" in await page.text() and page.status == 200
        refused = await client.get("/processes/embed")
        assert refused.status == 404, "no job may ask for vectors"
    assert not similarity.is_behind()
