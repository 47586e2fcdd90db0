"""Charts of 24 colour patches (6 x 4): a lattice of flat squares whose colours are in the right order.

Flat regions bounded by edges are squares or they are not; squares of one size at equal distances make a lattice; and
only a lattice whose 24 colours match the published ones up to one matrix is a chart. Any rotation, also mirrored.
Charts cut into two strips of 2 x 6 are put together. Pure; positions are pixels (x, y) of the picture given.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runners.pipeline import Pixels
from runners.pipelines.colour import (
    CHECKER_LAB,
    Array,
    difference,
    lab_to_linear,
    linear_to_lab,
    matrix_between,
    srgb_to_linear,
)

FLATNESS: Final = (10, 20, 36)
"""Steps of brightness per pixel up to which a place is flat, tried in turn."""
MIN_SQUARE_PX: Final = 5
MAX_ASPECT: Final = 1.8
"""Squeezed pictures have oblong patches."""
MIN_SQUARES: Final = 9
MAX_SEEDS: Final = 600
SIDES_PX: Final = (1600, 3200)
ENLARGED: Final = 2.5
MAX_DIFFERENCE: Final = 9.0
"""Mean CIEDE2000 of the 24 patches after the best matrix; a chart has 2 to 7, other lattices above 12."""
CLEAR: Final = 1.25
"""How much worse the next best orientation must be."""
WANTED: Final = lab_to_linear(CHECKER_LAB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart found; everything in the order of the published values."""

    centres: Array
    """(24, 2)."""
    patch: float
    """Side of a patch, pixels."""
    corners: Array
    """(4, 2): outer corners of the patches dark skin, bluish green, black and white."""
    colours: Array
    """(24, 3), sRGB 0 to 255, medians."""
    matrix: Array
    before: float
    """Mean CIEDE2000 of the patches as they are."""
    after: float


@dataclass(frozen=True, slots=True)
class _Squares:
    centre: Array
    side: Array


def find_chart(pixels: Pixels) -> Chart | None:
    """The chart in an upright picture, the best one where there are several."""
    import cv2

    longest = max(pixels.shape[:2])
    for side in SIDES_PX:
        if side != SIDES_PX[0] and longest <= SIDES_PX[0] * 1.2:
            return None
        scale = min(ENLARGED, side / longest)
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        copy = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        found = _find(copy)
        if found is not None:
            factor = np.array([size[0] / pixels.shape[1], size[1] / pixels.shape[0]])
            return Chart(
                centres=(found.centres + 0.5) / factor - 0.5, patch=found.patch / float(factor.mean()),
                corners=(found.corners + 0.5) / factor - 0.5, colours=found.colours, matrix=found.matrix,
                before=found.before, after=found.after,
            )  # fmt: skip
    return None


def _find(picture: Pixels) -> Chart | None:
    best: Chart | None = None
    halves: list[tuple[float, int, Array, float]] = []
    for squares in _squares(picture):
        for lattice in _lattices(squares):
            for chart in _charts(picture, lattice):
                if best is None or chart.after < best.after:
                    best = chart
            halves.extend(_halves(picture, lattice))
        if best is not None:
            return best
    return _joined(picture, halves)


def _squares(picture: Pixels) -> Iterator[_Squares]:
    """Flat squares, at each flatness."""
    import cv2

    smooth = cv2.GaussianBlur(picture, (0, 0), 0.8)
    steps = np.zeros(picture.shape[:2], dtype=np.float32)
    for channel in cv2.split(smooth):
        across = np.abs(cv2.Sobel(channel, cv2.CV_32F, 1, 0)) / 8
        down = np.abs(cv2.Sobel(channel, cv2.CV_32F, 0, 1)) / 8
        steps = np.maximum(steps, np.hypot(across, down))
    for flatness in FLATNESS:
        flat = (steps < flatness / 4).astype(np.uint8)
        _, labels, stats, centroids = cv2.connectedComponentsWithStats(flat, connectivity=4)
        width, height, area = stats[:, 2], stats[:, 3], stats[:, 4]
        most = (max(picture.shape[:2]) / 6) ** 2
        fits = (
            (area >= MIN_SQUARE_PX**2) & (area < most) & (np.maximum(width, height) < 2.4 * np.minimum(width, height))
        )
        fits &= area > 0.42 * width * height
        fits[0] = False
        centres, sides = [], []
        for number in np.flatnonzero(fits).tolist():
            x, y, w, h, size = (int(value) for value in stats[number])
            ys, xs = np.nonzero(labels[y : y + h, x : x + w] == number)
            hull = cv2.convexHull(np.stack([xs, ys], axis=1).astype(np.int32))
            (_, _), (long, short), _ = cv2.minAreaRect(hull)
            long, short = max(long, short) + 1, min(long, short) + 1
            if long < MAX_ASPECT * short and size > 0.68 * long * short:
                centres.append(centroids[number])
                sides.append((long * short) ** 0.5)
        if len(sides) >= MIN_SQUARES:
            yield _Squares(np.array(centres), np.array(sides))


