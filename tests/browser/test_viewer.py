"""The zooming viewer in headless Chromium, under the real security policy.

Where a box must be is not computed here but seen: the sheet has two marks of colours that stand nowhere else, and the
boxes must lie on them in the screenshot, whatever was turned, mirrored or zoomed before.
"""

import io
import os
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NOW
from PIL import Image

from browser.cdp import Page, browser
from browser.sheet_world import COLOURS, MARKS, PATCHES, PX_PER_MM, Sheet, serving_sheet
from node.demo.drawing import CHART
from node.folder import NodeFolder
from node.web.session import make_token

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
CALM = [{"name": "prefers-reduced-motion", "value": "reduce"}]


@pytest.fixture
async def sheet(make_node: Callable[..., NodeFolder], tmp_path: Path) -> AsyncIterator[Sheet]:
    async with serving_sheet(make_node(), tmp_path / "archive") as found:
        yield found


async def keep(page: Page, name: str) -> None:
    folder = os.environ.get("VASCULUM_SCREENSHOTS")
    if folder:
        await page.screenshot(Path(folder) / f"viewer-{name}.png")


async def until(page: Page, condition: str) -> None:
    """Waits in the page; the limit of the test ends what never comes."""
    await page.ask(
        f"new Promise(done => {{ const look = () => ({condition}) ? done() : requestAnimationFrame(look); look(); }})"
    )


async def open_viewer(page: Page, sheet: Sheet, *, dark: bool = False) -> None:
    features = [*CALM, {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    await page.send("Emulation.setEmulatedMedia", features=features)
    await page.open(sheet.address())
    await until(page, "document.querySelector('.stage').dataset.state === 'open'")
    await settle(page)


async def settle(page: Page) -> None:
    """Until nothing moves and no tile is asked for: the picture of two frames in a row is the same."""
    before = ""
    for _ in range(200):
        await page.ask(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))"
        )
        now = (await page.send("Page.captureScreenshot", format="jpeg", quality=40, optimizeForSpeed=True))["data"]
        if now == before:
            return
        before = now
    raise AssertionError("the page does not come to rest")


async def shot(page: Page) -> bytes:
    return b64decode((await page.send("Page.captureScreenshot", format="png", optimizeForSpeed=True))["data"])


async def pixels(page: Page) -> np.ndarray:
    """What is seen, without the boxes and tools that lie over it."""
    over = "document.querySelectorAll('svg.marks, .tools, .reading, .scale-bar')"
    await page.ask(f"{over}.forEach(e => e.style.opacity = '0')")
    seen = np.asarray(Image.open(io.BytesIO(await shot(page))).convert("RGB")).astype(int)
    await page.ask(f"{over}.forEach(e => e.style.opacity = '')")
    return seen


def find(seen: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float, float, float]:
    """Where a colour stands: left, top, right, bottom."""
    rows, columns = np.nonzero((abs(seen - np.array(colour)) < 40).all(axis=2))
    assert len(rows) > 20, f"{colour} is not seen"
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


async def boxes(page: Page) -> list[list[float]]:
    return await page.ask(
        """[...document.querySelectorAll('svg.marks rect')].map(e => { const r = e.getBoundingClientRect();
           return [r.left, r.top, r.right, r.bottom]; })"""
    )


async def assert_boxes_lie_on_marks(page: Page, what: str, *, first: int = 2) -> None:
    seen, have = await pixels(page), await boxes(page)
    for box, colour in list(zip(have, COLOURS, strict=True))[:first]:
        want = find(seen, colour)
        # The line of a box is drawn outside and inside of its edge; two pixels are its width and a rounding.
        assert all(abs(a - b) <= 2.5 for a, b in zip(box, want, strict=True)), (what, colour, box, want)


def true_length_cm() -> float:
    """Between the middles of the two marks."""
    across, down = (
        MARKS[1][axis] + MARKS[1][axis + 2] / 2 - MARKS[0][axis] - MARKS[0][axis + 2] / 2 for axis in (0, 1)
    )
    return float((across**2 + down**2) ** 0.5) / PX_PER_MM / 10


async def tool(page: Page, name: str) -> None:
    await page.ask(f"document.querySelector('[data-tool={name}]').click()")
    await settle(page)


