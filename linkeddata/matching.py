"""Error-tolerant search in text that a machine read from a label.

Query language: words mean *and*; ``"two words"`` is a phrase; ``~N`` behind a word or phrase allows N wrong letters
per word, ``~`` alone allows one in five letters. Case, accents and punctuation do not count.

What reading machines do to text, and what is done about it:
- they lose blanks (``HerbariumMartii``): camel-case words are also split, the letters of a phrase are also compared
  without blanks, and a word of five letters or more may stand at the end of a longer one;
- they break a phrase over two lines: a line is also read together with the one below and the one to its right;
- they confuse letters: ``~N`` counts insertions, deletions, substitutions and swaps (optimal string alignment).

It leaves out: handwriting, synonyms, stemming. A word shorter than four letters is never matched with errors.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rapidfuzz.distance import OSA

from linkeddata.errors import MatchError

MAX_QUERY_CHARS: Final = 300
MAX_WORDS: Final = 24
"""Words of one query; each is compared with every word on the label."""
MAX_EDITS: Final = 3
MAX_TOKENS: Final = 12_000
"""Words read from one image that are searched: as many as the 24,000 characters of ``label-text/1`` can hold, so that a
*no* never rests on words that were skipped. A full page of print has about 600."""
_BARRED: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)
"""Letters whose stroke is no accent to Unicode, but is lost by reading machines all the same."""
_SUFFIX_MIN: Final = 5
_SUFFIX_REST: Final = 4
_PART = re.compile(r'"([^"]*)"(~\d*)?|(\S+)')
_CAMEL = re.compile(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])|(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])(?=\d)")

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLine:
    """One line as read: text, confidence 0..1, box x, y, w, h in pixels of the upright image."""

    text: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """Words that stand together, and how many letters may be wrong in each; None: by length."""

    words: tuple[str, ...]
    edits: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuery:
    """All phrases must be found."""

    phrases: tuple[Phrase, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMatch:
    """Where one phrase was found."""

    text: str
    """As read."""
    line_index: int
    distance: int
    """Wrong letters in all."""
    score: float
    """The lowest confidence of the lines concerned."""
    box: Box


def parse_match(text: str) -> TextQuery:
    """A query as typed.

    Raises:
        MatchError: nothing to look for, or too much.
    """
    if len(text) > MAX_QUERY_CHARS:
        raise MatchError(f"a text query has at most {MAX_QUERY_CHARS} characters")
    if text.count('"') % 2:
        raise MatchError("a quotation mark is not closed")
    phrases: list[Phrase] = []
    for found in _PART.finditer(text):
        quoted, tilde, plain = found.groups()
        if plain is not None:
            quoted, mark, number = plain.rpartition("~")
            if not mark or not (number == "" or number.isdecimal()):
                quoted, tilde = plain, None
            else:
                tilde = "~" + number
        words = tuple(normalise(quoted).split())
        if words:
            phrases.append(Phrase(words=words, edits=_edits(tilde)))
    if not phrases:
        raise MatchError("there is no word in this text query")
    if sum(len(phrase.words) for phrase in phrases) > MAX_WORDS:
        raise MatchError(f"a text query has at most {MAX_WORDS} words")
    return TextQuery(phrases=tuple(dict.fromkeys(phrases)), text=text)


def match_lines(query: TextQuery, lines: Sequence[TextLine]) -> list[TextMatch]:
    """Matches of every phrase, best first; empty unless every phrase was found."""
    runs = list(_runs(lines))
    found: list[TextMatch] = []
    for phrase in query.phrases:
        matches = [match for run in runs for match in _find(phrase, run, lines)]
        if not matches:
            return []
        found.extend(_best_per_line(matches))
    return sorted(found, key=lambda match: (match.distance, -match.score, match.line_index))


def normalise(text: str) -> str:
    """Letters and digits in lower case without accents, everything else a blank."""
    folded = unicodedata.normalize("NFKD", text).casefold().translate(_BARRED)
    return "".join(char if char.isalnum() else " " for char in folded if not unicodedata.combining(char))


def _edits(tilde: str | None) -> int | None:
    if tilde is None:
        return 0
    if tilde == "~":
        return None
    number = int(tilde[1:][:3])
    if number > MAX_EDITS:
        raise MatchError(f"at most {MAX_EDITS} wrong letters per word")
    return number


def _allowed(word: str, edits: int | None) -> int:
    if len(word) < 4:
        return 0
    return len(word) // 5 if edits is None else min(edits, len(word) // 3)


@dataclass(frozen=True, slots=True)
class _Token:
    word: str
    line: int


def _tokens(line: TextLine, index: int) -> list[_Token]:
    words: list[_Token] = []
    for raw in line.text.split():
        words.extend(_Token(word, index) for word in normalise(raw).split())
    return words


def _split_tokens(line: TextLine, index: int) -> list[_Token]:
    return [
        _Token(word, index)
        for raw in line.text.split()
        for part in _CAMEL.split(raw)
        for word in normalise(part).split()
    ]


def _runs(lines: Sequence[TextLine]) -> Iterator[list[_Token]]:
    """Sequences of words in which a phrase may stand: each line, alone and continued below and to the right."""
    budget = MAX_TOKENS
    single = [_tokens(line, index) for index, line in enumerate(lines)]
    for index, line in enumerate(lines):
        budget -= len(single[index])
        if budget < 0:
            return
        yield single[index]
        split = _split_tokens(line, index)
        if len(split) != len(single[index]):
            yield split
        for following in (_below(index, lines), _right(index, lines)):
            if following is not None:
                yield single[index] + single[following]


def _below(index: int, lines: Sequence[TextLine]) -> int | None:
    x, y, w, h = lines[index].box
    best: tuple[int, int] | None = None
    for other, line in enumerate(lines):
        ox, oy, ow, _ = line.box
        gap = oy - (y + h)
        overlaps = min(x + w, ox + ow) - max(x, ox) > 0
        if other != index and overlaps and -h // 2 <= gap <= 2 * h and oy > y and (best is None or gap < best[0]):
            best = (gap, other)
    return None if best is None else best[1]


def _right(index: int, lines: Sequence[TextLine]) -> int | None:
    x, y, w, h = lines[index].box
    best: tuple[int, int] | None = None
    for other, line in enumerate(lines):
        ox, oy, _, oh = line.box
        gap = ox - (x + w)
        same_row = min(y + h, oy + oh) - max(y, oy) > min(h, oh) // 2
        if other != index and same_row and -h <= gap <= 4 * h and ox > x and (best is None or gap < best[0]):
            best = (gap, other)
    return None if best is None else best[1]


def _find(phrase: Phrase, run: Sequence[_Token], lines: Sequence[TextLine]) -> Iterator[TextMatch]:
    size = len(phrase.words)
    for start in range(len(run)):
        window = run[start : start + size]
        distance = _distance_of_words(phrase, window) if len(window) == size else None
        if distance is not None:
            yield _match(window, distance, lines)
            continue
        joined = _distance_joined(phrase, run, start)
        if joined is not None:
            length, distance = joined
            yield _match(run[start : start + length], distance, lines)


def _distance_of_words(phrase: Phrase, window: Sequence[_Token]) -> int | None:
    total = 0
    for want, token in zip(phrase.words, window, strict=True):
        limit = _allowed(want, phrase.edits)
        if abs(len(want) - len(token.word)) > limit:
            return None
        distance = OSA.distance(want, token.word, score_cutoff=limit)
        if distance > limit:
            return None
        total += distance
    return total


def _distance_joined(phrase: Phrase, run: Sequence[_Token], start: int) -> tuple[int, int] | None:
    """Lost or added blanks: the phrase's letters against the letters of one or more words."""
    want = "".join(phrase.words)
    limit = sum(_allowed(word, phrase.edits) for word in phrase.words)
    if len(want) < _SUFFIX_MIN:
        return None
    have = ""
    for length in range(1, len(phrase.words) + 2):
        if start + length > len(run):
            return None
        have += run[start + length - 1].word
        if len(have) > 4 * len(want) + 40:
            return None
        if have == want:
            return length, 0
        if length != len(phrase.words):
            distance = _aligned(phrase, have, limit)
            if distance is not None:
                return length, distance
        if length == 1 and len(have) >= len(want) + _SUFFIX_REST and have[-len(want)] == want[0]:
            distance = _aligned(phrase, have[-len(want) :], limit)
            if distance is not None:
                return 1, distance
    return None


