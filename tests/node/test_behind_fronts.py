"""The same answers bare, behind nginx, behind nginx that sends the bytes itself, and behind caddy: with the programs."""

import asyncio
import contextlib
import io
import itertools
import re
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from conftest import ROOT
from front_world import ODD_NAMES, Fronts, front, node_for_fronts, program
from yarl import URL

from cas.ids import ContentId
from node.folder import NodeFolder
from node.web.limits import LIMITS
from node.web.rates import Counter, Rates

pytestmark = [pytest.mark.peer, pytest.mark.timeout(900)]
KINDS = [
    "nginx", "accel",
    pytest.param("caddy", marks=pytest.mark.skipif(program("caddy") is None, reason="caddy: pip install 'vasculum[peers]'")),
]  # fmt: skip
PRIVATE = """
[[sources.collection.rules]]
field = "country"
match = "Privatia"
access = "private"
"""


@pytest.fixture
async def fronts(make_node: Callable[..., NodeFolder], tmp_path: Path) -> AsyncIterator[Fronts]:
    async with node_for_fronts(make_node(settings=PRIVATE), tmp_path) as found:
        yield found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as found:
        yield found


COMPARED = (
    "ETag", "Content-Range", "Accept-Ranges", "Repr-Digest", "Content-Type", "Content-Length", "Content-Disposition",
    "Cache-Control", "Link", "Vary", "Location", "Content-Security-Policy", "X-Content-Type-Options", "Last-Modified",
    "Access-Control-Allow-Origin", "Referrer-Policy", "Cross-Origin-Opener-Policy", "Content-Encoding", "Retry-After",
    "X-Accel-Redirect", "X-Node-Cache-Control", "Allow",
)  # fmt: skip
DATE = "Tue, 24 Nov 2026 12:00:00 GMT"
HEADERS: tuple[dict[str, str], ...] = (
    {}, {"Range": "bytes=0-99"}, {"Range": "bytes=0-0"}, {"Range": "bytes=1000-"}, {"Range": "bytes=-77"}, {"Range": "bytes=-99999999"},
    {"Range": "bytes=500000-900000"}, {"Range": "bytes=9999999-"}, {"Range": "bytes=5-2"}, {"Range": "bytes=-0"}, {"Range": "bytes=-"},
    {"Range": "bytes=0-1,5-6"}, {"Range": "bytes=0-1, 5-6"}, {"Range": "lines=0-1"}, {"Range": "Bytes=0-1"}, {"Range": "bytes= 0-1"},
    {"Range": "nonsense"}, {"Range": "bytes=99999999999999999999-"}, {"If-None-Match": "TAG"}, {"If-None-Match": "W/TAG"},
    {"If-None-Match": '"other"'}, {"If-None-Match": "*"}, {"If-Match": '"x"'}, {"If-Match": "TAG"}, {"If-Match": "*"},
    {"Range": "bytes=0-9", "If-Range": "TAG"}, {"Range": "bytes=0-9", "If-Range": '"other"'}, {"Range": "bytes=0-9", "If-Range": DATE},
    {"If-Modified-Since": DATE}, {"If-Unmodified-Since": "Mon, 24 Nov 1980 12:00:00 GMT"}, {"Accept-Encoding": "gzip, br"},
)  # fmt: skip


async def answer(
    session: aiohttp.ClientSession, origin: str, path: str, headers: dict[str, str], method: str = "GET", **more: object
) -> tuple[int, dict[str, list[str]], bytes]:
    url = URL(origin + path, encoded=True)
    async with session.request(method, url, headers=headers, allow_redirects=False, **more) as found:  # type: ignore[arg-type]
        kept = {name: found.headers.getall(name) for name in COMPARED if name in found.headers}
        return found.status, kept, await found.read()


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_are_answered_as_by_the_bare_node(
    fronts: Fronts, session: aiohttp.ClientSession, kind: str
) -> None:
    async with front(fronts, kind) as origin:
        for name, method, headers in itertools.product(("small", "large", "owned"), ("GET", "HEAD"), HEADERS):
            hex_ = fronts.images[name]
            sent = {key: value.replace("TAG", f'"sha256-{hex_}"') for key, value in headers.items()}
            path = f"/cas/sha256/{hex_}"
            bare = await answer(session, fronts.bare, path, sent, method)
            assert await answer(session, origin, path, sent, method) == bare, (name, method, sent)
        assert bool(fronts.handed_over) == (kind == "accel")


