"""Made pictures of specimens with the truth of every pixel: what a camera over a sheet, a tray or a pin might see.

The truth is one byte per pixel: the low four bits are a class of ``CLASSES``, the bit ``EDGE`` marks the rim of a thing
of paper or card, so that neighbours can be told apart. Real cut-outs (a masked plant or beetle) can be laid on made
grounds; a picture says whose cut-outs it holds, so that nobody is tested on a specimen of the training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from runners.training import made_life, made_paper
from runners.training.made_paper import Array, Patch, Rng

CLASSES: Final = ("ground", "specimen", "label", "barcode", "ruler", "chart", "stamp", "envelope", "other")
EDGE: Final = 16
SPECIMEN, LABEL, BARCODE, RULER, CHART, STAMP, ENVELOPE, OTHER = range(1, 9)
BOARDS: Final = (
    (12, 12, 14),
    (12, 12, 14),
    (60, 62, 64),
    (128, 130, 132),
    (240, 241, 243),
    (196, 168, 110),
    (30, 40, 70),
)


@dataclass(frozen=True, slots=True)
class Cutout:
    """A real specimen, cut out along its mask."""

    source: int
    patch: Patch
    is_plant: bool


@dataclass(slots=True)
class Scene:
    """A picture while it is being laid."""

    pixels: Array
    classes: Array
    things: np.ndarray
    """Number of the thing that covers a pixel; 0 for ground and specimens."""
    sources: set[int] = field(default_factory=set)
    count: int = 0

    def lay(
        self, rng: Rng, patch: Patch, x: int, y: int, kind: int, *, angle: float = 0.0, shadow: float = 0.0
    ) -> None:
        """Puts a patch with its middle at x, y."""
        import cv2

        pixels, alpha, mask = patch.pixels, patch.alpha, patch.mask
        if angle:
            pixels, alpha, mask = (_turn(item, angle) for item in (pixels, alpha, mask))
        height, width = self.classes.shape
        h, w = mask.shape
        left, top = x - w // 2, y - h // 2
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + w), min(height, top + h)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        if shadow > 0:
            drop = int(max(1, shadow))
            dark = np.zeros((height, width), np.float32)
            dx, dy = int(rng.integers(-drop, drop + 1)), int(rng.integers(0, drop + 1))
            target = dark[max(0, y0 + dy) : y1 + dy, max(0, x0 + dx) : x1 + dx]
            piece = mask[inner][max(0, -y0 - dy) :, max(0, -x0 - dx) :][: target.shape[0], : target.shape[1]]
            target[:] = piece
            pad = 3 * drop + 2
            around = np.s_[max(0, y0 - pad) : y1 + pad, max(0, x0 - pad) : x1 + pad]
            soft = cv2.GaussianBlur(dark[around], (0, 0), 0.4 + shadow * 0.6) / 255 * rng.uniform(0.1, 0.5)
            self.pixels[around] = (self.pixels[around] * (1 - soft[:, :, None])).astype(np.uint8)
        area = np.s_[y0:y1, x0:x1]
        over = alpha[inner][:, :, None].astype(np.float32) / 255
        self.pixels[area] = (self.pixels[area] * (1 - over) + pixels[inner] * over).astype(np.uint8)
        covered = mask[inner] > 127
        self.classes[area][covered] = kind
        self.count += 1
        self.things[area][covered] = self.count if kind not in (0, SPECIMEN) else 0

    def truth(self) -> Array:
        """Classes with rims."""
        import cv2

        things = self.things.astype(np.float32)
        kernel = np.ones((3, 3), np.uint8)
        rim = cv2.dilate(things, kernel) != cv2.erode(things, kernel)
        rim &= self.classes > SPECIMEN
        return np.asarray(self.classes | (rim.astype(np.uint8) * EDGE), np.uint8)


def _turn(image: Array, angle: float) -> Array:
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(height * sin + width * cos) + 2, int(height * cos + width * sin) + 2)
    matrix[:, 2] += (size[0] / 2 - width / 2, size[1] / 2 - height / 2)
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR), np.uint8)


def _resized(patch: Patch, factor: float, rng: Rng) -> Patch:
    import cv2

    height, width = patch.mask.shape
    size = (max(2, round(width * factor)), max(2, round(height * factor)))
    pixels, alpha, mask = (
        cv2.resize(item, size, interpolation=cv2.INTER_AREA) for item in (patch.pixels, patch.alpha, patch.mask)
    )
    gain = rng.normal(1, 0.08, 3) * rng.uniform(0.75, 1.3)
    pixels = np.clip(pixels * gain + rng.normal(0, 6), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        pixels, alpha, mask = (np.ascontiguousarray(item[:, ::-1]) for item in (pixels, alpha, mask))
    return Patch(pixels, alpha, mask)


def make_picture(rng: Rng, side: int, cutouts: Sequence[Cutout] = (), labels: Sequence[Array] = ()) -> Scene:
    """One made picture whose longer side is ``side``.

    Args:
        rng: everything random comes from it.
        side: pixels of the longer side.
        cutouts: real specimens that may be laid.
        labels: real labels that may be laid, RGB.
    """
    kind = rng.random()
    if kind < 0.5:
        scene = _sheet(rng, side, [item for item in cutouts if item.is_plant], labels)
    elif kind < 0.8:
        scene = _pinned(rng, side, [item for item in cutouts if not item.is_plant], labels)
    elif kind < 0.92:
        scene = _stage(rng, side, cutouts, labels)
    else:
        scene = _drawer(rng, side, cutouts, labels)
    return _seen(rng, scene)


def _empty(pixels: Array) -> Scene:
    height, width = pixels.shape[:2]
    return Scene(pixels, np.zeros((height, width), np.uint8), np.zeros((height, width), np.int32))


def _board(rng: Rng, height: int, width: int) -> Array:
    colour = BOARDS[int(rng.integers(len(BOARDS)))]
    board = made_paper.paper(rng, height, width, colour)
    if colour == (196, 168, 110):  # cork
        specks = rng.random((height, width)) < 0.04
        board[specks] = (90, 60, 30)
        import cv2

        board = np.asarray(cv2.GaussianBlur(board, (0, 0), 0.9), np.uint8)
    return board


def _label(rng: Rng, labels: Sequence[Array], h: int, w: int, ground: tuple[int, int, int] | None) -> Patch:
    import cv2

    if labels and rng.random() < 0.15:
        real = labels[int(rng.integers(len(labels)))]
        h = max(8, round(w * real.shape[0] / real.shape[1]))
        return made_paper.solid(np.asarray(cv2.resize(real, (w, h), interpolation=cv2.INTER_AREA), np.uint8))
    return made_paper.label(rng, h, w, ground)


def _tilt(rng: Rng, most: float = 3.0) -> float:
    quarter = float(rng.choice([0, 0, 0, 0, 90, 180, 270]))
    return quarter + (float(rng.normal(0, most)) if rng.random() < 0.5 else 0.0)


def _clutter(
    rng: Rng,
    scene: Scene,
    window: tuple[int, int, int, int],
    unit: float,
    ground: tuple[int, int, int],
    labels: Sequence[Array],
) -> None:
    """Labels, codes, rulers, charts, stamps, envelopes in a window (x0, y0, x1, y1); ``unit`` is a sheet's width."""
    x0, y0, x1, y1 = window

    def spot(w: int, h: int) -> tuple[int, int]:
        low = rng.random() < 0.6
        y = rng.uniform(0.6, 1.0) if low else rng.uniform(0, 1)
        x = float(rng.choice([rng.uniform(0, 0.15), rng.uniform(0.85, 1), rng.uniform(0, 1)]))
        return int(x0 + w / 2 + x * max(1, x1 - x0 - w)), int(y0 + h / 2 + y * max(1, y1 - y0 - h))

    def size(low: float, high: float, ratio_low: float, ratio_high: float) -> tuple[int, int]:
        w = int(unit * rng.uniform(low, high)) + 8
        return w, max(8, int(w * rng.uniform(ratio_low, ratio_high)))

    def put(patch: Patch, kind: int, tilt: float, shadow: float) -> None:
        angle = tilt
        scene.lay(rng, patch, *spot(patch.mask.shape[1], patch.mask.shape[0]), kind, angle=angle, shadow=shadow)

    for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.55 else 0):
        w, h = size(0.14, 0.36, 0.4, 1.6)
        put(made_paper.envelope(rng, h, w, ground), ENVELOPE, _tilt(rng, 2), float(rng.choice([0, 1, 2])))
    for _ in range(int(rng.integers(0, 5))):
        w, h = size(0.15, 0.5, 0.2, 1.0)
        put(_label(rng, labels, h, w, ground), LABEL, _tilt(rng), float(rng.choice([0, 0, 1, 2])))
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.6 else 0):
        w, h = size(0.08, 0.22, 0.35, 1.0)
        put(made_paper.stamp(rng, h, w), STAMP, _tilt(rng, 8), 0)
    for _ in range(int(rng.integers(0, 3)) if rng.random() < 0.7 else 0):
        w, h = size(0.08, 0.24, 0.28, 0.7)
        put(made_paper.barcode(rng, h, w), BARCODE, _tilt(rng, 2), float(rng.choice([0, 0, 1])))
    if rng.random() < 0.45:
        w, h = size(0.25, 0.6, 0.09, 0.22)
        put(
            made_paper.ruler(rng, w, h),
            RULER,
            float(rng.choice([0, 0, 90, 270])) + float(rng.normal(0, 0.7)),
            float(rng.choice([0, 1, 2])),
        )
    if rng.random() < 0.45:
        w, h = size(0.1, 0.3, 0.5, 1.7) if rng.random() < 0.7 else size(0.3, 0.7, 0.08, 0.2)
        put(
            made_paper.chart(rng, h, w),
            CHART,
            float(rng.choice([0, 0, 90])) + float(rng.normal(0, 0.7)),
            float(rng.choice([0, 1, 2])),
        )
    if rng.random() < 0.12:
        w, h = size(0.04, 0.2, 0.3, 1.2)
        put(made_paper.other(rng, h, w), OTHER, _tilt(rng), 1)


