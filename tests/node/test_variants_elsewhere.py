"""Files of one exposure that lie in a zip, or at addresses: stated by Audiovisual Core, fetched at first need."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import AC, DCTERMS, DWC, folder, table
from conftest import ingest, jpeg, rows_of, write_archive
from remote_world import ON_NEED, Clock, Elsewhere, elsewhere, media_of
from test_variants import files_of, hex_of, media, picture, write

from node.folder import NodeFolder

Make = Callable[..., NodeFolder]


@pytest.fixture
def server() -> Iterator[Elsewhere]:
    with elsewhere() as found:
        yield found


def stated(path: Path, files: list[tuple[str, str, str]]) -> Path:
    """An archive of one specimen whose media rows are (address, identifier, variant)."""
    core = table("core", DWC + "Occurrence", "occurrence.txt", ["", DWC + "occurrenceID", DWC + "catalogNumber"])
    terms = ["", DCTERMS + "identifier", AC + "accessURI", AC + "variantLiteral", DCTERMS + "type", DCTERMS + "license"]
    rows = [f"1\t{identifier}\t{address}\t{variant}\tStillImage\tCC0" for address, identifier, variant in files]
    return folder(
        path, core + table("extension", AC + "Multimedia", "media.txt", terms),
        {"occurrence.txt": b"1\turn:x:1\tX-1\n", "media.txt": ("\n".join(rows) + "\n").encode()},
    )  # fmt: skip


def listed(medium: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = medium["body"]["ac:hasServiceAccessPoint"]
    return found


def test_a_zip_is_like_its_folder_and_the_same_zip_changes_nothing(make_node: Make, tmp_path: Path) -> None:
    node, path = make_node(), tmp_path / "a"
    write(path, {"tif/X-0.tif": picture(0, "TIFF"), "jpg/X-0.jpg": jpeg(0)})
    write_archive(path, [{**rows_of(1)[0], "image": "tif/X-0.tif|jpg/X-0.jpg"}])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for item in path.rglob("*"):
            packed.write(item, item.relative_to(path))
    ingest(node, tmp_path / "a.zip")
    (found,) = media(node)
    assert (found["key"], found["others"]) == ("jpg/X-0.jpg", ["tif/X-0.tif"])
    report = ingest(node, tmp_path / "a.zip")
    assert (report.is_unchanged, report.bytes_hashed) == (True, 0)
    assert media(node) == [found]


def test_addresses_that_are_stated_to_be_one_exposure_are_one_medium_and_one_is_fetched(
    make_node: Make, server: Elsewhere, tmp_path: Path
) -> None:
    node = make_node(settings=ON_NEED + "[images]\noriginals_withheld_for = 'nothing'")
    copy, master = server.hold("/c", jpeg(1)), server.hold("/m", picture(1, "TIFF"))
    other = server.hold("/o", jpeg(2))
    files = [(master, "urn:m:1", "Best Quality"), (copy, "urn:m:1", "Good Quality"), (other, "urn:m:2", "Good Quality")]
    path = stated(tmp_path / "a", files)
    ingest(node, path, source="web")
    first, second = media(node)
    assert (first["locator"], second["locator"], second["others"]) == (copy, other, [])
    assert [item["ac:accessURI"] for item in listed(first)] == [master, copy]
    assert [item["ac:variantLiteral"] for item in listed(first)] == ["Best Quality", "Good Quality"]
    assert server.asked == []
    remote = media_of(node, Clock())
    assert [item.kind for item in remote.work([copy])] == ["fetched"]
    assert [item.kind for item in remote.work([master])] == ["unknown"]
    (first, _) = media(node)
    assert [item.get("ac:hashValue") for item in listed(first)] == [None, hex_of(jpeg(1))]
    assert first["body"]["ac:hashValue"] == hex_of(jpeg(1))
    assert ingest(node, path, source="web").is_unchanged
    assert server.paths() == ["/c"]
    (again, _) = media(node)
    assert again == first


def test_new_bytes_of_another_shape_at_an_address_part_the_files(
    make_node: Make, server: Elsewhere, tmp_path: Path
) -> None:
    node = make_node(settings=ON_NEED)
    copy, path = server.hold("/c", jpeg(1), headers={"ETag": '"1"'}), tmp_path / "a"
    ingest(node, stated(path, [(copy, "m", "Good Quality")]), source="web")
    remote = media_of(node, Clock())
    assert [item.kind for item in remote.work([copy])] == ["fetched"]
    write(path, {"t.jpg": jpeg(1, size=(32, 24))})
    ingest(node, stated(path, [("t.jpg", "m", "Thumbnail"), (copy, "m", "Good Quality")]), source="web")
    (found,) = media(node)
    assert (found["locator"], found["others"], len(files_of(found))) == (copy, ["t.jpg"], 2)
    server.hold("/c", jpeg(2, size=(48, 64)), headers={"ETag": '"2"'})
    assert [item.kind for item in remote.work([copy], check=True)] == ["replaced"]
    (found,) = media(node)
    assert (found["image"], found["others"]) == (hex_of(jpeg(2, size=(48, 64))), [])
    assert "ac:hasServiceAccessPoint" not in found["body"]
    ingest(node, path, source="web")
    assert sorted(item["key"] for item in media(node)) == sorted([copy.partition("//")[2], "t.jpg"])
