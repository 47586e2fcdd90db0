"""One unit of an ABCD document as Darwin Core terms: what each element means, and what is kept that means nothing here.

ABCD 2.06 and 2.1 (TDWG, http://www.tdwg.org/schemas/abcd/2.06 and ../2.1; element names below are those of
ABCD_2.06.xsd). The terms are the ones that Darwin Core Archives give, so that everything after is the same.

Invariants:
- Pure. Blanks are collapsed, as the schema's type ``String`` does; no value is corrected. Words of ABCD's own
  vocabularies (``FossileSpecimen``, ``M``, ``familia``, ``subsp.``) become those of Darwin Core.
- Every element with text that has no term is kept under the address of its concept, as TAPIR and BioCASe name them:
  the namespace, ``/DataSets/DataSet/Units/Unit/`` and the path; a repeated element has its number, ``Mark[2]``.
- The licence of a data set or a unit is that of the record; an image has only what its own ``IPR`` says.
- A negative identification (``NonFlag``) names nothing.

It leaves out: reading documents (``linkeddata.abcd``), images of the collecting site (kept as text), sounds and films.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from linkeddata.dwca_media import merge_media, read_medium
from linkeddata.dwca_meta import DwcaError
from linkeddata.licences import normalise_licence
from linkeddata.source import SourceMedia

MAX_KEPT: Final = 2000
"""Elements of one unit that are kept without a term; real units have dozens."""
UNIT_CONCEPT: Final = "/DataSets/DataSet/Units/Unit/"
JOINED: Final = " | "
"""Between values of one term, as Darwin Core recommends."""

_PLAIN: Final[Mapping[str, str]] = {
    "UnitGUID": "dwc:occurrenceID", "SourceInstitutionID": "dwc:institutionCode", "SourceID": "dwc:collectionCode",
    "UnitID": "dwc:catalogNumber", "DateLastEdited": "dcterms:modified", "RecordURI": "dcterms:references",
    "CollectorsFieldNumber": "dwc:recordNumber", "Notes": "dwc:occurrenceRemarks",
    "Gathering/Code": "dwc:eventID", "Gathering/DateTime/DateText": "dwc:verbatimEventDate",
    "Gathering/DateTime/TimeOfDayBegin": "dwc:eventTime", "Gathering/DateTime/DayNumberBegin": "dwc:startDayOfYear",
    "Gathering/DateTime/DayNumberEnd": "dwc:endDayOfYear", "Gathering/Method": "dwc:samplingProtocol",
    "Gathering/EstablishmentMeans": "dwc:establishmentMeans", "Gathering/LocalityText": "dwc:locality",
    "Gathering/Notes": "dwc:eventRemarks",
}  # fmt: skip
"""Path of an element in the unit -> term, where nothing has to be decided."""
_BASES: Final = {"FossileSpecimen": "FossilSpecimen"}
_SEXES: Final = {"M": "male", "F": "female", "U": "undetermined", "X": "mixed", "N": "not applicable"}
_RANKS: Final = {
    "regnum": "dwc:kingdom", "phylum": "dwc:phylum", "divisio": "dwc:phylum", "classis": "dwc:class",
    "ordo": "dwc:order", "superfamilia": "dwc:superfamily", "familia": "dwc:family", "subfamilia": "dwc:subfamily",
    "tribus": "dwc:tribe",
}  # fmt: skip
_NAME_RANKS: Final = {
    "subgen.": "subgenus", "sect.": "section", "subsp.": "subspecies", "var.": "variety", "subvar.": "subvariety",
    "forma": "form", "f.": "form", "subforma": "subform", "subf.": "subform", "f.spec.": "formaSpecialis",
}  # fmt: skip
_ABOVE_SPECIES: Final = frozenset({"subgen.", "sect."})
_CODES: Final = {"Botanical": "ICN", "Zoological": "ICZN", "Bacteriological": "ICNP", "Viral": "ICVCN"}
_AREAS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("continent", "kontinent"), "dwc:continent"),
    **dict.fromkeys(
        ("state", "province", "stateprovince", "federalstate", "bundesland", "region", "firstlevel", "department"),
        "dwc:stateProvince",
    ),
    **dict.fromkeys(("county", "district", "kreis", "landkreis", "secondlevel", "shire"), "dwc:county"),
    **dict.fromkeys(("municipality", "gemeinde", "community", "thirdlevel"), "dwc:municipality"),
    "island": "dwc:island", "insel": "dwc:island", "islandgroup": "dwc:islandGroup",
    **dict.fromkeys(("waterbody", "ocean", "sea", "lake", "river"), "dwc:waterBody"),
}  # fmt: skip
"""``AreaClass``, which is free text, as letters only; everything else goes into ``dwc:higherGeography``."""
_METRES: Final = frozenset({"", "m", "m.", "meter", "meters", "metre", "metres", "masl", "mnn", "münn", "mamsl"})
_NOT_IMAGES: Final = frozenset(
    "mp3 wav ogg flac aiff aif m4a wma avi mpg mpeg mp4 mov wmv mkv webm pdf htm html txt doc docx svg".split()
)
"""Words that ``Format`` has for what is no still image; most say ``jpg`` or ``image/jpeg``."""
_BACTERIAL: Final = "ParentheticalAuthorTeamAndYear"
_TRUE: Final = frozenset({"true", "1"})
_UNKEPT: Final = frozenset({"language", "Language", "lang"})
"""Attributes that say nothing about the specimen."""
_NOT_LETTERS: Final = re.compile(r"[^\w]|[\d_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSetFacts:
    """What a data set says for all of its units."""

    title: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Terms that every unit has unless it says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One unit, read."""

    fields: Mapping[str, str]
    media: tuple[SourceMedia, ...] = ()
    not_images: int = 0
    """Multimedia objects without a file, or that are sounds, films or pages."""
    is_unsure: bool = False
    """Of several identifications none is flagged as preferred; the first was taken."""


