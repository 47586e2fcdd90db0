"""Who may cause a fetch over HTTP, what is answered meanwhile, and what a job counts."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from remote_world import ON_NEED, Clock, Elsewhere, elsewhere, ingest_urls, media_of, medium_rows

from cas.errors import BlobNotFound
from cas.ids import ContentId
from linkeddata.selection import parse_where
from node.access import Viewer
from node.app import build_application
from node.folder import NodeFolder
from node.services.remote_needs import MOST_WANTED_ANONYMOUS, RemoteNeeds
from node.storage.jobs import NO_IMAGE, NOT_FETCHED
from node.storage.search_media import select_media
from node.web.blobs import WARM
from node.web.keys import ENGINE, REMOTE
from node.web.session import make_token
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
ANYBODY = ON_NEED + "anonymous_may_fetch = true\n"


@pytest.fixture
def server() -> Iterator[Elsewhere]:
    with elsewhere() as found:
        yield found


@asynccontextmanager
async def serving(node: NodeFolder) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        yield client


async def staff(node: NodeFolder, client: TestClient) -> dict[str, str]:  # type: ignore[type-arg]
    with node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    answer = await client.post(
        "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
    )
    return {"Cookie": f"vasculum_staff={answer.cookies['vasculum_staff'].value}"}


async def fetched(client: TestClient, node: NodeFolder) -> None:  # type: ignore[type-arg]
    """Until the line is empty: the threads of the node and we work it off together."""
    remote = client.server.app[REMOTE]  # type: ignore[attr-defined]
    while remote.bytes.usage().waiting:
        await asyncio.to_thread(list, remote.work_off_line(is_over=lambda: False))


async def test_a_stranger_is_told_where_the_image_lies_and_causes_nothing(
    make_node: Make, server: Elsewhere, tmp_path: Path
) -> None:
    node = make_node(settings=ON_NEED)
    url = server.hold("/1.jpg", jpeg(1))
    ingest_urls(node, tmp_path / "a", [url])
    path = str(medium_rows(node)[0]["iri"]).removeprefix(node.settings.origin)
    async with serving(node) as client:
        answer = await client.get(f"{path}/preview.jpg")
        assert answer.status == 404
        document = await answer.json()
        assert document["type"] == "/problems/elsewhere"
        assert url in document["detail"]
        page = await (await client.get(path, headers={"Accept": "text/html"})).text()
        assert f'href="{url}"' in page
        assert "Fetch it" not in page
        for shown in ("/", "/search"):
            assert "preview.jpg" not in await (await client.get(shown, headers={"Accept": "text/html"})).text()
    assert server.asked == []
    assert media_of(node, Clock()).bytes.usage().waiting == 0


@pytest.mark.parametrize("who", ["staff", "anybody"])
async def test_first_need_is_answered_by_come_again_and_then_by_the_image(
    make_node: Make, server: Elsewhere, tmp_path: Path, who: str
) -> None:
    node = make_node(settings=ON_NEED if who == "staff" else ANYBODY)
    image = jpeg(1)
    url = server.hold("/1.jpg", image)
    ingest_urls(node, tmp_path / "a", [url])
    path = str(medium_rows(node)[0]["iri"]).removeprefix(node.settings.origin)
    async with serving(node) as client:
        headers = await staff(node, client) if who == "staff" else {}
        page = await (await client.get(path, headers={"Accept": "text/html", **headers})).text()
        assert "Fetch it" in page
        answer = await client.get(f"{path}/preview.jpg", headers=headers)
        assert answer.status == 202
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Cache-Control"] == "no-store"
        assert (await answer.json())["type"] == "/problems/being-fetched"
        await fetched(client, node)
        assert (await client.get(f"{path}/preview.jpg", headers=headers)).status == 200
        cas = f"/cas/sha256/{ContentId.of(image).hex}"
        assert await (await client.get(cas)).read() == image
        # The copy goes; the id stays, and the bytes come back by it.
        remote = client.server.app[REMOTE]  # type: ignore[attr-defined]
        assert remote.bytes.make_room(1, 1, is_needed=lambda _: False)
        answer = await client.get(cas, headers=headers)
        if who == "staff":
            assert answer.status == 202
        else:
            assert (answer.status, (await answer.json())["type"]) == (503, "/problems/busy"), "once an hour"
            remote.bytes.want(url, now=NOW, most=10)
        await fetched(client, node)
        assert await (await client.get(cas)).read() == image
    assert server.paths() == ["/1.jpg", "/1.jpg"]


@pytest.mark.parametrize("may_fetch", [False, True])
async def test_a_manifest_offers_no_picture_that_no_visitor_can_have(
    make_node: Make, server: Elsewhere, tmp_path: Path, may_fetch: bool
) -> None:
    node = make_node(settings=ANYBODY if may_fetch else ON_NEED)
    image = jpeg(1)
    ingest_urls(node, tmp_path / "a", [server.hold("/1.jpg", image)])
    picture = f"/iiif/3/{ContentId.of(image).hex}"
    with node.database.reader() as conn:
        specimen = conn.execute("SELECT iri FROM record WHERE kind = 'specimen'").fetchone()["iri"].rpartition("/")[2]
    paths = [f"/iiif/presentation/3/specimen/{specimen}/manifest", f"/iiif/presentation/3/collection/{specimen}"]
    async with serving(node) as client:
        headers = await staff(node, client)
        path = str(medium_rows(node)[0]["iri"]).removeprefix(node.settings.origin)
        await client.get(f"{path}/preview.jpg", headers=headers)
        await fetched(client, node)
        for where in paths:
            assert picture in await (await client.get(where)).text()
        client.server.app[REMOTE].bytes.make_room(1, 1, is_needed=lambda _: False)  # type: ignore[attr-defined]
        said = [await (await client.get(where)).text() for where in paths]
        assert [picture in text for text in said] == [may_fetch, may_fetch]
        assert ("no copy of it is here" in said[0]) is not may_fetch
        assert json.loads(said[0])["items"][0]["width"] == 64, "the canvas stays"
        if not may_fetch:
            assert json.loads(said[0])["items"][0]["items"] == []


async def test_remote_bytes_are_not_answered_from_memory_so_that_their_use_is_seen(
    make_node: Make, server: Elsewhere, tmp_path: Path
) -> None:
    node = make_node(settings=ON_NEED)
    far, here = jpeg(1), jpeg(2)
    url = server.hold("/1.jpg", far)
    ingest_urls(node, tmp_path / "a", [url])
    ingest(node, write_archive(tmp_path / "b", rows_of(1, start=5), images=lambda _: here))
    await asyncio.to_thread(list, media_of(node, Clock()).work([url]))
    async with serving(node) as client:
        warm = client.server.app[WARM]  # type: ignore[attr-defined]
        for image in (far, here):
            assert await (await client.get(f"/cas/sha256/{ContentId.of(image).hex}")).read() == image
        assert warm.find(ContentId.of(here).hex) is not None
        assert warm.find(ContentId.of(far).hex) is None
        later = NOW + timedelta(hours=3)
        assert client.server.app[REMOTE].bytes.note_use(ContentId.of(far), now=later)  # type: ignore[attr-defined]


async def test_an_id_whose_bytes_the_source_replaced_is_gone_with_the_reason(
    make_node: Make, server: Elsewhere, tmp_path: Path
) -> None:
    node = make_node(settings=ON_NEED)
    old, new = jpeg(1), jpeg(2)
    url = server.hold("/1.jpg", old)
    ingest_urls(node, tmp_path / "a", [url])
    media = media_of(node, Clock())

    def happen() -> None:
        list(media.work([url]))
        media.bytes.make_room(1, 1, is_needed=lambda _: False)
        server.hold("/1.jpg", new)
        assert [item.kind for item in media.work([url])] == ["replaced"]

    await asyncio.to_thread(happen)
    async with serving(node) as client:
        answer = await client.get(f"/cas/sha256/{ContentId.of(old).hex}")
        assert answer.status == 410
        assert "the source now holds other bytes" in (await answer.json())["detail"].lower()
        assert await (await client.get(f"/cas/sha256/{ContentId.of(new).hex}")).read() == new


@pytest.mark.parametrize(("access", "status"), [("restricted", 403), ("private", 404)])
async def test_a_stranger_gets_nothing_of_a_closed_image_and_causes_no_fetch(
    make_node: Make, server: Elsewhere, tmp_path: Path, access: str, status: int
) -> None:
    node = make_node(settings=ANYBODY.replace("[remote]", f'access = "{access}"\n[remote]'))
    image = jpeg(1)
    url = server.hold("/1.jpg", image)
    ingest_urls(node, tmp_path / "a", [url])
    path = str(medium_rows(node)[0]["iri"]).removeprefix(node.settings.origin)
    cas = f"/cas/sha256/{ContentId.of(image).hex}"
    remote = media_of(node, Clock())
    async with serving(node) as client:
        assert (await client.get(f"{path}/preview.jpg")).status == status
        assert remote.bytes.usage().waiting == 0
        assert server.asked == []
        await asyncio.to_thread(list, remote.work([url]))
        for place in (f"{path}/preview.jpg", cas, f"/ipfs/{ContentId.of(image).to_cid()}?format=raw"):
            answer = await client.get(place)
            assert answer.status in (403, 404)
            assert image[100:160] not in await answer.read()
        remote.bytes.make_room(1, 1, is_needed=lambda _: False)
        for place in (f"{path}/preview.jpg", cas):
            answer = await client.get(place)
            assert answer.status == status
            assert url not in await answer.text()
        assert remote.bytes.usage().waiting == 0
    assert len(server.asked) == 1


def test_the_line_is_short_for_strangers_and_a_failed_address_is_left_alone(
    make_node: Make, server: Elsewhere, tmp_path: Path
) -> None:
    node = make_node(settings=ANYBODY)
    urls = [server.url(f"/{number}.jpg") for number in range(MOST_WANTED_ANONYMOUS + 2)]
    ingest_urls(node, tmp_path / "a", urls)
    clock = Clock()
    media = media_of(node, clock)
    needs = RemoteNeeds(node.settings, node.database, media, clock=clock)
    iris = [str(row["iri"]) for row in medium_rows(node)]
    kinds = [need.kind for iri in iris if (need := needs.of_medium(iri, is_staff=False)) is not None]
    assert (kinds.count("being-fetched"), kinds.count("busy")) == (MOST_WANTED_ANONYMOUS, 2)
    again = [need.kind for iri in iris if (need := needs.of_medium(iri, is_staff=False)) is not None]
    assert again == kinds, "to ask again adds nothing"
    last = needs.of_medium(iris[-1], is_staff=True)
    assert last is not None
    assert last.kind == "being-fetched"
    assert next(media.work_off_line(is_over=lambda: False)).kind == "failed"
    failed = needs.of_medium(str(medium_rows(node)[0]["iri"]), is_staff=True)
    assert failed is not None
    assert (failed.kind, failed.retry_after_s) == ("not-fetched", 86_401)
    assert "answered 404" in failed.detail
    clock.later(days=1)
    retried = needs.of_medium(str(medium_rows(node)[0]["iri"]), is_staff=True)
    assert retried is not None
    assert retried.kind == "being-fetched"


def test_a_selection_counts_what_was_never_fetched(make_node: Make, server: Elsewhere, tmp_path: Path) -> None:
    node = make_node(settings=ON_NEED)
    urls = [server.hold(f"/{number}.jpg", jpeg(number)) for number in range(2)]
    ingest_urls(node, tmp_path / "a", urls)
    media = media_of(node, Clock())
    assert media.fetch(urls[0]).kind == "fetched"
    with node.database.reader() as conn:
        chosen = select_media(conn, parse_where("kingdom=Plantae"), Viewer(kid="x"))
        some = select_media(conn, parse_where("hasImage=true"), Viewer(kid="x"))
    assert sorted(item.image for item in chosen) == sorted(["", ContentId.of(jpeg(0)).hex])
    assert len(some) == 2
    needs = RemoteNeeds(node.settings, node.database, media, clock=Clock())
    assert needs.of_job([item.medium for item in chosen if not item.image]) == 1
    assert media.bytes.wanted(NOW + timedelta(seconds=1), 10) == [urls[1]]
    assert [item.kind for item in media.work_off_line(is_over=lambda: False)] == ["fetched"]
    assert (len(NO_IMAGE), "vasculum" in NOT_FETCHED) == (64, False)


async def test_a_job_brings_back_what_went_to_make_room_and_waits_for_it(
    make_node: Make, server: Elsewhere, tmp_path: Path
) -> None:
    """Also of a restricted image, which is fetched for jobs and handed to nobody."""
    node = make_node(settings=ON_NEED.replace("[remote]", 'access = "restricted"\n[remote]'))
    old, new = jpeg(1), jpeg(2)
    url = server.hold("/1.jpg", old)
    ingest_urls(node, tmp_path / "a", [url])
    media = media_of(node, Clock())
    await asyncio.to_thread(list, media.work([url]))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    open_image = app[ENGINE]._hooks.open_image
    media.bytes.make_room(1, 1, is_needed=lambda _: False)
    with await asyncio.to_thread(open_image, ContentId.of(old).hex) as image:
        assert image.size == len(old)
    media.bytes.make_room(1, 1, is_needed=lambda _: False)
    server.hold("/1.jpg", new)
    with pytest.raises(BlobNotFound):
        await asyncio.to_thread(open_image, ContentId.of(old).hex)
    assert medium_rows(node)[0]["image"] == ContentId.of(new).hex, "the change was noticed, and nothing was swapped"
