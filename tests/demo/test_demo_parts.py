"""The demo's own parts: what it draws, how it judges, and that its relay finds a leak when there is one."""

import asyncio
import base64
import gzip
import hashlib
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import jpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from node.demo.collections import institutions, write_collections
from node.demo.leaks import LeakFinder
from node.demo.run import Demo, DemoFailed
from node.demo.truth import Truth, choose_term, score


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg(number, size=(320, 240)))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def finder(pictures: list[Path]) -> LeakFinder:
    return LeakFinder.of_files(pictures)


def pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


LEAKS = {
    "the file": lambda data, rows: data,
    "half of it": lambda data, rows: data[len(data) // 3 : len(data) // 3 * 2],
    "inside other traffic": lambda data, rows: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 77 + data[700:1100] + b"tail",
    "base64 in JSON": lambda data, rows: json.dumps({"a": base64.b64encode(data[400:1500]).decode()}).encode(),
    "url-safe base64": lambda data, rows: base64.urlsafe_b64encode(data[401:1500]),
    "base64 in base64": lambda data, rows: base64.b64encode(
        json.dumps([base64.b64encode(data[:900]).decode()]).encode()
    ),
    "short pieces of base64": lambda data, rows: "\n".join(
        base64.b64encode(data[at : at + 81]).decode() for at in range(0, 4000, 81)
    ).encode(),
    "hexadecimal": lambda data, rows: data[300:900].hex().encode(),
    "gzip": lambda data, rows: b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(data),
    "deflate": lambda data, rows: zlib.compress(data),
    "a list of numbers": lambda data, rows: json.dumps(list(data[200:800])).encode(),
    "pixel rows": lambda data, rows: rows.tobytes(),
    "pixel rows in base64": lambda data, rows: base64.b64encode(rows[32:64].tobytes()),
}


@pytest.mark.parametrize("way", LEAKS)
def test_a_leak_is_found(finder: LeakFinder, pictures: list[Path], way: str) -> None:
    assert finder.count(LEAKS[way](pictures[0].read_bytes(), pixels(pictures[0]))) > 0


def test_the_count_of_a_whole_file_is_about_its_size(finder: LeakFinder, pictures: list[Path]) -> None:
    data = pictures[1].read_bytes()
    assert 0.8 * len(data) < finder.count(data) <= len(data)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000))
def test_other_bytes_are_no_leak(finder: LeakFinder, data: bytes) -> None:
    assert finder.count(data) == 0


def test_honest_traffic_is_no_leak(finder: LeakFinder, pictures: list[Path]) -> None:
    ids = [hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures]
    honest = json.dumps(
        {"ids": ids, "text": ["Herbarium Martii"] * 200, "boxes": [[n, n, 10, 10] for n in range(500)]}
    ).encode()
    assert finder.count(honest) == 0
    assert finder.count(base64.b64encode(honest)) == 0


@pytest.mark.long
def test_the_drawn_collections_are_the_same_for_one_seed_and_hide_the_answer(tmp_path: Path) -> None:
    count = write_collections(tmp_path / "a", tmp_path / "truth" / "t.json", seed=1)
    assert count == sum(len(item.sheets) for item in institutions())
    truth = json.loads((tmp_path / "truth" / "t.json").read_text("utf-8"))
    assert sum(row["martii"] == "yes" for row in truth.values()) >= 5
    for path in (tmp_path / "a").rglob("*.txt"):
        assert "martii" not in path.read_text("utf-8").lower()
    first = sorted((tmp_path / "a").rglob("*.jpg"))[0]
    before = first.read_bytes()
    write_collections(tmp_path / "b", tmp_path / "t.json", seed=1)
    assert sorted((tmp_path / "b").rglob("*.jpg"))[0].read_bytes() == before


def test_judging_needs_a_transcribed_block() -> None:
    truth = Truth(
        question="x", carries={"a": True, "b": False, "c": False, "d": None}, codes={},
        blocks={"b": ((0, 0, 10, 10),), "c": ((0, 0, 10, 10),)},
    )  # fmt: skip
    found = score(truth, {"b": [(5, 5, 10, 10)], "c": [(50, 50, 10, 10)], "d": [(0, 0, 1, 1)], "e": [(0, 0, 1, 1)]})
    assert (found.found, found.missed, found.false, found.unjudged) == ((), ("a",), ("b",), ("c", "d", "e"))


def test_the_term_is_chosen_by_rule() -> None:
    rows = [
        {"file": "1", "kind": "printed", "text": "Museum Berlin | Herbarium"}, {"file": "2", "kind": "printed", "text": "HERBARIUM x"},
        {"file": "3", "kind": "handwritten", "text": "Berlin Berlin"}, {"file": "4", "kind": "printed", "text": "Museum"},
    ]  # fmt: skip
    assert choose_term(rows) == "herbarium"


async def test_a_node_that_has_ended_ends_the_wait_for_the_registry_at_once(tmp_path: Path) -> None:
    demo = Demo(tmp_path, data=None, say=lambda _: None, is_quiet=True)
    (tmp_path / "serve-1.log").write_text("no room on the disk")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await process.wait()
    demo._processes.append(process)
    with pytest.raises(DemoFailed, match=r"(?s)ended.*no room"):
        await demo._wait_for_registry()
    await demo.close()
