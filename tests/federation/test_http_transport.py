"""The HTTP transport: slow, endless, huge and cut-off answers are one kind of error; redirects are not followed."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from federation_world import free_port

from federation.errors import TransportError
from federation.http_transport import HttpTransport
from federation.transport import OutgoingRequest


async def ask(handler, **changes):
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    async with TestServer(app, host="127.0.0.1") as server, HttpTransport() as transport:
        return await transport.send(
            OutgoingRequest(
                **{"method": "GET", "url": str(server.make_url("/a%2Fb?c=%20")), "timeout_s": 120, **changes}
            )
        )


async def test_a_good_answer_and_the_target_exactly_as_signed() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response(text="x", status=418, headers={"X-Y": "z"})

    answer = await ask(handler)
    assert (answer.status, answer.body, answer.headers["x-y"]) == (418, b"x", "z")
    assert seen == ["/a%2Fb?c=%20"]


async def test_redirects_are_answers() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/"})

    assert (await ask(handler)).status == 302


async def test_a_slow_answer_is_given_up() -> None:
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async def asked():
        try:
            await ask(handler, timeout_s=0.2)
        finally:
            release.set()

    with pytest.raises(TransportError, match=r"within 0\.2 s"):
        await asked()


async def test_a_huge_answer_is_cut() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 10_000)

    with pytest.raises(TransportError, match="larger"):
        await ask(handler, max_bytes=5000)


async def test_an_answer_that_is_cut_off() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"x")
        assert request.transport is not None
        request.transport.close()
        return response

    with pytest.raises(TransportError):
        await ask(handler)


async def test_nobody_there() -> None:
    async with HttpTransport() as transport:
        with pytest.raises(TransportError, match="cannot connect"):
            await transport.send(OutgoingRequest(method="GET", url=f"http://127.0.0.1:{free_port()}/"))
    with pytest.raises(TransportError, match="closed"):
        await transport.send(OutgoingRequest(method="GET", url="http://127.0.0.1/"))
