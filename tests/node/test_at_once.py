"""What is answered before the framework: the same answers as the framework gives, and nothing that it would not give."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiohttp import web
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from hypothesis import given
from hypothesis import strategies as st

from cas.ids import ContentId
from node.app import build_application
from node.folder import NodeFolder
from node.web.at_once import AtOnce, AtOnceProtocol, Plan, read_head
from node.web.blobs import WARM
from node.web.listen import AT_ONCE, NodeSite, answers_of
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
IMAGE, LARGE = jpeg(1), jpeg(2) + bytes(600_000)


@dataclass
class Served:
    node: NodeFolder
    app: web.Application
    port: int
    files: Path
    runner: web.AppRunner
    answered: list[bool]
    """For each plain request, whether it was answered at once."""

    def path(self, data: bytes = IMAGE) -> str:
        return f"/cas/sha256/{ContentId.of(data).hex}"

    def head(self, *lines: str, data: bytes = IMAGE, method: str = "GET") -> bytes:
        return "\r\n".join(
            (f"{method} {self.path(data)} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *lines, "", "")
        ).encode()


class Client:
    """A connection that sends bytes and reads whole answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(data)
        return await self.answer(has_body=not data.startswith(b"HEAD"))

    async def answer(self, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.title(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        status = int(head[0].split()[1])
        if status == 100:
            return await self.answer()
        length = 0 if status == 304 or not has_body else int(headers.get("Content-Length", "0"))
        return status, headers, await self.reader.readexactly(length)


@pytest.fixture
async def served(make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    node = make_node()
    rows = rows_of(3)
    rows[2]["licence"] = "all rights reserved"
    files = [IMAGE, LARGE, jpeg(3)]
    ingest(node, write_archive(tmp_path / "a", rows, images=lambda number: files[number]))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    answered: list[bool] = []
    find = AtOnce.find

    def watched(self: AtOnce, data: bytes, plan: Plan, peer: str) -> memoryview | None:
        found = find(self, data, plan, peer)
        answered.append(found is not None)
        return found

    monkeypatch.setattr(AtOnce, "find", watched)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = NodeSite(runner, "127.0.0.1", 0, answers=app[AT_ONCE])
    await site.start()
    yield Served(node, app, site.port, tmp_path / "a" / "images", runner, answered)
    await runner.cleanup()


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    yield Client(reader, writer)
    writer.close()
    await writer.wait_closed()


def without_date(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "Date"}


@pytest.mark.parametrize(
    ("lines", "data"),
    [
        ((), IMAGE), (("Range: bytes=10-19",), IMAGE), (("Range: bytes=-5",), IMAGE), (("Range: bytes=0-0",), LARGE),
        (("range:bytes=500000-599999", "User-Agent: x", "Accept: */*", "Accept-Encoding: gzip"), LARGE),
        (("Range: bytes=0-1, 4-5",), IMAGE), (("Range: nonsense",), IMAGE),
    ],
)  # fmt: skip
async def test_the_answer_is_the_one_of_the_framework(
    served: Served, client: Client, lines: tuple[str, ...], data: bytes
) -> None:
    assert (await client.ask(served.head(data=data)))[0] == 200  # the long way: the file is warm from now on
    served.app[WARM].find(ContentId.of(data).hex)
    if data is LARGE:
        await client.ask(served.head("Range: bytes=0-0", data=data))
    served.answered.clear()
    fast = await client.ask(served.head(*lines, data=data))
    assert served.answered == [True]
    framework = await client.ask(served.head(*lines, "X-Unusual: 1", data=data))
    assert served.answered == [True]
    assert fast[0] == framework[0]
    assert without_date(fast[1]) == without_date(framework[1])
    assert fast[2] == framework[2]
    assert fast[1]["Date"].endswith("GMT")


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: close",), ("Expect: 100-continue",), ("Content-Length: 0",), ("Transfer-Encoding: chunked",), ("Upgrade: h2c",),
        (" folded: x",), ("Bad Name: x",), ("Connection: keep-alive, x",), ("content-length : 0",), ("X: a\n\nGET / HTTP/1.1",),
    ],
)  # fmt: skip
async def test_whatever_is_doubtful_is_for_the_framework_and_the_connection_stays_there(
    served: Served, client: Client, lines: tuple[str, ...]
) -> None:
    await client.ask(served.head())
    assert (await client.ask(served.head()))[0] == 200
    assert served.answered[-1] is True
    count = len(served.answered)
    body = b"0\r\n\r\n" if "Transfer-Encoding: chunked" in lines else b""
    status, headers, _ = await client.ask(served.head(*lines) + body)
    assert status in (200, 206, 304, 400)
    assert len(served.answered) == count
    if status != 400 and headers.get("Connection") != "close" and "Connection: close" not in lines:
        assert (await client.ask(served.head()))[0] == 200
        assert len(served.answered) == count, "two readers never share one stream"


@pytest.mark.parametrize(
    "lines",
    [
        ("Cookie: a=b",), ("If-None-Match: *",), ("If-Range: x",), ("Range: bytes=0-1", "Range: bytes=2-3"), ("Host: 127.0.0.1",),
        ("Authorization: x",), ("X-Unknown: x",), ("If-Match: *",),
    ],
)  # fmt: skip
async def test_one_unusual_request_is_for_the_framework_and_the_next_may_be_at_once(
    served: Served, client: Client, lines: tuple[str, ...]
) -> None:
    await client.ask(served.head())
    await client.ask(served.head())
    count = len(served.answered)
    assert (await client.ask(served.head(*lines)))[0] in (200, 206, 304, 400)
    assert len(served.answered) == count
    if lines != ("Host: 127.0.0.1",):
        assert (await client.ask(served.head()))[2] == IMAGE
        assert served.answered[count:] == [True]


async def test_a_stranger_who_says_that_he_is_a_front_is_answered_by_the_framework(
    served: Served, client: Client
) -> None:
    await client.ask(served.head())
    await client.ask(served.head())
    served.answered.clear()
    for line in ("X-Node-Accel: nginx", "X-Forwarded-For: 1.2.3.4"):
        status, headers, body = await client.ask(served.head(line))
        assert (status, body) == (200, IMAGE)
        assert "X-Accel-Redirect" not in headers
    assert served.answered == [False, False]


async def test_requests_in_one_packet_or_in_pieces_are_for_the_framework(served: Served, client: Client) -> None:
    await client.ask(served.head())
    count = len(served.answered)
    client.writer.write(served.head() * 3)
    for _ in range(3):
        assert (await client.answer())[2] == IMAGE
    assert len(served.answered) == count
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    pieces = Client(reader, writer)
    head = served.head()
    for at in range(0, len(head), 40):
        writer.write(head[at : at + 40])
        await writer.drain()
        await asyncio.sleep(0)
    assert (await pieces.answer())[2] == IMAGE
    writer.close()
    await writer.wait_closed()


async def test_a_foreign_host_is_refused(served: Served, client: Client) -> None:
    await client.ask(served.head())
    request = f"GET {served.path()} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode()
    assert (await client.ask(request))[0] == 421


async def test_what_is_closed_is_closed_at_once(served: Served, client: Client) -> None:
    from cas.scrub import ScrubResult, put_in_quarantine

    cid = ContentId.of(IMAGE)
    await client.ask(served.head())
    assert (await client.ask(served.head()))[0] == 200
    assert served.answered[-1]
    with served.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET access = 1 WHERE image = ?", (cid.hex,))
    assert (await client.ask(served.head()))[0] == 403
    with served.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET access = 0 WHERE image = ?", (cid.hex,))
    assert (await client.ask(served.head()))[0] == 200
    assert (await client.ask(served.head()))[0] == 200
    assert served.answered[-1]
    (place,) = served.node.blobs.index.locations(cid)
    bad = ScrubResult(volume=place.volume, path=place.path, id=cid, size=place.size, verdict="damaged", reason="rotten")
    put_in_quarantine(served.node.blobs, bad, now=NOW)
    assert (await client.ask(served.head()))[0] == 404


async def test_a_changed_file_is_never_sent(served: Served, client: Client) -> None:
    await client.ask(served.head())
    assert (await client.ask(served.head()))[2] == IMAGE
    (served.files / "0.jpg").write_bytes(jpeg(77)[: len(IMAGE)].ljust(len(IMAGE)))
    assert (await client.ask(served.head()))[0] == 404


async def test_restricted_bytes_and_other_paths_are_never_answered_at_once(served: Served, client: Client) -> None:
    for _ in range(3):
        assert (await client.ask(served.head(data=jpeg(3))))[0] == 403
        assert (await client.ask(served.head(data=b"nothing")))[0] == 404
    assert not any(served.answered)
    assert (await client.ask(served.head(method="HEAD")))[0] == 200


async def test_limits_hold_here_too(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings="[limits]\nall_requests_per_minute = 5\n")
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda _: IMAGE))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    answers = app[AT_ONCE]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = NodeSite(runner, "127.0.0.1", 0, answers=answers)
    await site.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    client = Client(reader, writer)
    request = f"GET /cas/sha256/{ContentId.of(IMAGE).hex} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    statuses = [(await client.ask(request))[0] for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    writer.close()
    await runner.cleanup()


