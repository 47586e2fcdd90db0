"""The backends that the contract of tiers is run against, each with hooks that go behind its back."""

import http.client
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import NOW, ROOT

from cas.errors import BlobNotFound
from cas.ids import ContentId
from cas.store import MAX_BLOB_BYTES, BlobStore
from cas.tier import CHUNK_BYTES, checked, key_of
from cas.tier_folder import FolderTier
from cas.tier_s3 import Bucket, S3Tier
from contracts.tier_contract import flipped

S3_SERVER = ROOT / "tests" / "peers" / "s3" / ".venv" / "bin" / "python"
"""``moto`` in an environment of its own: it brings 47 packages, some of them older than ours allow."""

NEEDS_S3_SERVER = "the S3 server is not installed: see tests/peers/s3/requirements.txt"


class FileHooks:
    """Behind a folder of files ``ab/cd/<hex>``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _write(self, cid: ContentId, data: bytes) -> None:
        path = self._root / key_of(cid)
        path.chmod(0o644)
        path.write_bytes(data)

    def flip(self, cid: ContentId) -> None:
        self._write(cid, flipped((self._root / key_of(cid)).read_bytes()))

    def shorten(self, cid: ContentId) -> None:
        self._write(cid, (self._root / key_of(cid)).read_bytes()[:-1])

    def lose(self, cid: ContentId) -> None:
        (self._root / key_of(cid)).unlink()

    def stray(self, key: str, data: bytes) -> None:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def clear(self) -> None:
        for path in self._root.rglob("*"):
            if path.is_file():
                path.unlink()


def folder_tier(root: Path) -> FolderTier:
    """A folder that is one."""
    root.mkdir(parents=True, exist_ok=True)
    tier = FolderTier(root)
    tier.mark()
    return tier


class StoreAsTier:
    """The store's own tree as far as it fits the port: what lies in the tree, and what its readers get.

    It knows a file by its name, its row and its size; a lost file is "not there". ``delete`` and ``list`` are those of
    the tree: the store itself leaves them to gc and fsck.
    """

    def __init__(self, folder: Path) -> None:
        self.store = BlobStore.open(folder)
        self.where = str(folder)

    def put(self, cid: ContentId, chunks: Iterable[bytes], *, size: int) -> None:
        self.store.put_stream(checked(cid, chunks, size=size), now=NOW, max_bytes=MAX_BLOB_BYTES, expected=cid)

    def stat(self, cid: ContentId) -> int | None:
        try:
            return self.store.tree.path(cid).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, cid: ContentId, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if self.stat(cid) is None:
            raise BlobNotFound(cid)
        with self.store.tree.path(cid).open("rb") as stream:
            stream.seek(offset)
            left = MAX_BLOB_BYTES if length is None else length
            while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
                yield chunk
                left -= len(chunk)

    def delete(self, cid: ContentId) -> bool:
        with self.store.index.transaction() as conn:
            conn.execute("DELETE FROM location WHERE sha = ?", (cid.digest,))
            conn.execute("DELETE FROM blob WHERE sha = ?", (cid.digest,))
        try:
            self.store.tree.path(cid).unlink()
        except FileNotFoundError:
            return False
        return True

    def list(self) -> Iterator[tuple[str, int]]:
        root = self.store.tree.root
        yield from sorted((p.relative_to(root).as_posix(), p.stat().st_size) for p in root.rglob("*") if p.is_file())


class BucketHooks:
    """Behind a bucket: plain requests to the server, without our adapter."""

    def __init__(self, port: int, bucket: str, prefix: str) -> None:
        self._port = port
        self._bucket = bucket
        self._prefix = prefix

    def _ask(self, method: str, key: str, body: bytes | None = None) -> bytes:
        return ask(self._port, method, f"/{self._bucket}/{self._prefix}{key}", body)

    def flip(self, cid: ContentId) -> None:
        self._ask("PUT", key_of(cid), flipped(self._ask("GET", key_of(cid))))

    def shorten(self, cid: ContentId) -> None:
        self._ask("PUT", key_of(cid), self._ask("GET", key_of(cid))[:-1])

    def lose(self, cid: ContentId) -> None:
        self._ask("DELETE", key_of(cid))

    def stray(self, key: str, data: bytes) -> None:
        self._ask("PUT", key, data)

    def clear(self) -> None:
        listing = ask(self._port, "GET", f"/{self._bucket}?list-type=2&prefix={self._prefix}").decode()
        for key in re.findall(r"<Key>([^<]+)</Key>", listing):
            ask(self._port, "DELETE", f"/{self._bucket}/{key}")


@contextmanager
def s3_server() -> Iterator[int]:
    """A real S3 server in a process of its own, on loopback and a free port; gives the port."""
    command = [str(S3_SERVER), "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            said = ""
            for line in server.stdout:
                said += line
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    # Its log goes on; nobody reads it, so that it must not fill the pipe.
                    drain = subprocess.Popen(["cat"], stdin=server.stdout, stdout=subprocess.DEVNULL)
                    try:
                        yield int(found[1])
                    finally:
                        server.kill()
                        drain.wait()
                    return
            raise AssertionError(f"the S3 server did not start: {said}")
        finally:
            server.kill()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    """One request as the owner of everything; the server checks no signature."""
    who = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body=body, headers={"Authorization": who})
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status in (200, 204), (method, path, answer.status, data)
        return data
    finally:
        connection.close()


def make_bucket(port: int, name: str) -> None:
    """A bucket with nothing in it."""
    ask(port, "PUT", f"/{name}")


def bucket_tier(port: int, name: str, *, prefix: str = "", retries: int = 1) -> S3Tier:
    """A tier in a bucket of this server."""
    return S3Tier(
        Bucket(
            name=name, endpoint=f"http://127.0.0.1:{port}", region="us-east-1", prefix=prefix, access_key_id="a",
            secret_access_key="b",
        ),
        timeout_s=20, retries=retries,
    )  # fmt: skip
