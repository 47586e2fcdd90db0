"""Is a statement about an image sound? Looked at once, when it comes to be.

Invariants:
- Pure: what is known about the medium and about other statements is handed in.
- Nothing is repaired and nothing is dropped: a check only leaves a finding.
- A finding that ``blocks`` is about the evidence (wrong image, region outside): such a statement is never public.
  The others are for the person who decides.

It leaves out: the shape of a result (``linkeddata.outputs``), what is right (people, ``node.services.review``).
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from linkeddata.outputs import Box, objects
from linkeddata.statement import StatedRegion

VOCABULARY: Final[Mapping[str, frozenset[str]]] = {
    "label-text/1": frozenset({"print", "uncertain"}),
    "barcode/1": frozenset(
        {
            "Aztec", "Codabar", "Code39", "Code93", "Code128", "DataBar", "DataBarExpanded", "DataMatrix", "EAN8",
            "EAN13", "ITF", "MaxiCode", "MicroQRCode", "PDF417", "QRCode", "UPCA", "UPCE",
        }
    ),
    "objects/1": frozenset(objects.KINDS),
}  # fmt: skip
"""Contract -> classes that its regions may have. A contract that is not here has no classes."""
OWN_VOCABULARY: Final = frozenset({"classes/1"})
"""Contracts whose classes stand in the manifest of the pipeline: they were held against it when the result came."""
SAME_PLACE: Final = 0.9
"""Two boxes are the same place when their overlap is this share of what they cover together: a few pixels of jitter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about the image that a statement is about."""

    image: str | None
    """SHA-256 hex of the bytes that the medium shows now; None: there are none."""
    width: int | None
    """Pixels of the upright image, as they were measured at ingest."""
    height: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFinding:
    """What was noticed."""

    code: str
    message: str
    blocks: bool = False


def check_statement(
    *,
    contract: str,
    image: str,
    width: int,
    height: int,
    regions: Sequence[StatedRegion],
    evidence: Evidence | None,
    labels: frozenset[str],
    others: Mapping[str, Sequence[StatedRegion]],
    conformance: str,
) -> tuple[CheckFinding, ...]:
    """Everything that is odd about a statement, in a fixed order.

    Args:
        contract: its output contract.
        image: SHA-256 hex of the bytes it says it was made from.
        width: pixels of the upright image, as the statement says.
        height: the same.
        regions: its regions.
        evidence: what is known about the medium; None: there is no such medium.
        labels: further classes that the institution knows (``[review] labels``).
        others: IRI -> regions of what stands about the same image under the same contract.
        conformance: verdict on the environment: pass, fail or none.
    """
    found: list[CheckFinding] = []
    if evidence is None or evidence.image is None:
        found.append(CheckFinding(code="image-unknown", message="no image of this medium is known here", blocks=True))
    elif evidence.image != image:
        found.append(
            CheckFinding(
                code="image-differs", message=f"made from {image[:12]}.., the medium shows {evidence.image[:12]}..",
                blocks=True,
            )
        )  # fmt: skip
    elif evidence.width and evidence.height:
        if (evidence.width, evidence.height) != (width, height):
            found.append(
                CheckFinding(
                    code="size-differs",
                    message=f"says {width}x{height} pixels, the image has {evidence.width}x{evidence.height}",
                    blocks=True,
                )
            )
        found += [
            CheckFinding(code="region-outside", message=f"region {number} lies outside the image", blocks=True)
            for number, region in enumerate(regions, 1)
            if not _is_inside(region.box, evidence.width, evidence.height)
        ]
    if conformance == "fail":
        found.append(
            CheckFinding(code="not-conformant", message="its environment failed the reference images", blocks=True)
        )
    known = VOCABULARY.get(contract, frozenset()) | labels
    said = set[str]() if contract in OWN_VOCABULARY else {region.label for region in regions}
    for label in sorted(said - {""} - known):
        found.append(CheckFinding(code="label-unknown", message=f"the class {label[:60]!r} is not in the vocabulary"))
    found += [
        CheckFinding(code="duplicate", message=f"says the same as {iri}")
        for iri, stated in others.items()
        if is_same(regions, stated)
    ]
    return tuple(found)


def is_same(one: Sequence[StatedRegion], other: Sequence[StatedRegion]) -> bool:
    """Whether two statements say the same: equal texts and classes at the same places, in any order."""
    if not one or len(one) != len(other):
        return False
    left = list(other)
    for region in one:
        match = next((item for item in left if _said(item) == _said(region) and _overlap(item.box, region.box)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _said(region: StatedRegion) -> tuple[str, str]:
    return " ".join(unicodedata.normalize("NFC", region.text).split()), region.label


def _is_inside(box: Box, width: int, height: int) -> bool:
    x, y, w, h = box
    return x >= 0 and y >= 0 and w >= 1 and h >= 1 and x + w <= width and y + h <= height


def _overlap(one: Box, other: Box) -> bool:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return False
    shared = width * height
    return shared >= SAME_PLACE * (one[2] * one[3] + other[2] * other[3] - shared)
