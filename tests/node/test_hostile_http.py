"""Whatever a stranger sends: an answer, a 4xx with a reason, never a 5xx; and nothing of theirs becomes markup."""

import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from node.app import build_application
from node.folder import NodeFolder
from node.storage.search_sql import fts_query
from node.web.listen import NodeSite, server_log
from runners.catalogue import Catalogue

PAYLOADS = (
    '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "{{7*7}}", "</title><svg onload=alert(1)>",
    "' OR 1=1 --", "\u2028</script>",
)  # fmt: skip


@pytest.fixture
async def client(make_node: Callable[..., NodeFolder], tmp_path: Path) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    node = make_node()
    rows = rows_of(3)
    for term in ("scientificName", "locality", "recordedBy", "family", "country", "catalogNumber", "verbatimLabel"):
        rows[0][term] = " ".join(PAYLOADS).replace("\t", " ").replace("\n", " ")
    rows[1]["image"] = 'images/"><script>alert(1)<script>.jpg'.replace("/script", "script")
    ingest(node, write_archive(tmp_path / "a", rows, images=jpeg))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as made:
        yield made


PATHS = (
    "/specimen/" + "a" * 15, "/specimen/" + "A" * 16, "/specimen/..%2f..%2fetc", "/specimen/" + "a" * 16 + "?version=-1",
    "/specimen/" + "a" * 16 + "?version=99999999999999999999", "/specimen/" + "a" * 16 + "?version=NaN", "/specimen?id=", "/specimen",
    "/specimen?id=" + "x" * 5000, "/media/sha256/zz", "/annotation/%00", "/changes?since=-1", "/changes?since=9e99",
    "/changes?since=NaN", "/changes?since=" + "9" * 400, "/changes?limit=0", "/changes?limit=1000000", "/changes?since=%D9%A1%D9%A2",
    "/search?limit=-1", "/search?year=x", "/search?year=1,2,3", "/search?hasImage=perhaps", "/search?foo=bar", "/search?q=" + "(" * 3000,
    "/search?q=%00", "/search?q=%22", "/search?q=*", "/search?q=NEAR(", "/search?q=-x", "/search?q=a%20OR", "/search?q=t:x",
    "/search?after=" + "x" * 4000, "/search?q=%ff%fe", "/cas/sha256/xyz", "/cas/sha256/" + "G" * 64, "/cas/sha256/" + "a" * 63,
    "/.well-known/ni/sha-256/!!!", "/static/..%2f..%2fnode.toml", "/static/%2e%2e/x", "//evil.example/", "/" + "a" * 64, "/jobs/x",
    "/jobs/%2e%2e", "/processes/nope", "/staff/jobs/x", "/login?token=" + "x" * 3000, "/%c0%ae", "/search?" + "&".join(["q=a"] * 500),
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("accept", ["text/html", "application/json", "", "text/html;q=x, */*;q=9,,,"])
async def test_a_bad_address_is_never_a_server_error(client: TestClient, path: str, accept: str) -> None:  # type: ignore[type-arg]
    url = URL(f"http://{client.host}:{client.port}{path}", encoded=True)
    answer = await client.session.get(url, headers={"Accept": accept} if accept else {}, allow_redirects=False)
    assert answer.status < 500
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


BODIES = (
    b"", b"{", b"[" * 100_000, b'{"a":1,"a":2}', b"NaN", b'{"inputs":1}', b'{"inputs":{"jobSpec":{"value":{}}}}', b"\xff\xfe",
    b'{"inputs":{"jobSpec":{"value":{"payloadType":"x","payload":"!","signatures":[{"keyid":"k","sig":"!"}]}}}}',
    b'{"inputs":{"jobSpec":{"href":"http://169.254.169.254/"}}}', b"9" * 5000, b'{"\\ud800":1}', b'"x"',
)  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize(
    "path",
    ["/processes/label-text/execution", "/processes/federated-job/execution", "/login", "/logout", "/jobs", "/search"],
)
async def test_a_bad_body_is_never_a_server_error(client: TestClient, path: str, body: bytes) -> None:  # type: ignore[type-arg]
    for headers in ({"Content-Type": "application/json"}, {"Content-Type": "multipart/form-data; boundary=x"}, {}):
        answer = await client.post(path, data=body, headers=headers, allow_redirects=False)
        assert answer.status < 500
        assert answer.status >= 400 or path == "/logout"


async def test_too_large_a_body_is_refused(client: TestClient) -> None:  # type: ignore[type-arg]
    answer = await client.post("/processes/label-text/execution", data=io.BytesIO(b"x" * 3_000_000))
    assert answer.status in (400, 401, 413)


async def test_another_host_name_is_refused(client: TestClient) -> None:  # type: ignore[type-arg]
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", ""):
        answer = await client.get("/", headers={"Host": host})
        assert answer.status in (400, 421), host


async def test_nothing_of_a_record_becomes_markup(client: TestClient) -> None:  # type: ignore[type-arg]
    listing = await (await client.get("/search?limit=10")).json()
    paths = ["/", "/search", *[item["id"].partition("8765")[2] for item in listing["items"]]]
    paths += [item["medium"].partition("8765")[2] for item in listing["items"]]
    paths += [f"/search?q={payload}" for payload in ("%3Cscript%3Ealert(1)%3C/script%3E", "%22%3E%3Cimg%20src=x%3E")]
    seen = 0
    for path in paths:
        text = await (await client.get(path, headers={"Accept": "text/html"})).text()
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path
        assert "<svg onload" not in text, path
        assert 'href="javascript:' not in text, path
        assert "49" not in text or "{{7*7}}" in text or "7*7" not in text
        seen += "&lt;script&gt;" in text
    assert seen >= 3


async def test_changes_are_dense_stateless_and_end(client: TestClient) -> None:  # type: ignore[type-arg]
    since, seen = 0, []
    for _ in range(50):
        page = await (await client.get(f"/changes?since={since}&limit=2")).json()
        seen += [item["seq"] for item in page["items"]]
        since = seen[-1]
        if not page["more"]:
            break
    assert seen == list(range(1, 7))
    assert (await (await client.get("/changes?since=6")).json())["items"] == []


async def test_records_are_the_stored_bytes_with_their_digest_as_tag(client: TestClient) -> None:  # type: ignore[type-arg]
    listing = await (await client.get("/search?limit=1")).json()
    path = listing["items"][0]["id"].partition("8765")[2]
    answer = await client.get(path)
    data = await answer.read()
    import hashlib

    assert answer.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert (await client.get(path, headers={"If-None-Match": answer.headers["ETag"]})).status == 304
    assert answer.content_type == "application/ld+json"
    assert 'rel="cite-as"' in answer.headers["Link"]
    assert json.loads(data)["@id"].endswith(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=300))
