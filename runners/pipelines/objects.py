"""``objects/1``: the things on an image, told apart, boxed and named.

The network of ``segment`` says of every pixel what it belongs to, and where rims of paper are; here pixels become
things. Kinds that are taken for each other (label, envelope, other; ruler, chart) are joined first, so that one thing
is not torn; then all its pixels vote, and what the picture itself tells decides between a ruler and a chart: charts are
of many colours. Pieces of a specimen that lie close are one; pieces of like size that lie apart are several.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

import runners.decode
import runners.pipelines.masks
import runners.pipelines.segment
import runners.pipelines.specimen_net
from linkeddata.json_strict import Json
from linkeddata.outputs.objects import MAX_OBJECTS
from linkeddata.pipeline import Environment, PipelineManifest
from runners.pipeline import Pixels, Reference, Upstream, decimal, implementation_digest, pinned
from runners.pipelines.masks import Cover, outline_of
from runners.pipelines.segment import MAYBE, kept, pixel_box, reference_sheet
from runners.pipelines.specimen_net import CLASSES, LEAST_PX, LIBRARIES, RIM, SPECIMEN, Shares, SpecimenNet, weight

FAMILIES: Final = (("label", "envelope", "other"), ("barcode",), ("ruler", "chart"), ("stamp",))
"""Kinds that are joined before they are told apart."""
LEAST_SHARE: Final = {"label": 0.002, "barcode": 0.0008, "ruler": 0.002, "stamp": 0.001}
"""Of the image, by the first kind of a family: the least thing that is told."""
LEAST_SCORE: Final = {"label": 0.5, "barcode": 0.7, "ruler": 0.5, "stamp": 0.5}
"""By the first kind of a family; print and ticks are half taken for codes."""
LEAST_FILL: Final = 0.6
"""Of its upright or turned box: paper is straight."""
RIDGE: Final = 0.01
"""How far the belief in a rim stands above its surroundings where two papers meet."""
GAP: Final = 0.02
"""Of the longer side: pieces of a specimen that are this close belong together when one of them is small."""
CLOSE: Final = 0.012
"""Pieces of any size that are this close belong together."""
SMALL: Final = 0.3
COLOURED: Final = 22.0
"""Chroma (CIE Lab) from which a pixel is coloured."""
CHART_COLOURED: Final = 0.12
"""Share of coloured pixels from which ruler or chart is a chart."""
RULER_ASPECT: Final = 2.4
BARS_SIDE_PX: Final = 1400
"""Longer side at which bars are looked for."""
BAR_EDGES: Final = 14
"""Changes between dark and bright across a linear code; a stem has two, a line of print few that go on below it."""
BARS_ALIKE: Final = 0.75
"""Correlation of the upper with the lower half of a code: bars go through."""
INK_NEAR: Final = 14.0
"""Levels: through a stamp the paper shows, a chart or ruler lies on it."""


class Objects:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="objects/1",
            name="objects",
            version="1.0.0",
            title="Objects on the image",
            description="Specimens, labels, barcodes, rulers, charts, stamps and envelopes, each with box and outline",
            runtime="onnx",
            weights=(weight(),),
            libraries=pinned(*LIBRARIES),
            tolerance="0.2",
            implementation=implementation_digest(
                self, runners.decode, runners.pipelines.masks, runners.pipelines.segment, runners.pipelines.specimen_net
            ),
        )

    def load(self) -> Environment:
        """Loads the network."""
        self._net = SpecimenNet("objects")
        return self._net.environment()

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Finds the objects of one image."""
        if min(pixels.shape[:2]) < LEAST_PX:
            return {"objects": [], "complete": False, "doubts": [f"smaller than {LEAST_PX} pixels"]}
        return answer_of(self._net.shares(pixels), pixels)

    def references(self) -> Sequence[Reference]:
        """A made sheet with a leaf and a label."""
        sheet, _ = reference_sheet(with_leaf=True)
        wanted = {"specimen": (195, 121, 204, 566), "label": (350, 690, 250, 160)}
        return (Reference(name="leaf-and-label", pixels=sheet, deviation=lambda body: _missed(body, wanted)),)