@pytest.mark.parametrize("kind", KINDS)
async def test_everything_else_is_answered_as_by_the_bare_node(
    fronts: Fronts, session: aiohttp.ClientSession, kind: str
) -> None:
    hex_ = fronts.images["small"]
    withdrawn = ContentId.of(b"never here").hex
    paths = (
        "/", "/changes", "/search?q=planta", "/nope", "/specimen?id=urn:x:1", "/robots.txt", "/policy", "/login", "/jobs", "/processes",
        "/staff/jobs", f"/cas/sha256/{withdrawn}", "/cas/sha256/xyz", f"/cas/sha256/{fronts.images['restricted']}",
        f"/cas/sha256/{fronts.images['private']}", f"/{hex_.upper()}", f"/hash://sha256/{hex_}", "/.well-known/vasculum/node.json",
        f"/cas/sha256/sha256:{hex_}", "/_o/ab/cd/x", "/_v/collection/images/0.jpg", "/_v/", "/%2e%2e/x", "/a//b", "/specimen/%00",
    )  # fmt: skip
    async with front(fronts, kind) as origin:
        for path, method in itertools.product(paths, ("GET", "HEAD")):
            for headers in ({}, {"Accept": "text/html"}, {"Range": "bytes=0-5"}):
                bare = await answer(session, fronts.bare, path, headers, method)
                found = await answer(session, origin, path, headers, method)
                if kind != "caddy" and path in ("/specimen/%00", "/%2e%2e/x") and found[0] == 400:
                    continue  # nginx refuses these itself
                assert found == bare, (path, method, headers)
        for method in ("POST", "PUT", "DELETE"):
            bare = await answer(session, fronts.bare, "/changes", {}, method, data=b"x")
            assert await answer(session, origin, "/changes", {}, method, data=b"x") == bare, method
        large = io.BytesIO(b"x" * (fronts.node.settings.server.max_body_bytes + 1))
        assert (await answer(session, origin, "/processes/label-text/execution", {}, "POST", data=large))[0] in (
            400,
            413,
        )


async def test_nginx_sends_files_with_odd_names(fronts: Fronts, session: aiohttp.ClientSession) -> None:
    async with front(fronts, "accel") as origin:
        for name in (*ODD_NAMES, "owned", "small"):
            path = f"/cas/sha256/{fronts.images[name]}"
            bare = await answer(session, fronts.bare, path, {})
            fronts.handed_over.clear()
            found = await answer(session, origin, path, {})
            assert found == bare, name
            assert found[2] == fronts.data[name]
            (place,) = fronts.handed_over
            assert place.isascii()
            assert place.startswith("/_o/" if name == "owned" else "/_v/")
        log = next(fronts.folder.glob("front-accel-*/error.log")).read_text()
        assert "[error]" not in log, "nothing went the second way: nginx itself found every file"


async def test_what_nginx_cannot_read_the_node_sends(fronts: Fronts, session: aiohttp.ClientSession) -> None:
    """A link that stays inside the volume is fine for the node; nginx follows none."""
    images = fronts.folder / "a" / "images"
    path = f"/cas/sha256/{fronts.images['small']}"
    (images / "0.jpg").rename(images / "real.jpg")
    (images / "0.jpg").symlink_to("real.jpg")
    bare = await answer(session, fronts.bare, path, {})
    assert bare[0] == 200
    async with front(fronts, "accel") as origin:
        assert await answer(session, origin, path, {}) == bare
        assert await answer(session, origin, path, {"Range": "bytes=1-5"}) == await answer(
            session, fronts.bare, path, {"Range": "bytes=1-5"}
        )
        (images / "real.jpg").write_bytes(bytes(len(fronts.data["small"])))
        bare = await answer(session, fronts.bare, path, {})
        assert bare[0] == 404
        assert await answer(session, origin, path, {}) == bare
    assert fronts.handed_over
    log = next(fronts.folder.glob("front-accel-*/error.log")).read_text()
    assert "[error]" in log


