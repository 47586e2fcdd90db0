"""Every route of the application, asked by a stranger about things that must not be seen.

A route that is not in the table below fails the test: whoever adds one says here how it is asked.
"""

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import NOW
from PIL import Image
from redact_world import REDACTED, approve, derivative_of, keep, pixels, settle, text_of
from web_world import KINDS, READ_HIDDEN, READ_OPEN, SECRET_PLACE, World, serving
from web_world import SETTINGS as WORLD_SETTINGS

from cas.ids import ContentId
from linkeddata.times import format_time
from node.folder import NodeFolder
from node.storage.search_index import reindex
from node.web.session import Sessions, make_token, redeem_token

Make = Callable[..., NodeFolder]


@pytest.fixture
async def world(make_node: Make, tmp_path: Path) -> AsyncIterator[World]:
    async with serving(make_node(settings=WORLD_SETTINGS), tmp_path / "archive") as found:
        yield found


def last(iri: str) -> str:
    return iri.rsplit("/", 1)[1]


ROUTES: dict[str, Callable[[World, str], list[str]]] = {
    "/": lambda w, k: ["/"],
    "/static/{name}": lambda w, k: ["/static/vasculum.css", "/static/../node.sqlite", "/static/nope"],
    "/policy": lambda w, k: ["/policy"],
    "/login": lambda w, k: ["/login"],
    "/logout": lambda w, k: [],
    "/robots.txt": lambda w, k: ["/robots.txt"],
    "/healthz": lambda w, k: ["/healthz"],
    "/readyz": lambda w, k: ["/readyz"],
    "/cas/sha256/{hex}": lambda w, k: [f"/cas/sha256/{w.images[k]}"],
    "/{hex:[0-9a-fA-F]{64}}": lambda w, k: [f"/{w.images[k]}"],
    "/hash://sha256/{hex:[0-9a-f]{64}}": lambda w, k: [f"/hash://sha256/{w.images[k]}"],
    "/hash:/sha256/{hex:[0-9a-f]{64}}": lambda w, k: [f"/hash:/sha256/{w.images[k]}"],
    "/.well-known/ni/sha-256/{value}": lambda w, k: [
        "/.well-known/ni/sha-256/" + ContentId.from_hex(w.images[k]).to_ni().rpartition(";")[2]
    ],
    "/ipfs/{cid}": lambda w, k: [f"/ipfs/{ContentId.from_hex(w.images[k]).to_cid()}?format={form}" for form in ("raw", "car")],
    "/ipfs/{cid}/{path:.*}": lambda w, k: [f"/ipfs/{ContentId.from_hex(w.images[k]).to_cid()}/x"],
    "/routing/v1/providers/{cid}": lambda w, k: [f"/routing/v1/providers/{ContentId.from_hex(w.images[k]).to_cid()}"],
    "/iiif/3/{path:.*}": lambda w, k: [f"/iiif/3/{w.images[k]}{rest}" for rest in (
        "", "/info.json", "/full/max/0/default.jpg", "/full/!40,40/0/default.png", "/0,0,8,8/max/0/default.webp", "/full/max/0/default.tif")],
    "/specimen": lambda w, k: [f"/specimen?id={KINDS.index(k)}", f"/specimen?id=urn:x:{KINDS.index(k)}", f"/specimen?id={w.specimens[k]}"],
    "/specimen/{id:[a-z2-7]{16}}": lambda w, k: [f"/specimen/{last(w.specimens[k])}", f"/specimen/{last(w.specimens[k])}?version=1"],
    "/media/sha256/{hex:[0-9a-f]{64}}": lambda w, k: [f"/media/sha256/{w.images[k]}"],
    "/media/{id:[a-z2-7]{16}}": lambda w, k: [f"/media/{last(w.media[k])}", f"/media/{last(w.media[k])}?version=1"],
    "/media/{id:[a-z2-7]{16}}/preview.jpg": lambda w, k: [f"/media/{last(w.media[k])}/preview.jpg"],
    "/annotation/{id:[a-z2-7]{16,64}}": lambda w, k: [f"/annotation/{last(w.annotations.get(k, 'x/' + 'z' * 16))}"],
    "/iiif/presentation/3/specimen/{id:[a-z2-7]{16}}/manifest": lambda w, k: [f"/iiif/presentation/3/specimen/{last(w.specimens[k])}/manifest"],
    "/iiif/presentation/3/specimen/{id:[a-z2-7]{16}}/canvas/{medium:[a-z2-7]{16}}": lambda w, k: [
        f"/iiif/presentation/3/specimen/{last(w.specimens[k])}/canvas/{last(w.media[k])}"
    ],
    "/iiif/presentation/3/specimen/{id:[a-z2-7]{16}}/canvas/{medium:[a-z2-7]{16}}/annotations": lambda w, k: [
        f"/iiif/presentation/3/specimen/{last(w.specimens[k])}/canvas/{last(w.media[k])}/annotations"
    ],
    "/iiif/presentation/3/collection": lambda w, k: ["/iiif/presentation/3/collection"],
    "/iiif/presentation/3/collection/{prefix:[a-z2-7]{1,16}}": lambda w, k: [
        f"/iiif/presentation/3/collection/{last(w.specimens[k])[:size]}" for size in (1, 16)
    ],
    "/iiif/search/2/specimen/{id:[a-z2-7]{16}}": lambda w, k: [
        f"/iiif/search/2/specimen/{last(w.specimens[k])}{query}" for query in ("", "?q=word", "?q=label&motivation=supplementing")
    ],
    "/search": lambda w, k: ["/search", f"/search?catalogNumber=X-{KINDS.index(k)}", f"/search?q={READ_HIDDEN}", f"/search?q={SECRET_PLACE}",
                             f"/search?occurrenceId=urn:x:{KINDS.index(k)}", "/search?country=Privatia", "/search?limit=200", "/search?format=csv", "/search?format=jsonld&limit=200", "/search?covers=true&facet=country&facet=locality&facet=catalogNumber",
                             f"/search?q={READ_HIDDEN}&sort=relevance&format=json", "/search?localAccess=private", "/search?annotation.class=label-text",
                             f"/search?annotation.text~{READ_HIDDEN}&format=json", "/search?geometry=POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))"],
    "/similar": lambda w, k: [f"/similar?id={wanted}" for wanted in (
        w.images[k], w.media[k], w.specimens[k], f"/media/{last(w.media[k])}", f"hash://sha256/{w.images[k]}", "nothing", f"{w.images[k]}&box=1,1,5,5")] + ["/similar"],
    "/changes": lambda w, k: ["/changes?since=0&limit=1000"],
    "/conformance": lambda w, k: ["/conformance"],
    "/processes": lambda w, k: ["/processes"],
    "/processes/{process}": lambda w, k: ["/processes/label-text"],
    "/processes/{process}/execution": lambda w, k: [],
    "/jobs": lambda w, k: ["/jobs"],
    "/jobs/{job}": lambda w, k: ["/jobs/" + "0" * 32],
    "/jobs/{job}/results": lambda w, k: ["/jobs/" + "0" * 32 + "/results"],
    "/jobs/{job}/specification": lambda w, k: ["/jobs/" + "0" * 32 + "/specification"],
    "/.well-known/vasculum/node.json": lambda w, k: ["/.well-known/vasculum/node.json"],
    "/review": lambda w, k: ["/review", "/review?state=accepted", "/review?sample=1"],
    "/review/{id:[a-z2-7]{16,64}}": lambda w, k: [f"/review/{last(w.annotations.get(k, 'x/' + 'z' * 16))}"],
    "/staff/jobs": lambda w, k: ["/staff/jobs"],
    "/staff/jobs/{job}": lambda w, k: ["/staff/jobs/" + "0" * 32],
}  # fmt: skip
"""Canonical path -> how it is asked about one kind of specimen."""
ACCEPTS = ("application/ld+json", "text/html", "*/*")


