"""``classes/1``: which of a closed list of classes an image belongs to, the likeliest first, with scores.

What a plugged model says. The list stands in the manifest of its pipeline (``vocabulary``), and a worker can say
nothing that is not on it: names of classes are no way out for what is in the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, as_object, get_bool, get_list
from linkeddata.matching import TextLine, match_lines, parse_match
from linkeddata.outputs.shape import (
    Box,
    ImageSize,
    Output,
    Region,
    UnitAnswer,
    no_or_cannot_tell,
    read_box,
    read_doubts,
    read_score,
    read_text,
)

MAX_CLASSES: Final = 10
"""What is kept of the list: nobody reads the eleventh likeliest."""
MAX_CLASS_CHARS: Final = 80
MAX_VOCABULARY: Final = 20_000
"""Species of a flora; a longer list is a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class."""

    name: str
    score: str
    """0.000 to 1.000."""
    holds: bool
    """Whether the model's threshold is reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """``classes/1``."""

    image: ImageSize
    box: Box
    """What was looked at: the whole image, or a part that another pipeline found."""
    classes: tuple[ClassScore, ...]
    """The likeliest first."""
    certain: bool
    """Whether what does not hold can be taken for not there."""
    doubts: tuple[str, ...]

    def answer(self, query: str | None) -> UnitAnswer:
        """Whether a class holds; with a query, whether one holds whose name matches."""
        holding = [item for item in self.classes if item.holds]
        values: dict[str, Json] = {
            "classes": [{"name": item.name, "score": item.score, "holds": item.holds} for item in self.classes]
        }
        if query is None:
            if holding:
                return UnitAnswer(answer="yes", values=values)
            return no_or_cannot_tell(self.certain, self.doubts)
        lines = [TextLine(text=item.name, score=float(item.score), box=self.box) for item in holding]
        found: tuple[Mapping[str, Json], ...] = tuple(
            {"text": item.text, "score": f"{item.score:.3f}", "distance": item.distance, "box": list(item.box)}
            for item in match_lines(parse_match(query), lines)
        )
        if found:
            return UnitAnswer(answer="yes", matches=found, values=values)
        return no_or_cannot_tell(self.certain, self.doubts)

    def regions(self) -> tuple[Region, ...]:
        """What was looked at, once for each class that holds."""
        return tuple(
            Region(box=self.box, score=item.score, label=item.name, terms={"vasculum:class": item.name})
            for item in self.classes
            if item.holds
        )

    def measured(self) -> Mapping[str, str]:
        """None: the scores are with the classes."""
        return {}


def parse(document: dict[str, Json], image: ImageSize) -> Classes:
    """A worker's body.

    Raises:
        DocumentError: it breaks the contract.
    """
    classes: list[ClassScore] = []
    for item in get_list(document, "classes", max_items=MAX_CLASSES):
        entry = as_object(item, "a class")
        classes.append(
            ClassScore(
                name=read_text(entry, "name", max_chars=MAX_CLASS_CHARS),
                score=read_score(entry),
                holds=get_bool(entry, "holds", default=False),
            )
        )
    if len({item.name for item in classes}) != len(classes):
        raise OutputRefused("a class is named twice")
    if [float(item.score) for item in classes] != sorted((float(item.score) for item in classes), reverse=True):
        raise OutputRefused("the likeliest class comes first")
    return Classes(
        image=image, box=read_box(document, image), classes=tuple(classes),
        certain=get_bool(document, "certain", default=False), doubts=read_doubts(document),
    )  # fmt: skip


def check_vocabulary(output: Output, vocabulary: Sequence[str]) -> None:
    """Refuses classes that the manifest does not name.

    Raises:
        OutputRefused: with how many there are; their names are not repeated.
    """
    if not isinstance(output, Classes):
        return
    foreign = sum(item.name not in set(vocabulary) for item in output.classes)
    if foreign:
        raise OutputRefused(f"{foreign} of the classes are not in the vocabulary of the pipeline")
