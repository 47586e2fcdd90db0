"""What outputs of all contracts have in common: the port every output fulfils, and the readers of its parts.

Invariants: a reader refuses what does not fit and repairs nothing; what it returns is inside the image, printable,
quantised. ``linkeddata.outputs`` says why.

It leaves out: the contracts themselves, one module each.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, Protocol

from linkeddata.errors import OutputRefused
from linkeddata.json_strict import Json, get_int, get_list, get_object, get_str, get_strings

Box = tuple[int, int, int, int]
"""x, y, width, height in whole pixels of the upright image."""
Answer = Literal["yes", "no", "cannot tell"]

MAX_DOUBTS: Final = 10
MAX_NAME_CHARS: Final = 40
"""Names of measures, verdicts and attempts are the pipeline's own words, not the image's."""
MAX_MEASURES: Final = 40
MAX_BODY_BYTES: Final = 131_072
MAX_SIDE_PX: Final = 200_000
_DECIMAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?\Z")
_NOT_ON_LABELS: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Nobody sees these on a label; in a result they carry hidden data or turn the text of a page around."""
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/=_-]{120,}")
"""No label holds 120 such characters without a blank; a worker that sends them is sending something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSize:
    """Pixels of the upright image."""

    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A place on the image and what was found in it: how annotations, overlays and galleries show an output."""

    box: Box
    text: str = ""
    """What was read there."""
    score: str = ""
    """0.000 to 1.000; empty: none."""
    label: str = ""
    """Its class: how a line is written, the symbology of a code, the kind of an object."""
    polygon: str = ""
    """Corners as ``x,y x,y x,y`` in pixels, where more than a box is known."""
    terms: Mapping[str, Json] = field(default_factory=dict)
    """What else the region of the annotation says, by CURIE (``vasculum:..``); no floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitAnswer:
    """What one unit says to one question."""

    answer: Answer
    reason: str = ""
    matches: tuple[Mapping[str, Json], ...] = ()
    values: Mapping[str, Json] = field(default_factory=dict)


class Output(Protocol):
    """What every output can do. It is a dataclass whose fields are the members of the body, under the same names."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def image(self) -> ImageSize:
        """Size of the upright image it is about."""
        ...

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why it may be incomplete or wrong, in sentences for people; at most ten."""
        ...

    def answer(self, query: str | None) -> UnitAnswer:
        """The answer to a job's question: with a text query whether it matches, without one whether something is there.

        *no* is only said where the pipeline could have seen it; else *cannot tell* with the reason.
        """
        ...

    def regions(self) -> tuple[Region, ...]:
        """Where on the image; empty for outputs about the whole image."""
        ...

    def measured(self) -> Mapping[str, str]:
        """Numbers by name, decimal texts; empty where there are none."""
        ...


def no_or_cannot_tell(is_certain: bool, doubts: Sequence[str]) -> UnitAnswer:
    """The answer of an output in which nothing was found."""
    if is_certain:
        return UnitAnswer(answer="no")
    return UnitAnswer(answer="cannot tell", reason=doubts[0] if doubts else "unreadable")


def read_image(document: dict[str, Json]) -> ImageSize:
    """The member ``image``: ``{"width", "height"}``, pixels."""
    size = get_object(document, "image")
    return ImageSize(
        width=get_int(size, "width", low=1, high=MAX_SIDE_PX), height=get_int(size, "height", low=1, high=MAX_SIDE_PX)
    )


def read_doubts(document: dict[str, Json]) -> tuple[str, ...]:
    """The member ``doubts``."""
    found = get_strings(document, "doubts", max_items=MAX_DOUBTS, max_chars=200)
    return tuple(check_text(item, "doubt") for item in found)


def read_text(document: dict[str, Json], name: str, *, max_chars: int) -> str:
    """A text member without characters that labels do not have.

    Raises:
        OutputRefused: control or invisible characters, or a run that looks like encoded data.
    """
    return check_text(get_str(document, name, max_chars=max_chars), name)


def check_text(text: str, where: str) -> str:
    """The text, when it holds nothing that labels do not have."""
    if any(unicodedata.category(char) in _NOT_ON_LABELS for char in text):
        raise OutputRefused(f"{where} holds control, invisible or unassigned characters")
    if _BASE64_RUN.search(text):
        raise OutputRefused(f"{where} holds a run of 120 characters without a blank: labels do not, encoded data does")
    return text


def check_name(key: str, where: str) -> str:
    """A name of the pipeline's own: of a measure, a verdict."""
    if len(key) > MAX_NAME_CHARS:
        raise OutputRefused(f"the name of a {where} has more than {MAX_NAME_CHARS} characters")
    return check_text(key, where)


def read_choice(document: dict[str, Json], name: str, choices: Sequence[str]) -> str:
    """A member that is one of a closed list."""
    value = get_str(document, name, max_chars=MAX_NAME_CHARS)
    if value not in choices:
        raise OutputRefused(f"{name} is one of {', '.join(choices)}")
    return value


def read_score(document: dict[str, Json], name: str = "score") -> str:
    """A member from 0 to 1 with at most three digits."""
    text = get_str(document, name, max_chars=8)
    if not re.fullmatch(r"0(\.[0-9]{1,3})?|1(\.0{1,3})?", text):
        raise OutputRefused(f"{name} is a decimal text from 0 to 1 with at most three digits")
    return text


def read_decimal(document: dict[str, Json], name: str) -> str:
    """A decimal text: up to twelve digits, up to six behind the point."""
    text = get_str(document, name, max_chars=20)
    if not _DECIMAL.match(text):
        raise OutputRefused(f"{name} is a decimal text with at most six digits behind the point")
    return text


def read_box(document: dict[str, Json], image: ImageSize, name: str = "box") -> Box:
    """``[x, y, width, height]``, whole pixels inside the image."""
    box: list[Any] = get_list(document, name, max_items=4)
    if len(box) != 4 or any(not isinstance(item, int) or isinstance(item, bool) for item in box):
        raise OutputRefused(f"{name} is [x, y, width, height] in whole pixels")
    x, y, w, h = box
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > image.width or y + h > image.height:
        raise OutputRefused(f"a {name} lies outside the image")
    return (x, y, w, h)


def read_decimals(document: dict[str, Json], name: str = "measures") -> dict[str, str]:
    """Decimal texts by name, at most 40."""
    values = get_object(document, name)
    if len(values) > MAX_MEASURES:
        raise OutputRefused(f"at most {MAX_MEASURES} {name}")
    for value in values.values():
        if not isinstance(value, str) or not _DECIMAL.match(value):
            raise OutputRefused(f"{name} are decimal texts")
    return {check_name(key, name): str(value) for key, value in values.items()}
