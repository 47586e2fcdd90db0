"""The inline JSON-LD context of our documents. Small, fixed, never fetched from anywhere.

Namespaces follow the openDS term list (rs.dissco.eu), TDWG and W3C; ``vasculum:`` holds what has no term there.
"""

from collections.abc import Mapping
from typing import Final

from linkeddata.canon import canonical_bytes
from linkeddata.json_strict import Json

PREFIXES: Final[Mapping[str, str]] = {
    "ac": "http://rs.tdwg.org/ac/terms/",
    "as": "https://www.w3.org/ns/activitystreams#",
    "dcterms": "http://purl.org/dc/terms/",
    "dwc": "http://rs.tdwg.org/dwc/terms/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "oa": "http://www.w3.org/ns/oa#",
    "ods": "http://rs.dissco.eu/opends/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "schema": "https://schema.org/",
    "vasculum": "https://w3id.org/vasculum/terms/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
}


IRI_TERMS: Final = (
    "ac:accessURI", "dcterms:conformsTo", "dcterms:license", "oa:motivation", "ods:relatedResourceURI",
)  # fmt: skip
"""Terms whose values are links, not texts: written as plain strings like openDS does, read as IRIs."""


def inline_context() -> dict[str, Json]:
    """The ``@context`` member of a document."""
    return {**PREFIXES, **{term: {"@id": term, "@type": "@id"} for term in IRI_TERMS}}


def with_context(document: Mapping[str, Json]) -> dict[str, Json]:
    """The document with our context first."""
    return {"@context": inline_context(), **document}


def canonical_in_context(document: Mapping[str, Json]) -> bytes:
    """The canonical bytes of a document; our own context, the same in all of them, is not encoded each time.

    Raises:
        CanonError: it has none.
    """
    rest = {term: value for term, value in document.items() if term != "@context"}
    if document.get("@context") != _CONTEXT or not rest or min(rest) < "@context":
        return canonical_bytes(dict(document))
    return _BEGINNING + canonical_bytes(rest)[1:]


_CONTEXT: Final = inline_context()
_BEGINNING: Final = b'{"@context":' + canonical_bytes(_CONTEXT) + b","
