"""Specimen masks: intersection over union with the masks that came with the images.

**Not in-sample**: the score is of networks that had not seen the specimen (``held_out``): one sheet left out at a time,
and two or three beetles with it. The network that ships was trained on all of them; on every other image it is judged by
whether it finds a specimen where a person sees one (``truth/specimens.tsv``, by eye).
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.accuracy.held_out import FILE
from benchmarks.accuracy.world import Image, Picture, Row, Section, World, by_sha, share
from linkeddata.outputs import parse_output
from runners.pipelines.segment import overlap

MUST = {"herbarium": (0.70, "0.85"), "insects": (0.88, "0.92")}
POOR = 0.85
CARD = "specimen-2.json"
"""What the network that ships was trained on, by SHA-256."""


def truth_mask(image: Image) -> Any:
    """What the mask beside an image covers; None without one."""
    path = image.path.parents[1] / "masks" / (Path(image.name).stem + ".png")
    return np.asarray(cv2.imread(str(path)).max(axis=2) > 0, np.bool_) if path.exists() else None


def held_out(name: str) -> dict[str, Any]:
    """Bodies by image of networks that had not seen it."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))[name]
    return found


def section(world: World) -> Section:
    made = Section(pipeline="segment")
    bodies = held_out("segment")
    images = {image.sha256: image for image in world.images}
    for collection, (must, stretch) in MUST.items():
        scores = {}
        for sha256, body in bodies.items():
            image = images[sha256]
            if image.collection == collection:
                scores[sha256] = overlap(body, truth_mask(image))
        mean = float(np.mean(list(scores.values())))
        what = "plants, one sheet left out at a time" if collection == "herbarium" else "beetles, nine folds"
        made.rows.append(
            Row(what=f"{what}: mean overlap (IoU) of {len(scores)}", reached=f"{mean:.3f}, least {min(scores.values()):.3f}",
                must=f">= {must:.2f}, stretch {stretch}", is_met=mean >= must)
        )  # fmt: skip
        for sha256, score in sorted(scores.items(), key=lambda item: item[1]):
            regions = parse_output("segment/1", bodies[sha256]).regions()
            made.pictures.append(
                Picture(image=images[sha256], caption=f"not seen in training: overlap {score:.3f}", regions=regions,
                        is_good=score >= POOR)
            )  # fmt: skip
    card = json.loads(resources.files("runners").joinpath("models", CARD).read_text(encoding="utf-8"))
    judge_presence(world, made, {*card["trained_on"], *card["labels"]})
    return made


def judge_presence(world: World, made: Section, trained: set[str]) -> None:
    """Whether something is found where a person sees a specimen, and nothing where not."""
    results = world.results("segment")
    seen = by_sha(world.own_truth("specimens"))
    found = absent = missed = 0
    for image in world.images:
        if image.sha256 in trained or image.sha256 not in seen:
            continue
        output = results[image.name].output
        has = output is not None and output.answer(None).answer == "yes"
        wanted = seen[image.sha256]["specimen"] == "yes"
        found += has and wanted
        absent += has and not wanted
        missed += wanted and not has
        caption = ("a specimen was found" if has else "none was found") + ("" if has == wanted else ": wrong")
        if output is not None:
            caption += "".join(f"; {doubt}" for doubt in output.doubts)
        made.pictures.append(
            Picture(image=image, caption=caption, regions=output.regions() if output else (), is_good=has == wanted)
        )
    made.rows += [
        Row(what="other images with a specimen: one is found", reached=share(found, found + missed)),
        Row(what="images without any: something is found", reached=str(absent), must="told"),
    ]
    made.notes = [
        world.timing("segment"),
        "where something is found is not judged on images without a mask: look at them",
    ]
