"""Places of a record: coordinates, countries, heights.

A point that its country cannot have is tried with latitude and longitude exchanged and with other signs, as GBIF does:
when one of these fits, the presumption is the issue, and nothing is changed.
"""

import math
from collections.abc import Generator, Iterator, Mapping
from typing import Final

from linkeddata.countries import Countries
from linkeddata.issues import Issue, issue

_LAT: Final = "dwc:decimalLatitude"
_LON: Final = "dwc:decimalLongitude"
MAX_UNCERTAINTY_M: Final = 20_000_000
"""Half the Earth's circumference: nothing is farther from a point."""
_HEIGHTS: Final = (
    ("ELEVATION", "dwc:minimumElevationInMeters", "dwc:maximumElevationInMeters", -11_000.0, 17_000.0),
    ("DEPTH", "dwc:minimumDepthInMeters", "dwc:maximumDepthInMeters", 0.0, 11_000.0),
)
"""GBIF's bounds: the top of the troposphere, the bottom of the Mariana Trench."""


def check_places(fields: Mapping[str, str], countries: Countries) -> Iterator[Issue]:
    """Issues of everything that says where."""
    country = yield from _check_country(fields, countries)
    latitude, longitude = fields.get(_LAT, ""), fields.get(_LON, "")
    if latitude or longitude:
        yield from _check_point(latitude, longitude, country, countries)
    text = fields.get("dwc:coordinateUncertaintyInMeters", "")
    if text:
        metres = number_of(text)
        if metres is None or not 0 < metres <= MAX_UNCERTAINTY_M:
            yield issue("COORDINATE_UNCERTAINTY_METERS_INVALID", f"coordinateUncertaintyInMeters {text}")
    text = fields.get("dwc:coordinatePrecision", "")
    if text:
        degrees = number_of(text)
        if degrees is None or not 0 <= degrees <= 1:
            yield issue("COORDINATE_PRECISION_INVALID", f"coordinatePrecision {text}")
    for name, low, high, least, most in _HEIGHTS:
        if fields.get(low) or fields.get(high):
            yield from _check_heights(name, fields.get(low, ""), fields.get(high, ""), least, most)


def _check_country(fields: Mapping[str, str], countries: Countries) -> Generator[Issue, None, str]:
    """Issues of the country; returns its ISO code, empty when there is none or they contradict."""
    name, code = fields.get("dwc:country", ""), fields.get("dwc:countryCode", "")
    found: set[str] = set()
    for term, text in (("country", name), ("countryCode", code)):
        if not text:
            continue
        meant = countries.code_of(text)
        if meant is None or (term == "countryCode" and not countries.is_code(text.strip().upper())):
            yield issue("COUNTRY_INVALID", f"{term} {text}")
        elif meant:
            found.add(meant)
    if len(found) > 1:
        yield issue("COUNTRY_MISMATCH", f"country {name}, countryCode {code}")
        return ""
    return next(iter(found), "")


def _check_point(latitude: str, longitude: str, country: str, countries: Countries) -> Iterator[Issue]:
    said = f"decimalLatitude {latitude or 'empty'}, decimalLongitude {longitude or 'empty'}"
    lat, lon = number_of(latitude), number_of(longitude)
    if lat is None or lon is None:
        yield issue("COORDINATE_INVALID", said)
        return
    if lat == 0 and lon == 0:
        yield issue("ZERO_COORDINATE", said)
        return
    if abs(lat) > 90 or abs(lon) > 180:
        if country and abs(lon) <= 90 and abs(lat) <= 180 and countries.may_lie_in(country, lon, lat):
            yield issue("PRESUMED_SWAPPED_COORDINATE", f"{said}, country {country}")
        yield issue("COORDINATE_OUT_OF_RANGE", said)
        return
    if not country or countries.may_lie_in(country, lat, lon) is not False:
        return
    for code, other_lat, other_lon in (
        ("PRESUMED_NEGATED_LONGITUDE", lat, -lon), ("PRESUMED_NEGATED_LATITUDE", -lat, lon),
        ("PRESUMED_SWAPPED_COORDINATE", lon, lat),
    ):  # fmt: skip
        if abs(other_lat) <= 90 and countries.may_lie_in(country, other_lat, other_lon):
            yield issue(code, f"{said}, country {country}")
            break
    yield issue("COUNTRY_COORDINATE_MISMATCH", f"{said}, country {country}")


def _check_heights(name: str, low: str, high: str, least: float, most: float) -> Iterator[Issue]:
    said = f"{low or 'empty'} to {high or 'empty'}"
    numbers = [number_of(text) for text in (low, high) if text]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        yield issue(f"{name}_NON_NUMERIC", said)
    if any(not least <= number <= most for number in known):
        yield issue(f"{name}_UNLIKELY", said)
    if len(known) == 2 and known[0] > known[1]:
        yield issue(f"{name}_MIN_MAX_SWAPPED", said)


def number_of(text: str) -> float | None:
    """A plain decimal number; None for anything else (infinite, with a comma, with a unit)."""
    if not text.isascii() or len(text) > 40 or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
