"""Traits: the measures of a mask that was found against those of the mask that came with the image.

Twenty-three beetles, five measures each. The masks are those of networks that had not seen the beetle (``held_out``); the
truth is measured the same way on the given mask at its full size, so this judges masks and cells, not the formulas:
those are tested on shapes whose measures are known. Sheets are told apart: what is one plant is open there.
``truth/traits.tsv`` has lengths in millimetres, read by eye from ruler and specimen.
"""

import statistics
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.accuracy.segment import held_out, truth_mask
from benchmarks.accuracy.world import Picture, Row, Section, World, share
from linkeddata.outputs import parse_output
from runners.pipelines.masks import from_body
from runners.pipelines.traits import measure

MEASURES = ("length", "width", "area", "perimeter", "solidity")
FLOORS = {"length": 0.02, "width": 0.03, "area": 0.05}
"""Greatest median deviation that is held, for beetles."""


def deviations(world: World, collection: str) -> dict[str, list[float]]:
    """Per measure, the relative deviations of the largest specimen."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    images = {image.sha256: image for image in world.images}
    for sha256, body in held_out("segment").items():
        image = images[sha256]
        if image.collection != collection:
            continue
        with Image.open(image.path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        ours, truth = measure(from_body(body["mask"]), pixels, 0), measure(truth_mask(image), pixels, 0)
        for name in MEASURES:
            one: Any = ours[0][name] if ours else 0
            two: Any = truth[0][name]
            found[name].append(abs(float(one) / float(two) - 1))
    return found


def section(world: World) -> Section:
    made = Section(pipeline="traits")
    for collection, what in (("insects", "beetles"), ("herbarium", "sheets, the largest plant")):
        for name, values in deviations(world, collection).items():
            floor = FLOORS.get(name) if collection == "insects" else None
            middle = statistics.median(values)
            within = share(sum(value <= 0.1 for value in values), len(values))
            made.rows.append(
                Row(what=f"{what}: {name}", reached=f"median {middle:.1%} off, {within} within 10 %",
                    must=f"median <= {floor:.0%}" if floor else "told", is_met=middle <= floor if floor else None)
            )  # fmt: skip
    judge_millimetres(world, made)
    made.notes += [world.timing("traits")]
    return made


def judge_millimetres(world: World, made: Section) -> None:
    """Lengths read by eye; and pictures of all that was measured."""
    results = world.results("traits")
    images = {image.sha256: image for image in world.images}
    right = total = 0
    for row in world.own_truth("traits"):
        body = results[images[row["sha256"]].name].body
        lengths = [float(item["length"]) for item in body["specimens"]] if body and body["unit"] == "mm" else []
        wanted = float(row["length_mm"])
        total += 1
        right += any(abs(length / wanted - 1) <= 0.05 for length in lengths)
    made.rows.append(
        Row(what="lengths in millimetres read by eye, within 5 %", reached=share(right, total), must="told")
    )
    in_mm = measured = 0
    for image in world.images:
        body = results[image.name].body
        if body is None or not body["specimens"]:
            continue
        measured += 1
        in_mm += body["unit"] == "mm"
        output = parse_output("traits/1", body)
        caption = "; ".join(f"{name} {value}" for name, value in output.measured().items())
        made.pictures.append(Picture(image=image, caption=caption, regions=output.regions()))
    made.notes.append(f"{measured} images measured, {in_mm} of them in millimetres")
