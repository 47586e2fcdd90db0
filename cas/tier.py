"""A place that holds blobs by id, other than the store's own tree: the port, and what every adapter shares.

What an adapter promises (``tests/contracts/tier_contract.py`` holds every one of them to it):
- ``put`` returns only when the place holds exactly these bytes durably: they were hashed on the way out and read back
  whole. Bytes that are not what the id says are refused, and nothing is left under the id.
- ``read`` gives whatever lies there; nothing it yields is trusted before it was hashed (``checked``).
- ``delete`` of what is not there is no error; after it, and after a ``put``, every other call sees the change.
- A place that cannot be used now (not mounted, no network, no permission) raises ``TierFailed``, never "not there".

It leaves out: which bytes lie where (the table ``tier_location``), when they move (``cas.tiering``).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from cas.errors import BlobRefused, ContentIdError, TierFailed
from cas.ids import ContentId

CHUNK_BYTES: Final = 1 << 20
TIER_VOLUME: Final = "tier:"
"""Start of the volume name under which damaged copies in a tier stand in quarantine; no volume can be named so."""


class Tier(Protocol):
    """A place that holds blobs; thread-safe, blocking."""

    @property
    def where(self) -> str:
        """The place in words, for people."""
        ...

    def put(self, cid: ContentId, chunks: Iterable[bytes], *, size: int) -> None:
        """Stores these bytes, verified and durable; the same again changes nothing and heals a damaged copy.

        Raises:
            BlobRefused: the bytes offered are not those of the id, or not ``size`` many; nothing is stored.
            TierFailed: the place cannot be used, or does not read back what it was given.
        """
        ...

    def stat(self, cid: ContentId) -> int | None:
        """Bytes that lie under this id; None when there are none.

        Raises:
            TierFailed: the place cannot be used.
        """
        ...

    def read(self, cid: ContentId, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """What lies there from ``offset``, up to ``length`` bytes; fewer only at the end.

        Raises:
            BlobNotFound: nothing lies there.
            TierFailed: the place cannot be used, or the answer broke off.
        """
        ...

    def delete(self, cid: ContentId) -> bool:
        """Removes what lies there, durably; says whether there was something.

        Raises:
            TierFailed: the place cannot be used; it may be there still.
        """
        ...

    def list(self) -> Iterator[tuple[str, int]]:
        """Key and size of everything there, in the order of the key; also what is no blob of ours.

        Raises:
            TierFailed: the place cannot be used.
        """
        ...


class UnusableTier:
    """A tier that lacks something (credentials, a library); says what, whatever is asked of it."""

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self._problem = f"{where}: {problem}"

    def put(self, cid: ContentId, chunks: Iterable[bytes], *, size: int) -> None:
        """See ``Tier``."""
        del cid, chunks, size
        raise TierFailed(self._problem)

    def stat(self, cid: ContentId) -> int | None:
        """See ``Tier``."""
        del cid
        raise TierFailed(self._problem)

    def read(self, cid: ContentId, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ``Tier``."""
        del cid, offset, length
        raise TierFailed(self._problem)

    def delete(self, cid: ContentId) -> bool:
        """See ``Tier``."""
        del cid
        raise TierFailed(self._problem)

    def list(self) -> Iterator[tuple[str, int]]:
        """See ``Tier``."""
        raise TierFailed(self._problem)


def key_of(cid: ContentId) -> str:
    """``ab/cd/<hex>``: the same in a folder and in a bucket, so that one can be copied to the other by any tool."""
    return f"{cid.hex[:2]}/{cid.hex[2:4]}/{cid.hex}"


def id_of(key: str) -> ContentId | None:
    """The id that a key stands for; None when it is no key of a blob."""
    try:
        cid = ContentId.from_hex(key.rpartition("/")[2])
    except ContentIdError:
        return None
    return cid if key == key_of(cid) else None


def checked(
    cid: ContentId, chunks: Iterable[bytes], *, size: int, took: Callable[[int], None] = lambda _count: None
) -> Iterator[bytes]:
    """Passes chunks on and raises, before it would end, when they were not the bytes of this id.

    Whoever writes what it yields must not make it final before it ended.

    Raises:
        BlobRefused: too many bytes, too few, or others.
    """
    sha, count = hashlib.sha256(), 0
    for chunk in chunks:
        count += len(chunk)
        if count > size:
            raise BlobRefused(f"expected {size} bytes of {cid.hex}, there are more")
        sha.update(chunk)
        took(len(chunk))
        yield chunk
    if count != size:
        raise BlobRefused(f"expected {size} bytes of {cid.hex}, there are {count}")
    if sha.digest() != cid.digest:
        raise BlobRefused(f"expected {cid.hex}, the bytes are {sha.hexdigest()}")


def tier_volume(name: str) -> str:
    """See ``TIER_VOLUME``."""
    return TIER_VOLUME + name
