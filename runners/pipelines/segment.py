"""``segment/1``: where the specimen is, by a network trained here; what is not surely one is left out.

The network looks at the image with a longer side of 768 pixels; its belief is averaged onto the cells of the mask (at
most 512 a side) and cut at one half. A piece stays only where something in it is surely specimen, and not when it is a
strip along the border (the edge of a board). Thinner than about a thousandth of the image is seen only by chance.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

import runners.decode
import runners.pipelines.masks
import runners.pipelines.specimen_net
from linkeddata.json_strict import Json
from linkeddata.outputs.segment import MAX_PIECES
from linkeddata.pipeline import Environment, PipelineManifest
from runners.pipeline import Pixels, Reference, Upstream, decimal, implementation_digest, pinned
from runners.pipelines.masks import Cover, as_body, mask_size, outline_of
from runners.pipelines.specimen_net import LEAST_PX, LIBRARIES, SPECIMEN, Shares, SpecimenNet, weight

SURE: Final = 0.8
MAYBE: Final = 0.2
STEADY_ENOUGH: Final = 0.4
"""Sure cells over possible ones: 0.49 and more on every specimen among our samples, below 0.33 on labels."""
THIN_BELOW: Final = 0.6
LEAST_SHARE: Final = 0.0003
"""Of the image: a fly of 14 pixels on a side of 768."""
STRIP: Final = 0.02
"""Along the border, as a share of the longer side."""

LARGE: Final = 0.03
"""A piece of this share of the largest stands for itself; smaller ones belong to one that is near."""
REACH: Final = 0.05
"""How near, as a share of the longer side."""


class Segment:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="segment/1",
            name="segment",
            version="1.0.0",
            title="Specimen mask",
            description="Which part of the image is the specimen: plant, insect, fish; by a small network",
            runtime="onnx",
            weights=(weight(),),
            libraries=pinned(*LIBRARIES),
            tolerance="0.1",
            implementation=implementation_digest(
                self, runners.decode, runners.pipelines.masks, runners.pipelines.specimen_net
            ),
        )

    def load(self) -> Environment:
        """Loads the network."""
        self._net = SpecimenNet("segment")
        return self._net.environment()

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Segments one image."""
        height, width = pixels.shape[:2]
        if min(height, width) < LEAST_PX:
            empty = np.zeros(mask_size(width, height)[::-1], np.bool_)
            return _body(empty, empty.astype(np.float32), width, height, [f"smaller than {LEAST_PX} pixels"])
        return answer_of(self._net.shares(pixels), width, height)

    def references(self) -> Sequence[Reference]:
        """A leaf on a sheet, of which the mask is known; and the sheet with its label alone."""
        leaf, truth = reference_sheet(with_leaf=True)
        bare, _ = reference_sheet(with_leaf=False)
        return (
            Reference(name="leaf", pixels=leaf, deviation=lambda body: 1.0 - overlap(body, truth)),
            Reference(name="no-specimen", pixels=bare, deviation=lambda body: float(body["share"])),
        )


def answer_of(shares: Shares, width: int, height: int) -> dict[str, Json]:
    """The body for what the network says of an image of that size."""
    import cv2

    size = mask_size(width, height)
    belief = cv2.resize(
        shares[SPECIMEN], size, interpolation=cv2.INTER_AREA if size[0] < shares.shape[2] else cv2.INTER_LINEAR
    )
    cover = kept(np.asarray(belief >= 0.5, np.bool_), belief)
    possible = int((belief >= MAYBE).sum())
    steadiness = float(((belief >= SURE) & cover).sum()) / max(1, int(((belief >= MAYBE) & _near(cover)).sum()))
    doubts: list[str] = []
    if cover.mean() < LEAST_SHARE or steadiness < STEADY_ENOUGH:
        if possible > LEAST_SHARE * cover.size:
            doubts.append("nothing was found that is surely a specimen")
        cover = np.zeros_like(cover)
    else:
        if steadiness < THIN_BELOW:
            doubts.append("the outline is uncertain: the specimen is thin or pale")
        border = np.concatenate([cover[0], cover[-1], cover[:, 0], cover[:, -1]])
        if border.mean() > 0.005:
            doubts.append("the specimen touches the border of the image: a part may be missing")
    return _body(cover, belief, width, height, doubts, steadiness)


def _near(cover: Cover) -> Cover:
    import cv2

    return np.asarray(cv2.dilate(cover.astype(np.uint8), np.ones((7, 7), np.uint8)), np.bool_)


