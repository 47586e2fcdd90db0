"""``kind/1``: what kind of picture it is, as one of a closed list, with a score for each; or that it is not known.

Kinds: ``sheet`` (a mounted plant), ``insect`` (one or few dry insects, pinned or laid out), ``drawer`` (many insects),
``fluid`` (animals kept in fluid, in a dish, a jar or beside one), ``slide`` (for the microscope), ``label`` (nothing
but labels), ``other`` (no specimen to be seen, or none of these).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, get_object
from linkeddata.matching import TextLine, match_lines, parse_match
from linkeddata.outputs.shape import ImageSize, Region, UnitAnswer, read_choice, read_doubts, read_score

KINDS: Final = ("sheet", "insect", "drawer", "fluid", "slide", "label", "other")
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """``kind/1``."""

    image: ImageSize
    kind: str
    """One of ``KINDS``, or ``unknown``: none is likely enough."""
    scores: Mapping[str, str]
    """Of every kind, 0.000 to 1.000; together about one."""
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:
        """Whether it is of the kind that is asked for; without a query, whether it shows a specimen."""
        values: dict[str, Json] = {"kind": self.kind, "scores": dict(self.scores)}
        if self.kind == UNKNOWN:
            return UnitAnswer(
                answer="cannot tell", reason=self.doubts[0] if self.doubts else "no kind is likely", values=values
            )
        if query is None:
            return UnitAnswer(answer="no" if self.kind in ("other", "label") else "yes", values=values)
        line = TextLine(text=self.kind, score=float(self.scores[self.kind]), box=(0, 0, 1, 1))
        found = match_lines(parse_match(query), [line])
        matches: tuple[Mapping[str, Json], ...] = tuple(
            {
                "text": self.kind, "score": self.scores[self.kind], "distance": item.distance,
                "box": [0, 0, self.image.width, self.image.height],
            }
            for item in found[:1]
        )  # fmt: skip
        return UnitAnswer(answer="yes" if matches else "no", matches=matches, values=values)

    def regions(self) -> tuple[Region, ...]:
        """None: it is about the whole image."""
        return ()

    def measured(self) -> Mapping[str, str]:
        """The scores."""
        return self.scores


def parse(document: dict[str, Json], image: ImageSize) -> Kind:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    kind = read_choice(document, "kind", (*KINDS, UNKNOWN))
    given = get_object(document, "scores")
    if set(given) != set(KINDS):
        raise OutputRefused(f"scores are given for {', '.join(KINDS)}")
    scores = {name: read_score(given, name) for name in KINDS}
    return Kind(image=image, kind=kind, scores=scores, doubts=read_doubts(document))
