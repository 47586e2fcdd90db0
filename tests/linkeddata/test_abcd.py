"""ABCD documents and BioCASe responses: what units say, what is kept, and documents that are meant to harm."""

import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from abcd_documents import ABCD_21, ABCD_206, CONCEPT, UNIT, document, response, unit

from linkeddata.abcd import AbcdDocuments, find_documents
from linkeddata.archive_files import FolderFiles, open_files
from linkeddata.dwca_meta import DwcaError
from linkeddata.source import SourceRow

Notes = list[tuple[str, str, str]]


def read(path: Path, *names: str) -> tuple[list[SourceRow], Notes, AbcdDocuments]:
    notes: Notes = []
    folder = path if path.is_dir() else path.parent
    documents = AbcdDocuments(files=FolderFiles(folder), names=names or (path.name,))
    rows = list(documents.rows("s", note=lambda *note: notes.append(note)))
    return rows, notes, documents


def one(tmp_path: Path, text: str) -> SourceRow:
    path = tmp_path / "one.xml"
    path.write_text(text, "utf-8")
    (row,) = read(path)[0]
    return row


@pytest.mark.parametrize("namespace", [ABCD_206, ABCD_21])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_unit_becomes_darwin_core_and_nothing_of_it_is_lost(tmp_path: Path, namespace: str, wrapped: bool) -> None:
    text = document(UNIT, namespace=namespace)
    row = one(tmp_path, response(text) if wrapped else text)
    assert row.key == "https://herbarium.example.org/object/B100000001"
    fields = dict(row.fields)
    assert {term: fields.pop(term) for term in list(fields) if not term.startswith("http")} == {
        "dwc:occurrenceID": "https://herbarium.example.org/object/B100000001", "dwc:institutionCode": "B",
        "dwc:collectionCode": "Herbarium Berolinense", "dwc:catalogNumber": "B 10 0000001",
        "dcterms:modified": "2024-03-01T12:00:00", "dcterms:references": "https://herbarium.example.org/B100000001.html",
        "dwc:recordNumber": "123", "dwc:occurrenceRemarks": "in flower", "dwc:basisOfRecord": "FossilSpecimen",
        "dwc:sex": "female", "dwc:lifeStage": "adult", "dwc:preparations": "dried and pressed",
        "dwc:otherCatalogNumbers": "ACC 7 | OLD 9", "dwc:verbatimLabel": "Flora brasiliensis | Herb. Martii",
        "dwc:typeStatus": "holotype | isotype?", "dwc:typifiedName": "Acacia alba Mart.",
        "dwc:scientificName": "Acacia alba var. rubra (L.) Mart.", "dwc:kingdom": "Plantae", "dwc:family": "Fabaceae",
        "dwc:higherClassification": "Mimosoideae (clade)", "dwc:genus": "Acacia", "dwc:specificEpithet": "alba",
        "dwc:infraspecificEpithet": "rubra", "dwc:taxonRank": "variety", "dwc:scientificNameAuthorship": "(L.) Mart.",
        "dwc:identificationQualifier": "cf.", "dwc:nomenclaturalCode": "ICN", "dwc:identifiedBy": "C. Martius | J. Spix",
        "dwc:dateIdentified": "1820-05", "dwc:identificationRemarks": "after the type",
        "dwc:previousIdentifications": "Mimosa alba L. (A. Nobody, 1790) | Herbarium name",
        "dwc:eventID": "trip 4", "dwc:eventDate": "1817-05-02/1817-06-01", "dwc:verbatimEventDate": "Mai 1817",
        "dwc:samplingProtocol": "by hand", "dwc:eventRemarks": "after rain", "dwc:locality": "Rio Negro, left bank",
        "dwc:locationRemarks": "on granite | 10 km S of Manaus", "dwc:recordedBy": "C. Martius | J. Spix",
        "dwc:country": "Brasilien", "dwc:countryCode": "BR", "dwc:stateProvince": "Amazonas",
        "dwc:higherGeography": "Amazon basin (catchment)", "dwc:decimalLatitude": "-3.1", "dwc:decimalLongitude": "-60.02",
        "dwc:geodeticDatum": "WGS84", "dwc:coordinateUncertaintyInMeters": "500", "dwc:georeferenceProtocol": "map",
        "dwc:verbatimCoordinates": "3°06'S 60°01'W | MTB 3546/2", "dwc:minimumElevationInMeters": "40",
        "dwc:maximumElevationInMeters": "60", "dwc:verbatimDepth": "3 ft", "dwc:habitat": "gallery forest",
        "dwc:datasetName": "Herbarium Berolinense", "dwc:datasetID": "urn:uuid:ds",
        "dcterms:license": "https://creativecommons.org/licenses/by/4.0/", "dcterms:rights": "© BGBM",
        "dcterms:accessRights": "cite us", "dcterms:rightsHolder": "BGBM Berlin",
    }  # fmt: skip
    kept = {term.removeprefix(namespace + CONCEPT): text for term, text in fields.items()}
    assert kept == {
        "Identifications/Identification[2]/Notes": "corrected later",
        "Identifications/Identification[3]/Result/TaxonIdentified/ScientificName/FullScientificNameString": "Poa annua",
        "MeasurementsOrFacts/MeasurementOrFact/MeasurementOrFactAtomised/Parameter": "height",
        "MeasurementsOrFacts/MeasurementOrFact/MeasurementOrFactAtomised/LowerValue": "3",
        "MeasurementsOrFacts/MeasurementOrFact[2]/MeasurementOrFactText": "bark grey",
        "Gathering/Country/Name[2]": "Brazil", "SpecimenUnit/Marks/Mark[2]/MarkType": "printed",
        "SpecimenUnit/Accessions/AccessionCatalogue": "main", "MultiMediaObjects/MultiMediaObject/ID": "img-1",
        "MultiMediaObjects/MultiMediaObject[2]/FileURI": "https://media.example.org/1.mp3",
        "MultiMediaObjects/MultiMediaObject[2]/Format": "audio/mpeg", "UnitExtension/Special/Drawer": "4",
        "UnitExtension/Special/Drawer/@side": "left", "UnexpectedElement": "what is this?",
    }  # fmt: skip
    (medium,) = row.media
    assert (medium.locator, medium.format, medium.title) == ("images/B100000001.jpg", "image/jpeg", "whole sheet")
    assert medium.licence == "https://creativecommons.org/publicdomain/zero/1.0/", "its own, not that of the data set"
    assert medium.fields["dcterms:creator"] == "Photo lab"


