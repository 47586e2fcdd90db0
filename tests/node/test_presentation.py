"""IIIF manifests, collections, annotation pages and search: against iiif-prezi3, by reference, and as a stranger."""

import asyncio
import io
import json
import re
import shlex
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, ORIGIN, ROOT, ingest, jpeg, rows_of, write_archive
from PIL import Image
from web_world import READ_HIDDEN, READ_OPEN, SECRET_PLACE, World, serving
from web_world import SETTINGS as WORLD_SETTINGS

from node.folder import NodeFolder

Make = Callable[..., NodeFolder]


@pytest.fixture
async def world(make_node: Make, tmp_path: Path) -> AsyncIterator[World]:
    async with serving(make_node(settings=WORLD_SETTINGS), tmp_path / "archive") as found:
        yield found


def last(iri: str) -> str:
    return iri.rsplit("/", 1)[1]


def manifest_path(world: World, kind: str) -> str:
    return f"/iiif/presentation/3/specimen/{last(world.specimens[kind])}/manifest"


def canvas_path(world: World, kind: str) -> str:
    return f"/iiif/presentation/3/specimen/{last(world.specimens[kind])}/canvas/{last(world.media[kind])}"


async def get(world: World, path: str, **headers: str) -> Any:
    answer = await world.client.get(path, headers=headers)
    assert answer.status == 200, (path, answer.status, await answer.text())
    return json.loads(await answer.text())


def ids_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("id", "@id", "source") and isinstance(item, str):
                yield item
            else:
                yield from ids_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from ids_in(item)