def _sheet(rng: Rng, side: int, cutouts: Sequence[Cutout], labels: Sequence[Array]) -> Scene:
    import cv2

    height, width = side, int(side * rng.uniform(0.62, 0.85))
    if rng.random() < 0.1:
        height, width = width, height
    scene = _empty(_board(rng, height, width))
    colour = made_paper.some_paper(rng)
    margins = [int(side * value) for value in rng.uniform(-0.02, 0.06, 4)]
    x0, y0, x1, y1 = (
        max(0, margins[0]),
        max(0, margins[1]),
        min(width, width - margins[2]),
        min(height, height - margins[3]),
    )
    sheet = made_paper.paper(rng, y1 - y0, x1 - x0, colour)
    scene.lay(
        rng,
        made_paper.solid(sheet),
        (x0 + x1) // 2,
        (y0 + y1) // 2,
        0,
        angle=float(rng.normal(0, 0.4)) if rng.random() < 0.4 else 0,
        shadow=float(rng.choice([0, 2, 5])),
    )
    unit = float(x1 - x0)
    for _ in range(int(rng.integers(0, 4)) if rng.random() < 0.4 else 0):  # notes straight on the paper
        size = int(unit * rng.uniform(0.015, 0.05))
        made_paper.write(
            rng,
            scene.pixels,
            int(rng.uniform(x0, x0 + unit * 0.7)),
            int(rng.uniform(y0, y1 - size)),
            size,
            int(unit * rng.uniform(0.05, 0.3)),
            made_paper.ink(rng),
        )
    is_first = rng.random() < 0.6
    if is_first:
        _clutter(rng, scene, (x0, y0, x1, y1), unit, colour, labels)
    count = 0 if rng.random() < 0.08 else int(rng.integers(1, 4))
    for _ in range(count):
        patch = _plant(rng, scene, cutouts, y1 - y0, x1 - x0, count)
        x = int(rng.uniform(x0 + unit * 0.25, x1 - unit * 0.25))
        y = int(rng.uniform(y0 + (y1 - y0) * 0.3, y1 - (y1 - y0) * 0.4))
        scene.lay(rng, patch, x, y, SPECIMEN, angle=float(rng.normal(0, 25)), shadow=float(rng.choice([0, 1, 2, 3])))
    for _ in range(int(rng.integers(0, 14)) if count and rng.random() < 0.6 else 0):  # tape over stems
        rows, columns = np.nonzero(scene.classes == SPECIMEN)
        if rows.size == 0:
            break
        pick = int(rng.integers(rows.size))
        w, h = int(unit * rng.uniform(0.02, 0.16)) + 2, int(unit * rng.uniform(0.005, 0.025)) + 2
        tint = tuple(int(np.clip(value + rng.integers(-25, 10), 0, 255)) for value in colour)
        tape = made_paper.paper(rng, h, w, tint)  # type: ignore[arg-type]
        alpha = np.full((h, w), int(rng.integers(150, 256)), np.uint8)
        scene.lay(
            rng,
            Patch(tape, alpha, np.full((h, w), 255, np.uint8)),
            int(columns[pick]),
            int(rows[pick]),
            0,
            angle=float(rng.uniform(0, 180)),
        )
    if rng.random() < 0.25:  # dust and crumbs
        for _ in range(int(rng.integers(3, 30))):
            spot = (int(rng.integers(x0, x1)), int(rng.integers(y0, y1)))
            cv2.circle(scene.pixels, spot, int(rng.integers(0, 2)), made_life.tone(rng, made_life.PLANT), -1)
    if not is_first:
        _clutter(rng, scene, (x0, y0, x1, y1), unit, colour, labels)
    if rng.random() < 0.3:
        _clutter_on_board(rng, scene, width, height)
    return scene


