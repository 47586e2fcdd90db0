"""Made plants and animals: drawn, textured, and cut out; their masks are exact because they were drawn first.

They need not fool a botanist: what counts is that outlines, thin stems, holes, hairs, shine, veins and see-through
wings occur in every size and colour, over every ground.
"""

from typing import Final

import numpy as np

from runners.training.made_paper import Array, Patch, Rng

PLANT: Final = ((92, 88, 44), (116, 104, 58), (78, 66, 40), (122, 92, 56), (98, 110, 60), (140, 122, 78), (70, 60, 48),
                (150, 134, 88), (60, 72, 36), (110, 74, 48), (176, 158, 96), (120, 136, 70))  # fmt: skip
FLOWER: Final = ((150, 70, 60), (190, 160, 60), (120, 70, 110), (196, 176, 150), (90, 50, 60), (70, 44, 62))
ANIMAL: Final = ((24, 22, 22), (40, 30, 24), (62, 40, 26), (30, 34, 44), (92, 58, 30), (34, 48, 40), (120, 92, 60),
                 (150, 118, 78), (70, 30, 40), (20, 46, 60), (176, 150, 110), (188, 90, 80))  # fmt: skip


class Canvas:
    """Colour and cover, drawn together."""

    def __init__(self, height: int, width: int, colour: tuple[int, int, int]) -> None:
        self.pixels: Array = np.empty((height, width, 3), np.uint8)
        self.pixels[:] = colour
        self.cover: Array = np.zeros((height, width), np.uint8)

    def polygon(self, points: np.ndarray, colour: tuple[int, int, int]) -> None:
        """A filled outline."""
        import cv2

        outline = [np.round(points * 8).astype(np.int32).reshape(-1, 1, 2)]
        cv2.fillPoly(self.pixels, outline, colour, cv2.LINE_AA, 3)
        cv2.fillPoly(self.cover, outline, 255, cv2.LINE_AA, 3)

    def line(self, points: np.ndarray, colour: tuple[int, int, int], width: float) -> None:
        """A stroke of one breadth."""
        import cv2

        stroke = [np.round(points * 8).astype(np.int32).reshape(-1, 1, 2)]
        cv2.polylines(self.pixels, stroke, False, colour, max(1, round(width) + 1), cv2.LINE_AA, 3)
        cv2.polylines(self.cover, stroke, False, 255, max(1, round(width)), cv2.LINE_AA, 3)

    def patch(self, rng: Rng, grain: float) -> Patch:
        """With texture and light, cropped to what was drawn."""
        import cv2

        height, width = self.cover.shape
        coarse = cv2.resize(
            rng.normal(0, grain * 1.5, (max(2, height // 12), max(2, width // 12))).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        noise = rng.normal(0, grain, (height, width)).astype(np.float32) + coarse
        depth = cv2.GaussianBlur(self.cover, (0, 0), max(1.0, width / 120)).astype(np.float32) / 255
        shaded = self.pixels.astype(np.float32) * (0.75 + 0.3 * depth)[:, :, None] + noise[:, :, None]
        pixels = np.clip(shaded, 0, 255).astype(np.uint8)
        rows, columns = np.flatnonzero(self.cover.max(1)), np.flatnonzero(self.cover.max(0))
        if rows.size == 0:
            return Patch(pixels, self.cover, self.cover)
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Patch(pixels[window], self.cover[window], self.cover[window])


def tone(rng: Rng, colours: tuple[tuple[int, int, int], ...], spread: int = 16) -> tuple[int, int, int]:
    """A colour near one of the table."""
    base = np.array(colours[int(rng.integers(len(colours)))]) + rng.integers(-spread, spread + 1, 3)
    return tuple(int(value) for value in np.clip(base, 0, 255))  # type: ignore[return-value]


def near(rng: Rng, colour: tuple[int, int, int], spread: int = 12) -> tuple[int, int, int]:
    """A colour near ``colour``."""
    moved = np.array(colour) + rng.integers(-spread, spread + 1) + rng.integers(-4, 5, 3)
    return tuple(int(value) for value in np.clip(moved, 0, 255))  # type: ignore[return-value]


def leaf(
    rng: Rng,
    canvas: Canvas,
    at: tuple[float, float],
    angle: float,
    length: float,
    broad: float,
    colour: tuple[int, int, int],
    teeth: float,
) -> None:
    """One leaf with veins, sometimes with holes."""
    import cv2

    steps = int(np.clip(length / 3, 10, 70))
    t = np.linspace(0, 1, steps)
    profile = np.sin(np.pi * t ** rng.uniform(0.7, 1.3)) * broad * length / 2
    profile = profile * (1 + teeth * np.abs(np.sin(t * steps * 0.9)))
    bend = rng.uniform(-0.15, 0.15) * length * np.sin(np.pi * t)
    along = np.concatenate([t, t[::-1]]) * length
    across = np.concatenate([profile + bend, (-profile + bend)[::-1]])
    cos, sin = np.cos(angle), np.sin(angle)
    points = np.stack([at[0] + along * cos - across * sin, at[1] + along * sin + across * cos], 1)
    canvas.polygon(points, colour)
    vein = near(rng, colour, 26)
    middle = np.stack([at[0] + t * length * cos - bend * sin, at[1] + t * length * sin + bend * cos], 1)
    if length > 14:
        canvas.line(middle, vein, max(1.0, length / 80))
    if length > 50:
        for share in np.linspace(0.15, 0.85, int(rng.integers(4, 12))):
            start = middle[int(share * (steps - 1))]
            for side in (-1, 1):
                reach = profile[int(share * (steps - 1))] * 0.8
                direction = angle + side * rng.uniform(0.6, 1.0)
                stop = start + reach * np.array([np.cos(direction), np.sin(direction)])
                cv2.line(canvas.pixels, tuple(start.astype(int)), tuple(stop.astype(int)), vein, 1, cv2.LINE_AA)
        if rng.random() < 0.15:
            for _ in range(int(rng.integers(1, 5))):
                spot = middle[int(rng.integers(steps // 4, steps))] + rng.normal(0, broad * length / 6, 2)
                axes = (
                    int(rng.integers(1, max(2, int(length * 0.05)))),
                    int(rng.integers(1, max(2, int(length * 0.05)))),
                )
                cv2.ellipse(canvas.cover, tuple(spot.astype(int)), axes, 0, 0, 360, 0, -1, cv2.LINE_AA)


def plant(rng: Rng, height: int, width: int) -> Patch:
    """A pressed plant."""
    kind = rng.random()
    colour = tone(rng, PLANT)
    canvas = Canvas(height, width, colour)
    if kind < 0.3:
        _grass(rng, canvas, colour)
    elif kind < 0.42:
        leaf(
            rng,
            canvas,
            (width * 0.5, height * 0.98),
            -np.pi / 2 + rng.uniform(-0.2, 0.2),
            height * 0.9,
            float(rng.uniform(0.2, 0.9)),
            colour,
            float(rng.choice([0, 0.1])),
        )
    else:
        style = _Style(rng, height, colour)
        start = np.array([width * rng.uniform(0.35, 0.65), height * 0.97])
        _branch(rng, canvas, start, -np.pi / 2 + rng.uniform(-0.35, 0.35), height * rng.uniform(0.6, 0.9), style, 0)
        if rng.random() < 0.35:
            _roots(rng, canvas, start, height, near(rng, colour, 30))
    return canvas.patch(rng, float(rng.uniform(2, 11)))


class _Style:
    def __init__(self, rng: Rng, size: int, colour: tuple[int, int, int]) -> None:
        self.leaf = size * rng.uniform(0.03, 0.24)
        self.broad = float(rng.uniform(0.12, 0.75))
        self.teeth = float(rng.choice([0.0, 0.0, 0.12, 0.25]))
        self.stem = size * rng.uniform(0.002, 0.012)
        self.colour = colour
        self.bark = tone(rng, PLANT)
        self.flower = tone(rng, FLOWER)
        self.depth = int(rng.integers(0, 3))
        self.berries = rng.random() < 0.3
        self.spread = rng.uniform(0.3, 1.0)
        self.gap = rng.uniform(0.05, 0.16)


def _branch(
    rng: Rng, canvas: Canvas, start: np.ndarray, angle: float, length: float, style: _Style, level: int
) -> None:
    steps = 24
    turn = np.cumsum(rng.normal(0, 0.05, steps)) + angle + np.linspace(0, rng.uniform(-0.5, 0.5), steps)
    points = start + np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1) * length / steps, 0)
    canvas.line(np.vstack([start, points]), style.bark, max(1.0, style.stem * 0.6**level))
    if level < style.depth:
        for share in rng.uniform(0.25, 0.9, int(rng.integers(2, 6))):
            side = float(rng.choice([-1, 1]))
            index = int(share * (steps - 1))
            _branch(
                rng,
                canvas,
                points[index],
                turn[index] + side * style.spread,
                length * rng.uniform(0.3, 0.6),
                style,
                level + 1,
            )
    share = rng.uniform(0.02, 0.25)
    while share < 1:
        index = int(share * (steps - 1))
        for side in (-1, 1):
            if rng.random() < 0.75:
                size = style.leaf * rng.uniform(0.6, 1.2) * (0.8**level)
                leaf(
                    rng,
                    canvas,
                    tuple(points[index]),
                    turn[index] + side * rng.uniform(0.4, 1.3),
                    size,
                    style.broad,
                    near(rng, style.colour),
                    style.teeth,
                )
        share += style.gap
    if style.berries:
        for _ in range(int(rng.integers(5, 40))):
            spot = points[int(rng.integers(steps // 2, steps))] + rng.normal(0, style.leaf * 0.6, 2)
            radius = max(1.0, style.leaf * rng.uniform(0.04, 0.12))
            ring = spot + radius * np.stack([np.cos(np.linspace(0, 6.28, 9)), np.sin(np.linspace(0, 6.28, 9))], 1)
            canvas.line(np.stack([points[int(rng.integers(steps // 2, steps))], spot]), style.bark, 1)
            canvas.polygon(ring, near(rng, style.flower))
    elif rng.random() < 0.4:
        for turned in np.linspace(0, 6.28, int(rng.integers(4, 9))):
            leaf(rng, canvas, tuple(points[-1]), turned, style.leaf * 0.6, 0.6, near(rng, style.flower), 0)


def _grass(rng: Rng, canvas: Canvas, colour: tuple[int, int, int]) -> None:
    height, width = canvas.cover.shape
    foot = np.array([width * rng.uniform(0.35, 0.65), height * rng.uniform(0.85, 0.95)])
    for _ in range(int(rng.integers(3, 36))):
        steps = 20
        turn = -np.pi / 2 + rng.normal(0, 0.3) + np.linspace(0, rng.normal(0, 0.7), steps)
        length = height * rng.uniform(0.3, 0.85)
        blade = (
            foot
            + rng.normal(0, width * 0.02, 2)
            + np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1) * length / steps, 0)
        )
        shade = near(rng, colour, 22)
        canvas.line(np.vstack([foot, blade]), shade, max(1.0, height * rng.uniform(0.001, 0.007)))
        if rng.random() < 0.3:
            for share in np.linspace(0.7, 1, int(rng.integers(4, 14))):
                index = int(share * (steps - 1))
                leaf(
                    rng,
                    canvas,
                    tuple(blade[index]),
                    turn[index] + rng.normal(0, 0.5),
                    height * rng.uniform(0.01, 0.04),
                    0.35,
                    near(rng, shade, 18),
                    0,
                )
    _roots(rng, canvas, foot, height, near(rng, colour, 30))


def _roots(rng: Rng, canvas: Canvas, start: np.ndarray, size: int, colour: tuple[int, int, int]) -> None:
    for _ in range(int(rng.integers(2, 14))):
        steps = 16
        turn = np.pi / 2 + rng.normal(0, 0.7) + np.cumsum(rng.normal(0, 0.3, steps))
        root = start + np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1) * size * rng.uniform(0.002, 0.008), 0)
        canvas.line(np.vstack([start, root]), colour, max(1.0, size * 0.002))


def _oval(centre: tuple[float, float], a: float, b: float, angle: float, power: float = 2.0) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48)
    x = a * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / power)
    y = b * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** (2 / power)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos], 1)


def animal(rng: Rng, height: int, width: int) -> Patch:
    """A beetle, a winged insect or a fish, head up (a fish lies)."""
    kind = rng.random()
    if kind < 0.55:
        return _beetle(rng, height, width)
    return _winged(rng, height, width) if kind < 0.8 else _fish(rng, height, width)


def _limbs(
    rng: Rng,
    canvas: Canvas,
    colour: tuple[int, int, int],
    spots: list[tuple[float, float, int]],
    size: float,
    thick: float,
) -> None:
    for x, y, side in spots:
        point, direction = np.array([x, y]), (0 if side > 0 else np.pi) + rng.uniform(-0.9, 0.9)
        for share, width in ((0.5, 1.0), (0.45, 0.7), (0.3, 0.45)):
            stop = point + size * share * rng.uniform(0.6, 1.1) * np.array([np.cos(direction), np.sin(direction)])
            canvas.line(np.stack([point, stop]), near(rng, colour, 8), max(1.0, thick * width))
            point, direction = stop, direction + side * rng.uniform(-0.2, 1.2)


def _beetle(rng: Rng, height: int, width: int) -> Patch:
    import cv2

    colour = tone(rng, ANIMAL)
    canvas = Canvas(height, width, colour)
    cx, body = width / 2, height * rng.uniform(0.6, 0.95)
    half = body * rng.uniform(0.16, 0.3)
    top = (height - body) / 2
    limb = colour if rng.random() < 0.7 else tone(rng, ((150, 96, 40), (90, 50, 30)))
    spots = [
        (cx + side * half * 0.5, top + body * share, side)
        for share in (0.28, 0.45, 0.6)
        for side in (-1, 1)
        if rng.random() < 0.85
    ]
    _limbs(rng, canvas, limb, spots, half * rng.uniform(1.0, 2.0), half * rng.uniform(0.08, 0.22))
    for side in (-1, 1):
        if rng.random() < 0.85:
            turn = -np.pi / 2 + side * np.linspace(0.2, rng.uniform(0.6, 2.4), 16)
            feeler = np.array([cx + side * half * 0.3, top + body * 0.06]) + np.cumsum(
                np.stack([np.cos(turn), np.sin(turn)], 1) * half * rng.uniform(0.05, 0.14), 0
            )
            canvas.line(feeler, limb, max(1.0, half * 0.06))
    canvas.polygon(_oval((cx, top + body * 0.08), half * 0.5, body * 0.08, 0), near(rng, colour, 8))
    canvas.polygon(
        _oval((cx, top + body * 0.24), half * rng.uniform(0.7, 1.0), body * 0.13, 0, 2.6), near(rng, colour, 8)
    )
    shell = near(rng, colour, 10) if rng.random() < 0.75 else tone(rng, ANIMAL)
    canvas.polygon(_oval((cx, top + body * 0.65), half, body * 0.35, 0, float(rng.uniform(2, 2.8))), shell)
    dark = tuple(max(0, value - 14) for value in shell)
    for column in np.linspace(-0.85, 0.85, int(rng.choice([1, 9, 15]))):
        x = int(cx + column * half)
        cv2.line(
            canvas.pixels,
            (x, int(top + body * 0.38)),
            (int(cx + column * half * 0.7), int(top + body * 0.95)),
            dark,
            1,
            cv2.LINE_AA,
        )
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 4))):
            spot = (int(cx), int(top + body * rng.uniform(0.45, 0.85)))
            cv2.ellipse(
                canvas.pixels,
                spot,
                (int(half * 0.9), int(body * 0.05)),
                0,
                0,
                360,
                tuple(int(v) for v in rng.integers(30, 240, 3)),
                -1,
                cv2.LINE_AA,
            )
    shine = np.zeros(canvas.cover.shape, np.float32)
    for _ in range(int(rng.integers(0, 6))):
        spot = (int(cx + rng.normal(0, half * 0.4)), int(top + body * rng.uniform(0.1, 0.85)))
        cv2.ellipse(
            shine,
            spot,
            (int(half * rng.uniform(0.03, 0.25)) + 1, int(body * rng.uniform(0.01, 0.12)) + 1),
            float(rng.uniform(0, 180)),
            0,
            360,
            float(rng.uniform(20, 140)),
            -1,
        )
    shine = cv2.GaussianBlur(shine, (0, 0), max(0.6, half / 25))
    canvas.pixels[:] = np.clip(canvas.pixels + shine[:, :, None], 0, 255).astype(np.uint8)
    return canvas.patch(rng, float(rng.uniform(1, 7)))


def _winged(rng: Rng, height: int, width: int) -> Patch:
    import cv2

    colour = tone(rng, ANIMAL)
    canvas = Canvas(height, width, colour)
    cx, cy, span = width / 2, height / 2, min(width, height) * rng.uniform(0.3, 0.48)
    wing = tone(rng, ((190, 176, 150), (150, 120, 80), (170, 170, 165), (120, 80, 50), (200, 160, 80), (90, 110, 150)))
    is_clear = rng.random() < 0.4
    for side in (-1, 1):
        for angle, length, broad in ((rng.uniform(-0.6, -0.1), 1.0, 0.4), (rng.uniform(0.15, 0.7), 0.75, 0.5)):
            direction = angle if side > 0 else np.pi - angle
            leaf(rng, canvas, (cx, cy), direction, span * length, broad, near(rng, wing, 10), 0)
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(2, 12))):
            spot = (int(cx + rng.normal(0, span * 0.5)), int(cy + rng.normal(0, span * 0.3)))
            cv2.circle(
                canvas.pixels, spot, int(max(1, span * rng.uniform(0.02, 0.1))), near(rng, colour, 30), -1, cv2.LINE_AA
            )
    opacity = canvas.cover.copy()
    if is_clear:
        opacity = (opacity.astype(np.float32) * rng.uniform(0.35, 0.8)).astype(np.uint8)
    body = Canvas(height, width, colour)
    body.polygon(
        _oval((cx, cy + span * 0.25), span * 0.09, span * rng.uniform(0.4, 0.7), rng.uniform(-0.15, 0.15)), colour
    )
    body.polygon(_oval((cx, cy - span * 0.22), span * 0.09, span * 0.1, 0), near(rng, colour))
    for side in (-1, 1):
        turn = -np.pi / 2 + side * np.linspace(0.1, 0.9, 10)
        body.line(
            np.array([cx, cy - span * 0.3]) + np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1) * span * 0.05, 0),
            colour,
            1,
        )
    _limbs(rng, body, colour, [(cx, cy, -1), (cx, cy, 1)], span * 0.4, 1)
    over = body.cover[:, :, None] / 255.0
    canvas.pixels[:] = (canvas.pixels * (1 - over) + body.pixels * over).astype(np.uint8)
    canvas.cover[:] = np.maximum(canvas.cover, body.cover)
    whole = canvas.patch(rng, float(rng.uniform(1, 6)))
    rows, columns = np.flatnonzero(canvas.cover.max(1)), np.flatnonzero(canvas.cover.max(0))
    seen = np.maximum(opacity, body.cover)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Patch(whole.pixels, seen, whole.mask)


