"""Draws what collections photograph: paper, typed label, barcode, ruler, colour chart, and a specimen on it.

Everything follows from a seed. Pillow draws, with the typeface inside it; the barcodes are drawn from the standard's
table, so that the reader that is tested on them did not also write them.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]
PX_PER_MM: Final = 4.0
"""Resolution of the drawings: a 400 mm sheet is 1,600 pixels high."""
INK: Final[Colour] = (38, 34, 30)
CHART: Final[tuple[Colour, ...]] = (
    (115, 82, 68), (194, 150, 130), (98, 122, 157), (87, 108, 67), (133, 128, 177), (103, 189, 170),
    (214, 126, 44), (80, 91, 166), (193, 90, 99), (94, 60, 108), (157, 188, 64), (224, 163, 46),
    (56, 61, 150), (70, 148, 73), (175, 54, 60), (231, 199, 31), (187, 86, 149), (8, 133, 161),
    (243, 243, 242), (200, 200, 200), (160, 160, 160), (122, 122, 121), (85, 85, 85), (52, 52, 52),
)  # fmt: skip
"""Nominal sRGB values of the 24 patches of the usual chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelText:
    """What stands on a label."""

    heading: str
    lines: tuple[str, ...]


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface inside Pillow, in a size in pixels."""
    return ImageFont.load_default(size)


def paper(width: int, height: int, rng: random.Random, *, tone: Colour = (238, 232, 214)) -> Image.Image:
    """Mounting paper with fibre and a shade of age."""
    noise = np.random.default_rng(rng.randrange(2**32))
    grain = noise.normal(0, 3.2, (height, width, 1)) + noise.normal(0, 1.5, (height, width, 3))
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    shade = -6.0 * (rows**2 + columns**2)
    values = np.array(tone, dtype=np.float64)[None, None, :] + grain + shade[:, :, None]
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def draw_label(sheet: Image.Image, box: tuple[int, int, int, int], text: LabelText, rng: random.Random) -> None:
    """A typed label glued on, very slightly crooked."""
    x, y, width, height = box
    card = paper(width, height, rng, tone=(247, 243, 230))
    pen = ImageDraw.Draw(card)
    pen.rectangle((3, 3, width - 4, height - 4), outline=(120, 110, 95), width=2)
    size = max(20, min(34, int(1.55 * (width - 40) / max(1, len(text.heading)))))
    pen.text((width // 2, 14), text.heading, font=font(size), fill=INK, anchor="ma")
    pen.line((30, 22 + size, width - 30, 22 + size), fill=(150, 140, 120))
    step = max(24, (height - size - 44) // max(1, len(text.lines)))
    for number, line in enumerate(text.lines):
        pen.text((24, 32 + size + number * step), line, font=font(min(25, step - 4)), fill=INK)
    turned = card.rotate(rng.uniform(-0.8, 0.8), resample=Image.Resampling.BICUBIC, fillcolor=(238, 232, 214))
    sheet.paste(turned, (x, y))


def draw_scrawl(sheet: Image.Image, box: tuple[int, int, int, int], rng: random.Random) -> None:
    """Something written by hand that no machine reads."""
    x, y, width, height = box
    draw_label(sheet, box, LabelText(heading="", lines=()), rng)
    pen = ImageDraw.Draw(sheet)
    for row in range(4):
        base = y + height * (row + 1) // 5
        points: list[tuple[float, float]] = []
        for step in range(0, width - 60, 5):
            lift = 11 * math.sin(step / 7 + rng.uniform(-0.7, 0.7)) + 5 * math.sin(step / 3.1)
            points.append((x + 30 + step, base + lift))
        pen.line(points, fill=(52, 54, 92), width=2, joint="curve")


def draw_ruler(sheet: Image.Image, x: int, y: int, length_mm: int) -> None:
    """A metric ruler: a mark each millimetre, figures each centimetre."""
    width, height = int(length_mm * PX_PER_MM) + 40, 64
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((x, y, x + width, y + height), fill=(250, 249, 244), outline=(90, 90, 90))
    for mm in range(length_mm + 1):
        at = x + 20 + int(mm * PX_PER_MM)
        long = 26 if mm % 10 == 0 else 18 if mm % 5 == 0 else 11
        pen.line((at, y, at, y + long), fill=(20, 20, 20), width=1 if mm % 10 else 2)
        if mm % 10 == 0:
            pen.text((at, y + 30), str(mm // 10), font=font(18), fill=(20, 20, 20), anchor="ma")
    pen.text((x + width - 8, y + height - 4), "cm", font=font(14), fill=(20, 20, 20), anchor="rs")


def draw_chart(sheet: Image.Image, x: int, y: int, patch: int) -> None:
    """A chart of 24 colour patches."""
    gap = max(3, patch // 8)
    width, height = 6 * (patch + gap) + gap, 4 * (patch + gap) + gap
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((x, y, x + width, y + height), fill=(28, 28, 28))
    for number, colour in enumerate(CHART):
        left = x + gap + (number % 6) * (patch + gap)
        top = y + gap + (number // 6) * (patch + gap)
        pen.rectangle((left, top, left + patch, top + patch), fill=colour)


def draw_barcode(sheet: Image.Image, x: int, y: int, number: str, institution: str) -> None:
    """A Code 128 sticker with its number in plain figures."""
    code = code128(number, module=2, height=58)
    width = max(code.width + 40, 240)
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((x, y, x + width, y + 112), fill=(255, 255, 255), outline=(200, 200, 200))
    sheet.paste(code, (x + (width - code.width) // 2, y + 26))
    pen.text((x + width // 2, y + 5), institution, font=font(15), fill=(10, 10, 10), anchor="ma")
    pen.text((x + width // 2, y + 88), number, font=font(18), fill=(10, 10, 10), anchor="ma")


_CODE128: Final = (
    "212222 222122 222221 121223 121322 131222 122213 122312 132212 221213 221312 231212 112232 122132 122231 113222 "
    "123122 123221 223211 221132 221231 213212 223112 312131 311222 321122 321221 312212 322112 322211 212123 212321 "
    "232121 111323 131123 131321 112313 132113 132311 211313 231113 231311 112133 112331 132131 113123 113321 133121 "
    "313121 211331 231131 213113 213311 213131 311123 311321 331121 312113 312311 332111 314111 221411 431111 111224 "
    "111422 121124 121421 141122 141221 112214 112412 122114 122411 142112 142211 241211 221114 413111 241112 134111 "
    "111242 121142 121241 114212 124112 124211 411212 421112 421211 212141 214121 412121 111143 111341 131141 114113 "
    "114311 411113 411311 113141 114131 311141 411131 211412 211214 211232 2331112"
).split()
"""Bar and space widths of the 107 symbols (ISO/IEC 15417)."""


def code128(text: str, *, module: int, height: int) -> Image.Image:
    """A Code 128 (set B) symbol with its quiet zones; ``module`` is the narrowest bar in pixels."""
    values = [104, *(ord(char) - 32 for char in text)]
    check = (values[0] + sum(place * value for place, value in enumerate(values[1:], start=1))) % 103
    widths = "".join(_CODE128[value] for value in (*values, check, 106))
    quiet = 10 * module
    image = Image.new("RGB", (quiet * 2 + module * sum(int(width) for width in widths), height), (255, 255, 255))
    pen, at, is_bar = ImageDraw.Draw(image), quiet, True
    for width in widths:
        span = int(width) * module
        if is_bar:
            pen.rectangle((at, 0, at + span - 1, height), fill=(0, 0, 0))
        at, is_bar = at + span, not is_bar
    return image


def draw_plant(sheet: Image.Image, box: tuple[int, int, int, int], rng: random.Random) -> None:
    """A pressed plant: a stem, branches, leaves with veins, perhaps flowers."""
    left, top, width, height = box
    pen = ImageDraw.Draw(sheet)
    brown = (rng.randint(96, 120), rng.randint(80, 98), rng.randint(44, 60))
    green = (rng.randint(92, 120), rng.randint(104, 128), rng.randint(52, 76))
    x, y, angle = left + width / 2 + rng.uniform(-40, 40), float(top + height), -math.pi / 2
    stem = [(x, y)]
    for number in range(26):
        angle += rng.uniform(-0.09, 0.09) + (-math.pi / 2 - angle) * 0.1
        x, y = x + math.cos(angle) * height / 27, y + math.sin(angle) * height / 27
        stem.append((x, y))
        if number > 3 and number % 2 == 0:
            side = 1 if number % 4 == 0 else -1
            _leaf(pen, x, y, angle + side * rng.uniform(0.7, 1.15), rng.uniform(0.16, 0.26) * width, green, rng)
    pen.line(stem, fill=brown, width=6, joint="curve")
    for _ in range(rng.randint(3, 7)):
        fx, fy = x + rng.uniform(-60, 60), y + rng.uniform(-10, 90)
        petal = (rng.randint(150, 190), rng.randint(110, 150), rng.randint(80, 150))
        for turn in range(6):
            px, py = fx + 15 * math.cos(turn), fy + 15 * math.sin(turn)
            pen.ellipse((px - 11, py - 11, px + 11, py + 11), fill=petal, outline=brown)
        pen.ellipse((fx - 6, fy - 6, fx + 6, fy + 6), fill=(180, 150, 60))


def _leaf(
    pen: ImageDraw.ImageDraw, x: float, y: float, angle: float, length: float, green: Colour, rng: random.Random
) -> None:
    tone = tuple(max(0, min(255, value + rng.randint(-14, 14))) for value in green)
    outline: list[tuple[float, float]] = []
    for side in (1, -1):
        steps: Sequence[int] = range(13) if side == 1 else range(12, -1, -1)
        for step in steps:
            t = step / 12
            bulge = side * 0.2 * length * math.sin(math.pi * t) * (1.1 - 0.35 * t)
            outline.append(_place(x, y, angle, t * length, bulge))
    pen.polygon(outline, fill=tone, outline=(82, 88, 48))
    pen.line((*_place(x, y, angle, 0, 0), *_place(x, y, angle, length, 0)), fill=(122, 124, 84), width=2)
    for step in range(2, 11, 2):
        t = step / 12
        for side in (1, -1):
            end = _place(x, y, angle, min(1.0, t + 0.13) * length, side * 0.16 * length * math.sin(math.pi * t))
            pen.line((*_place(x, y, angle, t * length, 0), *end), fill=(116, 120, 78), width=1)


def _place(x: float, y: float, angle: float, along: float, across: float) -> tuple[float, float]:
    return (
        x + along * math.cos(angle) - across * math.sin(angle),
        y + along * math.sin(angle) + across * math.cos(angle),
    )


def draw_beetle(sheet: Image.Image, cx: int, cy: int, size: int, rng: random.Random) -> None:
    """A beetle on a pin, from above."""
    pen = ImageDraw.Draw(sheet)
    shell = (rng.randint(30, 80), rng.randint(24, 60), rng.randint(18, 46))
    dark: Colour = (shell[0] // 2, shell[1] // 2, shell[2] // 2)
    shadow = Image.new("L", sheet.size, 0)
    ImageDraw.Draw(shadow).ellipse((cx - size // 2 + 14, cy - size + 20, cx + size // 2 + 26, cy + size + 26), fill=70)
    sheet.paste((120, 114, 102), mask=shadow.filter(ImageFilter.GaussianBlur(10)))
    for side in (-1, 1):
        for leg, lift in ((-0.42, -0.5), (-0.05, 0.05), (0.35, 0.62)):
            knee = (cx + side * size * 0.78, cy + size * (leg + lift * 0.4))
            foot = (cx + side * size * 1.06, cy + size * (leg + lift * 1.05))
            pen.line((cx, cy + size * leg, *knee, *foot), fill=dark, width=max(4, size // 26), joint="curve")
        tip = (cx + side * size * 0.5, cy - size * 1.55)
        pen.line((cx + side * size * 0.1, cy - size * 0.95, *tip), fill=dark, width=max(3, size // 34))
    pen.ellipse(
        (cx - size * 0.5, cy - size * 0.5, cx + size * 0.5, cy + size * 1.05), fill=shell, outline=dark, width=4
    )
    pen.line((cx, cy - size * 0.45, cx, cy + size * 1.03), fill=dark, width=4)
    for row in range(1, 5):
        for side in (-1, 1):
            at = cx + side * size * 0.09 * row
            pen.line((at, cy - size * 0.36, at, cy + size * (1.0 - 0.09 * row)), fill=dark, width=1)
    pen.ellipse(
        (cx - size * 0.4, cy - size * 0.86, cx + size * 0.4, cy - size * 0.28), fill=shell, outline=dark, width=4
    )
    pen.ellipse((cx - size * 0.23, cy - size * 1.12, cx + size * 0.23, cy - size * 0.74), fill=dark)
    pen.ellipse(
        (cx + size * 0.2 - 9, cy - 9, cx + size * 0.2 + 9, cy + 9), fill=(196, 196, 200), outline=(110, 110, 116)
    )


def draw_fish(sheet: Image.Image, box: tuple[int, int, int, int], rng: random.Random) -> None:
    """A fish from the left, as it lies in a tray."""
    left, top, width, height = box
    pen = ImageDraw.Draw(sheet)
    back = (rng.randint(110, 140), rng.randint(110, 134), rng.randint(92, 120))
    belly = (212, 204, 182)
    middle = top + height / 2
    outline: list[tuple[float, float]] = []
    for side in (1, -1):
        steps = range(41) if side == 1 else range(40, -1, -1)
        for step in steps:
            t = step / 40
            half = height * 0.42 * math.sin(math.pi * min(1.0, t * 1.06) ** 0.72) * (1 - 0.25 * t) + 6
            outline.append((left + t * width * 0.82, middle - side * half))
    tail = [(left + width * 0.79, middle), (left + width, middle - height * 0.36), (left + width * 0.92, middle),
            (left + width, middle + height * 0.36)]  # fmt: skip
    pen.polygon(tail, fill=(150, 142, 118), outline=(90, 84, 70))
    fin = [(left + width * 0.3, middle - height * 0.36), (left + width * 0.42, middle - height * 0.62),
           (left + width * 0.58, middle - height * 0.3)]  # fmt: skip
    pen.polygon(fin, fill=(158, 148, 122), outline=(90, 84, 70))
    pen.polygon(outline, fill=belly, outline=(92, 86, 72))
    mask = Image.new("L", sheet.size, 0)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    upper = Image.new("L", sheet.size, 0)
    ImageDraw.Draw(upper).rectangle((left, top, left + width, int(middle - height * 0.03)), fill=200)
    shade = Image.fromarray(np.minimum(np.asarray(mask), np.asarray(upper.filter(ImageFilter.GaussianBlur(18)))))
    sheet.paste(back, mask=shade)
    for row in range(5):
        for column in range(18):
            sx = left + width * 0.2 + column * width * 0.032 + (row % 2) * width * 0.016
            sy = middle - height * 0.18 + row * height * 0.085
            pen.arc((sx, sy, sx + width * 0.034, sy + height * 0.1), 60, 300, fill=(128, 124, 104), width=1)
    ex, ey = left + width * 0.08, middle - height * 0.07
    pen.ellipse((ex - 19, ey - 19, ex + 19, ey + 19), fill=(236, 228, 196), outline=(70, 66, 56), width=3)
    pen.ellipse((ex - 9, ey - 9, ex + 9, ey + 9), fill=(24, 22, 20))
    pen.arc(
        (left + width * 0.1, top + height * 0.2, left + width * 0.19, top + height * 0.84),
        290,
        70,
        fill=(86, 80, 66),
        width=4,
    )
