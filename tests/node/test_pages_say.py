"""What pages say to people: names instead of ids, licences by name, and what to do where there is nothing."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from web_world import READ_OPEN, World, serving
from web_world import SETTINGS as WORLD_SETTINGS

from node.folder import NodeFolder
from node.web.pages import called, called_runs, make_environment


@pytest.fixture
async def world(make_node: Callable[..., NodeFolder], tmp_path: Path) -> AsyncIterator[World]:
    async with serving(make_node(settings=WORLD_SETTINGS), tmp_path / "archive") as found:
        yield found


async def page(world: World, path: str) -> str:
    path = path.removeprefix(world.node.settings.origin)
    answer = await world.client.get(path, headers={"Accept": "text/html"})
    assert answer.status == 200
    return await answer.text()


async def test_a_specimen_begins_with_its_record_and_links_what_was_read(world: World) -> None:
    text = await page(world, world.specimens["open"])
    assert text.index("<h2>Name</h2>") < text.index("<h2>Text on the labels") < text.index("<h2>Cite</h2>")
    assert READ_OPEN in text
    annotation = world.annotations["open"].removeprefix(world.node.settings.origin)
    assert f'<a class="chip" href="{annotation}">public annotation</a>' in text
    assert ' rel="license">CC0 1.0</a>' in text


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"ods:specimenName": "Acer L.", "dwc:family": "Sapindaceae"}, "Acer L."),
        ({"dwc:family": "Carabidae", "dwc:class": "Insecta"}, "Carabidae, not identified further"),
        ({"dwc:family": ["odd"], "dwc:class": ""}, "not identified"),
        ({}, "not identified"),
    ],
)
def test_what_has_no_name_is_called_by_what_is_known(body: dict[str, object], name: str) -> None:
    assert called(body) == name


@pytest.mark.parametrize(
    ("name", "canonical", "shown"),
    [
        ("Acer campestre L.", "Acer campestre", "<em>Acer campestre</em> L."),
        ("Carex typhina", "Carex typhina", "<em>Carex typhina</em>"),
        ("Quercus robur L. var. alba Mill.", "Quercus robur alba", "<em>Quercus robur</em> L. var. <em>alba</em> Mill."),
        ("Distichlis spicata (L.) Greene", "Distichlis spicata", "<em>Distichlis spicata</em> (L.) Greene"),
        ("Poa annua subsp. annua", "Poa annua annua", "<em>Poa annua</em> subsp. <em>annua</em>"),
        ("Salix alba × fragilis", "", "<em>Salix alba × fragilis</em>"),
        ("A. campestre L.", "Acer campestre", "<em>A. campestre L.</em>"),
        ("Abies <b> Mill.", "Abies", "<em>Abies</em> &lt;b&gt; Mill."),
    ],
)  # fmt: skip
def test_names_stand_in_italics_and_authors_do_not(name: str, canonical: str, shown: str) -> None:
    taxon = {"vasculum:canonicalName": canonical} if canonical else {}
    body = {
        "ods:specimenName": name, "ods:hasIdentifications": [{"ods:hasTaxonIdentifications": [taxon]}],
    }  # fmt: skip
    names = make_environment().get_template("names.html").module
    assert names.set(called_runs(body)) == shown  # type: ignore[attr-defined]
    assert "".join(text for text, _ in called_runs(body)) == name


def test_a_genus_stands_in_italics_and_a_family_does_not() -> None:
    assert called_runs({"dwc:genus": "Acer"}) == (("Acer", True), (", not identified further", False))
    assert called_runs({"dwc:family": "Carabidae"}) == (("Carabidae, not identified further", False),)


async def test_pages_load_nothing_from_elsewhere_and_run_nothing_inline(world: World) -> None:
    paths = ["/", "/search?q=planta", "/policy", "/login", world.specimens["open"], world.media["open"],
             world.annotations["open"]]  # fmt: skip
    for path in (path.removeprefix(world.node.settings.origin) for path in paths):
        answer = await world.client.get(path, headers={"Accept": "text/html"})
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        for kind in ("script-src", "style-src", "img-src", "connect-src", "form-action"):
            assert policy[kind] == "'self'", "nothing inline, nothing from elsewhere"
        assert (policy["frame-ancestors"], policy["base-uri"]) == ("'none'", "'none'")
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        text = await answer.text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
        assert re.findall(r"<script(?![^>]*\ssrc=\"/static/)", text) == []
        assert re.findall(r"<(?:script|img|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(?!/)", text) == []


async def test_an_image_says_of_which_specimen(world: World) -> None:
    text = await page(world, world.media["open"])
    assert "<em>Planta numero0</em> X-0</a>" in text
    assert f'href="{world.specimens["open"].removeprefix(world.node.settings.origin)}"' in text


async def test_a_restricted_image_says_why_and_whom_to_ask(world: World) -> None:
    text = await page(world, world.specimens["restricted"])
    assert '<svg class="frame" viewBox="0 0 64 48"' in text
    assert "Not shown: " in text
    assert "ask@x.example" in text
    assert 'rel="license"' not in text


async def test_a_search_without_a_hit_says_what_to_try(world: World) -> None:
    text = await page(world, "/search?q=zzzz")
    assert "0 specimens" in text
    assert "Every word has to occur" in text
    assert "without the conditions" not in text
    assert "without the conditions" in await page(world, "/search?q=planta&family=None")
    assert "Every word has to occur" not in await page(world, "/search?q=planta")