class _Reader:
    """An element whose parts are taken one by one; what is left afterwards is known."""

    def __init__(self, element: Element) -> None:
        self.element = element
        self._used: set[int] = set()

    def each(self, path: str, under: Element | None = None) -> list[Element]:
        """Elements at a path of local names."""
        return (self.element if under is None else under).findall(path)

    def take(self, path: str, under: Element | None = None) -> str:
        """The first text at a path, which is then used; empty when there is none."""
        for item in self.each(path, under):
            text = text_of(item)
            if text:
                self._used.add(id(item))
                return text
        return ""

    def take_first(self, paths: tuple[str, ...], under: Element) -> str:
        """The text at the first of some paths that has one."""
        return next((text for path in paths if (text := self.take(path, under))), "")

    def take_all(self, path: str, under: Element | None = None) -> list[str]:
        """Every text at a path; all are then used."""
        items = [item for item in self.each(path, under) if text_of(item)]
        self._used.update(id(item) for item in items)
        return [text_of(item) for item in items]

    def drop(self, path: str, under: Element | None = None) -> None:
        """Uses up what says nothing by itself."""
        self._used.update(id(item) for item in self.each(path, under))

    def flag(self, path: str, under: Element) -> bool:
        """A boolean of XML Schema."""
        return self.take(path, under).lower() in _TRUE

    def rest(self, element: Element | None = None, path: str = "") -> Iterator[tuple[str, str]]:
        """(path, text) of everything that was not taken."""
        numbers: dict[str, int] = {}
        for child in self.element if element is None else element:
            name = local_name(child)
            numbers[name] = number = numbers.get(name, 0) + 1
            place = f"{path}{name}[{number}]" if number > 1 else path + name
            if id(child) not in self._used:
                text = text_of(child)
                if text:
                    yield place, text
                for key, value in child.attrib.items():
                    if value.strip() and not key.startswith("{") and key not in _UNKEPT:
                        yield f"{place}/@{key}", " ".join(value.split())
            if len(child):
                yield from self.rest(child, place + "/")


def local_name(element: Element) -> str:
    """Without its namespace."""
    return str(element.tag).rpartition("}")[2]


def text_of(element: Element) -> str:
    """Its own text, blanks collapsed."""
    return " ".join((element.text or "").split())


def strip_namespace(element: Element, namespace: str) -> None:
    """Takes ABCD's namespace off all names, in place; elements of extensions keep theirs."""
    prefix = f"{{{namespace}}}"
    for item in element.iter():
        if isinstance(item.tag, str):
            item.tag = item.tag.removeprefix(prefix)


