"""A node whose images lie at another server, and that server: it says what it was asked and answers as it is told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from conftest import NOW, ingest, jpeg, rows_of, write_archive

from node.folder import NodeFolder
from node.services.ingest_report import IngestReport
from node.services.remote_media import RemoteMedia

ON_NEED = '[sources.web]\nfetch = "on-need"\n[remote]\npause_s = 0\n'


@dataclass(kw_only=True)
class Answer:
    """What the server says about a path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    truncated: bool = False
    before: Callable[[], object] = lambda: None
    """Called when it is asked."""


@dataclass(kw_only=True)
class Elsewhere:
    """The server."""

    origin: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return self.origin + path

    def hold(self, path: str, body: bytes = b"", **more: object) -> str:
        """Serves these bytes; returns their address."""
        self.answers[path] = Answer(body=body, **more)  # type: ignore[arg-type]
        return self.url(path)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    found: Elsewhere

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            answer = found.answers.get(self.path, Answer(status=404))
            answer.before()
            status, body = answer.status, answer.body
            tag = answer.headers.get("ETag")
            if status == 200 and tag is not None and self.headers.get("If-None-Match") == tag:
                status, body = 304, b""
            self.send_response(status)
            for name, value in {"Content-Type": "image/jpeg", **answer.headers}.items():
                self.send_header(name, value)
            if status != 304:
                self.send_header("Content-Length", str(len(body) + 10 * answer.truncated))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Elsewhere(origin=f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@dataclass(kw_only=True)
class Clock:
    """A clock that goes on only when somebody waits."""

    now: datetime = NOW
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += timedelta(seconds=seconds)

    def later(self, **parts: float) -> None:
        self.now += timedelta(**parts)


def media_of(node: NodeFolder, clock: Clock) -> RemoteMedia:
    return RemoteMedia(node.settings, node.database, node.blobs, clock=clock, wait=clock.wait)


def ingest_urls(
    node: NodeFolder, folder: Path, urls: list[str], *, source: str = "web", **columns: str
) -> IngestReport:
    """One specimen per address."""
    rows = rows_of(len(urls))
    for row, url in zip(rows, urls, strict=True):
        row |= {"image": url, **columns}
    return ingest(node, write_archive(folder, rows), source=source)


def medium_rows(node: NodeFolder) -> list[dict[str, object]]:
    with node.database.reader() as conn:
        return [dict(row) for row in conn.execute("SELECT * FROM medium ORDER BY locator")]


__all__ = ["ON_NEED", "Answer", "Clock", "Elsewhere", "elsewhere", "ingest_urls", "jpeg", "media_of", "medium_rows"]
