"""Real pictures with truth, as training sees them: images, masks, and boxes where somebody drew some.

``DIR`` holds folders ``images`` with ``masks`` beside them; a mask has the name of its image, and what
is not black in it is specimen. ``boxes.tsv`` (sha256, class, x, y, width, height in thousandths of the longer
side of the upright image) says where labels, codes and rulers lie; an image with boxes is taken to be fully described.
Images in folders ``labels`` are pieces of paper to be laid on made pictures.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from runners.training.made_paper import Array, Patch
from runners.training.made_pictures import CLASSES, SPECIMEN, Cutout

UNKNOWN: Final = 255
"""In a truth: specimen or not is known (see ``mask``), the class is not."""
RIM_PX: Final = 5
"""Boxes drawn by eye are good to this many pixels of 768."""


@dataclass(frozen=True, slots=True)
class Example:
    """A real picture, its longer side brought to the side of training."""

    name: str
    sha256: str
    pixels: Array
    mask: Array
    """(h, w): 1 where the specimen is."""
    classes: Array
    """(h, w): a class or ``UNKNOWN``."""
    is_plant: bool
    full_mask: Array
    """The mask as it was given."""


def read_examples(folder: Path, side: int) -> list[Example]:
    """Every image under ``folder`` that has a mask, ordered by name.

    Raises:
        ValueError: there is none, or one does not fit its image.
    """
    import cv2

    boxes = _boxes(folder)
    found: list[Example] = []
    for path in sorted(folder.rglob("masks/*.png"), key=lambda item: item.name):
        pictures = sorted((path.parent.parent / "images").glob(path.stem + ".*"))
        if not pictures:
            continue
        sha256 = hashlib.sha256(pictures[0].read_bytes()).hexdigest()
        drawn, photographed = cv2.imread(str(path)), cv2.imread(str(pictures[0]))
        if drawn is None or photographed is None or drawn.shape != photographed.shape:
            raise ValueError(f"{path}: mask and image cannot be read, or differ in size")
        full = np.asarray(cv2.cvtColor(photographed, cv2.COLOR_BGR2RGB), np.uint8)
        truth = np.asarray(drawn.max(axis=2) > 0, np.uint8)
        height, width = truth.shape
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(
            cv2.resize(full, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8
        )
        soft = cv2.resize(
            truth.astype(np.float32), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        mask = np.asarray(soft >= 0.5, np.uint8)
        classes = _classes(mask, boxes.get(sha256), side)
        found.append(Example(path.stem, sha256, pixels, mask, classes, "herbarium" in str(path), truth))
    if not found:
        raise ValueError(f"{folder}: no folder 'images' with a folder 'masks' beside it")
    return found


def _boxes(folder: Path) -> dict[str, list[tuple[int, list[float]]]]:
    path = folder / "boxes.tsv"
    boxes: dict[str, list[tuple[int, list[float]]]] = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t"):
                if row["class"] in CLASSES[2:]:
                    box = [float(row[key]) / 1000 for key in ("x", "y", "width", "height")]
                    boxes.setdefault(row["sha256"], []).append((CLASSES.index(row["class"]), box))
    return boxes


def _classes(mask: Array, boxes: Sequence[tuple[int, list[float]]] | None, side: int) -> Array:
    classes = np.full(mask.shape, UNKNOWN if boxes is None else 0, np.uint8)
    for kind, box in sorted(boxes or (), key=lambda item: -item[1][2] * item[1][3]):
        x0, y0, x1, y1 = (round(value * side) for value in (box[0], box[1], box[0] + box[2], box[1] + box[3]))
        classes[max(0, y0 - RIM_PX) : y1 + RIM_PX, max(0, x0 - RIM_PX) : x1 + RIM_PX] = UNKNOWN
        classes[y0 + RIM_PX : y1 - RIM_PX, x0 + RIM_PX : x1 - RIM_PX] = kind
    classes[mask > 0] = SPECIMEN
    return classes


def cut_out(examples: Sequence[Example]) -> list[Cutout]:
    """The specimens of the examples, each cut out along its mask."""
    import cv2

    found: list[Cutout] = []
    for index, item in enumerate(examples):
        mask = item.mask * np.uint8(255)
        soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.7), np.uint8)
        rows, columns = np.flatnonzero(mask.max(1)), np.flatnonzero(mask.max(0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        found.append(Cutout(index, Patch(item.pixels[window], soft[window], mask[window]), item.is_plant))
    return found


def read_labels(folder: Path, side: int) -> list[tuple[str, Array]]:
    """Images in folders ``labels``: sha256 and pixels."""
    import cv2

    found: list[tuple[str, Array]] = []
    for path in sorted(folder.rglob("labels/*"), key=lambda item: item.name):
        image = cv2.imread(str(path))
        if image is None:
            continue
        scale = min(1.0, side / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), size, interpolation=cv2.INTER_AREA)
        found.append((hashlib.sha256(path.read_bytes()).hexdigest(), np.asarray(small, np.uint8)))
    return found