def read_data_set(metadata: Element, guid: str) -> DataSetFacts:
    """What ``Metadata`` says for all units; names are local."""
    reader = _Reader(metadata)
    title = reader.take("Description/Representation/Title")
    fields = {"dwc:datasetName": title, "dwc:datasetID": guid, **_rights(reader, "IPRStatements")}
    fields["dcterms:rightsHolder"] = JOINED.join(
        dict.fromkeys(name for owner in reader.each("Owners/Owner") if (name := _contact(reader, owner)))
    )
    return DataSetFacts(title=title, fields={term: text for term, text in fields.items() if text})


def read_unit(element: Element, namespace: str, common: DataSetFacts, country_code: Callable[[str], str]) -> Unit:
    """A unit as terms and media.

    Args:
        element: ``Unit``, its names local.
        namespace: of the document.
        common: what its data set says.
        country_code: two letters for three; as it is when it is none.

    Raises:
        DwcaError: more elements than a unit ever has.
    """
    reader = _Reader(element)
    found: dict[str, str] = {term: reader.take(path) for path, term in _PLAIN.items()}
    found |= _rights(reader, "IPRStatements")
    for owner in reader.each("Owner"):
        found["dcterms:rightsHolder"] = found.get("dcterms:rightsHolder") or _contact(reader, owner)
    basis = reader.take("RecordBasis")
    found["dwc:basisOfRecord"] = _BASES.get(basis, basis)
    sex = reader.take("Sex")
    found["dwc:sex"] = _SEXES.get(sex, sex)
    found |= _specimen(reader)
    unsure = _identifications(reader, found)
    _gathering(reader, found, country_code)
    media, not_images = _media(reader)
    kept = dict(_bounded(reader.rest()))
    base = namespace + UNIT_CONCEPT
    fields = {
        **common.fields, **{term: text for term, text in found.items() if text},
        **{base + path: text for path, text in kept.items()},
    }  # fmt: skip
    return Unit(fields=fields, media=media, not_images=not_images, is_unsure=unsure)


