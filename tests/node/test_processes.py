"""Several processes on one port: what each answers, what is passed on, what closes at once, and how they end."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from conftest import NOW, ROOT, ingest, jpeg, rows_of, write_archive
from web_world import KINDS, SECRET_PLACE, fill
from web_world import SETTINGS as WORLD_SETTINGS

from cas.errors import StoreFailed
from cas.ids import ContentId
from cas.scrub import ScrubResult, put_in_quarantine
from cas.store import BlobStore
from node.app import build_application
from node.folder import NodeFolder
from node.processes import ReaderProcesses, restart_pause_s
from node.reader_app import _OWN, ToldCare, build_reader_application
from node.storage.db import Database, DatabaseError
from node.web.limits import LIMITS
from node.web.listen import AT_ONCE, NodeSite
from node.web.private_channel import FORWARDER, PEER_HEADER, channel_path, private_folder, serve_channel
from node.web.session import make_token
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]


@dataclass
class Pair:
    """A core and a process that reads, in one loop, each with its own port and its own opened databases."""

    node: NodeFolder
    core_app: web.Application
    reader_app: web.Application
    core: str
    reader: str


@asynccontextmanager
async def pair_of(node: NodeFolder) -> AsyncIterator[Pair]:
    with ExitStack() as stack:
        channel = stack.enter_context(private_folder(node.settings.channel_path))
        core_app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
        core = web.AppRunner(core_app, access_log=None)
        await core.setup()
        core_site = NodeSite(core, "127.0.0.1", 0, answers=core_app[AT_ONCE])
        await core_site.start()
        await serve_channel(core, channel)
        database = Database.open_to_read(node.settings.database_path)
        stack.callback(database.close)
        store = BlobStore.open_to_read(node.settings.blobs_path)
        stack.callback(store.close)
        path = stack.enter_context(channel_path(node.settings.channel_path))
        reader_app = build_reader_application(node.settings, database, store, clock=lambda: NOW, core=path)
        reader = web.AppRunner(reader_app, access_log=None)
        await reader.setup()
        site = NodeSite(reader, "127.0.0.1", 0, answers=reader_app[AT_ONCE])
        await site.start()
        try:
            yield Pair(
                node, core_app, reader_app, f"http://127.0.0.1:{core_site.port}", f"http://127.0.0.1:{site.port}"
            )
        finally:
            await reader.cleanup()
            await core.cleanup()


@pytest.fixture
async def pair(make_node: Make, tmp_path: Path) -> AsyncIterator[Pair]:
    node = make_node(settings=WORLD_SETTINGS)
    found = fill(node, tmp_path / "a")
    async with pair_of(node) as pair:
        pair.images = found["images"]  # type: ignore[attr-defined]
        pair.specimens = found["specimens"]  # type: ignore[attr-defined]
        yield pair


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as found:
        yield found


async def ask(session: aiohttp.ClientSession, address: str, method: str = "GET", **more: object) -> tuple[object, ...]:
    async with session.request(method, address, allow_redirects=False, **more) as answer:  # type: ignore[arg-type]
        headers = {name: value for name, value in answer.headers.items() if name not in ("Date", "Transfer-Encoding")}
        return answer.status, headers, await answer.read()


async def test_every_answer_is_the_one_of_the_core(pair: Pair, session: aiohttp.ClientSession) -> None:
    paths = [
        "/", "/changes", "/search?q=planta", "/policy", "/robots.txt", "/healthz", "/readyz", "/login", "/jobs", "/processes", "/nope",
        "/conformance", "/.well-known/vasculum/node.json", "/staff/jobs", "/static/vasculum.css", "/specimen?id=urn:x:0", "/ipfs/bafkqaaa",
        "/specimen/" + "a" * 16, "/cas/sha256/" + "0" * 64, "/cas/sha256/xyz", "/a%0Ab", "/specimen?id=%FF",
    ]  # fmt: skip
    for kind in KINDS:
        hex_ = pair.images[kind]  # type: ignore[attr-defined]
        specimen = pair.specimens[kind].rpartition("/")[2]  # type: ignore[attr-defined]
        paths += [f"/cas/sha256/{hex_}", f"/{hex_}", f"/media/sha256/{hex_}", f"/specimen/{specimen}"]
        paths += [
            f"/iiif/3/{hex_}{rest}" for rest in ("", "/info.json", "/full/max/0/default.png", "/full/9,,/0/default.jpg")
        ]
    for path in paths:
        for method in ("GET", "HEAD", "POST", "DELETE"):
            for headers in ({}, {"Accept": "text/html"}):
                wanted = await ask(session, pair.core + path, method, headers=headers)
                found = await ask(session, pair.reader + path, method, headers=headers)
                if path.endswith("node.json") and method == "GET":
                    assert found[0] == wanted[0]
                    continue  # signed anew
                assert found == wanted, (path, method, headers)
                assert SECRET_PLACE.encode() not in found[2]  # type: ignore[operator]


async def test_staff_and_their_writes_are_the_cores(pair: Pair, session: aiohttp.ClientSession) -> None:
    with pair.node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    same = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
    status, headers, _ = await ask(session, f"{pair.reader}/login", "POST", data=f"token={token}", headers=same)
    assert status == 303
    cookie = headers["Set-Cookie"].split(";")[0]  # type: ignore[index]
    restricted = f"/cas/sha256/{pair.images['restricted']}"  # type: ignore[attr-defined]
    assert (await ask(session, pair.reader + restricted))[0] == 403
    status, headers, body = await ask(session, pair.reader + restricted, headers={"Cookie": cookie})
    assert status == 200
    assert ContentId.of(body).hex == pair.images["restricted"]  # type: ignore[attr-defined, arg-type]
    assert headers["Cache-Control"] == "private, no-store"  # type: ignore[index]
    assert (await ask(session, f"{pair.reader}/staff/jobs", headers={"Cookie": cookie}))[0] == 200
    assert (await ask(session, f"{pair.reader}/logout", "POST", headers={**same, "Cookie": cookie}))[0] == 403
    assert (await ask(session, f"{pair.reader}/staff/jobs", headers={"Cookie": "vasculum_staff=x"}))[0] == 403


async def test_the_core_counts_who_really_asks(pair: Pair, session: aiohttp.ClientSession) -> None:
    seen: list[str | None] = []
    limits = pair.core_app[LIMITS]
    visitor = limits.visitor

    def watched(request: web.Request) -> tuple[str, str] | None:
        from node.web.limits import peer_of

        seen.append(peer_of(request))
        return visitor(request)

    limits.visitor = watched  # type: ignore[method-assign]
    await ask(session, f"{pair.reader}/jobs", headers={PEER_HEADER: "6.6.6.6"})
    await ask(session, f"{pair.core}/jobs", headers={PEER_HEADER: "6.6.6.6"})
    assert seen == ["127.0.0.1", "127.0.0.1"], "the header of a visitor means nothing"
    connector = aiohttp.UnixConnector(str(pair.node.settings.channel_path / "core.sock"))
    async with aiohttp.ClientSession(connector=connector) as private:
        await ask(private, "http://127.0.0.1/jobs", headers={PEER_HEADER: "198.51.100.7"})
    assert seen[-1] == "198.51.100.7"


async def test_a_body_is_passed_on_as_it_comes_and_its_limit_holds(pair: Pair, session: aiohttp.ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(5):  # more than a specification may have, and all of it is read
            yield b"x" * 65_536

    for address in (pair.core, pair.reader):
        target = f"{address}/processes/label-text/execution"
        try:
            status, _, _ = await ask(session, target, "POST", data=endless())
        except aiohttp.ClientError:
            continue  # refused before it was sent
        assert status in (400, 413), address


async def test_without_its_core_it_says_so_and_goes_on_with_what_it_can(
    pair: Pair, session: aiohttp.ClientSession
) -> None:
    (pair.node.settings.channel_path / "core.sock").rename(pair.node.settings.channel_path / "away")
    status, headers, body = await ask(session, f"{pair.reader}/jobs")
    assert status == 503
    assert headers["Retry-After"] == "5"  # type: ignore[index]
    assert b"Traceback" not in body  # type: ignore[operator]
    assert (await ask(session, f"{pair.reader}/changes"))[0] == 200
    (pair.node.settings.channel_path / "away").rename(pair.node.settings.channel_path / "core.sock")
    assert (await ask(session, f"{pair.reader}/jobs"))[0] == 200


async def test_doors_close_at_once_in_every_process(make_node: Make, tmp_path: Path) -> None:
    """Changed licence, withdrawal, quarantine: the next request to a process that had the bytes warm is refused."""
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(3), images=lambda number: jpeg(number)))
    ids = [ContentId.of(jpeg(number)) for number in range(3)]
    async with pair_of(node) as pair, aiohttp.ClientSession() as session:
        answered: list[bool] = []
        answers = pair.reader_app[AT_ONCE]
        find = answers.find
        answers.find = lambda *item: (found := find(*item), answered.append(found is not None))[0]  # type: ignore[method-assign]

        async def is_warm(cid: ContentId) -> bool:
            for _ in range(2):
                assert (await ask(session, f"{pair.reader}/cas/sha256/{cid.hex}", skip_auto_headers=["User-Agent"]))[
                    0
                ] == 200
            return answered[-1]

        for cid in ids:
            assert await is_warm(cid), "else this shows nothing"
        with node.database.transaction() as conn:
            conn.execute("UPDATE medium SET access = 1 WHERE image = ?", (ids[0].hex,))
        assert (await ask(session, f"{pair.reader}/cas/sha256/{ids[0].hex}"))[0] == 403
        assert await is_warm(ids[1])
        node.blobs.withdrawals.withdraw(ids[1], reason="asked for", told=True, at=NOW.isoformat(), new_key=b"k" * 32)
        node.blobs.note_closing()
        assert (await ask(session, f"{pair.reader}/cas/sha256/{ids[1].hex}"))[0] in (404, 410)
        assert await is_warm(ids[2])
        (place,) = node.blobs.index.locations(ids[2])
        bad = ScrubResult(
            volume=place.volume, path=place.path, id=ids[2], size=place.size, verdict="damaged", reason="rotten"
        )
        put_in_quarantine(node.blobs, bad, now=NOW)
        assert (await ask(session, f"{pair.reader}/cas/sha256/{ids[2].hex}"))[0] == 404


async def test_bytes_that_lie_elsewhere_are_the_cores(make_node: Make, tmp_path: Path) -> None:
    """A use and a need are written down, which a reading process cannot."""
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(2), images=lambda number: jpeg(number)))
    ids = [ContentId.of(jpeg(number)) for number in range(2)]
    async with pair_of(node) as pair, aiohttp.ClientSession() as session:
        asked: list[str] = []
        forward = pair.reader_app[FORWARDER].forward

        async def watched(request: web.Request) -> web.StreamResponse:
            asked.append(request.path)
            return await forward(request)

        pair.reader_app[FORWARDER].forward = watched  # type: ignore[method-assign]
        with node.blobs.index.transaction() as conn:
            names = [row[1] for row in conn.execute("PRAGMA table_info(remote)")]
            values = {"url": "https://x.example/1.jpg", "sha": ids[0].digest}
            types = {row[1]: row[2] for row in conn.execute("PRAGMA table_info(remote)")}
            marks = [values.get(name, 0 if types[name] == "INTEGER" else "") for name in names]
            conn.execute(f"INSERT INTO remote VALUES ({', '.join('?' * len(names))})", marks)
        for cid in ids:
            assert (await ask(session, f"{pair.reader}/cas/sha256/{cid.hex}"))[0] == 200
        assert asked == [f"/cas/sha256/{ids[0].hex}"]
        with node.blobs.index.transaction() as conn:
            assert conn.execute("SELECT used FROM remote").fetchone()[0] > "2026"
        (tmp_path / "a" / "images" / "1.jpg").unlink()
        assert (await ask(session, f"{pair.reader}/cas/sha256/{ids[1].hex}"))[0] == 404
        assert asked[1:] == [f"/cas/sha256/{ids[1].hex}"]


def test_a_reading_process_cannot_write(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    database = Database.open_to_read(node.settings.database_path)
    try:
        with pytest.raises(DatabaseError, match="only reads"):
            database.submit(lambda conn: None)
        with pytest.raises(sqlite3.OperationalError, match="readonly"), database.transaction() as conn:
            conn.execute("DELETE FROM meta")
        with database.reader() as conn:
            conn.execute("ROLLBACK")
            conn.execute("PRAGMA query_only=OFF")
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                conn.execute("DELETE FROM meta")
    finally:
        database.close()
    store = BlobStore.open_to_read(node.settings.blobs_path)
    try:
        with pytest.raises(StoreFailed):
            store.put_bytes(b"x", now=NOW)
        assert store.counts() == (0, 0)
    finally:
        store.close()
    with pytest.raises(DatabaseError):
        Database.open_to_read(tmp_path / "nothing.sqlite")
    with pytest.raises(StoreFailed):
        BlobStore.open_to_read(tmp_path / "nothing")


async def test_whole_tiles_of_pyramids_that_are_there_need_no_core(
    make_node: Make, tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    data = jpeg(1, size=(1800, 1200))
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: data))
    async with pair_of(node) as pair:
        tile = f"/iiif/3/{ContentId.of(data).hex}/512,0,512,512/512,512/0/default.jpg"
        first = await ask(session, pair.reader + tile)  # the core makes the pyramid
        assert first[0] == 200
        assert await ask(session, pair.reader + tile) == first  # found on the disk
        forwarder = pair.reader_app[FORWARDER]
        asked = []
        real = forwarder.forward

        async def forward(request: web.Request) -> web.StreamResponse:
            asked.append(request.path)
            return await real(request)

        monkeypatch.setattr(forwarder, "forward", forward)
        for _ in range(3):  # from memory
            assert await ask(session, pair.reader + tile) == first
        assert asked == []
        region = tile.replace("512,0,512,512/", "500,0,512,512/")
        assert await ask(session, pair.reader + region) == await ask(session, pair.core + region)
        assert asked == [region]
        (path,) = node.settings.derived_path.glob("pyramids/*/*")
        path.write_bytes(b"damaged")
        with node.database.transaction() as conn:
            conn.execute("UPDATE medium SET access = access")  # what was remembered is asked for again
        assert await ask(session, pair.reader + tile) == first
        assert path.stat().st_size > 10_000, "the core made it again"
        with node.database.transaction() as conn:
            conn.execute("UPDATE medium SET access = 1")
        assert (await ask(session, pair.reader + tile))[0] == 403


def test_every_route_that_a_reading_process_has_only_reads(pair_routes: dict[str, str]) -> None:
    assert len(pair_routes) == len(_OWN), "each handler stands in the list once"
    assert all(method in ("GET", "HEAD") for method in pair_routes.values())


@pytest.fixture
def pair_routes() -> dict[str, str]:
    from node.web import blobs, iiif, listing_api, pages, records_api, search_api

    return {
        route.handler.__qualname__ + route.handler.__module__: route.method
        for module in (pages, blobs, iiif, records_api, listing_api, search_api)
        for route in module.routes()
        if route.handler in _OWN
    }


def test_the_channel_is_for_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "channel"
    folder.mkdir(mode=0o777)
    (folder / "core.sock").write_text("left by a killed process")
    with private_folder(folder) as path:
        assert not path.exists()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match="nobody else"), channel_path(folder):
        pass
    long = tmp_path / ("x" * 120)
    with private_folder(long) as path, socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(path))
        server.listen()
        with channel_path(long) as other:
            client.connect(str(other))
        assert (long / "core.sock").exists()


def test_what_visitors_were_sent_is_told_to_the_core(make_node: Make, tmp_path: Path) -> None:
    """Scrub and jobs are paced by it there."""
    node = make_node()
    care = ToldCare(node.blobs, node.settings, clock=lambda: NOW, monotonic=lambda: 0.0)
    for volume, count in (("scans", 5), ("scans", 6), ("", 7)):
        care.served(volume, count)
    line = json.dumps(care.take_told()).encode() + b"\n"
    assert care.take_told() == {}
    heard: list[tuple[str, int]] = []
    others = ReaderProcesses(tmp_path, count=1, port=1, served=lambda *item: heard.append(item))
    for said in (b"ready\n", line, b"nonsense\n", b"[1]\n", b'{"x": "y"}\n'):
        others._hear(said)
    assert heard == [("scans", 11), ("", 7)]


def test_pauses_grow_and_end_at_a_minute() -> None:
    pauses = [restart_pause_s(deaths) for deaths in range(1, 30)]
    assert pauses[:3] == [0.5, 1.0, 2.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60.0


# ---------------------------------------------------------------------- the command, with real processes
@pytest.fixture
def serving(make_node: Make, tmp_path: Path) -> "Iterator[Callable[[], subprocess.Popen[str]]]":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = make_node(origin=f"http://127.0.0.1:{port}")
    file = tmp_path / "node" / "node.toml"
    text = file.read_text("utf-8").replace("[server]\n", "[server]\nprocesses = 3\n", 1)
    text = text.replace('pipelines = ["label-text", "barcode", "quality"]', "pipelines = []")
    file.write_text(text.replace("port = 8080", f"port = {port}"), "utf-8")
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: jpeg(number)))
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "node.cli.main", "serve", str(tmp_path / "node")], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if "serving" in line:
                assert "with 3 processes" in line
                break
        process.port = port  # type: ignore[attr-defined]
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def readers_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == pid and b"node.reader_main" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def listeners(port: int) -> int:
    """How many sockets listen on the port."""
    wanted = f":{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(wanted) and row[3] == "0A" for row in rows)


def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds; the limit of the test ends it."""
    pause = threading.Event()
    while not holds():
        pause.wait(0.02)


