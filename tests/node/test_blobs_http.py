"""Bytes over HTTP at a bare node: slices, conditions, aliases, access, and files that change under our hands."""

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, run_python, write_archive

from cas.ids import ContentId
from node.access import STAFF
from node.app import build_application
from node.folder import NodeFolder
from node.web import blobs, rates, sending, warm
from runners.catalogue import Catalogue

BIG = bytes(range(256)) * 16_384  # 4 MiB: sent in blocks


@dataclass(frozen=True, kw_only=True)
class Served:
    node: NodeFolder
    client: TestClient
    folder: Path
    small: bytes
    port: int

    async def get(self, data: bytes, method: str = "GET", **headers: str):
        path = f"/cas/sha256/{ContentId.of(data).hex}"
        return await self.client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.fixture
async def served(make_node: Callable[..., NodeFolder], tmp_path: Path) -> AsyncIterator[Served]:
    node = make_node(settings='[images]\noriginals_withheld_for = "nothing"\n')  # some of these are no pictures
    small, rows = jpeg(0), rows_of(3)
    rows[2]["licence"] = "all rights reserved"
    ingest(node, write_archive(tmp_path / "a", rows, images=lambda number: (small, BIG, b"secret")[number]))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        yield Served(node=node, client=client, folder=tmp_path / "a" / "images", small=small, port=client.port or 0)