async def test_a_changed_file_is_never_named(fronts: Fronts, session: aiohttp.ClientSession) -> None:
    path = f"/cas/sha256/{fronts.images['small']}"
    async with front(fronts, "accel") as origin:
        assert (await answer(session, origin, path, {}))[0] == 200
        file = fronts.folder / "a" / "images" / "0.jpg"
        file.write_bytes(bytes(len(fronts.data["small"])))
        fronts.handed_over.clear()
        assert (await answer(session, origin, path, {}))[0] == 404
        assert fronts.handed_over == []


async def test_a_stranger_cannot_make_the_node_or_the_front_believe_anything(
    fronts: Fronts, session: aiohttp.ClientSession
) -> None:
    path = f"/cas/sha256/{fronts.images['small']}"
    restricted = f"/cas/sha256/{fronts.images['restricted']}"
    private = f"/_v/collection/images/{list(fronts.images).index('private')}.jpg"
    hostile = {
        "X-Node-Accel": "nginx", "X-Nginx-Accel": "nginx", "X-Accel-Redirect": private, "X-Sendfile": "/etc/passwd",
        "X-Accel-Buffering": "no", "X-Accel-Charset": "x", "X-Forwarded-For": "6.6.6.6",
    }  # fmt: skip
    for kind in ("nginx", "accel", *(("caddy",) if program("caddy") else ())):
        async with front(fronts, kind) as origin:
            seen: list[tuple[str, str] | None] = []
            limits = fronts.app[LIMITS]
            visitor = limits.visitor
            with contextlib.ExitStack() as stack:
                limits.visitor = lambda request, visitor=visitor, seen=seen: seen.append(visitor(request)) or seen[-1]
                stack.callback(lambda limits=limits: limits.__dict__.pop("visitor"))
                fronts.handed_over.clear()
                status, headers, body = await answer(session, origin, path, hostile)
                assert (status, body) == (200, fronts.data["small"])
                assert "X-Accel-Redirect" not in headers
                assert all(private not in place for place in fronts.handed_over)
                assert bool(fronts.handed_over) == (kind == "accel"), "only the front announces itself"
                assert (await answer(session, origin, restricted, hostile))[0] == 403
                assert (await answer(session, origin, private, hostile))[0] == 404
            assert seen
            assert all(item is None or "6.6.6.6" not in item[0] for item in seen), "the front overwrites it"


async def test_limits_of_bytes_count_what_nginx_sends(
    fronts: Fronts, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = fronts.app[LIMITS]._everybody
    ended: list[int] = []
    end = Rates.end

    def watched(self: Rates, counter: Counter, now: float, sent_bytes: int) -> None:
        if counter is everybody:
            ended.append(sent_bytes)
        end(self, counter, now, sent_bytes)

    monkeypatch.setattr(Rates, "end", watched)
    async with front(fronts, "accel") as origin:
        path = f"/cas/sha256/{fronts.images['large']}"
        assert len((await answer(session, origin, path, {}))[2]) == len(fronts.data["large"])
        assert (await answer(session, origin, path, {"Range": "bytes=10-29"}))[0] == 206
    assert len(fronts.handed_over) == 2
    assert ended == [len(fronts.data["large"]), 20]
    assert everybody.running == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_curl_commands_of_the_page_run(fronts: Fronts) -> None:
    """docs/how-to-proxy.md, against nginx that sends the images; what the page shows below a command is what comes."""
    text = (ROOT / "docs" / "how-to-proxy.md").read_text("utf-8")
    lines = re.findall(r"^\$ (curl .*)\n(.*)$", text, re.MULTILINE)
    assert len(lines) == 4
    async with front(fronts, "accel") as origin:
        for line, shown in lines:
            command = line.replace("https://images.example.org", origin).replace("ID", fronts.images["large"])
            run = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
            out = (await run.communicate())[0].decode()
            assert run.returncode == 0
            if "sha256sum" in line:
                assert out.split()[0] == fronts.images["large"]
            elif "-D -" in line:
                assert "X-Accel-Redirect" not in out
                assert " 200" in out.splitlines()[0]
            else:
                assert out.strip() == shown
