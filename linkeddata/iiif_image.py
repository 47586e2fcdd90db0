"""The IIIF Image API 3.0, level 2, without pictures: what a request asks for.

Pure: an address and the size of a picture go in, the box to cut, the size to give it and its canonical name come out.

Invariants:
- The path is cut at its slashes before anything is percent-decoded.
- Whatever the specification does not allow is an ``IiifRequestError`` with a reason for people; nothing is guessed.
- Nothing is enlarged. ``!w,h`` that is larger than the region gives the region (section 4.2 of the specification).
- Arithmetic is exact (whole numbers and fractions), so that two servers of this code name the same picture alike.

Source: https://iiif.io/api/image/3.0/. It leaves out: the document ``info.json``
(``linkeddata.iiif_info``), rotation by other angles, enlarging (``^``), other formats.

Example:
    >>> target = parse_target("ab12/0,0,512,512/256,/!90/gray.png")
    >>> resolve(target.image, width=6700, height=9000).canonical
    '0,0,512,512/256,256/!90/gray.png'
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

Format = Literal["jpg", "png", "webp"]
Quality = Literal["default", "color", "gray", "bitonal"]
FORMATS: Final[dict[str, Format]] = {"jpg": "jpg", "png": "png", "webp": "webp"}
QUALITIES: Final[dict[str, Quality]] = {"default": "default", "color": "color", "gray": "gray", "bitonal": "bitonal"}
KNOWN_FORMATS: Final = frozenset(("jpg", "tif", "png", "gif", "jp2", "pdf", "webp"))
"""Formats that the specification names; those that are not offered are refused in other words."""
MAX_WEBP_SIDE_PX: Final = 16_383
"""Limit of the WebP container."""
_INT: Final = re.compile(r"[0-9]{1,10}\Z")
_NUMBER: Final = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10})?\Z")
"""Section 4.7: decimal digits, at most 10 of them behind the point, a digit before it."""
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class IiifRequestError(Exception):
    """The request is not one that the specification allows; the message says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionParam:
    """The first parameter."""

    kind: Literal["full", "square", "pixels", "percent"]
    box: tuple[Fraction, Fraction, Fraction, Fraction] = (Fraction(0), Fraction(0), Fraction(0), Fraction(0))
    """x, y, width, height, where it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeParam:
    """The second parameter."""

    kind: Literal["max", "percent", "exact", "confined"]
    width: int | None = None
    height: int | None = None
    percent: Fraction = Fraction(0)
    may_enlarge: bool = False
    """It was written with ``^``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """The parameters of a picture, as they were written."""

    region: RegionParam
    size: SizeParam
    mirror: bool
    rotation: Literal[0, 90, 180, 270]
    quality: Quality
    format: Format


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an address below the service names."""

    identifier: str
    """Percent-decoded."""
    kind: Literal["base", "info", "image"]
    raw_rest: str = ""
    """Behind the identifier, as it was written."""
    request: ImageRequest | None = None

    @property
    def image(self) -> ImageRequest:
        """The request of a target of kind ``image``."""
        assert self.request is not None
        return self.request


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What is to be made of a picture: cut, scale, mirror, turn, colours, format; in that order."""

    x: int
    y: int
    w: int
    h: int
    """The region, pixels of the picture as it is offered."""
    width: int
    height: int
    """The size before it is turned."""
    mirror: bool
    rotation: Literal[0, 90, 180, 270]
    quality: Quality
    format: Format
    canonical: str
    """Its canonical address behind the identifier (section 4.7)."""
    is_whole: bool
    """The region is the whole picture."""

    def aligned_tile(self, width: int, height: int, tile_px: int) -> tuple[int, int, int] | None:
        """(level, column, row) when this is exactly one whole tile of a pyramid of a picture of this size, else None.

        Level n is the picture at one 2**n-th of its size.
        """
        if self.mirror or self.rotation or self.quality not in ("default", "color") or self.format != "jpg":
            return None
        if self.width != tile_px or self.height != tile_px or self.is_whole:
            return None
        factor, rest = divmod(self.w, tile_px)
        if rest or self.h != self.w or factor & (factor - 1) or self.x % self.w or self.y % self.w:
            return None
        level = factor.bit_length() - 1
        column, row = self.x // self.w, self.y // self.w
        if level >= len(level_sizes(width, height, tile_px)):
            return None
        if self.x + self.w > width or self.y + self.h > height:
            return None  # the tile hangs over the edge
        return level, column, row