async def test_a_connection_in_use_is_not_closed_for_silence(served: Served, client: Client) -> None:
    await client.ask(served.head())
    (framework,) = served.runner.server.connections
    assert isinstance(framework._next_keepalive_close_time, float)
    assert framework._waiter is None or not framework._waiter.done()
    framework._next_keepalive_close_time = 0.0
    await client.ask(served.head())
    assert served.answered[-1]
    assert framework._next_keepalive_close_time > asyncio.get_running_loop().time() + 60
    framework._process_keepalive()
    assert (await client.ask(served.head()))[2] == IMAGE


async def test_what_is_not_in_memory_is_counted_once(served: Served, client: Client) -> None:
    await client.ask(served.head())
    taken: list[int] = []
    answers = served.app[AT_ONCE]
    take = answers._take
    answers._take = lambda peer, forwarded, length: taken.append(length) or take(peer, forwarded, length)
    (served.files / "0.jpg").write_bytes(jpeg(78)[: len(IMAGE)].ljust(len(IMAGE)))
    assert (await client.ask(served.head()))[0] == 404
    assert taken == []


async def test_a_client_that_does_not_read_is_left_to_the_framework(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    slow = Client(reader, writer)
    ask = served.head("Range: bytes=0-262143", data=LARGE)
    await slow.ask(served.head("Range: bytes=0-0", data=LARGE))
    assert (await slow.ask(ask))[0] == 206
    served.answered.clear()
    count = 200
    for _ in range(count):
        writer.write(ask)
        await asyncio.sleep(0)
    answered = 0
    while answered < count:
        status, _, body = await slow.answer()
        assert (status, len(body)) == (206, 262_144)
        answered += 1
    writer.close()
    await writer.wait_closed()


def test_with_an_access_log_the_framework_sees_every_request(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "vasculum.access")
    assert answers_of(served.app, logging.getLogger("vasculum.access")) is None
    caplog.set_level("WARNING", "vasculum.access")
    assert answers_of(served.app, logging.getLogger("vasculum.access")) is served.app[AT_ONCE]


async def test_a_front_is_told_at_once_and_counted_by_the_visitor(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    server = replace(node.settings.server, accel="nginx", trusted_proxies=("127.0.0.1",))
    node = replace(node, settings=replace(node.settings, server=server))
    ingest(node, write_archive(tmp_path / "a", rows_of(2), images=lambda number: (IMAGE, LARGE)[number]))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    answers = app[AT_ONCE]
    taken: list[tuple[str, str | None, int]] = []
    take = answers._take
    answers._take = lambda *item: taken.append(item) or take(*item)
    site = NodeSite(runner, "127.0.0.1", 0, answers=answers)
    await site.start()
    client = Client(*await asyncio.open_connection("127.0.0.1", site.port))
    for data, wanted in ((IMAGE, ""), (LARGE, ""), (LARGE, "Range: bytes=7-9\r\n")):
        ask = f"GET /cas/sha256/{ContentId.of(data).hex} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 198.51.100.7\r\n{wanted}"
        announced = (ask + "X-Node-Accel: nginx\r\n\r\n").encode()
        await client.ask(announced)
        taken.clear()
        fast = await client.ask(announced)
        length = 3 if wanted else len(data)
        assert taken == [("127.0.0.1", "198.51.100.7", length)]
        framework = await client.ask((ask + "X-Node-Accel: nginx\r\nX-Unusual: 1\r\n\r\n").encode())
        assert "X-Accel-Redirect" in fast[1]
        kept = {name: value for name, value in framework[1].items() if name not in ("Date", "Content-Type")}
        assert {name: value for name, value in fast[1].items() if name not in ("Date", "Content-Type")} == kept
        assert fast[0] == framework[0] == 200
        taken.clear()
    (tmp_path / "a" / "images" / "0.jpg").write_bytes(jpeg(9))
    ask = f"GET /cas/sha256/{ContentId.of(IMAGE).hex} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 1.2.3.4\r\nX-Node-Accel: nginx\r\n\r\n"
    assert (await client.ask(ask.encode()))[0] == 404, "the file is looked at before it is named"
    client.writer.close()
    await client.writer.wait_closed()
    await runner.cleanup()


async def test_bytes_that_still_wait_to_be_sent_are_not_overwritten(served: Served, client: Client) -> None:
    """A transport may keep what it is given until it is sent (asyncio does from Python 3.12 on)."""
    waiting: list[memoryview] = []

    class SlowTransport(asyncio.Transport):
        def write(self, data: "bytes | bytearray | memoryview") -> None:
            assert isinstance(data, memoryview)
            waiting.append(data)

        def get_write_buffer_size(self) -> int:
            return sum(map(len, waiting))

        def get_extra_info(self, name: str, default: object = None) -> object:
            return ("127.0.0.1", 1) if name == "peername" else default

    for wanted in ("Range: bytes=0-9", "Range: bytes=10-19"):
        await client.ask(served.head(wanted))
    protocol = AtOnceProtocol(asyncio.Protocol(), served.app[AT_ONCE])
    protocol.connection_made(SlowTransport())
    for wanted in ("Range: bytes=0-9", "Range: bytes=10-19"):
        protocol.data_received(served.head(wanted))
    assert [bytes(item).rpartition(b"\r\n\r\n")[2] for item in waiting] == [IMAGE[:10], IMAGE[10:20]]


@given(st.binary(max_size=300))
def test_any_head_is_plain_or_not_and_never_an_error(head: bytes) -> None:
    plan = read_head(head + b"\r\n\r\n", lambda host: True)
    assert plan is None or plan.wanted is None or "\r" not in plan.wanted
