"""/similar: the nearest images, to whom they may be shown, and nothing of the others."""

import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import NOW
from PIL import Image
from web_world import KINDS, World, serving
from web_world import SETTINGS as WORLD_SETTINGS

from linkeddata.errors import SelectionError
from linkeddata.outputs.embed import write_vector
from linkeddata.pipeline import WorkUnit
from linkeddata.selection import parse_where
from linkeddata.times import format_time
from node.access import ANONYMOUS, STAFF
from node.cli.main import run
from node.folder import NodeFolder
from node.services.similar import Similarity, wipe_vectors
from node.storage.journal import enqueue
from node.web import similar_api

Make = Callable[..., NodeFolder]
HIDDEN = ("restricted", "private", "sensitive", "shared-open", "shared-private")


def values(seed: int, *, near: int | None = None, by: float = 0.2) -> list[int]:
    """A made vector; ``near`` another one."""
    found = np.random.default_rng(seed).standard_normal(1280)
    if near is not None:
        found = np.array(values(near)) / 40 + by * found
    return [int(item) for item in np.rint(found * 127 / np.abs(found).max())]


def finish(node: NodeFolder, pipeline: str, vectors: dict[str, list[int]]) -> None:
    """Results as the engine leaves them."""
    with node.database.transaction() as conn:
        for image, vector in vectors.items():
            unit = WorkUnit(output="embed/1", pipeline=pipeline, environment="sha256:e", image=image)
            enqueue(conn, [(0, unit)], now=NOW)
            body = {"image": {"width": 64, "height": 48}, "vector": write_vector(vector), "doubts": []}
            conn.execute(
                "UPDATE unit SET state = 'done', body = ?, finished = ? WHERE work_key = ?",
                (json.dumps(body).encode(), format_time(NOW), unit.key),
            )


@pytest.fixture
async def world(make_node: Make, tmp_path: Path) -> AsyncIterator[World]:
    """Every image has a vector, and all are near that of the open one."""
    async with serving(make_node(settings=WORLD_SETTINGS), tmp_path / "archive") as found:
        similarity = found.client.server.app[similar_api.SIMILAR]  # type: ignore[attr-defined]
        vectors = {found.images[kind]: values(KINDS.index(kind), near=77) for kind in KINDS}
        finish(found.node, similarity.pipeline, vectors)
        assert similarity.is_behind()
        assert similarity.follow() == len(set(found.images.values()))
        assert not similarity.is_behind()
        yield found


async def test_a_stranger_finds_what_is_open_and_nothing_else(world: World) -> None:
    asked = {"vector": write_vector(values(77)), "limit": 100}
    answer = await world.client.post("/similar", json=asked, headers={"Accept": "application/json"})
    document = await answer.json()
    assert answer.status == 200
    [item] = document["items"]
    assert item["medium"] == world.media["open"] and item["specimens"] == [world.specimens["open"]]
    assert 0.5 < float(item["score"]) < 1 and item["box"] is None
    text = json.dumps(document)
    for kind in HIDDEN:
        assert world.images[kind] not in text and world.media[kind] not in text and world.specimens[kind] not in text


async def test_staff_see_all_of_their_own(world: World) -> None:
    similarity: Similarity = world.client.server.app[similar_api.SIMILAR]  # type: ignore[attr-defined]
    with world.node.database.reader() as conn:
        found = similarity.ask(conn, STAFF, np.array(values(77), np.float32), limit=100)
        assert {item.image for item in found} == set(world.images.values())
        assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
        stranger = similarity.ask(conn, ANONYMOUS, np.array(values(77), np.float32), limit=100)
    assert {item.image for item in stranger} == {world.images["open"]}


