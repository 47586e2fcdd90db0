"""What the demo's answer is compared with: the drawn truth, or the hand-checked tables of real collections."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from linkeddata.matching import TextLine, match_lines, normalise, parse_match

MIN_TERM_CHARS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """By image file name: whether it carries the text (None: not known), and the codes on it."""

    question: str
    carries: Mapping[str, bool | None]
    codes: Mapping[str, frozenset[str]]
    blocks: Mapping[str, tuple[tuple[int, int, int, int], ...]] = field(default_factory=dict)
    """Boxes x, y, w, h of the transcribed label blocks of an image; none: the whole image is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Found, missed and false, with the files."""

    found: tuple[str, ...]
    missed: tuple[str, ...]
    false: tuple[str, ...]
    unjudged: tuple[str, ...]


def drawn_truth(path: Path, question: str) -> Truth:
    """The truth about drawn collections."""
    table = json.loads(path.read_text("utf-8"))
    known = {"yes": True, "no": False}
    return Truth(
        question=question,
        carries={Path(name).name: known.get(row["martii"]) for name, row in table.items()},
        codes={
            Path(name).name: frozenset({row["barcode"]}) for name, row in table.items() if row["damage"] != "truncated"
        },
    )


def real_truth(folder: Path) -> Truth:
    """The truth of ``truth/labels.tsv`` and ``truth/barcodes.tsv``; the question is ``choose_term``'s."""
    labels = list(_rows(folder / "labels.tsv"))
    term = choose_term(labels)
    question = f"{term}~1"
    query = parse_match(question)
    carries: dict[str, bool | None] = {}
    for row in labels:
        lines = [
            TextLine(text=part, score=1.0, box=(0, 40 * index, 100, 30))
            for index, part in enumerate(row["text"].split("|"))
        ]
        hit = bool(match_lines(query, lines))
        carries[row["file"]] = bool(carries.get(row["file"])) or hit
    blocks: dict[str, list[tuple[int, int, int, int]]] = {}
    for row in labels:
        x, y, width, height = (int(float(row[name])) for name in ("x", "y", "w", "h"))
        blocks.setdefault(row["file"], []).append((x, y, width, height))
    codes: dict[str, set[str]] = {}
    for row in _rows(folder / "barcodes.tsv"):
        codes.setdefault(row["file"], set()).add(row["payload"])
    return Truth(
        question=question,
        carries=carries,
        codes={name: frozenset(found) for name, found in codes.items()},
        blocks={name: tuple(found) for name, found in blocks.items()},
    )


def choose_term(labels: Iterable[Mapping[str, str]]) -> str:
    """The word of six letters or more that stands on printed labels of the most images; ties go by the alphabet.

    Chosen by rule, so that nobody can pick a word the machine happens to read.
    """
    files: dict[str, set[str]] = {}
    for row in labels:
        if row["kind"] != "printed":
            continue
        for word in re.findall(rf"[^\W\d_]{{{MIN_TERM_CHARS},}}", row["text"]):
            files.setdefault(normalise(word), set()).add(row["file"])
    counts = Counter({word: len(found) for word, found in files.items()})
    best = max(counts.values())
    return min(word for word, count in counts.items() if count == best)


def score(truth: Truth, said_yes: Mapping[str, Sequence[tuple[int, int, int, int]]]) -> Score:
    """Compares the files that the answer names, with the boxes of their matches, with the truth.

    A match that lies outside every transcribed block of its image, and an image nobody transcribed, cannot be judged:
    they are listed, and count neither as right nor as wrong.
    """
    named = set(said_yes)
    right = {name for name, carries in truth.carries.items() if carries}
    wrong = {
        name
        for name in named - right
        if truth.carries.get(name) is False and _touches(said_yes[name], truth.blocks.get(name, ()))
    }
    return Score(
        found=tuple(sorted(named & right)),
        missed=tuple(sorted(right - named)),
        false=tuple(sorted(wrong)),
        unjudged=tuple(sorted(named - right - wrong)),
    )


def _touches(boxes: Sequence[tuple[int, int, int, int]], blocks: Sequence[tuple[int, int, int, int]]) -> bool:
    """Whether a match lies in a transcribed block; without blocks the whole image is transcribed."""
    if not blocks:
        return True
    return any(
        min(x + w, bx + bw) > max(x, bx) and min(y + h, by + bh) > max(y, by)
        for x, y, w, h in boxes
        for bx, by, bw, bh in blocks
    )


def _rows(path: Path) -> Iterable[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
