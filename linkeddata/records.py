"""Specimens and media (and what remains of withdrawn records) as public documents: openDS-shaped JSON-LD.

Shapes follow DiSSCo openDS (digital-specimen 0.4.0, digital-media 0.5.0), Darwin Core and Audiovisual Core, with an
inline context. Annotations are in ``linkeddata.annotation``. We cannot mint DOIs, so ``@id`` is our IRI and what the
institution calls the thing goes out unchanged in ``ods:hasIdentifiers`` as *Preferred*.

Invariants:
- Pure: version and times are added by the store that publishes.
- No float stands in a document; numbers that were measured are decimal strings.
- A term of the source that has no place here survives in ``vasculum:verbatim``; an empty value is never invented.
- Bytes whose metadata is withheld have the address of their public original, and say what it was made from.
- Of a sensitive medium nothing goes out that people wrote freely: a title or a file name may tell the place.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.context import PREFIXES, with_context
from linkeddata.json_strict import Json
from linkeddata.licences import Licence
from linkeddata.local_contexts import LocalContexts
from linkeddata.times import format_time

_TAXON: Final = (
    "dwc:scientificName", "dwc:scientificNameAuthorship", "dwc:taxonRank", "dwc:kingdom", "dwc:phylum", "dwc:class",
    "dwc:order", "dwc:family", "dwc:subfamily", "dwc:genus", "dwc:specificEpithet", "dwc:infraspecificEpithet",
    "dwc:vernacularName", "dwc:taxonomicStatus", "dwc:nomenclaturalCode", "dwc:taxonID", "dwc:scientificNameID",
)  # fmt: skip
_IDENTIFICATION: Final = (
    "dwc:identifiedBy", "dwc:dateIdentified", "dwc:typeStatus", "dwc:identificationQualifier",
    "dwc:identificationRemarks", "dwc:verbatimIdentification", "dwc:identificationID",
)  # fmt: skip
_GEOREFERENCE: Final = (
    "dwc:decimalLatitude", "dwc:decimalLongitude", "dwc:geodeticDatum", "dwc:coordinateUncertaintyInMeters",
    "dwc:coordinatePrecision", "dwc:verbatimCoordinates", "dwc:footprintWKT", "dwc:georeferenceSources",
    "dwc:georeferenceRemarks",
)  # fmt: skip
_LOCATION: Final = (
    "dwc:continent", "dwc:waterBody", "dwc:islandGroup", "dwc:island", "dwc:country", "dwc:countryCode",
    "dwc:stateProvince", "dwc:county", "dwc:municipality", "dwc:locality", "dwc:verbatimLocality",
    "dwc:minimumElevationInMeters", "dwc:maximumElevationInMeters", "dwc:verbatimElevation",
    "dwc:minimumDepthInMeters", "dwc:maximumDepthInMeters", "dwc:locationRemarks", "dwc:higherGeography",
    "dwc:locationID",
)  # fmt: skip
_EVENT: Final = (
    "dwc:eventDate", "dwc:verbatimEventDate", "dwc:year", "dwc:month", "dwc:day", "dwc:habitat", "dwc:fieldNumber",
    "dwc:fieldNotes", "dwc:eventRemarks", "dwc:samplingProtocol", "dwc:recordedBy", "dwc:recordNumber", "dwc:sex",
    "dwc:lifeStage",
)  # fmt: skip
_SPECIMEN: Final = (
    "dwc:basisOfRecord", "dwc:institutionCode", "dwc:collectionCode", "dwc:catalogNumber", "dwc:occurrenceID",
    "dwc:collectionID", "dwc:institutionID", "dwc:datasetName", "dwc:preparations", "dwc:disposition",
    "dwc:verbatimLabel", "dwc:informationWithheld", "dwc:dataGeneralizations", "dwc:dynamicProperties",
    "dcterms:rightsHolder", "dcterms:accessRights", "dcterms:modified",
)  # fmt: skip
_SAID_OF_SPECIMEN: Final = tuple(term for term in _SPECIMEN if term != "dcterms:modified")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PLACED_TERMS: Final = frozenset((*_TAXON, *_IDENTIFICATION, *_GEOREFERENCE, *_LOCATION, *_EVENT, *_SPECIMEN))
"""Terms that have a place of their own in a specimen document."""


NOTHING_STATED: Final = LocalContexts()
VARIANTS: Final = "ac:hasServiceAccessPoint"
"""The member of a medium's document that lists the files of its exposure (Audiovisual Core 2026, section Service Access
Point): each with its own hash, format and size in pixels."""
IS_PROCESSED: Final = "vasculum:isProcessingVariant"
MEDIUM_FDO_TYPE: Final = "https://doi.org/21.T11148/bbad8c4e101e8af01115"
"""openDS: the handle of the kind of thing that a digital medium is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicOriginal:
    """What is given out instead of a file whose metadata tells too much."""

    content_id: ContentId | None
    """Of the same picture without the metadata; None: there is none."""
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """The picture that is given out instead of one of a sensitive specimen: its labels are blacked out."""

    content_id: ContentId
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumFacts:
    """What is known about the bytes of a medium."""

    content_id: ContentId | None
    width: int | None
    height: int | None
    format: str
    size_bytes: int | None
    public_original: PublicOriginal | None = None
    """None: the file itself is given out, as far as its class allows."""
    redacted: Redacted | None = None
    """Said of media of sensitive specimens only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantFacts:
    """One file of an exposure that has several."""

    facts: MediumFacts
    role: str
    """``archival master`` or ``access copy``."""
    is_processed: bool
    stated: str = ""
    """What the institution calls it (``ac:variantLiteral``); not said of media of sensitive specimens."""
    source_address: str = ""
    """Where it lies while it has no content id."""


def build_specimen(
    *,
    iri: str,
    fields: Mapping[str, str],
    media: Sequence[str],
    licence: Licence,
    access: AccessClass,
    organisation: str = "",
    local_contexts: LocalContexts = NOTHING_STATED,
    mids_level: int | None = None,
    issues: Sequence[str] = (),
    canonical_name: str = "",
) -> dict[str, Json]:
    """The public document of a specimen.

    Args:
        iri: its IRI.
        fields: term -> text; already generalised when the taxon is sensitive.
        media: IRIs of its public media.
        licence: of the record.
        access: its class; private documents are built too, for staff.
        organisation: the institution's ROR or GRSciColl address, may be empty.
        local_contexts: projects, labels and notices that the source states.
        mids_level: how completely it is digitised; None when not even MIDS 0.
        issues: flags that checks of ``fields`` gave.
        canonical_name: the scientific name without authorship, may be empty.
    """
    taxon = {**_take(fields, _TAXON), **({"vasculum:canonicalName": canonical_name} if canonical_name else {})}
    identification = _take(fields, _IDENTIFICATION)
    location = _take(fields, _LOCATION)
    georeference = _take(fields, _GEOREFERENCE)
    event = _take(fields, _EVENT)
    document: dict[str, Json] = {
        "@id": iri,
        "@type": "ods:DigitalSpecimen",
        "dcterms:identifier": iri,
        "ods:fdoType": "https://doi.org/21.T11148/894b1e6cad57e921764e",
        "ods:status": "Active",
        **_take(fields, _SAID_OF_SPECIMEN),
        "ods:isKnownToContainMedia": bool(media),
        "vasculum:accessClass": access.label,
    }
    document.update(_quality(mids_level, issues))
    if fields.get("dwc:scientificName"):
        document["ods:specimenName"] = fields["dwc:scientificName"]
    physical = fields.get("dwc:catalogNumber") or fields.get("dwc:occurrenceID")
    if physical:
        document["ods:physicalSpecimenID"] = physical
        document["ods:physicalSpecimenIDType"] = _identifier_type(physical)
    if organisation:
        document["ods:organisationID"] = organisation
    _add_local_contexts(document, local_contexts)
    _add_licence(document, licence)
    identifiers = [
        _identifier(title, fields[term])
        for title, term in (("dwc:occurrenceID", "dwc:occurrenceID"), ("dwc:catalogNumber", "dwc:catalogNumber"))
        if fields.get(term)
    ]
    if identifiers:
        document["ods:hasIdentifiers"] = identifiers
    if taxon or identification:
        named: dict[str, Json] = {"@type": "ods:Identification", "ods:isVerifiedIdentification": True, **identification}
        if taxon:
            named["ods:hasTaxonIdentifications"] = [{"@type": "ods:TaxonIdentification", **taxon}]
        document["ods:hasIdentifications"] = [named]
    if event or location or georeference:
        collected: dict[str, Json] = {"@type": "ods:Event", **event}
        if location or georeference:
            place: dict[str, Json] = {"@type": "ods:Location", **location}
            if georeference:
                place["ods:hasGeoreference"] = {"@type": "ods:Georeference", **georeference}
            collected["ods:hasLocation"] = place
        document["ods:hasEvents"] = [collected]
    if media:
        document["ods:hasEntityRelationships"] = [_relationship("hasDigitalMedia", item) for item in media]
    rest = [
        {"@type": "vasculum:VerbatimTerm", "vasculum:term": term, "vasculum:value": value}
        for term, value in sorted((term, fields[term]) for term in fields.keys() - PLACED_TERMS)
        if value and term not in ("dcterms:license", "dcterms:modified")
    ]
    if rest:
        document["vasculum:verbatim"] = rest
    return with_context(document)


def build_medium(
    *,
    iri: str,
    origin: str,
    specimens: Sequence[str],
    facts: MediumFacts,
    licence: Licence,
    access: AccessClass,
    sensitive: bool,
    title: str = "",
    rights_holder: str = "",
    identifier: str = "",
    source_address: str = "",
    px_per_mm: str = "",
    local_contexts: LocalContexts = NOTHING_STATED,
    variants: Sequence[VariantFacts] = (),
) -> dict[str, Json]:
    """The public document of a medium: what it shows, its content id, its licence, and how its bytes may be had.

    ``variants`` are all files of the exposure, the one that ``facts`` are about among them; empty when it has one.

    ``source_address`` is where the image lies while it has no content id: Audiovisual Core asks for the address of an
    access point and for no hash of it. ``px_per_mm`` is the resolution on the plane of the specimen, as the institution
    states it (decimal text).
    """
    document: dict[str, Json] = {
        "@id": iri,
        "@type": "ods:DigitalMedia",
        "dcterms:identifier": iri,
        "ods:fdoType": MEDIUM_FDO_TYPE,
        "ods:status": "Active",
        "dcterms:type": "StillImage",
        "vasculum:accessClass": access.label,
        "ods:hasEntityRelationships": [_relationship("hasDigitalSpecimen", item) for item in specimens],
    }
    is_open = access is AccessClass.OPEN and not sensitive
    is_redacted = sensitive and access is not AccessClass.PRIVATE
    document.update(bytes_terms(facts, origin=origin, is_open=is_open, is_redacted=is_redacted))
    if variants:
        said = [replace(item, stated="") for item in variants] if sensitive else variants  # people write what they like
        document[VARIANTS] = [_variant(item, origin=origin, is_open=is_open) for item in said]
    if source_address and is_open and facts.content_id is None:
        document["ac:accessURI"] = source_address
    _add_local_contexts(document, local_contexts)
    if px_per_mm:
        document["vasculum:pixelsPerMillimetre"] = px_per_mm
    if title and not sensitive:
        document["dcterms:title"] = title
    if rights_holder:
        document["dcterms:rightsHolder"] = rights_holder
    if identifier and not sensitive:
        document["ods:hasIdentifiers"] = [_identifier("dcterms:identifier", identifier)]
    if sensitive:
        document["dwc:informationWithheld"] = "the image exists; its taxon is sensitive, ask the institution"
    elif access is AccessClass.RESTRICTED:
        document["dwc:informationWithheld"] = (
            "the image does not leave the institution; jobs may run on it there, ask the institution"
        )
    _add_licence(document, licence)
    return with_context(document)


def with_bytes(
    document: Mapping[str, Json], facts: MediumFacts, *, origin: str, access: AccessClass, sensitive: bool
) -> dict[str, Json]:
    """The document of a medium with what is known about its bytes now in place of what was said before."""
    is_open = access is AccessClass.OPEN and not sensitive
    kept = {term: value for term, value in document.items() if term not in _BYTES_TERMS}
    is_redacted = sensitive and access is not AccessClass.PRIVATE
    said = bytes_terms(facts, origin=origin, is_open=is_open, is_redacted=is_redacted)
    return _with_entry({**kept, **said}, said, lambda entry: bool(entry.get(IS_PROCESSED)))


def with_variant_bytes(
    document: Mapping[str, Json], facts: MediumFacts, *, origin: str, access: AccessClass, sensitive: bool
) -> dict[str, Json]:
    """The same of a variant that is not the processed one; it is found by its content id."""
    said = bytes_terms(facts, origin=origin, is_open=access is AccessClass.OPEN and not sensitive)
    return _with_entry(
        document,
        said,
        lambda entry: not entry.get(IS_PROCESSED) and entry.get("vasculum:contentId") == str(facts.content_id),
    )


def without_variant(document: Mapping[str, Json], image: ContentId) -> dict[str, Json]:
    """The document of a medium that has these bytes no more among its files; a file that is alone is no variant."""
    entries = document.get(VARIANTS)
    if not isinstance(entries, list):
        return dict(document)
    left = [entry for entry in entries if isinstance(entry, dict) and entry.get("vasculum:contentId") != str(image)]
    kept = {term: value for term, value in document.items() if term != VARIANTS}
    return {**kept, VARIANTS: left} if len(left) > 1 else kept


def _with_entry(
    document: Mapping[str, Json], said: Mapping[str, Json], is_meant: Callable[[Mapping[str, Json]], bool]
) -> dict[str, Json]:
    """What is said about bytes, in the entries of the list of variants that are meant."""
    entries = document.get(VARIANTS)
    if not isinstance(entries, list):
        return dict(document)
    changed: list[Json] = []
    for entry in entries:
        assert isinstance(entry, dict)  # our own documents
        kept = {term: value for term, value in entry.items() if term not in _BYTES_TERMS}
        changed.append({**kept, **said} if is_meant(entry) else entry)
    return {**document, VARIANTS: changed}


def bytes_terms(facts: MediumFacts, *, origin: str, is_open: bool, is_redacted: bool = False) -> dict[str, Json]:
    """What a record says about bytes: their id, where they may be had, size and format."""
    terms: dict[str, Json] = {}
    if facts.content_id is not None:
        terms["ac:hashFunction"] = "SHA-256"
        terms["ac:hashValue"] = facts.content_id.hex
        terms["vasculum:contentId"] = str(facts.content_id)
        if is_open and facts.public_original is None:
            terms["ac:accessURI"] = f"{origin}/cas/sha256/{facts.content_id.hex}"
        elif is_open and facts.public_original is not None:
            terms |= _instead(facts.content_id, facts.public_original, origin=origin)
        elif is_redacted and facts.redacted is not None:
            terms |= _redacted(facts.content_id, facts.redacted, origin=origin)
    if facts.width and facts.height:
        terms["exif:PixelXDimension"] = facts.width
        terms["exif:PixelYDimension"] = facts.height
    if facts.format:
        terms["dcterms:format"] = facts.format
    if facts.size_bytes is not None:
        terms["vasculum:sizeInBytes"] = facts.size_bytes
    return terms


def build_tombstone(
    *, iri: str, kind: Literal["specimen", "medium", "annotation"], reason: str, at: datetime, successor: str = ""
) -> dict[str, Json]:
    """What remains of a withdrawn record: that it was, when it ended and why, and which record took its place."""
    types = {"specimen": "ods:DigitalSpecimen", "medium": "ods:DigitalMedia", "annotation": "oa:Annotation"}
    return with_context(
        {
            "@id": iri,
            "@type": types[kind],
            "dcterms:identifier": iri,
            "ods:status": "Tombstone",
            **({"dcterms:isReplacedBy": {"@id": successor}} if successor else {}),
            "ods:hasTombstoneMetadata": {
                "@type": "ods:Tombstone",
                "ods:tombstoneDate": format_time(at),
                "ods:tombstoneText": reason,
            },
        }
    )


def term_to_curie(iri: str) -> str:
    """``http://rs.tdwg.org/dwc/terms/country`` as ``dwc:country``; unknown namespaces stay whole."""
    for prefix, namespace in PREFIXES.items():
        if iri.startswith(namespace) and len(iri) > len(namespace):
            return f"{prefix}:{iri[len(namespace) :]}"
    return iri


