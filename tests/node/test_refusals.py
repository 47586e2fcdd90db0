"""How bytes are refused: withdrawn ones with 410, large originals to strangers with a pointer to the preview."""

import io
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from PIL import Image

from cas.ids import ContentId
from linkeddata.access import AccessClass
from node.access import Door, Facts, Viewer, decide
from node.app import build_application
from node.folder import NodeFolder
from node.web.session import make_token
from runners.catalogue import Catalogue

KEY = bytes(32)
LARGE, SMALL, ODD = jpeg(0, size=(300, 200)), jpeg(1, size=(64, 48)), bytes(range(256)) * 4096


@asynccontextmanager
async def serving(node: NodeFolder, folder: Path):  # type: ignore[no-untyped-def]
    ingest(node, write_archive(folder, rows_of(3), images=lambda number: (LARGE, SMALL, ODD)[number]))
    async with TestClient(TestServer(build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW))) as client:
        yield client


def address(data: bytes) -> str:
    return f"/cas/sha256/{ContentId.of(data).hex}"


async def staff_cookie(node: NodeFolder, client: TestClient) -> dict[str, str]:  # type: ignore[type-arg]
    with node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    answer = await client.post(
        "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
    )
    client.session.cookie_jar.clear()  # the next request is a stranger's
    return {"Cookie": f"vasculum_staff={answer.cookies['vasculum_staff'].value}"}


async def test_withdrawn_bytes_are_gone_for_everybody(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    node = make_node()
    async with serving(node, tmp_path / "a") as client:
        cookie = await staff_cookie(node, client)
        cid = ContentId.of(SMALL)
        media = (await (await client.get(f"/media/sha256/{cid.hex}")).json())["media"]
        preview = "/media/" + media[0].rpartition("/")[2] + "/preview.jpg"
        assert (await client.get(address(SMALL))).status == 200
        assert (await client.get(preview)).status == 200
        # From the mark on, before anything else is removed:
        withdraw = node.blobs.withdrawals.withdraw
        node.blobs.erase(withdraw(cid, reason="taken by mistake", told=True, at="2026-11-24T12:00:00Z", new_key=KEY))
        with node.database.transaction() as conn:  # as the withdrawal itself does: what is warm is forgotten
            conn.execute("INSERT INTO meta VALUES ('x', 'y')")
        for path in (address(SMALL), preview):
            for headers in ({}, cookie):
                answer = await client.get(path, headers={**headers, "Accept": "application/json"})
                problem = await answer.json()
                assert (answer.status, problem["type"]) == (410, "/problems/withdrawn"), path
                assert "taken by mistake" in problem["detail"]
        assert not list(node.settings.derived_path.rglob(f"*{cid.hex}*"))
        assert (await client.get(address(LARGE))).status == 200


async def test_what_nobody_may_know_of_looks_absent(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    node = make_node()
    async with serving(node, tmp_path / "a") as client:
        cookie = await staff_cookie(node, client)
        cid = ContentId.of(b"once private")
        node.blobs.withdrawals.withdraw(cid, reason="secret", told=False, at="2026-11-24T12:00:00Z", new_key=KEY)
        path = f"/cas/sha256/{cid.hex}"
        answer, absent = await client.get(path), await client.get("/cas/sha256/" + "0" * 64)
        assert (answer.status, await answer.read()) == (404, await absent.read())
        assert (await client.get(path, headers=cookie)).status == 410


async def test_large_originals_are_not_for_strangers(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    node = make_node("limited", settings="[images]\nanonymous_max_px = 100\n")
    async with serving(node, tmp_path / "a") as client:
        cookie = await staff_cookie(node, client)
        small = await client.get(address(SMALL))
        assert (small.status, await small.read()) == (200, SMALL)
        for data in (LARGE, ODD):  # what cannot be measured counts as large
            for headers in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": f'"sha256-{ContentId.of(data).hex}"'}):
                answer = await client.get(address(data), headers=headers)
                assert answer.status == 403
                assert (await answer.json())["type"] == "/problems/preview-only"
        assert f"/media/sha256/{ContentId.of(LARGE).hex}" in (await (await client.get(address(LARGE))).json())["detail"]
        assert (await (await client.get(address(LARGE), headers=cookie)).read()) == LARGE
        assert (await client.get(address(LARGE))).status == 403  # staff's visit warmed nothing
        medium = (await (await client.get(f"/media/sha256/{ContentId.of(LARGE).hex}")).json())["media"][0]
        sizes = []
        for headers in ({}, cookie):
            answer = await client.get(f"/media/{medium.rpartition('/')[2]}/preview.jpg", headers=headers)
            with Image.open(io.BytesIO(await answer.read())) as picture:
                sizes.append(picture.size)
        assert sizes == [(100, 67), (300, 200)]


def test_the_limit_never_opens_what_is_closed() -> None:
    for facts in (
        Facts(access=AccessClass.RESTRICTED, longest_px=10),
        Facts(access=AccessClass.OPEN, sensitive=True, longest_px=10),
    ):
        seen = decide(Viewer(), Door.ORIGINAL, facts, anonymous_max_px=100)
        assert (seen.allowed, seen.kind) == (False, "restricted")
    known = Facts(access=AccessClass.OPEN, luggage=frozenset(), longest_px=5000)
    assert decide(Viewer(), Door.ORIGINAL, known).allowed
    assert not decide(Viewer(), Door.ORIGINAL, known, anonymous_max_px=4999).allowed
    assert decide(Viewer(), Door.ORIGINAL, known, anonymous_max_px=5000).allowed
    assert decide(Viewer(is_staff=True), Door.ORIGINAL, known, anonymous_max_px=1).allowed


async def test_every_answer_carries_the_headers_streams_too(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    async with serving(make_node(), tmp_path / "a") as client:
        for path in (address(ODD), address(SMALL), "/", "/healthz", "/nowhere", "/" + ContentId.of(SMALL).hex):
            answer = await client.get(path, allow_redirects=False)
            assert answer.headers["Referrer-Policy"] == "same-origin", path
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin", path
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
            assert len(answer.headers.getall("Content-Security-Policy")) == 1, path
