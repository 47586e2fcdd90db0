"""The review in headless Chromium: keys, forms without scripts, boxes over the label, under the real security policy."""

import io
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from conftest import NOW
from review_world import ReviewWorld, line, review_world, text_result

from browser.cdp import Page, browser
from browser.test_pages import keep
from node.app import build_application
from node.demo import drawing
from node.folder import NodeFolder
from node.web.session import make_token
from runners.catalogue import Catalogue

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
SIZE = (1000, 1400)
LABEL = (520, 1080, 440, 240)
WORDS = ("Herbarium Novum", "Quercus robur L.", "leg. A. Collector 1901")


def sheet(seed: int) -> bytes:
    """A drawn herbarium sheet with a label at a known place."""
    rng = random.Random(seed)
    image = drawing.paper(*SIZE, rng)
    drawing.draw_plant(image, (200, 250, 900, 1000), rng)
    drawing.draw_label(image, LABEL, drawing.LabelText(heading=WORDS[0], lines=WORDS[1:]), rng)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


@asynccontextmanager
async def reviewing(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> AsyncIterator[tuple[ReviewWorld, str, str]]:
    """A served node with three statements about drawn labels; its address, and that of the log-in."""
    world = review_world(make_node, tmp_path, images=sheet)
    lines = [
        line(word, score=score, box=(LABEL[0] + 30, LABEL[1] + 24 + 60 * number, 380, 44), writing=writing)
        for number, (word, score, writing) in enumerate(
            zip(WORDS, ("0.990", "0.931", "0.610"), ("print", "print", "uncertain"), strict=True)
        )
    ]
    await world.run_job({number: text_result(*lines, size=SIZE) for number in range(6)})
    app = build_application(world.node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestServer(app, host="127.0.0.1") as server:
        with world.node.database.transaction() as conn:
            token = make_token(conn, now=NOW, name="Anna Curator")
        yield world, str(server.make_url("/")).rstrip("/"), str(server.make_url(f"/login?token={token}"))


async def log_in(page: Page, address: str) -> None:
    await page.open(address)
    await page.ask("document.querySelector('form[action=\"/login\"] button').click()")
    await page.wait_for("Page.loadEventFired")


async def press(page: Page, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        await page.send("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")


async def test_keys_walk_accept_and_reject(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    async with reviewing(make_node, tmp_path) as (world, address, login), browser(width=1280, height=1000) as page:
        await log_in(page, login)
        await page.open(f"{address}/review")
        assert await page.ask("document.querySelectorAll('[data-statement]').length") == 6
        assert not await page.ask("document.querySelector('[data-keys]').hidden")
        here = "[...document.querySelectorAll('[data-statement]')].findIndex(item => item.matches('.here'))"
        await keep(page, "review")
        box = await page.ask(
            """(() => { const b = document.querySelector('.crop rect').getBoundingClientRect();
                        const s = document.querySelector('.crop svg').getBoundingClientRect();
                        return b.left >= s.left && b.right <= s.right && b.top >= s.top && b.bottom <= s.bottom; })()"""
        )
        assert box, "the boxes lie in the crop"
        assert await page.ask(here) == 0
        await press(page, "j")
        assert await page.ask(here) == 1
        await press(page, "k")
        assert await page.ask(here) == 0
        await press(page, "j")
        second = await page.ask("document.querySelectorAll('form.decide')[1].getAttribute('action')")
        await press(page, "a")
        await page.wait_for("Page.loadEventFired")
        iri = f"{world.node.settings.origin}/annotation/{second.rpartition('/')[2]}"
        assert (world.again(iri).state, world.again(iri).by) == ("accepted", "Anna Curator")
        assert await page.ask("document.querySelectorAll('[data-statement]').length") == 5
        first = await page.ask("document.querySelector('form.decide').getAttribute('action')")
        await page.ask("document.querySelector('form.decide input[name=reason]').focus()")
        await press(page, "r")
        assert await page.ask("document.querySelector('form.decide input[name=reason]').value") == "r", (
            "typing is typing"
        )
        await page.ask("document.activeElement.blur()")
        await press(page, "r")
        await page.wait_for("Page.loadEventFired")
        iri = f"{world.node.settings.origin}/annotation/{first.rpartition('/')[2]}"
        assert (world.again(iri).state, world.again(iri).reason) == ("rejected", "r")
        assert page.complaints == []
        await page.open(f"{address}/review/{second.rpartition('/')[2]}")
        await keep(page, "statement")
        assert page.complaints == []


async def test_without_scripts_the_forms_do_the_same(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    async with reviewing(make_node, tmp_path) as (world, address, login):
        async with browser(width=390, height=844) as page:
            await log_in(page, login)
            await page.send("Emulation.setScriptExecutionDisabled", value=True)
            await page.send("Page.navigate", url=f"{address}/review")
            await page.wait_for("Page.loadEventFired")
            await keep(page, "review-phone")
            root = await page.send("DOM.getDocument")
            found = await page.send(
                "DOM.querySelector", nodeId=root["root"]["nodeId"], selector="button[value='accept']"
            )
            await page.send("DOM.focus", nodeId=found["nodeId"])
            for kind in ("keyDown", "keyUp"):
                await page.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13,
                                text="\r" if kind == "keyDown" else "")  # fmt: skip
            await page.wait_for("Page.loadEventFired")
        assert world.waiting() == 5
