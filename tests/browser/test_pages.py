"""The pages in headless Chromium, under their real security policy: looks, overlays, scripts off, narrow screens.

Screenshots are written to the folder named by VASCULUM_SCREENSHOTS, when it is set, for people to look at.
"""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from conftest import NOW
from federation_world import Clock, make_spec, page_app, signed
from federation_world import make_node as make_small_node
from web_world import READ_OPEN, World, serving
from web_world import SETTINGS as WORLD_SETTINGS

from browser.cdp import Page, browser
from federation.identity import SigningKey
from node.folder import NodeFolder
from node.web.session import make_token

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture
async def world(make_node: Callable[..., NodeFolder], tmp_path: Path) -> AsyncIterator[World]:
    async with serving(make_node(settings=WORLD_SETTINGS), tmp_path / "archive") as found:
        yield found


def address(world: World, path: str) -> str:
    return f"http://127.0.0.1:{world.client.port}{path}"


def path_of(iri: str) -> str:
    return iri.partition("8765")[2]


async def keep(page: Page, name: str) -> None:
    folder = os.environ.get("VASCULUM_SCREENSHOTS")
    if folder:
        await page.screenshot(Path(folder) / f"{name}.png")


@pytest.mark.parametrize(
    "name", ["home", "search", "open", "restricted", "sensitive", "medium", "annotation", "policy", "login", "absent"]
)
async def test_no_page_complains_and_each_fits_a_narrow_screen(world: World, name: str) -> None:
    paths = {
        "home": "/", "search": "/search?q=planta", "open": path_of(world.specimens["open"]), "policy": "/policy",
        "restricted": path_of(world.specimens["restricted"]), "sensitive": path_of(world.specimens["sensitive"]),
        "medium": path_of(world.media["open"]), "annotation": path_of(world.annotations["open"]), "login": "/login",
        "absent": "/specimen/" + "a" * 16,
    }  # fmt: skip
    async with browser() as page:
        await page.open(address(world, paths[name]))
        await page.ask(
            "Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode().catch(() => 0); })).then(() => 1)"
        )
        await keep(page, name)
        assert [text for text in page.complaints if "404" not in text or name != "absent"] == []
        assert await page.ask("document.querySelector('main h1').innerText.length > 0")
        assert await page.ask(
            "[...document.images].every(image => image.complete && image.naturalWidth > 0 && image.alt !== null)"
        )
        await page.send("Emulation.setDeviceMetricsOverride", width=380, height=800, deviceScaleFactor=1, mobile=True)
        assert await page.ask("document.documentElement.scrollWidth <= window.innerWidth + 1"), (
            "the page is wider than a phone"
        )
        await keep(page, f"{name}-narrow")


async def test_boxes_sit_where_the_annotation_says(world: World) -> None:
    """The made annotation has the box 4, 6, 20 x 10 on an image of 64 x 48 pixels."""
    async with browser() as page:
        await page.open(address(world, path_of(world.specimens["open"])))
        image, box = await page.ask(
            """(() => { const of = e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; };
               return [of(document.querySelector('.stage img')), of(document.querySelector('svg.over rect'))]; })()"""
        )
        scale_x, scale_y = image[2] / 64, image[3] / 48
        expected = [image[0] + 4 * scale_x, image[1] + 6 * scale_y, 20 * scale_x, 10 * scale_y]
        assert all(abs(have - want) < 2 for have, want in zip(box, expected, strict=True)), (box, expected)
        assert READ_OPEN in await page.ask("document.querySelector('svg.over title').textContent")
        await page.ask(
            "document.querySelector('.lines li').dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))"
        )
        assert await page.ask("document.querySelector('svg.over g').classList.contains('on')")
        assert page.complaints == []


async def test_the_specimen_page_is_whole_without_scripts(world: World) -> None:
    async with browser(scripts=False) as page:
        await page.send("Page.enable")
        await page.send("Page.navigate", url=address(world, path_of(world.specimens["open"])))
        await page.wait_for("Page.loadEventFired")
        await page.send("DOM.enable")
        tree = await page.send("DOM.getDocument", depth=-1)
        assert READ_OPEN in str(tree)


async def test_the_grey_frame_has_the_proportions_of_the_image_and_shows_nothing_of_it(world: World) -> None:
    async with browser() as page:
        await page.open(address(world, path_of(world.specimens["restricted"])))
        width, height = await page.ask(
            "(() => { const r = document.querySelector('svg.frame').getBoundingClientRect(); return [r.width, r.height]; })()"
        )
        assert abs(width / height - 64 / 48) < 0.02
        assert await page.ask("document.querySelectorAll('main img').length") == 0
        assert "ask@x.example" in await page.ask("document.querySelector('.closed-note').innerText")


async def test_staff_log_in_with_the_token_and_see_the_jobs_page(world: World) -> None:
    with world.node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    async with browser() as page:
        await page.open(address(world, f"/login?token={token}"))
        await page.ask("document.querySelector('form[action=\"/login\"] button').click()")
        await page.wait_for("Page.loadEventFired")
        assert await page.ask("location.pathname") == "/staff/jobs"
        assert "Nobody has asked anything yet" in await page.ask("document.body.innerText")
        await keep(page, "staff-jobs")
        assert page.complaints == []


@pytest.mark.parametrize("scripts", [True, False])
async def test_the_job_page_follows_the_job_by_itself_and_without_scripts_says_how(
    tmp_path: Path, scripts: bool
) -> None:
    node, researcher = make_small_node(tmp_path, clock=Clock(), name="Hortus"), SigningKey.from_seed(b"r" * 32)
    node.enrol(researcher)
    for number in range(4):
        node.add_sheet(f"B-10{number}", lines=["HERBARIUM MARTII" if number == 1 else "x"])
    spec = make_spec(researcher, [node.origin], purpose="a flora")
    made = await node.jobs.submit(signed(spec, researcher).to_json(), sender_kid=researcher.kid)
    await node.jobs.poll()
    async with TestServer(page_app(node, is_staff=True), host="127.0.0.1") as server, browser(scripts=scripts) as page:
        url = str(server.make_url(f"/staff/jobs/{made.status.job_id}"))
        if not scripts:
            await page.send("Page.enable")
            await page.send("Page.navigate", url=url)
            await page.wait_for("Page.loadEventFired")
            await page.send("DOM.enable")
            assert "load again for newer figures" in str(await page.send("DOM.getDocument", depth=-1))
            return
        await page.open(url)
        assert "0 of 4 units" in await page.ask("document.body.innerText")
        assert "load again" not in await page.ask("document.body.innerText")
        await keep(page, "job-running")
        await node.work()
        await node.jobs.poll()
        await page.ask(
            """new Promise(done => { const look = () => document.querySelector('[data-live]').dataset.finished === 'yes'
               ? done(1) : requestAnimationFrame(look); look(); })"""
        )
        assert "4 of 4 units" in await page.ask("document.body.innerText")
        assert "HERBARIUM MARTII" in await page.ask("document.body.innerText")
        assert page.complaints == []
        await keep(page, "job-done")
        await page.send("Emulation.setDeviceMetricsOverride", width=400, height=900, deviceScaleFactor=1, mobile=True)
        assert await page.ask("document.documentElement.scrollWidth <= window.innerWidth + 1")
        await keep(page, "job-done-narrow")
    node.database.close()
