"""A node behind nginx (Debian) answers byte for byte like the bare node: ranges, conditions, HEAD, errors."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from conftest import NOW, ingest, rows_of, write_archive

from cas.ids import ContentId
from node.app import build_application
from node.folder import NodeFolder
from runners.catalogue import Catalogue

pytestmark = [pytest.mark.peer, pytest.mark.timeout(900)]

CONF = """
worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log; daemon off;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; tcp_nopush off;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{node}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; }} }} }}
"""


@pytest.fixture
async def pair(make_node: Callable[..., NodeFolder], tmp_path: Path) -> AsyncIterator[tuple[str, str, str]]:
    data = bytes(range(256)) * 4000
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda number: data))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with TestServer(build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)) as server:
        (tmp_path / "nginx.conf").write_text(CONF.format(root=tmp_path, port=port, node=server.port))
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        process = subprocess.Popen(
            [program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)], stderr=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(300):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        break
                    except OSError:
                        await asyncio.sleep(0.05)
            yield f"http://127.0.0.1:{server.port}", f"http://127.0.0.1:{port}", ContentId.of(data).hex
        finally:
            process.terminate()
            process.wait()


HEADERS: tuple[dict[str, str], ...] = (
    {}, {"Range": "bytes=0-99"}, {"Range": "bytes=1000-"}, {"Range": "bytes=-77"}, {"Range": "bytes=500000-900000"},
    {"Range": "bytes=9999999-"}, {"Range": "bytes=0-1,5-6"}, {"Range": "lines=0-1"}, {"If-None-Match": "TAG"}, {"If-Match": '"x"'},
    {"If-Match": "TAG"}, {"Range": "bytes=0-9", "If-Range": "TAG"}, {"Range": "bytes=0-9", "If-Range": '"other"'},
)  # fmt: skip


async def test_the_proxy_changes_nothing(pair: tuple[str, str, str]) -> None:
    bare, behind, hex_ = pair
    kept = (
        "ETag",
        "Content-Range",
        "Accept-Ranges",
        "Repr-Digest",
        "Content-Type",
        "Content-Length",
        "Cache-Control",
        "Link",
        "Content-Security-Policy",
    )
    paths = (
        f"/cas/sha256/{hex_}",
        "/cas/sha256/" + "0" * 64,
        f"/{hex_.upper()}",
        "/changes",
        "/search?q=planta",
        "/nope",
    )
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for path in paths:
            for method in ("GET", "HEAD"):
                for headers in HEADERS:
                    sent = {name: value.replace("TAG", f'"sha256-{hex_}"') for name, value in headers.items()}
                    answers = []
                    for origin in (bare, behind):
                        async with session.request(
                            method, origin + path, headers=sent, allow_redirects=False
                        ) as answer:
                            answers.append(
                                (answer.status, {name: answer.headers.get(name) for name in kept}, await answer.read())
                            )
                    assert answers[0] == answers[1], (method, path, headers)
