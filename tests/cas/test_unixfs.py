"""Files as IPFS sees them: published vectors, shapes, and an independent codec."""

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import CID

from cas.ids import ContentId
from cas.unixfs import DAG_PB, LEAF_BYTES, RAW, cid_text, leaf_digests, links_of, root_of, tree_of

MIB = LEAF_BYTES


def leaves_of(data: bytes) -> list[bytes]:
    return [hashlib.sha256(data[at : at + MIB]).digest() for at in range(0, max(1, len(data)), MIB)]


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 5_000_000])
def test_leaves_of_a_file_are_those_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    descriptor = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        counted: list[int] = []
        assert list(leaf_digests(descriptor, took=counted.append)) == leaves_of(data)
        assert sum(counted) == size
    finally:
        os.close(descriptor)


def test_a_small_file_is_its_own_root() -> None:
    for data in (b"", b"hello world", b"x" * MIB):
        assert root_of(leaves_of(data), len(data)).cid == ContentId.of(data).to_cid()
    assert root_of(leaves_of(b"hello world"), 11).cid == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


def test_blocks_are_in_depth_first_order_and_their_links_lead_to_each_other() -> None:
    count = 1024 * 1 + 3
    size = (count - 1) * MIB + 7
    leaves = [hashlib.sha256(str(number).encode()).digest() for number in range(count)]
    tree = tree_of(leaves, size)
    root, *rest = tree
    assert (root.codec, root.file_bytes, root.offset) == (DAG_PB, size, 0)
    assert [node.digest for node in rest if node.codec == RAW] == leaves
    assert len([node for node in tree if node.codec == DAG_PB]) == 3
    by_digest = {node.digest: node for node in tree}

    def walk(digest: bytes) -> list[bytes]:
        block = by_digest[digest].block
        below = [] if block is None else [item for _, link in links_of(block) for item in walk(link)]
        return [digest, *below]

    assert walk(root.digest) == [node.digest for node in tree]
    for node in tree:
        if node.block is not None:
            assert hashlib.sha256(node.block).digest() == node.digest
            assert [codec for codec, _ in links_of(node.block)].count(RAW) in (0, 3, 1024)
    assert root.tree_bytes == size + sum(len(node.block) for node in tree if node.block is not None)


def test_a_wrong_number_of_leaves_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves"):
        tree_of([b"0" * 32] * 3, MIB)


@given(st.binary(min_size=32, max_size=32), st.sampled_from([RAW, DAG_PB]))
def test_cids_equal_those_of_an_independent_codec(digest: bytes, codec: int) -> None:
    name = "raw" if codec == RAW else "dag-pb"
    assert cid_text(codec, digest) == str(CID("base32", 1, name, ("sha2-256", digest)))


def test_sparse_reads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    with tempfile.TemporaryFile() as stream:
        data = os.urandom(2 * MIB + 5)
        stream.write(data)
        stream.flush()
        monkeypatch.setattr(os, "preadv", lambda fd, views, at: real(fd, [views[0][:300_001]], at))
        assert list(leaf_digests(stream.fileno())) == leaves_of(data)