async def test_every_answer_says_what_it_is(served: Served) -> None:
    answer = await served.get(served.small)
    body, cid = await answer.read(), ContentId.of(served.small)
    assert (answer.status, body) == (200, served.small)
    assert {name: answer.headers[name] for name in answer.headers if name not in ("Date", "Server")} == {
        "Etag": f'"sha256-{cid.hex}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, max-age=31536000, immutable",
        "Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:",
        "Link": f'</cas/sha256/{cid.hex}>; rel="canonical"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Access-Control-Allow-Origin": "*",
        "Content-Type": "image/jpeg",
        "Content-Disposition": f'inline; filename="{cid.hex}.jpg"',
        "Content-Length": str(len(body)),
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


async def test_bytes_that_are_no_known_image_are_a_download(served: Served) -> None:
    answer = await served.get(BIG)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert await answer.read() == BIG


@pytest.mark.parametrize(
    "span", [(0, 0), (0, 262_143), (0, 262_144), (5, 3_000_000), (1_048_575, 1_048_576), (4_194_303, 4_194_303)]
)
async def test_a_slice_is_the_slice(served: Served, span: tuple[int, int]) -> None:
    answer = await served.get(BIG, Range=f"bytes={span[0]}-{span[1]}")
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {span[0]}-{span[1]}/{len(BIG)}"
    assert await answer.read() == BIG[span[0] : span[1] + 1]
    # Of a part, too, the digest is the one of the whole (RFC 9530, 3.1).
    assert answer.headers["Repr-Digest"] == (await served.get(BIG, method="HEAD")).headers["Repr-Digest"]


async def test_errors_of_conditions_have_no_body_and_are_not_kept_by_caches(served: Served) -> None:
    past = await served.get(BIG, Range=f"bytes={len(BIG)}-")
    assert (past.status, past.headers["Content-Range"]) == (416, f"bytes */{len(BIG)}")
    other = await served.get(BIG, If_Match='"other"')
    assert other.status == 412
    for answer in (past, other):
        assert answer.headers["Cache-Control"] == "no-store"
        assert await answer.read() == b""
    same = await served.get(BIG, If_None_Match=f'"sha256-{ContentId.of(BIG).hex}"')
    assert (same.status, await same.read()) == (304, b"")
    assert "immutable" in same.headers["Cache-Control"]


@pytest.mark.parametrize("data", ["small", "big"])
async def test_a_head_says_what_a_get_would_and_sends_nothing(served: Served, data: str) -> None:
    body = served.small if data == "small" else BIG
    head, full = await served.get(body, method="HEAD", Range="bytes=0-1"), await served.get(body)
    assert (head.status, await head.read()) == (200, b"")
    # What every page of the node carries is not added to a stream that has begun; bytes do not need it.
    extra = ("Date", "Referrer-Policy", "Cross-Origin-Opener-Policy")
    told = [{name: answer.headers[name] for name in answer.headers if name not in extra} for answer in (head, full)]
    assert told[0] == told[1]


async def raw(port: int, target: str) -> bytes:
    """A request whose address no client library has tidied up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_every_alias_leads_to_the_one_address(served: Served) -> None:
    cid = ContentId.of(served.small)
    for target in (
        f"/{cid.hex}", f"/{cid.hex.upper()}", f"/hash://sha256/{cid.hex}", f"/hash:/sha256/{cid.hex}",
        f"/.well-known/ni/sha-256/{cid.to_ni()[14:]}", f"/cas/sha256/{cid.hex.upper()}", f"/cas/sha256/{cid.to_cid()}",
    ):  # fmt: skip
        answer = await raw(served.port, target)
        assert answer.startswith(b"HTTP/1.1 301 "), target
        assert f"\r\nLocation: /cas/sha256/{cid.hex}\r\n".encode() in answer, target


async def test_restricted_bytes_say_why_and_whom_to_ask(served: Served) -> None:
    answer = await served.get(b"secret")
    problem = await answer.json(content_type=None)
    assert (answer.status, problem["type"]) == (403, "/problems/restricted")
    assert "ask@x.example" in problem["detail"]
    assert answer.headers["Cache-Control"] == "no-store"
    for header in ("ETag", "Repr-Digest", "Content-Disposition"):
        assert header not in answer.headers


@pytest.mark.parametrize("data", ["small", "big"])
@pytest.mark.parametrize("change", ["other bytes", "same size", "gone", "longer"])
async def test_a_file_that_is_not_what_it_was_is_not_served(served: Served, data: str, change: str, caplog) -> None:
    body, path = (served.small, served.folder / "0.jpg") if data == "small" else (BIG, served.folder / "1.jpg")
    if change == "gone":
        path.unlink()
    elif change == "longer":
        path.write_bytes(body + b"more")
    else:
        path.write_bytes(b"x" * (len(body) if change == "same size" else 10))
    with caplog.at_level(logging.WARNING, "vasculum.bytes"):
        answer = await served.get(body)
    assert (answer.status, (await answer.json(content_type=None))["type"]) == (404, "/problems/changed")
    assert ContentId.of(body).hex in caplog.text
    assert (await served.get(body, method="HEAD")).status == 404


async def test_a_file_written_to_while_it_is_sent_ends_the_connection(served: Served, monkeypatch, caplog) -> None:
    path = served.folder / "1.jpg"
    real = sending.read_block

    def meddle(blob, offset: int, length: int, left: int):
        if left == length:  # before the last block, in place: the same inode, the same size
            with path.open("r+b") as stream:
                stream.seek(len(BIG) - 10)
                stream.write(b"WRONGBYTES")
            os.utime(path, ns=(1, 1))
        return real(blob, offset, length, left)

    monkeypatch.setattr(sending, "read_block", meddle)
    answer = await served.get(BIG)
    assert answer.status == 200
    with pytest.raises(ClientPayloadError):
        await answer.read()
    assert "changed while it was sent" in caplog.text


async def test_what_the_kernel_sends_is_complete_and_counted(served: Served, monkeypatch) -> None:
    """The same bytes by the kernel and without it; a file that is cut short ends the connection."""
    by_kernel: list[int] = []
    real, counted = sending._send_by_kernel, []

    async def watched(request, blob, offset: int, length: int):
        sent = await real(request, blob, offset, length)
        by_kernel.append(sent)
        return sent

    monkeypatch.setattr(sending, "_send_by_kernel", watched)
    monkeypatch.setattr(sending, "BLOCK_BYTES", 100_000)
    end = rates.Rates.end
    monkeypatch.setattr(
        rates.Rates, "end", lambda self, counter, now, sent: (counted.append(sent), end(self, counter, now, sent))
    )
    assert await (await served.get(BIG)).read() == BIG
    with (served.folder / "1.jpg").open("rb") as stream:
        can_tell = sending._is_in_memory(stream.fileno(), 0, len(BIG))
    if can_tell:  # not every filesystem says what is in memory
        assert sum(by_kernel) == len(BIG) - 2 * sending.LAST_BYTES
    (sent,) = counted
    assert len(BIG) <= sent < len(BIG) + 2000, "with its head"
    part = await served.get(BIG, Range=f"bytes=5-{len(BIG) - 7}")
    assert await part.read() == BIG[5:-6]
    monkeypatch.setattr(sending, "_is_in_memory", lambda *place: False)
    by_kernel.clear()
    assert await (await served.get(BIG)).read() == BIG
    assert by_kernel == []


async def test_a_file_cut_short_while_the_kernel_sends_ends_the_connection(served: Served, monkeypatch, caplog) -> None:
    real = sending._send_by_kernel

    async def meddle(request, blob, offset: int, length: int):
        os.truncate(served.folder / "1.jpg", offset + 10)
        return await real(request, blob, offset, length)

    monkeypatch.setattr(sending, "_send_by_kernel", meddle)
    answer = await served.get(BIG)
    with pytest.raises(ClientPayloadError):
        await answer.read()
    assert "changed while it was sent" in caplog.text


def open_files() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


async def test_a_client_that_goes_away_leaves_no_traceback_and_no_descriptor(
    served: Served, monkeypatch, caplog
) -> None:
    real, gone, entered = sending.read_block, threading.Event(), threading.Event()
    server = served.client.server.runner.server
    server.handler_cancellation = False  # as in production; the test server differs

    def wait(blob, offset: int, length: int, left: int):
        entered.set()
        gone.wait(300)
        return real(blob, offset, length, left)

    monkeypatch.setattr(sending, "read_block", wait)
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(f"GET /cas/sha256/{ContentId.of(BIG).hex} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
    await asyncio.to_thread(entered.wait, 300)
    [connection] = server.connections
    writer.transport.abort()
    async with asyncio.timeout(300):
        while connection.transport is not None:
            await asyncio.sleep(0)
    gone.set()
    async with asyncio.timeout(300):
        while str(served.folder / "1.jpg") in open_files():
            await asyncio.sleep(0)
    assert await (await served.get(BIG)).read() == BIG
    assert "Traceback" not in caplog.text


async def test_a_client_that_resets_while_the_kernel_sends_is_no_defect(served: Served, monkeypatch, caplog) -> None:
    entered, left = asyncio.Event(), asyncio.Event()
    real = sending._send_by_kernel

    async def watched(request, blob, offset: int, length: int):
        entered.set()
        try:
            return await real(request, blob, offset, length)
        finally:
            left.set()

    monkeypatch.setattr(sending, "_send_by_kernel", watched)
    monkeypatch.setattr(sending, "_is_in_memory", lambda *place: True)
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = f"/cas/sha256/{ContentId.of(BIG).hex}"
        sock.sendall(f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
        async with asyncio.timeout(300):
            await entered.wait()
            for _ in range(20):
                await asyncio.sleep(0)
    async with asyncio.timeout(300):
        await left.wait()
        while str(served.folder / "1.jpg") in open_files():
            await asyncio.sleep(0.01)
    assert await (await served.get(BIG)).read() == BIG
    assert "defect" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_client_that_goes_away_while_it_is_waited_for_is_no_defect(served: Served, monkeypatch, caplog) -> None:
    monkeypatch.setattr(sending, "_is_in_memory", lambda *place: False)
    server = served.client.server.runner.server
    server.handler_cancellation = False  # as in production
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        async with asyncio.timeout(300):
            while not server.connections:
                await asyncio.sleep(0.01)
            [connection] = server.connections
            transport = connection.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            address = f"/cas/sha256/{ContentId.of(BIG).hex}"
            sock.sendall(f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
            while not connection._paused:  # until the server waits for us, who read nothing
                await asyncio.sleep(0.01)
            transport._fatal_error(BrokenPipeError(32, "Broken pipe"))
            while str(served.folder / "1.jpg") in open_files():
                await asyncio.sleep(0.01)
    assert "defect" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_new_licence_closes_the_door_at_once(served: Served) -> None:
    assert (await served.get(served.small)).status == 200
    with served.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET access = 1 WHERE image = ?", (ContentId.of(served.small).hex,))
    assert (await served.get(served.small)).status == 403
    with served.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET access = 2 WHERE image = ?", (ContentId.of(served.small).hex,))
    hidden, absent = await served.get(served.small), await served.get(b"never seen")
    assert (hidden.status, await hidden.read()) == (absent.status, await absent.read()) == (404, await absent.read())


async def test_a_second_request_needs_no_thread(served: Served, monkeypatch) -> None:
    full = await served.get(served.small)
    assert await full.read() == served.small
    no_threads(monkeypatch)
    again = await served.get(served.small)
    assert await again.read() == served.small
    part, head = await served.get(served.small, Range="bytes=5-9"), await served.get(served.small, method="HEAD")
    assert (part.status, await part.read()) == (206, served.small[5:10])
    same = await served.get(served.small, If_None_Match=full.headers["ETag"])
    past = await served.get(served.small, Range="bytes=999999-")
    other = await served.get(served.small, If_Match='"other"')
    assert (head.status, same.status, past.status, other.status) == (200, 304, 416, 412)
    for answer in (again, head):
        assert {k: v for k, v in answer.headers.items() if k != "Date"} == {
            k: v for k, v in full.headers.items() if k != "Date"
        }


def no_threads(monkeypatch) -> None:
    def forbidden(*_):
        raise AssertionError("a thread was asked")

    monkeypatch.setattr(blobs, "_find", forbidden)


async def test_what_is_known_is_forgotten_after_a_while(served: Served, monkeypatch) -> None:
    monkeypatch.setattr(warm, "KEPT_S", -1)
    await served.get(served.small)
    no_threads(monkeypatch)
    assert (await served.get(served.small)).status == 500  # the thread was asked


async def test_a_file_of_a_drive_that_may_hang_is_always_left_to_a_thread(served: Served, monkeypatch) -> None:
    def network_drive(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("cas.reader.os.preadv", network_drive)
    for _ in range(2):
        assert await (await served.get(served.small)).read() == served.small
    no_threads(monkeypatch)
    assert (await served.get(served.small)).status == 500


async def test_bytes_that_are_not_in_memory_any_more_are_read_by_a_thread(served: Served, monkeypatch) -> None:
    await served.get(served.small)
    monkeypatch.setattr("cas.reader.BlobReader.pread_at_once", lambda *_: None)
    assert await (await served.get(served.small)).read() == served.small
    assert await (await served.get(served.small, Range="bytes=1-2")).read() == served.small[1:3]


@pytest.mark.parametrize("change", ["same size", "gone", "link"])
async def test_a_known_file_that_changed_is_not_served(served: Served, change: str) -> None:
    path = served.folder / "0.jpg"
    assert (await served.get(served.small)).status == 200
    path.unlink()
    if change == "same size":
        path.write_bytes(b"x" * len(served.small))
    elif change == "link":
        (served.folder.parent.parent / "outside").write_bytes(served.small)
        path.symlink_to(served.folder.parent.parent / "outside")
    answer = await served.get(served.small)
    assert (answer.status, (await answer.json(content_type=None))["type"]) == (404, "/problems/changed")


async def test_another_process_that_closes_a_door_closes_it_for_known_files(served: Served) -> None:
    assert (await served.get(served.small)).status == 200
    child = run_python(
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('UPDATE medium SET sensitive = 1 WHERE image = ?', (sys.argv[2],)); c.commit()",
        str(served.node.database.path), ContentId.of(served.small).hex,
    )  # fmt: skip
    assert await asyncio.to_thread(child.wait, 30) == 0
    child.stdout.close()  # type: ignore[union-attr]
    assert (await served.get(served.small)).status == 403


async def test_what_only_staff_may_see_is_never_kept(served: Served, monkeypatch) -> None:
    monkeypatch.setattr(blobs, "viewer_of", lambda _: STAFF)
    answer = await served.get(b"secret")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "private, no-store")
    assert "Access-Control-Allow-Origin" not in answer.headers
    monkeypatch.undo()
    assert (await served.get(b"secret")).status == 403


async def test_several_ranges_get_the_whole_and_another_tag_too(served: Served) -> None:
    for headers in ({"Range": "bytes=0-1,5-6"}, {"Range": "bytes=0-1", "If_Range": '"other"'}):
        answer = await served.get(served.small, **headers)
        assert (answer.status, await answer.read()) == (200, served.small)
    tag = f'"sha256-{ContentId.of(served.small).hex}"'
    assert (await served.get(served.small, Range="bytes=0-1", If_Range=tag)).status == 206


async def test_a_damaged_index_is_our_fault_and_no_defect(served: Served, monkeypatch) -> None:
    from cas.errors import StoreFailed

    def failing(self, cid):
        raise StoreFailed("the index could not be read: disk I/O error")

    monkeypatch.setattr(blobs.BlobStore, "open_blob", failing)
    answer = await served.get(served.small)
    assert (answer.status, (await answer.json(content_type=None))["type"]) == (503, "/problems/not-readable")
