"""Which Darwin Core term a column of somebody's own table means: a proposal that a person looks over.

By the column's name only, in the languages that collections write; values are not looked at. A name that is not known
is left without a term, which is better than a wrong one.
"""
# ruff: noqa: E501 - a table of words

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from linkeddata.dwca_meta import KNOWN_HEADERS

IMAGE_COLUMN: Final = "dwc:associatedMedia"
"""Names of image files, or their addresses; several are separated by |."""
_SAID: Final[Mapping[str, str]] = {
    "dwc:occurrenceID": "guid uuid urn recordid occurrenceguid stableidentifier",
    "dwc:catalogNumber": "barcode barcodenumber catno catalogno catalogueno cataloguenumber catnr accession accessionno "
    "accessionnumber specimenid specimennumber inventoryno inventorynumber inventarnummer inventarnr invnr katalognummer "
    "katalognr sammlungsnummer objektnummer objectnumber numeroinventaire codebarre numerodecatalogo numerocatalogo "
    "inventarisnummer registratienummer regno herbariumnumber sheetnumber codigodebarras",
    "dwc:institutionCode": "institution herbarium museum herbariumcode institutcode institut institucion",
    "dwc:collectionCode": "collection sammlung coleccion collectie",
    "dwc:scientificName": "species taxon taxonname name fullname speciesname artname wissenschaftlichername "
    "nomscientifique nombrecientifico nomecientifico wetenschappelijkenaam latinname determination currentname "
    "acceptedname scientific",
    "dwc:scientificNameAuthorship": "author authority autor auteur authorship autorschaft",
    "dwc:genus": "gattung genre genero geslacht",
    "dwc:specificEpithet": "epithet artepitheton epithete especie epiteto speciesepithet soort art",
    "dwc:infraspecificEpithet": "subspecies ssp unterart sousespece subespecie",
    "dwc:family": "familie famille familia",
    "dwc:order": "ordnung ordre orden ordem orde",
    "dwc:class": "klasse classe clase",
    "dwc:kingdom": "reich regne reino",
    "dwc:taxonRank": "rank rang rango",
    "dwc:typeStatus": "type typus typ types tipo nomenclaturaltype",
    "dwc:identifiedBy": "determiner determinedby determiner det detby determinavit bestimmer determinateur determinador",
    "dwc:dateIdentified": "determinationdate datedet detdate bestimmungsdatum",
    "dwc:recordedBy": "collector collectors collectedby coll leg legit sammler collecteur colector coletor verzamelaar "
    "finder finders recolteur",
    "dwc:recordNumber": "collectornumber collno collectionno fieldno collectingnumber collnumber sammelnummer "
    "numerodecollecte numerodecolecta collectorno",
    "dwc:eventDate": "date collectingdate datecollected collectiondate colldate sammeldatum funddatum datum fecha data "
    "datederecolte fechadecolecta dateofcollection",
    "dwc:verbatimEventDate": "verbatimdate datetext dateverbatim",
    "dwc:year": "jahr annee ano jaar", "dwc:month": "monat mois mes maand", "dwc:day": "tag jour dia dag",
    "dwc:country": "land pays pais paese staat", "dwc:countryCode": "iso isocode isocountry landcode iso2 laendercode",
    "dwc:stateProvince": "state province bundesland provinz region departement provincia estado provincie kanton",
    "dwc:county": "district kreis landkreis", "dwc:municipality": "gemeinde commune municipio gemeente town city",
    "dwc:locality": "place location site fundort lieu localite localidad localidade vindplaats locationdescription ort",
    "dwc:verbatimLocality": "localitytext originallocality",
    "dwc:decimalLatitude": "lat latitude breite breitengrad latitud y latdec declat latitudedecimal",
    "dwc:decimalLongitude": "lon long lng longitude laenge laengengrad longitud x londec longdec declong "
    "longitudedecimal",
    "dwc:geodeticDatum": "datumgeodetic crs srs geodeticreference",
    "dwc:coordinateUncertaintyInMeters": "uncertainty coorduncertainty accuracy radius errorradius",
    "dwc:minimumElevationInMeters": "elevation altitude alt hoehe minalt minelevation altitud minaltitude meereshoehe",
    "dwc:maximumElevationInMeters": "maxalt maxelevation maxaltitude",
    "dwc:habitat": "standort milieu habitattext biotope",
    "dwc:occurrenceRemarks": "remarks notes comments bemerkungen remarques observaciones anmerkungen opmerkingen note",
    "dwc:verbatimLabel": "label labeltext transcription etikett etikettentext etiquette",
    "dwc:preparations": "preparation preservation storage praeparat",
    "dwc:sex": "geschlecht sexe sexo", "dwc:lifeStage": "stage stadium",
    "dwc:individualCount": "count number specimens anzahl quantity nombre",
    "dcterms:license": "licence lizenz licencia licenca copyrightlicence", "dcterms:rightsHolder": "copyright owner rights",
    "media:dcterms:license": "imagelicence imagelicense medialicence medialicense photolicence photolicense bildlizenz "
    "fotolizenz licenceimage licenciaimagen licenciafoto",
    "media:dcterms:creator": "photographer photographedby imagecreator imageauthor photoby fotograf photographe fotografo "
    "bildautor",
    "media:dcterms:rightsHolder": "imagerightsholder imagerights imagecopyright bildrechte",
    "media:vasculum:pixelsPerMillimetre": "pixelspermillimetre pixelspermillimeter pixelspermm pxpermm pxmm",
    IMAGE_COLUMN: "image images imagefile imagefilename imagename filename file photo photos foto fotos bild bilddatei "
    "picture media mediafile imageurl url dateiname fichier archivo imagen jpg jpeg tif tiff scan bildname imagepath",
}  # fmt: skip
_TERMS: Final[Mapping[str, str]] = {word: term for term, words in _SAID.items() for word in words.split()}


def guess_columns(header: Sequence[str]) -> dict[str, str]:
    """Column -> term; empty for columns that are not recognised. No term is given twice: the first column gets it."""
    found: dict[str, str] = {}
    given: set[str] = set()
    names = [name for name in header if name.strip()]
    exact = {name: KNOWN_HEADERS.get(fold(name), "") for name in names}
    given.update(term for term in exact.values() if term)
    for name in names:
        term = exact[name]
        if not term:
            guess = _TERMS.get(fold(name), "")
            term = guess if guess not in given else ""
            given.add(term)
        if term in found.values():
            term = ""
        found[name] = term
    if IMAGE_COLUMN not in found.values():
        return {name: "" if term.startswith("media:") else term for name, term in found.items()}
    return found


def fold(name: str) -> str:
    """Letters and digits of a column's name, without case and accents (ä as ae)."""
    text = name.casefold()
    for old, new in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        text = text.replace(old, new)
    plain = unicodedata.normalize("NFKD", text.rpartition(":")[2] if "://" not in text else text)
    return "".join(char for char in plain if char.isalnum() and char.isascii())
