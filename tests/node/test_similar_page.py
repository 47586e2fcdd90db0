"""The page about similar images: its settings and every command on it, at a served node."""

import asyncio
import io
import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from conftest import NOW, ingest, rows_of, write_archive
from PIL import Image
from test_docs import DOCS, shown_lines
from test_regions import finish as finish_regions
from test_similar import finish, values

from linkeddata.outputs import STEPS
from linkeddata.pipeline import WorkUnit
from node.app import build_application
from node.cli.main import run
from node.folder import NodeFolder
from node.services.similar import Similarity
from node.storage.journal import enqueue
from node.web import similar_api
from runners.catalogue import Catalogue
from runners.pipelines.duplicates import Duplicates
from runners.training.made_kinds import make

Make = Callable[..., NodeFolder]


def picture(number: int) -> bytes:
    out = io.BytesIO()
    shown = Image.fromarray(make("sheet", 30 if number == 1 else number))
    (shown.resize((210, 300)) if number == 1 else shown.resize((420, 600))).save(
        out, "JPEG", quality=60 + 20 * (number == 1)
    )
    return out.getvalue()


async def test_the_page_about_similar_images_runs(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (DOCS / "how-to-find-similar.md").read_text("utf-8")
    settings = tomllib.loads(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
    assert set(settings["jobs"]["pipelines"]) <= set(STEPS)
    server = TestServer(_dummy(), port=0)
    await server.start_server()
    origin = f"http://127.0.0.1:{server.port}"
    await server.close()
    node = make_node("hortus", origin=origin)
    rows = rows_of(5)
    rows[4]["image"] = "images/0.jpg"  # one medium of two records; the same bytes lie under 2 and 3
    ingest(node, write_archive(tmp_path / "a", rows, images=lambda n: picture({0: 30, 3: 2}.get(n, n))))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    similarity: Similarity = app[similar_api.SIMILAR]
    with node.database.reader() as conn:
        images = [row["image"] for row in conn.execute("SELECT DISTINCT image FROM medium ORDER BY locator")]
    finish(
        node,
        similarity.pipeline,
        {image: values(number, near=7 if number < 2 else None) for number, image in enumerate(images)},
    )
    _fingerprint(node, images)
    similarity.follow()
    regions = app[similar_api.SIMILAR_REGIONS]
    for number, image in enumerate(images):
        label = ("label", (4, 4, 30, 20), values(number, near=8 if number < 2 else None))
        finish_regions(node, regions.pipeline, image, label, ("specimen", (9, 4, 40, 40), values(20 + number)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VASCULUM_REGISTRY", raising=False)
    (tmp_path / "sheet.jpg").write_bytes(picture(5))
    said: dict[str, str] = {}
    port = int(origin.rpartition(":")[2])
    async with TestServer(app, port=port):
        for line in shown_lines(text):
            words = [word.replace("http://127.0.0.1:8080", origin) for word in shlex.split(line)[1:]]
            capsys.readouterr()
            assert await asyncio.to_thread(run, words) == 0, f"{line}: {capsys.readouterr()}"
            said[line] = capsys.readouterr().out
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(picture(5)[:2000])
        assert await asyncio.to_thread(run, ["similar", str(broken), "--node", origin]) == 1
        shown = capsys.readouterr()
        assert shown.out == "", "a node that could not look has not said that nothing looks like it"
        assert "ends early" in shown.err and "see the notes" in shown.err
    answers = {line: out for line, out in said.items() if "--json" in line}
    similar, cluster, regions_said, duplicates = (json.loads(out) for out in answers.values())
    assert len(similar["items"]) == 3 and {item["node"] for item in similar["items"]} == {origin}
    assert [len(group) for group in cluster["groups"]] == [2] and cluster["compared"] == 3
    [group] = regions_said["groups"]
    assert [(item["class"], item["box"]) for item in group] == [("label", [4, 4, 30, 20])] * 2
    assert regions_said["compared"] == 6 and {item["class"] for item in cluster["groups"][0]} == {None}
    assert (cluster["threshold"], regions_said["threshold"]) == ("0.700", "0.850")
    verdicts = {item["verdict"]: item for item in duplicates["items"]}
    assert len(verdicts["same bytes"]["media"]) == len(verdicts["same bytes"]["specimens"]) == 2
    assert len(verdicts["several records"]["specimens"]) == 2 and len(verdicts["several records"]["media"]) == 1
    assert len(verdicts["same picture"]["images"]) == 2 and duplicates["withoutFingerprints"] == 0
    assert "9 vectors" in said["$ vasculum reindex hortus".removeprefix("$ ")]
    assert any("group 1: 2" in out for out in said.values())


def _fingerprint(node: NodeFolder, images: list[str]) -> None:
    pipeline = Duplicates()
    pipeline.load()
    with node.database.transaction() as conn:
        for image in images:
            path = conn.execute("SELECT locator FROM medium WHERE image = ?", (image,)).fetchone()[0]
            import numpy as np

            pixels = np.asarray(Image.open(node.settings.folder.parent / "a" / path))
            unit = WorkUnit(output="duplicates/1", pipeline="sha256:d", environment="sha256:e", image=image)
            enqueue(conn, [(0, unit)], now=NOW)
            body = {**pipeline.run(pixels, {}, {}), "image": {"width": pixels.shape[1], "height": pixels.shape[0]}}
            conn.execute(
                "UPDATE unit SET state = 'done', body = ? WHERE work_key = ?", (json.dumps(body).encode(), unit.key)
            )


def _dummy():  # type: ignore[no-untyped-def]
    from aiohttp import web

    return web.Application()