def _fish(rng: Rng, height: int, width: int) -> Patch:
    import cv2

    colour = tone(
        rng,
        ((120, 92, 52), (150, 140, 120), (96, 80, 60), (190, 170, 130), (70, 66, 60), (216, 150, 120), (200, 90, 90)),
    )
    canvas = Canvas(height, width, colour)
    cx, cy, length = width * 0.46, height / 2, width * 0.72
    deep = min(height * 0.42, length * rng.uniform(0.1, 0.24))
    for angle, size in ((rng.uniform(-0.6, -0.3), 0.22), (rng.uniform(0.3, 0.6), 0.22)):
        leaf(rng, canvas, (cx + length * 0.44, cy), angle, length * size, 0.5, near(rng, colour, 24), 0)
    for share, side in ((rng.uniform(-0.1, 0.1), -1), (rng.uniform(0.0, 0.2), 1), (-0.15, 1)):
        leaf(
            rng,
            canvas,
            (cx + length * share, cy + side * deep * 0.8),
            side * rng.uniform(0.5, 1.2),
            length * 0.16,
            0.5,
            near(rng, colour, 24),
            0,
        )
    t = np.linspace(0, 1, 40)
    upper = np.sin(np.pi * t**0.7) * deep + 2
    xs = cx - length / 2 + t * length
    canvas.polygon(
        np.concatenate([np.stack([xs, cy - upper], 1), np.stack([xs, cy + upper * rng.uniform(0.7, 1.1)], 1)[::-1]]),
        colour,
    )
    pale = tuple(int(min(255, value + 40)) for value in colour)
    cv2.ellipse(
        canvas.pixels,
        (int(cx), int(cy + deep * 0.7)),
        (int(length * 0.4), int(deep * 0.5)),
        0,
        0,
        360,
        pale,
        -1,
        cv2.LINE_AA,
    )
    for _ in range(int(rng.integers(0, 60))):
        spot = (int(cx + rng.normal(0, length * 0.2)), int(cy + rng.normal(0, deep * 0.4)))
        cv2.circle(canvas.pixels, spot, int(max(1, length * 0.008)), near(rng, colour, 34), -1)
    eye = (int(cx - length * 0.4), int(cy - deep * 0.15))
    cv2.circle(canvas.pixels, eye, int(max(2, deep * 0.2)), (200, 190, 160), -1, cv2.LINE_AA)
    cv2.circle(canvas.pixels, eye, int(max(1, deep * 0.12)), (20, 20, 20), -1, cv2.LINE_AA)
    return canvas.patch(rng, float(rng.uniform(1, 7)))