@pytest.mark.long
def test_one_that_dies_is_started_again_and_the_end_is_orderly(
    serving: "Callable[[], subprocess.Popen[str]]",
) -> None:
    core = serving()
    port: int = core.port  # type: ignore[attr-defined]
    until(lambda: listeners(port) == 3)
    readers = readers_of(core.pid)
    assert len(readers) == 2
    os.kill(readers[0], signal.SIGKILL)
    until(lambda: len(set(readers_of(core.pid)) - {readers[0]}) == 2)
    until(lambda: listeners(port) == 3)
    again = readers_of(core.pid)
    assert readers[1] in again
    asyncio.run(all_answer(port))
    core.terminate()
    out, errors = core.communicate()
    assert core.returncode == 0
    assert "stopping" in out
    assert "reading process 2 ended (-9): started again in 0.5 s" in errors
    assert errors.count("\n") == 1
    assert not any(is_alive(pid) for pid in again)
    assert listeners(port) == 0


@pytest.mark.fault
def test_none_outlives_a_killed_core(serving: "Callable[[], subprocess.Popen[str]]") -> None:
    core = serving()
    port: int = core.port  # type: ignore[attr-defined]
    until(lambda: listeners(port) == 3)
    readers = readers_of(core.pid)
    os.kill(core.pid, signal.SIGKILL)
    core.wait()
    until(lambda: not any(is_alive(pid) for pid in readers))
    assert listeners(port) == 0


def is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def all_answer(port: int) -> None:
    """Enough connections that each process gets some; each asks for what is everybody's and what is the core's."""
    cid = ContentId.of(jpeg(0))
    for _ in range(24):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            assert (await ask(session, f"http://127.0.0.1:{port}/cas/sha256/{cid.hex}"))[2] == jpeg(0)
            assert (await ask(session, f"http://127.0.0.1:{port}/jobs"))[0] == 200