async def press(page: Page, key: str, code: str, number: int, text: str = "", modifiers: int = 0) -> None:
    common: dict[str, Any] = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
    await page.send(
        "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **({"text": text} if text else {}), **common
    )
    await page.send("Input.dispatchKeyEvent", type="keyUp", **common)
    await settle(page)


async def click(page: Page, x: float, y: float) -> None:
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        extra = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        await page.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **extra)


async def test_tiles_load_the_colours_are_right_and_nothing_complains(sheet: Sheet) -> None:
    async with browser(width=1280, height=1400) as page:
        await open_viewer(page, sheet)
        await keep(page, "wide")
        assert await page.ask("Number(document.querySelector('.stage').dataset.tiles)") >= 1
        assert await page.ask("document.querySelector('.stage').dataset.failed") == "0"
        seen = await pixels(page)
        left, top, right, bottom = find(seen, COLOURS[0])
        scale = (right - left) / MARKS[0][2]
        (x, y, patch), gap = PATCHES, PATCHES[2] // 8
        for number, colour in enumerate(CHART):
            column, row = number % 6, number // 6
            at_x = left + (x + gap + (column + 0.5) * (patch + gap) - MARKS[0][0]) * scale
            at_y = top + (y + gap + (row + 0.5) * (patch + gap) - MARKS[0][1]) * scale
            assert abs(seen[round(at_y), round(at_x)] - np.array(colour)).max() <= 12, (
                number,
                colour,
                seen[round(at_y), round(at_x)],
            )
        assert bottom > top
        assert page.complaints == []


async def test_boxes_follow_turning_mirroring_zooming_and_moving(sheet: Sheet) -> None:
    async with browser(width=1280, height=1400) as page:
        await open_viewer(page, sheet)
        await assert_boxes_lie_on_marks(page, "as opened")
        for name, what in (
            ("right", "turned by 90"), ("right", "by 180"), ("right", "by 270"), ("flip", "by 270 and mirrored"), ("left", "mirrored, turned back"),
            ("left", "mirrored, turned back twice"), ("flip", "as it was, turned"), ("out", "smaller"),
        ):  # fmt: skip
            await tool(page, name)
            await keep(page, what.replace(" ", "-").replace(",", ""))
            await assert_boxes_lie_on_marks(page, what)
        await page.send("Emulation.setDeviceMetricsOverride", width=700, height=1400, deviceScaleFactor=1, mobile=False)
        await settle(page)
        await assert_boxes_lie_on_marks(page, "in a smaller window")
        assert await page.ask("document.querySelector('.stage').dataset.failed") == "0"
        assert page.complaints == []


async def test_twin_a_box_that_does_not_follow_is_noticed(sheet: Sheet) -> None:
    async with browser(width=1280, height=1400) as page:
        await open_viewer(page, sheet)
        await page.ask("document.querySelector('svg.marks .shapes').setAttribute = () => {}")
        await tool(page, "right")
        with pytest.raises(AssertionError, match="turned by 90"):
            await assert_boxes_lie_on_marks(page, "turned by 90")


