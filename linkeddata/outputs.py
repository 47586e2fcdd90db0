"""Output contracts: what a pipeline may say about an image, typed, bounded and quantised.

Results are the one thing that leaves a node, and they come from a worker that has seen the pixels. So everything is
checked here, in the parent process: shape, range, size; scores are cut to three digits, coordinates to whole pixels
inside the image, text to characters and lengths that labels have. What does not fit is refused, never repaired.

Contracts: ``label-text/1``, ``barcode/1``, ``quality/1``, ``network-probe/1``.

Limits bound how much of an image a result could carry: 400 lines of 300 characters are far more than any sheet has,
and far less than its pixels; the node's counters work on the sizes of these bodies.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from linkeddata.errors import DocumentError, OutputRefused
from linkeddata.json_strict import Json, as_object, get_bool, get_int, get_list, get_object, get_str, get_strings

Box = tuple[int, int, int, int]

MAX_LINES: Final = 400
MAX_LINE_CHARS: Final = 300
MAX_TEXT_CHARS: Final = 24_000
"""Text of one image in all; the fullest sheet among our samples has 2,400 characters."""
MAX_CODES: Final = 64
MAX_PAYLOAD_CHARS: Final = 300
"""A catalogue number or a short address; longer payloads are posters, not labels."""
MAX_DOUBTS: Final = 10
MAX_NAME_CHARS: Final = 40
"""Names of measures, verdicts and attempts are the pipeline's own words, not the image's."""
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
class ReadLine:
    """A line of text as read."""

    text: str
    score: str
    """0.000 to 1.000."""
    box: Box
    writing: str
    """``print`` or ``uncertain`` (handwriting, blur, or simply hard to read)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelText:
    """``label-text/1``."""

    image: ImageSize
    lines: tuple[ReadLine, ...]
    readable: bool
    """Whether what was not read can be taken for not there."""
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A machine-readable code."""

    symbology: str
    payload: str
    box: Box
    reader: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Barcodes:
    """``barcode/1``."""

    image: ImageSize
    codes: tuple[Code, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """``quality/1``: measures by name (decimal strings) and verdicts by name (``good``, ``poor``)."""

    image: ImageSize
    measures: Mapping[str, str]
    verdicts: Mapping[str, str]
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkProbe:
    """``network-probe/1``: what became of each attempt to open a socket."""

    image: ImageSize
    attempts: Mapping[str, str]
    doubts: tuple[str, ...]


Output = LabelText | Barcodes | Quality | NetworkProbe


def parse_output(contract: str, body: Json) -> Output:
    """A worker's body as a typed output.

    Raises:
        OutputRefused: unknown contract, or the body breaks it.
    """
    reader = _READERS.get(contract)
    if reader is None:
        raise OutputRefused(f"there is no output contract {contract[:40]!r}")
    try:
        document = as_object(body, "the result")
        return reader(document, _image(document))
    except OutputRefused:
        raise
    except DocumentError as error:
        raise OutputRefused(f"{contract}: {error}") from error


def _image(document: dict[str, Json]) -> ImageSize:
    size = get_object(document, "image")
    return ImageSize(
        width=get_int(size, "width", low=1, high=MAX_SIDE_PX), height=get_int(size, "height", low=1, high=MAX_SIDE_PX)
    )


def _label_text(document: dict[str, Json], image: ImageSize) -> LabelText:
    lines: list[ReadLine] = []
    total = 0
    for item in get_list(document, "lines", max_items=MAX_LINES):
        line = as_object(item, "a line")
        text = _text(get_str(line, "text", max_chars=MAX_LINE_CHARS), "text")
        total += len(text)
        writing = get_str(line, "writing", max_chars=20)
        if writing not in ("print", "uncertain"):
            raise OutputRefused("writing is print or uncertain")
        lines.append(ReadLine(text=text, score=_score(line), box=_box(line, image), writing=writing))
    if total > MAX_TEXT_CHARS:
        raise OutputRefused(f"more than {MAX_TEXT_CHARS} characters of text")
    return LabelText(
        image=image,
        lines=tuple(lines),
        readable=get_bool(document, "readable", default=False),
        doubts=_doubts(document),
    )


def _barcodes(document: dict[str, Json], image: ImageSize) -> Barcodes:
    codes: list[Code] = []
    for item in get_list(document, "codes", max_items=MAX_CODES):
        code = as_object(item, "a code")
        codes.append(
            Code(
                symbology=_text(get_str(code, "symbology", max_chars=40), "symbology"),
                payload=_text(get_str(code, "payload", max_chars=MAX_PAYLOAD_CHARS), "payload"),
                box=_box(code, image),
                reader=_text(get_str(code, "reader", max_chars=40), "reader"),
            )
        )
    return Barcodes(image=image, codes=tuple(codes), doubts=_doubts(document))


def _quality(document: dict[str, Json], image: ImageSize) -> Quality:
    measures = _decimals(get_object(document, "measures"))
    verdicts = get_object(document, "verdicts")
    if len(verdicts) > 20 or any(value not in ("good", "poor") for value in verdicts.values()):
        raise OutputRefused("verdicts are good or poor")
    return Quality(
        image=image,
        measures=measures,
        verdicts={_name(key, "verdict"): str(value) for key, value in verdicts.items()},
        doubts=_doubts(document),
    )


def _probe(document: dict[str, Json], image: ImageSize) -> NetworkProbe:
    attempts = get_object(document, "attempts")
    if len(attempts) > 20:
        raise OutputRefused("at most 20 attempts")
    checked = {
        _name(key, "attempt"): _text(get_str(attempts, key, max_chars=100), "attempt") for key in sorted(attempts)
    }
    return NetworkProbe(image=image, attempts=checked, doubts=_doubts(document))


def _name(key: str, where: str) -> str:
    if len(key) > MAX_NAME_CHARS:
        raise OutputRefused(f"the name of a {where} has more than {MAX_NAME_CHARS} characters")
    return _text(key, where)


def _text(text: str, where: str) -> str:
    if any(unicodedata.category(char) in _NOT_ON_LABELS for char in text):
        raise OutputRefused(f"{where} holds control, invisible or unassigned characters")
    if _BASE64_RUN.search(text):
        raise OutputRefused(f"{where} holds a run of 120 characters without a blank: labels do not, encoded data does")
    return text


def _score(document: dict[str, Json]) -> str:
    text = get_str(document, "score", max_chars=8)
    if not re.fullmatch(r"0(\.[0-9]{1,3})?|1(\.0{1,3})?", text):
        raise OutputRefused("score is a decimal text from 0 to 1 with at most three digits")
    return text


def _box(document: dict[str, Json], image: ImageSize) -> Box:
    box = get_list(document, "box", max_items=4)
    if len(box) != 4 or any(not isinstance(item, int) or isinstance(item, bool) for item in box):
        raise OutputRefused("box is [x, y, width, height] in whole pixels")
    x, y, w, h = box
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > image.width or y + h > image.height:
        raise OutputRefused("a box lies outside the image")
    return (x, y, w, h)


def _decimals(values: dict[str, Json]) -> dict[str, str]:
    if len(values) > 40:
        raise OutputRefused("at most 40 measures")
    for value in values.values():
        if not isinstance(value, str) or not _DECIMAL.match(value):
            raise OutputRefused("measures are decimal texts")
    return {_name(key, "measure"): str(value) for key, value in values.items()}


def _doubts(document: dict[str, Json]) -> tuple[str, ...]:
    return tuple(_text(item, "doubt") for item in get_strings(document, "doubts", max_items=MAX_DOUBTS, max_chars=200))


_READERS: Final[Mapping[str, Callable[[dict[str, Json], ImageSize], Output]]] = {
    "label-text/1": _label_text,
    "barcode/1": _barcodes,
    "quality/1": _quality,
    "network-probe/1": _probe,
}
CONTRACTS: Final = tuple(_READERS)
"""Every output contract this version knows."""
