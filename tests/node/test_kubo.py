"""The optional IPFS adapter against a small loopback server that speaks Kubo's RPC, and against nobody."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import ingest, jpeg, rows_of, write_archive

from cas.ids import ContentId
from node.cli.main import run
from node.folder import NodeFolder
from node.kubo import KuboFailed, add_raw


class Kubo(BaseHTTPRequestHandler):
    """Enough of Kubo's RPC for block/put."""

    lies = False

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        is_chunked = self.headers.get("Transfer-Encoding") == "chunked"
        body = self._chunks() if is_chunked else self.rfile.read(length)
        if self.path.startswith("/api/v0/version"):
            answer: dict[str, object] = {"Version": "0.43.1", "Commit": "", "Repo": "16", "System": "", "Golang": ""}
        else:
            boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
            data = body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--" + boundary, 1)[0]
            answer = {"Key": "bafkqaaa" if self.lies else ContentId.of(data).to_cid(), "Size": len(data)}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture(params=[False, True], ids=["honest", "lying"])
def daemon(request: pytest.FixtureRequest) -> Iterator[tuple[str, bool]]:
    handler = type("Handler", (Kubo,), {"lies": request.param})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"/ip4/127.0.0.1/tcp/{server.server_port}", request.param
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_open_image_is_announced_under_our_cid(
    daemon: tuple[str, bool], make_node: Callable[..., NodeFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api, lies = daemon
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=jpeg))
    cid = ContentId.of(jpeg(0))
    code = run(["ipfs", "announce", str(node.settings.folder), str(cid), "--api", api])
    said = capsys.readouterr()
    assert code == (1 if lies else 0)
    assert (cid.to_cid() in said.out) is not lies


def test_restricted_bytes_are_never_handed_over(
    make_node: Callable[..., NodeFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=jpeg, licence="none of your business"))
    assert run(["ipfs", "announce", str(node.settings.folder), str(ContentId.of(jpeg(0)))]) == 2
    assert "does not leave" in capsys.readouterr().err


def test_no_daemon_and_too_large_a_block_are_one_line() -> None:
    with pytest.raises(KuboFailed, match="cannot be used"):
        add_raw("/ip4/127.0.0.1/tcp/9", ContentId.of(b"x"), b"x")
    with pytest.raises(KuboFailed, match="2 MiB"):
        add_raw("/ip4/127.0.0.1/tcp/9", ContentId.of(b"x"), b"x" * 3_000_000)