def _aligned(phrase: Phrase, letters: str, limit: int) -> int | None:
    """Wrong letters when ``letters`` is the phrase without blanks, each word within its own limit; None: it is not.

    Without the limit per word, "HerbariumMartius" would pass for "Herbarium Martii" with one wrong letter per word.
    """
    want = "".join(phrase.words)
    if abs(len(letters) - len(want)) > limit or OSA.distance(want, letters, score_cutoff=limit) > limit:
        return None
    ends = {0: 0}
    for word in phrase.words:
        allowed = _allowed(word, phrase.edits)
        following: dict[int, int] = {}
        for start, spent in ends.items():
            for end in range(start + len(word) - allowed, min(start + len(word) + allowed, len(letters)) + 1):
                distance = OSA.distance(word, letters[start:end], score_cutoff=allowed)
                if distance <= allowed:
                    following[end] = min(following.get(end, limit), spent + distance)
        ends = following
    return ends.get(len(letters))


def _match(window: Sequence[_Token], distance: int, lines: Sequence[TextLine]) -> TextMatch:
    indices = sorted({token.line for token in window})
    chosen = [lines[index] for index in indices]
    left, top = min(line.box[0] for line in chosen), min(line.box[1] for line in chosen)
    right = max(line.box[0] + line.box[2] for line in chosen)
    bottom = max(line.box[1] + line.box[3] for line in chosen)
    return TextMatch(
        text=" / ".join(line.text for line in chosen),
        line_index=indices[0],
        distance=distance,
        score=min(line.score for line in chosen),
        box=(left, top, right - left, bottom - top),
    )


def _best_per_line(matches: Sequence[TextMatch]) -> list[TextMatch]:
    best: dict[int, TextMatch] = {}
    for match in matches:
        known = best.get(match.line_index)
        if known is None or (match.distance, len(match.text)) < (known.distance, len(known.text)):
            best[match.line_index] = match
    return list(best.values())