def _bounded(pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for number, pair in enumerate(pairs, start=1):
        if number > MAX_KEPT:
            raise DwcaError(f"a unit has more than {MAX_KEPT} elements that ABCD does not name")
        yield pair


# ---------------------------------------------------------------------- rights and people
def _rights(reader: _Reader, path: str, under: Element | None = None) -> dict[str, str]:
    """Licence and copyright of IPR statements, which stand once for each language."""
    licences = [
        (reader.take("URI", item), reader.take("Text", item), reader.take("Details", item))
        for item in reader.each(f"{path}/Licenses/License", under)
    ]
    # One licence in several languages has one address, and words of which the table may know only some.
    said = [uri for uri, _, _ in licences if uri] or [text or details for _, text, details in licences]
    licence = max(filter(None, said), key=lambda text: normalise_licence(text).access, default="")
    return {
        "dcterms:license": licence,
        "dcterms:rights": reader.take(f"{path}/Copyrights/Copyright/Text", under),
        "dcterms:accessRights": reader.take(f"{path}/TermsOfUseStatements/TermsOfUse/Text", under),
    }


def _contact(reader: _Reader, contact: Element) -> str:
    return reader.take("Organisation/Name/Representation/Text", contact) or reader.take("Person/FullName", contact)


def _agents(reader: _Reader, items: list[Element], paths: tuple[str, ...]) -> str:
    names = [reader.take_first(paths, item) for item in items]
    return JOINED.join(dict.fromkeys(filter(None, names)))


# ---------------------------------------------------------------------- the specimen
def _specimen(reader: _Reader) -> dict[str, str]:
    preparations = reader.take_all("SpecimenUnit/Preparations/Preparation/PreparationType")
    numbers = reader.take_all("SpecimenUnit/Accessions/AccessionNumber")
    numbers += reader.take_all("SpecimenUnit/History/PreviousUnits/PreviousUnit/PreviousUnitID")
    types, names = [], []
    for item in reader.each("SpecimenUnit/NomenclaturalTypeDesignations/NomenclaturalTypeDesignation"):
        status = reader.take("TypeStatus", item)
        if status:
            doubtful = reader.take("DoubtfulFlag", item).lower()
            types.append(status + ("?" if doubtful not in ("", "false", "0", "no") else ""))
        names.append(reader.take("TypifiedName/FullScientificNameString", item))
    stages = reader.take_all("ZoologicalUnit/PhasesOrStages/PhaseOrStage")
    return {
        "dwc:preparations": JOINED.join(preparations or reader.take_all("KindOfUnit")),
        "dwc:otherCatalogNumbers": JOINED.join(numbers),
        "dwc:verbatimLabel": JOINED.join(reader.take_all("SpecimenUnit/Marks/Mark/MarkText")),
        "dwc:typeStatus": JOINED.join(dict.fromkeys(types)),
        "dwc:typifiedName": JOINED.join(dict.fromkeys(filter(None, names))),
        "dwc:lifeStage": JOINED.join(stages) or reader.take("Age"),
    }


# ---------------------------------------------------------------------- what it is
def _identifications(reader: _Reader, found: dict[str, str]) -> bool:
    """The preferred identification, and the others in words; whether none of several was flagged."""
    items = reader.each("Identifications/Identification")
    preferred = [item for item in items if reader.flag("PreferredFlag", item)]
    stored = [item for item in items if reader.flag("StoredUnderFlag", item)]
    possible = [item for item in items if not reader.flag("NonFlag", item)]
    flagged = [item for item in (*preferred, *stored) if item in possible]
    chosen = next(iter(flagged or possible), None)
    if chosen is None:
        return False
    found |= _identification(reader, chosen)
    others = [_in_words(reader, item) for item in possible if item is not chosen]
    others.append(reader.take("Identifications/IdentificationHistory"))
    found["dwc:previousIdentifications"] = JOINED.join(filter(None, others))
    return len(possible) > 1 and not flagged


def _identification(reader: _Reader, item: Element) -> dict[str, str]:
    taxon = "Result/TaxonIdentified/"
    code = reader.take(taxon + "Code", item)
    return {
        "dwc:scientificName": reader.take(taxon + "ScientificName/FullScientificNameString", item),
        "dwc:identificationQualifier": reader.take(taxon + "ScientificName/IdentificationQualifier", item),
        "dwc:verbatimIdentification": reader.take(taxon + "InformalNameString", item),
        "dwc:taxonRemarks": reader.take(taxon + "NameComments", item),
        "dwc:nomenclaturalCode": _CODES.get(code, code),
        **_higher_taxa(reader, reader.each(taxon + "HigherTaxa/HigherTaxon", item)),
        **_atoms(reader, item),
        "dwc:identifiedBy": _identifiers(reader, item),
        "dwc:dateIdentified": _interval(reader, "Date", item),
        "dwc:identificationReferences": JOINED.join(reader.take_all("References/Reference/TitleCitation", item)),
        "dwc:identificationRemarks": reader.take("Notes", item),
        "dwc:identificationVerificationStatus": reader.take("VerificationLevel", item),
    }


def _identifiers(reader: _Reader, item: Element) -> str:
    paths = ("PersonName/FullName", "Organisation/Name/Representation/Text")
    return _agents(reader, reader.each("Identifiers/Identifier", item), paths) or reader.take(
        "Identifiers/IdentifiersText", item
    )


def _in_words(reader: _Reader, item: Element) -> str:
    """An identification that is not the preferred one: name, by whom, when."""
    taxon = "Result/TaxonIdentified/"
    name = reader.take(taxon + "ScientificName/FullScientificNameString", item)
    name = name or reader.take(taxon + "InformalNameString", item)
    told = ", ".join(filter(None, (_identifiers(reader, item), _interval(reader, "Date", item)))) if name else ""
    return f"{name} ({told})" if told else name


def _higher_taxa(reader: _Reader, items: list[Element]) -> dict[str, str]:
    found: dict[str, str] = {}
    names: list[str] = []
    for item in items:
        rank = text_of(ranks[0]).lower() if (ranks := reader.each("HigherTaxonRank", item)) else ""
        name = reader.take("HigherTaxonName", item)
        reader.drop("HigherTaxonRank", item)
        if not name:
            continue
        term = _RANKS.get(rank)
        if term is not None and term not in found:
            found[term] = name
        else:
            names.append(f"{name} ({rank})" if rank else name)
    return {**found, "dwc:higherClassification": JOINED.join(names)}


def _atoms(reader: _Reader, item: Element) -> dict[str, str]:
    """The parts of a name under one of the Codes."""
    kinds = reader.each("Result/TaxonIdentified/ScientificName/NameAtomised/*", item)
    if not kinds:
        return {}
    name = kinds[0]
    found: dict[str, str] = {}
    mark = text_of(ranks[0]) if (ranks := reader.each("Rank", name)) else ""
    species = "FirstEpithet" if local_name(name) == "Botanical" else "SpeciesEpithet"
    has_species = bool(reader.each(species, name)) and mark not in _ABOVE_SPECIES
    if has_species:  # alone it may be the name of a family
        found["dwc:genus"] = reader.take("GenusOrMonomial", name)
        found["dwc:specificEpithet"] = reader.take(species, name)
    found["dwc:subgenus"] = reader.take("Subgenus", name)
    found["dwc:infraspecificEpithet"] = reader.take("InfraspecificEpithet", name) or reader.take(
        "SubspeciesEpithet", name
    )
    if mark:
        reader.drop("Rank", name)
        found["dwc:taxonRank"] = _NAME_RANKS.get(mark, mark)
    first = reader.take_first(("AuthorTeamParenthesis", "AuthorTeamParenthesisAndYear", _BACTERIAL), name)
    second = reader.take_first(
        ("AuthorTeam", "AuthorTeamAndYear", "CombinationAuthorTeamAndYear", "AuthorTeamOriginalAndYear"), name
    )
    bracketed = first if not first or first.startswith("(") else f"({first})"
    found["dwc:scientificNameAuthorship"] = " ".join(filter(None, (bracketed, second)))
    found["dwc:cultivarEpithet"] = reader.take("CultivarName", name)
    return found


# ---------------------------------------------------------------------- where, when and by whom
def _gathering(reader: _Reader, found: dict[str, str], country_code: Callable[[str], str]) -> None:
    for gathering in reader.each("Gathering"):
        found["dwc:eventDate"] = _interval(reader, "DateTime", gathering)
        agents = sorted(
            reader.each("Agents/GatheringAgent", gathering),
            key=lambda item: (item.get("primarycollector", "").lower() not in _TRUE, _number(item.get("sequence", ""))),
        )
        paths = ("Person/FullName", "AgentText", "Organisation/Name/Representation/Text")
        found["dwc:recordedBy"] = _agents(reader, agents, paths) or reader.take("Agents/GatheringAgentsText", gathering)
        for item in agents:
            for name in ("primarycollector", "sequence"):
                item.attrib.pop(name, None)
        found["dwc:country"] = reader.take("Country/Name", gathering) or reader.take("Country/NameDerived", gathering)
        code = reader.take("Country/ISO3166Code", gathering)
        found["dwc:countryCode"] = country_code(code) if len(code) == 3 else code
        _areas(reader, gathering, found)
        _coordinates(reader, gathering, found)
        _heights(reader, gathering, found, "Altitude", "Elevation")
        _heights(reader, gathering, found, "Depth", "Depth")
        found["dwc:habitat"] = reader.take("Biotope/Text", gathering) or reader.take("Biotope/Name", gathering)


def _interval(reader: _Reader, path: str, under: Element) -> str:
    """``DateTime`` as a Darwin Core date: one, or begin and end."""
    begin = reader.take(f"{path}/ISODateTimeBegin", under)
    end = reader.take(f"{path}/ISODateTimeEnd", under) if begin else ""
    return f"{begin}/{end}" if end and end != begin else begin


def _areas(reader: _Reader, gathering: Element, found: dict[str, str]) -> None:
    others: list[str] = []
    for area in reader.each("NamedAreas/NamedArea", gathering):
        area.attrib.pop("sequence", None)
        kind = reader.take("AreaClass", area)
        name = reader.take("AreaName", area)
        term = _AREAS.get(_NOT_LETTERS.sub("", kind).lower())
        if not name:
            continue
        if term is not None and not found.get(term):
            found[term] = name
        else:
            others.append(f"{name} ({kind})" if kind else name)
    found["dwc:higherGeography"] = JOINED.join(others)
    near = [
        " ".join(filter(None, (reader.take("NearNamedPlaceRelationTo", item), reader.take("NearNamedPlace", item))))
        for item in reader.each("NearNamedPlaces/NamedPlaceRelation", gathering)
    ]
    reader.drop("NearNamedPlaces/NamedPlaceRelation", gathering)
    found["dwc:locationRemarks"] = JOINED.join(filter(None, (reader.take("AreaDetail", gathering), *near)))


def _coordinates(reader: _Reader, gathering: Element, found: dict[str, str]) -> None:
    """The first set with both degrees (of a track its begin); what labels say in other systems stays in words."""
    sets = reader.each("SiteCoordinateSets/SiteCoordinates", gathering)
    point = "CoordinatesLatLong/"
    for item in sorted(sets, key=lambda item: item.get("end", "").lower() in _TRUE):
        if not all(reader.each(point + name, item) for name in ("LatitudeDecimal", "LongitudeDecimal")):
            continue
        found["dwc:decimalLatitude"] = reader.take(point + "LatitudeDecimal", item)
        found["dwc:decimalLongitude"] = reader.take(point + "LongitudeDecimal", item)
        found["dwc:geodeticDatum"] = reader.take(point + "SpatialDatum", item)
        found["dwc:coordinateUncertaintyInMeters"] = reader.take(point + "CoordinateErrorDistanceInMeters", item)
        found["dwc:georeferenceRemarks"] = reader.take(point + "AccuracyStatement", item)
        found["dwc:georeferenceProtocol"] = reader.take("CoordinateMethod", item)
        break
    words = [
        text for item in sets for path in (point + "CoordinatesText", "CoordinatesUTM/UTMText")
        if (text := reader.take(path, item))
    ]  # fmt: skip
    for item in sets:
        grid = (
            reader.take("CoordinatesGrid/GridCellSystem", item),
            reader.take("CoordinatesGrid/GridCellCode", item),
            reader.take("CoordinatesGrid/GridQualifier", item),
        )
        words.append(" ".join(filter(None, grid)))
    found["dwc:verbatimCoordinates"] = JOINED.join(filter(None, words))


def _heights(reader: _Reader, gathering: Element, found: dict[str, str], path: str, what: str) -> None:
    """Altitude or depth: numbers when they are metres, words otherwise."""
    atoms = f"{path}/MeasurementOrFactAtomised/"
    low, high = (reader.take(atoms + name, gathering) for name in ("LowerValue", "UpperValue"))
    unit = reader.take(atoms + "UnitOfMeasurement", gathering)
    said = reader.take(f"{path}/MeasurementOrFactText", gathering)
    if low and re.sub(r"[^\w.]", "", unit).lower().rstrip(".") in _METRES:
        found[f"dwc:minimum{what}InMeters"], found[f"dwc:maximum{what}InMeters"] = low, high
    elif low:
        said = said or " ".join(filter(None, (f"{low}-{high}" if high else low, unit)))
    found[f"dwc:verbatim{what}"] = said


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0


# ---------------------------------------------------------------------- media
def _media(reader: _Reader) -> tuple[tuple[SourceMedia, ...], int]:
    found: list[SourceMedia] = []
    left_out = 0
    for item in reader.each("MultiMediaObjects/MultiMediaObject"):
        kind = text_of(formats[0]) if (formats := reader.each("Format", item)) else ""
        word = kind.lower().rpartition("/")[2].lstrip(".")
        is_image = word not in _NOT_IMAGES and not kind.lower().startswith(("audio", "video", "text"))
        if not is_image or not any(text_of(uri) for uri in reader.each("FileURI", item)):
            left_out += 1
            continue
        rights = _rights(reader, "IPR", item)
        terms = {
            "ac:accessURI": reader.take("FileURI", item), "dcterms:type": "StillImage",
            "dcterms:format": reader.take("Format", item), "dcterms:license": rights["dcterms:license"],
            "dcterms:title": reader.take("Context", item), "dcterms:description": reader.take("Comment", item),
            "dcterms:creator": reader.take("Creator", item), "dcterms:created": reader.take("CreatedDate", item),
            "ac:furtherInformationURL": reader.take("ProductURI", item),
            "ac:captureDevice": reader.take("CaptureEquipment", item), "dcterms:rights": rights["dcterms:rights"],
            "xmpRights:UsageTerms": rights["dcterms:accessRights"],
            "exif:PixelXDimension": reader.take("ImageSize/Width", item),
            "exif:PixelYDimension": reader.take("ImageSize/Height", item),
        }  # fmt: skip
        medium = read_medium({term: text for term, text in terms.items() if text})
        if medium is not None:
            found.append(medium)
    return merge_media(found), left_out
