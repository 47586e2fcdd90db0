"""Leaf tables: what is needed to give out, verify and repair parts of a file, kept beside the index.

Only for files larger than one leaf; a smaller file is its own and only block. A table is built while the whole file is
read and hashed, so that damage is never written down as truth, and is durable before it is used.

It leaves out: the form of the blocks (``cas.unixfs``), HTTP, when tables are built.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from cas.cids import DAG_PB, RAW
from cas.errors import BlobChanged, BlobRefused
from cas.ids import ContentId
from cas.pace import TookOf
from cas.store import BlobStore
from cas.unixfs import LEAF_BYTES, Node, leaf_digests, tree_of

MAX_BLOCK_BYTES: Final = 2 << 20
"""Clients of IPFS take no larger block (knowledge of 2026; a whole file up to this size is one raw block)."""
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafTable:
    """The leaves of one file."""

    id: ContentId
    size: int
    root: bytes
    """Digest of the root block."""
    leaves: tuple[bytes, ...]

    def tree(self) -> list[Node]:
        """Every block, depth first."""
        return tree_of(self.leaves, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block that can be asked for by its own digest."""

    file: ContentId
    """The file it is a part of, or is."""
    codec: int
    offset: int
    size: int
    node: bytes | None
    """A joining block itself; None when the bytes lie in the file."""


def leaf_table(store: BlobStore, cid: ContentId) -> LeafTable | None:
    """The table of a file; None when it has none (yet), or is one leaf."""
    rows = store.index.select(
        "SELECT root, leaves, size FROM leaf_table JOIN blob USING (sha) WHERE sha = ?", cid.digest
    )
    if not rows:
        return None
    leaves = rows[0]["leaves"]
    return LeafTable(
        id=cid, size=rows[0]["size"], root=rows[0]["root"],
        leaves=tuple(leaves[at : at + 32] for at in range(0, len(leaves), 32)),
    )  # fmt: skip


def build_leaf_table(store: BlobStore, cid: ContentId, *, now: datetime, took: TookOf | None = None) -> LeafTable:
    """Reads the file and keeps its table; the one that is there already, if it is.

    Raises:
        BlobNotFound, BlobChanged: the bytes are not here, or not what they were.
        BlobRefused: the file is no larger than one leaf and needs no table.
        StoreFailed: the index could not be written.
    """
    known = leaf_table(store, cid)
    if known is not None:
        return known
    with store.open_blob(cid) as blob:
        if blob.size <= LEAF_BYTES:
            raise BlobRefused("a file of one leaf is its own block")
        whole, volume = hashlib.sha256(), blob.place.volume
        told = None if took is None else partial(took, volume)
        leaves = tuple(leaf_digests(blob.fd, took=told, whole=whole.update))
        if whole.digest() != cid.digest:
            raise BlobChanged("the bytes do not have their hash any more: scrub finds out why")
        size = blob.size
    tree = tree_of(leaves, size)
    with store.index.transaction() as conn:
        conn.execute(
            "INSERT OR REPLACE INTO leaf_table VALUES (?, ?, ?, ?)",
            (cid.digest, tree[0].digest, b"".join(leaves), now.isoformat()),
        )
        conn.executemany(
            "INSERT OR IGNORE INTO block VALUES (?, ?, ?, ?, ?)",
            [(node.digest, cid.digest, node.offset, node.size, node.block) for node in tree],
        )
    return LeafTable(id=cid, size=size, root=tree[0].digest, leaves=leaves)


def without_leaf_table(store: BlobStore) -> Iterator[tuple[ContentId, int]]:
    """Files here that are larger than one leaf and have no table: (id, bytes). What is archived is left in peace."""
    after = b""
    while True:
        rows = store.index.select(
            """SELECT sha, size FROM blob WHERE sha > ? AND size > ?
                 AND NOT EXISTS (SELECT 1 FROM leaf_table WHERE leaf_table.sha = blob.sha)
                 AND EXISTS (SELECT 1 FROM location WHERE location.sha = blob.sha) ORDER BY sha LIMIT ?""",
            after, LEAF_BYTES, _PAGE,
        )  # fmt: skip
        if not rows:
            return
        for row in rows:
            yield ContentId(row["sha"]), int(row["size"])
        after = rows[-1]["sha"]


def find_blocks(store: BlobStore, codec: int, digest: bytes) -> list[Block]:
    """Everywhere a block is known: the file that it is, or the files it is a part of."""
    found: list[Block] = []
    if codec == RAW:
        size = store.index.size_of(ContentId(digest))
        if size is not None:
            found.append(Block(file=ContentId(digest), codec=RAW, offset=0, size=size, node=None))
    for row in store.index.select(
        "SELECT sha, place, size, node FROM block WHERE digest = ? ORDER BY sha, place LIMIT 100", digest
    ):
        if (row["node"] is None) == (codec == RAW):
            found.append(
                Block(
                    file=ContentId(row["sha"]), codec=RAW if row["node"] is None else DAG_PB, offset=row["place"],
                    size=row["size"], node=row["node"],
                )
            )  # fmt: skip
    return found