async def test_the_table_knows_every_route(world: World) -> None:
    served = {resource.canonical for resource in world.client.server.app.router.resources()}  # type: ignore[attr-defined]
    patterns = {
        (resource.get_info().get("path") or resource.get_info()["formatter"])
        for resource in world.client.server.app.router.resources()  # type: ignore[attr-defined]
    }
    known = {_plain(path) for path in ROUTES}
    assert served == known, f"say in ROUTES how to ask {served ^ known} ({len(patterns)} routes)"


def _plain(path: str) -> str:
    import re

    return re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}", r"{\1}", path)


@pytest.mark.parametrize("kind", ["restricted", "private", "sensitive", "shared-open", "shared-private"])
async def test_no_route_gives_a_stranger_what_must_stay(world: World, kind: str) -> None:
    file = world.files[kind]
    for ask in ROUTES.values():
        for path in ask(world, kind):
            for accept in ACCEPTS:
                answer = await world.client.get(path, headers={"Accept": accept}, allow_redirects=False)
                body = await answer.read()
                where = f"{path} ({accept}) -> {answer.status}"
                assert answer.status < 500, where
                assert file[100:160] not in body, f"bytes of the image: {where}"
                assert base64.b64encode(file[99:159])[:40] not in body, f"encoded bytes: {where}"
                text = body.decode("utf-8", "replace")
                assert SECRET_PLACE not in text.replace(path.split("q=")[-1], ""), f"the place: {where}"
                assert "47.1234" not in text, f"coordinates: {where}"
                if not path.startswith("/search?q="):
                    assert READ_HIDDEN not in text, f"text read from the image: {where}"
                else:
                    assert READ_HIDDEN not in text.replace(READ_HIDDEN, "", text.count(f"q={READ_HIDDEN}") + 2), where
                if path.startswith("/iiif/3/"):
                    assert answer.status in (303, 400, 403, 404), where
                    assert answer.content_type not in ("image/jpeg", "image/png", "image/webp"), where
                if path.endswith("preview.jpg") or path.startswith("/cas/"):
                    assert answer.status in (403, 404), where


