"""The image service over HTTP: documents, tiles, regions, refusals, caching, and who sees what."""

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ORIGIN, ingest, jpeg, rows_of, write_archive
from PIL import Image

from cas.ids import ContentId
from node.app import build_application
from node.folder import NodeFolder
from node.web.iiif import IMAGES
from node.web.session import make_token
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
SIZE = (2500, 1700)


def sheet(size: tuple[int, int] = SIZE) -> bytes:
    """A picture whose colours say where they are."""
    across = np.linspace(0, 255, size[0], dtype=np.float32)[None, :].repeat(size[1], 0)
    down = np.linspace(0, 255, size[1], dtype=np.float32)[:, None].repeat(size[0], 1)
    third = np.full_like(across, 90)
    out = io.BytesIO()
    Image.fromarray(np.stack([across, down, third], 2).astype(np.uint8)).save(out, "JPEG", quality=95)
    return out.getvalue()


SHEET = sheet()


@dataclass(frozen=True, kw_only=True)
class Served:
    node: NodeFolder
    client: TestClient  # type: ignore[type-arg]
    images: dict[str, str]

    def path(self, rest: str, kind: str = "sheet") -> str:
        return f"/iiif/3/{self.images[kind]}/{rest}"

    async def picture(self, rest: str, kind: str = "sheet") -> Image.Image:
        answer = await self.client.get(self.path(rest, kind))
        assert answer.status == 200, await answer.text()
        return Image.open(io.BytesIO(await answer.read()))


@asynccontextmanager
async def serving(make: Make, folder: Path, settings: str = "", *, sheet: bytes = SHEET) -> AsyncIterator[Served]:
    node = make(settings=settings)
    rows = rows_of(3)
    rows[1] |= {"licence": "all rights reserved"}
    files = [sheet, jpeg(1, size=(900, 700)), jpeg(2)]
    ingest(node, write_archive(folder, rows, images=lambda number: files[number]))
    names = ("sheet", "restricted", "small")
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        yield Served(
            node=node, client=client,
            images={name: ContentId.of(data).hex for name, data in zip(names, files, strict=True)},
        )  # fmt: skip


