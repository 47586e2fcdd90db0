"""Fetching what strangers name: hostile addresses, rebinding names, redirects, and answers that do not end."""

import asyncio
import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import FetchRefused, TransportError
from federation.safe_fetch import FetchLimits, SafeFetcher, check_url, is_public_address

HOSTILE = [
    "http://images.example.org/", "ftp://images.example.org/", "file:///etc/passwd", "gopher://127.0.0.1:25/",
    "data:text/plain,x", "javascript:alert(1)", "//images.example.org/", "images.example.org", "", "https://", "https:///x",
    "https://127.0.0.1/", "https://127.1/", "https://127.0.0.1./", "https://0x7f.1/", "https://0x7f000001/", "https://2130706433/",
    "https://017700000001/", "https://0/", "https://0.0.0.0/", "https://[::]/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/", "https://[::127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[64:ff9b::8.8.8.8]/",
    "https://[2002:7f00:1::]/", "https://[2001::1]/", "https://[fc00::1]/", "https://[fe80::1]/", "https://[fe80::1%25eth0]/",
    "https://[ff02::1]/", "https://10.0.0.1/", "https://172.16.3.4/", "https://192.168.1.1/", "https://169.254.169.254/latest",
    "https://100.64.0.1/", "https://192.0.0.8/", "https://198.18.0.1/", "https://224.0.0.1/", "https://255.255.255.255/",
    "https://240.0.0.1/", "https://localhost/", "https://LOCALHOST/", "https://node.localhost/", "https://printer.local/",
    "https://metadata.google.internal/", "https://intranet/", "https://user:pass@images.example.org/", "https://[]@",
    "https://images.example.org@127.0.0.1/", "https://images.example.org:22/", "https://images.example.org:0/",
    "https://images.example.org:25/", "https://images.example.org:99999/", "https://images.example.org\\@127.0.0.1/",
    "https://images.example.org/\r\nHost: x", "https://images.example.org/ x", "https://exämple.org/", "https://%31%32%37.0.0.1/",
    "https://images.example.org/" + "x" * 3000, "https://127。0。0。1/", "https://①②⑦.0.0.1/", "https://a..example.org/",
    "http://127.0.0.1:8080/", "http://[::1]:8080/", "HTTP://127.0.0.1/", "https://127.0.0.1:8080/x",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_addresses_are_refused(url: str) -> None:
    with pytest.raises(FetchRefused):
        check_url(url, insecure_loopback=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.org/", "https://images.example.org:8443/a?b=c", "https://8.8.8.8/x", "https://[2606:4700::1]/",
        "https://xn--exmple-cua.org/%C3%A4",
    ],
)  # fmt: skip
def test_public_addresses_may_be_asked(url: str) -> None:
    assert not check_url(url, insecure_loopback=False).is_loopback


@pytest.mark.parametrize(
    "url", [item for item in HOSTILE if "127.0.0.1:8080" not in item and item != "HTTP://127.0.0.1/"]
)
def test_the_loopback_switch_opens_nothing_but_literal_loopback(url: str) -> None:
    if url == "https://127.0.0.1/":
        assert check_url(url, insecure_loopback=True).is_loopback
        return
    with pytest.raises(FetchRefused):
        check_url(url, insecure_loopback=True)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_checked_or_refused(text: str) -> None:
    for candidate in (text, f"https://{text}", f"https://{text}.example.org/", f"http://{text}/"):
        try:
            checked = check_url(candidate, insecure_loopback=True)
        except FetchRefused:
            continue
        assert checked.is_loopback or checked.url.scheme == "https"


@settings(max_examples=200, deadline=None)
@given(st.ip_addresses(v=4))
def test_an_ipv4_address_hides_in_no_ipv6_form(address) -> None:
    for prefix in ("::ffff:", "::", "64:ff9b::", "::ffff:0:"):
        assert not is_public_address(f"{prefix}{address}")


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["10.1.2.3"], ["93.184.216.34", "127.0.0.1"], ["::1"], ["fd00::1"], ["169.254.169.254"],
        ["0.0.0.0"],
        ["::ffff:10.0.0.1"], ["fe80::1%eth0"], ["nonsense"],
    ],
)  # fmt: skip
async def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(addresses: list[str]) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return addresses

    with pytest.raises(FetchRefused):
        await SafeFetcher(resolve=resolve).get("https://images.example.org/")


async def test_a_name_is_resolved_once_so_that_it_cannot_be_rebound(monkeypatch) -> None:
    asked: list[str] = []
    connected: list[tuple] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["93.184.216.34"] if len(asked) == 1 else ["127.0.0.1"]

    async def refuse(self, sock, address) -> None:
        connected.append(address)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", refuse)
    with pytest.raises(TransportError):
        await SafeFetcher(resolve=resolve).get("https://images.example.org/")
    assert asked == ["images.example.org"]
    assert {address[0] for address in connected} == {"93.184.216.34"}


