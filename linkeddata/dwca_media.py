"""Media of a specimen from the three ways archives name them, merged into one list.

Simple Multimedia and Audiovisual Core rows, and ``dwc:associatedMedia``. The same address with http and https, or by
two of the three ways, is one medium: https is kept (http is never fetched), what one row leaves blank the other fills,
and of two different licences the stricter one counts.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from linkeddata.licences import normalise_licence
from linkeddata.source import SourceMedia

EXPOSURE: Final = "vasculum:exposure"
"""Media rows with the same value are files of one exposure (``linkeddata.variants``)."""
ARCHIVAL_MASTER: Final = "vasculum:archivalMaster"
"""In a table: the masters of the files in ``dwc:associatedMedia``, in the same order."""
OF_MEDIA: Final = "media:"
"""In a table: begins terms of columns that say something of the images of a row (``media:dcterms:license``)."""
ADDRESS_TERMS: Final = ("ac:accessURI", "dcterms:identifier")
_SCHEME: Final = re.compile(r"\Ahttps?://", re.IGNORECASE)
_IMAGE_TYPES: Final = frozenset({"", "stillimage", "image", "photograph"})
_ADDRESSES: Final = re.compile(r"\s*\|\s*|\s*[;,]\s*(?=https?://|\Z)", re.IGNORECASE)
_PATHS: Final = re.compile(
    r"\s*[|;]\s*|(?:(?<=\.jpg)|(?<=\.jpeg)|(?<=\.png)|(?<=\.tif)|(?<=\.tiff)|(?<=\.webp))\s*,\s*", re.IGNORECASE
)
_LICENCES: Final = (
    "dcterms:license", "xmpRights:UsageTerms", "xmpRights:WebStatement", "dcterms:rights",
    "http://purl.org/dc/elements/1.1/rights",
)  # fmt: skip
_USED: Final = frozenset(
    {
        "ac:accessURI", "dcterms:identifier", "dcterms:format", "dcterms:title", "dcterms:license",
        "dcterms:rightsHolder", "dcterms:type",
    }
)  # fmt: skip


def media_key(locator: str) -> str:
    """What makes two media rows the same exposure: the address without its scheme."""
    return _SCHEME.sub("", locator.strip())


def split_associated_media(text: str) -> list[str]:
    """Addresses in ``dwc:associatedMedia``.

    Separated by |, or by ; or , where an address follows (addresses may hold both). In a list of paths also by ; and
    by a comma behind the ending of an image.
    """
    pattern = _ADDRESSES if "://" in text else _PATHS
    return [part for part in (piece.strip() for piece in pattern.split(text)) if part]


def is_medium(terms: Mapping[str, str]) -> bool:
    """Whether a media row has an address and is an image (no sound, no web page)."""
    return bool(_locator(terms)) and _is_image(terms)


def read_medium(terms: Mapping[str, str]) -> SourceMedia | None:
    """A media row; None when it has no address or is no image (a sound, a web page)."""
    if not is_medium(terms):
        return None
    locator = _locator(terms)
    return SourceMedia(
        key=media_key(locator),
        locator=locator,
        format=terms.get("dcterms:format", ""),
        title=terms.get("dcterms:title", ""),
        licence=next((terms[term] for term in _LICENCES if terms.get(term)), ""),
        rights_holder=terms.get("dcterms:rightsHolder") or terms.get("xmpRights:Owner", ""),
        fields={term: value for term, value in terms.items() if term not in _USED or _is_own(term, value, locator)},
    )


def read_named_media(fields: Mapping[str, str]) -> list[SourceMedia]:
    """Media that a row names in ``dwc:associatedMedia``, with what its ``media:`` columns say of them.

    A value holds for every image of the row; with as many values, separated by ``|``, as there are images each has its
    own. Values that are neither are taken as one text for all: of such a licence nothing is known, so nothing is open.
    """
    locators = split_associated_media(fields.get("dwc:associatedMedia", ""))
    if not locators:
        return []
    of_media = [term for term in fields if term.startswith(OF_MEDIA)]
    said = {term.removeprefix(OF_MEDIA): _each(fields[term], len(locators)) for term in of_media}
    rows = (
        {"ac:accessURI": locator, **{term: values[place] for term, values in said.items() if values[place]}}
        for place, locator in enumerate(locators)
    )
    return [medium for medium in map(read_medium, rows) if medium is not None]


def _each(value: str, count: int) -> list[str]:
    parts = [part.strip() for part in value.split("|")]
    return parts if len(parts) == count else [value] * count


def pair_masters(masters: str, media: list[SourceMedia]) -> list[SourceMedia]:
    """Media of a row and their archival masters (``vasculum:archivalMaster``), which stand in the same order.

    Each master and its copy then state that they are one exposure. When there are not as many, nothing is stated.
    """
    locators = split_associated_media(masters)
    if len(locators) != len(media):
        return [*media, *(SourceMedia(key=media_key(item), locator=item) for item in locators)]
    paired: list[SourceMedia] = []
    for copy, locator in zip(media, locators, strict=True):
        said = {**copy.fields, EXPOSURE: copy.key}
        paired.append(replace(copy, fields=said))
        paired.append(
            replace(copy, key=media_key(locator), locator=locator, format="",
                    fields={**said, "ac:variantLiteral": "Best Quality"})
        )  # fmt: skip
    return paired


def merge_media(media: Iterable[SourceMedia]) -> tuple[SourceMedia, ...]:
    """One medium per key, in the order of first mention."""
    found: dict[str, SourceMedia] = {}
    for medium in media:
        known = found.get(medium.key)
        found[medium.key] = medium if known is None else _merge(known, medium)
    return tuple(found.values())


def _is_own(term: str, value: str, locator: str) -> bool:
    """An identifier that is not just the address again: by it rows say that they are of one exposure."""
    return term == "dcterms:identifier" and media_key(value) != media_key(locator)


def _merge(one: SourceMedia, two: SourceMedia) -> SourceMedia:
    locators = (one.locator, two.locator)
    licences = [text for text in (one.licence, two.licence) if text]
    return replace(
        one,
        locator=next((item for item in locators if item.lower().startswith("https://")), one.locator),
        format=one.format or two.format,
        title=one.title or two.title,
        licence=max(licences, key=lambda text: normalise_licence(text).access, default=""),
        rights_holder=one.rights_holder or two.rights_holder,
        fields={**two.fields, **one.fields},
    )


def _locator(terms: Mapping[str, str]) -> str:
    return (terms.get("ac:accessURI") or terms.get("dcterms:identifier") or "").strip()


def _is_image(terms: Mapping[str, str]) -> bool:
    kind = terms.get("dcterms:type", "").strip().lower().replace(" ", "").rsplit("/", 1)[-1]
    return kind in _IMAGE_TYPES or terms.get("dcterms:format", "").strip().lower().startswith("image/")
