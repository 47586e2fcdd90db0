"""What a record says about its taxon and itself: name, rank, basis of record, type status, count.

Names are taken apart by ``linkeddata.names``; here they are only compared with the other terms.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from linkeddata.issues import Issue, issue
from linkeddata.names import NameParser, NameParts

BASES: Final = frozenset(
    "preservedspecimen fossilspecimen livingspecimen materialsample materialentity materialcitation humanobservation "
    "machineobservation observation occurrence event taxon".split()
)
"""Darwin Core's class names, as GBIF accepts them, without blanks and case."""
TYPES: Final = frozenset(
    "type holotype isotype syntype isosyntype lectotype isolectotype paralectotype neotype isoneotype paratype "
    "isoparatype allotype alloparatype alloneotype allolectotype epitype isoepitype topotype hypotype plesiotype "
    "plastotype plastoholotype plastoisotype plastolectotype plastoneotype plastoparatype plastosyntype cotype "
    "hapantotype ergatotype iconotype originalmaterial secondarytype supplementarytype typegenus typeseries "
    "typespecies exholotype exepitype exisotype exlectotype exneotype exparatype exsyntype extype clonotype "
    "schizoholotype "
    "schizotype syntypoid paraneotype supertype merotype nottype notatype".split()
)
"""GBIF's vocabulary TypeStatus with the older words that GBIF maps to it."""
_DOUBT: Final = re.compile(r"\?|\b(?:possible|possibly|probable|probably|presumed|suspected|potential|cf)\b", re.ASCII)
_NOT_LETTERS: Final = re.compile(r"[^a-z]+")
SPECIES_RANKS: Final = frozenset(
    "species subspecies variety subvariety form subform infraspecificname infrasubspecificname cultivar race "
    "aggregate speciesaggregate speciescomplex morph aberration formaspecialis convariety microspecies strain".split()
)
INFRASPECIFIC: Final = SPECIES_RANKS - {"species", "aggregate", "speciesaggregate", "speciescomplex", "microspecies"}
HIGHER: Final = frozenset(
    "domain superkingdom kingdom subkingdom infrakingdom superphylum phylum subphylum infraphylum superclass class "
    "subclass infraclass parvclass superorder order suborder infraorder parvorder superfamily family subfamily "
    "infrafamily tribe subtribe supertribe genus genusgroup subgenus section subsection series subseries division "
    "subdivision legion cohort subcohort epifamily magnorder superlegion suprageneric infragenus".split()
)
UNTOLD: Final = frozenset({"unranked", "unknown", "other", "clade", "informal", "hybrid", "nothospecies", "notranked"})
_SHORT: Final[Mapping[str, str]] = {
    "sp": "species", "ssp": "subspecies", "subsp": "subspecies", "var": "variety", "varietas": "variety", "f": "form",
    "fo": "form", "forma": "form", "gen": "genus", "fam": "family", "familia": "family", "ord": "order", "cl": "class",
    "classis": "class", "ordo": "order", "regnum": "kingdom", "art": "species", "gattung": "genus",
    "familie": "family", "unterart": "subspecies", "subvar": "subvariety", "subf": "subform", "subg": "subgenus",
    "sect": "section", "cv": "cultivar", "agg": "aggregate", "infraspecies": "infraspecificname",
}  # fmt: skip


def check_taxa(fields: Mapping[str, str], names: NameParser) -> Iterator[Issue]:
    """Issues of what the specimen is."""
    basis = fields.get("dwc:basisOfRecord", "")
    if _letters(basis.rsplit("/", 1)[-1]) not in BASES:
        yield issue("BASIS_OF_RECORD_INVALID", f"basisOfRecord {basis or 'empty'}")
    status = fields.get("dwc:typeStatus", "")
    if status:
        yield from _check_type(status)
    count = fields.get("dwc:individualCount", "")
    if count and not (count.isascii() and count.removesuffix(".0").isdecimal()):
        yield issue("INDIVIDUAL_COUNT_INVALID", f"individualCount {count}")
    rank_text = fields.get("dwc:taxonRank", "")
    rank = rank_of(rank_text)
    if rank_text and rank is None:
        yield issue("RANK_INVALID", f"taxonRank {rank_text}")
    name = fields.get("dwc:scientificName", "")
    if name:
        yield from _check_name(name, names.parse(name, code_of(fields)), fields, rank or "")


