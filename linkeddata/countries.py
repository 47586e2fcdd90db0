"""Countries: what codes and names there are, and whether a point can lie in one.

Outlines are Natural Earth's at 1:50m, codes and names of ISO 3166-1; where both come from and under which licence
stands in ``linkeddata/data/README.md``.

Invariants:
- Nothing is said against a country whose outline is not known, nor inside an area that is disputed.
- A point counts as inside when it is within ``LAND_MARGIN_DEG`` of the outline (borders at this scale are that vague),
  and at sea within ``SEA_MARGIN_DEG`` of it (200 nautical miles: the exclusive economic zone).
- Loaded when first asked, then only read.

It leaves out: which country a point lies in where several claim it, times before today's borders.
"""

import importlib.resources
import itertools
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

LAND_MARGIN_DEG: Final = 0.2
"""About 20 km: how far outlines at 1:50m and coordinates of old labels stray, together."""
SEA_MARGIN_DEG: Final = 3.4
"""200 nautical miles, the reach of an exclusive economic zone (UNCLOS article 57), in degrees of latitude."""
PART_OF: Final[Mapping[str, str]] = {
    "GF": "FR", "GP": "FR", "MQ": "FR", "RE": "FR", "YT": "FR", "SJ": "NO", "BV": "NO", "BQ": "NL", "CX": "AU",
    "CC": "AU", "TK": "NZ", "UM": "US", "GI": "GB",
}  # fmt: skip
"""Codes of their own whose area the outlines count to another country."""
DISPUTED: Final = (
    frozenset({"RS", "XK"}), frozenset({"MA", "EH"}), frozenset({"IL", "PS", "SY", "LB"}), frozenset({"CN", "TW"}),
    frozenset({"CN", "HK", "MO"}), frozenset({"IN", "PK", "CN"}), frozenset({"CY", "GB"}), frozenset({"SD", "SS"}),
)  # fmt: skip
"""Codes that are not told apart: records of one area stand under either, by time and by who writes."""
NOT_JUDGED: Final = ((44.2, 46.3, 32.3, 36.8),)
"""Boxes (south, north, west, east) in which no country is judged: Crimea."""
FORMER: Final[Mapping[str, str]] = {
    "ussr": "", "soviet union": "", "sowjetunion": "", "yugoslavia": "", "jugoslawien": "", "czechoslovakia": "",
    "tschechoslowakei": "", "gdr": "DE", "ddr": "DE", "east germany": "DE", "west germany": "DE", "zaire": "CD",
    "burma": "MM", "ceylon": "LK", "siam": "TH", "persia": "IR", "rhodesia": "ZW", "swaziland": "SZ",
    "dutch east indies": "ID", "prussia": "", "preussen": "", "ottoman empire": "", "austria-hungary": "",
    "usa": "US", "u.s.a.": "US", "uk": "GB", "england": "GB", "scotland": "GB", "wales": "GB",
    "northern ireland": "GB", "great britain": "GB", "russia": "RU", "holland": "NL", "high seas": "",
    "international waters": "", "canary islands": "ES", "madeira": "PT", "azores": "PT", "hawaii": "US",
    "galapagos": "EC", "alaska": "US", "tasmania": "AU", "borneo": "", "new guinea": "", "antarctica": "AQ",
    "congo": "", "republic of congo": "CG", "korea": "", "viet nam": "VN", "kosovo": "XK",
    "dr congo": "CD", "drc": "CD", "u.s. virgin islands": "VI", "us virgin islands": "VI",
    "british virgin islands": "VG",
}  # fmt: skip
"""What labels say that is no name of ISO; empty: known, but not one country of today."""
_NO_COUNTRY: Final = frozenset({"ZZ", "XZ", "AA"})
"""User-assigned codes of ISO that mean unknown (ZZ) and high seas (XZ, as GBIF uses it)."""