async def test_small_shows_sensitive_images_in_that_size_only_and_nothing_that_was_read(
    make_node: Make, tmp_path: Path
) -> None:
    """``sensitive_images = "small"``: the same questions; what comes as a picture is no larger, and no text comes."""
    limit, pictures = 16, 0
    small = f'{WORLD_SETTINGS}[images]\nsensitive_images = "small"\nsensitive_px = {limit}\n'
    async with serving(make_node(settings=small), tmp_path / "archive") as world:
        file = world.files["sensitive"]
        for ask in ROUTES.values():
            for path in ask(world, "sensitive"):
                for accept in ACCEPTS:
                    answer = await world.client.get(path, headers={"Accept": accept}, allow_redirects=False)
                    body, where = await answer.read(), f"{path} ({accept}) -> {answer.status}"
                    assert file[100:160] not in body, where
                    text = body.decode("utf-8", "replace").replace(path.split("q=")[-1], "")
                    for word in (SECRET_PLACE, "47.1234", READ_HIDDEN, "xywh=pixel"):
                        assert word not in text, f"{word}: {where}"
                    if answer.content_type.startswith("image/") and answer.content_type != "image/svg+xml":
                        with Image.open(io.BytesIO(body)) as image:
                            assert max(image.size) <= limit, where
                        pictures += 1
                    if path.endswith("info.json"):
                        said = json.loads(body)
                        assert max(said["width"], said["height"]) == limit
                        assert max(item["width"] for item in said["sizes"]) <= limit
                        assert answer.headers["Cache-Control"] == "private, no-store"
                    if path.endswith("preview.jpg") or path.startswith(("/cas/", "/ipfs/")):
                        assert answer.status in (403, 404), where
        restricted = await world.client.get(f"/iiif/3/{world.images['restricted']}/info.json")
        assert restricted.status == 403, "what is restricted for another reason is not meant"
    assert pictures >= 3


