"""Regions that look alike: from results to rows, to groups and to questions; as closed as their images."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from PIL import Image
from test_similar import values

from linkeddata.outputs.embed import write_vector
from linkeddata.pipeline import WorkUnit
from linkeddata.times import format_time
from node.access import ANONYMOUS, STAFF
from node.app import _do_own_work, build_application
from node.cli.main import run
from node.folder import NodeFolder
from node.services.cluster import groups
from node.services.similar import REGIONS, Similarity, regions_digest, wipe_vectors
from node.storage.journal import enqueue
from node.storage.vectors import VectorFile
from node.web import similar_api
from runners.catalogue import Catalogue
from runners.pipelines.segment import reference_sheet

Make = Callable[..., NodeFolder]
STAMP, LABEL = (5, 5, 20, 20), (30, 10, 25, 9)
PRIVATE = '[[sources.collection.rules]]\nfield = "country"\nmatch = "Privatia"\naccess = "private"\n'


def finish(node: NodeFolder, pipeline: str, image: str, *things: tuple[str, tuple[int, ...], list[int]]) -> None:
    """A result as the engine leaves it."""
    unit = WorkUnit(output=REGIONS, pipeline=pipeline, environment="sha256:e", image=image)
    found = [{"kind": kind, "box": list(box), "vector": write_vector(vector)} for kind, box, vector in things]
    body = {"image": {"width": 64, "height": 48}, "objects": found, "complete": True, "doubts": []}
    with node.database.transaction() as conn:
        enqueue(conn, [(0, unit)], now=NOW)
        conn.execute(
            "UPDATE unit SET state = 'done', body = ?, finished = ? WHERE work_key = ?",
            (json.dumps(body).encode(), format_time(NOW), unit.key),
        )


def regions_of(node: NodeFolder) -> Similarity:
    return Similarity(node.database, node.settings, regions_digest(Catalogue.of(())), contract=REGIONS)


def images_of(node: NodeFolder) -> list[str]:
    with node.database.reader() as conn:
        return [row["image"] for row in conn.execute("SELECT image FROM medium ORDER BY locator")]


def fill(node: NodeFolder, folder: Path, similarity: Similarity) -> list[str]:
    """Three images with one stamp, the last one restricted, the first with a label too; a fourth without anything."""
    rows = rows_of(4)
    rows[2]["licence"] = "all rights reserved"
    ingest(node, write_archive(folder, rows, images=jpeg))
    images = images_of(node)
    stamps = [("stamp", STAMP, values(number, near=50, by=0.02)) for number in range(3)]
    finish(node, similarity.pipeline, images[0], stamps[0], ("label", LABEL, values(9)))
    finish(node, similarity.pipeline, images[1], stamps[1])
    finish(node, similarity.pipeline, images[2], stamps[2])
    finish(node, similarity.pipeline, images[3])
    return images


def test_regions_are_grouped_with_their_class_for_whom_the_image_is_open_to(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    similarity = regions_of(node)
    images = fill(node, tmp_path / "a", similarity)
    assert similarity.is_behind() and similarity.follow() == 4
    assert not similarity.is_behind() and similarity.follow() == 0, "an image without objects is not read again"
    stamp = np.array(values(50), np.float32)
    with node.database.reader() as conn:
        near, media = similarity.neighbours(conn, STAFF, None, count=10, progress=lambda _d, _t: None)
        assert len(near) == 4
        [group] = groups(near)
        assert [media[name]["box"] for name in group] == [list(STAMP)] * 3
        assert {media[name]["class"] for name in group} == {"stamp"}
        open_only, _ = similarity.neighbours(conn, ANONYMOUS, None, count=10, progress=lambda _d, _t: None)
        assert len(open_only) == 3 and not any(images[2] in name for name in open_only)
        found = similarity.ask(conn, ANONYMOUS, stamp, limit=2, but=(images[0], STAMP))
        assert [(item.image, item.box, item.kind) for item in found] == [
            (images[1], STAMP, "stamp"), (images[0], LABEL, "label"),
        ]  # fmt: skip
    assert similarity.vector_of(images[0], LABEL) is not None and similarity.vector_of(images[0]) is None
    similarity.close()


def test_regions_go_with_their_image_and_come_back(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    similarity = regions_of(node)
    images = fill(node, tmp_path / "a", similarity)
    similarity.follow()
    assert bytes.fromhex(images[0]) in similarity.path.read_bytes()
    assert wipe_vectors(node.settings, images[0]) == 2
    assert bytes.fromhex(images[0]) not in similarity.path.read_bytes()
    assert similarity.vector_of(images[0], STAMP) is None
    with node.database.transaction() as conn:
        conn.execute("DELETE FROM unit WHERE image IN (?, ?)", (images[0], images[1]))
    assert similarity.follow() == 1
    with node.database.reader() as conn:
        [left] = similarity.ask(conn, STAFF, np.array(values(50), np.float32), limit=10)
    assert left.image == images[2]
    finish(node, similarity.pipeline, images[1], ("chart", LABEL, values(3)))
    assert similarity.follow() == 1
    assert similarity.vector_of(images[1], STAMP) is None and similarity.vector_of(images[1], LABEL) is not None
    similarity.close()


def test_regions_that_a_kill_tore_are_made_up(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    similarity = regions_of(node)
    images = fill(node, tmp_path / "a", similarity)
    similarity.follow()
    file = VectorFile.open(similarity.path, dimensions=1280, pipeline=similarity.pipeline)
    [place] = [row for row in file.rows_of(images[0]) if file.record(row) == (images[0], LABEL)]
    kept, record_bytes = similarity.path.read_bytes(), 64 + 2 * 1280
    file.close()
    similarity.close()
    start = 4096 + place * record_bytes
    similarity.path.write_bytes(kept[:start] + b"\0" * 100 + kept[start + 100 :])
    assert similarity.follow() == 1, "one of the image's two rows is there, and the other one is added"
    assert similarity.vector_of(images[0], LABEL) is not None and similarity.vector_of(images[0], STAMP) is not None
    similarity.path.unlink()
    assert similarity.rebuild() == 4
    similarity.close()


async def test_questions_by_region(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    similarity = app[similar_api.SIMILAR_REGIONS]
    assert similarity.pipeline == regions_digest(Catalogue.of(()))
    images = fill(node, tmp_path / "a", similarity)
    similarity.follow()
    box = ",".join(str(side) for side in STAMP)
    async with TestClient(TestServer(app)) as client:
        for answer in (
            await client.get("/similar", params={"id": images[0], "box": box}),
            await client.post("/similar", json={"id": images[0], "box": list(STAMP)}),
        ):
            document = await answer.json()
            assert answer.status == 200, document
            assert document["hasVector"] and document["pipeline"] == similarity.pipeline
            assert [(item["box"], item["class"]) for item in document["items"]] == [
                (list(STAMP), "stamp"), (list(LABEL), "label"),
            ], "the restricted one is not told"  # fmt: skip
        unknown = await client.get("/similar", params={"id": images[0], "box": "1,1,5,5"})
        assert (await unknown.json())["hasVector"] is False
        page = await client.get("/similar", params={"id": images[0], "box": box}, headers={"Accept": "text/html"})
        assert "one on" in await page.text() and page.status == 200
        closed = await client.get("/similar", params={"id": images[2], "box": box})
        assert closed.status == 403
        for wrong in ("1,2,3", "1,2,3,4,5", "a,b,c,d", "", "1,2,0,4", "-1,2,3,4", "1,2,3,4 "):
            refused = await client.get("/similar", params={"id": images[0], "box": wrong})
            assert (refused.status, refused.content_type) == (400, "application/problem+json"), wrong
        bodies = ({"id": images[0], "box": [1, 2, 3]}, {"id": images[0], "box": "x"}, {"id": images[0], "box": [1, 2, True, 4]},
                  {"vector": write_vector(values(1)), "box": list(STAMP)}, {"id": images[0], "box": [[1], 2, 3, 4]})  # fmt: skip
        for body in bodies:
            refused = await client.post("/similar", json=body)
            assert refused.status == 400, body


def known(node: NodeFolder, similarity: Similarity) -> int:
    with node.database.reader() as conn:
        return len(similarity.ask(conn, STAFF, np.array(values(1), np.float32), limit=100))


def sheet(number: int) -> bytes:
    """A made sheet: 0 and 1 carry the same printed label in different places, 2 has a leaf like 0 and no label."""
    pixels, _ = reference_sheet(with_leaf=number != 1)
    pixels[686:856, 346:606] = (240, 236, 222)
    if number < 2:
        label = np.full((150, 240, 3), (250, 249, 243), np.uint8)
        cv2.putText(label, "HORTUS", (20, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (20, 20, 20), 3)
        cv2.putText(label, "Planta numero 7", (12, 110), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (30, 30, 30), 2)
        cv2.rectangle(label, (2, 2), (237, 147), (40, 40, 40), 2)
        x, y = ((350, 700), (40, 60))[number]
        pixels[y : y + 150, x : x + 240] = label
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "JPEG", quality=92)
    return out.getvalue()


@pytest.mark.timeout(180)
@pytest.mark.long
async def test_a_serving_node_groups_the_labels_of_its_sheets(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real pipelines, engine, files and command: one label on two sheets, one of them private; withdrawn, it is gone."""
    node = make_node(settings=PRIVATE)
    rows = rows_of(3)
    rows[1]["country"] = "Privatia"
    ingest(node, write_archive(tmp_path / "a", rows, images=sheet))
    images, folder = images_of(node), str(node.settings.folder)
    app = build_application(node, catalogue=Catalogue.of(("embed-objects", "objects")), clock=lambda: NOW)
    similarity = app[similar_api.SIMILAR_REGIONS]
    async with TestClient(TestServer(app)) as client, asyncio.timeout(150):
        while await asyncio.to_thread(known, node, similarity) < 4:
            await _do_own_work(app)
            await asyncio.sleep(0.05)
        capsys.readouterr()
        assert await asyncio.to_thread(run, ["cluster", folder, "--regions", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["compared"] == 4 and found["threshold"] == "0.850"
        shown = sorted(
            sorted((item["class"], images.index(item["image"])) for item in group) for group in found["groups"]
        )
        assert shown == [[("label", 0), ("label", 1)], [("specimen", 0), ("specimen", 2)]]
        [label] = [
            item
            for group in found["groups"]
            for item in group
            if item["class"] == "label" and item["image"] == images[0]
        ]
        assert abs(label["box"][0] - 350) < 20 and abs(label["box"][1] - 700) < 20
        assert await asyncio.to_thread(run, ["cluster", folder, "--regions", "--threshold", "0.8"]) == 0
        said = capsys.readouterr().out
        assert f"{label['medium']} {label['box']} label" in said and "2 groups; 4 regions compared" in said
        box = ",".join(str(side) for side in label["box"])
        answer = await client.get("/similar", params={"id": images[0], "box": box})
        assert {item["image"][-64:] for item in (await answer.json())["items"]} == {images[0], images[2]}, (
            "not the private one"
        )
        assert (await client.get("/processes/embed-objects")).status == 404, "no job may ask for vectors"
        with node.database.reader() as conn:
            assert conn.execute("SELECT count(*) FROM annotation").fetchone()[0] == 0, "what was found is not released"
        reason = ["--yes", "--reason", "a test"]
        assert await asyncio.to_thread(run, ["withdraw", folder, images[1], *reason]) == 0
        assert bytes.fromhex(images[1]) not in similarity.path.read_bytes()
        capsys.readouterr()
        assert await asyncio.to_thread(run, ["cluster", folder, "--regions", "--threshold", "0.8", "--json"]) == 0
        left = json.loads(capsys.readouterr().out)
        assert left["compared"] == 3 and len(left["groups"]) == 1
