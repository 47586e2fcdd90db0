"""IIIF Presentation 3.0 documents of a specimen: manifest, canvases, annotation pages, collections.

https://iiif.io/api/presentation/3.0/ with the extension navPlace and the service for physical dimensions.

Invariants:
- Pure: what may be shown was decided before. A medium without ``image`` gets a canvas without a picture, which says
  why.
- Every id is below the origin and answers a GET; what is only embedded is named by a fragment of what embeds it.
- Canvases have the pixels of the upright image, so the regions of annotations need no arithmetic.
- No place is given that the public record does not give, and none in a datum that a map would misplace.

It leaves out: looking things up and deciding (``node.web.presentation``), searching (``linkeddata.content_search``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from linkeddata.iiif_image import confined_size
from linkeddata.json_strict import Json

CONTEXT: Final = "http://iiif.io/api/presentation/3/context.json"
NAVPLACE_CONTEXT: Final = "http://iiif.io/api/extension/navplace/context.json"
PHYSICAL: Final = "http://iiif.io/api/annex/services/physdim"
THUMBNAIL_PX: Final = 400
"""The longer side of a thumbnail: what viewers draw in their lists."""
_FULL_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_COORDINATE: Final = re.compile(r"[+-]?[0-9]{1,3}(\.[0-9]{1,20})?\Z")
_WGS84: Final = frozenset({"", "wgs84", "epsg4326", "worldgeodeticsystem1984", "notrecorded", "unknown"})
"""GeoJSON is WGS 84 (RFC 7946, 4); an older datum would put the point hundreds of metres away."""
_CREATIVE_COMMONS: Final = re.compile(
    r"https://(creativecommons\.org/(?:licenses|publicdomain)/[a-z-]+/[0-9]\.[0-9]/)\Z"
)
_POLYGON: Final = re.compile(r"[0-9]{1,6},[0-9]{1,6}(?: [0-9]{1,6},[0-9]{1,6}){2,999}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRegion:
    """Something that was read at a place of an image."""

    annotation: str
    """IRI of the annotation it stands in."""
    number: int
    """Its place in that annotation, from 1."""
    text: str
    box: tuple[int, int, int, int]
    """x, y, width, height in pixels of the upright image."""
    polygon: str = ""
    """Corners as ``x,y x,y x,y``, where the annotation states more than a box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownMedium:
    """A medium of which everybody may know."""

    id: str
    """The last segment of its IRI."""
    iri: str
    width: int
    """Of the upright image, pixels."""
    height: int
    image: str | None = None
    """SHA-256 (hex) of the bytes that everybody may see; None when there are none."""
    offered: tuple[int, int] = (0, 0)
    """Width and height that everybody may see of it: those of the image, or of a smaller one."""
    largest: tuple[int, int] = (0, 0)
    """Of the largest answer of the image service."""
    withheld: str = ""
    """Why there is no picture, or only a small one, or one with blacked out labels."""
    is_redacted: bool = False
    """The labels are blacked out."""
    title: str = ""
    licence: str = ""
    """Address of its licence, may be empty."""
    px_per_mm: Decimal | None = None
    regions: tuple[ShownRegion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Who says it."""

    origin: str
    name: str
    organisation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSpecimen:
    """A specimen as its manifest shows it."""

    id: str
    iri: str
    label: str
    metadata: tuple[tuple[str, str], ...]
    """Plain label and value."""
    media: tuple[ShownMedium, ...]
    rights_holder: str = ""
    event_date: str = ""
    place: "Place | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A public point."""

    longitude: float
    latitude: float
    label: str
    note: str = ""
    """What a reader of the map must know: uncertainty, generalisation."""


def manifest_id(origin: str, specimen: str) -> str:
    """The address of a specimen's manifest."""
    return f"{origin}/iiif/presentation/3/specimen/{specimen}/manifest"


def canvas_id(origin: str, specimen: str, medium: str) -> str:
    """The address of the canvas of a medium in a specimen's manifest."""
    return f"{origin}/iiif/presentation/3/specimen/{specimen}/canvas/{medium}"


def collection_id(origin: str, prefix: str) -> str:
    """The address of the collection of specimens whose ids begin with ``prefix``."""
    return f"{origin}/iiif/presentation/3/collection" + (f"/{prefix}" if prefix else "")


def build_manifest(shown: ShownSpecimen, publisher: Publisher) -> dict[str, Json]:
    """The manifest of a specimen with at least one medium."""
    origin = publisher.origin
    document: dict[str, Json] = {
        "@context": CONTEXT if shown.place is None else [NAVPLACE_CONTEXT, CONTEXT],
        "id": manifest_id(origin, shown.id),
        "type": "Manifest",
        "label": _text(shown.label),
        "metadata": [_pair(label, value) for label, value in shown.metadata],
    }
    withheld = [medium.withheld for medium in shown.media if medium.withheld]
    if withheld:
        how = "are not shown"
        if any(item.is_redacted for item in shown.media):
            how = "are shown with their labels blacked out, or not at all"
        elif any(item.withheld and item.image for item in shown.media):
            how = "are shown small or not at all"
        reasons = "; ".join(dict.fromkeys(withheld))
        document["summary"] = _english(f"{len(withheld)} of {len(shown.media)} images {how}: {reasons}.")
    licences = {medium.licence for medium in shown.media if medium.image is not None}
    if len(licences) == 1 and (rights := _rights(licences.pop())):
        document["rights"] = rights
    document["requiredStatement"] = {
        "label": _english("Attribution"), "value": _text(shown.rights_holder or publisher.name),
    }  # fmt: skip
    document["provider"] = [_provider(publisher)]
    document["homepage"] = [
        {"id": shown.iri, "type": "Text", "label": _english("Page of the specimen"), "format": "text/html"}
    ]
    document["seeAlso"] = [
        {"id": shown.iri, "type": "Dataset", "label": _english("Record of the specimen (JSON-LD)"),
         "format": "application/ld+json", "profile": "http://rs.dissco.eu/opends/terms/DigitalSpecimen"}
    ]  # fmt: skip
    pictures = [medium for medium in shown.media if medium.image is not None]
    if pictures:
        document["thumbnail"] = [_thumbnail(pictures[0], publisher)]
    if _is_date(shown.event_date):
        document["navDate"] = f"{shown.event_date}T00:00:00Z"
    if shown.place is not None:
        document["navPlace"] = _nav_place(shown, shown.place, origin)
    document["service"] = [{"id": f"{origin}/iiif/search/2/specimen/{shown.id}", "type": "SearchService2"}]
    document["partOf"] = [{"id": collection_id(origin, ""), "type": "Collection"}]
    document["items"] = [_canvas(shown, number, publisher) for number in range(1, len(shown.media) + 1)]
    return document


def build_canvas(shown: ShownSpecimen, medium: str, publisher: Publisher) -> dict[str, Json] | None:
    """One canvas of the manifest, by itself; None when the medium (its id) is not shown."""
    for number, item in enumerate(shown.media, 1):
        if item.id == medium:
            part_of: Json = [{"id": manifest_id(publisher.origin, shown.id), "type": "Manifest"}]
            return {"@context": CONTEXT, **_canvas(shown, number, publisher), "partOf": part_of}
    return None


def build_annotation_page(shown: ShownSpecimen, medium: ShownMedium, origin: str) -> dict[str, Json]:
    """What was read from a picture, as one page."""
    canvas = canvas_id(origin, shown.id, medium.id)
    return {
        "@context": CONTEXT,
        "id": f"{canvas}/annotations",
        "type": "AnnotationPage",
        "items": [build_annotation(region, canvas, manifest_id(origin, shown.id)) for region in medium.regions],
    }


def build_annotation(region: ShownRegion, canvas: str, manifest: str) -> dict[str, Json]:
    """One region as a Web Annotation on a canvas."""
    x, y, width, height = region.box
    box: dict[str, Json] = {
        "type": "FragmentSelector", "conformsTo": "http://www.w3.org/TR/media-frags/",
        "value": f"xywh={x},{y},{width},{height}",
    }  # fmt: skip
    selector: Json = box
    if is_polygon(region.polygon):
        drawn = f'<svg xmlns="http://www.w3.org/2000/svg"><polygon points="{region.polygon}"/></svg>'
        selector = [{"type": "SvgSelector", "value": drawn}, box]
    return {
        "id": f"{region.annotation}#region-{region.number}",
        "type": "Annotation",
        # Text that is in the picture (Presentation 3.0, 4: supplementing); viewers list only what is commenting.
        "motivation": ["supplementing", "commenting"],
        "body": {"type": "TextualBody", "value": region.text, "format": "text/plain"},
        "target": {
            "type": "SpecificResource",
            "source": {"id": canvas, "type": "Canvas", "partOf": [{"id": manifest, "type": "Manifest"}]},
            "selector": selector,
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionItem:
    """A specimen in a list."""

    id: str
    label: str
    medium: ShownMedium | None
    """The first that has a picture."""


def build_collection(
    *, prefix: str, parts: Sequence[str], items: Sequence[CollectionItem], publisher: Publisher
) -> dict[str, Json]:
    """The specimens whose ids begin with ``prefix``: as parts (longer prefixes), or one by one."""
    origin = publisher.origin
    document: dict[str, Json] = {
        "@context": CONTEXT, "id": collection_id(origin, prefix), "type": "Collection",
        "label": _collection_label(prefix, publisher), "provider": [_provider(publisher)],
    }  # fmt: skip
    if prefix:
        document["partOf"] = [{"id": collection_id(origin, prefix[:-1]), "type": "Collection"}]
    listed: list[Json] = [
        {"id": collection_id(origin, part), "type": "Collection", "label": _collection_label(part, publisher)}
        for part in parts
    ]
    for item in items:
        entry: dict[str, Json] = {
            "id": manifest_id(origin, item.id), "type": "Manifest", "label": _text(item.label),
        }  # fmt: skip
        if item.medium is not None:
            entry["thumbnail"] = [_thumbnail(item.medium, publisher)]
        listed.append(entry)
    document["items"] = listed
    return document


def place_of(latitude: str, longitude: str, *, datum: str = "", label: str = "", note: str = "") -> Place | None:
    """The point that a record states in decimal degrees; None when there is none that a map could show rightly."""
    if not (_COORDINATE.match(latitude) and _COORDINATE.match(longitude)):
        return None
    if re.sub(r"[^a-z0-9]", "", datum.lower()) not in _WGS84:
        return None
    north, east = float(latitude), float(longitude)
    if abs(north) > 90 or abs(east) > 180 or (north == 0 and east == 0):
        return None
    return Place(longitude=east, latitude=north, label=label, note=note)


def is_polygon(text: Json) -> bool:
    """Whether a text is corners ``x,y x,y x,y`` in whole pixels: three to a thousand."""
    return isinstance(text, str) and _POLYGON.match(text) is not None


def _canvas(shown: ShownSpecimen, number: int, publisher: Publisher) -> dict[str, Json]:
    medium = shown.media[number - 1]
    canvas = canvas_id(publisher.origin, shown.id, medium.id)
    document: dict[str, Json] = {
        "id": canvas, "type": "Canvas", "label": _text(medium.title) if medium.title else _english(f"Image {number}"),
        "width": medium.width, "height": medium.height,
    }  # fmt: skip
    if rights := _rights(medium.licence):
        document["rights"] = rights
    document["seeAlso"] = [
        {"id": medium.iri, "type": "Dataset", "label": _english("Record of the image (JSON-LD)"),
         "format": "application/ld+json", "profile": "http://rs.dissco.eu/opends/terms/DigitalMedia"}
    ]  # fmt: skip
    if medium.px_per_mm is not None:
        document["service"] = [_physical(medium.px_per_mm, canvas)]
    if medium.withheld:
        how = "Labels blacked out" if medium.is_redacted else "Shown small" if medium.image else "Not shown"
        document["summary"] = _english(f"{how}: {medium.withheld}.")
    if medium.image is None:
        document["items"] = []
        return document
    document["thumbnail"] = [_thumbnail(medium, publisher)]
    document["items"] = [
        {
            "id": f"{canvas}#page", "type": "AnnotationPage",
            "items": [
                {"id": f"{canvas}#image", "type": "Annotation", "motivation": "painting", "target": canvas,
                 "body": _picture(medium, publisher.origin)}
            ],
        }
    ]  # fmt: skip
    if medium.regions:
        document["annotations"] = [
            {"id": f"{canvas}/annotations", "type": "AnnotationPage", "label": _english("Read from the image")}
        ]
    return document


def _picture(medium: ShownMedium, origin: str) -> dict[str, Json]:
    service = f"{origin}/iiif/3/{medium.image}"
    return {
        "id": f"{service}/full/max/0/default.jpg", "type": "Image", "format": "image/jpeg",
        "width": medium.largest[0], "height": medium.largest[1],
        "service": [{"id": service, "type": "ImageService3", "profile": "level2"}],
    }  # fmt: skip


def _thumbnail(medium: ShownMedium, publisher: Publisher) -> dict[str, Json]:
    """A size that the image service gives exactly, and keeps ready: never larger than what is offered."""
    width, height = confined_size(*medium.offered, THUMBNAIL_PX)
    service = f"{publisher.origin}/iiif/3/{medium.image}"
    return {
        "id": f"{service}/full/{width},{height}/0/default.jpg", "type": "Image", "format": "image/jpeg",
        "width": width, "height": height,
        "service": [{"id": service, "type": "ImageService3", "profile": "level2"}],
    }  # fmt: skip


def _physical(px_per_mm: Decimal, canvas: str) -> dict[str, Json]:
    """How long a pixel is. The service is older than Presentation 3.0, so its members keep their old names."""
    return {
        "@context": f"{PHYSICAL}/1/context.json", "@id": f"{canvas}#scale", "@type": "PhysicalDimensions",
        "profile": PHYSICAL, "physicalScale": float(1 / px_per_mm), "physicalUnits": "mm",
    }  # fmt: skip


def _nav_place(shown: ShownSpecimen, place: Place, origin: str) -> dict[str, Json]:
    manifest = manifest_id(origin, shown.id)
    properties: dict[str, Json] = {"label": _text(place.label or shown.label)}
    if place.note:
        properties["summary"] = _english(place.note)
    return {
        "id": f"{manifest}#places",
        "type": "FeatureCollection",
        "features": [
            {
                "id": f"{manifest}#place", "type": "Feature", "properties": properties,
                "geometry": {"type": "Point", "coordinates": [place.longitude, place.latitude]},
            }
        ],
    }  # fmt: skip


def _provider(publisher: Publisher) -> dict[str, Json]:
    home = publisher.origin + "/"
    return {
        "id": publisher.organisation or home,
        "type": "Agent",
        "label": _text(publisher.name),
        "homepage": [{"id": home, "type": "Text", "label": _text(publisher.name), "format": "text/html"}],
    }


def _collection_label(prefix: str, publisher: Publisher) -> dict[str, Json]:
    if not prefix:
        return _text(publisher.name)
    return _english(f"{publisher.name}: ids that begin with {prefix}")


def _rights(licence: str) -> str:
    """The IIIF spelling of a licence: Creative Commons with its version and http; nothing else is allowed there."""
    found = _CREATIVE_COMMONS.match(licence)
    return f"http://{found[1]}" if found else ""


def _is_date(text: str) -> bool:
    return bool(_FULL_DATE.match(text)) and 1 <= int(text[5:7]) <= 12 and 1 <= int(text[8:]) <= 31


def _pair(label: str, value: str) -> dict[str, Json]:
    return {"label": _english(label), "value": _text(value)}


def _text(value: str) -> dict[str, Json]:
    return {"none": [value]}


def _english(value: str) -> dict[str, Json]:
    return {"en": [value]}


def parse_px_per_mm(text: str) -> Decimal | None:
    """A stated resolution in pixels per millimetre; None when it is not a number that a picture can have.

    Between 0.05 (a whale on 1,000 pixels) and 20,000 (a light microscope).
    """
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", text):
        return None
    value = Decimal(text)
    return value if Decimal("0.05") <= value <= Decimal(20000) else None