def parse_target(raw: str) -> Target:
    """Reads an address behind ``/iiif/3/``, as it came over the wire.

    Raises:
        IiifRequestError: it is none of the three kinds, or a parameter is not what the specification allows.
    """
    parts = raw.split("/")
    identifier = _decode(parts[0], "the identifier")
    rest = raw[len(parts[0]) :]
    if parts[1:] in ([], [""]):
        return Target(identifier=identifier, kind="base")
    if len(parts) == 2 and parts[1] == "info.json":
        return Target(identifier=identifier, kind="info", raw_rest=rest)
    if len(parts) != 5:
        raise IiifRequestError(
            "an image is asked for as IDENTIFIER/REGION/SIZE/ROTATION/QUALITY.FORMAT, "
            f"which are 5 parts between slashes; here are {len(parts)}"
        )
    names = ("the region", "the size", "the rotation", "the quality and format")
    region, size, rotation, last = (_decode(part, name) for part, name in zip(parts[1:], names, strict=True))
    mirror, angle = _parse_rotation(rotation)
    quality, form = _parse_quality(last)
    request = ImageRequest(
        region=_parse_region(region),
        size=_parse_size(size),
        mirror=mirror,
        rotation=angle,
        quality=quality,
        format=form,
    )
    return Target(identifier=identifier, kind="image", raw_rest=rest, request=request)


def resolve(request: ImageRequest, *, width: int, height: int, max_area: int | None = None) -> Rendering:
    """What is to be made of a picture of this size.

    Args:
        request: the parameters.
        width: of the picture as it is offered, pixels.
        height: the same.
        max_area: no answer has more pixels; None: no such limit.

    Raises:
        IiifRequestError: the region lies outside, or the size is not possible.
    """
    x, y, w, h = _region_box(request.region, width, height)
    largest = _largest(w, h, max_area)
    out_w, out_h = _out_size(request.size, w, h, largest)
    if max_area is not None and out_w * out_h > max_area:
        raise IiifRequestError(f"{out_w} x {out_h} pixels are more than maxArea, which is {max_area}")
    if request.format == "webp" and max(out_w, out_h) > MAX_WEBP_SIDE_PX:
        raise IiifRequestError(f"webp pictures have at most {MAX_WEBP_SIDE_PX} pixels on a side")
    is_whole = (x, y, w, h) == (0, 0, width, height)
    quality = "default" if request.quality == "color" else request.quality
    canonical = "/".join(
        (
            "full" if is_whole else f"{x},{y},{w},{h}",
            "max" if (out_w, out_h) == largest else f"{out_w},{out_h}",
            f"{'!' if request.mirror else ''}{request.rotation}",
            f"{quality}.{request.format}",
        )
    )
    return Rendering(
        x=x, y=y, w=w, h=h, width=out_w, height=out_h, mirror=request.mirror, rotation=request.rotation,
        quality=request.quality, format=request.format, canonical=canonical, is_whole=is_whole,
    )  # fmt: skip


