"""Our manifests in the viewers of other people, on another site than the node: what docs/how-to-show-images.md promises.

The viewers are packages of npm, as they are published; ``make viewers`` fetches them.
"""

import asyncio
import hashlib
import io
import os
import re
import socket
import tarfile
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from conftest import ROOT
from PIL import Image

from browser.cdp import Page, browser
from browser.sheet_world import COLOURS, Sheet, serving_sheet
from node.folder import NodeFolder

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
PACKAGES = {
    "mirador-4.0.0.tgz": "ac2423944bd52ffb5a0fc02ff280c117fe39433fac56e50c0b79f0d1ca7c57e6",
    "universalviewer-4.4.0.tgz": "5eeffe8c7ad3fc8833d1cfbc6b0b628c5f0666c7140e5b464ca1ce22f9a49671",
}
"""File and SHA-256 of what was tried."""
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".json": "application/json"}


def shown_page() -> str:
    """The page with Mirador that the documentation shows."""
    text = (ROOT / "docs" / "how-to-show-images.md").read_text("utf-8")
    (page,) = re.findall(r"```html\n(<!doctype html>.*?)```", text, re.DOTALL)
    return page


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    """A free port that is known before the node is made: its addresses are in its documents."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen(128)
        yield found


@pytest.fixture
async def sheet(make_node: Callable[..., NodeFolder], tmp_path: Path, bound: socket.socket) -> AsyncIterator[Sheet]:
    node = make_node(origin=f"http://127.0.0.1:{bound.getsockname()[1]}")
    async with serving_sheet(node, tmp_path / "archive", at=bound) as found:
        yield found


@asynccontextmanager
async def site(package: str, index: str = "") -> AsyncIterator[str]:
    """Another site that gives out a viewer."""
    path = ROOT / "tests" / "peers" / "iiif" / package
    if not path.is_file():
        pytest.skip(f"{package} is not here: make viewers")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == PACKAGES[package], "another package than was tried"
    with tarfile.open(path) as archive:
        names = [name for name in archive.getnames() if name.startswith("package/dist/") and not name.endswith(".map")]
        files = {name.removeprefix("package/dist/"): archive.extractfile(name).read() for name in names}  # type: ignore[union-attr]

    async def give(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not name and index:
            return web.Response(text=index, content_type="text/html")
        if name not in files:
            raise web.HTTPNotFound
        return web.Response(body=files[name], content_type=TYPES.get(Path(name).suffix, "application/octet-stream"))

    app = web.Application()
    app.router.add_get("/{name:.*}", give)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


def manifest_of(sheet: Sheet) -> str:
    return f"{sheet.node.settings.origin}/iiif/presentation/3{sheet.path}/manifest"


async def until(page: Page, condition: str) -> None:
    async with asyncio.timeout(90):
        while not await page.ask(condition):
            await page.ask("new Promise(done => setTimeout(done, 100))")


async def picture_comes(page: Page, sheet: Sheet) -> None:
    """Waits until both marks of the sheet are seen (its pyramid is made now); nothing was refused on the way."""
    async with asyncio.timeout(90):
        while True:
            png = b64decode((await page.send("Page.captureScreenshot", format="png"))["data"])
            seen = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
            if all((abs(seen - np.array(colour)) < 40).all(axis=2).sum() > 200 for colour in COLOURS):
                break
            await page.ask("new Promise(done => setTimeout(done, 100))")
    ours = [(status, address) for status, address in page.answers if address.startswith(sheet.node.settings.origin)]
    assert all(status == 200 for status, _ in ours), ours
    assert any(address.endswith("/manifest") for _, address in ours)
    assert any("/iiif/3/" in address and address.endswith(".jpg") for _, address in ours), ours


async def keep(page: Page, name: str) -> None:
    folder = os.environ.get("VASCULUM_SCREENSHOTS")
    if folder:
        await page.screenshot(Path(folder) / f"{name}.png")


async def test_mirador_shows_the_sheet_its_record_and_what_was_read(sheet: Sheet) -> None:
    index = shown_page().replace(
        "https://images.example.org/iiif/presentation/3/specimen/ID/manifest", manifest_of(sheet)
    )
    index = index.replace("https://unpkg.com/mirador@4.0.0/dist/", "/")
    assert manifest_of(sheet) in index
    async with site("mirador-4.0.0.tgz", index) as address, browser(width=1400, height=900) as page:
        await page.open(address)
        await until(page, "document.querySelectorAll('canvas').length > 0")
        await until(page, "document.body.innerText.includes('mark 2')")
        assert await page.ask("document.body.innerText.includes('Planta numero0, X-0')")
        await picture_comes(page, sheet)
        await keep(page, "mirador")
        assert any(address.endswith("/annotations") for _, address in page.answers)
        assert not [text for text in page.complaints if "CORS" in text or sheet.node.settings.origin in text]


async def test_universal_viewer_shows_the_sheet(sheet: Sheet) -> None:
    async with site("universalviewer-4.4.0.tgz") as address, browser(width=1400, height=900) as page:
        await page.open(f"{address}uv.html#?manifest={manifest_of(sheet)}")
        await until(page, "document.body.innerText.includes('Planta numero0, X-0')")
        await until(page, "document.querySelectorAll('.openseadragon-canvas canvas').length > 0")
        await picture_comes(page, sheet)
        await keep(page, "universal-viewer")
