"""Whether a row falls under the list of sensitive taxa: by its names, and by where it says it is from.

A taxon is named as people name it, with or without its author, in any case, with synonyms beside it; a rule may hold
in some countries or states only.

Invariants:
- In doubt a row is sensitive: a place that was told cannot be taken back. A name of which we cannot tell whether it
  is the listed one, and a row of which we cannot tell whether it lies in the region, fall under the rule.
- Of several rules that apply, the strictest category counts.

It leaves out: how a list is written (``linkeddata.sensitive_list``), what is then not said (``linkeddata.sensitive``),
and telling that two names are synonyms when the list does not say so.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_NAME_TERMS: Final = (
    "dwc:scientificName", "dwc:acceptedNameUsage", "dwc:originalNameUsage", "dwc:typifiedName", "dwc:parentNameUsage",
    "dwc:species", "gbif:species", "http://rs.gbif.org/terms/1.0/species", "http://rs.gbif.org/terms/1.0/acceptedScientificName",
    "http://rs.gbif.org/terms/1.0/verbatimScientificName",
)  # fmt: skip
_PROSE_TERMS: Final = (
    "dwc:verbatimIdentification", "dwc:previousIdentifications", "dwc:associatedTaxa", "dwc:identificationRemarks",
)  # fmt: skip
"""Terms in which names stand among other words; what grew beside a sensitive plant tells its place."""
MAX_PROSE_WORDS: Final = 200
_BRACKETS: Final = str.maketrans("()|;", "    ")
_MARKS: Final = frozenset(
    "cf cf. aff aff. x ssp ssp. subsp subsp. var var. subvar subvar. f f. fo fo. forma form form."
    " nothosubsp nothosubsp. nothovar nothovar. nothosp nothosp. nothof. agg agg. sect sect. subg subg. s.l s.l."
    " s.str s.str. nr nr. sp sp. spec spec. group gr gr. cv cv. prol prol. convar convar. morph morph. sensu".split()
)
"""Words of a name that do not change which taxon is meant, or that only say how sure somebody was."""
_RANK_MARKS: Final = frozenset(
    "ssp ssp. subsp subsp. var var. subvar subvar. f f. fo fo. forma form form. nothosubsp nothosubsp. nothovar"
    " nothovar. convar convar. prol prol. morph morph.".split()
)
_OF_AUTHORS: Final = frozenset(
    "ex et and in non nec auct emend apud pro de van von der den la le du da dos del di d bis ter sensu hort".split()
)
"""Words in lower case that stand among the names of authors."""
_SIGNS: Final = "?,;:[]\"'†`´‘’“”.*+"
_LIGATURES: Final = str.maketrans({"æ": "ae", "œ": "oe", "ß": "ss", "ø": "o", "ł": "l", "_": " ", "✕": "×"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitiveRule:
    """A taxon whose places are not told."""

    term: str
    """``dwc:scientificName``, ``dwc:genus``, ..."""
    value: str
    category: int
    """Of Chapman 2020: 1 no place, 2 to 0.1 degree, 3 to 0.01, 4 to 0.001."""
    synonyms: tuple[str, ...] = ()
    region: str = ""
    """``DE | Germany | AT/Tirol``: countries by code or name, with or without a state; empty: everywhere."""
    reason: str = ""
    """Said to everybody who meets the record."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.value, *self.synonyms)


