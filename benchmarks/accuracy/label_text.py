"""Label text: character errors on the transcribed blocks, by kind of writing.

**In-sample**: the sizes of ``label-text`` were chosen on these same images, so the figures say how well the pipeline does
here, not how well it will do elsewhere. There is no second set to hold back.

- A block of truth/labels.tsv is compared with the lines whose middle lies in its box, in the order they came.
  Errors are letters to insert, delete or replace; a block of which nothing was read counts with all its letters.
  ``strict`` compares as written, blanks squeezed; ``matched`` compares as searching does: case, accents and blanks apart.
- A word (five letters or more) is found when it stands in the text of its block with at most one wrong letter.
  One that stands nowhere in the text of an image called readable is missed *silently*: a search for it would be
  answered "no", which is wrong, instead of "cannot tell".
"""

import itertools
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from benchmarks.accuracy.world import Picture, Row, Section, World, share
from linkeddata.label_blocks import join_lines
from linkeddata.matching import normalise

MUST = 0.05
BLURRED_BLOCK = 0.2
"""Blocks with more wrong letters are shown in the gallery as bad."""


def section(world: World) -> Section:
    results = world.results("label-text")
    bodies = {name: result.body for name, result in results.items() if result.body is not None}
    rows = world.truth("labels")
    sums = judge_blocks(rows, bodies)
    made = Section(pipeline="label-text")
    clean = [sums[kind] for kind in ("printed", "typed") if kind in sums]
    rate = sum(total.edits_matched for total in clean) / max(1, sum(total.letters_matched for total in clean))
    made.rows.append(
        Row(what="printed and typed blocks: wrong letters, as searching compares", reached=f"{rate:.1%}", must="<= 5 %",
            is_met=rate <= MUST)
    )  # fmt: skip
    for kind, total in sums.items():
        one = total.to_json()
        made.rows.append(
            Row(what=f"{kind}, {share(one['words_found'], one['words'])} words found",
                reached=f"{one['cer_matched']:.1%} ({one['cer_strict']:.1%} as written), median block "
                        f"{one['median_block_cer']:.1%}, {one['blocks']} blocks; {one['words_missed_silently']} words missed silently")
        )  # fmt: skip
    made.rows.append(blocks_row(rows, bodies))
    made.notes = [world.timing("label-text"), "handwriting is not solved: lines of it are marked uncertain"]
    for image in world.images:
        blocks = [row for row in rows if row["file"] == image.name]
        output = results[image.name].output
        if not blocks or output is None:
            continue
        worst = max(block_rate(row["text"], text_in(bodies[image.name], row)) for row in blocks)
        made.pictures.append(
            Picture(image=image, caption=f"{len(blocks)} blocks, the worst with {worst:.0%} wrong letters",
                    regions=output.regions(), is_good=worst <= BLURRED_BLOCK)
        )  # fmt: skip
    return made


def blocks_row(rows: Sequence[dict[str, str]], bodies: dict[str, dict[str, Any]]) -> Row:
    """How well lines are joined to labels: over pairs of lines that lie in transcribed blocks."""
    together = apart = torn = exact = 0
    for name, body in bodies.items():
        truth = dict(lines_of(body, [row for row in rows if row["file"] == name]))
        joined = {line: block.lines for block in join_lines([(tuple(line["box"]), line["text"]) for line in body["lines"]])
                  for line in block.lines}  # fmt: skip
        for one, two in itertools.combinations(sorted(truth), 2):
            is_joined, belongs = two in joined[one], truth[one] == truth[two]
            together += is_joined and belongs
            apart += is_joined and not belongs
            torn += belongs and not is_joined
        for block in set(truth.values()):
            mine = {line for line, number in truth.items() if number == block}
            exact += {line for line in joined[min(mine)] if line in truth} == mine
    return Row(
        what="lines joined to labels (chosen on these images)",
        reached=f"of pairs joined {together / max(1, together + apart):.0%} belong together, "
        f"of those that belong {together / max(1, together + torn):.0%} are joined, {exact} blocks exactly",
    )


