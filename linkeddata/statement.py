"""A statement about an image, read back from its document: regions, score, class, proposed values; and changes to it.

Example:
    >>> summary = summarise(document)
    >>> summary.score, summary.label
    (930, 'print')

Invariants:
- Pure: nothing is looked up, version and times are the store's.
- A statement is as sure as its weakest region: its score is the lowest of them, in thousandths.
- A correction is a new document that says what it replaces; the old document only gets a link to it.
- What a statement proposes for a field of the collection is either said in its body, or follows from its contract.

It leaves out: whether a statement is sound (``linkeddata.annotation_checks``), who decided on it (``node``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

from linkeddata.errors import DocumentError
from linkeddata.json_strict import Json
from linkeddata.outputs import MAX_LINE_CHARS, Box
from linkeddata.records import PLACED_TERMS
from linkeddata.times import format_time

MIXED: Final = "mixed"
"""Stands for the class of a statement whose regions are of several."""
MAX_VALUE_CHARS: Final = 2000
"""Of a value that a person proposes; the longest label texts of our samples are shorter."""
Decision = Literal["pending", "accepted", "rejected"]
_OPENDS: Final[Mapping[Decision, str]] = {"pending": "Pending", "accepted": "Approved", "rejected": "Rejected"}
"""openDS annotation 0.4.0, ``ods:mergingDecisionStatus``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedRegion:
    """A region as the statement gives it."""

    box: Box
    text: str
    score: str
    label: str
    """Its class: how a line is written, the symbology of a code; empty when it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is kept beside a statement, so that it can be found by rule."""

    score: int | None
    """Thousandths; None when no region has a score."""
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A value for a field of the specimen's row."""

    field: str
    """As ``dwc:catalogNumber``."""
    value: str
    fills_only: bool
    """Proposed only where the institution has no value: a reading is not better than what a person typed."""
    specimen: str | None = None
    """IRI; None: the one specimen on the image."""


def regions_of(document: Mapping[str, Any]) -> tuple[StatedRegion, ...]:
    """The regions of a statement, in its order."""
    return tuple(
        StatedRegion(
            box=(item["vasculum:x"], item["vasculum:y"], item["vasculum:width"], item["vasculum:height"]),
            text=item.get("vasculum:text", ""),
            score=item.get("vasculum:score", ""),
            label=label_of(item),
        )
        for item in document.get("vasculum:hasRegion", [])
    )


def label_of(region: Mapping[str, Any]) -> str:
    """The class of a region of an annotation: how a line is written, the symbology of a code, the kind of an object."""
    return str(region.get("vasculum:writing") or region.get("vasculum:symbology") or region.get("vasculum:class") or "")


