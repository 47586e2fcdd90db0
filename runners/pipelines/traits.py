"""``traits/1``: sizes, solidity and colours of the specimens, from ``segment/1``, ``scale/1`` and ``chart/1``.

Sizes are taken on the cells of the mask (at most 512 a side), brought to pixels of the image, and to millimetres where
the scale is known. Pieces that belong together are one specimen, by the rule of ``objects``. Colours are corrected
by the matrix of a chart where there is one, else they are those of the picture as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

import runners.decode
import runners.pipelines.masks
import runners.pipelines.objects
from linkeddata.json_strict import Json
from linkeddata.outputs.traits import MAX_SPECIMENS
from linkeddata.pipeline import Environment, PipelineManifest
from runners.errors import PipelineUnavailable
from runners.pipeline import Pixels, Reference, Upstream, base_versions, decimal, implementation_digest, pinned
from runners.pipelines.masks import Cover, as_body, from_body, mask_size
from runners.pipelines.objects import grouped
from runners.pipelines.segment import pixel_box, reference_sheet

LIBRARIES: Final = ("opencv-python-headless", "numpy", "pillow")
LEAST_SHARE: Final = 0.05
"""Of the largest specimen: smaller ones are crumbs."""
COLOURS: Final = 4
LIKE: Final = 14.0
"""Distance (CIE Lab) below which two colours are one."""
NOT_CORRECTED: Final = "colours: of the picture as it is, not corrected"
SAMPLE: Final = 6000
"""Pixels whose colours are looked at."""


class Traits:
    """The adapter."""

    def manifest(self) -> PipelineManifest:
        """What it is."""
        return PipelineManifest(
            output="traits/1",
            name="traits",
            version="1.0.0",
            title="Sizes and colours",
            description="Length, width, area, perimeter, solidity, colours of specimens; in mm where a ruler is read",
            runtime="builtin",
            libraries=pinned(*LIBRARIES),
            needs=("segment/1", "scale/1", "chart/1"),
            tolerance="0.05",
            implementation=implementation_digest(
                self, runners.decode, runners.pipelines.masks, runners.pipelines.objects
            ),
        )

    def load(self) -> Environment:
        """Imports OpenCV."""
        try:
            import cv2
        except ImportError as error:
            raise PipelineUnavailable(f"traits: {error}") from error
        cv2.setNumThreads(1)
        return Environment(
            versions=base_versions(*LIBRARIES), execution_provider="cpu", precision="float64", device_class="cpu"
        )

    def run(self, pixels: Pixels, parameters: Mapping[str, Json], upstream: Upstream) -> dict[str, Json]:  # noqa: ARG002
        """Measures the specimens of one image."""
        segment: Any = upstream["segment/1"]
        scale: Any = upstream["scale/1"]
        chart: Any = upstream["chart/1"]
        matrix = np.array([float(value) for value in chart["matrix"]]).reshape(3, 3) if chart["matrix"] else None
        px_per_mm = float(scale["px_per_mm"])
        cover = from_body(segment["mask"])
        specimens = measure(cover, pixels, px_per_mm, matrix)
        doubts = [*segment["doubts"]] if specimens else ["no specimen was found, so nothing was measured"]
        if not px_per_mm:
            doubts.append("the scale is not known: sizes are in pixels")
        elif scale["doubts"]:
            doubts.append(f"scale: {scale['doubts'][0]}"[:200])
        rests = [f"mask: {cover.shape[1]} x {cover.shape[0]} cells, certainty {segment['score']}"]
        rests += [f"scale: {scale['px_per_mm']} px/mm, score {scale['score']}"] if px_per_mm else []
        is_corrected = matrix is not None
        rests.append(f"colours: by the chart, mean difference {chart['after']} left" if is_corrected else NOT_CORRECTED)
        return {
            "unit": "mm" if px_per_mm else "px",
            "px_per_mm": scale["px_per_mm"],
            "specimens": list[Json](specimens),
            "rests_on": list[Json](rests),
            "doubts": list[Json](doubts[:10]),
        }

    def references(self) -> Sequence[Reference]:
        """A made leaf with its true mask, at 10 px/mm: its sizes are known."""
        sheet, cover = reference_sheet(with_leaf=True)
        upstream: dict[str, dict[str, Json]] = {
            "segment/1": {"mask": as_body(_cells(cover)), "score": "1.000", "doubts": []},
            "scale/1": {"px_per_mm": "10", "score": "1.000", "doubts": []},
            "chart/1": {"matrix": []},
        }
        area, length = float(cover.sum()) / 100, 53.75
        return (
            Reference(name="leaf", pixels=sheet, deviation=lambda body: _off(body, area, length), upstream=upstream),
        )


def _cells(cover: Cover) -> Cover:
    import cv2

    size = mask_size(cover.shape[1], cover.shape[0])
    return np.asarray(cv2.resize(cover.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5, np.bool_)


def _off(body: dict[str, Json], area: float, length: float) -> float:
    found: Any = body["specimens"]
    if len(found) != 1:
        return 1.0
    return max(abs(float(found[0]["area"]) / area - 1), abs(float(found[0]["length"]) / length - 1))


def measure(cover: Cover, pixels: Pixels, px_per_mm: float, matrix: Any = None) -> list[dict[str, Json]]:
    """The specimens of a mask over an image, the largest first.

    Args:
        cover: cells.
        pixels: the upright image.
        px_per_mm: 0 where it is not known: sizes are then in pixels.
        matrix: 3 x 3, linear sRGB of the image to linear sRGB as it should be; None where there is no chart.
    """
    import cv2

    if not cover.any():
        return []
    height, width = pixels.shape[:2]
    scale_x, scale_y = width / cover.shape[1], height / cover.shape[0]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cover.astype(np.uint8), connectivity=8)
    groups = grouped(labels, count, stats[:, cv2.CC_STAT_AREA], max(cover.shape))
    covers = sorted((np.isin(labels, list(members)) for members in groups), key=lambda item: -int(item.sum()))
    least = LEAST_SHARE * int(covers[0].sum())
    small = cv2.resize(np.ascontiguousarray(pixels), cover.shape[::-1], interpolation=cv2.INTER_AREA)
    small = small if matrix is None else corrected(small, matrix)
    return [
        _specimen(item, small, scale_x, scale_y, px_per_mm or 1.0, (width, height))
        for item in covers[:MAX_SPECIMENS]
        if int(item.sum()) >= least
    ]


def corrected(picture: Pixels, matrix: Any) -> Pixels:
    """A picture with a matrix of linear sRGB applied (IEC 61966-2-1)."""
    value = picture.astype(np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ np.asarray(matrix).T
    linear = np.clip(linear, 0, 1)
    back = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(back * 255), np.uint8)


def _specimen(
    cover: Cover, small: Any, scale_x: float, scale_y: float, px_per_unit: float, limits: tuple[int, int]
) -> dict[str, Json]:
    import cv2

    edges = _edges(cover)
    points = np.concatenate(edges) * (scale_x, scale_y)
    middle, (one, two), angle = cv2.minAreaRect(points.astype(np.float32))
    hull = float(cv2.contourArea(cv2.convexHull(points.astype(np.float32))))
    area = float(cover.sum()) * scale_x * scale_y
    perimeter = sum(_length(edge * (scale_x, scale_y)) for edge in _edges(cover, smooth=True))
    corners = cv2.boxPoints((middle, (one, two), angle))
    xs, ys = (
        np.clip(corners[:, 0], 0, limits[0]).round().astype(int),
        np.clip(corners[:, 1], 0, limits[1]).round().astype(int),
    )
    rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
    cells = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return {
        "box": list[Json](pixel_box(cells, scale_x, scale_y, *limits)),
        "rectangle": " ".join(f"{x},{y}" for x, y in zip(xs, ys, strict=True)),
        "length": decimal(max(one, two) / px_per_unit, 2),
        "width": decimal(min(one, two) / px_per_unit, 2),
        "perimeter": decimal(perimeter / px_per_unit, 2),
        "area": decimal(area / px_per_unit**2, 2),
        "solidity": decimal(min(1.0, area / hull) if hull > 0 else 1.0),
        "colours": _colours(cover, small),
    }


def _edges(cover: Cover, *, smooth: bool = False) -> list[Any]:
    """Outer edges, between the cells: a disc of n cells is n wide. ``smooth`` takes the steps of cells away."""
    import cv2

    fine = cv2.copyMakeBorder(cover.astype(np.uint8) * 255, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0)
    fine = cv2.resize(fine, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    if smooth:
        fine = cv2.GaussianBlur(fine, (0, 0), 3)
    contours, _ = cv2.findContours((fine >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = []
    for contour in contours:
        points = contour[:, 0, :].astype(np.float64)
        middle = points.mean(0)
        away = points - middle
        points += 0.5 * np.sign(away)  # from the middle of the outermost fine cells to their outer side
        found.append((points + 0.5) / 4 - 2)
    return found


def _length(edge: Any) -> float:
    import cv2

    corners = cv2.approxPolyDP(edge.astype(np.float32).reshape(-1, 1, 2), 0.4, True)
    return float(cv2.arcLength(corners, True))


def _colours(cover: Cover, small: Any) -> list[Json]:
    """Up to four colours with their shares; the rim, where the ground shines through, is left out."""
    import cv2

    inner = cv2.erode(cover.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    chosen = small[inner if inner.sum() > 50 else cover]
    chosen = chosen[:: max(1, len(chosen) // SAMPLE)]
    lab = cv2.cvtColor(chosen.reshape(1, -1, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    if len(lab) < COLOURS:
        lab = np.repeat(lab.mean(0, keepdims=True), COLOURS, axis=0)
    count = COLOURS
    cv2.setRNGSeed(1)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 30, 0.5)
    _, labels, centres = cv2.kmeans(lab, count, None, stop, 3, cv2.KMEANS_PP_CENTERS)
    sizes = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    kept: list[tuple[float, Any]] = []
    for number in np.argsort(-sizes, kind="stable"):
        near = next(
            (place for place, (_, centre) in enumerate(kept) if np.linalg.norm(centre - centres[number]) < LIKE), None
        )
        if near is None:
            kept.append((sizes[number], centres[number]))
        else:
            kept[near] = (kept[near][0] + sizes[number], kept[near][1])
    told: list[Json] = []
    for size, centre in sorted(kept, key=lambda item: -item[0]):
        rgb = cv2.cvtColor(centre.reshape(1, 1, 3).astype(np.float32), cv2.COLOR_LAB2RGB)[0, 0]
        r, g, b = (int(value) for value in np.clip(np.round(rgb * 255), 0, 255))
        told.append({"rgb": f"#{r:02x}{g:02x}{b:02x}", "share": decimal(size / sizes.sum())})
    return told