def lines_of(body: dict[str, Any], blocks: Sequence[dict[str, str]]) -> list[tuple[int, int]]:
    """(line, block) for lines whose middle lies in a transcribed block."""
    found = []
    for number, line in enumerate(body["lines"]):
        left, top, width, height = line["box"]
        for place, row in enumerate(blocks):
            x, y, w, h = (float(row[name]) for name in ("x", "y", "w", "h"))
            if x <= left + width / 2 <= x + w and y <= top + height / 2 <= y + h:
                found.append((number, place))
    return found


def block_rate(truth: str, read: str) -> float:
    """Share of wrong letters, as searching compares."""
    want, have = matched(plain(truth)), matched(" ".join(read.split()))
    return min(1.0, Levenshtein.distance(want, have) / max(1, len(want)))


@dataclass
class Sum:
    """Errors over the blocks of one kind."""

    blocks: int = 0
    letters: int = 0
    edits: int = 0
    letters_matched: int = 0
    edits_matched: int = 0
    words: int = 0
    words_found: int = 0
    words_missed_silently: int = 0
    rates: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "blocks": self.blocks,
            "letters": self.letters,
            "cer_strict": round(self.edits / max(1, self.letters), 4),
            "cer_matched": round(self.edits_matched / max(1, self.letters_matched), 4),
            "median_block_cer": round(statistics.median(self.rates), 4) if self.rates else None,
            "words": self.words,
            "words_found": self.words_found,
            "words_missed_silently": self.words_missed_silently,
        }


def judge_blocks(rows: Sequence[dict[str, str]], bodies: dict[str, dict[str, Any]]) -> dict[str, Sum]:
    """Error rates by kind of writing; turned blocks apart."""
    sums: dict[str, Sum] = {}
    for row in rows:
        kind = row["kind"] if row["turn_cw_deg"] == "0" else "turned"
        body = bodies.get(row["file"])
        total = sums.setdefault(kind, Sum())
        add(total, row["text"], text_in(body, row))
        if body is not None and body["readable"]:
            everything = matched(" ".join(line["text"] for line in body["lines"]))
            total.words_missed_silently += sum(not has_word(word, everything) for word in words_of(row["text"]))
    order = ("printed", "typed", "mixed", "handwritten", "turned")
    return {kind: sums[kind] for kind in order if kind in sums}


def add(total: Sum, truth: str, read: str) -> None:
    """Counts one block."""
    want, have = plain(truth), " ".join(read.split())
    edits = min(Levenshtein.distance(want, have), len(want))
    total.blocks += 1
    total.letters += len(want)
    total.edits += edits
    total.rates.append(edits / max(1, len(want)))
    want_matched, have_matched = matched(want), matched(have)
    total.letters_matched += len(want_matched)
    total.edits_matched += min(Levenshtein.distance(want_matched, have_matched), len(want_matched))
    words = words_of(truth)
    total.words += len(words)
    total.words_found += sum(has_word(word, have_matched) for word in words)


def plain(truth: str) -> str:
    """A transcription without its marks of doubt and line ends."""
    return " ".join(re.sub(r"\[(\?|\.\.\.|illegible)\]", "", truth).replace("|", " ").split())


def matched(text: str) -> str:
    """As searching compares."""
    return normalise(text).replace(" ", "")


def words_of(truth: str) -> list[str]:
    """Words of five letters or more."""
    return [matched(word) for word in re.findall(r"[^\W\d_]{5,}", plain(truth))]


def has_word(word: str, text: str) -> bool:
    """Whether the text holds the word with at most one wrong letter."""
    return bool(text) and fuzz.partial_ratio(word, text) / 100 >= 1 - 1.001 / len(word)


def text_in(body: dict[str, Any] | None, row: dict[str, str]) -> str:
    """The lines whose middle lies in the block's box."""
    if body is None:
        return ""
    x, y, w, h = (float(row[name]) for name in ("x", "y", "w", "h"))
    inside = []
    for line in body["lines"]:
        left, top, width, height = line["box"]
        if x <= left + width / 2 <= x + w and y <= top + height / 2 <= y + h:
            inside.append(line["text"])
    return " ".join(inside)