def _take(fields: Mapping[str, str], terms: Sequence[str]) -> dict[str, Json]:
    return {term: value for term in terms if (value := fields.get(term))}


def _quality(mids_level: int | None, issues: Sequence[str]) -> dict[str, Json]:
    level: dict[str, Json] = {} if mids_level is None else {"ods:midsLevel": mids_level}
    return {**level, "vasculum:issue": list(issues)} if issues else level


_BYTES_TERMS: Final = frozenset(
    {
        "ac:hashFunction", "ac:hashValue", "vasculum:contentId", "ac:accessURI", "exif:PixelXDimension",
        "exif:PixelYDimension", "dcterms:format", "vasculum:sizeInBytes", "vasculum:publicOriginal",
        "vasculum:originalWithheld", "vasculum:redacted",
    }
)  # fmt: skip


def _variant(item: VariantFacts, *, origin: str, is_open: bool) -> dict[str, Json]:
    entry: dict[str, Json] = {
        "@type": "ac:ServiceAccessPoint",
        "vasculum:variantRole": item.role,
        **({IS_PROCESSED: True} if item.is_processed else {}),
        **({"ac:variantLiteral": item.stated} if item.stated else {}),
        **bytes_terms(item.facts, origin=origin, is_open=is_open),
    }
    if item.source_address and is_open and item.facts.content_id is None:
        entry["ac:accessURI"] = item.source_address
    return entry