@pytest.mark.parametrize("kind", HIDDEN)
async def test_asking_by_the_id_of_a_hidden_image_tells_nothing_of_it(world: World, kind: str) -> None:
    last = world.media[kind].rsplit("/", 1)[1]
    absent = {"private", "shared-private", "shared-open"}
    for wanted in (world.media[kind], f"/media/{last}", world.images[kind], f"hash://sha256/{world.images[kind]}"):
        answer = await world.client.get("/similar", params={"id": wanted}, headers={"Accept": "application/json"})
        text = await answer.text()
        assert answer.status in ((404,) if kind in absent else (403,)), (wanted, text)
        assert "score" not in text
    if kind in ("private", "shared-private"):
        nothing = await world.client.get("/similar", params={"id": "/media/" + "a" * 16})
        same = await world.client.get("/similar", params={"id": f"/media/{last}"})
        assert (same.status, await same.text()) == (nothing.status, await nothing.text())


async def test_the_image_asked_about_is_not_its_own_neighbour(world: World) -> None:
    for wanted in (world.media["open"], world.specimens["open"], world.images["open"]):
        answer = await world.client.get("/similar", params={"id": wanted}, headers={"Accept": "application/json"})
        assert answer.status == 200 and (await answer.json())["items"] == []
    page = await world.client.get("/similar", params={"id": world.media["open"]}, headers={"Accept": "text/html"})
    assert "No image that may be shown looks like it" in await page.text()


async def test_filters_are_those_of_the_search(world: World) -> None:
    vector = write_vector(values(77))
    for where, count in (("family=Testaceae", 1), ("family=Fabaceae", 0), ("catalogNumber=X-0", 1)):
        name, _, value = where.partition("=")
        predicate = {"type": "equals", "key": name, "value": value}
        body = {"vector": vector, "predicate": predicate}
        answer = await world.client.post("/similar", json=body, headers={"Accept": "application/json"})
        assert len((await answer.json())["items"]) == count, where
    bad = await world.client.get("/similar", params={"id": world.media["open"], "familly": "x"})
    assert bad.status == 400
    with world.node.database.reader() as conn, pytest.raises(SelectionError):
        similarity = world.client.server.app[similar_api.SIMILAR]  # type: ignore[attr-defined]
        similarity.ask(
            conn, ANONYMOUS, np.array(values(77), np.float32), limit=5, selection=parse_where("localSource=collection")
        )


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "image/jpeg", 400), (b"no picture", "image/jpeg", 422), (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "image/png", 422),
        (b"{}", "application/json", 400), (b"[]", "application/json", 400), (b"{", "application/json", 400),
        (b'{"vector": "AAAA"}', "application/json", 400), (b'{"vector": 7}', "application/json", 400),
        (b'{"id": "x", "vector": "y"}', "application/json", 400), (b'{"id": "nothing of ours"}', "application/json", 404),
        (b'{"id": "/media/%00"}', "application/json", 404), (b'{"id": "x", "limit": 1000}', "application/json", 400),
        (b"GIF89a", "image/gif", 415), (b"a=b", "application/x-www-form-urlencoded", 415),
    ],
)  # fmt: skip
async def test_bad_questions_are_answered_in_words(world: World, body: bytes, kind: str, status: int) -> None:
    answer = await world.client.post(
        "/similar", data=body, headers={"Content-Type": kind, "Accept": "application/json"}
    )
    assert answer.status == status, await answer.text()
    assert answer.content_type == "application/problem+json" and (await answer.json())["title"]


async def test_a_picture_too_large_is_refused_before_it_is_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar_api, "MAX_PICTURE_BYTES", 1000)
    said = await world.client.post("/similar", data=b"\xff" * 1001, headers={"Content-Type": "image/jpeg"})
    assert said.status == 413

    async def unsaid() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"\xff" * 400

    chunked = await world.client.post("/similar", data=unsaid(), headers={"Content-Type": "image/jpeg"})
    assert chunked.status == 413