def test_without_a_flag_the_first_identification_is_taken_and_that_is_noted(tmp_path: Path) -> None:
    names = "".join(
        f"<Identification><Result><TaxonIdentified><ScientificName><FullScientificNameString>{name}"
        "</FullScientificNameString></ScientificName></TaxonIdentified></Result></Identification>"
        for name in ("Poa annua", "Poa alpina")
    )
    path = tmp_path / "a.xml"
    path.write_text(document(unit("1", f"<Identifications>{names}</Identifications>"), unit("2")), "utf-8")
    rows, notes, found = read(path)
    assert rows[0].fields["dwc:scientificName"] == "Poa annua"
    assert rows[0].fields["dwc:previousIdentifications"] == "Poa alpina"
    assert rows[0].key == "B|Herb|1"
    assert [code for _, code, _ in notes] == ["identification-not-preferred"]
    assert found.title == "Herbarium Berolinense"
    assert not found.ends_early


def test_values_in_other_units_and_codes(tmp_path: Path) -> None:
    gathering = (
        "<Gathering><Country><ISO3166Code>DEU</ISO3166Code></Country><NamedAreas>"
        "<NamedArea><AreaClass>Bundesland</AreaClass><AreaName>Berlin</AreaName></NamedArea>"
        "<NamedArea><AreaName>Dahlem</AreaName></NamedArea></NamedAreas><Altitude><MeasurementOrFactAtomised>"
        "<LowerValue>100</LowerValue><UpperValue>200</UpperValue><UnitOfMeasurement>ft</UnitOfMeasurement>"
        "</MeasurementOrFactAtomised></Altitude></Gathering>"
    )
    fields = one(tmp_path, document(unit("1", gathering))).fields
    assert fields["dwc:countryCode"] == "DE"
    assert (fields["dwc:stateProvince"], fields["dwc:higherGeography"]) == ("Berlin", "Dahlem")
    assert fields["dwc:verbatimElevation"] == "100-200 ft"
    assert "dwc:minimumElevationInMeters" not in fields


def test_pages_of_a_response_are_one_source_and_a_missing_one_is_noticed(tmp_path: Path) -> None:
    pages = [
        response(document(*(unit(str(number)) for number in range(start, start + 2))), start=start, total=4)
        for start in (0, 2)
    ]
    for number, text in enumerate(pages):
        (tmp_path / f"response.{number:05}.xml").write_text(text, "utf-8")
    (tmp_path / "notes.xml").write_text("<notes/>", "utf-8")
    with open_files(tmp_path) as files:
        names = find_documents(files)
    rows, notes, found = read(tmp_path, *names)
    assert [row.fields["dwc:catalogNumber"] for row in rows] == ["0", "1", "2", "3"]
    assert [code for _, code, _ in notes] == ["xml-not-abcd"]
    assert not found.ends_early
    rows, notes, found = read(tmp_path, "response.00001.xml")
    assert found.ends_early
    assert notes[-1][2].startswith("2 units came of 4")


def test_two_data_sets_keep_their_rights_apart(tmp_path: Path) -> None:
    first = document(unit("1")).removesuffix("</DataSets>")
    second = document(unit("2"), metadata="").partition(">")[2]
    path = tmp_path / "a.xml"
    path.write_text(first + second, "utf-8")
    rows, _, _ = read(path)
    assert [row.fields.get("dcterms:license", "") for row in rows] == [
        "https://creativecommons.org/licenses/by/4.0/",
        "",
    ]