@dataclass(frozen=True, slots=True)
class SensitiveTaxa:
    """A list, ready to be asked about millions of rows: a row costs as much as it has names, not as there are rules."""

    rules: tuple[SensitiveRule, ...]
    _by_word: Mapping[str, tuple[tuple[tuple[str, ...], SensitiveRule], ...]] = field(repr=False)
    _by_value: Mapping[tuple[str, tuple[str, ...]], tuple[SensitiveRule, ...]] = field(repr=False)
    _terms: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, rules: Iterable[SensitiveRule]) -> "SensitiveTaxa":
        """Prepares a list."""
        kept = tuple(rules)
        by_word: dict[str, list[tuple[tuple[str, ...], SensitiveRule]]] = {}
        by_value: dict[tuple[str, tuple[str, ...]], list[SensitiveRule]] = {}
        for rule in kept:
            for name in rule.names:
                wanted = listed_words(name)
                if not wanted:
                    continue
                by_value.setdefault((rule.term, wanted), []).append(rule)
                by_word.setdefault(wanted[0], []).append((wanted, rule))
        return cls(
            kept,
            {word: tuple(found) for word, found in by_word.items()},
            {value: tuple(found) for value, found in by_value.items()},
            frozenset(term for term, _ in by_value),
        )

    def find(self, fields: Mapping[str, str]) -> SensitiveRule | None:
        """The strictest rule that applies to a row; None when it is not sensitive.

        - A name matches with or without authorship and infraspecific part, in every term that holds a name, with the
          signs of doubt and hybrids left out (``Cypripedium cf. calceolus``), and as a parent of a hybrid.
        - A genus matches its own term and the first word of every name; a family, order or class its own term; all
          of them match ``dwc:higherClassification`` too.
        """
        if not self.rules:
            return None
        found = [rule for rule in self._named(fields) if in_region(fields, rule.region)]
        return min(found, key=lambda rule: rule.category, default=None)

    def _named(self, fields: Mapping[str, str]) -> Iterator[SensitiveRule]:
        for term in self._terms:
            for words in _values(fields.get(term, "")):
                yield from self._by_value.get((term, words), ())
        for name in _names(fields):
            for wanted, rule in self._candidates(name[0]):
                if rule.term in ("dwc:scientificName", "dwc:genus") and _fits(wanted, name):
                    yield rule
        for word in _words(fields.get("dwc:higherClassification", "").replace("|", " ").replace(";", " ")):
            for wanted, rule in self._by_word.get(word, ()):
                if len(wanted) == 1 and rule.term != "dwc:scientificName":
                    yield rule

    def _candidates(self, word: str) -> Iterator[tuple[tuple[str, ...], SensitiveRule]]:
        yield from self._by_word.get(word, ())
        if len(word) > 3 and word[0] == "x":  # "xOrchiaceras" for "×Orchiaceras"
            yield from self._by_word.get(word[1:], ())


def listed_words(name: str) -> tuple[str, ...]:
    """The words of a listed name that say which taxon it is: without authors, marks of rank, doubt and hybrids.

    Upper and lower case tell epithets from authors; in a name that is all upper or all lower case every word up to
    the second counts, and what follows a mark of rank.
    """
    cleaned = _fold(name, keep_case=True).replace("×", " ")
    has_case = any(char.isupper() for char in cleaned) and any(char.islower() for char in cleaned)
    found: list[str] = []
    is_open, depth = True, 0
    for word in cleaned.split():
        opened, closed = word.count("("), word.count(")")
        inside = depth > 0 or opened > 0
        depth = max(0, depth + opened - closed)
        bare = word.strip(_SIGNS + "()").lower()
        if word.lower() in _RANK_MARKS and found:
            is_open = True
            continue
        if inside or not bare or word.lower() in _MARKS or bare == "x":
            continue
        if not found:
            found.append(bare)
            continue
        is_epithet = word == word.lower() and "." not in word if has_case else len(found) < 2 or is_open
        plain = bare.replace("-", "")  # "7-punctata" is an epithet, "1753" is none
        if not is_open or not is_epithet or bare in _OF_AUTHORS or not plain.isalnum() or plain.isdecimal():
            is_open = False
            continue
        found.append(bare)
        if not has_case and len(found) >= 2:
            is_open = False
    return tuple(found)