def answer_of(shares: Shares, pixels: Pixels) -> dict[str, Json]:
    """The body for what the network says of an image."""
    height, width = pixels.shape[:2]
    size = shares.shape[1:]
    papers = _papers(shares, _small(pixels, size))
    codes = [item for item in _codes(pixels, size) if not _is_on_ruler(item[1], papers)]
    found = [*_specimens(shares), *(item for item in papers if not _is_code(item, codes)), *codes]
    doubts: list[Json] = []
    if len(found) > MAX_OBJECTS:
        doubts.append(f"more than {MAX_OBJECTS} objects: only the largest are told")
    if float((shares[:RIM].max(0) < 0.5).mean()) > 0.03:
        doubts.append("parts of the image are like nothing that is known: objects may be missing")
    scale_x, scale_y = width / size[1], height / size[0]
    order = {kind: place for place, kind in enumerate(CLASSES)}
    told: list[Json] = []
    found.sort(key=lambda item: -int(item[1].sum()))
    for kind, cover, score in sorted(found[:MAX_OBJECTS], key=lambda item: order[item[0]]):
        rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
        x, y, right, below = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        outline = outline_of(_joined(cover[y:below, x:right]), x, y, scale_x, scale_y, (width, height))
        box = pixel_box((x, y, right, below), scale_x, scale_y, width, height)
        if outline is not None:
            told.append({"kind": kind, "score": decimal(score), "box": list[Json](box), "outline": outline})
    return {"objects": told, "complete": not doubts, "doubts": doubts}


def _small(pixels: Pixels, size: Sequence[int]) -> Any:
    import cv2

    return cv2.resize(np.ascontiguousarray(pixels), (size[1], size[0]), interpolation=cv2.INTER_AREA)


def _joined(cover: Cover) -> Cover:
    """The pieces of one thing, as one outline: closed until they hang together, at most five times."""
    import cv2

    pieces = cover.astype(np.uint8)
    radius = max(1, round(0.01 * max(cover.shape)))
    for _ in range(5):
        if cv2.connectedComponents(pieces)[0] <= 2:
            break
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        padded = cv2.copyMakeBorder(pieces, radius, radius, radius, radius, cv2.BORDER_CONSTANT, value=0)
        pieces = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[radius:-radius, radius:-radius]
        radius *= 2
    return np.asarray(pieces, np.bool_)


def _specimens(shares: Shares) -> list[tuple[str, Cover, float]]:
    import cv2

    belief = shares[SPECIMEN]
    cover = kept(np.asarray(belief >= 0.5, np.bool_), belief)
    if not cover.any() or float((cover & (belief >= 0.8)).sum()) < 0.4 * float(
        (cover | (belief >= MAYBE) & cover).sum()
    ):
        return []
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cover.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    groups = grouped(labels, count, areas, max(cover.shape))
    things = []
    least = 0.02 * max(int(areas[list(members)].sum()) for members in groups)
    for members in groups:
        piece = np.isin(labels, list(members))
        if int(piece.sum()) >= max(least, 0.0003 * cover.size):
            things.append(("specimen", piece, float(belief[piece].mean())))
    return things


def grouped(labels: Any, count: int, areas: Any, side: int) -> list[set[int]]:
    """Numbers of pieces that belong together."""
    import cv2

    parents = list(range(count))

    def root(number: int) -> int:
        while parents[number] != number:
            number = parents[number]
        return number

    for number in sorted(range(1, count), key=lambda item: -int(areas[item]))[:80]:
        far = cv2.distanceTransform((labels != number).astype(np.uint8), cv2.DIST_L2, 3)
        nearest = np.full(count, np.inf)
        close = (far <= GAP * side) & (labels > 0)
        np.minimum.at(nearest, labels[close], far[close])
        for other in np.flatnonzero(np.isfinite(nearest)):
            one, two = int(areas[number]), int(areas[other])
            if other != number and (nearest[other] <= CLOSE * side or min(one, two) < SMALL * max(one, two)):
                parents[root(int(other))] = root(number)
    groups: dict[int, set[int]] = {}
    for number in range(1, count):
        groups.setdefault(root(number), set()).add(number)
    return list(groups.values())


