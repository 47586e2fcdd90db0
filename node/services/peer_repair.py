"""Good bytes of one damaged image from several nodes, megabyte by megabyte, where its leaf table is here.

Invariants:
- A leaf is taken only when it has the digest that the table gives it, whoever sends it. What is good of the damaged
  copies here is not fetched again.
- A node that cannot be reached is not asked again; one that lacks a leaf, or sends other bytes, may have the next.
- Requests are bounded: each leaf is asked for at most once at each node.

It leaves out: files without a table (they are fetched whole), storing (``cas.repair``, which hashes the whole again).
"""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from cas.errors import BlobRefused
from cas.files import open_inside
from cas.leaves import LeafTable
from cas.scrub import quarantined
from cas.store import BlobStore
from cas.unixfs import LEAF_BYTES
from federation.errors import FederationError
from federation.safe_fetch import FetchLimits, SafeFetcher

LEAF_TIMEOUT_S: Final = 300.0
"""For one megabyte: a line of 30 kbit/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """Where the leaves of a file came from."""

    kept: int
    """Leaves that were good in the damaged copies here."""
    fetched: tuple[tuple[str, int], ...]
    """(node, leaves that it sent)."""
    missing: tuple[int, ...]
    """Numbers of the leaves that nobody had; empty: the file is complete."""


@contextlib.contextmanager
def damaged_copies(store: BlobStore, table: LeafTable) -> Iterator[list[int]]:
    """Descriptors of the damaged copies of this file that can be read, for what is good of them."""
    volumes = store.index.volumes()
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for item in quarantined(store):
            if item.id != table.id:
                continue
            try:
                if item.kept_at:
                    descriptor = os.open(store.folder / item.kept_at, os.O_RDONLY | os.O_CLOEXEC)
                elif item.volume in volumes:
                    descriptor, _ = open_inside(volumes[item.volume].root, item.path)
                else:
                    continue
            except (OSError, BlobRefused):
                continue
            stack.callback(os.close, descriptor)
            found.append(descriptor)
        yield found


async def assemble(
    table: LeafTable,
    copies: list[int],
    nodes: tuple[str, ...],
    out: BinaryIO,
    *,
    insecure_loopback: bool,
    took: Callable[[int], object],
) -> Assembled:
    """Writes every leaf that can be had to ``out``, each at its place; blocking reads, for a command.

    Args:
        table: the leaves that are wanted.
        copies: descriptors of damaged copies.
        nodes: addresses of nodes, in the order in which they are asked.
        out: an empty file.
        insecure_loopback: as in the settings.
        took: told of the bytes of each leaf that is settled.
    """
    fetcher = SafeFetcher(
        limits=FetchLimits(max_bytes=LEAF_BYTES, timeout_s=LEAF_TIMEOUT_S), insecure_loopback=insecure_loopback
    )
    left, kept, missing = list(nodes), 0, []
    sent: Counter[str] = Counter()
    for number, digest in enumerate(table.leaves):
        offset = number * LEAF_BYTES
        size = min(LEAF_BYTES, table.size - offset)
        leaf = _of_copies(copies, offset, size, digest)
        if leaf is not None:
            kept += 1
        else:
            for node in tuple(left):
                leaf, is_there = await _of_node(fetcher, f"{node.rstrip('/')}/cas/sha256/{table.id.hex}", offset, size)
                if not is_there:
                    left.remove(node)
                if leaf is not None and hashlib.sha256(leaf).digest() == digest:
                    sent[node] += 1
                    break
                leaf = None
        if leaf is None:
            missing.append(number)
        else:
            out.seek(offset)
            out.write(leaf)
        took(size)
    return Assembled(kept=kept, fetched=tuple(sent.items()), missing=tuple(missing))


def _of_copies(copies: list[int], offset: int, size: int, digest: bytes) -> bytes | None:
    for descriptor in copies:
        try:
            leaf = os.pread(descriptor, size, offset)
        except OSError:
            continue
        if hashlib.sha256(leaf).digest() == digest:
            return leaf
    return None


async def _of_node(fetcher: SafeFetcher, address: str, offset: int, size: int) -> tuple[bytes | None, bool]:
    """What a node sends for these bytes, and whether it is worth asking again."""
    leaf = bytearray()
    try:
        answer = await fetcher.stream(address, leaf.extend, part=(offset, size))
    except FederationError:
        return None, False
    return (bytes(leaf) if answer.status == 206 and len(leaf) == size else None), True