async def test_an_unknown_name_is_a_transport_error() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror("unknown")

    with pytest.raises(TransportError) as caught:
        await SafeFetcher(resolve=resolve).get("https://images.example.org/")
    assert not isinstance(caught.value, FetchRefused)


def site(handler) -> TestServer:
    app = web.Application()
    app.router.add_get("/{tail:.*}", handler)
    return TestServer(app, host="127.0.0.1")


def fetcher(**limits) -> SafeFetcher:
    return SafeFetcher(limits=FetchLimits(**{"timeout_s": 120.0, **limits}), insecure_loopback=True)


async def test_a_good_answer_comes_back_whole() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        assert "Cookie" not in request.headers
        return web.Response(body=b"x" * 100_000, content_type="image/jpeg")

    async with site(handler) as server:
        fetched = await fetcher(content_types=("image/",)).get(str(server.make_url("/a")))
    assert (fetched.status, fetched.content_type, len(fetched.body)) == (200, "image/jpeg", 100_000)


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd", "gopher://127.0.0.1/", "http://169.254.169.254/latest", "https://10.0.0.1/", "https://[::1]/",
        "//169.254.169.254/", "http://localhost/", "", "https://user@example.org/", "//[]@", "x" * 3000,
    ],
)  # fmt: skip
async def test_a_redirect_is_checked_like_the_first_address(target: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target} if target else {})

    async with site(handler) as server:
        with pytest.raises(FetchRefused):
            await fetcher().get(str(server.make_url("/a")))


async def test_a_redirect_loop_ends_after_three() -> None:
    hits: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        hits.append(request.path)
        return web.Response(status=302, headers={"Location": f"/{len(hits)}"})

    async with site(handler) as server:
        with pytest.raises(FetchRefused, match="3 redirects"):
            await fetcher().get(str(server.make_url("/a")))
    assert len(hits) == 4


async def test_three_redirects_are_followed() -> None:
    async def handler(request: web.Request) -> web.Response:
        number = int(request.path[1:])
        if number < 3:
            return web.Response(status=307, headers={"Location": f"/{number + 1}"})
        return web.Response(text="there")

    async with site(handler) as server:
        assert (await fetcher().get(str(server.make_url("/0")))).body == b"there"


@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_that_is_too_large_is_cut(announced: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if announced:
            response.content_length = 10_000
        await response.prepare(request)
        try:
            for _ in range(10):
                await response.write(b"x" * 1000)
        except ConnectionError:
            pass
        return response

    async with site(handler) as server:
        with pytest.raises(TransportError, match="larger"):
            await fetcher(max_bytes=5000).get(str(server.make_url("/a")))


async def test_an_answer_that_never_ends_is_given_up() -> None:
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await release.wait()
        return response

    async with site(handler) as server:
        with pytest.raises(TransportError, match=r"(?i)answer within"):
            await fetcher(timeout_s=0.2).get(str(server.make_url("/a")))
        release.set()


async def test_a_part_comes_only_to_whom_asks_for_one_and_is_cut_like_the_whole() -> None:
    asked: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Range"))
        return web.Response(status=206, body=b"x" * int(request.query["length"]))

    server = site(handler)
    async with server:
        got = bytearray()
        few = str(server.make_url("/?length=10"))
        answer = await fetcher(max_bytes=100).stream(few, got.extend, part=(5, 10))
        assert (answer.status, bytes(got), asked) == (206, b"x" * 10, ["bytes=5-14"])
        got.clear()
        answer = await fetcher(max_bytes=100).stream(few, got.extend)
        assert (answer.status, bytes(got), asked[1]) == (206, b"", None)
        with pytest.raises(TransportError, match="larger"):
            await fetcher(max_bytes=100).stream(str(server.make_url("/?length=1000")), got.extend, part=(0, 100))
        assert len(got) <= 100


async def test_another_type_and_compression_are_refused() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/zip":
            return web.Response(body=b"x", headers={"Content-Encoding": "gzip", "Content-Type": "image/png"})
        return web.Response(text="<html>", content_type="text/html")

    async with site(handler) as server:
        for path in ("/html", "/zip"):
            with pytest.raises(FetchRefused):
                await fetcher(content_types=("image/",)).get(str(server.make_url(path)))


async def test_a_closed_port_is_a_transport_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(TransportError):
        await fetcher().get(f"http://127.0.0.1:{port}/")
