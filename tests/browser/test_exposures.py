"""The page of an image with several files, and of one that was replaced, in headless Chromium.

Screenshots are written to the folder named by VASCULUM_SCREENSHOTS, when it is set, for people to look at.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW
from PIL import Image, ImageDraw
from review_world import line, review_world, text_result

from browser.cdp import browser
from node.app import build_application
from node.folder import NodeFolder
from runners.catalogue import Catalogue

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def sheet(number: int, form: str = "JPEG", *, size: tuple[int, int] = (600, 450)) -> bytes:
    """A made sheet with a label, larger than a stamp."""
    image = Image.new("RGB", (600, 450), (236, 228, 206))
    draw = ImageDraw.Draw(image)
    draw.line((300, 40, 280 + number * 9, 330), fill=(60, 90, 40), width=7)
    draw.rectangle((360, 340, 580, 430), fill=(250, 248, 240), outline=(90, 80, 60))
    draw.text((372, 360), f"Herbarium Martii {number}", fill=(30, 30, 30))
    out = io.BytesIO()
    image.resize(size).save(out, form)
    return out.getvalue()


async def test_pages_of_several_files_and_of_a_replaced_image(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    settings = "[images]\noriginals_withheld_for = 'nothing'\n"
    world = review_world(make_node, tmp_path, settings=settings, images=sheet)
    found = text_result(line("Herbarium Martii 0", box=(372, 360, 180, 14)), size=(600, 450))
    await world.run_job({0: found, 2: found})
    (world.folder / "images/0.jpg").write_bytes(sheet(20))
    (world.folder / "images/2.tif").write_bytes(sheet(2, "TIFF", size=(600, 450)))
    (world.folder / "images/thumbs").mkdir()
    (world.folder / "images/thumbs/2.jpg").write_bytes(sheet(2, size=(120, 90)))
    rows = [dict(row) for row in world.rows]
    rows[2]["image"] = "images/2.jpg|images/2.tif|images/thumbs/2.jpg"
    world.take_in(rows)
    app = build_application(world.node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client, browser() as page:
        for name, iri in (
            ("files", world.medium(2)), ("replaced", world.medium(0)), ("annotation", world.statement(0).iri)
        ):  # fmt: skip
            await page.open(f"http://127.0.0.1:{client.port}{iri.removeprefix(world.node.settings.origin)}")
            await page.ask("Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => 1)")
            folder = os.environ.get("VASCULUM_SCREENSHOTS")
            if folder:
                await page.screenshot(Path(folder) / f"exposure-{name}.png")
            boxes = await page.ask("document.querySelectorAll('svg.over rect').length > 0")
            rows_of_files = await page.ask("document.querySelectorAll('table tr').length")
            assert (boxes, rows_of_files) == {"files": (True, 4), "replaced": (False, 0), "annotation": (False, 0)}[
                name
            ]
            if name != "files":
                assert "vidence image replaced" in await page.ask("document.body.innerText")
            assert page.complaints == []
            phone = {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": True}
            await page.send("Emulation.setDeviceMetricsOverride", **phone)
            assert await page.ask("document.documentElement.scrollWidth <= window.innerWidth + 1")
            await page.send("Emulation.clearDeviceMetricsOverride")
