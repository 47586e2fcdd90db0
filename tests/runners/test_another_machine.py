"""The comparison of two machines sees what differs: results of real pipelines, changed a little and too much."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.another_machine import difference, order
from runners.catalogue import Catalogue, make_pipeline

Change = Callable[[dict[str, Any]], object]


def result(name: str) -> tuple[dict[str, Any], float]:
    """What a pipeline says of its first reference image."""
    [entry] = Catalogue.of((name,)).entries
    pipeline = make_pipeline(entry.target, entry.folder)
    pipeline.load()
    reference = pipeline.references()[0]
    height, width = reference.pixels.shape[:2]
    body = pipeline.run(reference.pixels, {}, reference.upstream)
    return {**body, "image": {"width": width, "height": height}}, float(pipeline.manifest().tolerance)


def half_of_the_mask(body: dict[str, Any]) -> None:
    runs = body["mask"]["runs"]
    kept = len(runs) // 4 * 2
    body["mask"]["runs"] = [*runs[:kept], sum(runs[kept:])]


def other_bits(body: dict[str, Any]) -> None:
    body["turned"][0] = f"{int(body['turned'][0], 16) ^ 0xFFF:064x}"


def other_text(body: dict[str, Any]) -> None:
    body["codes"][0]["payload"] = "something else"


@pytest.mark.parametrize(
    ("name", "change", "differs"),
    [
        ("scale", lambda body: body.update(px_per_mm="8.0100"), False),
        ("scale", lambda body: body.update(px_per_mm="8.1000"), True),
        ("scale", lambda body: body["box"].__setitem__(2, body["box"][2] - 3), False),
        ("scale", lambda body: body["box"].__setitem__(2, body["box"][2] // 2), True),
        ("barcode", other_text, True),
        ("barcode", lambda body: body["codes"].clear(), True),
        ("chart", lambda body: body.update(after="99"), True),
        ("duplicates", lambda body: body["turned"].__setitem__(0, f"{int(body['turned'][0], 16) ^ 7:064x}"), False),
        ("duplicates", other_bits, True),
        ("quality", lambda body: body["measures"].update(mean="0.00"), True),
        ("segment", half_of_the_mask, True),
    ],
)
def test_what_differs_is_seen_and_what_agrees_is_not_blamed(name: str, change: Change, *, differs: bool) -> None:
    body, tolerance = result(name)
    assert difference(name, body, copy.deepcopy(body), tolerance) is None
    other = copy.deepcopy(body)
    change(other)
    found = difference(name, body, other, tolerance)
    assert found is not None
    assert bool(found) is differs, found
    assert difference(name, body, "refused", tolerance)


def test_vectors_that_point_elsewhere_differ() -> None:
    body, tolerance = result("embed")
    other, _ = result("embed")
    [entry] = Catalogue.of(("embed",)).entries
    pipeline = make_pipeline(entry.target, entry.folder)
    pipeline.load()
    other = {**pipeline.run(np.full((300, 300, 3), 7, np.uint8), {}, {}), "image": body["image"]}
    assert "vectors are" in str(difference("embed", body, other, tolerance))


def test_pipelines_stand_behind_those_they_take_results_of() -> None:
    names = order()
    assert names.index("traits") > max(map(names.index, ("segment", "scale", "chart")))
    assert names.index("scale") > names.index("chart")