async def test_a_sheet_that_was_photographed_lying_stands_upright(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    async with serving_sheet(make_node(), tmp_path / "archive", orientation=6) as sheet, browser(height=1400) as page:
        await open_viewer(page, sheet)
        await assert_boxes_lie_on_marks(page, "upright")
        await tool(page, "left")
        await assert_boxes_lie_on_marks(page, "turned left")
        assert page.complaints == []


async def test_everything_can_be_done_by_keyboard(sheet: Sheet) -> None:
    async with browser(width=1280, height=1400) as page:
        await open_viewer(page, sheet)
        focused = "document.activeElement.className.baseVal ?? document.activeElement.className"
        for _ in range(20):
            await press(page, "Tab", "Tab", 9)
            if "openseadragon-canvas" in await page.ask(focused):
                break
        assert "openseadragon-canvas" in await page.ask(focused), "the picture is reached by Tab"
        assert "Arrow keys move" in await page.ask("document.activeElement.getAttribute('aria-label')")
        await keep(page, "focus")
        left, top = await page.ask(
            "(() => { const r = document.querySelector('.stage').getBoundingClientRect(); return [r.x, r.y]; })()"
        )
        line = (await pixels(page))[round(top) + 300, round(left) + 2]
        assert abs(line - np.array((47, 93, 58))).max() < 12, f"the focus is seen: {line}"
        first = (await boxes(page))[0]
        await press(page, "+", "BracketRight", 187, "+")  # where the plus of a German keyboard is
        larger = (await boxes(page))[0]
        assert larger[2] - larger[0] > 1.2 * (first[2] - first[0])
        await press(page, "ArrowRight", "ArrowRight", 39)
        moved = (await boxes(page))[0]
        assert moved[0] < larger[0] - 5
        await press(page, "0", "Digit0", 48, "0")
        assert all(abs(a - b) < 1 for a, b in zip((await boxes(page))[0], first, strict=True)), (
            "0 shows the whole again"
        )
        await press(page, "r", "KeyR", 82, "r")
        await press(page, "0", "Digit0", 48, "0")
        await assert_boxes_lie_on_marks(page, "turned by R")
        await press(page, "f", "KeyF", 70, "f")
        await assert_boxes_lie_on_marks(page, "mirrored by F")
        assert await page.ask("document.querySelector('[data-tool=flip]').getAttribute('aria-pressed')") == "true"
        await press(page, "Tab", "Tab", 9)
        assert await page.ask("document.activeElement.getAttribute('aria-label')") == "mark 1"
        assert await page.ask("document.querySelector('.lines li[data-region=\"1-1-1\"]').classList.contains('on')"), (
            "list follows"
        )
        assert await page.ask("document.querySelector('.reading').textContent") == "mark 1"
        await press(page, "ArrowDown", "ArrowDown", 40)
        assert await page.ask("document.activeElement.getAttribute('aria-label')") == "mark 2"
        before = (await boxes(page))[1]
        await press(page, "Enter", "Enter", 13, "\r")
        await keep(page, "zoomed-to-region")
        after = (await boxes(page))[1]
        assert after[2] - after[0] > 1.5 * (before[2] - before[0]), "Enter zooms to the region"
        await press(page, "Tab", "Tab", 9)
        assert await page.ask("document.activeElement.dataset.tool") == "in"
        assert await page.ask(
            "[...document.querySelectorAll('.tools button')].every(b => b.getAttribute('aria-label'))"
        )
        assert page.complaints == []


async def test_the_list_shows_its_lines_on_the_picture_and_boxes_can_be_hidden(sheet: Sheet) -> None:
    async with browser(width=1280, height=1400) as page:
        await open_viewer(page, sheet)
        await page.ask("document.querySelectorAll('.lines button')[1].click()")
        await settle(page)
        assert await page.ask("document.activeElement.getAttribute('aria-label')") == "mark 2"
        left, top, right, bottom = (await boxes(page))[1]
        frame = await page.ask(
            "(() => { const r = document.querySelector('.stage').getBoundingClientRect(); return [r.x, r.y, r.right, r.bottom]; })()"
        )
        assert abs((left + right) / 2 - (frame[0] + frame[2]) / 2) < 3
        assert abs((top + bottom) / 2 - (frame[1] + frame[3]) / 2) < 3
        await page.send("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
        await page.send("Input.dispatchMouseEvent", type="mouseMoved", x=(left + right) / 2, y=(top + bottom) / 2)
        assert await page.ask("document.querySelectorAll('.lines li')[1].classList.contains('on')"), (
            "pointing at the box"
        )
        await tool(page, "boxes")
        assert await page.ask("getComputedStyle(document.querySelector('.shapes')).display") == "none"
        await page.ask("document.querySelectorAll('.lines button')[0].click()")
        assert await page.ask("getComputedStyle(document.querySelector('.shapes')).display") != "none"
        assert page.complaints == []


@pytest.mark.parametrize("mirrored", [False, True])
async def test_the_scale_bar_and_the_ruler_tell_true_lengths(sheet: Sheet, mirrored: bool) -> None:
    """The marks are 1,000 pixels apart from left to left and 1,800 from top to top: 257.39 mm by 8 pixels per mm."""
    async with browser(width=1280, height=1400) as page:
        await open_viewer(page, sheet)
        if mirrored:
            await tool(page, "flip")
            await tool(page, "right")
        one, two = await boxes(page)
        on_screen = max(one[2] - one[0], one[3] - one[1]) / (MARKS[0][2] / PX_PER_MM)
        bar, mm = await page.ask(
            "(() => { const b = document.querySelector('.scale-bar'); return [b.getBoundingClientRect().width, Number(b.dataset.mm)]; })()"
        )
        assert abs(bar / mm - on_screen) / on_screen < 0.02
        assert await page.ask("document.querySelector('.scale-bar').innerText") == f"{mm / 10:g} cm"
        await tool(page, "ruler")
        middle = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (one, two)]
        for x, y in middle:
            await click(page, x, y)
        await settle(page)
        await keep(page, f"ruler-{mirrored}")
        said = await page.ask("document.querySelector('.reading').textContent")
        assert abs(float(said.removeprefix("Length: ").removesuffix(" cm")) - true_length_cm()) < 0.1, said
        assert await page.ask("document.querySelector('.ruler text').textContent") in said
        await press(page, "Escape", "Escape", 27)
        assert await page.ask("document.querySelectorAll('.ruler *').length") == 0
        assert page.complaints == []


async def test_a_length_can_be_measured_by_keyboard(sheet: Sheet) -> None:
    async with browser(width=1280, height=1400) as page:
        await open_viewer(page, sheet)
        await tool(page, "ruler")
        await press(page, "Enter", "Enter", 13, "\r")
        await press(page, "ArrowRight", "ArrowRight", 39)
        await press(page, "Enter", "Enter", 13, "\r")
        assert (await page.ask("document.querySelector('.reading').textContent")).startswith("Length: ")
        assert page.complaints == []


async def test_without_a_known_resolution_there_is_no_scale(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    async with serving_sheet(make_node(), tmp_path / "archive", scale="") as sheet, browser() as page:
        await open_viewer(page, sheet)
        assert await page.ask("document.querySelectorAll('.scale-bar, [data-tool=ruler]').length") == 0


async def test_the_wheel_scrolls_the_page_and_zooms_only_with_the_control_key(sheet: Sheet) -> None:
    async with browser(width=1280, height=700) as page:
        await open_viewer(page, sheet)
        before = (await boxes(page))[0]
        where = {"x": 300, "y": 500, "deltaX": 0}
        await page.send("Input.dispatchMouseEvent", type="mouseWheel", deltaY=120, **where)
        await until(page, "window.scrollY > 60")
        assert "Ctrl" in await page.ask("document.querySelector('.reading').textContent")
        await settle(page)
        scrolled = (await boxes(page))[0]
        assert abs((scrolled[2] - scrolled[0]) - (before[2] - before[0])) < 1
        find(await pixels(page), COLOURS[0])
        await keep(page, "wheel")
        await page.send("Input.dispatchMouseEvent", type="mouseWheel", deltaY=-120, modifiers=2, **where)
        await settle(page)
        zoomed = (await boxes(page))[0]
        assert zoomed[2] - zoomed[0] > 1.1 * (before[2] - before[0])
        assert page.complaints == []


async def test_full_screen_and_back(sheet: Sheet) -> None:
    async with browser(width=1280, height=1400) as page:
        await open_viewer(page, sheet)
        x, y = await page.ask(
            "(() => { const r = document.querySelector('[data-tool=full]').getBoundingClientRect(); return [r.x + 9, r.y + 9]; })()"
        )
        await click(page, x, y)
        await until(page, "document.fullscreenElement === document.querySelector('.stage')")
        await settle(page)
        await assert_boxes_lie_on_marks(page, "full screen")
        await keep(page, "full-screen")
        assert await page.ask("document.querySelector('[data-tool=full]').getAttribute('aria-pressed')") == "true"
        await page.ask("document.exitFullscreen()")
        await until(page, "document.fullscreenElement === null")
        await settle(page)
        await assert_boxes_lie_on_marks(page, "back")


async def test_a_phone_and_a_dark_room(sheet: Sheet) -> None:
    async with browser(width=400, height=900) as page:
        await page.send("Emulation.setDeviceMetricsOverride", width=400, height=900, deviceScaleFactor=1, mobile=True)
        await open_viewer(page, sheet, dark=True)
        await keep(page, "phone-dark")
        assert await page.ask("document.documentElement.scrollWidth <= window.innerWidth + 1")
        await assert_boxes_lie_on_marks(page, "phone")
        inside = await page.ask(
            """(() => { const s = document.querySelector('.stage').getBoundingClientRect();
               return [...document.querySelectorAll('.tools button')].every(b => { const r = b.getBoundingClientRect();
                 return r.left >= s.left && r.right <= s.right && r.height >= 24 && r.width >= 24; }); })()"""
        )
        assert inside
        assert page.complaints == []


async def test_without_scripts_there_is_the_preview_with_its_boxes_and_a_link_to_the_larger_picture(
    sheet: Sheet,
) -> None:
    async with browser(scripts=False) as page:
        await page.send("Page.enable")
        await page.send("Page.navigate", url=sheet.address())
        await page.wait_for("Page.loadEventFired")
        await keep(page, "no-scripts")
        seen = np.asarray(Image.open(io.BytesIO(await shot(page))).convert("RGB")).astype(int)
        find(seen, COLOURS[0])
    text = await (await sheet.client.get(sheet.path, headers={"Accept": "text/html"})).text()
    link = f"/iiif/3/{sheet.image}/full/max/0/default.jpg"
    assert f'<a href="{link}">larger picture</a>' in text
    assert (await sheet.client.get(link)).status == 200


@pytest.mark.parametrize("blocked", ["*/iiif/3/*", "*/default.jpg"])
async def test_the_preview_stays_when_the_image_service_gives_nothing(sheet: Sheet, blocked: str) -> None:
    """A visitor whose browser gets nothing of the service, or its description and no tile."""
    async with browser(height=1400) as page:
        await page.send("Network.enable")
        await page.send("Network.setBlockedURLs", urls=[blocked])
        await page.open(sheet.address())
        if blocked == "*/default.jpg":
            await until(page, "document.querySelector('.stage').dataset.state === 'failed'")
        await settle(page)
        find(np.asarray(Image.open(io.BytesIO(await shot(page))).convert("RGB")).astype(int), COLOURS[0])
        assert await page.ask("document.querySelectorAll('.zoom, .tools, .marks, .to-box').length") == 0
        assert await page.ask("document.querySelectorAll('svg.over rect').length") == 2


async def test_a_sheet_of_sixty_megapixels(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    """6,600 x 9,240 pixels through the pyramid: whole, at full size, turned; every tile comes, the colours are right."""
    async with (
        serving_sheet(make_node(), tmp_path / "archive", scale="26.4", factor=3.3) as sheet,
        browser(height=1400) as page,
    ):
        await open_viewer(page, sheet)
        await assert_boxes_lie_on_marks(page, "whole")
        await page.ask("document.querySelectorAll('.lines button')[0].click()")
        await settle(page)
        await keep(page, "sixty-megapixels")
        await assert_boxes_lie_on_marks(page, "at its size", first=1)
        await tool(page, "right")
        await assert_boxes_lie_on_marks(page, "turned")
        for _ in range(5):
            await tool(page, "in")
        assert await page.ask("document.querySelector('.stage').dataset.failed") == "0"
        tiles = [(status, address) for status, address in page.answers if "/iiif/3/" in address]
        assert len(tiles) > 12
        assert all(status == 200 for status, _ in tiles), tiles
        assert page.complaints == []


async def test_boxes_and_lengths_are_right_when_only_a_smaller_picture_is_offered(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    node = make_node(settings="[images]\nanonymous_max_px = 1100\n")
    async with serving_sheet(node, tmp_path / "archive") as sheet, browser(width=1280, height=1400) as page:
        await open_viewer(page, sheet)
        await assert_boxes_lie_on_marks(page, "small")
        await tool(page, "right")
        await assert_boxes_lie_on_marks(page, "small, turned")
        one, two = await boxes(page)
        await tool(page, "ruler")
        for box in (one, two):
            await click(page, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        await settle(page)
        said = await page.ask("document.querySelector('.reading').textContent")
        assert abs(float(said.removeprefix("Length: ").removesuffix(" cm")) - true_length_cm()) < 0.1, said
        assert page.complaints == []


async def test_staff_see_their_restricted_picture_in_the_same_viewer(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    """Others see the grey frame and no viewer."""
    async with (
        serving_sheet(make_node(), tmp_path / "archive", licence="all rights reserved") as sheet,
        browser(width=1280, height=1400) as page,
    ):
        await page.open(sheet.address())
        assert await page.ask("document.querySelectorAll('[data-viewer]').length") == 0
        with sheet.node.database.transaction() as conn:
            token = make_token(conn, now=NOW)
        await page.open(sheet.address(f"/login?token={token}"))
        await page.ask("document.querySelector('form[action=\"/login\"] button').click()")
        await page.wait_for("Page.loadEventFired")
        await open_viewer(page, sheet)
        find(await pixels(page), COLOURS[0])
        assert await page.ask("document.querySelector('.stage').dataset.failed") == "0"
        assert page.complaints == []
