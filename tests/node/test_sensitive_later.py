"""A specimen that becomes sensitive after it was published, and one that is so no longer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from web_world import READ_HIDDEN, SECRET_PLACE
from withdraw_world import remains

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.annotation import build_annotation
from linkeddata.outputs import UnitAnswer, parse_output
from node.cli.main import run
from node.config import load_settings
from node.folder import NodeFolder, open_folder
from node.services import withdraw
from node.services.ingest import Ingest
from node.services.ingest_report import IngestReport
from node.services.intake_source import open_intake
from node.services.purge import drop_derived, purge, purge_waits
from node.storage import annotations, records
from node.web.pages import make_environment

Make = Callable[..., NodeFolder]
LIST = '[[sensitive]]\nvalue = "Planta numero1"\ncategory = {category}\n'
WORD = READ_HIDDEN
NEEDLES = {
    "words of the search": SECRET_PLACE.lower().encode(),
    "record": f'"dwc:country":"Germany","dwc:locality":"{SECRET_PLACE}'.encode(),
    "read text": WORD.encode(),
    "read text, folded": WORD.lower().encode(),
}
"""Each stands only in what the node said; the row as received has its terms in another order."""


def set_list(node: NodeFolder, category: int | None) -> None:
    path = node.settings.folder / "node.toml"
    text = path.read_text("utf-8").partition("\n[[sensitive]]")[0]
    path.write_text(text + ("\n" + LIST.format(category=category) if category else ""), "utf-8")


def again(node: NodeFolder, path: Path) -> IngestReport:
    with open_intake(path, "collection") as intake:
        settings = load_settings(node.settings.folder)
        return Ingest(settings, node.database, node.blobs, intake, clock=lambda: NOW).run()


def annotate(node: NodeFolder, medium: str, image: str, name: str) -> str:
    """A public annotation with text that was read from an open image."""
    iri, word = f"{node.settings.origin}/annotation/{name * 16}", f"{WORD} {name}"
    body = {
        "image": {"width": 64, "height": 48}, "readable": True, "doubts": [],
        "lines": [{"text": word, "score": "0.9", "box": [4, 6, 20, 10], "writing": "print"}],
    }  # fmt: skip
    document = build_annotation(
        iri=iri, medium=medium, image=ContentId.from_hex(image), output=parse_output("label-text/1", body),
        contract="label-text/1", pipeline="sha256:" + "0" * 64, pipeline_name="label-text",
        environment="sha256:" + "1" * 64, conformance="pass", job="urn:uuid:x", answer=UnitAnswer(answer="yes"),
    )  # fmt: skip
    row = annotations.AnnotationRow(
        iri=iri, medium=medium, image=image, output="label-text/1", pipeline="p", environment="e", work_key="w" + name,
        job=None,
    )  # fmt: skip
    with node.database.transaction() as conn:
        records.publish(
            conn, records.NewRecord(kind="annotation", iri=iri, body=document, access=AccessClass.OPEN), now=NOW
        )
        annotations.add(conn, row, now=NOW)
    return iri


@pytest.fixture
def rows() -> list[dict[str, str]]:
    found = rows_of(3)
    found[1] |= {"locality": SECRET_PLACE, "decimalLatitude": "47.1234", "decimalLongitude": "11.2345"}
    return found


@pytest.fixture
def archive(tmp_path: Path, rows: list[dict[str, str]]) -> Path:
    return write_archive(tmp_path / "a", rows, images=jpeg)


def state(node: NodeFolder) -> dict[str, object]:
    """What is public about the specimen."""
    with node.database.reader() as conn:
        row = conn.execute("SELECT iri FROM source_row WHERE key = 'urn:x:1'").fetchone()
        found = records.get_by_iri(conn, row["iri"])
        assert found is not None
        versions = conn.execute("SELECT version FROM record_version WHERE iri = ?", (row["iri"],)).fetchall()
        medium = conn.execute("SELECT * FROM medium WHERE locator = 'images/1.jpg'").fetchone()
        hits = conn.execute(
            "SELECT count(*) FROM specimen_text WHERE specimen_text MATCH ?", (SECRET_PLACE,)
        ).fetchone()[0]
        return {
            "body": json.loads(found.body), "sensitive": found.sensitive, "versions": [item["version"] for item in versions],
            "medium": medium["iri"], "image": medium["image"], "hits": hits,
            "log": [tuple(item) for item in conn.execute("SELECT record_type, op FROM change ORDER BY seq")],
        }  # fmt: skip


def place_of(found: dict[str, object]) -> dict[str, str]:
    return found["body"]["ods:hasEvents"][0]["ods:hasLocation"]  # type: ignore[index, no-any-return]


def plant(node: NodeFolder, archive: Path) -> tuple[str, str]:
    """Published, read, re-scanned, read again, with previews."""
    ingest(node, archive)
    before = state(node)
    old = annotate(node, str(before["medium"]), str(before["image"]), "a")
    (archive / "images/1.jpg").write_bytes(jpeg(77))
    ingest(node, archive)
    after = state(node)
    new = annotate(node, str(after["medium"]), str(after["image"]), "b")
    for image in (str(before["image"]), str(after["image"])):
        preview = node.settings.derived_path / "preview-1600" / image[:2] / f"{image}.jpg"
        preview.parent.mkdir(parents=True, exist_ok=True)
        preview.write_bytes(b"picture")
    return old, new


@pytest.mark.parametrize("how", ["the list changed", "re-identified"])
def test_nothing_that_was_public_remains(make_node: Make, archive: Path, rows: list[dict[str, str]], how: str) -> None:
    node = make_node()
    old, new = plant(node, archive)
    assert {item.partition(": ")[2] for item in remains(node.settings.folder / "data", NEEDLES)} == set(NEEDLES)
    assert state(node)["hits"] == 1
    if how == "re-identified":
        set_list(node, 1)
        path = node.settings.folder / "node.toml"
        path.write_text(path.read_text("utf-8").replace("Planta numero1", "Planta nova"), "utf-8")
        again(node, archive)
        assert state(node)["hits"] == 1
        rows[1]["scientificName"] = "Planta nova L."
        write_archive(archive, rows)
    else:
        set_list(node, 1)
    again(node, archive)
    found = state(node)
    assert found["sensitive"]
    assert found["hits"] == 0
    assert SECRET_PLACE not in json.dumps(found["body"])
    assert len(found["versions"]) == 1, "older versions told the place"  # type: ignore[arg-type]
    assert ("annotation", "Delete") in found["log"]  # type: ignore[operator]
    with node.database.reader() as conn:
        for iri in (old, new):
            stored = records.get_by_iri(conn, iri)
            assert stored is not None
            assert stored.state == "tombstone", "also what was read from the earlier scan"
            assert WORD.encode() not in stored.body
    assert purge_waits(node.database)
    assert purge(node)
    assert not purge_waits(node.database)
    assert remains(node.settings.folder / "data", NEEDLES) == []
    assert not list(node.settings.derived_path.rglob("*.jpg"))
    assert not purge(node), "once"


def test_the_search_for_remains_notices_when_files_are_not_cleaned(
    make_node: Make, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    plant(node, archive)
    set_list(node, 1)
    monkeypatch.setattr(withdraw, "_rewrite", lambda path: None)
    with open_folder(node.settings.folder):  # keeps the log of the database from being emptied
        again(node, archive)
        purge(node)
        assert remains(node.settings.folder / "data", NEEDLES) != []


def test_a_stricter_category_leaves_no_finer_version(make_node: Make, archive: Path) -> None:
    node = make_node()
    set_list(node, 4)
    again(node, archive)
    assert place_of(state(node))["ods:hasGeoreference"]["dwc:decimalLatitude"] == "47.123"  # type: ignore[index]
    set_list(node, 2)
    again(node, archive)
    found = state(node)
    assert place_of(found)["ods:hasGeoreference"]["dwc:decimalLatitude"] == "47.1"  # type: ignore[index]
    assert found["versions"] == [2]
    assert purge_waits(node.database)


def test_what_is_not_sensitive_any_more_is_precise_again(make_node: Make, archive: Path) -> None:
    node = make_node()
    set_list(node, 1)
    again(node, archive)
    assert "ac:accessURI" not in medium_of(node)
    set_list(node, None)
    report = again(node, archive)
    found = state(node)
    assert report.changed == 1
    assert place_of(found)["dwc:locality"] == SECRET_PLACE
    assert found["hits"] == 1
    assert "ac:accessURI" in medium_of(node)
    with node.database.reader() as conn:
        assert records.resolve(conn, "urn:x:1")


def medium_of(node: NodeFolder) -> dict[str, object]:
    with node.database.reader() as conn:
        stored = records.get_by_iri(conn, str(state(node)["medium"]))
    assert stored is not None
    return json.loads(stored.body)  # type: ignore[no-any-return]


def test_the_same_archive_under_the_same_list_purges_nothing(make_node: Make, archive: Path) -> None:
    node = make_node()
    set_list(node, 1)
    again(node, archive)
    again(node, archive)
    assert not purge_waits(node.database)
    assert drop_derived(node) == 0


def test_an_identifier_that_repeats_the_place_finds_nothing(
    make_node: Make, tmp_path: Path, rows: list[dict[str, str]]
) -> None:
    node = make_node()
    rows[1]["occurrenceID"] = f"urn:x:{SECRET_PLACE}:1"
    path = write_archive(tmp_path / "b", rows, images=jpeg)
    ingest(node, path)
    with node.database.reader() as conn:
        assert records.resolve(conn, f"urn:x:{SECRET_PLACE}:1")
    set_list(node, 2)
    again(node, path)
    with node.database.reader() as conn:
        assert not records.resolve(conn, f"urn:x:{SECRET_PLACE}:1")
        assert records.resolve(conn, "X-1"), "by its number it is found"


def test_the_commands_clean_the_files(
    make_node: Make, archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    folder = str(node.settings.folder)
    assert run(["ingest", folder, str(archive)]) == 0
    set_list(node, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 0))  # type: ignore[attr-defined]
    assert run(["ingest", folder, str(archive)]) == 0
    assert "still in the files" in capsys.readouterr().err
    monkeypatch.undo()
    run(["doctor", folder])
    assert "withdraw" in capsys.readouterr().out
    assert run(["withdraw", folder, "--finish"]) == 0
    assert "in no file of the node" in capsys.readouterr().out
    needles = {name: text for name, text in NEEDLES.items() if not name.startswith("read")}
    assert remains(node.settings.folder / "data", needles) == []
    run(["doctor", folder])
    assert "still hold what was said" not in " ".join(capsys.readouterr().out.split())


def test_what_is_stated_of_local_contexts_is_carried_in_record_and_page(make_node: Make, tmp_path: Path) -> None:
    project = "259854f7-b261-4c8c-8556-4b153deebc18"
    folder = tmp_path / "lc"
    folder.mkdir()
    (folder / "images").mkdir()
    (folder / "images/1.jpg").write_bytes(jpeg(1))
    (folder / "occurrence.csv").write_text(
        "occurrenceID,catalogNumber,basisOfRecord,scientificName,accessRights,localContextsProject,associatedMedia\n"
        f"urn:l:1,L-1,PreservedSpecimen,Planta numero1,TK Attribution,{project},images/1.jpg\n",
        "utf-8",
    )
    node = make_node()
    ingest(node, folder)
    with node.database.reader() as conn:
        iri = records.resolve(conn, "L-1")[0]
        found = records.get_by_iri(conn, iri)
    assert found is not None
    stated = json.loads(found.body)["vasculum:hasLocalContexts"]
    assert stated["vasculum:localContextsLabel"] == ["TK Attribution"]
    assert stated["vasculum:localContextsProject"] == [{"@id": f"https://localcontextshub.org/projects/{project}"}]
    environment = make_environment()
    shown = environment.get_template("local_contexts.html").module.stated(json.loads(found.body))  # type: ignore[attr-defined]
    assert f'href="https://localcontextshub.org/projects/{project}"' in shown
    assert "TK Attribution" in shown
    set_list(node, 1)
    again(node, folder)
    with node.database.reader() as conn:
        found = records.get_by_iri(conn, iri)
    assert found is not None
    assert json.loads(found.body)["vasculum:hasLocalContexts"] == stated, "also of a sensitive specimen"