def test_any_text_is_a_full_text_query_or_none(text: str) -> None:
    import sqlite3

    conn = sqlite3.connect(":memory:")
    conn.execute("CREATE VIRTUAL TABLE t USING fts5 (body)")
    query = fts_query(text)
    if query:
        conn.execute("SELECT * FROM t WHERE t MATCH ?", (query,)).fetchall()
    conn.close()


async def test_raw_requests_that_break_the_protocol_are_refused(client: TestClient) -> None:  # type: ignore[type-arg]
    import asyncio

    raw = (
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    )
    for message in raw:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(message)
        writer.write_eof()
        answer = await reader.read(65_536)
        writer.close()
        assert not answer or b" 4" in answer[:16] or (b"evil" in message and b" 2" in answer[:16]), answer[:80]
    assert isinstance(client.session, aiohttp.ClientSession)


async def test_broken_requests_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    async def fail(request: web.Request) -> web.Response:
        if request.path == "/fault":
            raise RuntimeError("a fault of ours")
        return web.Response()

    app = web.Application()
    app.router.add_get("/{path:.*}", fail)
    runner = web.AppRunner(app, logger=server_log(), access_log=None)
    await runner.setup()
    site = NodeSite(runner, "127.0.0.1", 0, answers=None)
    await site.start()
    try:
        for message in (
            b"GET /\xff\xfe HTTP/1.1",
            b"GET / HTTP/1.1\r\nBad\xff: x",
            b"NONSENSE",
            b"GET /fault HTTP/1.1",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(message + b"\r\nHost: a\r\nConnection: close\r\n\r\n")
            status = (await reader.read()).split(b" ", 2)[1]
            writer.close()
            assert status == (b"500" if b"fault" in message else b"400")
    finally:
        await runner.cleanup()
    logged = [record for record in caplog.records if record.name == "vasculum.http"]
    assert [str(record.exc_info[1]) for record in logged if record.exc_info] == ["a fault of ours"]
    assert len(logged) == 1
