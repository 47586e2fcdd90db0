"""The review pages: who sees them, what they show, and how their forms decide."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW
from federation_world import ENVIRONMENT, MANIFEST
from review_world import ReviewWorld, line, review_world, text_result

from linkeddata.pipeline import PipelineManifest
from linkeddata.statement import StatedRegion
from node.app import build_application
from node.cli.main import run
from node.folder import NodeFolder
from node.services import review_rules
from node.services.job_rules import OfferedPipeline
from node.storage import reviews
from node.storage.reviews import Rule
from node.web.review_pages import Crop, crop_of
from node.web.session import make_token
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
OURS = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Site:
    """The world, served, with a session of staff."""

    world: ReviewWorld
    client: TestClient  # type: ignore[type-arg]
    cookie: str

    @property
    def staff(self) -> dict[str, str]:
        return {"Cookie": self.cookie, "Accept": "text/html"}

    async def page(self, path: str) -> str:
        answer = await self.client.get(path, headers=self.staff)
        assert answer.status == 200, path
        assert answer.headers["Cache-Control"] == "no-store"
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        return await answer.text()

    async def post(self, path: str, form: dict[str, str], **headers: str) -> Any:
        return await self.client.post(
            path, data=form, headers={**self.staff, **(headers or OURS)}, allow_redirects=False
        )

    async def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', await self.page("/review"))
        assert found is not None
        return found[1]


@pytest.fixture
async def site(make_node: Make, tmp_path: Path) -> AsyncIterator[Site]:
    world = review_world(make_node, tmp_path)
    await world.run_job(
        {
            0: text_result(line("<script>alert(1)</script>")),
            1: text_result(line("Closedword")),
            2: text_result(line("Second")),
        }
    )
    app = build_application(world.node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        with world.node.database.transaction() as conn:
            token = make_token(conn, now=NOW, name="Anna Curator")
        answer = await client.post("/login", data={"token": token}, headers=OURS, allow_redirects=False)
        client.session.cookie_jar.clear()  # cookies are carried by hand: strangers have none
        yield Site(world=world, client=client, cookie=f"vasculum_staff={answer.cookies['vasculum_staff'].value}")


async def test_strangers_see_nothing_whatever_they_ask(site: Site) -> None:
    known, unknown = site.world.statement(1).id, "a" * 16
    bodies = set()
    for path in ("/review", f"/review/{known}", f"/review/{unknown}", "/review?sample=99"):
        answer = await site.client.get(path, headers={"Accept": "text/html"})
        assert answer.status == 403
        bodies.add((await answer.text()).replace(path.partition("?")[0], ""))
    assert len(bodies) == 1
    answer = await site.client.post(f"/review/{known}", data={"decision": "accept"}, headers=OURS)
    assert answer.status == 403
    assert site.world.statement(1).state == "pending"


async def test_the_queue_shows_crop_and_boxes_of_closed_images_too_and_nothing_runs(site: Site) -> None:
    page = await site.page("/review")
    assert "6 statements waiting" in page
    assert "Closedword" in page
    assert "not public: the image is not open" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "style=" not in page
    assert "onclick" not in page
    assert '<svg viewBox="1 4 26 14"' in page, "the box of 20 x 10 at 4, 6 with a margin of 6 in a hundred of 64 x 48"
    assert '<rect class="label-text" x="4" y="6" width="20" height="10">' in page
    pictures = re.findall(r'<image href="([^"]+)"', page)
    assert len(pictures) == 12, "each as preview, and closer"
    for address in pictures[:4]:
        assert (await site.client.get(address, headers=site.staff)).status == 200, address
    (closed,) = {item for item in pictures if site.world.statement(1).image in item}
    assert (await site.client.get(closed, headers=site.staff)).status == 200
    assert (await site.client.get(closed)).status in (401, 403)


IMAGE = {"width": 64, "height": 48}
WITHOUT_TEXT: dict[str, dict[str, Any]] = {
    "kind/1": {
        "image": IMAGE, "kind": "sheet", "doubts": [],
        "scores": {"sheet": "0.930", "insect": "0.010", "drawer": "0.010", "fluid": "0.020", "slide": "0.010",
                   "label": "0.010", "other": "0.010"},
    },
    "objects/1": {
        "image": IMAGE, "complete": True, "doubts": [],
        "objects": [{"kind": "ruler", "score": "0.800", "box": [4, 6, 20, 10], "outline": "4,6 24,6 24,16"}],
    },
    "scale/1": {
        "image": IMAGE, "px_per_mm": "0", "unit": "", "marks": "", "score": "0.000", "rulers": 0, "box": None,
        "doubts": ["no ruler was found"],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("contract", "on_pages", "in_public", "in_list"),
    [
        (
            "kind/1",
            ["sheet 0.930, fluid 0.020"],
            "<dt>sheet</dt><dd>0.930</dd>",
            "sheet 0.930, fluid 0.020, drawer 0.010",
        ),
        ("objects/1", ["ruler <span>0.800</span>", "ruler 1"], "ruler <span>0.800</span>", "ruler 1"),
        (
            "scale/1",
            ["no ruler was found"],
            "<dt>Doubt</dt><dd>no ruler was found</dd>",
            "cannot tell: no ruler was found",
        ),
    ],
)
async def test_who_decides_sees_what_was_said_where_there_is_no_text(
    site: Site, contract: str, on_pages: list[str], in_public: str, in_list: str, capsys: pytest.CaptureFixture[str]
) -> None:
    offer = PipelineManifest(
        output=contract, name=contract[:-2], version="1.0.0", title="T", description="T", runtime="builtin",
        implementation="sha256:" + "7" * 64,
    )  # fmt: skip
    world = site.world
    world.offers.append(OfferedPipeline(manifest=offer, environment=ENVIRONMENT, conformance="pass", is_isolated=True))
    await world.run_job(dict.fromkeys(range(6), WITHOUT_TEXT[contract]), offer=offer)
    row = world.statement(0, pipeline=offer.digest)
    assert world.findings(row.iri) == []
    last = world.specimen(0).rsplit("/", 1)[1]
    staff, public = await site.page(f"/specimen/{last}"), await site.page(f"/annotation/{row.id}")
    queue = await site.page(f"/review?output={contract}")
    for said in on_pages:
        assert said in await site.page(f"/review/{row.id}") and said in queue and said in staff, said
    assert in_public in public
    capsys.readouterr()
    assert run(["review", "list", str(world.node.settings.folder), "--output", contract]) == 0
    assert in_list in capsys.readouterr().out
    assert run(["review", "show", str(world.node.settings.folder), row.id]) == 0
    shown = capsys.readouterr().out
    assert "finding" not in shown and in_list.split(": ")[-1].split(", ")[0] in shown


async def test_a_form_decides_and_comes_back_to_the_queue(site: Site) -> None:
    iri, csrf = site.world.statement(2).iri, await site.csrf()
    form = {"csrf": csrf, "decision": "accept", "reason": "clear", "query": "output=label-text%2F1"}
    answer = await site.post(f"/review/{iri.rpartition('/')[2]}", form)
    assert answer.status == 303
    assert answer.headers["Location"] == "/review?output=label-text/1"
    row = site.world.again(iri)
    assert (row.state, row.by, row.reason) == ("accepted", "Anna Curator", "clear")
    assert "accepted by Anna Curator" in await site.page("/review?state=accepted")
    page = await site.page(f"/review/{row.id}")
    assert "Decisions" in page
    assert "verbatimLabel" in page
    answer = await site.post(f"/review/{row.id}", {"csrf": csrf, "decision": "reject"})
    assert answer.status == 303
    assert site.world.again(iri).state == "rejected"


async def test_a_form_corrects(site: Site) -> None:
    row, csrf = site.world.statement(2), await site.csrf()
    form = {"csrf": csrf, "decision": "correct", "line": "1", "text": "Third", "field": "dwc:country", "value": "Peru"}
    answer = await site.post(f"/review/{row.id}", form)
    assert answer.status == 303
    new = site.world.again(site.world.again(row.iri).superseded_by or "")
    assert answer.headers["Location"] == f"/review/{new.id}"
    assert site.world.finds("Third") == 1
    page = await site.page(f"/review/{new.id}")
    assert "Peru" in page
    assert f'/review/{row.id}"' in page
    assert (await site.post(f"/review/{row.id}", form)).status == 409, "it was corrected already"


@pytest.mark.parametrize(
    ("change", "headers", "status"),
    [
        ({"csrf": "guess"}, OURS, 403),
        ({}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ({}, {"Origin": "https://evil.example"}, 403),
        ({"decision": "burn"}, OURS, 400),
        ({"decision": "correct", "line": "one"}, OURS, 400),
        ({"decision": "correct"}, OURS, 409),
        ({"decision": "correct", "line": "7", "text": "x"}, OURS, 409),
        ({"reason": "x" * 5000}, OURS, 413),
    ],
)
async def test_forms_that_are_not_ours_or_make_no_sense_change_nothing(
    site: Site, change: dict[str, str], headers: dict[str, str], status: int
) -> None:
    row = site.world.statement(2)
    form = {"csrf": await site.csrf(), "decision": "accept", **change}
    assert (await site.post(f"/review/{row.id}", form, **headers)).status == status
    assert site.world.again(row.iri) == row


async def test_everybody_sees_how_far_the_review_of_a_public_statement_is(site: Site) -> None:
    row = site.world.statement(2)
    html = {"Accept": "text/html"}
    page = await (await site.client.get(f"/annotation/{row.id}", headers=html)).text()
    assert "nobody of the institution has looked at it yet" in page
    form = {"csrf": await site.csrf(), "decision": "correct", "line": "1", "text": "Third", "field": "dwc:country",
            "value": "Peru"}  # fmt: skip
    await site.post(f"/review/{row.id}", form)
    page = await (await site.client.get(f"/annotation/{row.id}", headers=html)).text()
    assert "The institution corrected this" in page
    successor = site.world.again(row.iri).superseded_by or ""
    page = await (await site.client.get(f"/annotation/{successor.rpartition('/')[2]}", headers=html)).text()
    assert "accepted by the institution" in page
    assert "a correction by Test node" in page
    assert "Peru" in page
    assert "Anna" not in page


async def test_what_was_rejected_lies_over_no_image_any_more(site: Site) -> None:
    row = site.world.statement(2)
    path = row.medium.removeprefix(site.world.node.settings.origin)
    assert "Second" in await site.page(path)
    await site.post(f"/review/{row.id}", {"csrf": await site.csrf(), "decision": "reject"})
    assert "Second" not in await site.page(path)


async def test_a_place_to_return_to_is_always_here(site: Site) -> None:
    row = site.world.statement(2)
    form = {"csrf": await site.csrf(), "decision": "accept", "query": "//evil.example/\r\nSet-Cookie: a=b"}
    answer = await site.post(f"/review/{row.id}", form)
    assert answer.status in (303, 400)
    if answer.status == 303:
        assert answer.headers["Location"].startswith("/review?")
        assert "Set-Cookie" not in answer.headers or "a=b" not in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "query", ["state=x", "sample=x", "sample=99", "min_score=7", "min_score=0.x", "max_score=-1", "min_score=0.12345"]
)
async def test_odd_filters_are_said(site: Site, query: str) -> None:
    assert (await site.client.get(f"/review?{query}", headers=site.staff)).status in (400, 404)


@pytest.mark.parametrize(
    ("query", "shown"),
    [("min_score=0.9", 3), ("min_score=0.96", 0), ("class=print", 3), ("output=barcode/1", 0), ("finding=duplicate", 0),
     (f"pipeline={MANIFEST.digest}", 6), ("state=accepted", 0)],
)  # fmt: skip
async def test_filters(site: Site, query: str, shown: int) -> None:
    assert (await site.page(f"/review?{query}")).count("data-statement") == shown


async def test_a_sample_shows_its_estimate(site: Site) -> None:
    with site.world.node.database.transaction() as conn:
        drawn = review_rules.draw_sample(conn, Rule(pipeline=MANIFEST.digest), size=2, seed=1, by="a", now=NOW)
    page = await site.page(f"/review?sample={drawn.id}")
    assert page.count("data-statement") == 2
    assert "2 left to look at" in page
    row = site.world.again(drawn.open[0])
    await site.post(f"/review/{row.id}", {"csrf": await site.csrf(), "decision": "accept"})
    page = await site.page(f"/review?sample={drawn.id}")
    assert "1.000 (95 % interval 0.207 to 1.000; 1 of 1 right)" in page


async def test_pages_of_the_queue_come_after_one_another(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.web.review_pages.SHOWN", 4)
    page = await site.page("/review")
    assert page.count("data-statement") == 4
    more = re.search(r'<a href="(/review\?after=[^"]+)">Next page', page)
    assert more is not None
    page = await site.page(more[1])
    assert page.count("data-statement") == 2
    assert "Next page" not in page


async def test_who_logged_in_without_a_name_is_still_told_apart(site: Site) -> None:
    with site.world.node.database.transaction() as conn:
        conn.execute("UPDATE staff_session SET name = ''")
    row = site.world.statement(2)
    await site.post(f"/review/{row.id}", {"csrf": await site.csrf(), "decision": "accept"})
    with site.world.node.database.reader() as conn:
        (entry,) = reviews.actions_about(conn, row.iri)
    assert re.fullmatch(r"staff session [0-9a-f]{8}", entry["by"])


def test_a_crop_holds_every_region_and_stays_in_the_image() -> None:
    def at(*box: int) -> StatedRegion:
        return StatedRegion(box=box, text="", score="", label="")  # type: ignore[arg-type]

    assert crop_of((), 100, 50) == Crop(x=0, y=0, width=100, height=50)
    assert crop_of((at(50, 20, 10, 10),), 100, 50) == Crop(x=44, y=17, width=22, height=16)
    assert crop_of((at(0, 0, 1, 1), at(99, 49, 1, 1)), 100, 50) == Crop(x=0, y=0, width=100, height=50)
    assert crop_of((at(500, 20, 10, 10),), 100, 50) == Crop(x=0, y=0, width=100, height=50)