def in_region(fields: Mapping[str, str], region: str) -> bool:
    """Whether a row may lie in a region: True unless it says clearly that it does not.

    A code is compared with ``dwc:countryCode``, a name with ``dwc:country``; a row that lacks what would decide lies
    inside. So a region is best written with the code and every spelling of the name.
    """
    parts = region_parts(region)
    if not parts:
        return True
    code, country = _plain(fields.get("dwc:countryCode", "")), _plain(fields.get("dwc:country", ""))
    state = _plain(fields.get("dwc:stateProvince", ""))
    codes = {item for item, _ in parts if len(item) == 2}
    names = {item for item, _ in parts if len(item) != 2}
    code = code if len(code) == 2 else ""
    if len(country) == 2 and not code:
        code, country = country, ""
    by_code = code in codes if code and codes else None
    by_name = country in names if country and names else None
    if by_code is None and by_name is None:
        fitting = parts  # nothing to compare: in doubt inside, whatever the state says of it below
    elif by_code or by_name:
        fitting = tuple(item for item in parts if item[0] in (code, country))
    else:
        return False
    states = {item for _, item in fitting}
    return "" in states or not state or state in states


def region_parts(region: str) -> tuple[tuple[str, str], ...]:
    """``DE | Germany/Bayern`` as pairs of country and state, folded."""
    found: list[tuple[str, str]] = []
    for part in region.split("|"):
        if part.strip():
            country, _, state = part.partition("/")
            found.append((_plain(country), _plain(state)))
    return tuple(found)


def _fits(wanted: tuple[str, ...], name: tuple[str, ...]) -> bool:
    """Whether a name is of the wanted taxon: genus and species stand together, then there may be authors between."""
    position = 0
    for index, word in enumerate(wanted):
        while position < len(name) and name[position] not in (word, "x" + word):
            if index < 2:
                return False
            position += 1
        if position == len(name):
            return False
        position += 1
    return True


def _names(fields: Mapping[str, str]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for term in _NAME_TERMS:
        if fields.get(term):
            found += _hybrid_parts(fields[term])
    for term in _PROSE_TERMS:
        words = _words(fields.get(term, "").translate(_BRACKETS))[:MAX_PROSE_WORDS]
        found += [words[start:] for start in range(len(words))]
    epithets = [fields.get(term, "") for term in ("dwc:specificEpithet", "dwc:infraspecificEpithet")]
    for genus in (fields.get("dwc:genus", ""), fields.get("dwc:genericName", "")):
        words = _words(" ".join((genus, *epithets)))
        if genus and words:
            found.append(words)
    return found


def _hybrid_parts(text: str) -> list[tuple[str, ...]]:
    """A name, and of a hybrid formula (``Orchis mascula × O. pallens``) each parent, its genus written out."""
    whole = _words(text)
    found = [whole] if whole else []
    parts = _fold(text).replace(" x ", " × ").split(" × ")
    genus = whole[0] if whole else ""
    for part in parts[1:]:
        words = _words(part)
        if not words:
            continue
        if len(words[0]) <= 2 and genus.startswith(words[0].rstrip(".")):
            found.append((genus, *words[1:]))
        else:
            found += [words, (genus, *words)]
    return found


def _values(text: str) -> list[tuple[str, ...]]:
    """What a term may name: the whole of it, and its first word (a family with its author)."""
    words = _words(text)
    return [words, words[:1]] if len(words) > 1 else [words] if words else []


def _words(text: str) -> tuple[str, ...]:
    """Words of a name without those that do not change which taxon is meant: doubt, hybrid signs, what is in ()."""
    if not text:
        return ()
    found: list[str] = []
    depth = 0
    for word in _fold(text).replace("×", " ").split():
        opened, closed = word.count("("), word.count(")")
        inside = depth > 0 or word.startswith("(")
        depth = max(0, depth + opened - closed)
        bare = word.strip(_SIGNS)
        if bare and not inside and word not in _MARKS and bare not in _MARKS:
            found.append(bare)
    return tuple(found)


def _fold(text: str, *, keep_case: bool = False) -> str:
    """Without accents, ligatures, invisible characters, and case."""
    text = text if keep_case else text.casefold()
    decomposed = unicodedata.normalize("NFKD", text.translate(_LIGATURES))
    kept = (char for char in decomposed if not unicodedata.combining(char) and unicodedata.category(char) != "Cf")
    return "".join(kept).translate(_LIGATURES)


def _plain(text: str) -> str:
    return " ".join(_fold(text).replace(".", " ").split())