def kept(cover: Cover, belief: Any) -> Cover:
    """Without pieces in which nothing is sure, thin strips along the border, and crumbs far from everything."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(cover.astype(np.uint8), connectivity=8)
    sure = np.zeros(count, np.int64)
    np.add.at(sure, labels[belief >= SURE], 1)
    height, width = cover.shape
    strip = max(2, round(STRIP * max(height, width)))
    middle = np.zeros(count, np.int64)
    np.add.at(middle, labels[strip:-strip, strip:-strip].ravel(), 1)
    area = stats[:, cv2.CC_STAT_AREA]
    keep = (sure >= np.maximum(1, area * 0.15)) & ((middle >= 0.5 * area) | (area > 0.03 * cover.size))
    keep[0] = False
    large = keep & (area >= LARGE * area[keep].max(initial=1))
    far = cv2.distanceTransform(np.where(large[labels], 0, 1).astype(np.uint8), cv2.DIST_L2, 3)
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, labels.ravel(), far.ravel())
    keep &= nearest <= REACH * max(height, width)
    return np.asarray(keep[labels], np.bool_)


def _body(
    cover: Cover, belief: Any, width: int, height: int, doubts: Sequence[str], steadiness: float = 0.0
) -> dict[str, Json]:
    found = bool(cover.any())
    scale_x, scale_y = width / cover.shape[1], height / cover.shape[0]
    box = [0, 0, width, height]
    if found:
        rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
        box = pixel_box((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), scale_x, scale_y, width, height)
    return {
        "found": found,
        "box": list[Json](box),
        "share": decimal(float(cover.mean())),
        "score": decimal(float(belief[cover].mean()) if found else 0.0),
        "steadiness": decimal(min(1.0, steadiness)),
        "mask": as_body(cover),
        "pieces": _pieces(cover, scale_x, scale_y, width, height),
        "doubts": list[Json](doubts),
    }


def _pieces(cover: Cover, scale_x: float, scale_y: float, width: int, height: int) -> list[Json]:
    """The largest pieces; pieces that a strip of tape parts are one."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(cover.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    order = sorted(range(1, count), key=lambda number: (-int(stats[number][cv2.CC_STAT_AREA]), number))
    pieces: list[Json] = []
    for number in order[:MAX_PIECES]:
        x, y, w, h, area = (int(value) for value in stats[number])
        if area < 0.002 * stats[1:, cv2.CC_STAT_AREA].sum():
            break
        outline = outline_of(labels[y : y + h, x : x + w] == number, x, y, scale_x, scale_y, (width, height))
        if outline is not None:
            box = pixel_box((x, y, x + w, y + h), scale_x, scale_y, width, height)
            pieces.append({"box": list[Json](box), "outline": outline})
    return pieces


def pixel_box(cells: tuple[int, int, int, int], scale_x: float, scale_y: float, width: int, height: int) -> list[int]:
    """x, y, width, height in pixels of what lies between two corners in cells."""
    x0, y0 = min(width - 1, int(cells[0] * scale_x)), min(height - 1, int(cells[1] * scale_y))
    x1, y1 = min(width, round(cells[2] * scale_x)), min(height, round(cells[3] * scale_y))
    return [x0, y0, max(1, x1 - x0), max(1, y1 - y0)]


def _write(picture: Any, x: int, y: int, *, letters: int, seed: int) -> None:
    """Something like print: strokes in all directions, in words. The same on every machine, as no font is."""
    strokes = (np.s_[0:11, 0:2], np.s_[0:11, 5:7], np.s_[0:2, 0:7], np.s_[5:7, 0:7], np.s_[9:11, 0:7])
    for letter in range(letters):
        bits = (letter * 2654435761 + seed * 40503) >> 7
        cell = picture[y : y + 11, x + 10 * letter : x + 10 * letter + 7]
        for number, stroke in enumerate(strokes):
            if bits >> number & 1 and bits % 7:  # each seventh is a blank
                cell[stroke] = (60, 60, 60)


def reference_sheet(*, with_leaf: bool) -> tuple[Pixels, Cover]:
    """A made sheet on a dark board with a label, and with a leaf or without; and where the leaf is."""
    import cv2

    rows, columns = np.indices((900, 640)).astype(np.float64)
    grain = (np.sin(rows * 12.9898 + columns * 78.233) * 43758.5453) % 1.0 - 0.5
    picture = np.full((900, 640, 3), (22, 22, 24), np.float64)
    picture[30:880, 24:616] = (240, 236, 222)
    label = np.s_[690:850, 350:600]
    picture[label] = (250, 249, 243)
    for line in range(6):
        _write(picture, 366, 703 + 23 * line, letters=21 - 4 * (line % 3), seed=line)
    cover = np.zeros((900, 640), np.bool_)
    if with_leaf:
        along, across = (rows - 120) / 420, (columns - 270 - 30 * np.sin(rows / 160)) / 400
        inside = (along > 0) & (along < 1)
        width = np.sin(np.pi * np.clip(along, 0, 1)) * 0.24 * (1 + 0.06 * np.abs(np.sin(rows / 7)))
        stem = (np.abs(across) < 0.012) & (along >= 0.98) & (along < 1.35)
        cover = np.asarray((inside & (np.abs(across) < width)) | stem, np.bool_)
        veins = 14 * (np.abs(across) < 0.008) + 8 * (np.sin(rows / 9 - np.abs(across) * 40) > 0.93)
        picture[cover] = (96, 92, 50)
        picture += (cover * veins)[:, :, None]
    picture += grain[:, :, None] * 8
    soft = cv2.GaussianBlur(picture, (0, 0), 0.8)
    return np.clip(soft, 0, 255).astype(np.uint8), cover


def overlap(body: dict[str, Json], truth: Cover) -> float:
    """Intersection over union of a body's mask with a cover of the size of the image."""
    import cv2

    mask: Any = body["mask"]
    cells = runners.pipelines.masks.from_body(mask).astype(np.float32)
    found = cv2.resize(cells, truth.shape[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5
    return float((found & truth).sum() / max(1, (found | truth).sum()))
