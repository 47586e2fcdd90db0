"""ABCD documents as a source: a file, pages in a folder, a zip; on a schedule, with brakes, and of sensitive taxa."""

import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from abcd_documents import document, pictured, response
from conftest import NOW, ingest, jpeg

from node.cli.main import run
from node.folder import NodeFolder
from node.services.ingest_ledger import PlanHeld
from node.services.schedule import Schedule

Make = Callable[..., NodeFolder]


def write(folder: Path, *units: str, name: str = "export.xml", total: int | None = None) -> Path:
    """A document with the images of its units beside it."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(6):
        (folder / f"images/{number}.jpg").write_bytes(jpeg(number))
    (folder / name).write_text(response(document(*units), total=total), "utf-8")
    return folder / name


def units(*numbers: int) -> list[str]:
    return [pictured(number, f"images/{number}.jpg") for number in numbers]


def published(node: NodeFolder) -> list[str]:
    with node.database.reader() as conn:
        return [
            row["body"].decode() for row in conn.execute("SELECT body FROM record WHERE state = 'active' ORDER BY iri")
        ]


def test_a_file_is_taken_in_like_an_archive(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node()
    path = write(tmp_path / "in", *units(*range(6)))
    folder = str(node.settings.folder)
    assert run(["ingest", folder, str(path)]) == 0
    assert "6 new" in capsys.readouterr().out
    with node.database.reader() as conn:
        media = conn.execute("SELECT * FROM medium WHERE image IS NOT NULL").fetchall()
        title = conn.execute("SELECT title FROM source").fetchone()[0]
    assert title == "Herbarium Berolinense"
    assert {row["locator"] for row in media} == {f"images/{number}.jpg" for number in range(6)}
    assert all(row["access"] == 0 for row in media), "CC0 of the image's own"
    assert sum('"dwc:locality":"Secretvalley' in body for body in published(node)) == 6
    assert ingest(node, path).is_unchanged
    path.write_text(path.read_text("utf-8")[:-40], "utf-8")
    assert run(["ingest", folder, str(path)]) == 2
    said = capsys.readouterr().err
    assert "export.xml is cut off, or not well-formed XML" in said
    assert len(said.strip().splitlines()) == 1


def test_pages_in_a_folder_and_in_a_zip_are_the_same_source(make_node: Make, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    write(pages, *units(0, 1), name="response.00001.xml", total=4)
    write(pages, *units(2, 3), name="response.00002.xml", total=4)
    first = make_node("first")
    assert ingest(first, pages).new == 4
    with zipfile.ZipFile(tmp_path / "pages.zip", "w") as packed:
        for item in sorted(pages.rglob("*")):
            packed.write(item, item.relative_to(pages))
    second = make_node("second")
    assert ingest(second, tmp_path / "pages.zip").new == 4
    assert ingest(first, tmp_path / "pages.zip").is_unchanged
    (pages / "response.00002.xml").unlink()
    with pytest.raises(PlanHeld, match="ends early"):
        ingest(first, pages, prune=True)


def test_a_scheduled_document_is_read_again(make_node: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "in", *units(*range(6)))
    node = make_node()
    toml = node.settings.folder / "node.toml"
    every = f'[sources.collection]\npath = "{path}"\nevery_hours = 168\n'
    toml.write_text(toml.read_text("utf-8").replace("[sources.collection]\n", every), "utf-8")
    times = [NOW]
    schedule = Schedule(node, clock=lambda: times[-1])
    assert [item.text for item in schedule.run_due()] == ["6 new, 0 changed, 0 unchanged"]
    write(tmp_path / "in", *units(*range(5)), pictured(5, "images/5.jpg", name="Poa annua"))
    times.append(NOW + timedelta(days=8))
    assert [item.text for item in schedule.run_due()] == ["0 new, 1 changed, 5 unchanged"]


def test_of_a_sensitive_taxon_no_part_of_the_unit_tells_the_place(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings='[[sensitive]]\nvalue = "Acacia alba"\ncategory = 1\n')
    ingest(node, write(tmp_path / "in", *units(0), pictured(1, "images/1.jpg", name="Poa annua")))
    found = published(node)
    assert sum("Acacia alba" in body for body in found) == 1
    assert not any("Acacia alba" in body and "Secret" in body for body in found)
    assert any("Poa annua" in body and "Secretrock" in body for body in found)