def _clutter_on_board(rng: Rng, scene: Scene, width: int, height: int) -> None:
    """A band of board along an edge with ruler and chart, as under many cameras."""
    band = int(min(width, height) * rng.uniform(0.05, 0.11))
    scene.pixels[:band] = _board(rng, band, width)
    scene.classes[:band] = 0
    scene.things[:band] = 0
    x = int(width * rng.uniform(0, 0.2))
    for _ in range(int(rng.integers(1, 3))):
        w = int(width * rng.uniform(0.2, 0.5))
        if rng.random() < 0.5:
            patch, kind = made_paper.ruler(rng, w, max(8, int(band * rng.uniform(0.4, 0.95)))), RULER
        else:
            patch, kind = made_paper.chart(rng, max(8, int(band * rng.uniform(0.7, 1.0))), w), CHART
        scene.lay(rng, patch, x + w // 2, band // 2, kind)
        x += w + int(width * rng.uniform(0.0, 0.1))
    if rng.random() < 0.5 and x < width * 0.8:
        made_paper.write(rng, scene.pixels, x + 4, band // 3, max(5, band // 3), int(width * 0.2), (220, 220, 220))


def _plant(rng: Rng, scene: Scene, cutouts: Sequence[Cutout], height: int, width: int, count: int) -> Patch:
    share = rng.uniform(0.35, 0.95) / (1 + 0.35 * (count - 1))
    if cutouts and rng.random() < 0.5:
        chosen = cutouts[int(rng.integers(len(cutouts)))]
        scene.sources.add(chosen.source)
        tall, broad = chosen.patch.mask.shape
        return _resized(chosen.patch, share * min(height / tall, width / broad), rng)
    return made_life.plant(rng, max(40, int(height * share)), max(40, int(min(width, height) * share)))


def _animal(rng: Rng, scene: Scene, cutouts: Sequence[Cutout], height: int, width: int, share: float) -> Patch:
    if cutouts and rng.random() < 0.45:
        chosen = cutouts[int(rng.integers(len(cutouts)))]
        scene.sources.add(chosen.source)
        tall, broad = chosen.patch.mask.shape
        return _resized(chosen.patch, share * min(height / tall, width / broad), rng)
    return made_life.animal(rng, max(24, int(height * share)), max(24, int(width * share)))


def _tray(rng: Rng, height: int, width: int) -> Array:
    """Ground under an insect: slats, foam, cork, board, or paper."""
    import cv2

    ground = made_paper.paper(
        rng,
        height,
        width,
        ((226, 222, 212), (198, 190, 174), (240, 240, 242), (170, 172, 176), (216, 204, 184))[int(rng.integers(5))],
    )
    kind = rng.random()
    if kind < 0.35:
        period, x = width * rng.uniform(0.12, 0.4), -width * rng.uniform(0, 0.3)
        wood = made_paper.some_paper(rng) if rng.random() < 0.2 else (226, 188, 120)
        while x < width:
            bar = int(period * rng.uniform(0.35, 0.65))
            plank = made_paper.paper(rng, height, max(4, bar), wood).astype(np.float32)
            plank += np.cumsum(rng.normal(0, 1.2, plank.shape[1]))[None, :, None]
            plank *= np.linspace(rng.uniform(0.75, 1.05), rng.uniform(0.75, 1.05), plank.shape[1])[None, :, None]
            left, right = max(0, int(x)), min(width, int(x) + plank.shape[1])
            if right > left:
                ground[:, left:right] = np.clip(plank[:, left - int(x) : right - int(x)], 0, 255)
            x += period
        if rng.random() < 0.3:
            ground = np.ascontiguousarray(np.asarray(cv2.resize(np.rot90(ground), (width, height)), np.uint8))
    elif kind < 0.5:
        ground = np.asarray(cv2.resize(_board(rng, height, width), (width, height)), np.uint8)
    return ground


def _pinned(rng: Rng, side: int, cutouts: Sequence[Cutout], labels: Sequence[Array]) -> Scene:
    """One insect seen from above, on a pin over labels or on a tray, cropped close as often as not."""
    import cv2

    height, width = side, int(side * rng.uniform(0.4, 1.0))
    if rng.random() < 0.35:
        height, width = width, height
    scene = _empty(_tray(rng, height, width))
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.6 else 0):
        w = int(width * rng.uniform(0.3, 1.5))
        patch = _label(rng, labels, int(w * rng.uniform(0.3, 0.8)), w, None)
        x, y = int(width * rng.uniform(0.1, 0.9)), int(height * rng.uniform(0.1, 0.9))
        scene.lay(
            rng,
            patch,
            x,
            y,
            LABEL,
            angle=float(rng.choice([0, 90, 180, 270])) + float(rng.normal(0, 4)),
            shadow=float(rng.choice([0, 3, 8])),
        )
    if rng.random() < 0.05:
        return scene
    if rng.random() < 0.2:
        _clutter(rng, scene, (0, 0, width, height), min(width, height), (230, 226, 216), labels)
    is_close = rng.random() < 0.7
    share = rng.uniform(0.85, 1.15) if is_close else rng.uniform(0.25, 0.75)
    patch = _animal(rng, scene, cutouts, height, width, share)
    angle = float(rng.normal(0, 12)) if rng.random() < 0.7 else float(rng.uniform(0, 360))
    spread = 0.03 if is_close else 0.2
    x, y = int(width * rng.normal(0.5, spread)), int(height * rng.normal(0.5, spread))
    scene.lay(rng, patch, x, y, SPECIMEN, angle=angle, shadow=float(rng.choice([0, 2, 5, 9])))
    if rng.random() < 0.5:  # the head of a pin
        radius = max(2, int(side * rng.uniform(0.008, 0.05)))
        spot = (int(x + rng.normal(0, width * 0.04)), int(y + rng.normal(0, height * 0.06)))
        tint = ((214, 204, 180), (30, 30, 32), (190, 190, 196), (200, 60, 50))[int(rng.integers(4))]
        if rng.random() < 0.4:
            tip = (spot[0] + int(rng.normal(0, 3 * radius)), spot[1] + int(rng.normal(0, 3 * radius)))
            cv2.line(scene.pixels, spot, tip, (70, 68, 66), max(1, radius // 4), cv2.LINE_AA)
            cv2.line(scene.classes, spot, tip, 0, max(1, radius // 4))
        cv2.circle(scene.pixels, spot, radius, tint, -1, cv2.LINE_AA)
        cv2.circle(
            scene.pixels,
            (spot[0] - radius // 3, spot[1] - radius // 3),
            max(1, radius // 3),
            tuple(min(255, v + 40) for v in tint),
            -1,
            cv2.LINE_AA,
        )
        cv2.circle(scene.classes, spot, radius, 0, -1)
    return scene


def _stage(rng: Rng, side: int, cutouts: Sequence[Cutout], labels: Sequence[Array]) -> Scene:
    """A specimen or a few, free on a plain ground, with its papers beside it; sometimes papers alone."""
    width, height = side, int(side * rng.uniform(0.5, 1.0))
    colour = BOARDS[int(rng.integers(len(BOARDS)))] if rng.random() < 0.4 else made_paper.some_paper(rng)
    scene = _empty(made_paper.paper(rng, height, width, colour))
    _clutter(rng, scene, (0, 0, width, height), width * 0.7, colour, labels)
    if rng.random() < 0.25:
        return scene
    chosen = [item for item in cutouts if not item.is_plant]
    for _ in range(1 if rng.random() < 0.7 else int(rng.integers(2, 4))):
        share = rng.uniform(0.15, 0.8)
        patch = _animal(rng, scene, chosen, height, width, share)
        spot = int(width * rng.uniform(0.15, 0.85)), int(height * rng.uniform(0.15, 0.75))
        scene.lay(
            rng,
            patch,
            *spot,
            SPECIMEN,
            angle=float(rng.normal(0, 10)) if rng.random() < 0.6 else float(rng.uniform(0, 360)),
            shadow=float(rng.choice([0, 2, 6])),
        )
    return scene


def _drawer(rng: Rng, side: int, cutouts: Sequence[Cutout], labels: Sequence[Array]) -> Scene:
    """Rows of small insects with their labels."""
    width, height = side, int(side * rng.uniform(0.7, 1.0))
    scene = _empty(_tray(rng, height, width))
    chosen = [item for item in cutouts if not item.is_plant]
    columns = int(rng.integers(2, 9))
    cell = width / columns
    rows = max(1, int(height / cell))
    for row in range(rows):
        for column in range(columns):
            x, y = (
                int((column + 0.5) * cell + rng.normal(0, cell * 0.05)),
                int((row + 0.5) * cell + rng.normal(0, cell * 0.05)),
            )
            if rng.random() < 0.3:
                w = int(cell * rng.uniform(0.3, 0.8)) + 6
                patch = _label(rng, labels, max(6, int(w * rng.uniform(0.3, 0.7))), w, None)
                scene.lay(rng, patch, x, int(y + cell * 0.35), LABEL, angle=float(rng.normal(0, 4)), shadow=1)
            if rng.random() < 0.85:
                patch = _animal(rng, scene, chosen, int(cell), int(cell), float(rng.uniform(0.5, 0.95)))
                scene.lay(
                    rng, patch, x, y, SPECIMEN, angle=float(rng.normal(0, 12)), shadow=float(rng.choice([0, 1, 2]))
                )
    return scene


def _seen(rng: Rng, scene: Scene) -> Scene:
    """Light, lens and file: gradients, blur, noise, JPEG."""
    import cv2

    height, width = scene.classes.shape
    pixels = scene.pixels.astype(np.float32)
    if rng.random() < 0.6:
        ramp = (
            np.linspace(rng.uniform(0.8, 1), rng.uniform(0.8, 1), width)[None, :]
            * np.linspace(rng.uniform(0.85, 1), rng.uniform(0.85, 1), height)[:, None]
        )
        pixels *= ramp[:, :, None]
    if rng.random() < 0.4:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.3, 1.3))), np.float32)
    pixels += rng.normal(0, rng.uniform(0, 3), pixels.shape)
    out = np.clip(pixels, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        done, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 95))])
        out = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8) if done else out
    scene.pixels = out
    return scene