@dataclass(frozen=True, slots=True)
class _Lattice:
    places: np.ndarray[Any, np.dtype[np.int64]]
    """(n, 2), column and row."""
    points: Array
    side: float
    transform: Array
    """(3, 3): from column, row, 1 to the picture."""

    def at(self, places: Array) -> Array:
        mapped = np.column_stack([places, np.ones(len(places))]) @ self.transform.T
        return np.asarray(mapped[:, :2] / mapped[:, 2:], dtype=np.float64)


def _lattices(squares: _Squares) -> Iterator[_Lattice]:
    import cv2

    count = len(squares.side)
    used = np.zeros(count, dtype=bool)
    apart = None
    for seed in range(min(count, MAX_SEEDS * 4)):
        if used[seed]:
            continue
        apart = squares.centre - squares.centre[seed]
        distance = np.hypot(apart[:, 0], apart[:, 1])
        ratio = squares.side / squares.side[seed]
        near = (
            (distance > 0.8 * squares.side[seed])
            & (distance < 2.4 * squares.side[seed])
            & (ratio > 0.65)
            & (ratio < 1.55)
        )
        if near.sum() < 2:
            continue
        order = np.flatnonzero(near)[np.argsort(distance[near], kind="stable")]
        for first in order[:2].tolist():
            members = _grow(squares, seed, apart[first], _second_step(apart, order, first))
            if len(members) < MIN_SQUARES:
                continue
            places = np.array(list(members), dtype=np.int64)
            numbers = np.array(list(members.values()))
            points = squares.centre[numbers]
            if len(set(places[:, 0].tolist())) < 2 or len(set(places[:, 1].tolist())) < 2:
                continue
            transform, _ = cv2.findHomography(
                places.astype(np.float64), points, cv2.RANSAC, 0.15 * float(np.hypot(*apart[first]))
            )
            if transform is None:
                continue
            used[numbers] = True
            yield _Lattice(places, points, float(np.median(squares.side[numbers])), np.asarray(transform))
            break


def _second_step(apart: Array, order: np.ndarray[Any, np.dtype[np.int64]], first: int) -> Array:
    """The step to the nearest neighbour across the first one, to its right hand; of equal length if there is none."""
    step = apart[first]
    turned = np.array([-step[1], step[0]])
    for number in order.tolist():
        other = apart[number]
        lengths = float(np.hypot(*step) * np.hypot(*other))
        if abs(float(step @ other)) < 0.3 * lengths:
            return np.asarray(other if float(turned @ other) > 0 else -other, dtype=np.float64)
    return turned


def _grow(squares: _Squares, seed: int, step: Array, turned: Array) -> dict[tuple[int, int], int]:
    """Places (column, row) -> square, from neighbour to neighbour."""
    members = {(0, 0): seed}
    queue = [((0, 0), step, turned)]
    while queue and len(members) < 80:
        (column, row), u, v = queue.pop(0)
        here = squares.centre[members[column, row]]
        for dx, dy, move in ((1, 0, u), (-1, 0, -u), (0, 1, v), (0, -1, -v)):
            place = (column + dx, row + dy)
            if place in members:
                continue
            off = squares.centre - (here + move)
            distance = np.hypot(off[:, 0], off[:, 1])
            number = int(np.argmin(distance))
            ratio = squares.side[number] / squares.side[seed]
            if distance[number] > 0.25 * float(np.hypot(*move)) or not 0.6 < ratio < 1.6 or number in members.values():
                continue
            members[place] = number
            moved = squares.centre[number] - here
            queue.append((place, moved * dx if dx else u, moved * dy if dy else v))
    return members


