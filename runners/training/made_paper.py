"""Made things of paper and card: labels, codes, rulers, charts, stamps, envelopes. Every one is a patch with an alpha.

A patch is what would be cut out of a photograph: RGB pixels, an alpha of how much of them is seen, and a mask of what
the thing covers (a stamp covers its whole outline though only its lines are seen). Nothing here is drawn from a file:
every picture follows from a seeded generator. The shapes are those that collections use; the words mean nothing.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, np.dtype[np.uint8]]
Rng = np.random.Generator

PAPERS: Final = (
    (250, 249, 245), (244, 240, 228), (236, 228, 206), (222, 208, 176), (240, 238, 226), (232, 236, 232),
    (226, 232, 238), (248, 246, 214), (206, 194, 166), (253, 253, 253),
)  # fmt: skip
"""Paper from bright white to old and brown, and the cool white of a copier."""
BRIGHT: Final = ((214, 60, 44), (240, 214, 90), (120, 176, 206), (150, 196, 120), (232, 150, 60), (206, 170, 40))
"""Type labels and sorting slips."""
CHART_24: Final = (
    (115, 82, 68), (194, 150, 130), (98, 122, 157), (87, 108, 67), (133, 128, 177), (103, 189, 170),
    (214, 126, 44), (80, 91, 166), (193, 90, 99), (94, 60, 108), (157, 188, 64), (224, 163, 46),
    (56, 61, 150), (70, 148, 73), (175, 54, 60), (231, 199, 31), (187, 86, 149), (8, 133, 161),
    (243, 243, 242), (200, 200, 200), (160, 160, 160), (122, 122, 121), (85, 85, 85), (52, 52, 52),
)  # fmt: skip
LETTERS: Final = "abcdefghijklmnoprstuvwyABCDEFGHLMNPRST0123456789.,-:()° "


@dataclass(frozen=True, slots=True)
class Patch:
    """Something to lay on a picture."""

    pixels: Array
    """(h, w, 3)."""
    alpha: Array
    """(h, w): 255 where the pixels hide what lies below."""
    mask: Array
    """(h, w): 255 where the thing is."""


def solid(pixels: Array) -> Patch:
    """A rectangular thing."""
    full = np.full(pixels.shape[:2], 255, np.uint8)
    return Patch(pixels, full, full)


def paper(rng: Rng, height: int, width: int, colour: tuple[int, int, int]) -> Array:
    """A piece of paper with grain, fibres and stains."""
    import cv2

    grain = rng.normal(0, rng.uniform(0.5, 4), (height, width, 1))
    coarse = cv2.resize(
        rng.normal(0, rng.uniform(0.5, 5), (max(2, height // 40), max(2, width // 40))).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )[:, :, None]
    sheet = np.array(colour, np.float32) + grain + coarse
    if rng.random() < 0.25:
        stain = np.zeros((height, width), np.float32)
        for _ in range(int(rng.integers(1, 5))):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (int(rng.integers(3, max(4, width // 5))), int(rng.integers(3, max(4, height // 5))))
            cv2.ellipse(stain, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(3, 14)), -1)
        stain = cv2.GaussianBlur(stain, (0, 0), float(rng.uniform(2, 12)))
        sheet -= stain[:, :, None] * np.array((0.6, 1.0, 1.5), np.float32)
    return np.asarray(np.clip(sheet, 0, 255), np.uint8)


def some_paper(rng: Rng) -> tuple[int, int, int]:
    """A colour of paper."""
    base = np.array(PAPERS[int(rng.integers(len(PAPERS)))]) + rng.integers(-8, 9, 3)
    return tuple(int(value) for value in np.clip(base, 0, 255))  # type: ignore[return-value]


def ink(rng: Rng) -> tuple[int, int, int]:
    """A colour of ink, mostly black."""
    if rng.random() < 0.65:
        level = int(rng.integers(10, 90))
        return (level, level, level)
    return ((40, 50, 130), (130, 40, 40), (70, 55, 40), (60, 60, 110))[int(rng.integers(4))]


def words(rng: Rng, count: int) -> str:
    """Letters that mean nothing."""
    return "".join(LETTERS[int(item)] for item in rng.integers(0, len(LETTERS), count))


def write(rng: Rng, pixels: Array, x: int, y: int, size: int, width: int, colour: tuple[int, int, int]) -> None:
    """One line of print, typing or handwriting into ``pixels``; ``y`` is its upper edge."""
    import cv2
    from PIL import Image, ImageDraw, ImageFont

    size = max(4, size)
    count = max(1, int(width / (size * 0.55)))
    kind = rng.random()
    if kind < 0.6:
        image = Image.fromarray(pixels)
        ImageDraw.Draw(image).text((x, y), words(rng, count), fill=colour, font=ImageFont.load_default(size))
        pixels[:] = np.asarray(image)
    elif kind < 0.8:
        fonts = (cv2.FONT_HERSHEY_SCRIPT_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX_SMALL, cv2.FONT_HERSHEY_TRIPLEX)
        font = fonts[int(rng.integers(3))]
        text = "".join(char for char in words(rng, count) if ord(char) < 128)
        cv2.putText(pixels, text, (x, y + size), font, size / 30, colour, 1 + size // 24, cv2.LINE_AA)
    else:
        scribble(rng, pixels, x, y + size // 2, size, width, colour)


def scribble(rng: Rng, pixels: Array, x: int, y: int, size: int, width: int, colour: tuple[int, int, int]) -> None:
    """A line of loops that looks like handwriting."""
    import cv2

    steps = max(8, width // 2)
    t = np.linspace(0, width / max(3.0, size * 0.35) * 2 * np.pi, steps)
    wave = np.cumsum(rng.normal(0, 0.3, steps))
    xs = x + np.linspace(0, width, steps) + np.cos(t + wave) * size * 0.25
    ys = y + np.sin(t) * size * 0.35 * (0.6 + 0.5 * np.sin(t / 5 + wave)) - np.linspace(0, width, steps) * 0.03
    points = np.stack([xs, ys], 1).astype(np.int32)
    gaps = np.flatnonzero(rng.random(steps) < 0.03)
    for part in np.split(points, gaps):
        cv2.polylines(pixels, [part.reshape(-1, 1, 2)], False, colour, 1 + size // 22, cv2.LINE_AA)


def text_block(rng: Rng, pixels: Array, margin: int) -> None:
    """Lines of text that fill a piece of paper."""
    height, width = pixels.shape[:2]
    y, colour = margin, ink(rng)
    size = int(rng.uniform(0.06, 0.3) * height)
    size = min(max(size, 5), 60)
    while y + size < height - margin:
        length = int((width - 2 * margin) * rng.uniform(0.25, 1.0))
        start = margin if rng.random() < 0.6 else int(margin + (width - 2 * margin - length) * rng.uniform(0, 1))
        if length > size:
            write(rng, pixels, start, y, size, length, colour)
        y += int(size * rng.uniform(1.15, 1.9))
        if rng.random() < 0.15:
            size = min(max(int(size * rng.uniform(0.6, 1.5)), 5), 60)


def label(rng: Rng, height: int, width: int, ground: tuple[int, int, int] | None = None) -> Patch:
    """A label; on ``ground`` when it is of the same paper as what lies below."""
    import cv2

    colour = some_paper(rng)
    if ground is not None and rng.random() < 0.45:
        colour = tuple(int(np.clip(value + rng.integers(-9, 10), 0, 255)) for value in ground)  # type: ignore[assignment]
    elif rng.random() < 0.12:
        colour = BRIGHT[int(rng.integers(len(BRIGHT)))]
    pixels = paper(rng, height, width, colour)
    margin = int(rng.uniform(0.03, 0.12) * min(height, width)) + 2
    if rng.random() < 0.92:
        text_block(rng, pixels, margin)
    if rng.random() < 0.2:
        cv2.rectangle(
            pixels, (margin // 2, margin // 2), (width - margin // 2 - 1, height - margin // 2 - 1), ink(rng), 1
        )
    if rng.random() < 0.08:
        _map(rng, pixels, margin)
    return solid(pixels)


def _map(rng: Rng, pixels: Array, margin: int) -> None:
    import cv2

    height, width = pixels.shape[:2]
    for _ in range(6):
        walk = np.cumsum(rng.normal(0, width / 40, (40, 2)), 0) + rng.uniform(0.2, 0.8, 2) * (width, height)
        walk = np.clip(walk, margin, (width - margin, height - margin)).astype(np.int32)
        cv2.polylines(pixels, [walk.reshape(-1, 1, 2)], False, (40, 40, 40), 1, cv2.LINE_AA)


def barcode(rng: Rng, height: int, width: int) -> Patch:
    """A sticker with a linear code or a matrix code."""
    level = int(rng.integers(225, 256))
    pixels = paper(rng, height, width, (level, level, level))
    dark = int(rng.integers(5, 60))
    margin = max(2, int(min(height, width) * rng.uniform(0.03, 0.12)))
    if rng.random() < 0.3:
        side = min(height, width) - 2 * margin
        modules = int(rng.integers(10, 26))
        cells = (rng.random((modules, modules)) < 0.5).astype(np.uint8)
        cells[:, 0] = cells[-1, :] = 1
        size = max(modules, side)
        rows = np.arange(size) * modules // size
        code = cells[np.ix_(rows, rows)] == 1
        target = pixels[margin : margin + size, margin : margin + size]
        target[code[: target.shape[0], : target.shape[1]]] = dark
        if width > height * 1.4:
            write(
                rng, pixels, 2 * margin + size, height // 3, max(5, height // 5), width - size - 3 * margin, (dark,) * 3
            )
        return solid(pixels)
    low, high = int(height * rng.uniform(0.03, 0.3)), int(height * rng.uniform(0.6, 0.85))
    x = margin
    while x < width - margin:
        bar = int(rng.integers(1, 2 + max(1, width // 60)))
        pixels[low:high, x : min(x + bar, width - margin)] = dark
        x += bar + int(rng.integers(1, 2 + max(1, width // 60)))
    text = max(5, int((height - high) * 0.7))
    write(rng, pixels, int(width * 0.25), high + 1, text, int(width * 0.5), (dark,) * 3)
    if low > 8:
        write(rng, pixels, int(width * 0.1), 1, low - 3, int(width * 0.8), (dark,) * 3)
    return solid(pixels)


def ruler(rng: Rng, length: int, breadth: int) -> Patch:
    """A ruler, ``length`` wide: plastic, steel, transparent, or a printed scale."""
    import cv2

    kind = rng.random()
    ground, mark = ((14, 14, 16), (238, 238, 238)) if kind < 0.55 else ((240, 240, 236), (20, 20, 20))
    if kind > 0.9:
        ground, mark = ((150, 150, 155), (40, 40, 40)) if rng.random() < 0.5 else ((225, 210, 150), (40, 30, 20))
    pixels = paper(rng, breadth, length, ground)
    unit = rng.uniform(0.5, 1.4) * breadth
    end = length if rng.random() < 0.4 else int(length * rng.uniform(0.65, 0.95))
    fine, count = (10 if unit > 30 else 2), int(end / unit)
    is_blocks = rng.random() < 0.4
    top = rng.random() < 0.5
    for index in range(count * fine + 1):
        x = int(4 + index * unit / fine)
        if x >= end:
            break
        tick = breadth * (0.5 if index % fine == 0 else 0.35 if fine == 10 and index % 5 == 0 else 0.22)
        y0, y1 = (0, int(tick)) if top else (breadth - int(tick), breadth)
        cv2.line(pixels, (x, y0), (x, y1), mark, 1)
        if index % fine == 0:
            y = breadth - 3 if top else int(breadth * 0.4)
            cv2.putText(
                pixels, str(index // fine), (x + 1, y), cv2.FONT_HERSHEY_SIMPLEX, breadth / 90, mark, 1, cv2.LINE_AA
            )
        if is_blocks and index % (2 * fine) == 0:
            y0, y1 = (0, breadth // 4) if top else (breadth - breadth // 4, breadth)
            cv2.rectangle(pixels, (x, y0), (int(x + unit), y1), mark, -1)
    if end < length - 10:
        if rng.random() < 0.5:
            cv2.rectangle(pixels, (end, 0), (length, breadth), (225, 225, 225), -1)
            mark = (30, 30, 30)
        write(rng, pixels, end + 4, breadth // 4, max(5, breadth // 3), length - end - 8, mark)
    return solid(pixels)


def chart(rng: Rng, height: int, width: int) -> Patch:
    """A colour or grey chart: patches in rows on a frame."""
    import cv2

    frames = ((20, 20, 20), (20, 20, 20), (90, 90, 90), (235, 235, 232), (10, 10, 10))
    frame = frames[int(rng.integers(len(frames)))]
    pixels = paper(rng, height, width, frame)
    if rng.random() < 0.55:
        columns, rows = (6, 4) if width > height else (4, 6)
    else:
        cell = min(height, width) / float(rng.integers(1, 5))
        columns, rows = max(1, int(width / cell)), max(1, int(height / cell))
    colours: list[tuple[int, ...]] = [CHART_24[index % 24] for index in range(columns * rows)]
    order = rng.random()
    if order < 0.3:
        colours = [tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in colours]
    elif order < 0.42:
        colours = [(int(v),) * 3 for v in np.linspace(rng.integers(0, 40), 250, len(colours))]
    if rng.random() < 0.5:
        colours = colours[::-1]
    margin = int(min(height, width) * rng.uniform(0.0, 0.12))
    gap = rng.uniform(0.0, 0.3)
    is_round = rng.random() < 0.08
    for index, colour in enumerate(colours):
        row, column = divmod(index, columns)
        w, h = (width - 2 * margin) / columns, (height - 2 * margin) / rows
        x0, y0 = int(margin + (column + gap / 2) * w), int(margin + (row + gap / 2) * h)
        x1, y1 = int(margin + (column + 1 - gap / 2) * w), int(margin + (row + 1 - gap / 2) * h)
        if is_round:
            cv2.circle(pixels, ((x0 + x1) // 2, (y0 + y1) // 2), max(2, min(x1 - x0, y1 - y0) // 2), colour, -1)
        else:
            cv2.rectangle(pixels, (x0, y0), (x1, y1), colour, -1)
    return solid(pixels)


def stamp(rng: Rng, height: int, width: int) -> Patch:
    """A stamp of ink: outline and words; the paper shows between."""
    import cv2

    ground = np.full((height, width, 3), 255, np.uint8)
    colours = ((30, 30, 30), (200, 40, 50), (50, 60, 150), (110, 60, 120), (60, 60, 60), (40, 110, 80))
    colour = colours[int(rng.integers(len(colours)))]
    mask = np.zeros((height, width), np.uint8)
    centre, axes = (width // 2, height // 2), (width // 2 - 2, height // 2 - 2)
    kind = int(rng.integers(4))
    thick = 1 + int(rng.integers(3))
    corners = np.array(
        [[width // 2, 1], [width - 2, height // 2], [width // 2, height - 2], [1, height // 2]], np.int32
    )
    if kind == 0:
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1)
        for shrink in (0, int(min(axes) * 0.3)) if rng.random() < 0.7 else (0,):
            inner = (max(2, axes[0] - shrink), max(2, axes[1] - shrink))
            cv2.ellipse(ground, centre, inner, 0, 0, 360, colour, thick, cv2.LINE_AA)
    elif kind == 1:
        cv2.fillPoly(mask, [corners], 255)
        cv2.polylines(ground, [corners], True, colour, thick, cv2.LINE_AA)
    elif kind == 2:
        mask[:] = 255
        cv2.rectangle(ground, (2, 2), (width - 3, height - 3), colour, thick)
    else:
        mask[:] = 255
    size = max(5, int(height * rng.uniform(0.14, 0.3)))
    share = 0.55 if kind != 1 else 0.4
    for row in (0.28, 0.45, 0.62):
        length = int(width * share)
        write(rng, ground, (width - length) // 2, int(height * row), size, length, colour)
    ring = words(rng, 24)
    if kind == 0:
        for index, char in enumerate(ring):
            angle = 2 * np.pi * index / len(ring)
            spot = (
                int(centre[0] + axes[0] * 0.82 * np.cos(angle)) - 3,
                int(centre[1] + axes[1] * 0.82 * np.sin(angle)) + 3,
            )
            if ord(char) < 128:
                cv2.putText(ground, char, spot, cv2.FONT_HERSHEY_SIMPLEX, height / 260, colour, 1, cv2.LINE_AA)
    strength = (255 - ground.min(axis=2)).astype(np.float32) / max(1, 255 - min(colour))
    worn = np.clip(strength * rng.uniform(0.5, 1.0), 0, 1) * np.clip(rng.normal(0.9, 0.25, (height, width)), 0.2, 1)
    pixels = np.empty_like(ground)
    pixels[:] = colour
    return Patch(pixels, (worn * 255).astype(np.uint8), mask)


def envelope(rng: Rng, height: int, width: int, ground: tuple[int, int, int]) -> Patch:
    """A packet for fragments: paper with folds, or a clear bag with a bright edge."""
    import cv2

    near = tuple(int(np.clip(value + rng.integers(-14, 15), 0, 255)) for value in ground)
    colour = near if rng.random() < 0.7 else some_paper(rng)
    pixels = paper(rng, height, width, colour)  # type: ignore[arg-type]
    shade = tuple(max(0, value - int(rng.integers(12, 60))) for value in colour)
    lift = int(min(height, width) * rng.uniform(0.06, 0.25))
    kind = rng.random()
    if kind < 0.4:
        for x0, x1 in ((0, lift), (width - 1, width - 1 - lift)):
            cv2.line(pixels, (x0, 0), (x1, lift), shade, 1, cv2.LINE_AA)
            cv2.line(pixels, (x0, height - 1), (x1, height - 1 - lift), shade, 1, cv2.LINE_AA)
        cv2.line(pixels, (lift, height - 1 - lift), (width - 1 - lift, height - 1 - lift), shade, 1, cv2.LINE_AA)
    elif kind < 0.7:
        for offset in (lift, int(lift * 1.7)):
            cv2.line(pixels, (0, offset), (width - 1, offset + int(rng.integers(-3, 4))), shade, 1, cv2.LINE_AA)
    cv2.rectangle(pixels, (0, 0), (width - 1, height - 1), shade, 1)
    alpha = np.full((height, width), 255 if rng.random() < 0.8 else int(rng.integers(130, 220)), np.uint8)
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 6))):
            spot = (int(rng.integers(width // 6, width)), int(rng.integers(height // 6, height)))
            cv2.ellipse(
                pixels,
                spot,
                (int(rng.integers(2, 9)), int(rng.integers(1, 5))),
                float(rng.uniform(0, 180)),
                0,
                360,
                (96, 82, 52),
                -1,
                cv2.LINE_AA,
            )
    if rng.random() < 0.3:
        write(rng, pixels, int(width * 0.2), int(height * 0.6), max(6, height // 10), int(width * 0.5), ink(rng))
    return Patch(pixels, alpha, np.full((height, width), 255, np.uint8))


def other(rng: Rng, height: int, width: int) -> Patch:
    """Things that belong to nobody: plates with a logo, stickers, bands of colour, dishes, caps."""
    import cv2

    kind = rng.random()
    colour = tuple(int(v) for v in rng.integers(20, 240, 3))
    if kind < 0.4:
        pixels = paper(rng, height, width, colour)  # type: ignore[arg-type]
        return solid(pixels)
    pixels = paper(rng, height, width, colour)  # type: ignore[arg-type]
    mask = np.zeros((height, width), np.uint8)
    centre, axes = (width // 2, height // 2), (max(2, width // 2 - 1), max(2, height // 2 - 1))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1)
    inner = (max(1, int(axes[0] * 0.8)), max(1, int(axes[1] * 0.8)))
    cv2.ellipse(pixels, centre, inner, 0, 0, 360, tuple(int(v) for v in rng.integers(60, 250, 3)), -1, cv2.LINE_AA)
    return Patch(pixels, mask, mask)