def _papers(shares: Shares, picture: Any) -> list[tuple[str, Cover, float]]:
    import cv2

    chosen = shares[:RIM].argmax(0)
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    light, chroma = lab[:, :, 0], np.hypot(lab[:, :, 1] - 128, lab[:, :, 2] - 128)
    things: list[tuple[str, Cover, float]] = []
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    for family in FAMILIES:
        numbers = [CLASSES.index(kind) for kind in family]
        inside = np.isin(chosen, numbers).astype(np.uint8)
        inside = cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        least = 0.5 * LEAST_SHARE[family[0]] * chosen.size
        labels = (
            _parted(inside, shares[RIM], least) if family[0] == "label" else cv2.connectedComponents(inside, None, 4)[1]
        )
        areas = np.bincount(labels.ravel())
        for number in range(1, len(areas)):
            if areas[number] < least:
                continue
            piece = cv2.morphologyEx((labels == number).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
            piece = cv2.dilate(piece, np.ones((3, 3), np.uint8))
            cover = _filled(piece)
            if cover.sum() < LEAST_SHARE[family[0]] * chosen.size or _fill(cover) < LEAST_FILL:
                continue
            votes = {kind: float(shares[CLASSES.index(kind)][labels == number].mean()) for kind in family}
            score = min(1.0, sum(votes.values()))
            kind = max(votes, key=lambda item: votes[item])
            if family[0] == "ruler":
                kind = _ruler_or_chart(cover, chroma, light)
            if kind and score >= LEAST_SCORE[family[0]]:
                things.append((kind, cover, score))
    return things


def _parted(inside: Any, rim: Any, least: float) -> Any:
    """Numbers of papers: what hangs together is cut where rims stand out, and grown back to the cuts."""
    import cv2

    rim = cv2.GaussianBlur(rim, (0, 0), 1.5)
    ridge = rim - cv2.GaussianBlur(rim, (0, 0), 10) > RIDGE
    core = cv2.erode(((inside > 0) & ~ridge).astype(np.uint8), np.ones((5, 5), np.uint8))
    _, markers, stats, _ = cv2.connectedComponentsWithStats(core, connectivity=4)
    markers[stats[markers, cv2.CC_STAT_AREA] < 0.4 * least] = 0
    _, whole = cv2.connectedComponents(inside, None, 4)
    for number in np.setdiff1d(np.unique(whole[inside > 0]), np.unique(whole[markers > 0])):
        markers[whole == number] = markers.max() + 1
    outside = int(markers.max()) + 1
    markers[inside == 0] = outside
    hills = np.clip(rim * 512, 0, 255).astype(np.uint8)
    cv2.watershed(cv2.merge([hills] * 3), markers)
    markers[(markers < 0) | (markers == outside)] = 0
    return markers


def _filled(piece: Any) -> Cover:
    import cv2

    contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(piece), contours, -1, 1, -1), np.bool_)


def _turned(cover: Cover) -> tuple[float, float]:
    """Sides of the least turned box, the longer one first."""
    import cv2

    points = np.argwhere(cover)[:, ::-1].astype(np.int32)
    _, (one, two), _ = cv2.minAreaRect(cv2.convexHull(points))
    return max(one, two) + 1, min(one, two) + 1


def _fill(cover: Cover) -> float:
    longer, shorter = _turned(cover)
    return float(cover.sum()) / (longer * shorter)