class Countries:
    """The embedded set."""

    def code_of(self, text: str) -> str | None:
        """The ISO code that a name or code means; empty for one that is no single country; None for an unknown one."""
        found = text.strip()
        if found.upper() in self._codes:
            return self._codes[found.upper()]
        if found.upper() in _NO_COUNTRY:
            return ""
        return self._names.get(_fold(found))

    def is_code(self, text: str) -> bool:
        """Whether this is an ISO 3166-1 alpha-2 code (or one that says that there is no country)."""
        return text in self._known["alpha3"] or text == "XK" or text in _NO_COUNTRY

    def may_lie_in(self, code: str, latitude: float, longitude: float) -> bool | None:
        """Whether a point can lie in a country; None when that cannot be told (no outline, disputed)."""
        if any(s <= latitude <= n and w <= longitude <= e for s, n, w, e in NOT_JUDGED):
            return None
        owner = PART_OF.get(code, code)
        if owner not in self._areas:
            return None
        codes = {owner}.union(*(group for group in DISPUTED if owner in group))
        areas = [self._areas[item] for item in codes if item in self._areas]
        if any(area.holds(latitude, longitude) for area in areas):
            return True
        if any(area.is_within(LAND_MARGIN_DEG, latitude, longitude) for area in areas):
            return True
        if any(area.holds(latitude, longitude) for area in self._areas.values()):
            return False
        return any(area.is_within(SEA_MARGIN_DEG, latitude, longitude) for area in areas)

    # ------------------------------------------------------------------ loaded at first need
    @cached_property
    def _known(self) -> Mapping[str, Any]:
        return _load("country_codes.json")

    @cached_property
    def _codes(self) -> Mapping[str, str]:
        alpha3 = self._known["alpha3"]
        return {**{code: code for code in alpha3}, **{long: code for code, long in alpha3.items()}, "XK": "XK"}

    @cached_property
    def _names(self) -> Mapping[str, str]:
        found = {_fold(name): code for code, names in self._known["names"].items() for name in names}
        return {**found, **FORMER}

    @cached_property
    def _areas(self) -> Mapping[str, "_Area"]:
        document = _load("countries.json")
        arcs = [list(_decode(arc, document["scale"], document["translate"])) for arc in document["arcs"]]
        return {
            code: _Area(edge for ring in rings for edge in _edges(ring, arcs))
            for code, rings in document["areas"].items()
        }


Edge = tuple[float, float, float, float]
"""Longitude, latitude of one end and of the other; degrees."""


class _Area:
    """The edges of a country's rings, by the whole degrees of latitude that they touch."""

    def __init__(self, edges: Iterator[Edge]) -> None:
        self._bands: dict[int, list[Edge]] = {}
        for edge in edges:
            low, high = sorted((edge[1], edge[3]))
            for band in range(math.floor(low), math.floor(high) + 1):
                self._bands.setdefault(band, []).append(edge)

    def holds(self, latitude: float, longitude: float) -> bool:
        """Whether the point is inside: even-odd rule, along its line of latitude."""
        inside = False
        for x1, y1, x2, y2 in self._bands.get(math.floor(latitude), ()):
            if (y1 > latitude) != (y2 > latitude) and longitude < (x2 - x1) * (latitude - y1) / (y2 - y1) + x1:
                inside = not inside
        return inside

    def is_within(self, margin_deg: float, latitude: float, longitude: float) -> bool:
        """Whether some edge is nearer than so many degrees (of latitude; longitude shrinks towards the poles)."""
        shrink = max(math.cos(math.radians(latitude)), 0.05)
        for band in range(math.floor(latitude - margin_deg), math.floor(latitude + margin_deg) + 1):
            for x1, y1, x2, y2 in self._bands.get(band, ()):
                left, right = _turn(x1 - longitude), _turn(x2 - longitude)
                if abs(left - right) > 180:
                    continue
                if _distance(left * shrink, y1 - latitude, right * shrink, y2 - latitude) <= margin_deg:
                    return True
        return False


def _turn(degrees: float) -> float:
    """A difference of longitudes the short way round."""
    return (degrees + 180.0) % 360.0 - 180.0


def _distance(x1: float, y1: float, x2: float, y2: float) -> float:
    """From the origin to a line between two points."""
    dx, dy = x2 - x1, y2 - y1
    length = dx * dx + dy * dy
    along = 0.0 if length == 0 else min(1.0, max(0.0, -(x1 * dx + y1 * dy) / length))
    return math.hypot(x1 + along * dx, y1 + along * dy)


def _decode(arc: list[int], scale: list[float], translate: list[float]) -> Iterator[tuple[float, float]]:
    """Points of a TopoJSON arc: differences on a grid."""
    x = y = 0
    for number in range(0, len(arc), 2):
        x, y = x + arc[number], y + arc[number + 1]
        yield x * scale[0] + translate[0], y * scale[1] + translate[1]


def _edges(ring: list[int], arcs: list[list[tuple[float, float]]]) -> Iterator[Edge]:
    """Edges of a ring; a negative number is an arc that is walked backwards (its complement)."""
    for number in ring:
        points = arcs[number] if number >= 0 else arcs[~number]
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            yield x1, y1, x2, y2


def _fold(name: str) -> str:
    """A name without accents, case and doubled spaces."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return " ".join("".join(char for char in plain if not unicodedata.combining(char)).replace("’", "'").split())


def _load(name: str) -> Mapping[str, Any]:
    text = (importlib.resources.files("linkeddata") / "data" / name).read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
