"""The strip of similar images on the page of a specimen, in headless Chromium under the page's own policy."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from test_similar import finish, values
from web_world import KINDS, serving

from browser.cdp import browser
from node.folder import NodeFolder
from node.web import similar_api

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


async def test_the_strip_shows_what_may_be_seen(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    async with serving(make_node(), tmp_path / "archive") as world:
        similarity = world.client.server.app[similar_api.SIMILAR]  # type: ignore[attr-defined]
        finish(
            world.node, similarity.pipeline, {world.images[kind]: values(n, near=77) for n, kind in enumerate(KINDS)}
        )
        similarity.follow()
        async with browser() as page:
            for kind in ("open", "private"):  # in this world without rules both are open
                path = world.specimens[kind].partition("8765")[2]
                await page.open(f"http://127.0.0.1:{world.client.port}{path}")
                count = await page.ask(
                    "new Promise(done => { const look = () => { const n = document.querySelectorAll('.strip li').length;"
                    " n ? done(n) : setTimeout(look, 50); }; look(); })"
                )
                assert count == 3, "restricted is not shown, nor is the image itself"
                folder = os.environ.get("VASCULUM_SCREENSHOTS")
                if folder:
                    await page.screenshot(Path(folder) / f"similar-{kind}.png")
            assert page.complaints == []