def prezi(kind: str, document: dict[str, Any]) -> None:
    """The reading of the reference library for Presentation 3.0, which checks shapes, required members and forms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import iiif_prezi3
    musts(document)
    read = getattr(iiif_prezi3, kind)(**{key: value for key, value in document.items() if key != "@context"})
    assert read.id == document["id"]


NEEDS = {
    "Manifest": ("label", "items"), "Collection": ("label", "items"), "Canvas": ("width", "height", "items"),
    "Agent": ("label", "homepage"), "Text": ("label",), "AnnotationPage": (), "Annotation": ("target",), "Image": (),
}  # fmt: skip


def musts(value: Any, *, where: str = "") -> None:
    """What the standard demands and the reference library lets pass (Presentation 3.0, section 3)."""
    if isinstance(value, list):
        for item in value:
            musts(item, where=where)
    if not isinstance(value, dict):
        return
    kind = value.get("type")
    if kind in NEEDS:
        assert value.get("id", "").startswith("http"), (where, value)
        if where not in ("partOf", "source", "first", "next", "prev"):
            needed = ("label",) if where == "items" and kind in ("Manifest", "Collection") else NEEDS[kind]
            assert not [name for name in needed if name not in value], (where, value)
        if kind == "Canvas" and "width" in value:
            assert value["width"] > 0
            assert value["height"] > 0
            assert "#" not in value["id"]
        if kind == "Manifest" and "items" in value:
            assert value["items"], "a manifest has a canvas"
    for key, item in value.items():
        if key in ("label", "summary") or (key == "value" and "label" in value):
            assert isinstance(item, dict), (key, item)
            assert all(
                isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in item.values()
            )
        elif key not in ("selector", "body", "geometry"):
            musts(item, where=key)


async def test_the_manifest_of_an_open_specimen_says_what_its_record_says(world: World) -> None:
    document = await get(world, manifest_path(world, "open"))
    prezi("Manifest", document)
    assert document["id"] == ORIGIN + manifest_path(world, "open")
    assert document["label"] == {"none": ["Planta numero0, X-0"]}
    pairs = {pair["label"]["en"][0]: pair["value"]["none"][0] for pair in document["metadata"]}
    assert pairs["Collector"] == "A. Collector"
    assert pairs["Locality"] == "Place 0"
    assert document["rights"] == "http://creativecommons.org/publicdomain/zero/1.0/"
    assert document["seeAlso"][0]["id"] == world.specimens["open"]
    assert document["navDate"] == "1901-05-02T00:00:00Z"
    assert document["requiredStatement"]["value"] == {"none": ["Test node"]}
    (canvas,) = document["items"]
    assert (canvas["width"], canvas["height"]) == (64, 48)
    (painting,) = canvas["items"][0]["items"]
    assert painting["target"] == canvas["id"] == ORIGIN + canvas_path(world, "open")
    image = f"{ORIGIN}/iiif/3/{world.images['open']}"
    assert painting["body"]["id"] == f"{image}/full/max/0/default.jpg"
    assert painting["body"]["service"] == [{"id": image, "type": "ImageService3", "profile": "level2"}]
    assert canvas["thumbnail"][0]["id"] == f"{image}/full/64,48/0/default.jpg"
    assert "service" not in canvas, "no scale is known, none is told"
    assert "navPlace" not in document


async def test_twin_the_readers_refuse_what_is_wrong(world: World) -> None:
    document = await get(world, manifest_path(world, "open"))
    canvas = document["items"][0]
    for wrong in (
        {"rights": "not an address"}, {"items": [{"type": "Canvas"}]}, {"label": "no language"}, {"label": {"en": "no list"}},
        {"navDate": "1901-05-02"}, {"provider": [{"type": "Agent", "id": "https://x.example"}]}, {"behavior": ["no"]},
        {"metadata": [{"label": {"en": ["x"]}}]}, {"items": [{**canvas, "width": 0}]}, {"thumbnail": "x"}, {"service": [{"x": 1}]},
        {"items": [{**canvas, "items": [{"type": "Image"}]}]}, {"homepage": [{"id": "https://x.example", "type": "Text"}]},
        {"items": []}, {"items": [{**canvas, "id": canvas["id"] + "#x"}]},
    ):  # fmt: skip
        with pytest.raises((ValueError, AssertionError)):
            prezi("Manifest", {**document, **wrong})
            print(f"accepted: {wrong}")


async def test_annotations_of_a_picture_are_a_page_of_boxes(world: World) -> None:
    document = await get(world, canvas_path(world, "open") + "/annotations")
    prezi("AnnotationPage", document)
    (item,) = document["items"]
    assert item["id"] == f"{world.annotations['open']}#region-1"
    assert item["body"] == {"type": "TextualBody", "value": READ_OPEN, "format": "text/plain"}
    assert item["target"]["source"]["id"] == ORIGIN + canvas_path(world, "open")
    assert item["target"]["selector"]["value"] == "xywh=4,6,20,10"
    canvas = await get(world, canvas_path(world, "open"))
    prezi("Canvas", canvas)
    assert canvas["annotations"][0]["id"] == document["id"]


async def test_every_id_that_is_ours_answers(world: World) -> None:
    """Also those in the documents that the first ones lead to; pictures are asked for where they can be."""
    seen: set[str] = set()
    left = [
        f"{ORIGIN}/iiif/presentation/3/collection",
        *(ORIGIN + manifest_path(world, kind) for kind in ("open", "restricted")),
    ]
    while left:
        address = left.pop().partition("#")[0]
        if address in seen or not address.startswith(ORIGIN):
            continue
        seen.add(address)
        answer = await world.client.get(
            address.removeprefix(ORIGIN), headers={"Accept": "application/ld+json"}, allow_redirects=False
        )
        if (
            answer.status == 303 and "/iiif/3/" in address
        ):  # Image API 3.0, 5: the id of an image leads to its info.json
            left.append(answer.headers["Location"])
            continue
        assert answer.status == 200, address
        if "/iiif/" in address and answer.content_type.endswith("json"):
            left += list(ids_in(json.loads(await answer.text())))
    assert len(seen) > 15
    assert any("/iiif/search/2/" in address for address in seen)


async def test_what_is_offered_small_is_told_small(make_node: Make, tmp_path: Path) -> None:
    """Limits of the image service: what the manifest says of a picture is what the service gives."""
    limits = '\n[images]\nanonymous_max_px = 32\nrestricted_thumbnail_px = 16\nsensitive_images = "small"\nsensitive_px = 16\n'
    async with serving(make_node(settings=WORLD_SETTINGS + limits), tmp_path / "archive") as world:
        for kind, size in (("open", (32, 24)), ("restricted", (16, 12)), ("sensitive", (16, 12))):
            document = await get(world, manifest_path(world, kind))
            prezi("Manifest", document)
            (canvas,) = document["items"]
            assert (canvas["width"], canvas["height"]) == (64, 48)
            body = canvas["items"][0]["items"][0]["body"]
            assert (body["width"], body["height"]) == size
            for picture in (body, canvas["thumbnail"][0]):
                answer = await world.client.get(picture["id"].removeprefix(ORIGIN))
                assert answer.status == 200, (kind, picture["id"])
                assert Image.open(io.BytesIO(await answer.read())).size == (picture["width"], picture["height"])
            assert canvas["summary"]["en"][0].startswith("Shown small: ")
            assert ("annotations" in canvas) == (kind == "open"), (
                "text of what is closed is not told, however small it is shown"
            )
        assert "32 pixels" in (await get(world, manifest_path(world, "open")))["summary"]["en"][0]
        assert "leave this institution" in (await get(world, manifest_path(world, "restricted")))["summary"]["en"][0]


async def test_a_restricted_picture_has_an_empty_canvas_that_says_why(world: World) -> None:
    document = await get(world, manifest_path(world, "restricted"))
    prezi("Manifest", document)
    (canvas,) = document["items"]
    assert canvas["items"] == []
    assert "does not leave this institution" in canvas["summary"]["en"][0]
    assert "1 of 1 images are not shown" in document["summary"]["en"][0]
    assert (canvas["width"], canvas["height"]) == (64, 48), "the proportions are told, as on the page"
    text = json.dumps(document)
    assert world.images["restricted"] not in text
    assert "ImageService3" not in text
    assert "thumbnail" not in text
    assert "annotations" not in canvas


async def test_what_was_read_from_an_earlier_image_is_left_out(world: World) -> None:
    with world.node.database.transaction() as conn:
        conn.execute("UPDATE annotation SET state = 'evidence replaced'")
    assert "annotations" not in (await get(world, manifest_path(world, "open")))["items"][0]
    assert (await get(world, canvas_path(world, "open") + "/annotations"))["items"] == []
    assert (await get(world, f"/iiif/search/2/specimen/{last(world.specimens['open'])}?q=label"))["items"] == []


async def test_a_file_that_is_missing_or_was_never_read_is_told_and_not_drawn(world: World) -> None:
    with world.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET problem = 'secret/path/is/gone' WHERE iri = ?", (world.media["open"],))
        conn.execute("UPDATE medium SET width = NULL, height = NULL WHERE iri = ?", (world.media["restricted"],))
        conn.execute(
            "INSERT INTO medium_specimen VALUES (?, ?, 9)", (world.media["restricted"], world.specimens["open"])
        )
    document = await get(world, manifest_path(world, "open"))
    prezi("Manifest", document)
    (canvas,) = document["items"]
    assert canvas["items"] == []
    assert canvas["summary"] == {"en": ["Not shown: the file cannot be read at the moment."]}
    assert "secret" not in json.dumps(document)
    pairs = {pair["label"]["en"][0]: pair["value"]["none"][0] for pair in document["metadata"]}
    assert pairs["Images that are not here"] == "1"
    assert (await world.client.get(manifest_path(world, "restricted"))).status == 404


async def test_a_specimen_that_was_withdrawn_is_gone(world: World) -> None:
    from linkeddata.records import build_tombstone
    from node.storage import records

    for kind, status in (("open", 410), ("private", 404)):
        iri = world.specimens[kind]
        with world.node.database.transaction() as conn:
            records.tombstone(conn, iri, build_tombstone(iri=iri, kind="specimen", reason="x", at=NOW), now=NOW)
        for path in (
            manifest_path(world, kind),
            canvas_path(world, kind),
            f"/iiif/search/2/specimen/{last(iri)}?q=label",
        ):
            assert (await world.client.get(path)).status == status, path


@pytest.mark.parametrize("kind", ["private", "shared-private"])
async def test_private_is_absent(world: World, kind: str) -> None:
    absent = "/iiif/presentation/3/specimen/" + "a" * 16 + "/manifest"
    for path in (manifest_path(world, kind), absent):
        answer = await world.client.get(path)
        assert answer.status == 404
        assert (await answer.json())["title"] == "Nothing is published here"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.content_type == "application/problem+json"
    listed = json.dumps(await get(world, "/iiif/presentation/3/collection"))
    assert last(world.specimens[kind]) not in listed
    assert last(world.specimens["open"]) in listed


async def test_a_specimen_whose_only_picture_is_private_has_no_manifest_and_is_not_listed(world: World) -> None:
    """Its record is public; that it has a picture is not."""
    answer = await world.client.get(manifest_path(world, "shared-open"))
    assert answer.status == 404
    assert (await answer.json())["type"] == "/problems/no-images"
    assert last(world.specimens["shared-open"]) not in json.dumps(await get(world, "/iiif/presentation/3/collection"))


async def test_nothing_of_a_sensitive_specimen_is_told_here_either(world: World) -> None:
    document = await get(world, manifest_path(world, "sensitive"))
    prezi("Manifest", document)
    text = json.dumps(document)
    assert SECRET_PLACE not in text
    assert "47.1234" not in text
    assert "ImageService3" not in text
    search = f"/iiif/search/2/specimen/{last(world.specimens['sensitive'])}"
    assert (await get(world, f"{search}?q={READ_HIDDEN}"))["items"] == []
    assert (await get(world, search))["items"] == []
    page = await get(world, canvas_path(world, "sensitive") + "/annotations")
    assert page["items"] == []


async def test_staff_get_what_everybody_gets(world: World) -> None:
    from node.web.session import make_token

    with world.node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    answer = await world.client.post(
        "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
    )
    cookie = f"vasculum_staff={answer.cookies['vasculum_staff'].value}"
    assert (await world.client.get("/staff/jobs", headers={"Cookie": cookie})).status == 200
    assert (await world.client.get(manifest_path(world, "private"), headers={"Cookie": cookie})).status == 404
    mine, theirs = [
        await (await world.client.get(manifest_path(world, "restricted"), headers=headers)).read()
        for headers in ({"Cookie": cookie}, {})
    ]
    assert mine == theirs


async def test_conditions_forms_and_scripts_of_other_sites(world: World) -> None:
    path = manifest_path(world, "open")
    first = await world.client.get(path)
    assert (
        first.headers["Content-Type"] == 'application/ld+json;profile="http://iiif.io/api/presentation/3/context.json"'
    )
    assert first.headers["Access-Control-Allow-Origin"] == "*"
    assert "Accept" in first.headers["Vary"]
    tag = first.headers["ETag"]
    again = await world.client.get(path, headers={"If-None-Match": f'"other", {tag}'})
    assert again.status == 304
    assert again.headers["ETag"] == tag
    assert await again.read() == b""
    plain = await world.client.get(path, headers={"Accept": "application/json"})
    assert plain.content_type == "application/json"
    assert plain.headers["ETag"] != tag
    head = await world.client.head(path)
    assert (head.status, await head.read()) == (200, b"")
    assert head.headers["Content-Length"] == first.headers["Content-Length"]


async def test_search_finds_parts_of_words_without_case_and_accents(world: World) -> None:
    search = f"/iiif/search/2/specimen/{last(world.specimens['open'])}"
    whole = await get(world, f"{search}?q={READ_OPEN}")
    prezi(
        "AnnotationPage",
        {key: value for key, value in whole.items() if key not in ("ignored", "startIndex", "partOf", "annotations")},
    )
    assert whole["@context"] == "http://iiif.io/api/search/2/context.json"
    assert whole["partOf"]["total"] == 1
    assert whole["items"] == (await get(world, canvas_path(world, "open") + "/annotations"))["items"]
    part = await get(world, f"{search}?q=LABÉL&user=me&date=x")
    assert len(part["items"]) == 1
    assert part["ignored"] == ["date", "user"]
    (mark,) = part["annotations"][0]["items"]
    assert mark["target"]["source"] == part["items"][0]["id"]
    assert mark["target"]["selector"][0] == {
        "type": "TextQuoteSelector",
        "prefix": "Open",
        "exact": "label",
        "suffix": "word",
    }
    for nothing in ("q=label absentword", "q=label&motivation=painting", "q=%00", "q=%E2%80%8B"):
        assert (await get(world, f"{search}?{nothing}"))["items"] == [], nothing
    assert len((await get(world, f"{search}?q=&motivation=supplementing%20linking"))["items"]) == 1
    for bad in ("q=" + "x" * 301, "q=a&start=-1", "q=a&start=99999999", "q=a&start=٣"):
        answer = await world.client.get(f"{search}?{bad}")
        assert answer.status == 400, bad
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_long_answers_are_paged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import linkeddata.content_search as content_search
    from linkeddata.presentation import ShownMedium, ShownRegion, ShownSpecimen

    regions = tuple(
        ShownRegion(annotation=f"{ORIGIN}/annotation/x", number=number, text=f"word {number}", box=(0, 0, 1, 1))
        for number in range(1, 451)
    )
    shown = ShownSpecimen(
        id="a" * 16, iri="x", label="x", metadata=(),
        media=(ShownMedium(id="b" * 16, iri="y", width=9, height=9, image="0" * 64, regions=regions),),
    )  # fmt: skip
    seen: list[str] = []
    start = 0
    while True:
        page = content_search.build_search_page(shown, content_search.Question(q="word", start=start), ORIGIN)
        assert page["startIndex"] == start
        seen += [item["id"] for item in page["items"]]
        if "next" not in page:
            break
        start = int(page["next"]["id"].partition("&start=")[2])
        assert page["next"]["id"].startswith(f"{ORIGIN}/iiif/search/2/specimen/{'a' * 16}?q=word")
    assert len(seen) == len(set(seen)) == 450
    assert page["prev"]["id"].endswith("&start=200")


async def test_collections_are_cut_by_ids_and_lose_nobody(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty specimens and room for five: every manifest is listed once, each collection keeps the order of ids."""
    from aiohttp.test_utils import TestClient, TestServer

    from node.app import build_application
    from node.web import presentation
    from runners.catalogue import Catalogue

    monkeypatch.setattr(presentation, "PAGE", 5)
    node = make_node()
    ingest(node, write_archive(tmp_path / "archive", rows_of(40), images=jpeg))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        found: list[str] = []
        left = ["/iiif/presentation/3/collection"]
        while left:
            document = json.loads(await (await client.get(left.pop(0))).text())
            prezi("Collection", document)
            entries = document["items"]
            assert [item["id"] for item in entries] == sorted(item["id"] for item in entries)
            assert document["id"].endswith("collection") or "partOf" in document
            lists = [item["id"].removeprefix(ORIGIN) for item in entries if item["type"] == "Collection"]
            manifests = [item["id"] for item in entries if item["type"] == "Manifest"]
            assert not (lists and manifests)
            assert len(manifests) <= 5
            left = lists + left
            found += manifests
        with node.database.reader() as conn:
            known = [row[0] for row in conn.execute("SELECT iri FROM record WHERE kind = 'specimen' ORDER BY iri")]
        assert [item.split("/")[-2] for item in found] == [last(iri) for iri in known]
        assert len(known) == 40
        empty = json.loads(await (await client.get("/iiif/presentation/3/collection/" + "a" * 16)).text())
        assert empty["items"] == []


