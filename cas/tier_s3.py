"""A bucket of an S3-compatible service as a tier, through ``obstore`` (imported here only, when a bucket is used).

Every upload is checked three ways: the bytes are hashed as they leave, each request carries a SHA-256 that the service
compares, and the whole object is read back and hashed. The last one does not depend on what a service supports.

Invariants:
- A bucket that is not there is ``TierFailed``, an object that is not there is not: the two are told apart.
- Credentials are given by the caller; none are looked for in metadata services or configuration files.

It leaves out: making buckets, versioning and lifecycle rules of the service (a rule that deletes would be a loss that
only ``fsck`` and scrub see).
"""

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cas.errors import BlobNotFound, BlobRefused, TierFailed
from cas.ids import ContentId
from cas.tier import CHUNK_BYTES, checked, key_of

if TYPE_CHECKING:
    from obstore.store import S3Credential

PART_BYTES: Final = 8 << 20
"""Larger files go up in parts of this size; S3 allows 10,000 of them, so ``_part_bytes`` grows with the file.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
_MOST_PARTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where, and as whom."""

    name: str
    endpoint: str
    """``https://...``; http only for a service on this machine (the settings see to that)."""
    region: str
    prefix: str = ""
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


class S3Tier:
    """See ``cas.tier.Tier``."""

    def __init__(self, bucket: Bucket, *, timeout_s: float = 60.0, retries: int = 3) -> None:
        """Connects to nothing yet.

        Args:
            bucket: where.
            timeout_s: of connecting, and of each wait for bytes.
            retries: of requests that failed for a reason that may pass.

        Raises:
            TierFailed: the library is not installed.
        """
        if importlib.util.find_spec("obstore") is None:
            raise TierFailed('a bucket needs the package obstore: install "vasculum[s3]"')
        from obstore.store import S3Store

        self._bucket = bucket
        credentials: S3Credential = {
            "access_key_id": bucket.access_key_id,
            "secret_access_key": bucket.secret_access_key,
            "token": bucket.session_token or None,
            "expires_at": None,
        }
        # Every option that the library would else take from AWS_* variables of the environment, which are there for
        # other programs: AWS_ENDPOINT_URL_S3 would send the images to another service.
        self._store: S3Store = S3Store(
            bucket.name,
            prefix=bucket.prefix.strip("/") or None,
            endpoint=bucket.endpoint,
            aws_endpoint_url_s3=bucket.endpoint,
            region=bucket.region,
            credential_provider=lambda: credentials,
            skip_signature=False,
            checksum_algorithm="sha256",
            virtual_hosted_style_request=False,
            s3_express=False,
            unsigned_payload=False,
            client_options={
                "allow_http": bucket.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=timeout_s),
                "read_timeout": timedelta(seconds=timeout_s),
                "timeout": timedelta(hours=12),
            },
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=timeout_s)},
        )

    @property
    def where(self) -> str:
        """See ``Tier``."""
        return f"s3://{self._bucket.name}/{self._bucket.prefix.strip('/')}".rstrip("/") + f" at {self._bucket.endpoint}"

    def put(self, cid: ContentId, chunks: Iterable[bytes], *, size: int) -> None:
        """See ``Tier``."""
        source = checked(cid, chunks, size=size)
        with self._translated():
            if size <= PART_BYTES:
                self._store.put(key_of(cid), b"".join(source), use_multipart=False)
            else:
                self._store.put(key_of(cid), source, use_multipart=True, chunk_size=part_bytes(size), max_concurrency=2)
        self._must_read_back(cid, size)

    def _must_read_back(self, cid: ContentId, size: int) -> None:
        try:
            for _ in checked(cid, self.read(cid), size=size):
                pass
        except (BlobRefused, BlobNotFound) as error:
            with contextlib.suppress(TierFailed):
                self.delete(cid)
            raise TierFailed(f"{self.where} does not give back what it was given: {error}") from error

    def stat(self, cid: ContentId) -> int | None:
        """See ``Tier``."""
        with self._translated():
            try:
                return int(self._store.head(key_of(cid))["size"])
            except FileNotFoundError:
                pass
        self._must_be_there()
        return None

    def read(self, cid: ContentId, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ``Tier``."""
        if length == 0:
            return
        size = self.stat(cid)
        if size is None:
            raise BlobNotFound(f"{cid} is not in {self.where}")
        end = size if length is None else min(size, offset + length)
        if offset >= end:
            return
        count = 0
        with self._translated():
            try:
                answer = self._store.get(key_of(cid), options={"range": (offset, end)})
                for piece in answer.stream(min_chunk_size=CHUNK_BYTES):
                    count += len(piece)
                    yield bytes(piece)
            except FileNotFoundError as error:
                raise BlobNotFound(f"{cid} is not in {self.where}") from error
        if count != end - offset:
            raise TierFailed(f"{self.where}: the answer broke off after {count} of {end - offset} bytes")

    def delete(self, cid: ContentId) -> bool:
        """See ``Tier``."""
        was_there = self.stat(cid) is not None
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self._store.delete(key_of(cid))
        return was_there

    def list(self) -> Iterator[tuple[str, int]]:
        """See ``Tier``."""
        with self._translated():
            for page in self._store.list(chunk_size=1000):
                for item in page:
                    yield item["path"], int(item["size"])

    def _must_be_there(self) -> None:
        """An answer "not found" may be about the object or about the bucket; listing tells."""
        for _ in self.list():
            return

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            raise TierFailed(f"{self.where}: there is no such bucket") from error
        except (BaseError, OSError) as error:
            if "<Code>NoSuchBucket</Code>" in str(error):
                raise TierFailed(f"{self.where}: there is no such bucket") from error
            raise TierFailed(f"{self.where}: {_first_line(error)}") from error


def part_bytes(size: int) -> int:
    """How large the parts of an upload are."""
    return max(PART_BYTES, -(-size // _MOST_PARTS))


def _first_line(error: Exception) -> str:
    """The library's messages go on with a dump of its own state, and with the address that was asked."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
