"""Draws rulers of many makes with a known scale, and things that only look like rulers; everything follows from a seed."""

import random
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Grey = np.ndarray[Any, np.dtype[np.uint8]]
FINE = 4
"""Rulers are drawn four times too large."""
METRIC = ("mm", "half mm", "mm, tens only", "card", "line")
INCH = ("1/8 in", "1/16 in", "1/32 in", "inch card")
BOTH = "both"
DECOYS = ("comb", "every fourth", "every third", "barcode", "text", "grid", "table", "fern", "bars", "random lengths")
COLOURS = (
    ((250, 249, 244), (20, 20, 20)), ((235, 226, 196), (40, 30, 24)), ((12, 12, 14), (240, 240, 240)),
    ((62, 62, 66), (205, 205, 205)), ((214, 214, 220), (20, 60, 180)), ((24, 50, 140), (236, 236, 240)),
    ((206, 170, 110), (30, 24, 20)),
)  # fmt: skip
"""Of the ruler and of its ticks."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A made picture; ``px_per_mm`` is None where there is no ruler."""

    pixels: Grey
    px_per_mm: float | None
    kind: str
    angle: float
    what: str


def scene(seed: int, *, kind: str | None = None, px_per_mm: float | None = None, angle: float | None = None,
          blur: float | None = None, quality: int | None = None) -> Scene:  # fmt: skip
    """A sheet with one ruler (or a decoy), a few other things, blur, noise and JPEG."""
    rng = random.Random(seed)
    kind = kind or rng.choice((*METRIC, *METRIC, *INCH, BOTH))
    wanted = px_per_mm or rng.choice((2.2, 3, 4, 6, 9, 12, 18))
    if kind in ("half mm", "1/32 in") and px_per_mm is None:
        wanted = max(wanted, 9)
    turn = rng.choice((0, 0, 90, 180, 270)) + rng.gauss(0, 1.2) if angle is None else angle
    if angle is None and rng.random() < 0.2:
        turn = rng.uniform(0, 360)
    paper, ink = rng.choice(COLOURS)
    card, length_mm = ruler(kind, wanted * FINE, rng, paper, ink)
    card = cv2.resize(card, None, fx=1 / FINE, fy=1 / FINE, interpolation=cv2.INTER_AREA)
    side = int(max(card.shape) * rng.uniform(1.15, 2.2)) + 60
    height, width = side, int(side * rng.uniform(0.75, 1.0))
    if abs(np.sin(np.radians(turn))) < 0.7:
        height, width = width, height
    short = int(max(card.shape) * 1.1) + 40
    height, width = max(height, short if abs(np.sin(np.radians(turn))) > 0.3 else 0), max(width, short)
    tone = rng.choice(((240, 236, 222), (16, 16, 18), (200, 202, 205)))
    sheet = np.empty((height, width, 3), np.uint8)
    sheet[:] = tone
    _clutter(sheet, rng)
    centre = (
        width / 2 + rng.uniform(-0.02, 0.02) * width,
        height / 2 + rng.uniform(-0.2, 0.2) * height * (turn % 180 < 30),
    )
    _paste(sheet, card, centre, turn)
    if rng.random() < 0.2:
        _cover(sheet, centre, turn, card.shape, rng)
    soft = rng.choice((0, 0, 0.5, 0.8, 1.0)) if blur is None else blur
    if wanted < 4 and blur is None:
        soft = min(soft, 0.5)
    if soft:
        sheet = cv2.GaussianBlur(sheet, (0, 0), soft)
    noise = np.random.default_rng(seed).normal(0, rng.choice((0, 2, 5)), sheet.shape)
    sheet = (sheet + noise).clip(0, 255).astype(np.uint8)
    level = quality or rng.choice((60, 75, 85, 92))
    _, data = cv2.imencode(".jpg", sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, level])
    pixels = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])
    real = None if kind in DECOYS else wanted
    what = f"{kind}, {length_mm:.0f} mm at {wanted:g} px/mm, turned {turn:.1f}, blur {soft:g}, JPEG {level}"
    return Scene(pixels=pixels, px_per_mm=real, kind=kind, angle=turn, what=what)


