"""The trustless gateway and delegated routing: the contract, the doors, damage; cases as in gateway-conformance."""

import hashlib
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from multiformats import CID

from cas.cids import base58, from_base58, parse_cid
from cas.errors import ContentIdError
from cas.ids import ContentId
from cas.leaves import LeafTable, build_leaf_table
from cas.unixfs import DAG_PB, LEAF_BYTES, RAW, cid_text
from node.app import build_application
from node.folder import NodeFolder
from node.services.care import Care
from node.web.ipfs import peer_id
from node.web.keys import CARE
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
LEAVES = [random.Random(number).randbytes(LEAF_BYTES) for number in (1, 2)]
BIG = jpeg(9) + LEAVES[0] + LEAVES[1] + b"end"
HIDDEN = jpeg(8) + LEAVES[1] * 2
TWINS = jpeg(7) + bytes(LEAF_BYTES - len(jpeg(7))) + bytes(3 * LEAF_BYTES)
"""Three equal leaves of zeros after the first."""
RAW_TYPE, CAR_TYPE = "application/vnd.ipld.raw", "application/vnd.ipld.car"


@dataclass
class Gate:
    node: NodeFolder
    client: TestClient  # type: ignore[type-arg]
    folder: Path
    big: LeafTable
    twins: LeafTable
    small: bytes

    async def get(self, path: str, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
        response = await self.client.get(path, headers=headers, allow_redirects=False)
        return response.status, await response.read(), response.headers


@pytest.fixture
async def gate(make_node: Make, tmp_path: Path) -> AsyncIterator[Gate]:
    node = make_node(settings='[images]\noriginals_withheld_for = "nothing"\n')  # these files have tails
    rows = rows_of(4)
    rows[2]["licence"] = "all rights reserved"
    files = [jpeg(1), BIG, HIDDEN, TWINS]
    ingest(node, write_archive(tmp_path / "a", rows, images=lambda number: files[number]))
    tables = [build_leaf_table(node.blobs, ContentId.of(data), now=NOW) for data in (BIG, HIDDEN, TWINS)]
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield Gate(node, client, tmp_path / "a" / "images", tables[0], tables[2], files[0])


def blocks_of(car: bytes) -> tuple[list[str], list[tuple[str, bytes]]]:
    """Roots and blocks of a CARv1, read with an independent codec; each block is checked against its CID."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = car[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    length, at = varint(0)
    header = car[at : at + length]
    assert header.startswith(b"\xa2\x65roots\x81\xd8\x2a\x58")
    assert header.endswith(b"\x67version\x01")
    roots = [str(CID.decode(header[13:49]).encode("base32"))]
    at += length
    found = []
    while at < len(car):
        length, at = varint(at)
        cid = CID.decode(car[at : at + 36])
        data = car[at + 36 : at + length]
        assert hashlib.sha256(data).digest() == cid.raw_digest
        found.append((cid.encode("base32"), data))
        at += length
    return roots, found


# ---------------------------------------------------------------------- raw (TestTrustlessRaw, TestTrustlessRawRanges)
async def test_a_raw_block_has_every_header_of_the_contract(gate: Gate) -> None:
    name = ContentId.of(gate.small).to_cid()
    for path, accept in ((f"/ipfs/{name}?format=raw", "*/*"), (f"/ipfs/{name}", RAW_TYPE)):
        status, body, headers = await gate.get(path, Accept=accept)
        assert (status, body) == (200, gate.small)
        assert headers["Content-Type"] == RAW_TYPE
        assert headers["Content-Length"] == str(len(gate.small))
        assert headers["Content-Disposition"] == f'attachment; filename="{name}.bin"'
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["ETag"] == f'"{name}.raw"'
        assert headers["Cache-Control"] == "public, max-age=29030400, immutable"
        assert headers["X-Ipfs-Path"] == f"/ipfs/{name}"
        assert headers["X-Ipfs-Roots"] == name
        assert headers["Vary"] == "Accept"
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Accept-Ranges"] == "bytes"
    status, _, headers = await gate.get(f"/ipfs/{name}?format=raw&filename=a%20b.bin")
    assert headers["Content-Disposition"] == 'attachment; filename="a b.bin"'
    status, _, headers = await gate.get(f'/ipfs/{name}?format=raw&filename=x"%0d%0aX-Evil:1')
    assert headers["Content-Disposition"] == f'attachment; filename="{name}.bin"'
    assert "X-Evil" not in headers
    status, body, _ = await gate.get(f"/ipfs/{name}?format=raw", **{"If-None-Match": f'"{name}.raw"'})
    assert (status, body) == (304, b"")
    head = await gate.client.head(f"/ipfs/{name}?format=raw")
    assert (head.status, head.headers["Content-Length"], await head.read()) == (200, str(len(gate.small)), b"")


async def test_ranges_of_a_raw_block(gate: Gate) -> None:
    path = f"/ipfs/{cid_text(RAW, gate.big.leaves[1])}?format=raw"
    leaf = BIG[LEAF_BYTES : 2 * LEAF_BYTES]
    status, body, headers = await gate.get(path, Range="bytes=10-19")
    assert (status, body, headers["Content-Range"]) == (206, leaf[10:20], f"bytes 10-19/{LEAF_BYTES}")
    status, body, _ = await gate.get(path, Range="bytes=0-1, 5-6")
    assert (status, body) == (200, leaf), "several ranges: the whole, never 416"


async def test_every_block_of_a_large_file_is_given_and_hashes_to_its_name(gate: Gate) -> None:
    for node in gate.big.tree():
        status, body, _ = await gate.get(f"/ipfs/{node.cid}?format=raw")
        assert (status, hashlib.sha256(body).digest()) == (200, node.digest)
    whole = ContentId.of(BIG).to_cid()
    status, body, headers = await gate.get(f"/ipfs/{whole}?format=raw")
    assert status == 404
    assert b"2 MiB" in body
    assert gate.big.tree()[0].cid in headers["Link"]


async def test_every_spelling_of_a_cid_leads_to_the_block(gate: Gate) -> None:
    cid = ContentId.of(gate.small)
    for base in ("base32", "base32upper", "base16", "base58btc"):
        text = str(CID(base, 1, "raw", ("sha2-256", cid.digest)))
        assert (await gate.get(f"/ipfs/{text}?format=raw"))[:2] == (200, gate.small)
    old = base58(b"\x12\x20" + gate.big.root)
    assert old.startswith("Qm")
    assert (await gate.get(f"/ipfs/{old}?format=raw"))[0] == 200


@pytest.mark.parametrize("text", ["x", "bafkqaab", "Qm" + "1" * 44, "b" + "a" * 58, "z" + "l" * 48, "bafy" + "a" * 55, "%00", "bafkrei" + "9" * 52, "a" * 3000])  # fmt: skip
async def test_what_is_no_cid_is_refused(gate: Gate, text: str) -> None:
    for path in (f"/ipfs/{text}?format=raw", f"/routing/v1/providers/{text}"):
        status, _, headers = await gate.get(path)
        assert status == 400, path
        assert headers["Content-Type"].startswith("application/problem+json")


async def test_formats_are_asked_for_by_name(gate: Gate) -> None:
    """CarFormatPrecedence: the parameter wins; neither is refused."""
    name = ContentId.of(gate.small).to_cid()
    assert (await gate.get(f"/ipfs/{name}?format=raw", Accept=CAR_TYPE))[2]["Content-Type"] == RAW_TYPE
    assert (await gate.get(f"/ipfs/{name}?format=car", Accept=RAW_TYPE))[2]["Content-Type"].startswith(CAR_TYPE)
    for accept in ("*/*", "text/html", "application/vnd.ipld.dag-json"):
        assert (await gate.get(f"/ipfs/{name}", Accept=accept))[0] == 400
    for query in ("format=tar", "format=", "format=car&dag-scope=x", "format=car&entity-bytes=a:b", "format=car&car-version=2", "format=car&car-order=bfs"):  # fmt: skip
        assert (await gate.get(f"/ipfs/{name}?{query}"))[0] == 400


async def test_what_is_not_here(gate: Gate) -> None:
    missing = ContentId.of(b"nowhere").to_cid()
    assert (await gate.get(f"/ipfs/{missing}?format=raw"))[0] == 404
    assert (await gate.get(f"/ipfs/{missing}?format=raw", **{"Cache-Control": "only-if-cached"}))[0] == 412
    name = ContentId.of(gate.small).to_cid()
    assert (await gate.get(f"/ipfs/{name}?format=raw", **{"Cache-Control": "only-if-cached"}))[0] == 200
    assert (await gate.get(f"/ipfs/{name}/a/b?format=raw"))[0] == 404
    status, body, headers = await gate.get("/ipfs/bafkqaaa?format=raw")
    assert (status, body, headers["X-Ipfs-Roots"]) == (200, b"", "bafkqaaa")
    status, body, _ = await gate.get("/ipfs/bafkqaaa?format=car")
    assert status == 200
    assert b"\x01\x55\x00\x00" in body


# ---------------------------------------------------------------------- CAR
async def test_a_car_holds_the_file_depth_first(gate: Gate) -> None:
    root = gate.big.tree()[0].cid
    status, body, headers = await gate.get(f"/ipfs/{root}", Accept=f"{CAR_TYPE}; version=1; order=dfs; dups=n")
    assert status == 200
    assert headers["Content-Type"] == f"{CAR_TYPE}; version=1; order=dfs; dups=n"
    assert headers["Accept-Ranges"] == "none"
    assert headers["Content-Disposition"] == f'attachment; filename="{root}.car"'
    assert int(headers["Content-Length"]) == len(body)
    roots, blocks = blocks_of(body)
    assert roots == [root]
    assert [name for name, _ in blocks] == [node.cid for node in gate.big.tree()]
    assert b"".join(data for name, data in blocks if parse_cid(name)[0] == RAW) == BIG
    head = await gate.client.head(f"/ipfs/{root}?format=car")
    assert head.headers["Content-Length"] == str(len(body))
    tag = headers["ETag"]
    assert (await gate.get(f"/ipfs/{root}?format=car", **{"If-None-Match": tag}))[0] == 304
    assert (await gate.get(f"/ipfs/{root}?format=car&dag-scope=block"))[2]["ETag"] != tag


async def test_equal_leaves_are_sent_once_unless_asked_for(gate: Gate) -> None:
    root = gate.twins.tree()[0].cid
    once = blocks_of((await gate.get(f"/ipfs/{root}?format=car"))[1])[1]
    assert len(once) == 3
    twice = blocks_of((await gate.get(f"/ipfs/{root}?format=car", Accept=f"{CAR_TYPE};dups=y"))[1])[1]
    assert b"".join(data for name, data in twice if parse_cid(name)[0] == RAW) == TWINS


@pytest.mark.parametrize(
    ("query", "leaves"),
    [
        ("dag-scope=block", []), ("dag-scope=entity", [0, 1, 2]), ("dag-scope=all", [0, 1, 2]),
        ("dag-scope=entity&entity-bytes=0:*", [0, 1, 2]), ("dag-scope=entity&entity-bytes=0:0", [0]),
        (f"dag-scope=entity&entity-bytes=0:{LEAF_BYTES - 1}", [0]),
        (f"dag-scope=entity&entity-bytes=0:{LEAF_BYTES}", [0, 1]),
        (f"dag-scope=entity&entity-bytes={LEAF_BYTES}:{LEAF_BYTES}", [1]),
        ("dag-scope=entity&entity-bytes=-5:*", [2]), ("dag-scope=entity&entity-bytes=-5:-2", [2]),
        (f"dag-scope=entity&entity-bytes=0:-{len(BIG) - 9}", [0]),
        ("dag-scope=entity&entity-bytes=-99999999999:*", [0, 1, 2]),
        ("dag-scope=entity&entity-bytes=99999999999:*", []),
        ("dag-scope=entity&entity-bytes=5:4", []),
        ("entity-bytes=0:0", [0]),
    ],
)  # fmt: skip
async def test_scopes_and_ranges_of_a_car(gate: Gate, query: str, leaves: list[int]) -> None:
    root = gate.big.tree()[0].cid
    status, body, _ = await gate.get(f"/ipfs/{root}?format=car&{query}")
    assert status == 200
    names = [name for name, _ in blocks_of(body)[1]]
    assert names == [root, *(cid_text(RAW, gate.big.leaves[number]) for number in leaves)]


async def test_a_car_of_one_block(gate: Gate) -> None:
    name = ContentId.of(gate.small).to_cid()
    roots, blocks = blocks_of((await gate.get(f"/ipfs/{name}?format=car"))[1])
    assert (roots, blocks) == ([name], [(name, gate.small)])
    leaf = cid_text(RAW, gate.big.leaves[1])
    assert len(blocks_of((await gate.get(f"/ipfs/{leaf}?format=car"))[1])[1]) == 1


# ---------------------------------------------------------------------- doors
async def test_blocks_of_a_restricted_file_stay_here_unless_an_open_file_holds_them(gate: Gate) -> None:
    hidden = build_leaf_table(gate.node.blobs, ContentId.of(HIDDEN), now=NOW)
    for node in hidden.tree():
        status = (await gate.get(f"/ipfs/{node.cid}?format=raw"))[0]
        assert status == (200 if node.digest in gate.big.leaves else 403), node
        found = (await gate.client.get(f"/routing/v1/providers/{node.cid}")).json()
        assert bool((await found)["Providers"]) == (status == 200)


async def test_the_one_large_file_that_nobody_listed_is_listed_at_first_need(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings='[images]\noriginals_withheld_for = "nothing"\n')  # these files have tails
    ingest(node, write_archive(tmp_path / "a", rows_of(1), images=lambda _: BIG))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        path = f"/ipfs/{ContentId.of(BIG).to_cid()}?format=car"
        first = await client.get(path)
        assert (first.status, first.headers["Retry-After"]) == (404, "120")
        care: Care = app[CARE]
        assert care.run_slice(60).tables == 1
        second = await client.get(path)
        root = second.headers["Link"].split("/ipfs/")[1].split(">")[0]
        assert b"".join(
            data for name, data in blocks_of(await (await client.get(f"/ipfs/{root}?format=car")).read())[1]
            if parse_cid(name)[0] == RAW
        ) == BIG  # fmt: skip
        for number in range(150):
            care.want_leaf_table(ContentId.of(str(number).encode()))
        assert not care.want_leaf_table(ContentId.of(b"one more")), "strangers cannot make a list without end"


async def test_a_damaged_leaf_is_never_sent_and_the_file_is_scrubbed_next(gate: Gate) -> None:
    from cas.scrub import due

    before = (gate.folder / "1.jpg").stat()
    data = bytearray(BIG)
    data[LEAF_BYTES + 7] ^= 1
    (gate.folder / "1.jpg").write_bytes(data)
    os.utime(gate.folder / "1.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
    leaf, root = cid_text(RAW, gate.big.leaves[1]), gate.big.tree()[0].cid
    assert due(gate.node.blobs, NOW)[0] == 0
    assert (await gate.get(f"/ipfs/{leaf}?format=raw"))[0] == 404
    assert due(gate.node.blobs, NOW)[0] == 1
    from aiohttp import ClientError

    with pytest.raises(ClientError):  # the answer had begun: its length is not reached
        await gate.get(f"/ipfs/{root}?format=car")
    assert (await gate.get(f"/ipfs/{cid_text(RAW, gate.big.leaves[0])}?format=raw"))[0] == 200
    assert (await gate.get(f"/ipfs/{leaf}?format=car"))[0] == 404


# ---------------------------------------------------------------------- routing
async def test_routing_names_this_node_for_what_it_gives_out(gate: Gate) -> None:
    status, _, headers = await gate.get(f"/routing/v1/providers/{gate.big.tree()[0].cid}")
    assert status == 200
    assert headers["Vary"] == "Accept"
    document = await (await gate.client.get(f"/routing/v1/providers/{ContentId.of(gate.small).to_cid()}")).json()
    (provider,) = document["Providers"]
    assert provider["Schema"] == "peer"
    assert provider["Addrs"] == ["/ip4/127.0.0.1/tcp/8765/http"]
    assert provider["Protocols"] == ["transport-ipfs-gateway-http"]
    assert provider["ID"].startswith("12D3KooW")
    nobody = await (await gate.client.get(f"/routing/v1/providers/{ContentId.of(b'x').to_cid()}")).json()
    assert nobody == {"Providers": []}
    lines = await gate.client.get(
        f"/routing/v1/providers/{ContentId.of(gate.small).to_cid()}", headers={"Accept": "application/x-ndjson"}
    )
    assert (await lines.text()).count("\n") == 1


def test_peer_ids_are_those_of_libp2p() -> None:
    key = bytes(range(32))
    name = peer_id(key)
    assert from_base58(name) == bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20)) + key
    assert CID("base58btc", 1, "libp2p-key", ("identity", from_base58(name)[2:])).digest.hex().startswith("0024")


def test_base58_keeps_zeros_and_refuses_strangers() -> None:
    for data in (b"", b"\0", b"\0\0a", b"hello", bytes(range(40))):
        assert from_base58(base58(data)) == data
    with pytest.raises(ContentIdError):
        from_base58("0OIl")


def test_codecs_are_told_apart() -> None:
    digest = hashlib.sha256(b"x").digest()
    assert parse_cid(cid_text(RAW, digest)) == (RAW, digest)
    assert parse_cid(cid_text(DAG_PB, digest)) == (DAG_PB, digest)
    with pytest.raises(ContentIdError, match="codec"):
        parse_cid(str(CID("base32", 1, "dag-cbor", ("sha2-256", digest))))
    with pytest.raises(ContentIdError):
        parse_cid(str(CID("base32", 1, "raw", ("sha2-512", hashlib.sha512(b"x").digest()))))
