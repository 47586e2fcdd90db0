"""``objects/1``: every separate thing on an image: specimens, labels, codes, rulers, charts, stamps, envelopes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.json_strict import Json, as_object, get_bool, get_list
from linkeddata.matching import TextLine, match_lines, parse_match
from linkeddata.outputs.masks import read_outline
from linkeddata.outputs.shape import (
    Box,
    ImageSize,
    Region,
    UnitAnswer,
    no_or_cannot_tell,
    read_box,
    read_choice,
    read_doubts,
    read_score,
)

KINDS: Final = ("specimen", "label", "barcode", "ruler", "chart", "stamp", "envelope", "other")
"""A new one comes at the end: files of vectors hold their places."""
MAX_OBJECTS: Final = 60
"""A drawer has hundreds; beyond this there are too many to be told apart surely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One object."""

    kind: str
    """One of ``KINDS``."""
    score: str
    """0.000 to 1.000."""
    box: Box
    outline: str
    """``x,y x,y x,y`` in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """``objects/1``."""

    image: ImageSize
    objects: tuple[Thing, ...]
    """Specimens first, then by kind, the largest first."""
    complete: bool
    """Whether what was not found can be taken for not there."""
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:
        """Whether an object of the asked kind is there; without a query, whether there is any."""
        values: dict[str, Json] = {"counts": dict[str, Json](Counter(item.kind for item in self.objects))}
        if query is None:
            if self.objects:
                return UnitAnswer(answer="yes", values=values)
            return no_or_cannot_tell(self.complete, self.doubts)
        lines = [TextLine(text=item.kind, score=float(item.score), box=item.box) for item in self.objects]
        found: tuple[Mapping[str, Json], ...] = tuple(
            {"text": match.text, "score": f"{match.score:.3f}", "distance": match.distance, "box": list(match.box)}
            for match in match_lines(parse_match(query), lines)
        )
        if found:
            return UnitAnswer(answer="yes", matches=found, values=values)
        return no_or_cannot_tell(self.complete, self.doubts)

    def regions(self) -> tuple[Region, ...]:
        """One per object, with its outline."""
        return tuple(
            Region(
                box=item.box, label=item.kind, score=item.score, polygon=item.outline,
                terms={"vasculum:class": item.kind},
            )
            for item in self.objects
        )  # fmt: skip

    def measured(self) -> Mapping[str, str]:
        """How many of each kind."""
        return {kind: str(count) for kind, count in sorted(Counter(item.kind for item in self.objects).items())}


def parse(document: dict[str, Json], image: ImageSize) -> Objects:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    things: list[Thing] = []
    for item in get_list(document, "objects", max_items=MAX_OBJECTS):
        thing = as_object(item, "an object")
        things.append(
            Thing(
                kind=read_choice(thing, "kind", KINDS), score=read_score(thing), box=read_box(thing, image),
                outline=read_outline(thing, "outline", image),
            )
        )  # fmt: skip
    return Objects(
        image=image, objects=tuple(things), complete=get_bool(document, "complete", default=False),
        doubts=read_doubts(document),
    )  # fmt: skip