def level_sizes(width: int, height: int, tile_px: int) -> list[tuple[int, int]]:
    """The sizes of the levels of a pyramid: halved, rounded up as clients do it, until one tile holds it."""
    sizes = [(width, height)]
    while max(sizes[-1]) > tile_px:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def offered_size(width: int, height: int, longest_px: int | None) -> tuple[int, int]:
    """The size at which a picture is offered to somebody who may see so many pixels of its longest side."""
    longest = max(width, height)
    if longest_px is None or longest <= longest_px:
        return width, height
    return max(1, width * longest_px // longest), max(1, height * longest_px // longest)


def confined_size(width: int, height: int, longest_px: int) -> tuple[int, int]:
    """The size of a picture in a square of so many pixels, never enlarged; as ``!n,n`` gives it."""
    longest = max(width, height)
    if longest <= longest_px:
        return width, height
    scale = Fraction(longest_px, longest)
    return max(1, _round(width * scale)), max(1, _round(height * scale))


def _decode(part: str, name: str) -> str:
    if _BAD_ESCAPE.search(part):
        raise IiifRequestError(f"{name} has a percent sign without two hexadecimal digits behind it")
    try:
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError as error:
        raise IiifRequestError(f"{name} is not UTF-8") from error


def _parse_region(text: str) -> RegionParam:
    if text == "full":
        return RegionParam(kind="full")
    if text == "square":
        return RegionParam(kind="square")
    is_percent = text.startswith("pct:")
    numbers = text.removeprefix("pct:").split(",")
    pattern = _NUMBER if is_percent else _INT
    if len(numbers) != 4 or not all(pattern.match(number) for number in numbers):
        raise IiifRequestError("a region is full, square, x,y,w,h in whole pixels, or pct:x,y,w,h in percent")
    x, y, w, h = (Fraction(number) for number in numbers)
    if not w or not h:
        raise IiifRequestError("the region has no width or no height")
    return RegionParam(kind="percent" if is_percent else "pixels", box=(x, y, w, h))


def _parse_size(text: str) -> SizeParam:
    may_enlarge = text.startswith("^")
    rest = text.removeprefix("^")
    if rest == "max":
        return SizeParam(kind="max", may_enlarge=may_enlarge)
    if rest.startswith("pct:"):
        number = rest.removeprefix("pct:")
        if not _NUMBER.match(number) or not Fraction(number):
            raise IiifRequestError("a size in percent is pct:n, with n larger than 0")
        return SizeParam(kind="percent", percent=Fraction(number), may_enlarge=may_enlarge)
    is_confined = rest.startswith("!")
    sides = rest.removeprefix("!").split(",")
    if (
        len(sides) != 2
        or not any(sides)
        or (is_confined and not all(sides))
        or not all(_INT.match(side) for side in sides if side)
    ):
        raise IiifRequestError("a size is max, w, or ,h or w,h or !w,h in whole pixels, or pct:n in percent")
    width, height = (int(side) if side else None for side in sides)
    if width == 0 or height == 0:
        raise IiifRequestError("the size has no width or no height")
    return SizeParam(kind="confined" if is_confined else "exact", width=width, height=height, may_enlarge=may_enlarge)


def _parse_rotation(text: str) -> tuple[bool, Literal[0, 90, 180, 270]]:
    mirror = text.startswith("!")
    number = text.removeprefix("!")
    if not _NUMBER.match(number) or Fraction(number) > 360:
        raise IiifRequestError("a rotation is a number from 0 to 360, with ! before it to mirror first")
    angles: dict[Fraction, Literal[0, 90, 180, 270]] = {
        Fraction(0): 0, Fraction(90): 90, Fraction(180): 180, Fraction(270): 270,
    }  # fmt: skip
    angle = angles.get(Fraction(number))
    if angle is None:
        raise IiifRequestError("pictures are turned by 0, 90, 180 or 270 degrees only")
    return mirror, angle


def _parse_quality(text: str) -> tuple[Quality, Format]:
    name, _, suffix = text.rpartition(".")
    quality, form = QUALITIES.get(name), FORMATS.get(suffix)
    if quality is None:
        raise IiifRequestError("the quality is default, color, gray or bitonal, with a format as in default.jpg")
    if form is None:
        why = "is not offered here" if suffix in KNOWN_FORMATS else "is no format of the specification"
        raise IiifRequestError(f"{suffix[:20]!r} {why}: ask for {', '.join(FORMATS)}")
    return quality, form


def _region_box(region: RegionParam, width: int, height: int) -> tuple[int, int, int, int]:
    if region.kind == "full":
        return 0, 0, width, height
    if region.kind == "square":
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side
    if region.kind == "percent":
        x, y, w, h = (
            _round(item * side / 100) for item, side in zip(region.box, (width, height, width, height), strict=True)
        )
        w, h = max(1, w), max(1, h)
    else:
        x, y, w, h = (int(item) for item in region.box)
    if x >= width or y >= height:
        raise IiifRequestError(f"the region begins outside of the picture, which has {width} x {height} pixels")
    return x, y, min(w, width - x), min(h, height - y)


def _largest(w: int, h: int, max_area: int | None) -> tuple[int, int]:
    """What ``max`` gives."""
    if max_area is None or w * h <= max_area:
        return w, h
    # A strip that is thinner than its share keeps one pixel, and is as long as the limit allows.
    out_w, out_h = isqrt(max_area * w // h), isqrt(max_area * h // w)
    if not out_w:
        return 1, min(h, max_area)
    if not out_h:
        return min(w, max_area), 1
    return out_w, out_h


def _out_size(size: SizeParam, w: int, h: int, largest: tuple[int, int]) -> tuple[int, int]:
    if size.kind == "max":
        if size.may_enlarge and largest == (w, h):
            raise IiifRequestError("this service does not enlarge: ask for max without ^")
        return largest
    if size.kind == "percent":
        out = _round(w * size.percent / 100), _round(h * size.percent / 100)
        if not all(out):
            raise IiifRequestError("the picture would have less than one pixel")
    elif size.kind == "confined":
        assert size.width is not None
        assert size.height is not None
        scale = min(Fraction(size.width, w), Fraction(size.height, h), Fraction(largest[0], w), Fraction(largest[1], h))
        if size.may_enlarge and min(Fraction(size.width, w), Fraction(size.height, h)) > 1:
            raise IiifRequestError("this service does not enlarge: ask without ^")
        return max(1, min(_round(w * scale), size.width)), max(1, min(_round(h * scale), size.height))
    elif size.height is None:
        assert size.width is not None
        out = size.width, max(1, _round(Fraction(h * size.width, w)))
    elif size.width is None:
        out = max(1, _round(Fraction(w * size.height, h))), size.height
    else:
        out = size.width, size.height
    if out[0] > w or out[1] > h:
        hint = (
            "this service does not enlarge"
            if size.may_enlarge
            else "larger than the region needs ^, and is not offered"
        )
        raise IiifRequestError(f"{out[0]} x {out[1]} pixels of a region that has {w} x {h}: {hint}")
    return out


def _round(value: Fraction) -> int:
    """To the nearest whole number, halves up."""
    return int(value + Fraction(1, 2))
