"""The pipelines on real specimen images: what must be reached is, and floors under what was measured, so that a change
cannot worsen it unseen. The figures and a gallery of overlays: ``make accuracy``.

Some pipelines were tuned on these images (their sections say so); there the floors promise nothing for other collections.
"""

import importlib
from ctypes.util import find_library

import pytest

from benchmarks.accuracy.__main__ import SECTIONS
from benchmarks.accuracy.label_text import judge_blocks
from benchmarks.accuracy.world import World
from tests.conftest import shared_folder

pytestmark = [pytest.mark.real_data, pytest.mark.timeout(1800)]
MISSED: dict[str, list[str]] = {}
"""Pipeline -> rows of the table whose goal is known not to be reached."""


@pytest.fixture(scope="module")
def world() -> World:
    data = shared_folder() / "data"
    assert data.is_dir(), f"the tier real_data needs {data}"
    return World(data)


@pytest.mark.parametrize("name", SECTIONS)
def test_what_must_be_reached_is(world: World, name: str) -> None:
    section = importlib.import_module(SECTIONS[name]).section(world)
    assert section.rows
    assert [row.what for row in section.rows if row.is_met is False] == MISSED.get(name, []), section.rows


@pytest.mark.parametrize("name", SECTIONS)
def test_every_image_gives_a_result_or_a_reason(world: World, name: str) -> None:
    results = world.results(name)
    assert len(results) == len(world.images)
    broken = {image: result.reason for image, result in results.items() if result.reason.startswith("failed")}
    assert broken == {}
    assert all(result.body is not None or result.reason for result in results.values())


def test_codes_on_real_images(world: World) -> None:
    results = world.results("barcode")
    read = {(name, code["payload"]) for name, result in results.items() if result.body for code in result.body["codes"]}
    found = sum((row["file"], row["payload"]) in read for row in world.truth("barcodes"))
    # One Code 128 on the sheet with three is read by zbar only.
    assert found >= (18 if find_library("zbar") else 17)


def test_text_on_real_labels(world: World) -> None:
    bodies = {name: result.body for name, result in world.results("label-text").items() if result.body is not None}
    blocks = {kind: total.to_json() for kind, total in judge_blocks(world.truth("labels"), bodies).items()}
    assert blocks["printed"]["cer_strict"] <= 0.055
    assert blocks["printed"]["words_found"] >= 405
    assert blocks["turned"]["words_found"] >= 88
    assert sum(kind["words_missed_silently"] for kind in blocks.values()) <= 60