@pytest.fixture
async def served(make_node: Make, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(make_node, tmp_path / "archive") as found:
        yield found


def expected(box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    whole = Image.open(io.BytesIO(SHEET)).convert("RGB")
    part = whole.crop((box[0], box[1], box[0] + box[2], box[1] + box[3])).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(part).astype(int)


def distance(one: Image.Image, other: np.ndarray[Any, Any]) -> float:
    mine = np.asarray(one.convert("RGB")).astype(int)
    assert mine.shape == other.shape
    return float(np.abs(mine - other).max())


async def test_the_document_says_what_there_is(served: Served) -> None:
    answer = await served.client.get(served.path("info.json"))
    info = await answer.json()
    assert (info["id"], info["type"], info["profile"]) == (
        f"{ORIGIN}/iiif/3/{served.images['sheet']}", "ImageService3", "level2",
    )  # fmt: skip
    assert (info["width"], info["height"]) == SIZE
    assert info["tiles"] == [{"width": 512, "height": 512, "scaleFactors": [1, 2, 4, 8]}]
    assert info["sizes"][0] == {"width": 313, "height": 213}
    assert info["sizes"][-1] == {"width": 2500, "height": 1700}
    assert info["rights"] == "http://creativecommons.org/publicdomain/zero/1.0/"
    assert "maxArea" not in info
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    again = await served.client.get(served.path("info.json"), headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304


async def test_the_document_comes_as_json_ld_when_that_is_asked_for(served: Served) -> None:
    plain = await served.client.get(served.path("info.json"), headers={"Accept": "*/*"})
    linked = await served.client.get(served.path("info.json"), headers={"Accept": "application/ld+json"})
    assert plain.headers["Content-Type"].startswith("application/json")
    assert linked.headers["Content-Type"] == ('application/ld+json;profile="http://iiif.io/api/image/3/context.json"')
    assert plain.headers["ETag"] != linked.headers["ETag"]
    assert "Accept" in plain.headers["Vary"]


async def test_the_bare_address_and_other_spellings_lead_to_the_document(served: Served) -> None:
    hex_digits = served.images["sheet"]
    for path in (f"/iiif/3/{hex_digits}", f"/iiif/3/{hex_digits}/"):
        answer = await served.client.get(path, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, f"{ORIGIN}/iiif/3/{hex_digits}/info.json")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    for spelling in (
        f"sha256:{hex_digits}",
        f"hash:%2F%2Fsha256%2F{hex_digits}",
        ContentId.from_hex(hex_digits).to_cid(),
    ):
        answer = await served.client.get(f"/iiif/3/{spelling}/full/50,/0/default.jpg", allow_redirects=False)
        assert answer.status == 301, spelling
        assert answer.headers["Location"] == f"/iiif/3/{hex_digits}/full/50,/0/default.jpg"


PIXELS = (
    ("0,0,512,512/512,512/0/default.jpg", (0, 0, 512, 512), (512, 512)),
    ("1024,512,512,512/512,/0/color.jpg", (1024, 512, 512, 512), (512, 512)),
    ("0,0,1024,1024/512,512/0/default.jpg", (0, 0, 1024, 1024), (512, 512)),
    ("2048,1536,452,164/452,164/0/default.jpg", (2048, 1536, 452, 164), (452, 164)),
    ("2048,1024,452,676/226,338/0/default.jpg", (2048, 1024, 452, 676), (226, 338)),
    ("333,777,801,555/200,/0/default.jpg", (333, 777, 801, 555), (200, 139)),
    ("full/max/0/default.jpg", (0, 0, 2500, 1700), (2500, 1700)),
    ("full/300,/0/default.jpg", (0, 0, 2500, 1700), (300, 204)),
    ("square/100,100/0/default.jpg", (400, 0, 1700, 1700), (100, 100)),
    ("pct:50,50,10,10/max/0/default.png", (1250, 850, 250, 170), (250, 170)),
    ("full/200,200/0/default.jpg", (0, 0, 2500, 1700), (200, 200)),
    ("full/!400,400/0/default.jpg", (0, 0, 2500, 1700), (400, 272)),
    ("2400,1600,500,500/max/0/default.webp", (2400, 1600, 100, 100), (100, 100)),
)


async def test_the_right_pixels_come(served: Served) -> None:
    for rest, box, size in PIXELS:
        for _ in range(2):  # from the disk, and from memory
            assert distance(await served.picture(rest), expected(box, size)) <= 6, rest


async def test_turning_mirroring_and_colours(served: Served) -> None:
    region = "100,200,400,300/400,300"
    whole = expected((100, 200, 400, 300), (400, 300))
    assert distance(await served.picture(f"{region}/90/default.png"), np.rot90(whole, -1)) <= 6
    assert distance(await served.picture(f"{region}/!0/default.png"), whole[:, ::-1]) <= 6
    assert distance(await served.picture(f"{region}/!90/default.png"), np.rot90(whole[:, ::-1], -1)) <= 6
    assert distance(await served.picture(f"{region}/180/default.png"), np.rot90(whole, 2)) <= 6
    assert distance(await served.picture(f"{region}/270/default.png"), np.rot90(whole)) <= 6
    gray = await served.picture(f"{region}/0/gray.png")
    assert gray.mode == "L"
    bitonal = await served.picture(f"{region}/0/bitonal.png")
    assert set(np.unique(np.asarray(bitonal.convert("L")))) <= {0, 255}


async def test_raw_tiles_are_the_same_pictures_as_cut_ones(served: Served) -> None:
    raw = await served.client.get(served.path("512,512,512,512/512,512/0/default.jpg"))
    data = await raw.read()
    assert data[:4] == b"\xff\xd8\xff\xdb", "tables come first: the tile was not encoded again"
    cut = await served.picture("512,512,512,512/512,512/0/default.png")
    assert distance(Image.open(io.BytesIO(data)), np.asarray(cut.convert("RGB")).astype(int)) <= 3


async def test_headers_of_open_pictures(served: Served) -> None:
    path = served.path("pct:0,0,20.48,30.1176/512,512/0/color.jpg")
    answer = await served.client.get(path)
    hex_digits = served.images["sheet"]
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Link"] == (
        '<http://iiif.io/api/image/3/level2.json>;rel="profile", '
        f'<{ORIGIN}/iiif/3/{hex_digits}/0,0,512,512/max/0/default.jpg>;rel="canonical"'
    )
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    tag = answer.headers["ETag"]
    assert hex_digits in tag
    assert not tag.startswith("W/")
    for wanted, status in ((tag, 304), (f'"x", W/{tag}', 304), ("*", 304), ('"x"', 200)):
        again = await served.client.get(path, headers={"If-None-Match": wanted})
        assert again.status == status
        assert again.headers["ETag"] == tag
    other = await served.client.get(served.path("0,0,512,512/511,512/0/default.jpg"))
    assert other.headers["ETag"] != tag
    canonical = await served.client.get(served.path("0,0,512,512/max/0/default.jpg"))
    assert canonical.headers["ETag"] == tag
    head = await served.client.head(path)
    assert (head.status, head.headers["ETag"]) == (200, tag)
    options = await served.client.options(path)
    assert (options.status, options.headers["Access-Control-Allow-Origin"]) == (204, "*")


REFUSED = (
    ("full/max/0/default", "quality"), ("full/max/0/native.jpg", "quality"), ("full/max/0/default.tif", "offered"),
    ("full/max/0/default.bmp", "format"), ("full/max/45/default.jpg", "90"), ("full/max/361/default.jpg", "360"),
    ("full/full/0/default.jpg", "size"), ("full/0,/0/default.jpg", "width"), ("full/pct:101/0/default.jpg", "^"),
    ("full/2501,/0/default.jpg", "^"), ("full/^2501,/0/default.jpg", "enlarge"), ("full/^max/0/default.jpg", "enlarge"),
    ("2500,0,10,10/max/0/default.jpg", "outside"), ("0,0,0,10/max/0/default.jpg", "width"),
    ("0,0,1,1,1/max/0/default.jpg", "region"), ("-1,0,10,10/max/0/default.jpg", "region"),
    ("full/max/default.jpg", "parts"), ("full/max/0/0/default.jpg", "parts"), ("%zz/max/0/default.jpg", "percent"),
    ("%ff/max/0/default.jpg", "UTF-8"), ("full/1e3,/0/default.jpg", "size"), ("full/٣,/0/default.jpg", "size"),
)  # fmt: skip


async def test_what_the_specification_does_not_allow_is_refused_with_a_reason(served: Served) -> None:
    for rest, word in REFUSED:
        answer = await served.client.get(served.path(rest), headers={"Accept": "*/*"})
        assert answer.status == 400, rest
        assert answer.content_type == "application/problem+json"
        assert word in (await answer.json())["detail"], rest
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_confined_sizes_larger_than_the_region_give_the_region(served: Served) -> None:
    picture = await served.picture("0,0,100,80/!4000,4000/0/default.png")
    assert picture.size == (100, 80)
    assert (await served.picture("full/!100,9999/0/default.jpg")).size == (100, 68)


async def test_percent_encoding_is_undone_part_by_part(served: Served) -> None:
    picture = await served.picture("pct%3A0,0,10,10/%21100%2C100/%2190/default%2Ejpg")
    assert picture.size == (68, 100)
    escaped = await served.client.get(served.path("full%2Fmax/0/default.jpg"))
    assert escaped.status == 400


async def test_small_pictures_are_kept_without_loss(served: Served) -> None:
    original = served.node.blobs.open_blob(ContentId.from_hex(served.images["small"]))
    with original:
        pixels = np.asarray(Image.open(io.BytesIO(original.pread(0, original.size)))).astype(int)
    assert distance(await served.picture("full/max/0/default.png", "small"), pixels) == 0


async def test_restricted_pictures_stay(served: Served) -> None:
    for rest in ("info.json", "full/max/0/default.jpg", "full/!400,400/0/default.jpg"):
        answer = await served.client.get(served.path(rest, "restricted"))
        assert answer.status == 403
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert not list(served.node.settings.derived_path.glob("*/*/*"))


async def test_restricted_pictures_as_thumbnails_where_the_settings_say_so(make_node: Make, tmp_path: Path) -> None:
    async with serving(make_node, tmp_path / "a", "[images]\nrestricted_thumbnail_px = 90\n") as served:
        info = await (await served.client.get(served.path("info.json", "restricted"))).json()
        assert (info["width"], info["height"], info["maxArea"]) == (90, 70, 6300)
        answer = await served.client.get(served.path("full/max/0/default.jpg", "restricted"))
        assert Image.open(io.BytesIO(await answer.read())).size == (90, 70)
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert (await served.client.get(served.path("full/91,/0/default.jpg", "restricted"))).status == 400
        tile = await served.picture("0,0,512,512/max/0/default.jpg", "restricted")
        assert tile.size == (90, 70), "a region is a region of the small picture"
        full = await (await served.client.get(served.path("info.json"))).json()
        assert full["width"] == SIZE[0]


async def test_strangers_are_offered_a_smaller_picture_and_staff_the_whole(make_node: Make, tmp_path: Path) -> None:
    async with serving(make_node, tmp_path / "a", "[images]\nanonymous_max_px = 1000\n") as served:
        answer = await served.client.get(served.path("info.json"))
        info = await answer.json()
        assert (info["width"], info["height"], info["maxArea"]) == (1000, 680, 680_000)
        picture = await served.client.get(served.path("0,0,512,512/512,512/0/default.jpg"))
        assert picture.headers["Cache-Control"] == "public, max-age=86400"
        assert picture.headers["Vary"] == "Cookie"
        shown = Image.open(io.BytesIO(await picture.read()))
        assert distance(shown, expected((0, 0, 1280, 1280), (512, 512))) <= 6
        assert (await served.client.get(served.path("0,0,2000,1700/1001,/0/default.jpg"))).status == 400
        cookie = await staff(served)
        mine = await (await served.client.get(served.path("info.json"), headers=cookie)).json()
        assert (mine["width"], mine["height"]) == SIZE
        whole = await served.client.get(served.path("full/max/0/default.jpg"), headers=cookie)
        assert whole.headers["Cache-Control"] == "private, no-store"
        assert whole.headers["ETag"] != picture.headers["ETag"]
        hidden = await served.client.get(served.path("full/max/0/default.jpg", "restricted"), headers=cookie)
        assert hidden.status == 200
        assert hidden.headers["Cache-Control"] == "private, no-store"


async def staff(served: Served) -> dict[str, str]:
    with served.node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    answer = await served.client.post(
        "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
    )
    return {"Cookie": f"vasculum_staff={answer.cookies['vasculum_staff'].value}"}


async def test_no_answer_is_larger_than_the_settings_say(make_node: Make, tmp_path: Path) -> None:
    async with serving(make_node, tmp_path / "a", "[images]\nmax_output_pixels = 100000\n") as served:
        info = await (await served.client.get(served.path("info.json"))).json()
        assert (info["width"], info["maxArea"]) == (SIZE[0], 100_000)
        assert all(item["width"] * item["height"] <= 100_000 for item in info["sizes"])
        picture = await served.picture("full/max/0/default.jpg")
        assert picture.size == (383, 260)
        refused = await served.client.get(served.path("full/1000,/0/default.jpg"))
        assert "maxArea" in (await refused.json())["detail"]


async def test_pyramids_are_made_once_kept_and_made_again_when_they_are_damaged(served: Served) -> None:
    tile, region = "0,0,512,512/512,512/0/default.jpg", "5,5,600,600/300,/0/default.jpg"
    first = await (await served.client.get(served.path(tile))).read()
    (path,) = served.node.settings.derived_path.glob("pyramids/*/*.tif")
    whole = path.read_bytes()
    inode = path.stat().st_ino
    assert await (await served.client.get(served.path("512,0,512,512/512,512/0/default.jpg"))).read()
    assert path.stat().st_ino == inode
    for damage in (whole[:5000], b"", whole[:8] + b"\xff" * (len(whole) - 8), None):
        path.unlink()
        if damage is not None:
            path.write_bytes(damage)
        for rest in (tile, region):
            answer = await served.client.get(served.path(rest))
            assert answer.status == 200
        assert path.read_bytes() == whole
    assert await (await served.client.get(served.path(tile))).read() == first


async def test_a_tile_that_was_overwritten_is_made_again(served: Served) -> None:
    tile = "512,0,512,512/512,512/0/default.jpg"
    first = await (await served.client.get(served.path(tile))).read()
    (path,) = served.node.settings.derived_path.glob("pyramids/*/*.tif")
    whole = path.read_bytes()
    at = whole.index(first[-200:])
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"\0" * 200)
    again = await served.client.get(served.path(tile))
    assert (again.status, await again.read()) == (200, first)


async def test_what_is_withdrawn_or_closed_is_gone_at_once_and_from_the_disk(served: Served, tmp_path: Path) -> None:
    from node.services.withdraw import plan_withdrawal, withdraw

    tile = served.path("0,0,512,512/512,512/0/default.jpg")
    for path in (tile, tile, served.path("full/!400,400/0/default.jpg")):
        assert (await served.client.get(path)).status == 200
    derived = list(served.node.settings.derived_path.glob("*/*/*"))
    assert {path.parent.parent.name for path in derived} == {"pyramids", "thumbnails"}
    cid = ContentId.from_hex(served.images["sheet"])
    withdraw(served.node, plan_withdrawal(served.node, cid), reason="error", now=NOW, new_key=b"k" * 32)
    assert (await served.client.get(tile)).status == 410
    assert not list(served.node.settings.derived_path.glob("*/*/*"))
    assert not served.client.server.app[IMAGES].derived.used_bytes()  # type: ignore[attr-defined]


async def test_a_stricter_class_closes_the_door_and_removes_the_pictures(served: Served, tmp_path: Path) -> None:
    tile = served.path("0,0,512,512/512,512/0/default.jpg")
    for path in (tile, tile, served.path("full/!400,400/0/default.jpg")):
        assert (await served.client.get(path)).status == 200
    rows = rows_of(3)
    for row in rows:
        row["licence"] = "all rights reserved"
    ingest(served.node, write_archive(tmp_path / "archive", rows))
    assert (await served.client.get(tile)).status == 403
    assert not list(served.node.settings.derived_path.glob("*/*/*"))


async def test_what_is_sensitive_is_shown_small_where_that_is_asked_for(make_node: Make, tmp_path: Path) -> None:
    small = '[images]\nsensitive_images = "small"\nsensitive_px = 90\n'
    for name, setting, licence, size in (
        ("none", "", "CC0", None),
        ("small", small, "CC0", (90, 61)),
        ("closed", small, "all rights reserved", None),
        ("closed-small", f"{small}restricted_thumbnail_px = 45\n", "all rights reserved", (45, 30)),
    ):
        sensitive = f'{setting}\n[[sensitive]]\nvalue = "Planta numero0"\ncategory = 1\n'
        node = make_node(name, settings=sensitive)
        [row] = rows_of(1)
        ingest(node, write_archive(tmp_path / f"archive-{name}", [row | {"licence": licence}], images=lambda _: SHEET))
        app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
        async with TestClient(TestServer(app)) as client:
            answer = await client.get(f"/iiif/3/{ContentId.of(SHEET).hex}/full/max/0/default.jpg")
            assert answer.status == (403 if size is None else 200)
            if size is not None:
                assert Image.open(io.BytesIO(await answer.read())).size == size
                assert answer.headers["Cache-Control"] == "private, no-store"


async def test_a_tile_that_was_just_looked_at_is_answered_without_database_thread_or_library(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = served.path("512,512,512,512/512,512/0/default.jpg")
    first, second = await served.client.get(tile), await served.client.get(tile)
    data = await first.read()
    assert await second.read() == data

    def never(*arguments: object) -> object:
        raise AssertionError("not in this path")

    monkeypatch.setattr(served.node.database, "read", never)
    monkeypatch.setattr("node.web.iiif.parse_target", never)
    monkeypatch.setattr("asyncio.to_thread", never)
    third = await served.client.get(tile)
    assert await third.read() == data
    names = ("ETag", "Cache-Control", "Link", "Content-Type", "Access-Control-Allow-Origin", "Content-Security-Policy")
    assert [third.headers[name] for name in names] == [first.headers[name] for name in names]
    with served.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET access = 1")
    monkeypatch.undo()
    assert (await served.client.get(tile)).status == 403
