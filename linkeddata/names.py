"""Scientific names, taken apart by GBIF's own parser (the Rust core of gbif-name-parser; no network).

The module is the only one that knows the library, whose import name ``nameparser`` is also that of a library for
names of people: ``load`` says so when the wrong one is installed.

It leaves out: whether a name is accepted, or exists at all.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Literal

CACHE_NAMES: Final = 50_000
"""Names kept taken apart: collections repeat theirs, and parsing one takes a tenth of a millisecond."""
MAX_NAME_CHARS: Final = 500
"""Longer texts are no names; the longest hybrid formulas have some 200 characters."""
State = Literal["parsed", "partial", "informal", "not-a-name", "unparsable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NameParts:
    """What the parser made of a name."""

    state: State
    """``informal``: *Carex sp. 1*.

    ``not-a-name``: viruses, hybrid formulas, BOLD numbers, which are not parsed by design.
    """
    canonical: str = ""
    """Without authorship and marks."""
    rank: str = ""
    """Upper case, as GBIF writes it: SPECIES, SUBSPECIES, GENUS, UNRANKED."""
    genus: str = ""
    species: str = ""
    infraspecies: str = ""
    authorship: str = ""
    rest: str = ""
    """What was not understood."""


class NameParser:
    """The parser with a memory of what it has seen."""

    def __init__(self) -> None:
        self._library: Any = None
        self._known: OrderedDict[tuple[str, str], NameParts] = OrderedDict()

    def parse(self, name: str, code: str = "") -> NameParts:
        """Takes a name apart; never raises.

        Args:
            name: with or without authorship.
            code: the nomenclatural code, ``BOTANICAL`` or ``ZOOLOGICAL``, if it is known.
        """
        key = (name, code)
        found = self._known.get(key)
        if found is None:
            found = self._parse(name.strip(), code)
            self._known[key] = found
            if len(self._known) > CACHE_NAMES:
                self._known.popitem(last=False)
        return found

    def _parse(self, name: str, code: str) -> NameParts:
        if not name or len(name) > MAX_NAME_CHARS:
            return NameParts(state="unparsable", rest=name[:60])
        if self._library is None:
            self._library = load()
        library = self._library
        try:
            found = library.parse(name, None, None, code or None)
        except library.UnparsableNameError as error:
            is_other = str(error.name_type) in ("OTHER", "PLACEHOLDER", "NO_NAME", "INFORMAL")
            return NameParts(state="unparsable" if is_other and error.code is None else "not-a-name", rest=name[:60])
        if isinstance(found, library.Informal):
            genus = found.taxon if found.taxon_rank == "GENUS" else ""
            return NameParts(state="informal", canonical=found.canonical_name(), rank=found.rank, genus=genus)
        return NameParts(
            state="partial" if found.state == "PARTIAL" or found.unparsed else "parsed",
            canonical=found.canonical_name_minimal() or "", rank=found.rank, genus=found.genus or "",
            species=found.specific_epithet or "", infraspecies=found.infraspecific_epithet or "",
            authorship=found.authorship_complete() or "", rest=(found.unparsed or "")[:60],
        )  # fmt: skip


def name_runs(name: str, canonical: str) -> tuple[tuple[str, bool], ...]:
    """A name as it is set: pieces of it, and whether each is part of the name proper and stands in italics.

    Authors, years, and words for ranks (*var.*, *subsp.*) stand upright, as the codes and their journals have it.

    Args:
        name: as written, with or without authors.
        canonical: the same without authors and words for ranks; empty: not known, and all of it counts as the name.
    """
    words = canonical.split()
    runs: list[tuple[str, bool]] = []
    at = begin = 0
    for word in words:
        found = _next(name, word, at)
        if found is None:
            return ((name, True),)  # written otherwise: nobody knows which part is which
        if name[at:found].strip() or not runs:
            runs += [(name[at:found], False), (word, True)]
            begin = found
        else:
            runs[-1] = (name[begin : found + len(word)], True)
        at = found + len(word)
    runs.append((name[at:], not words))
    return tuple(run for run in runs if run[0])


def _next(name: str, word: str, at: int) -> int | None:
    """Where a whole word stands next."""
    while (at := name.find(word, at)) >= 0:
        before, after = name[at - 1 : at] if at else "", name[at + len(word) :][:1]
        if not (before.isalnum() or after.isalnum() or after == "."):
            return at
        at += 1
    return None


def load() -> Any:
    """The library.

    Raises:
        ImportError: it is missing, or another library of the same import name is there.
    """
    import nameparser

    library: Any = nameparser
    if not hasattr(library, "UnparsableNameError"):
        raise ImportError("the module nameparser is not GBIF's: uninstall nameparser, reinstall gbif-name-parser")
    return library