def test_memory_stays_flat(tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    head, tail = document("@").split("@")
    with path.open("w", encoding="utf-8") as stream:
        stream.write(head)
        for number in range(400):
            stream.write(unit(str(number), f"<Notes>{'x' * 20_000}</Notes>"))
        stream.write(tail)
    documents = AbcdDocuments(files=FolderFiles(tmp_path), names=(path.name,))
    tracemalloc.start()
    try:
        count = sum(1 for _ in documents.rows("s", note=lambda *note: None))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 400
    assert peak < 2_000_000 < path.stat().st_size


class _Endless:
    """A stream of one text without end: what a file of 200 MB would be, without the file."""

    def __init__(self, head: bytes, piece: bytes, size: int) -> None:
        self._pieces = iter((head, *([piece] * (size // len(piece)))))
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        data = next(self._pieces, b"")
        self.given += len(data)
        return data

    def __enter__(self) -> "_Endless":
        return self

    def __exit__(self, *error: object) -> None:
        pass


HEAD = document("@").split("@")[0].encode()
UNIT_HEAD = HEAD + b"<Unit><UnitID>1</UnitID>"


@pytest.mark.parametrize(
    ("head", "piece", "says"),
    [
        (UNIT_HEAD + b"<Notes>", b"x" * 65_536, "a text of more than"),
        (UNIT_HEAD + b"<Notes a='", b"x" * 65_536, "a text of more than"),
        (UNIT_HEAD + b"<!-- ", b"x" * 65_536, "a text of more than"),
        (HEAD, b" " * 65_536, "a text of more than"),
        (UNIT_HEAD, b"<Sex>F</Sex>" + b" " * 60_000, "a unit or a description of more than"),
        (
            HEAD.partition(b"<Metadata>")[0] + b"<Metadata>",
            b"<IconURI/>" + b" " * 60_000,
            "a unit or a description of more",
        ),
    ],
)
def test_a_text_of_200_mb_is_refused_after_its_beginning(head: bytes, piece: bytes, says: str) -> None:
    stream = _Endless(head, piece, 200_000_000)

    class Files:
        def open(self, name: str) -> _Endless:
            return stream

    documents = AbcdDocuments(files=Files(), names=("a.xml",))  # type: ignore[arg-type]
    with pytest.raises(DwcaError, match=says):
        list(documents.rows("s", note=lambda *note: None))
    assert stream.given < 20_000_000


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (document(unit("1", "<Notes>&b;</Notes>")).replace("<DataSets", LAUGHS + "<DataSets", 1), "DTD or entities"),
        (document(unit("1", "<Notes>&a;</Notes>")).replace("<DataSets", OUTSIDE + "<DataSets", 1), "DTD or entities"),
        (document(unit("1", "<Notes>&undefined;</Notes>")), "not well-formed"),
        (document(unit("1", "<Notes>a\0b</Notes>")), "not well-formed"),
        (document(unit("1", "<a>" * 60 + "</a>" * 60)), "deeper than 40"),
        ("<a>" * 100_000, "neither ABCD"),
        (document(unit("1", "".join(f"<x{n}>1</x{n}>" for n in range(2500)))), "more than 2000 elements"),
        (document(unit("1"))[:-30], "cut off"),
        ("", "cut off"),
        ("not xml", "not well-formed"),
        (b"\xff\xfe\x00<", "not well-formed"),
        ('<?xml version="1.0" encoding="nonsense"?><DataSets/>', "not well-formed"),
        ("<html/>", "neither ABCD"),
        (document(unit("1"), namespace="http://www.tdwg.org/schemas/abcd/1.2"), "export ABCD 2.06"),
        (document(), "holds no units"),
        (response("", diagnostic="no database connection"), "holds no units: no database connection"),
    ],
)
def test_a_document_that_cannot_be_read_is_one_clear_line(tmp_path: Path, data: str | bytes, says: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(DwcaError, match=says) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500


def test_what_a_folder_holds_is_found_out_without_reading_it_all(tmp_path: Path) -> None:
    def found(folder: Path) -> tuple[str, ...]:
        with open_files(folder) as files:
            return find_documents(files)

    (tmp_path / "sidecar.xml").write_text("<x/>", "utf-8")
    assert found(tmp_path) == ()
    (tmp_path / "hostile.xml").write_text(LAUGHS + "<DataSets/>", "utf-8")
    assert found(tmp_path) == ("hostile.xml", "sidecar.xml"), "so that the reason is said"
    (tmp_path / "meta.xml").write_text("<archive/>", "utf-8")
    assert found(tmp_path) == (), "an archive"


def test_a_zip_of_documents_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("response.00001.xml", document(unit("1")))

    def rows() -> Iterator[SourceRow]:
        with open_files(path) as files:
            yield from AbcdDocuments(files=files, names=find_documents(files)).rows("s", note=lambda *note: None)

    assert [row.key for row in rows()] == ["B|Herb|1"]
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DwcaError, match="damaged"):
        list(rows())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("response.00001.xml", document(unit("1", f"<Notes>{' ' * 25_000_000}</Notes>")))
    with pytest.raises(DwcaError, match="zip bomb"):
        list(rows())