async def test_a_sent_picture_is_looked_at_by_a_walled_worker_and_dropped(world: World) -> None:
    """A real worker with the real model; the made vectors of the node are far from that of a picture."""
    similarity: Similarity = world.client.server.app[similar_api.SIMILAR]  # type: ignore[attr-defined]
    out = io.BytesIO()
    Image.effect_noise((300, 200), 60).convert("RGB").save(out, "JPEG")
    before = {path for path in world.node.settings.folder.rglob("*") if path.is_file()}
    first = await world.client.post("/similar", data=out.getvalue(), headers={"Content-Type": "image/jpeg"})
    document = await first.json()
    assert first.status == 200, document
    assert document["pipeline"] == similarity.pipeline and len(document["items"]) == 1
    again = await world.client.post("/similar", data=out.getvalue(), headers={"Content-Type": "image/jpeg"})
    assert await again.json() == document
    needle = out.getvalue()[200:260]
    after = {path for path in world.node.settings.folder.rglob("*") if path.is_file()}
    assert {path.name for path in after - before} == set()
    assert all(needle not in path.read_bytes() for path in after)


async def test_a_closed_image_and_a_withdrawn_one_are_gone_at_once(world: World, make_node: Make) -> None:
    similarity: Similarity = world.client.server.app[similar_api.SIMILAR]  # type: ignore[attr-defined]
    body = {"vector": write_vector(values(77))}

    async def found() -> int:
        return len((await (await world.client.post("/similar", json=body)).json())["items"])

    assert await found() == 1
    with world.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET access = 1 WHERE iri = ?", (world.media["open"],))
    assert await found() == 0
    with world.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET access = 0 WHERE iri = ?", (world.media["open"],))
    assert await found() == 1
    data = similarity.path.read_bytes()
    assert bytes.fromhex(world.images["open"]) in data
    assert wipe_vectors(world.node.settings, world.images["open"]) == 1
    assert bytes.fromhex(world.images["open"]) not in similarity.path.read_bytes()
    assert await found() == 0


def test_what_a_kill_left_undone_is_made_up(make_node: Make) -> None:
    node = make_node()
    one, two, three = ("11" * 32, "22" * 32, "33" * 32)
    similarity = Similarity(node.database, node.settings, "sha256:" + "p" * 64)
    assert not similarity.is_behind() and similarity.follow() == 0 and not similarity.path.exists()
    finish(node, similarity.pipeline, {one: values(1), two: values(2)})
    assert similarity.follow() == 2
    finish(node, similarity.pipeline, {three: values(3)})
    finish(node, "sha256:" + "q" * 64, {"44" * 32: values(4)})  # of another pipeline: not compared with these
    with node.database.transaction() as conn:
        conn.execute("DELETE FROM unit WHERE image = ?", (one,))
    assert similarity.is_behind() and similarity.follow() == 2
    assert similarity.vector_of(one) is None
    vector = similarity.vector_of(three)
    assert vector is not None and float(vector @ np.array(values(3), np.float32)) > 0
    data = bytearray(similarity.path.read_bytes())
    data[-100] ^= 1
    similarity.close()
    similarity.path.write_bytes(data)
    assert similarity.rebuild() == 2 and similarity.vector_of(three) is not None
    similarity.close()


def test_reindex_makes_the_vectors_anew(make_node: Make, capsys: pytest.CaptureFixture[str]) -> None:
    from node.services.similar import embedding_digest
    from runners.catalogue import Catalogue

    node = make_node()
    pipeline = embedding_digest(Catalogue.of(("embed",)))
    finish(node, pipeline, {"11" * 32: values(1), "22" * 32: values(2)})
    assert run(["reindex", str(node.settings.folder)]) == 0
    similarity = Similarity(node.database, node.settings, pipeline)
    assert similarity.vector_of("22" * 32) is not None
    similarity.path.write_bytes(b"not ours")
    similarity.close()
    assert run(["reindex", str(node.settings.folder)]) == 0
    assert similarity.vector_of("11" * 32) is not None
    assert "2 vectors" in capsys.readouterr().out
    similarity.close()