def ruler(
    kind: str, scale: float, rng: random.Random, paper: tuple[int, ...], ink: tuple[int, ...]
) -> tuple[Grey, float]:
    """The ruler alone at ``scale`` px/mm, and its length in mm."""
    if kind in DECOYS:
        return _decoy(kind, scale, rng, paper, ink)
    inch = kind in INCH
    unit = 25.4 if inch else 10.0
    units = rng.randint(3, 6) if inch else rng.randint(4, 15)
    if kind in ("card", "line"):
        units = 10
    length = units * unit
    margin = rng.uniform(2, 8)
    deep = rng.uniform(14, 22)
    image = Image.new("RGB", (int((length + 2 * margin) * scale), int(deep * scale)), paper)
    pen = ImageDraw.Draw(image)
    width = max(1, round(rng.uniform(0.15, 0.3) * scale))
    start = margin * scale
    if kind in ("card", "inch card"):
        _blocks(pen, start, scale, unit, units, rng.choice((8, 16)) if inch else 10, ink, paper, rng)
    elif kind == "line":
        _line(pen, start, scale, units, ink)
    else:
        _ticks(pen, start, 0, scale, kind if kind != BOTH else "mm", length, ink, width, rng)
        if kind == BOTH:
            _ticks(pen, start, int(deep * scale), scale, "1/16 in", length, ink, width, rng)
    font = ImageFont.load_default(max(8, int(3.2 * scale)))
    if kind not in ("card", "inch card", "line") or rng.random() < 0.8:
        for number in range(units + 1):
            pen.text((start + number * unit * scale, 9 * scale), str(number), font=font, fill=ink, anchor="ma")
    return np.asarray(image), length


def _ticks(
    pen: Any, start: float, edge: float, scale: float, kind: str, length: float, ink: Any, width: int, rng: Any
) -> None:
    step, ranks = {
        "mm": (1.0, {10: 6.0, 5: 4.6, 1: 3.2}),
        "mm, tens only": (1.0, {10: 5.5, 1: 3.4}),
        "half mm": (0.5, {20: 6.5, 10: 5.3, 2: 4.1, 1: 2.7}),
        "1/8 in": (25.4 / 8, {8: 7.0, 4: 5.4, 2: 4.2, 1: 3.0}),
        "1/16 in": (25.4 / 16, {16: 7.5, 8: 5.8, 4: 4.6, 2: 3.6, 1: 2.6}),
        "1/32 in": (25.4 / 32, {32: 8.0, 16: 6.4, 8: 5.2, 4: 4.2, 2: 3.2, 1: 2.3}),
    }[kind]
    down = 1 if edge == 0 else -1
    gap = rng.choice((0.0, 0.4)) * scale
    for number in range(int(length / step + 0.001) + 1):
        long = next(value for every, value in ranks.items() if number % every == 0)
        at = start + number * step * scale
        top, bottom = sorted((edge + down * gap, edge + down * long * scale))
        pen.rectangle((at - width / 2, top, at + width / 2, bottom), fill=ink)


def _blocks(
    pen: Any, start: float, scale: float, unit: float, units: int, parts: int, ink: Any, paper: Any, rng: Any
) -> None:
    line = 0.35 * scale
    top, middle, bottom = 1.0 * scale, 5.0 * scale, 7.5 * scale
    end = start + units * unit * scale
    pen.rectangle((start, middle - line / 2, end, middle + line / 2), fill=ink)
    pen.rectangle((start, bottom - line / 2, end, bottom + line / 2), fill=ink)
    divided = rng.choice((0, 0, units - 1))
    for number in range(units + 1):
        at = start + number * unit * scale
        pen.rectangle((at - line / 2, top, at + line / 2, bottom), fill=ink)
        if number < units and number % 2:
            pen.rectangle((at, middle, at + unit * scale, bottom), fill=ink)
    for number in range(parts):
        at = start + (divided + number / parts) * unit * scale
        pen.rectangle((at - line / 2, top, at + line / 2, middle), fill=ink)


def _line(pen: Any, start: float, scale: float, units: int, ink: Any) -> None:
    line = 0.45 * scale
    pen.rectangle((start, 5 * scale, start + units * 10 * scale, 5 * scale + line), fill=ink)
    for number in range(units + 1):
        at = start + number * 10 * scale
        pen.rectangle((at - line / 2, 2 * scale, at + line / 2, 5 * scale), fill=ink)
    for number in range(10):
        at = start + number * scale
        pen.rectangle((at - line / 3, 2 * scale, at + line / 3, 5 * scale), fill=ink)