def _ruler_or_chart(cover: Cover, chroma: Any, light: Any) -> str:
    """Which of the two; empty for neither: the paper shows through, as through a stamp."""
    import cv2

    longer, shorter = _turned(cover)
    around = cv2.dilate(cover.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & ~cover
    through = around.any() and abs(float(np.median(light[cover])) - float(np.median(light[around]))) < INK_NEAR
    if longer / shorter < RULER_ASPECT and through and float(np.median(light[cover])) > 150:
        return ""
    if float((chroma[cover] >= COLOURED).mean()) >= CHART_COLOURED:
        return "chart"
    return "ruler" if longer / shorter >= RULER_ASPECT else "chart"


def _codes(pixels: Pixels, size: Sequence[int]) -> list[tuple[str, Cover, float]]:
    """Linear codes: places where all edges stand one way, bars that go through, many of them."""
    import cv2

    scale = min(1.0, BARS_SIDE_PX / max(pixels.shape[:2]))
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    width = max(9, round(max(grey.shape) * 0.012)) | 1
    across, along = (
        cv2.blur(np.abs(cv2.Sobel(grey, cv2.CV_32F, *way, ksize=3)), (width, width)) for way in ((1, 0), (0, 1))
    )
    things: list[tuple[str, Cover, float]] = []
    for one, two, is_upright in ((across, along, True), (along, across, False)):
        bars = ((one > 45) & (one > 2.2 * two)).astype(np.uint8)
        bars = cv2.morphologyEx(bars, cv2.MORPH_CLOSE, np.ones((width, width), np.uint8))
        bars = cv2.morphologyEx(bars, cv2.MORPH_OPEN, np.ones((width // 2 + 1,) * 2, np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(bars)
        for x, y, w, h, area in (tuple(int(value) for value in row) for row in stats[1:]):
            if area < 0.0004 * grey.size or area < 0.55 * w * h:
                continue
            alike = _alike(grey[y : y + h, x : x + w] if is_upright else grey[y : y + h, x : x + w].T)
            if alike >= BARS_ALIKE:
                grow_x, grow_y = (0.06, 0.2) if is_upright else (0.2, 0.06)
                cells = np.array([x - grow_x * w, y - grow_y * h, x + w * (1 + grow_x), y + h * (1 + grow_y)])
                x0, y0, x1, y1 = np.clip(cells / (*grey.shape[::-1], *grey.shape[::-1]), 0, 1) * (
                    *size[::-1],
                    *size[::-1],
                )
                cover = np.zeros(tuple(size), np.bool_)
                cover[int(y0) : max(int(y0) + 2, round(y1)), int(x0) : max(int(x0) + 2, round(x1))] = True
                things.append(("barcode", cover, alike))
    return things


def _alike(bars: Any) -> float:
    """How much the upper half of standing bars is like the lower half; 0 when there are too few."""
    height, width = bars.shape
    middle = bars[height // 5 : height - height // 5].astype(np.float64)
    if middle.shape[0] < 4 or width < BAR_EDGES:
        return 0.0
    upper, lower = middle[: middle.shape[0] // 2].mean(0), middle[middle.shape[0] // 2 :].mean(0)
    profile = middle.mean(0)
    edges = int(np.count_nonzero(np.diff(profile > profile.mean())))
    if edges < BAR_EDGES or upper.std() < 8 or lower.std() < 8:
        return 0.0
    return float(np.clip(np.corrcoef(upper, lower)[0, 1], 0, 1))


def _is_on_ruler(code: Cover, papers: Sequence[tuple[str, Cover, float]]) -> bool:
    return any(kind == "ruler" and (cover & code).sum() > 0.5 * code.sum() for kind, cover, _ in papers)


def _is_code(thing: tuple[str, Cover, float], codes: Sequence[tuple[str, Cover, float]]) -> bool:
    """Whether a thing is little more than a code that was found by its bars."""
    _, cover, _ = thing
    return any((cover & code).sum() > 0.4 * (cover | code).sum() for _, code, _ in codes)


def _missed(body: dict[str, Json], wanted: Mapping[str, tuple[int, int, int, int]]) -> float:
    """1 minus the least overlap of a wanted box with one found of its kind; what is found beside counts 1 each."""
    found: Any = body["objects"]
    least = min(
        max((overlap(box, tuple(item["box"])) for item in found if item["kind"] == kind), default=0.0)
        for kind, box in wanted.items()
    )
    return 1.0 - least + max(0, len(found) - len(wanted))


def overlap(one: Sequence[int], two: Sequence[int]) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    width = min(one[0] + one[2], two[0] + two[2]) - max(one[0], two[0])
    height = min(one[1] + one[3], two[1] + two[3]) - max(one[1], two[1])
    both = max(0, width) * max(0, height)
    return both / max(1, one[2] * one[3] + two[2] * two[3] - both)
