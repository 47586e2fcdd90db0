"""Objects: boxes drawn by eye on 31 images (``truth/objects.tsv``, thousandths of the longer side) against those found.

A box is found when one of its kind overlaps it by half (IoU 0.5), each found one used once. On the nine sheets that the
network was trained with, it is the networks that had not seen the sheet that are scored (``held_out``); the other images
are in no training. **In-sample**: the sizes of the pipeline's own steps were chosen with these pictures in view.
"""

from collections import defaultdict
from typing import Any

from benchmarks.accuracy.segment import held_out
from benchmarks.accuracy.world import Picture, Row, Section, World, share
from linkeddata.outputs import Region, parse_output
from runners.pipelines.objects import overlap

AT = 0.5
MUST = {
    "specimen": 0.75, "label": 0.75, "barcode": 0.75, "chart": 0.6, "ruler": 0.75, "stamp": 0.5, "envelope": 0.5,
}  # fmt: skip
"""Floors under what was measured, so that a change cannot worsen it unseen; the other kinds are told."""


def judged(wanted: list[tuple[str, tuple[int, ...]]], found: list[Region]) -> dict[str, list[int]]:
    """Per kind: found, wanted, told. Pairs are taken in order of overlap."""
    pairs = sorted(
        (
            (overlap(box, region.box), place, number)
            for place, (kind, box) in enumerate(wanted)
            for number, region in enumerate(found)
            if region.label == kind
        ),
        reverse=True,
    )
    used_boxes, used_regions = set[int](), set[int]()
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for value, place, number in pairs:
        if value >= AT and place not in used_boxes and number not in used_regions:
            used_boxes.add(place)
            used_regions.add(number)
            sums[wanted[place][0]][0] += 1
    for kind, _ in wanted:
        sums[kind][1] += 1
    for region in found:
        sums[region.label][2] += 1
    return sums


def section(world: World) -> Section:
    made = Section(pipeline="objects")
    unseen = held_out("objects")
    boxes: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in world.own_truth("objects"):
        boxes[row["sha256"]].append(row)
    total: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    results = world.results("objects")
    for image in world.images:
        if image.sha256 not in boxes:
            continue
        body: Any = unseen.get(image.sha256) or results[image.name].body
        output = parse_output("objects/1", body)
        side = max(output.image.width, output.image.height) / 1000
        wanted = [
            (row["class"], tuple(round(float(row[key]) * side) for key in ("x", "y", "width", "height")))
            for row in boxes[image.sha256]
        ]
        sums = judged(wanted, list(output.regions()))
        for kind, three in sums.items():
            total[kind] = [one + two for one, two in zip(total[kind], three, strict=True)]
        right, all_of, told = (sum(three[place] for three in sums.values()) for place in range(3))
        where = "network that had not seen it: " if image.sha256 in unseen else ""
        made.pictures.append(
            Picture(image=image, caption=f"{where}{right} of {all_of} boxes found, {told} told", regions=output.regions(),
                    is_good=right >= 0.6 * all_of)
        )  # fmt: skip
    for kind in sorted(total, key=lambda item: -total[item][1]):
        right, all_of, told = total[kind]
        must = MUST.get(kind)
        made.rows.append(
            Row(what=f"{kind}: boxes found (overlap {AT})",
                reached=f"{share(right, all_of)}; right of those told {share(right, told)}",
                must=f">= {must:.0%} of them" if must else "told", is_met=right >= must * all_of if must else None)
        )  # fmt: skip
    right, all_of, told = (sum(three[place] for three in total.values()) for place in range(3))
    made.rows.append(
        Row(
            what=f"all, {len(made.pictures)} images",
            reached=f"{share(right, all_of)}; right of those told {share(right, told)}",
        )
    )
    made.notes = [world.timing("objects")]
    return made