async def test_place_scale_and_date_are_told_only_as_stated() -> None:
    from decimal import Decimal

    from linkeddata.presentation import (
        Place,
        Publisher,
        ShownMedium,
        ShownRegion,
        ShownSpecimen,
        build_annotation,
        build_manifest,
        parse_px_per_mm,
        place_of,
    )

    assert place_of("47.5", "-8.25", label="Bern", note="about 10 km") == Place(
        longitude=-8.25, latitude=47.5, label="Bern", note="about 10 km"
    )
    assert place_of("47.5", "8.25", datum="EPSG:4326") is not None
    for wrong in (
        ("", ""),
        ("47,5", "8"),
        ("91", "0"),
        ("1", "181"),
        ("0", "0"),
        ("nan", "1"),
        ("1e1", "1"),
        ("٤", "1"),
    ):
        assert place_of(*wrong) is None, wrong
    assert place_of("47.5", "8.25", datum="CH1903") is None
    assert parse_px_per_mm("23.622") == Decimal("23.622")
    for text in ("", "0", "-1", "1e3", "inf", "0.01", "99999", "23,6", "٢"):
        assert parse_px_per_mm(text) is None, text

    def made(date: str, px_per_mm: Decimal | None) -> dict[str, Any]:
        medium = ShownMedium(
            id="b" * 16, iri=f"{ORIGIN}/media/{'b' * 16}", width=6000, height=9000, image="0" * 64, offered=(6000, 9000),
            largest=(4000, 6000),
            licence="https://creativecommons.org/licenses/by/", px_per_mm=px_per_mm,
        )  # fmt: skip
        shown = ShownSpecimen(
            id="a" * 16, iri=f"{ORIGIN}/specimen/{'a' * 16}", label="x", metadata=(), media=(medium,), event_date=date,
            place=place_of("47.5", "8.25", label="Bern", note="about 10 km"),
        )  # fmt: skip
        return build_manifest(shown, Publisher(origin=ORIGIN, name="N"))

    document = made("1901-05", Decimal("23.622"))
    prezi("Manifest", document)
    assert document["@context"][0] == "http://iiif.io/api/extension/navplace/context.json"
    (feature,) = document["navPlace"]["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [8.25, 47.5]}
    assert feature["properties"]["summary"] == {"en": ["about 10 km"]}
    assert "navDate" not in document, "a month is no day"
    assert "rights" not in document, "a licence without its version has no address of its own"
    (service,) = document["items"][0]["service"]
    assert service["physicalUnits"] == "mm"
    assert abs(service["physicalScale"] * 23.622 - 1) < 1e-12
    assert "service" not in made("1901-13-40", None)["items"][0]
    assert "navDate" not in made("1901-13-40", None)
    assert document["thumbnail"][0]["id"].endswith("/full/267,400/0/default.jpg")

    drawn = build_annotation(
        ShownRegion(annotation="a", number=1, text="leaf", box=(1, 2, 3, 4), polygon="1,2 4,2 4,6"), "c", "m"
    )
    svg, box = drawn["target"]["selector"]
    assert svg == {
        "type": "SvgSelector",
        "value": '<svg xmlns="http://www.w3.org/2000/svg"><polygon points="1,2 4,2 4,6"/></svg>',
    }
    assert box["value"] == "xywh=1,2,3,4"
    hostile = build_annotation(
        ShownRegion(annotation="a", number=1, text="x", box=(1, 2, 3, 4), polygon='1,2 3,4 5,6"/><script>'), "c", "m"
    )
    assert isinstance(hostile["target"]["selector"], dict)


async def test_a_stated_resolution_travels_from_the_archive_to_the_canvas(make_node: Make, tmp_path: Path) -> None:
    from aiohttp.test_utils import TestClient, TestServer

    from node.app import build_application
    from runners.catalogue import Catalogue

    node = make_node()
    archive = write_archive(tmp_path / "archive", rows_of(2), images=jpeg)
    term = "https://w3id.org/vasculum/terms/pixelsPerMillimetre"
    meta = (archive / "meta.xml").read_text("utf-8")
    (archive / "meta.xml").write_text(
        meta.replace("</extension>", f'<field index="5" term="{term}"/></extension>'), "utf-8"
    )
    lines = (archive / "multimedia.txt").read_text("utf-8").splitlines()
    (archive / "multimedia.txt").write_text(
        "\n".join([lines[0] + "\tscale", lines[1] + "\t11.811", lines[2] + "\tabout 300 dpi"]) + "\n", "utf-8"
    )
    ingest(node, archive)
    with node.database.reader() as conn:
        bodies = [json.loads(row[0]) for row in conn.execute(
            "SELECT r.body FROM record r JOIN medium m ON m.iri = r.iri ORDER BY m.locator")]  # fmt: skip
        specimen = conn.execute("SELECT iri FROM source_row WHERE key = 'urn:x:0'").fetchone()[0]
    assert [body.get("vasculum:pixelsPerMillimetre") for body in bodies] == ["11.811", None]
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        text = await (await client.get(f"/iiif/presentation/3/specimen/{last(specimen)}/manifest")).text()
        (service,) = json.loads(text)["items"][0]["service"]
        assert abs(1 / service["physicalScale"] - 11.811) < 1e-9
        page = await (await client.get(f"/specimen/{last(specimen)}", headers={"Accept": "text/html"})).text()
        assert re.search(r'data-px-per-mm="11\.811"', page)


async def test_the_commands_of_the_page_about_showing_images_run(make_node: Make, tmp_path: Path) -> None:
    """Its requests, as they stand there, against a node with one specimen; and its line of meta.xml is the one that is read."""
    async with serving(make_node(settings=WORLD_SETTINGS), tmp_path / "archive") as world:
        text = (ROOT / "docs" / "how-to-show-images.md").read_text("utf-8")
        assert '<field index="5" term="https://w3id.org/vasculum/terms/pixelsPerMillimetre"/>' in text
        lines = [line for line in re.findall(r"^\$ (.+)$", text, re.MULTILINE) if line.startswith("curl ")]
        assert len(lines) >= 4
        for line in lines:
            words = shlex.split(line.replace("https://images.example.org", f"http://127.0.0.1:{world.client.port}"))
            words = [re.sub(r"\bID\b", last(world.specimens["open"]), word) for word in words]
            run = await asyncio.create_subprocess_exec(
                *words, "--fail", "--noproxy", "*", stdout=asyncio.subprocess.PIPE
            )
            out, _ = await run.communicate()
            assert run.returncode == 0, line
            assert json.loads(out), line


async def test_every_line_of_the_page_about_these_documents_is_so(world: World) -> None:
    """The table of members in docs/reference-iiif-presentation.md names exactly what a full manifest has."""
    text = (ROOT / "docs" / "reference-iiif-presentation.md").read_text("utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", text.partition("## A manifest")[2].partition("## ")[0], re.MULTILINE))
    document = await get(world, manifest_path(world, "open"))
    restricted = await get(world, manifest_path(world, "restricted"))
    have = {key for key in (*document, *restricted) if key not in ("@context", "id", "type")}
    assert have | {"navPlace"} == named
