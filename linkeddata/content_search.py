"""IIIF Content Search 2.0 over what was read from the images of one specimen.

https://iiif.io/api/search/2.0/. A query is a list of words. A picture is found when it holds all of them; the
annotations that hold at least one are its hits. A word fits wherever it stands, also inside a longer one, because
reading machines lose blanks; case and accents do not matter.

Invariants:
- Pure; it sees only the regions that it is given, which the caller has decided may be seen by the one who asks.
- ``exact`` is what stands in the annotation, not what was asked.

It leaves out: users and dates (``ignored`` says so), paging by relevance: hits come in the order of the canvases.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from linkeddata.json_strict import Json
from linkeddata.presentation import (
    ShownMedium,
    ShownRegion,
    ShownSpecimen,
    build_annotation,
    canvas_id,
    manifest_id,
)

SEARCH_CONTEXT: Final = "http://iiif.io/api/search/2/context.json"
MAX_WORDS: Final = 16
MAX_QUERY_CHARS: Final = 300
PAGE: Final = 200
"""Annotations in one answer; a full sheet of labels has fewer."""
AROUND: Final = 30
"""Characters that are shown before and after a match."""
_MOTIVATIONS: Final = frozenset({"supplementing", "commenting"})
"""Of every annotation that there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked."""

    q: str
    motivation: str = ""
    ignored: tuple[str, ...] = ()
    """Parameters of the standard that were given and are not understood here."""
    start: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """The words, folded; without repetition."""
        return tuple(dict.fromkeys(word for word in fold(self.q)[0].split() if word))[:MAX_WORDS]


def build_search_page(shown: ShownSpecimen, question: Question, origin: str) -> dict[str, Json]:
    """The answer to one question: a page of annotations, with the matches beside them."""
    found = _find(shown, question)
    address = f"{origin}/iiif/search/2/specimen/{shown.id}"
    query = f"q={quote(question.q, safe='')}"
    if question.motivation:
        query += f"&motivation={quote(question.motivation, safe='')}"
    manifest, base = manifest_id(origin, shown.id), f"{address}?{query}"
    here = base + (f"&start={question.start}" if question.start else "")
    part = found[question.start : question.start + PAGE]
    document: dict[str, Json] = {
        "@context": SEARCH_CONTEXT, "id": here, "type": "AnnotationPage",
        "startIndex": question.start,
        "partOf": {"id": f"{base}#all", "type": "AnnotationCollection", "total": len(found),
                   "first": {"id": base, "type": "AnnotationPage"}},
        "items": [
            build_annotation(region, canvas_id(origin, shown.id, medium.id), manifest) for medium, region in part
        ],
    }  # fmt: skip
    if question.ignored:
        document["ignored"] = list(question.ignored)
    if question.start + PAGE < len(found):
        document["next"] = {"id": f"{base}&start={question.start + PAGE}", "type": "AnnotationPage"}
    if question.start:
        before = max(0, question.start - PAGE)
        document["prev"] = {"id": base + (f"&start={before}" if before else ""), "type": "AnnotationPage"}
    marks = [mark for _, region in part for mark in _marks(region, question.words, base)]
    if marks:
        document["annotations"] = [{"id": f"{here}#matches", "type": "AnnotationPage", "items": marks}]
    return document


def fold(text: str) -> tuple[str, list[int]]:
    """The text without case and accents, and for each of its characters the place it comes from."""
    folded: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        for part in unicodedata.normalize("NFKD", char).casefold():
            if not unicodedata.combining(part):
                folded.append(part)
                places.append(place)
    return "".join(folded), places


def _find(shown: ShownSpecimen, question: Question) -> list[tuple[ShownMedium, ShownRegion]]:
    wanted = question.motivation.split()
    if wanted and not _MOTIVATIONS & set(wanted):
        return []
    words = question.words
    if question.q.strip() and not words:
        return []
    found: list[tuple[ShownMedium, ShownRegion]] = []
    for medium in shown.media:
        texts = [(region, fold(region.text)[0]) for region in medium.regions if region.text]
        if all(any(word in text for _, text in texts) for word in words):
            found += [(medium, item) for item, text in texts if not words or any(word in text for word in words)]
    return found


def _marks(region: ShownRegion, words: Sequence[str], base: str) -> list[Json]:
    """Where the words stand in an annotation; matches that overlap are one."""
    text, places = fold(region.text)
    spans: list[tuple[int, int]] = []
    for word in words:
        start = text.find(word)
        while start >= 0:
            spans.append((places[start], places[start + len(word) - 1] + 1))
            start = text.find(word, start + len(word))
    joined: list[tuple[int, int]] = []
    for first, end in sorted(spans):
        if joined and first < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    name = region.annotation.rpartition("/")[2]
    return [
        {
            "id": f"{base}#match-{name}-{region.number}-{number}", "type": "Annotation", "motivation": "highlighting",
            "target": {
                "type": "SpecificResource", "source": f"{region.annotation}#region-{region.number}",
                "selector": [
                    {"type": "TextQuoteSelector", "prefix": region.text[max(0, first - AROUND) : first],
                     "exact": region.text[first:end], "suffix": region.text[end : end + AROUND]}
                ],
            },
        }
        for number, (first, end) in enumerate(joined, 1)
    ]  # fmt: skip