async def test_redacted_gives_out_the_covered_picture_only_and_nothing_that_was_read(
    make_node: Make, tmp_path: Path
) -> None:
    """``sensitive_images = "redacted"``: the same questions, about the original and about the covered picture."""
    pictures: dict[str, int] = {"original": 0, "covered": 0}
    async with serving(make_node(settings=WORLD_SETTINGS + REDACTED), tmp_path / "archive") as world:
        original, file = world.images["sensitive"], world.files["sensitive"]
        keep(world.node, original, text_of([(4, 6, 20, 10)], size=(64, 48)))
        approve(world.node, original)
        settle(world.node)
        covered = derivative_of(world.node, original)
        assert covered is not None
        for name, image in (("original", original), ("covered", covered)):
            asked = replace(world, images={**world.images, "sensitive": image})
            for ask in ROUTES.values():
                for path in ask(asked, "sensitive"):
                    for accept in ACCEPTS:
                        answer = await world.client.get(path, headers={"Accept": accept}, allow_redirects=False)
                        body, where = await answer.read(), f"{path} ({accept}) -> {answer.status}"
                        assert answer.status < 500, where
                        assert file[100:160] not in body, where
                        text = body.decode("utf-8", "replace").replace(path.split("q=")[-1], "")
                        for word in (SECRET_PLACE, "47.1234", READ_HIDDEN, "xywh=pixel"):
                            assert word not in text, f"{word}: {where}"
                        if answer.content_type.startswith("image/") and answer.content_type != "image/svg+xml":
                            shown = pixels(body)
                            height, width = shown.shape[:2]
                            assert shown[: max(1, 30 * height // 48), : max(1, 40 * width // 64)].max() <= 60, where
                            assert answer.headers["Cache-Control"] == "private, no-store", where
                            pictures[name] += 1
                        if path.startswith(("/cas/", "/iiif/3/")) and name == "original":
                            assert answer.status in (303, 400, 403), where
                        if path.startswith("/ipfs/"):
                            assert answer.status in (400, 403, 404), where
                        if path.startswith("/routing/"):
                            assert b"Addrs" not in body, where
    assert pictures["original"] == len(ACCEPTS), "the preview of its medium"
    assert pictures["covered"] >= 5 * len(ACCEPTS)


@pytest.mark.parametrize("accept", ACCEPTS)
async def test_private_is_indistinguishable_from_absent(world: World, accept: str) -> None:
    for kind in ("private", "shared-private"):
        pairs = [
            (f"/specimen/{last(world.specimens[kind])}", "/specimen/" + "a" * 16),
            (f"/media/{last(world.media[kind])}", "/media/" + "a" * 16),
            (f"/media/{last(world.media[kind])}/preview.jpg", "/media/" + "a" * 16 + "/preview.jpg"),
            (f"/cas/sha256/{world.images[kind]}", "/cas/sha256/" + "0" * 64),
            *(
                (f"/iiif/3/{world.images[kind]}/{rest}", f"/iiif/3/{'0' * 64}/{rest}")
                for rest in (
                    "info.json",
                    "full/max/0/default.jpg",
                    "0,0,8,8/max/0/gray.png",
                    "9999,0,8,8/max/0/default.jpg",
                )
            ),
            (f"/media/sha256/{world.images[kind]}", "/media/sha256/" + "0" * 64),
            (f"/specimen?id=urn:x:{KINDS.index(kind)}", "/specimen?id=urn:x:77777"),
            *(
                (
                    f"/iiif/presentation/3/specimen/{last(world.specimens[kind])}{rest}",
                    f"/iiif/presentation/3/specimen/{'a' * 16}{rest}",
                )
                for rest in (
                    "/manifest",
                    f"/canvas/{last(world.media[kind])}",
                    f"/canvas/{last(world.media[kind])}/annotations",
                )
            ),
            (f"/iiif/search/2/specimen/{last(world.specimens[kind])}?q=a", f"/iiif/search/2/specimen/{'a' * 16}?q=a"),
        ]
        for there, absent in pairs:
            answers = []
            for path in (there, absent):
                answer = await world.client.get(path, headers={"Accept": accept}, allow_redirects=False)
                headers = {name: value for name, value in answer.headers.items() if name not in ("Date", "Server")}
                answers.append((answer.status, headers, (await answer.read()).replace(path.encode(), b"")))
            assert answers[0] == answers[1], there
            assert answers[0][0] == 404


async def test_no_list_names_a_private_record(world: World) -> None:
    for path in (
        "/", "/search?limit=200", "/changes?limit=1000", "/.well-known/vasculum/node.json", "/iiif/presentation/3/collection",
    ):  # fmt: skip
        for accept in ACCEPTS:
            text = await (await world.client.get(path, headers={"Accept": accept})).text()
            for kind in ("private", "shared-private"):
                assert last(world.specimens[kind]) not in text, path
                assert last(world.media[kind]) not in text, path
            assert world.images["private"] not in text


async def test_what_is_open_is_given_out_so_that_the_tests_above_mean_something(world: World) -> None:
    assert (await (await world.client.get(f"/cas/sha256/{world.images['open']}")).read()) == world.files["open"]
    assert (await world.client.get(f"/media/{last(world.media['open'])}/preview.jpg")).status == 200
    for rest in ("info.json", "full/max/0/default.jpg", "0,0,8,8/max/0/default.webp"):
        assert (await world.client.get(f"/iiif/3/{world.images['open']}/{rest}")).status == 200
    page = await (
        await world.client.get(f"/specimen/{last(world.specimens['open'])}", headers={"Accept": "text/html"})
    ).text()
    assert READ_OPEN in page
    assert (await (await world.client.get(f"/search?q={READ_OPEN}")).json())["total"] == 1
    assert (await (await world.client.get(f"/search?q={READ_HIDDEN}")).json())["total"] == 0
    assert (await world.client.get(f"/annotation/{last(world.annotations['open'])}")).status == 200
    assert (await world.client.get(f"/annotation/{last(world.annotations['restricted'])}")).status == 404


async def cookie_of_staff(world: World) -> str:
    with world.node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    answer = await world.client.post(
        "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
    )
    return f"vasculum_staff={answer.cookies['vasculum_staff'].value}"


@pytest.mark.parametrize("kind", ["open", "restricted", "sensitive"])
async def test_results_that_are_not_published_are_for_staff_only(world: World, kind: str) -> None:
    """What a job read and nobody published stays in the journal: on no page, in no list, whatever the image's class."""
    word = "Unpublishedword"
    body = {
        "image": {"width": 64, "height": 48}, "readable": True, "doubts": [],
        "lines": [{"text": word, "score": "0.9", "box": [4, 6, 20, 10], "writing": "print"}],
    }  # fmt: skip
    with world.node.database.transaction() as conn:
        conn.execute(
            """INSERT INTO unit (work_key, output, pipeline, parameters, image, environment, state, body, created)
               VALUES ('k', 'label-text/1', 'p', '{}', ?, 'e', 'done', ?, '2026-11-24T12:00:00Z')""",
            (world.images[kind], json.dumps(body).encode()),
        )
        reindex(conn)
    for ask in ROUTES.values():
        for path in ask(world, kind):
            for accept in ACCEPTS:
                answer = await world.client.get(path, headers={"Accept": accept}, allow_redirects=False)
                assert word.encode() not in await answer.read(), path
    assert (await (await world.client.get(f"/search?q={word}")).json())["total"] == 0
    headers = {"Cookie": await cookie_of_staff(world), "Accept": "text/html"}
    page = await (await world.client.get(f"/specimen/{last(world.specimens[kind])}", headers=headers)).text()
    assert word in page
    assert "not published" in page


async def test_an_annotation_that_is_open_is_hidden_with_its_image(world: World) -> None:
    """The class of the image decides where an image became restricted and its annotation was not withdrawn yet."""
    with world.node.database.transaction() as conn:
        conn.execute("UPDATE record SET access = 0 WHERE iri = ?", (world.annotations["restricted"],))
    page = await world.client.get(f"/specimen/{last(world.specimens['restricted'])}", headers={"Accept": "text/html"})
    assert READ_HIDDEN not in await page.text()


async def test_a_session_does_nothing_for_pages_of_others(world: World) -> None:
    cookie = await cookie_of_staff(world)
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        for method, path in (("POST", "/logout"), ("DELETE", "/jobs/" + "0" * 32)):
            answer = await world.client.request(method, path, headers={"Cookie": cookie, **headers})
            assert answer.status == 403, (method, path, headers)
    assert (await world.client.get("/staff/jobs", headers={"Cookie": cookie})).status == 200, "nobody logged staff out"
    # From our own page, but without the value that only our own form holds.
    answer = await world.client.post(
        "/logout", data={"csrf": "guess"}, headers={"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status == 403
    assert (await world.client.get("/staff/jobs", headers={"Cookie": cookie})).status == 200


async def test_staff_see_their_own(world: World) -> None:
    with world.node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    # The cookie jar of the client ignores cookies of IP addresses; carry it by hand.
    answer = await world.client.post(
        "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
    )
    assert answer.status == 303
    cookie = answer.cookies["vasculum_staff"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    headers = {"Cookie": f"vasculum_staff={cookie.value}", "Accept": "text/html"}
    page = await (await world.client.get(f"/specimen/{last(world.specimens['private'])}", headers=headers)).text()
    assert SECRET_PLACE in page
    picture = await world.client.get(f"/media/{last(world.media['restricted'])}/preview.jpg", headers=headers)
    assert picture.status == 200
    assert picture.headers["Cache-Control"] == "private, no-store"
    assert (await world.client.get("/staff/jobs", headers=headers)).status == 200
    again = await world.client.post("/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"})
    assert again.status == 403


def test_a_token_and_a_session_end_by_themselves(make_node: Make) -> None:
    node, minute = make_node(), timedelta(minutes=1)
    with node.database.transaction() as conn:
        late = make_token(conn, now=NOW)
        assert redeem_token(conn, late, now=NOW + 10 * minute) is None
        good = make_token(conn, now=NOW)
        made = redeem_token(conn, good, now=NOW + 9 * minute)
        assert made is not None
        assert redeem_token(conn, good, now=NOW + 9 * minute) is None, "it works once"
        stored = [value for row in conn.execute("SELECT * FROM staff_session, staff_token") for value in row]
    assert not {made[0], good} & set(stored), "only digests are stored"
    sessions, digest = Sessions(node.database), hashlib.sha256(made[0].encode()).hexdigest()
    assert asyncio.run(sessions.csrf_of(digest, format_time(NOW + 12 * 60 * minute))) is not None
    assert asyncio.run(sessions.csrf_of(digest, format_time(NOW + (12 * 60 + 9) * minute))) is None


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {}],
)
async def test_a_form_from_elsewhere_is_refused(world: World, headers: dict[str, str]) -> None:
    with world.node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    answer = await world.client.post("/login", data={"token": token}, headers=headers, allow_redirects=False)
    assert answer.status == 403
