"""What becomes of a statement when the bytes that it was made from are not those of its medium any more.

Two cases, told apart by ``linkeddata.picture_digest``: another picture came (a re-scan), and the statement stays and
says that its evidence was replaced; or the same picture came with other metadata, and the statement is carried over: a
new version is about the new bytes and names those that it was computed from.

Invariants:
- Pure. Nothing else in the document changes, regions and texts least of all.
- However often the metadata changes, a statement names the bytes that were computed on, not those between.
- Each change can be taken back: bytes that return give the document that was there before.
"""

from collections.abc import Mapping
from typing import Final

from cas.ids import ContentId
from linkeddata.json_strict import Json

REPLACED: Final = "evidence image replaced"
"""The status of a statement about bytes that its medium does not show any more."""
_STATUS: Final = "vasculum:evidenceStatus"
_CARRIED: Final = "vasculum:carriedOverFrom"


def with_evidence_replaced(document: Mapping[str, Json]) -> dict[str, Json]:
    """The document says that the image which it is about was replaced by another."""
    return {**document, _STATUS: REPLACED}


def with_evidence_returned(document: Mapping[str, Json]) -> dict[str, Json]:
    """The image which it is about is there again."""
    return {name: value for name, value in document.items() if name != _STATUS}


def carried_over(document: Mapping[str, Json], image: ContentId, *, picture: str) -> dict[str, Json]:
    """The document is about other bytes of the same picture, and says which bytes it was computed from.

    Args:
        document: about the bytes that were there before.
        image: the bytes that are there now.
        picture: digest of the picture that both decode to, SHA-256 in hex.
    """
    target = document.get("oa:hasTarget")
    assert isinstance(target, dict)  # our own documents
    computed_from = computed_on(document)
    moved = {name: value for name, value in with_evidence_returned(document).items() if name != _CARRIED}
    moved["oa:hasTarget"] = {**target, "vasculum:contentId": str(image)}
    if computed_from != str(image):
        moved[_CARRIED] = {
            "@type": "prov:Entity",
            "@id": computed_from,
            "vasculum:contentId": computed_from,
            "vasculum:pictureDigest": f"sha256:{picture}",
            "schema:description": "the same picture: only metadata embedded in the file differs; nothing was re-run",
        }
    return moved


def moved_to(document: Mapping[str, Json], medium: str) -> dict[str, Json]:
    """The document is about another medium (IRI), of which the one that it was about is a file."""
    target = document.get("oa:hasTarget")
    assert isinstance(target, dict)  # our own documents
    return {**document, "oa:hasTarget": {**target, "@id": medium, "dcterms:identifier": medium}}


def computed_on(document: Mapping[str, Json]) -> str:
    """The content id of the bytes that a statement was computed from, whichever it is about; empty: it says none."""
    for place in (document.get(_CARRIED), document.get("oa:hasTarget")):
        if isinstance(place, dict) and isinstance(place.get("vasculum:contentId"), str):
            return str(place["vasculum:contentId"])
    return ""
