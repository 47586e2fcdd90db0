"""An archive with harm in every field: markup, formulas, signs that nobody sees, on every page and in every form."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import archives
import pytest
from abcd_documents import document, unit
from aiohttp.test_utils import TestClient, TestServer
from archives import AC, DCTERMS, DWC
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from defusedxml.ElementTree import fromstring
from rdflib import Graph

from linkeddata.context import PREFIXES
from linkeddata.rdf import FORMATS
from linkeddata.records import PLACED_TERMS
from node.app import build_application
from node.cli.main import run
from node.cli.say import say
from node.folder import NodeFolder
from runners.catalogue import Catalogue

SCRIPT = "<script>alert(1)</script>"
UNSEEN = "\x1b[31m\x07\x9b\u202egnp.exe\u2066"
PAYLOADS = (
    f'=HYPERLINK("http://evil.example"){SCRIPT}',
    f'"><img src=x onerror=alert(1)>{SCRIPT}',
    f"{UNSEEN}{SCRIPT}",
)
MEDIA = ("title", "description", "creator", "license", "rightsHolder", "source", "audience", "publisher")
RAW = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def whole(term: str) -> str:
    prefix, _, name = term.partition(":")
    return PREFIXES[prefix] + name


def hostile_archive(folder: Path) -> Path:
    """Three specimens with one payload each in every term that has a place, in others, and in every field of media."""
    terms = [DWC + "occurrenceID", *(whole(term) for term in sorted(PLACED_TERMS - {"dwc:occurrenceID"}))]
    terms += [DWC + "nothingLikeIt", f"http://evil.example/{SCRIPT}", DWC + "associatedMedia"]
    core, media = [], []
    for number, payload in enumerate(PAYLOADS):
        core.append("\t".join([f"id-{number}{payload}", *[payload] * (len(terms) - 2), f"no/such/{payload}.jpg"]))
        media.append(
            "\t".join([f"id-{number}{payload}", "StillImage", f"images/{number}.jpg", *[payload] * len(MEDIA)])
        )
    quoted = [term.replace("<", "&lt;").replace(">", "&gt;") for term in terms]
    tables = archives.table("core", DWC + "Occurrence", "o.txt", quoted) + archives.table(
        "extension", "http://rs.tdwg.org/ac/terms/Multimedia", "m.txt",
        ["", DCTERMS + "type", AC + "accessURI", *(DCTERMS + name for name in MEDIA)],
    )  # fmt: skip
    eml = f"<eml><dataset><title>{SCRIPT.replace('<', '&lt;')} \u202e</title></dataset></eml>"
    files = {"o.txt": "\n".join(core).encode(), "m.txt": "\n".join(media).encode(), "eml.xml": eml.encode()}
    files |= {f"images/{number}.jpg": jpeg(number) for number in range(len(PAYLOADS))}
    return archives.folder(folder, tables, files, attributes=' metadata="eml.xml"')


@pytest.fixture
def node(make_node: Callable[..., NodeFolder], tmp_path: Path) -> NodeFolder:
    made = make_node()
    ingest(made, hostile_archive(tmp_path / "a"))
    return made


@pytest.fixture
async def client(node: NodeFolder) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as made:
        yield made


async def paths_of(client: TestClient) -> list[str]:  # type: ignore[type-arg]
    listing = await (await client.get("/search?limit=10")).json()
    assert listing["total"] == len(PAYLOADS)
    iris = [iri for item in listing["items"] for iri in (item["id"], item["medium"]) if iri]
    return ["/" + iri.split("/", 3)[3] for iri in iris]


async def test_no_page_has_markup_of_a_record_or_a_sign_that_nobody_sees(client: TestClient) -> None:  # type: ignore[type-arg]
    seen = 0
    for path in ["/", "/search?facet=family&facet=country", "/search?q=alert", *await paths_of(client)]:
        answer = await client.get(path, headers={"Accept": "text/html"})
        text = await answer.text()
        assert answer.status == 200, (path, re.findall("(?s)<main.*</main>", text))
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path
        assert RAW.search(text) is None, path
        seen += ("&lt;script&gt;" in text) + ("\ufffd" in text)
    assert seen >= 6


async def test_every_form_of_a_record_can_be_read(client: TestClient) -> None:  # type: ignore[type-arg]
    for path in await paths_of(client):
        answer = await client.get(path, headers={"Accept": "application/ld+json"})
        assert answer.status == 200, path
        assert SCRIPT in json.dumps(await answer.json(content_type=None)), path


@pytest.mark.parametrize("form", ["turtle", "ntriples", "rdfxml", "jsonld", "ndjson"])
def test_every_form_of_the_export_can_be_read(node: NodeFolder, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"all.{form}"
    assert run(["export", str(node.settings.folder), "--format", form, "--output", str(path)]) == 0
    data = path.read_text("utf-8")
    if form == "rdfxml":
        assert fromstring(data) is not None
    elif form in ("turtle", "ntriples"):
        assert len(Graph().parse(data=data, format=FORMATS[form])) > 30
    else:
        assert [json.loads(part) for part in (data.splitlines() if form == "ndjson" else [data])]


async def test_tables_run_nothing(client: TestClient, node: NodeFolder, tmp_path: Path) -> None:  # type: ignore[type-arg]
    searched = await (await client.get("/search?format=csv&limit=10")).text()
    assert run(["export", str(node.settings.folder), "--format", "csv", "--output", str(tmp_path / "e.csv")]) == 0
    for text in (searched, (tmp_path / "e.csv").read_text("utf-8")):
        rows = list(csv.reader(io.StringIO(text)))
        assert len(rows) == 1 + len(PAYLOADS)
        for cell in (cell for row in rows[1:] for cell in row):
            assert not cell.startswith(("=", "+", "@", "|", "%")), cell
            assert RAW.search(cell) is None, cell


def test_an_image_that_is_a_link_out_of_the_folder_is_a_finding(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    (tmp_path / "outside.jpg").write_bytes(jpeg(7))
    path = write_archive(tmp_path / "a", rows_of(2), images=jpeg)
    (path / "images/0.jpg").unlink()
    (path / "images/0.jpg").symlink_to(tmp_path / "outside.jpg")
    node = make_node("links")
    ingest(node, path)
    with node.database.reader() as conn:
        images = conn.execute("SELECT locator FROM medium WHERE image IS NOT NULL").fetchall()
        said = conn.execute("SELECT code, message FROM finding").fetchall()
    assert [row["locator"] for row in images] == ["images/1.jpg"]
    assert [row["code"] for row in said] == ["file-unreadable"]
    assert "a link leads out of the folder" in said[0]["message"]


def test_no_command_passes_an_escape_sequence_on(node: NodeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(node.settings.folder)
    assert run(["findings", folder]) == 0
    assert run(["findings", folder, "--summary"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) > 10
    assert "alert(1)" in said
    assert RAW.search(said) is None
    say("a\nb\x1b[2J\u202ec")
    assert capsys.readouterr().out == "a\ufffdb\ufffd[2J\ufffdc\n"


async def test_units_of_abcd_are_as_inert(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    harm = f"&lt;script&gt;alert(1)&lt;/script&gt;\u202e{SCRIPT[8:13]}"
    (tmp_path / "in").mkdir()
    path = tmp_path / "in/a.xml"
    path.write_text(document(unit(harm, f"<Notes>{harm}</Notes><Odd x='{harm}'>{harm}</Odd>")), "utf-8")
    node = make_node("other")
    assert ingest(node, path).new == 1
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        iri = (await (await client.get("/search")).json())["items"][0]["id"]
        text = await (await client.get("/" + iri.split("/", 3)[3], headers={"Accept": "text/html"})).text()
    assert text.count("&lt;script&gt;alert") >= 2
    assert "<script>alert" not in text
    assert RAW.search(text) is None