def _decoy(kind: str, scale: float, rng: random.Random, paper: Any, ink: Any) -> tuple[Grey, float]:
    length = rng.uniform(60, 120)
    image = Image.new("RGB", (int((length + 8) * scale), int(20 * scale)), paper)
    pen = ImageDraw.Draw(image)
    step = rng.uniform(0.9, 3.5)
    count = int(length / step)
    width = max(1, round(rng.uniform(0.15, 0.4) * scale))
    long = [3.5] * count
    if kind == "every fourth":
        long = [6.0 if number % 4 == 0 else 3.5 for number in range(count)]
    elif kind == "every third":
        long = [6.0 if number % 12 == 0 else 4.8 if number % 3 == 0 else 3.5 for number in range(count)]
    elif kind == "random lengths":
        long = [rng.uniform(2.5, 7) for _ in range(count)]
    elif kind == "barcode":
        long = []
        at = 4 * scale
        while at < length * scale:
            bar = rng.randint(1, 4) * 0.4 * scale
            pen.rectangle((at, 0, at + bar, 9 * scale), fill=ink)
            at += bar + rng.randint(1, 4) * 0.4 * scale
    elif kind == "text":
        long = []
        for row in range(5):
            words = " ".join(
                "".join(rng.choice("ilmnuIHMN1" * 2 + "aeorstkd") for _ in range(rng.randint(2, 9))) for _ in range(12)
            )
            pen.text((3 * scale, (1 + 3.7 * row) * scale), words, font=ImageFont.load_default(int(3 * scale)), fill=ink)
    elif kind == "grid":
        for row in range(int(20 / step)):
            pen.rectangle(
                (0, row * step * scale, (length + 8) * scale, row * step * scale + width * (1 + row % 5 // 4)), fill=ink
            )
        long = [20.0] * count
    elif kind == "table":
        long = [20.0 if number % 3 == 0 else 0.0 for number in range(count)]
        for row in range(6):
            pen.rectangle((0, row * 3.5 * scale, (length + 8) * scale, row * 3.5 * scale + width), fill=ink)
    elif kind == "fern":
        long = [2 + 7 * np.sin(np.pi * number / count) for number in range(count)]
    elif kind == "bars":
        long = []
        for number in range(int(length / 10)):
            if number % 2:
                pen.rectangle(((4 + number * 10) * scale, 2 * scale, (14 + number * 10) * scale, 8 * scale), fill=ink)
    for number, value in enumerate(long):
        at = (4 + number * step) * scale
        if value:
            pen.rectangle((at, 0, at + width, value * scale), fill=ink)
    return np.asarray(image), length


def _clutter(sheet: Grey, rng: random.Random) -> None:
    height, width = sheet.shape[:2]
    dark = int(sheet.mean()) > 120
    for _ in range(rng.randint(4, 30)):
        start = (rng.randrange(width), rng.randrange(height))
        end = (start[0] + rng.randint(-200, 200), start[1] + rng.randint(-200, 200))
        tone = tuple(rng.randint(40, 120) if dark else rng.randint(80, 160) for _ in range(3))
        cv2.line(sheet, start, end, tone, rng.randint(1, 9), cv2.LINE_AA)
    for _ in range(rng.randint(0, 6)):
        at = (rng.randrange(width), rng.randrange(height))
        text = "".join(rng.choice("abcdefghilmnorstu ") for _ in range(24))
        cv2.putText(
            sheet,
            text,
            at,
            cv2.FONT_HERSHEY_SIMPLEX,
            rng.uniform(0.3, 1.0),
            (60, 50, 40) if dark else (180, 180, 170),
            1,
            cv2.LINE_AA,
        )


def _matrix(centre: tuple[float, float], turn: float, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    matrix = cv2.getRotationMatrix2D(((shape[1] - 1) / 2, (shape[0] - 1) / 2), -turn, 1.0)
    matrix[:, 2] += (centre[0] - (shape[1] - 1) / 2, centre[1] - (shape[0] - 1) / 2)
    return matrix


def _paste(sheet: Grey, card: Grey, centre: tuple[float, float], turn: float) -> None:
    matrix = _matrix(centre, turn, card.shape)
    size = (sheet.shape[1], sheet.shape[0])
    warped = cv2.warpAffine(card, matrix, size, flags=cv2.INTER_CUBIC)
    mask = (
        cv2.warpAffine(np.full(card.shape[:2], 255, np.uint8), matrix, size, flags=cv2.INTER_LINEAR)[:, :, None] / 255
    )
    sheet[:] = (sheet * (1 - mask) + warped * mask).astype(np.uint8)


def _cover(sheet: Grey, centre: tuple[float, float], turn: float, shape: tuple[int, ...], rng: random.Random) -> None:
    """A leaf or a thumb over an end of the ruler."""
    along = np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
    at = np.array(centre) + along * shape[1] * rng.choice((-1, 1)) * rng.uniform(0.38, 0.5)
    axes = (max(4, int(shape[1] * 0.1)), max(4, int(shape[0] * 0.7)))
    cv2.ellipse(
        sheet, (int(at[0]), int(at[1])), axes, turn + rng.uniform(-30, 30), 0, 360, (90, 110, 60), -1, cv2.LINE_AA
    )
