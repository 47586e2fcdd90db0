"""Made pictures for the training of ``kind``: drawn shapes that are laid out as each kind of picture is.

Nobody would take them for photographs. They teach the layout (a sheet is paper with a plant and a label, a drawer is a
frame with rows of insects, a slide is glass between two labels), where real pictures are few or, for slides and for
pictures that show no specimen, are none. Seeded: the same number gives the same picture.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from runners.pipeline import Pixels

Colour = tuple[int, int, int]
WORDS: Final = tuple(
    "Herbarium Flora coll leg det Museum No. 1907 12.VII 450 m Rovigno Halle L. Mts. Luzon alba".split()
)


def make(kind: str, number: int) -> Pixels:
    """One picture of a kind (``linkeddata.outputs.kind.KINDS``)."""
    rng = np.random.default_rng([sum(kind.encode()), number])
    image = _MAKERS[kind](rng)
    noise = rng.normal(0, rng.uniform(1, 6), (image.height, image.width, 1))
    blurred = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2))))
    light = np.linspace(1 - rng.uniform(0, 0.12), 1, image.width)[None, :, None]
    return np.ascontiguousarray(np.clip(np.asarray(blurred) * light + noise, 0, 255).astype(np.uint8))


def _sheet(rng: np.random.Generator) -> Image.Image:
    width, height = 420, int(rng.integers(560, 660))
    paper = _near(rng, (236, 228, 208), 14)
    image, draw = _canvas(width, height, paper)
    if rng.random() < 0.4:
        draw.rectangle(
            (0, 0, width - 1, height - 1), outline=_near(rng, (40, 40, 40), 30), width=int(rng.integers(4, 14))
        )
    green = _near(rng, (96, 104, 58) if rng.random() < 0.5 else (112, 84, 52), 24)
    for _ in range(int(rng.integers(1, 4))):
        _plant(
            draw,
            rng,
            (int(rng.integers(120, 300)), height - int(rng.integers(90, 180))),
            height * rng.uniform(0.4, 0.7),
            green,
        )
    _label(draw, rng, (width - 180, height - 110, width - 15, height - 15))
    if rng.random() < 0.6:
        _ruler(draw, (10, 10, int(rng.integers(150, 280)), 26))
    if rng.random() < 0.5:
        _chart(draw, rng, (width - 110, 8, width - 8, 76))
    return image


def _label_picture(rng: np.random.Generator) -> Image.Image:
    width, height = 460, int(rng.integers(150, 380))
    image, draw = _canvas(width, height, _near(rng, (24, 24, 24) if rng.random() < 0.6 else (214, 208, 196), 16))
    edge = int(rng.integers(0, 26))
    paper = _near(rng, [(240, 236, 222), (222, 196, 120), (168, 196, 210), (226, 220, 140)][int(rng.integers(4))], 12)
    draw.rectangle((edge, edge, width - edge, height - edge), fill=paper)
    if rng.random() < 0.3:
        _code(draw, rng, (edge + 12, edge + 12, min(height - 2 * edge - 24, 120)))
    lines = int(rng.integers(2, 6))
    size = (height - 2 * edge) / (lines + 0.6)
    for line in range(lines):
        _text(draw, rng, (edge + 24, edge + size * (line + 0.3)), size * 0.7, (28, 26, 26), width - 2 * edge - 40)
    return image.rotate(float(rng.uniform(-4, 4)), fillcolor=image.getpixel((0, 0)))


def _insect(rng: np.random.Generator) -> Image.Image:
    width, height = int(rng.integers(260, 420)), int(rng.integers(320, 460))
    image, draw = _canvas(width, height, _near(rng, (232, 230, 226), 16))
    way = int(rng.integers(3))
    if way == 0:
        for line in range(int(rng.integers(2, 6))):
            _text(draw, rng, (10, 30 + 70 * line), 44, (30, 30, 34), width)
    elif way == 1:
        for slat in range(0, width, 90):
            draw.rectangle((slat, 0, slat + 50, height), fill=_near(rng, (210, 178, 112), 12))
    _beetle(draw, rng, (width / 2, height / 2), min(width, height) * rng.uniform(0.32, 0.44), is_large=True)
    return image.rotate(float(rng.uniform(-40, 40)), fillcolor=image.getpixel((2, 2)))


def _drawer(rng: np.random.Generator) -> Image.Image:
    width, height = 480, int(rng.integers(420, 520))
    image, draw = _canvas(width, height, _near(rng, (150, 110, 66), 20))
    draw.rectangle((16, 16, width - 16, height - 16), fill=_near(rng, (240, 238, 230), 8))
    columns, rows = int(rng.integers(5, 14)), int(rng.integers(5, 16))
    for column in range(columns):
        if column and rng.random() < 0.3:
            x = 16 + column * (width - 32) / columns
            draw.line((x, 16, x, height - 16), fill=(150, 140, 120), width=2)
        for row in range(rows):
            if rng.random() < 0.9:
                x = 16 + (column + 0.5) * (width - 32) / columns
                y = 16 + (row + 0.5) * (height - 32) / rows
                _beetle(draw, rng, (x, y), 0.38 * min((width - 32) / columns, (height - 32) / rows), is_large=False)
    return image


def _fluid(rng: np.random.Generator) -> Image.Image:
    width, height = 480, int(rng.integers(220, 380))
    way = int(rng.integers(3))
    image, draw = _canvas(width, height, _near(rng, (236, 238, 236), 12))
    middle = (width / 2, height * 0.42)
    colour = _near(rng, [(168, 128, 84), (206, 120, 120), (120, 96, 70)][int(rng.integers(3))], 24)
    if way == 0:  # in a dish
        for ring in range(3):
            side = height * (0.48 - 0.03 * ring)
            draw.ellipse(
                (width / 2 - side, height / 2 - side, width / 2 + side, height / 2 + side),
                fill=_near(rng, (206 + 14 * ring, 208 + 12 * ring, 214 + 12 * ring), 4),
                outline=(150, 150, 160),
            )
        _beetle(draw, rng, (width / 2, height / 2), height * rng.uniform(0.12, 0.25), is_large=True)
    elif way == 1:  # in a jar
        draw.rounded_rectangle(
            (width * 0.3, 10, width * 0.7, height - 10),
            24,
            fill=_near(rng, (214, 204, 160), 12),
            outline=(120, 120, 110),
            width=4,
        )
        draw.rectangle((width * 0.3, 4, width * 0.7, 34), fill=(40, 40, 44))
        _fish(draw, rng, (width / 2, height * 0.6), height * 0.3, colour, is_upright=True)
        return image
    else:
        _fish(draw, rng, middle, width * rng.uniform(0.2, 0.36), colour, is_upright=False)
    if rng.random() < 0.7:
        _label(draw, rng, (width - 170, height - 80, width - 20, height - 10))
    if rng.random() < 0.7:
        _ruler(draw, (30, height - 40, 240, height - 20))
    return image


def _slide(rng: np.random.Generator) -> Image.Image:
    width, height = 480, int(rng.integers(160, 220))
    image, draw = _canvas(width, height, _near(rng, (250, 250, 250) if rng.random() < 0.5 else (30, 30, 34), 6))
    draw.rectangle(
        (10, 12, width - 10, height - 12), fill=_near(rng, (226, 232, 230), 8), outline=(150, 160, 160), width=2
    )
    _label(draw, rng, (14, 18, 130, height - 18))
    if rng.random() < 0.7:
        _label(draw, rng, (width - 130, 18, width - 14, height - 18))
    side = (height - 60) / 2
    x, y = width / 2, height / 2
    cover = (x - side, y - side, x + side, y + side)
    draw.ellipse(cover, outline=(170, 150, 110), width=3) if rng.random() < 0.5 else draw.rectangle(
        cover, outline=(170, 150, 110), width=3
    )
    _beetle(draw, rng, (x, y), side * rng.uniform(0.1, 0.5), is_large=False)
    return image


def _other(rng: np.random.Generator) -> Image.Image:
    width, height = int(rng.integers(300, 480)), int(rng.integers(300, 480))
    image, draw = _canvas(width, height, _near(rng, (128, 128, 128), 120))
    way = int(rng.integers(8))
    if way == 0:
        _chart(draw, rng, (20, 20, width - 20, height - 20))
    elif way == 1:
        draw.rectangle((0, 0, width, height), fill=(238, 238, 234))
        for line in range(int(rng.integers(14, 30))):
            _text(draw, rng, (20, 12 + 15 * line), 12, (40, 40, 40), width - 40)
    elif way == 2:  # sky, hills, trees
        draw.rectangle((0, 0, width, height), fill=_near(rng, (150, 190, 226), 14))
        for hill in range(4):
            y = height * (0.45 + 0.14 * hill)
            points = [(x, y + 30 * math.sin(x / 60 + hill)) for x in range(0, width + 20, 20)]
            draw.polygon(
                [*points, (width, height), (0, height)], fill=_near(rng, (70 - 8 * hill, 120 - 18 * hill, 56), 10)
            )
    elif way == 3:
        return Image.fromarray(rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)).resize(
            (width, height)
        )
    elif way == 4:
        _ruler(draw, (0, height // 2 - 30, width, height // 2 + 30))
    elif way == 5:  # windows of a program
        for _ in range(5):
            x, y = int(rng.integers(0, width - 120)), int(rng.integers(0, height - 100))
            draw.rectangle((x, y, x + 160, y + 130), fill=_near(rng, (240, 240, 244), 10), outline=(90, 90, 100))
            draw.rectangle((x, y, x + 160, y + 16), fill=_near(rng, (70, 100, 160), 30))
    elif way == 6:  # a head and shoulders
        draw.rectangle((width * 0.2, height * 0.65, width * 0.8, height), fill=_near(rng, (60, 70, 120), 40))
        draw.ellipse((width * 0.32, height * 0.15, width * 0.68, height * 0.7), fill=_near(rng, (206, 164, 134), 30))
        for eye in (0.43, 0.57):
            draw.ellipse((width * eye - 8, height * 0.38, width * eye + 8, height * 0.41), fill=(40, 30, 30))
    return image


_MAKERS: Final[Mapping[str, Callable[[np.random.Generator], Image.Image]]] = {
    "sheet": _sheet, "insect": _insect, "drawer": _drawer, "fluid": _fluid, "label": _label_picture, "slide": _slide,
    "other": _other,
}  # fmt: skip


# ---------------------------------------------------------------------- parts
def _canvas(width: int, height: int, colour: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), colour)
    return image, ImageDraw.Draw(image)


def _near(rng: np.random.Generator, colour: Colour, by: int) -> Colour:
    shift = int(rng.integers(-by, by + 1))
    red, green, blue = (int(np.clip(part + shift + rng.integers(-4, 5), 0, 255)) for part in colour)
    return red, green, blue


def _plant(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, foot: tuple[int, int], height: float, colour: Colour
) -> None:
    lean = rng.uniform(-0.3, 0.3)
    leaves, size = int(rng.integers(5, 22)), rng.uniform(10, 46)
    x0, y0 = foot
    draw.line((x0, y0, x0 + lean * height, y0 - height), fill=colour, width=int(rng.integers(2, 6)))
    for number in range(leaves):
        along = (number + 1) / leaves
        x, y = x0 + lean * height * along, y0 - height * along
        side = 1 if number % 2 else -1
        tip = (x + side * size * 1.6, y - size * rng.uniform(0.1, 0.9))
        middle = ((x + tip[0]) / 2, (y + tip[1]) / 2)
        wide = size * rng.uniform(0.15, 0.4)
        draw.polygon(
            [(x, y), (middle[0], middle[1] - wide), tip, (middle[0], middle[1] + wide)], fill=_near(rng, colour, 12)
        )


def _beetle(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, at: tuple[float, float], half: float, *, is_large: bool
) -> None:
    x, y = at
    colour = _near(rng, [(36, 30, 28), (74, 50, 34), (30, 60, 66)][int(rng.integers(3))], 12)
    wide = half * rng.uniform(0.38, 0.55)
    if is_large or half > 10:
        for leg in (-0.4, 0.0, 0.4):
            for side in (-1, 1):
                knee = (x + side * wide * 1.7, y + leg * half)
                draw.line((x, y + leg * half * 0.6, *knee), fill=colour, width=max(1, int(half / 18)))
                draw.line(
                    (*knee, x + side * wide * 1.9, y + leg * half + half * 0.35),
                    fill=colour,
                    width=max(1, int(half / 24)),
                )
    draw.ellipse((x - wide, y - half * 0.3, x + wide, y + half), fill=colour)
    draw.ellipse((x - wide * 0.7, y - half * 0.62, x + wide * 0.7, y - half * 0.2), fill=_near(rng, colour, 8))
    draw.ellipse((x - wide * 0.45, y - half * 0.85, x + wide * 0.45, y - half * 0.5), fill=colour)
    if is_large:
        draw.line((x, y - half * 0.25, x, y + half * 0.95), fill=_near(rng, colour, 20), width=2)
        draw.ellipse((x + 6, y - 2, x + 22, y + 14), fill=_near(rng, (206, 196, 150), 10))


def _fish(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    at: tuple[float, float],
    half: float,
    colour: Colour,
    *,
    is_upright: bool,
) -> None:
    x, y = at
    deep = half * rng.uniform(0.25, 0.45)
    if is_upright:
        draw.ellipse((x - deep, y - half, x + deep, y + half), fill=colour)
        draw.polygon([(x, y + half * 0.9), (x - deep, y + half * 1.3), (x + deep, y + half * 1.3)], fill=colour)
        return
    draw.ellipse((x - half, y - deep, x + half, y + deep), fill=colour)
    draw.polygon(
        [(x + half * 0.9, y), (x + half * 1.35, y - deep), (x + half * 1.35, y + deep)], fill=_near(rng, colour, 14)
    )
    draw.polygon(
        [(x - half * 0.2, y - deep * 0.9), (x + half * 0.2, y - deep * 1.5), (x + half * 0.4, y - deep * 0.8)],
        fill=colour,
    )
    draw.ellipse((x - half * 0.8, y - deep * 0.3, x - half * 0.7, y - deep * 0.05), fill=(16, 16, 16))


def _label(draw: ImageDraw.ImageDraw, rng: np.random.Generator, box: tuple[float, float, float, float]) -> None:
    draw.rectangle(box, fill=(248, 246, 238), outline=(150, 146, 136))
    lines = max(2, int((box[3] - box[1]) / 18))
    for line in range(lines):
        _text(draw, rng, (box[0] + 6, box[1] + 5 + 17 * line), 11, (50, 46, 46), box[2] - box[0] - 12)


def _text(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    at: tuple[float, float],
    size: float,
    colour: Colour,
    width: float,
) -> None:
    font = ImageFont.load_default(max(8, size))
    words = [WORDS[int(item)] for item in rng.integers(0, len(WORDS), 6)]
    text = words[0]
    for word in words[1:]:
        if draw.textlength(f"{text} {word}", font=font) < width:
            text = f"{text} {word}"
    draw.text(at, text, fill=colour, font=font)


def _code(draw: ImageDraw.ImageDraw, rng: np.random.Generator, at: tuple[int, int, int]) -> None:
    x, y, side = at
    cell = max(2, side // 21)
    for row in range(21):
        for column in range(21):
            if rng.random() < 0.5:
                draw.rectangle(
                    (x + column * cell, y + row * cell, x + column * cell + cell - 1, y + row * cell + cell - 1),
                    fill=(20, 20, 20),
                )


def _ruler(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float]) -> None:
    draw.rectangle(box, fill=(246, 246, 242), outline=(30, 30, 30))
    for number, x in enumerate(range(int(box[0]), int(box[2]), 6)):
        deep = (0.7 if number % 10 == 0 else 0.35) * (box[3] - box[1])
        draw.line((x, box[1], x, box[1] + deep), fill=(20, 20, 20))


def _chart(draw: ImageDraw.ImageDraw, rng: np.random.Generator, box: tuple[float, float, float, float]) -> None:
    draw.rectangle(box, fill=(24, 24, 24))
    wide, high = (box[2] - box[0]) / 6, (box[3] - box[1]) / 4
    for row in range(4):
        for column in range(6):
            x, y = box[0] + column * wide, box[1] + row * high
            red, green, blue = (int(item) for item in rng.integers(20, 245, 3))
            draw.rectangle((x + wide * 0.1, y + high * 0.1, x + wide * 0.9, y + high * 0.9), fill=(red, green, blue))