def _windows(lattice: _Lattice, columns: int, rows: int, enough: int) -> Iterator[Array]:
    """Places of the windows of a size that hold enough of the squares found, row by row."""
    low, high = lattice.places.min(axis=0), lattice.places.max(axis=0)
    for x in range(int(min(low[0], high[0] - columns + 1)), int(max(low[0], high[0] - columns + 1)) + 1):
        for y in range(int(min(low[1], high[1] - rows + 1)), int(max(low[1], high[1] - rows + 1)) + 1):
            inside = (lattice.places >= (x, y)).all(axis=1) & (lattice.places < (x + columns, y + rows)).all(axis=1)
            if inside.sum() >= enough:
                yield np.array([(x + i % columns, y + i // columns) for i in range(columns * rows)], dtype=np.float64)


def _colours(picture: Pixels, points: Array, side: float) -> Array | None:
    """Medians of the middles of the patches, sRGB; None where one lies outside."""
    reach = max(1, int(side * 0.22))
    height, width = picture.shape[:2]
    colours = []
    for x, y in np.round(points).astype(int).tolist():
        if not (0 <= x < width and 0 <= y < height):
            return None
        patch = picture[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].reshape(-1, 3)
        colours.append(np.median(patch, axis=0))
    return np.array(colours)


def _orders(columns: int, rows: int) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """The eight orders in which a grid can hold the patches, as indices into it, row by row of the chart."""
    grid = np.arange(columns * rows).reshape(rows, columns)
    for mirrored in (grid, grid[:, ::-1]):
        for turns in range(4):
            turned = np.rot90(mirrored, turns)
            if turned.shape[1] == 6:
                yield turned.ravel()


def _charts(picture: Pixels, lattice: _Lattice) -> Iterator[Chart]:
    for columns, rows in ((6, 4), (4, 6)):
        for places in _windows(lattice, columns, rows, MIN_SQUARES):
            points = lattice.at(places)
            colours = _colours(picture, points, lattice.side)
            if colours is None:
                continue
            scored = sorted(
                (
                    (_mismatch(colours[order], WANTED), number, order)
                    for number, order in enumerate(_orders(columns, rows))
                ),
                key=lambda item: item[:2],
            )
            if scored[0][0] > MAX_DIFFERENCE or scored[1][0] < CLEAR * scored[0][0]:
                continue
            order = scored[0][2]
            yield _chart(colours[order], points[order], _outer(picture, lattice, places[order]), lattice.side)


def _mismatch(colours: Array, wanted: Array) -> float:
    linear = srgb_to_linear(colours)
    fitted = linear @ matrix_between(linear, wanted).T
    return float(difference(linear_to_lab(fitted), linear_to_lab(wanted)).mean())


def _outer(picture: Pixels, lattice: _Lattice, places: Array) -> Array:
    """Outer corners of the four corner patches."""
    middle = places.mean(axis=0)
    half = np.array([_half(picture, lattice, places, axis) for axis in (0, 1)])
    chosen = places[[0, 5, 23, 18]]
    return lattice.at(chosen + half * np.sign(chosen - middle))


def _half(picture: Pixels, lattice: _Lattice, places: Array, axis: int) -> float:
    """From the middle of a patch to its edge, in steps of the lattice: where the brightness changes most."""
    import cv2

    away, beside = np.eye(2)[axis], np.eye(2)[1 - axis]
    steps = np.linspace(0.25, 0.5, 51)
    found: list[float] = []
    for sign in (-1, 1):
        grid = (
            places[:, None, None, :]
            + sign * steps[None, :, None, None] * away
            + np.linspace(-0.2, 0.2, 7)[None, None, :, None] * beside
        )
        points = lattice.at(grid.reshape(-1, 2)).astype(np.float32)
        values = cv2.remap(picture, points[None, :, 0], points[None, :, 1], cv2.INTER_LINEAR)
        profiles = values.reshape(len(places), len(steps), -1, 3).astype(np.float64).mean(axis=2)
        change = np.abs(np.diff(profiles, axis=1)).max(axis=2)
        clear = change.max(axis=1) > 1.0
        found.extend((steps[1:] + steps[:-1])[change[clear].argmax(axis=1)] / 2)
    return float(np.median(found)) if found else 0.45


def _chart(colours: Array, points: Array, corners: Array, side: float) -> Chart:
    linear = srgb_to_linear(colours)
    matrix = matrix_between(linear, WANTED)
    return Chart(
        centres=points, patch=side, corners=corners, colours=colours, matrix=matrix,
        before=float(difference(linear_to_lab(linear), CHECKER_LAB).mean()),
        after=float(difference(linear_to_lab(linear @ matrix.T), CHECKER_LAB).mean()),
    )  # fmt: skip


def _halves(picture: Pixels, lattice: _Lattice) -> Iterator[tuple[float, int, Array, float]]:
    """Strips of 2 x 6 that match one half of the chart: mismatch, half, points in order, side."""
    for columns, rows in ((6, 2), (2, 6)):
        for places in _windows(lattice, columns, rows, 8):
            points = lattice.at(places)
            colours = _colours(picture, points, lattice.side)
            if colours is None:
                continue
            for order in _orders(columns, rows):
                for half in (0, 1):
                    mismatch = _mismatch(colours[order], WANTED[12 * half : 12 * half + 12])
                    if mismatch < MAX_DIFFERENCE:
                        yield mismatch, half, points[order], lattice.side


def _joined(picture: Pixels, halves: list[tuple[float, int, Array, float]]) -> Chart | None:
    best: Chart | None = None
    firsts = sorted((item for item in halves if item[1] == 0), key=lambda item: item[0])[:8]
    seconds = sorted((item for item in halves if item[1] == 1), key=lambda item: item[0])[:8]
    for _, _, first, side in firsts:
        for _, _, second, other in seconds:
            if not 0.8 < side / other < 1.25 or np.hypot(*(first.mean(axis=0) - second.mean(axis=0))) < side:
                continue
            points = np.concatenate([first, second])
            colours = _colours(picture, points, side)
            if colours is None or _mismatch(colours, WANTED) > MAX_DIFFERENCE:
                continue
            reach = (side + 3) / 2  # what is flat ends a little before the patch does
            low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
            corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
            chart = _chart(colours, points, corners, side)
            if best is None or chart.after < best.after:
                best = chart
    return best