def measures_of(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What was measured, as names and decimal texts."""
    found = {item["schema:name"]: item["schema:value"] for item in document.get("vasculum:measure", [])}
    return in_order(str(document.get("vasculum:outputContract", "")), found)


def in_order(contract: str, measures: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Measures as people read them: by name; scores of kinds with the likeliest first."""
    if contract == "kind/1":
        return tuple(sorted(measures.items(), key=lambda item: (-Decimal(item[1]), item[0])))
    return tuple(sorted(measures.items()))


def said_of(document: Mapping[str, Any]) -> str:
    """What a statement says, in a line: texts, else what was measured, else classes, else its answer and why."""
    regions = regions_of(document)
    texts = [region.text for region in regions if region.text]
    if texts:
        return " / ".join(texts)
    answer, doubts = str(document.get("vasculum:answer", "")), document.get("vasculum:doubt", [])
    if not regions and answer == "cannot tell" and doubts:
        return f"{answer}: {doubts[0]}"
    measures = measures_of(document)
    if measures:
        return ", ".join(f"{name} {value}" for name, value in measures)
    labels = [region.label for region in regions if region.label]
    return " / ".join(labels) or ": ".join([answer, *doubts[:1]])


def summarise(document: Mapping[str, Any]) -> Summary:
    """Score and class of a statement."""
    regions = regions_of(document)
    scores = [int(Decimal(item.score) * 1000) for item in regions if item.score]
    labels = {item.label for item in regions}
    label = next(iter(labels)) if len(labels) == 1 else MIXED if labels else ""
    return Summary(score=min(scores, default=None), label=label)


def proposals_of(document: Mapping[str, Any]) -> tuple[Proposal, ...]:
    """Values that the statement proposes for the specimen's row.

    A correction says them in its body. Of readings, lines propose a label as written where there is none, and the only
    code on an image proposes the catalogue number, unless it holds an address.
    """
    said = [
        Proposal(field=body["ods:term"], value=body["oa:value"][0], fills_only=False, specimen=body.get("ods:specimen"))
        for body in document.get("oa:hasBody", [])
    ]
    if said:
        return tuple(said)
    texts = [region.text for region in regions_of(document) if region.text]
    match document.get("vasculum:outputContract"):
        case "label-text/1" if texts:
            return (Proposal(field="dwc:verbatimLabel", value="\n".join(texts), fills_only=True),)
        case "barcode/1" if len(texts) == 1 and "://" not in texts[0]:
            return (Proposal(field="dwc:catalogNumber", value=texts[0], fills_only=False),)
        case _:
            return ()


def with_decision(document: Mapping[str, Json], decision: Decision, at: datetime | None) -> dict[str, Json]:
    """The document as it is published: with how far its review is. Who decided stays in the institution."""
    said: dict[str, Json] = {**document, "ods:mergingDecisionStatus": _OPENDS[decision]}
    if at is not None:
        said["ods:mergingStateChangeDate"] = format_time(at)
    return said


def with_successor(document: Mapping[str, Json], successor: str) -> dict[str, Json]:
    """The old document of a correction: it stays, and says what replaces it."""
    return {**document, "dcterms:isReplacedBy": {"@id": successor}}


def corrected(
    document: Mapping[str, Json],
    *,
    iri: str,
    corrector: str,
    texts: Mapping[int, str],
    values: Mapping[str, str],
    specimen: str | None = None,
) -> dict[str, Json]:
    """A correction of a statement: a new document that replaces it.

    Args:
        document: what is corrected.
        iri: of the correction.
        corrector: name of the institution; persons are not named in public.
        texts: number of a region, from 1 -> its right text; an empty text removes the region.
        values: term -> right value of the specimen's row, as ``dwc:country``.
        specimen: whose row; None: the one specimen on the image.

    Raises:
        DocumentError: there is no such region, no such term, or nothing is corrected.
    """
    if not texts and not values:
        raise DocumentError("nothing is corrected: give a line with its text, or a field with its value")
    regions = document.get("vasculum:hasRegion", [])
    assert isinstance(regions, list)  # our own documents
    for number, text in texts.items():
        if not 1 <= number <= len(regions):
            raise DocumentError(f"there is no line {number}: the statement has {len(regions)}")
        _check_text(text, MAX_LINE_CHARS)
    for term, value in values.items():
        if term not in PLACED_TERMS:
            raise DocumentError(f"{term!r} is not a term of a specimen's row, such as dwc:country or dwc:recordedBy")
        _check_text(value, MAX_VALUE_CHARS)
    changed: list[Json] = []
    for number, region in enumerate(regions, 1):
        if number not in texts:
            changed.append(region)
        elif texts[number]:
            assert isinstance(region, dict)  # our own documents
            changed.append({**{key: value for key, value in region.items() if key != "vasculum:score"},
                            "vasculum:text": texts[number]})  # fmt: skip
    made: dict[str, Json] = {
        **document,
        "@id": iri,
        "dcterms:identifier": iri,
        "oa:motivation": "oa:editing",
        "dcterms:replaces": {"@id": document["@id"]},
        "dcterms:creator": {"@type": "schema:Organization", "schema:name": corrector},
    }
    made.pop("dcterms:isReplacedBy", None)
    made.pop("vasculum:hasRegion", None)
    if changed:
        made["vasculum:hasRegion"] = changed
    if values:
        made["oa:hasBody"] = [_body(term, value, specimen) for term, value in sorted(values.items())]
    return made


def _body(term: str, value: str, specimen: str | None) -> dict[str, Json]:
    body: dict[str, Json] = {"@type": "oa:TextualBody", "ods:term": term, "oa:value": [value]}
    return body if specimen is None else {**body, "ods:specimen": specimen}


def _check_text(text: str, longest: int) -> None:
    if len(text) > longest:
        raise DocumentError(f"a text longer than {longest} characters is a mistake")
    if any(not char.isprintable() and char != "\n" for char in text):
        raise DocumentError("the text holds control or invisible characters")
