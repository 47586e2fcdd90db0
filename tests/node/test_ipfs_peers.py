"""Our blocks beside the reference implementations: roots of the importer, CARs read by the exporter."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ROOT, ingest, jpeg, rows_of, write_archive

from cas.ids import ContentId
from cas.leaves import build_leaf_table
from cas.unixfs import LEAF_BYTES, leaf_digests, root_of
from node.app import build_application
from node.folder import NodeFolder
from runners.catalogue import Catalogue

PEERS = ROOT / "tests" / "peers" / "ipfs"
SIZES = (0, 5, 180_000, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 2_000_000, 5_000_000, 50_000_000)


def peer(script: str, *arguments: str, given: bytes = b"") -> bytes:
    run = subprocess.run(["node", str(PEERS / script), *arguments], input=given, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()[-1000:]
    return run.stdout


@pytest.mark.ipfs
def test_our_roots_are_those_of_the_reference_importer(tmp_path: Path) -> None:
    """Also 1,027 leaves, which need a second level of joining blocks."""
    paths = []
    for size in SIZES:
        paths.append(tmp_path / f"{size}")
        paths[-1].write_bytes((hashlib.sha256(str(size).encode()).digest() * (size // 32 + 1))[:size])
    paths.append(tmp_path / "two levels")
    with paths[-1].open("wb") as stream:
        stream.truncate(1026 * LEAF_BYTES + 9)
    theirs = peer("root_of.mjs", *map(str, paths)).decode().split()
    for path, root in zip(paths, theirs, strict=True):
        with path.open("rb") as stream:
            assert root_of(list(leaf_digests(stream.fileno())), path.stat().st_size).cid == root, path.name


@pytest.mark.ipfs
async def test_a_car_of_ours_is_the_file_for_the_reference_exporter(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    data = jpeg(1) + hashlib.sha256(b"x").digest() * 200_000
    files = [jpeg(2), data]
    node = make_node(settings='[images]\noriginals_withheld_for = "nothing"\n')  # these files have tails
    ingest(node, write_archive(tmp_path / "a", rows_of(2), images=lambda number: files[number]))
    table = build_leaf_table(node.blobs, ContentId.of(data), now=NOW)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        for name, expected in ((table.tree()[0].cid, data), (ContentId.of(files[0]).to_cid(), files[0])):
            car = await (await client.get(f"/ipfs/{name}?format=car")).read()
            assert peer("unpack_car.mjs", given=car) == expected