def _instead(original: ContentId, public: PublicOriginal, *, origin: str) -> dict[str, Json]:
    """What is said of an open image whose file is not given out."""
    if public.content_id is None:
        return {
            "vasculum:originalWithheld": "its embedded metadata may tell more than is published; the picture is shown"
        }
    address = f"{origin}/cas/sha256/{public.content_id.hex}"
    described: dict[str, Json] = {
        "@type": "prov:Entity",
        "ac:hashFunction": "SHA-256",
        "ac:hashValue": public.content_id.hex,
        "vasculum:contentId": str(public.content_id),
        "ac:accessURI": address,
        "prov:wasDerivedFrom": {"@id": str(original)},
    }
    if public.size_bytes is not None:
        described["vasculum:sizeInBytes"] = public.size_bytes
    said = "its embedded metadata tells more than is published; the public original is the same picture without it"
    return {"ac:accessURI": address, "vasculum:originalWithheld": said, "vasculum:publicOriginal": described}


def _redacted(original: ContentId, picture: Redacted, *, origin: str) -> dict[str, Json]:
    """What is said of a sensitive image of which a picture with blacked out labels is given out."""
    address = f"{origin}/cas/sha256/{picture.content_id.hex}"
    described: dict[str, Json] = {
        "@type": "prov:Entity",
        "ac:hashFunction": "SHA-256",
        "ac:hashValue": picture.content_id.hex,
        "vasculum:contentId": str(picture.content_id),
        "vasculum:sizeInBytes": picture.size_bytes,
        "dcterms:format": "image/jpeg",
        "ac:accessURI": address,
        "prov:wasDerivedFrom": {"@id": str(original)},
    }
    said = "its taxon is sensitive, and labels tell the place; a picture with blacked out labels is given out"
    return {"ac:accessURI": address, "vasculum:originalWithheld": said, "vasculum:redacted": described}


def _identifier(title: str, value: str) -> dict[str, Json]:
    return {
        "@type": "ods:Identifier",
        "dcterms:title": title,
        "dcterms:identifier": value,
        "ods:identifierStatus": "Preferred",
    }


def _identifier_type(value: str) -> str:
    """openDS: Resolvable on the web, Global (unique by construction), or Local to the collection."""
    lowered = value.lower()
    if lowered.startswith(("http://", "https://")):
        return "Resolvable"
    return "Global" if lowered.startswith("urn:") or _UUID.fullmatch(lowered) else "Local"


def _relationship(name: str, target: str) -> dict[str, Json]:
    return {
        "@type": "ods:EntityRelationship",
        "dwc:relationshipOfResource": name,
        "dwc:relatedResourceID": target,
        "ods:relatedResourceURI": target,
    }


def _add_local_contexts(document: dict[str, Json], stated: LocalContexts) -> None:
    if stated:
        document["vasculum:hasLocalContexts"] = stated.to_json()


def _add_licence(document: dict[str, Json], licence: Licence) -> None:
    if licence.uri is not None:
        document["dcterms:license"] = licence.uri
    if licence.verbatim and licence.verbatim != licence.uri:
        document["xmpRights:UsageTerms"] = licence.verbatim