def code_of(fields: Mapping[str, str]) -> str:
    """The parser's word for the nomenclatural code; empty when the record does not say."""
    kingdom = fields.get("dwc:kingdom", "").strip().lower()
    return {"plantae": "BOTANICAL", "fungi": "BOTANICAL", "animalia": "ZOOLOGICAL"}.get(kingdom, "")


def rank_of(text: str) -> str | None:
    """The rank that a word means, in lower case; empty for one that says nothing; None for an unknown word."""
    word = _letters(text.rsplit("/", 1)[-1])
    word = _SHORT.get(word, word)
    if word in UNTOLD or not text:
        return ""
    return word if word in SPECIES_RANKS or word in HIGHER else None


def _check_type(text: str) -> Iterator[Issue]:
    lowered = text.lower()
    if _DOUBT.search(lowered):
        yield issue("SUSPECTED_TYPE", f"typeStatus {text}")
    for part in re.split(r"[|;]", lowered):
        head = re.split(r"\bof\b|\bfor\b|[:(,]", part, maxsplit=1)[0]
        word = _letters(_DOUBT.sub(" ", head))
        first = _letters(_DOUBT.sub(" ", part).split()[0]) if _DOUBT.sub(" ", part).split() else ""
        if word not in TYPES and first not in TYPES:
            yield issue("TYPE_STATUS_INVALID", f"typeStatus {text}")
            return


def _check_name(name: str, parts: NameParts, fields: Mapping[str, str], rank: str) -> Iterator[Issue]:
    if parts.state == "unparsable":
        yield issue("UNPARSABLE", f"scientificName {name}")
    elif parts.state == "partial":
        yield issue("PARTIALLY_PARSABLE", f"scientificName {name}: not understood {parts.rest!r}")
    if parts.state not in ("parsed", "partial"):
        return
    if rank and _contradicts(rank, parts):
        yield issue("TAXON_RANK_MISMATCH", f"taxonRank {fields.get('dwc:taxonRank', '')}, scientificName {name}")
    for term, found in (
        ("dwc:genus", parts.genus), ("dwc:specificEpithet", parts.species),
        ("dwc:infraspecificEpithet", parts.infraspecies),
    ):  # fmt: skip
        said = fields.get(term, "")
        first = said.split()[0] if term == "dwc:genus" and said.strip() else said  # genera come with authors, too
        if found and said and _epithet(first) != _epithet(found):
            yield issue("NAME_PARTS_MISMATCH", f"{term.partition(':')[2]} {said}, scientificName {name}")
            return


def _contradicts(rank: str, parts: NameParts) -> bool:
    """Whether a name of this form cannot have this rank."""
    if parts.infraspecies:
        return rank not in INFRASPECIFIC
    if parts.species:
        return rank in HIGHER or rank in INFRASPECIFIC - {"cultivar", "strain"}
    return rank in SPECIES_RANKS - {"cultivar", "strain"}


def _epithet(text: str) -> str:
    """An epithet for comparison: without hybrid sign, case, hyphens and accents of older spellings."""
    lowered = text.strip().lower().replace("×", "").removeprefix("x ").replace("æ", "ae").replace("œ", "oe")
    for old, new in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ë", "e"), ("ï", "i"), ("é", "e"), ("è", "e")):
        lowered = lowered.replace(old, new)
    return _NOT_LETTERS.sub("", lowered)


def _letters(text: str) -> str:
    return _NOT_LETTERS.sub("", text.lower())
