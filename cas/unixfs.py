"""A file as IPFS sees it: leaves that are byte ranges of the file, and the small blocks that join them.

Profile unixfs-v1-2025 (IPIP-0499): 1 MiB leaves, raw, CIDv1, at most 1024 links per node, balanced. Nothing is copied:
a leaf is a range, and only the joining blocks (dag-pb, about 50 bytes per leaf) have bytes of their own.

Invariants:
- The root and every block equal those of ``ipfs-unixfs-importer`` with this profile.
- A file of one leaf or none is its own root (a raw block); its root is the CID of the whole file's SHA-256.

It leaves out: where leaf tables are kept (``cas.leaves``), HTTP, directories.

Example:
    >>> root_of([ContentId.of(b"hello world").digest], 11).cid
    'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e'
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cas.cids import DAG_PB, RAW

LEAF_BYTES: Final = 1 << 20
MOST_LINKS: Final = 1024
_SHA256: Final = bytes((0x12, 0x20))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A block: a leaf, or one that joins others."""

    codec: int
    """``RAW`` or ``DAG_PB``."""
    digest: bytes
    """SHA-256 of the block, 32 bytes."""
    file_bytes: int
    """How many bytes of the file lie below it."""
    tree_bytes: int
    """Size of this block and all below it: what a link calls Tsize."""
    offset: int
    """Where the bytes below it begin in the file."""
    block: bytes | None
    """The block itself; None for a leaf, whose bytes lie in the file."""

    @property
    def cid(self) -> str:
        """CIDv1, base32 lower case."""
        return cid_text(self.codec, self.digest)

    @property
    def size(self) -> int:
        """Bytes of the block."""
        return self.file_bytes if self.block is None else len(self.block)


def leaf_digests(
    descriptor: int,
    *,
    took: Callable[[int], None] | None = None,
    whole: Callable[[memoryview], object] | None = None,
) -> Iterator[bytes]:
    """SHA-256 of each leaf of an opened file, in order; one digest of nothing for an empty file.

    Args:
        descriptor: of the file; its position stays.
        took: told how many bytes were read, and may wait.
        whole: handed the bytes of each leaf, to hash the whole file in the same pass.
    """
    space = memoryview(bytearray(LEAF_BYTES))
    offset = 0
    while True:
        filled = 0
        while filled < LEAF_BYTES and (count := os.preadv(descriptor, [space[filled:]], offset + filled)):
            filled += count
        if filled == 0 and offset > 0:
            return
        if whole is not None:
            whole(space[:filled])
        yield hashlib.sha256(space[:filled]).digest()
        if took is not None:
            took(filled)
        offset += filled
        if filled < LEAF_BYTES:
            return


def tree_of(leaves: Sequence[bytes], size: int) -> list[Node]:
    """Every block of a file in depth-first order, the root first.

    Args:
        leaves: the digest of each leaf.
        size: bytes of the file.
    """
    if len(leaves) != max(1, -(-size // LEAF_BYTES)):
        raise ValueError(f"{size} bytes are not {len(leaves)} leaves")
    level = [
        _Branch(
            Node(
                codec=RAW, digest=digest, file_bytes=(count := min(LEAF_BYTES, size - number * LEAF_BYTES)),
                tree_bytes=count, offset=number * LEAF_BYTES, block=None,
            )
        )
        for number, digest in enumerate(leaves)
    ]  # fmt: skip
    while len(level) > 1:
        level = [_join(level[start : start + MOST_LINKS]) for start in range(0, len(level), MOST_LINKS)]
    found: list[Node] = []
    waiting = [level[0]]
    while waiting:
        branch = waiting.pop()
        found.append(branch.node)
        waiting.extend(reversed(branch.below))
    return found


def root_of(leaves: Sequence[bytes], size: int) -> Node:
    """The root of a file."""
    return tree_of(leaves, size)[0]


def cid_text(codec: int, digest: bytes) -> str:
    """CIDv1 with SHA-256, base32 lower case without padding."""
    return "b" + base64.b32encode(cid_bytes(codec, digest)).decode().lower().rstrip("=")


def cid_bytes(codec: int, digest: bytes) -> bytes:
    """CIDv1 with SHA-256, binary."""
    return bytes((1, codec)) + _SHA256 + digest


def links_of(block: bytes) -> list[tuple[int, bytes]]:
    """Codec and digest of each link of one of our joining blocks, in order."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(block) and block[at] == 0x12:  # PBNode.Links
        length, at = _read_varint(block, at + 1)
        link = block[at : at + length]
        at += length
        cid = link[2 : 2 + link[1]]  # PBLink.Hash comes first and is shorter than 128 bytes
        found.append((cid[1], cid[4:]))
    return found


@dataclass(frozen=True, slots=True)
class _Branch:
    node: Node
    below: tuple["_Branch", ...] = ()


def _join(branches: Sequence[_Branch]) -> _Branch:
    """A dag-pb block over these; links before data, names present and empty, as the importers write it."""
    links = b"".join(_field(2, _link(branch.node)) for branch in branches)
    total = sum(branch.node.file_bytes for branch in branches)
    data = b"\x08\x02" + b"\x18" + _varint(total)  # UnixFS Data: Type = File, filesize
    data += b"".join(b"\x20" + _varint(branch.node.file_bytes) for branch in branches)  # blocksizes
    block = links + _field(1, data)
    node = Node(
        codec=DAG_PB, digest=hashlib.sha256(block).digest(), file_bytes=total,
        tree_bytes=len(block) + sum(branch.node.tree_bytes for branch in branches),
        offset=branches[0].node.offset, block=block,
    )  # fmt: skip
    return _Branch(node, tuple(branches))


def _link(node: Node) -> bytes:
    return _field(1, cid_bytes(node.codec, node.digest)) + _field(2, b"") + b"\x18" + _varint(node.tree_bytes)


def _field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
