"""Areas in well-known text: POLYGON and MULTIPOLYGON of longitude and latitude, and whether a point lies inside. Pure.

Invariants:
- A point on an edge is inside: generalised coordinates lie on the edges of people's grids.
- The order of the corners (clockwise or not) does not matter; holes are what is inside an even number of rings.
- Areas across the 180th meridian are written with longitudes beyond 180 (or below -180), as GBIF's maps do.
- What is read back from ``Area.to_wkt`` is equal.

It leaves out: other geometries, other projections.
"""

import itertools
import math
import re
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import SelectionError

MAX_POINTS: Final = 2000
"""An outline of a country at the resolution of a map on a page."""
Ring = tuple[tuple[float, float], ...]
_TOKEN: Final = re.compile(r"\s*([(),]|[A-Za-z]+|[+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]{1,2})?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Area:
    """Polygons, each with its outline first and then its holes; points are (longitude, latitude) in degrees."""

    polygons: tuple[tuple[Ring, ...], ...]

    def to_wkt(self) -> str:
        """``POLYGON((..))`` or ``MULTIPOLYGON(((..)),((..)))``."""
        parts = ["(" + ",".join(_ring_text(ring) for ring in rings) + ")" for rings in self.polygons]
        return f"POLYGON{parts[0]}" if len(parts) == 1 else f"MULTIPOLYGON({','.join(parts)})"

    @property
    def latitudes(self) -> tuple[float, float]:
        """Southernmost and northernmost."""
        found = [point[1] for rings in self.polygons for point in rings[0]]
        return min(found), max(found)

    @property
    def longitudes(self) -> tuple[float, float]:
        """Westernmost and easternmost, as written."""
        found = [point[0] for rings in self.polygons for point in rings[0]]
        return min(found), max(found)

    def contains(self, longitude: float, latitude: float) -> bool:
        """Whether the point is in it or on an edge of it."""
        return any(
            _inside(rings, x, latitude)
            for rings in self.polygons
            for x in (longitude, longitude + 360.0, longitude - 360.0)
        )


def parse_area(text: str) -> Area:
    """Well-known text as an area.

    Raises:
        SelectionError: with what to write.
    """
    tokens = _tokens(text)
    name = tokens.pop(0).upper() if tokens else ""
    if name not in ("POLYGON", "MULTIPOLYGON"):
        raise SelectionError("geometry is POLYGON((lon lat, ..)) or MULTIPOLYGON(((lon lat, ..)), ..)")
    tokens.reverse()
    if name == "POLYGON":
        polygons = [_polygon(tokens)]
    else:
        _take(tokens, "(")
        polygons = [_polygon(tokens)]
        while _take(tokens, ",", ")") == ",":
            polygons.append(_polygon(tokens))
    if tokens:
        raise SelectionError(f"geometry: nothing may follow the last bracket, there is {tokens[-1]!r}")
    return Area(tuple(polygons))


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SelectionError(f"geometry: {text[at : at + 20]!r} is not well-known text")
        found.append(match[1])
        at = match.end()
        if len(found) > 4 * MAX_POINTS:
            raise SelectionError(f"geometry has more than {MAX_POINTS} points")
    return found


def _take(tokens: list[str], *wanted: str) -> str:
    token = tokens.pop() if tokens else "the end"
    if token not in wanted:
        raise SelectionError(f"geometry: {' or '.join(wanted)} is missing before {token!r}")
    return token


def _polygon(tokens: list[str]) -> tuple[Ring, ...]:
    _take(tokens, "(")
    rings = [_ring(tokens)]
    while _take(tokens, ",", ")") == ",":
        rings.append(_ring(tokens))
    return tuple(rings)


def _ring(tokens: list[str]) -> Ring:
    _take(tokens, "(")
    points = [_point(tokens)]
    while _take(tokens, ",", ")") == ",":
        points.append(_point(tokens))
    if len(points) < 4 or points[0] != points[-1]:
        raise SelectionError("geometry: a ring has at least four points and ends where it begins")
    return tuple(points)


def _point(tokens: list[str]) -> tuple[float, float]:
    numbers: list[float] = []
    for limit, what in ((360.0, "longitude"), (90.0, "latitude")):
        try:
            number = float(tokens.pop())
        except (IndexError, ValueError):
            raise SelectionError(f"geometry: a {what} is missing; points are longitude latitude") from None
        if not math.isfinite(number) or abs(number) > limit:
            raise SelectionError(f"geometry: {number} is not a {what} (points are longitude latitude)")
        numbers.append(number + 0.0)  # no negative zero
    return numbers[0], numbers[1]


def _ring_text(ring: Ring) -> str:
    return "(" + ",".join(f"{_number(x)} {_number(y)}" for x, y in ring) + ")"


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _inside(rings: tuple[Ring, ...], x: float, y: float) -> bool:
    """Even-odd rule over all rings, edges included."""
    is_in = False
    for ring in rings:
        for (ax, ay), (bx, by) in itertools.pairwise(ring):
            if _on_edge(ax, ay, bx, by, x, y):
                return True
            if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
                is_in = not is_in
    return is_in


def _on_edge(ax: float, ay: float, bx: float, by: float, x: float, y: float) -> bool:
    if not (min(ax, bx) <= x <= max(ax, bx) and min(ay, by) <= y <= max(ay, by)):
        return False
    return (bx - ax) * (y - ay) == (by - ay) * (x - ax)
