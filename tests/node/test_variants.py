"""Files of one exposure are one medium: taken in, re-exported in every way, served, withdrawn, and never mixed up."""

import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ORIGIN, ingest, jpeg, rows_of, write_archive
from PIL import Image
from review_world import line, review_world, text_result

from cas.ids import ContentId
from node.app import build_application
from node.config import SensitiveTaxon
from node.folder import NodeFolder
from node.services.check import check_records
from node.services.ingest import PlanHeld
from node.services.protect_known import protect_known
from node.services.withdraw import plan_withdrawal, withdraw
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
SIZE = (64, 48)


def picture(seed: int, form: str, *, size: tuple[int, int] = SIZE, dpi: int = 72) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, dpi=(dpi, dpi))
    return out.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def pair(number: int) -> dict[str, bytes]:
    return {f"tif/X-{number}.tif": picture(number, "TIFF"), f"jpg/X-{number}.jpg": jpeg(number)}


def paired_rows(count: int) -> list[dict[str, str]]:
    return [{**row, "image": f"tif/X-{number}.tif|jpg/X-{number}.jpg"} for number, row in enumerate(rows_of(count))]


def paired(folder: Path, count: int) -> tuple[Path, list[dict[str, str]]]:
    rows = paired_rows(count)
    for number in range(count):
        write(folder, pair(number))
    return write_archive(folder, rows), rows


def hex_of(data: bytes) -> str:
    return ContentId.of(data).hex


def media(node: NodeFolder) -> list[dict[str, Any]]:
    """Active media as they are said, with the keys of their files."""
    with node.database.reader() as conn:
        rows = conn.execute("SELECT * FROM medium WHERE state = 'active' ORDER BY key").fetchall()
        found = []
        for row in rows:
            others = conn.execute(
                "SELECT key FROM medium_variant WHERE medium = ? ORDER BY key", (row["iri"],)
            ).fetchall()
            body = conn.execute("SELECT body FROM record WHERE iri = ?", (row["iri"],)).fetchone()["body"]
            found.append({**dict(row), "others": [item["key"] for item in others], "body": json.loads(body)})
        return found


def files_of(medium: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (item["vasculum:variantRole"], item["ac:hashValue"])
        for item in medium["body"].get("ac:hasServiceAccessPoint", [])
    ]


def log_length(node: NodeFolder) -> int:
    with node.database.reader() as conn:
        return int(conn.execute("SELECT count(*) FROM change").fetchone()[0])


def test_master_and_access_copy_are_one_medium_with_both_files(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings="[images]\noriginals_withheld_for = 'nothing'")
    path, _ = paired(tmp_path / "a", 2)
    report = ingest(node, path)
    assert (report.new, report.media) == (2, 4)
    first, second = media(node)
    assert (first["key"], first["others"]) == ("jpg/X-0.jpg", ["tif/X-0.tif"])
    assert (second["key"], second["others"]) == ("jpg/X-1.jpg", ["tif/X-1.tif"])
    tiff, copy = first["body"]["ac:hasServiceAccessPoint"]
    assert (tiff["vasculum:variantRole"], tiff["dcterms:format"]) == ("archival master", "image/tiff")
    assert "vasculum:isProcessingVariant" not in tiff
    assert copy["vasculum:isProcessingVariant"] is True
    assert (tiff["exif:PixelXDimension"], tiff["exif:PixelYDimension"]) == SIZE
    assert tiff["ac:hashValue"] == hex_of(picture(0, "TIFF"))
    assert tiff["ac:accessURI"] == f"{ORIGIN}/cas/sha256/{tiff['ac:hashValue']}"
    assert first["body"]["ac:hashValue"] == copy["ac:hashValue"] == hex_of(jpeg(0))
    before = log_length(node)
    assert ingest(node, path).is_unchanged
    assert log_length(node) == before


COUNTEREXAMPLES: dict[str, dict[str, bytes]] = {
    "two sides": {"X-0_a.tif": picture(0, "TIFF"), "X-0_b.jpg": jpeg(0)},
    "recto and verso": {"recto/X-0.tif": picture(0, "TIFF"), "verso/X-0.jpg": jpeg(0)},
    "another shape": {"X-0.tif": picture(0, "TIFF", size=(48, 64)), "X-0.jpg": jpeg(0)},
    "cropped": {"X-0.tif": picture(0, "TIFF", size=(64, 40)), "X-0.jpg": jpeg(0)},
    "several images": {"X-0.tif": picture(0, "TIFF"), "X-01.jpg": jpeg(1), "X-02.jpg": jpeg(2)},
    "same format and size": {"X-0.jpg": jpeg(0), "small/X-0.jpg": jpeg(1)},
    "a master that is no image": {"X-0.tif": b"II*\0 broken", "X-0.jpg": jpeg(0)},
    "two of a format": {"X-0.tif": picture(0, "TIFF"), "X-0.jpg": jpeg(0), "X-0.jpeg": jpeg(1)},
}


@pytest.mark.parametrize("files", COUNTEREXAMPLES.values(), ids=COUNTEREXAMPLES.keys())
def test_two_exposures_are_never_one(make_node: Make, tmp_path: Path, files: dict[str, bytes]) -> None:
    node = make_node()
    write(tmp_path / "a", files)
    ingest(node, write_archive(tmp_path / "a", [{**rows_of(1)[0], "image": "|".join(files)}]))
    found = media(node)
    assert {item["key"] for item in found} == set(files)
    assert all(not item["others"] and not files_of(item) for item in found)


def test_files_that_other_specimens_show_too_are_one_only_when_all_show_all(make_node: Make, tmp_path: Path) -> None:
    node, folder = make_node(), tmp_path / "a"
    write(folder, {"S.tif": picture(0, "TIFF"), "S.jpg": jpeg(0), "T.tif": picture(1, "TIFF"), "T.jpg": jpeg(1)})
    one, two = rows_of(2)
    ingest(
        node,
        write_archive(folder, [{**one, "image": "S.tif|S.jpg|T.tif|T.jpg"}, {**two, "image": "S.jpg|S.tif|T.jpg"}]),
    )
    assert [(item["key"], item["others"]) for item in media(node)] == [
        ("S.jpg", ["S.tif"]), ("T.jpg", []), ("T.tif", []),
    ]  # fmt: skip
    with node.database.reader() as conn:
        assert conn.execute("SELECT count(*) FROM medium_specimen").fetchone()[0] == 5


def test_a_folder_of_images_has_one_specimen_and_one_medium_per_name(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    write(tmp_path / "a", {"X-0.tif": picture(0, "TIFF"), "X-0.jpg": jpeg(0), "X-1.jpg": jpeg(1)})
    ingest(node, tmp_path / "a")
    assert [(item["key"], item["others"]) for item in media(node)] == [("X-0.jpg", ["X-0.tif"]), ("X-1.jpg", [])]


def test_a_table_states_its_masters_in_a_column(make_node: Make, tmp_path: Path) -> None:
    node, folder = make_node(), tmp_path / "a"
    write(folder, {"scans/9.tif": picture(0, "TIFF"), "web/a.jpg": jpeg(0), "web/b.jpg": jpeg(1)})
    (folder / "list.csv").write_text(
        "Nr,Art,Bild,Master\n1,Planta alba,web/a.jpg,scans/9.tif\n2,Planta rubra,web/b.jpg,\n", "utf-8"
    )
    (folder / "list.csv.mapping.toml").write_text(
        '[table]\ndelimiter = ","\nencoding = "UTF-8"\n[columns]\n"Nr" = "dwc:catalogNumber"\n'
        '"Art" = "dwc:scientificName"\n"Bild" = "dwc:associatedMedia"\n"Master" = "vasculum:archivalMaster"\n',
        "utf-8",
    )
    ingest(node, folder / "list.csv")
    first, second = media(node)
    assert (first["key"], first["others"], second["others"]) == ("web/a.jpg", ["scans/9.tif"], [])
    assert files_of(first)[0] == ("archival master", hex_of(picture(0, "TIFF")))


def test_a_table_states_licence_and_scale_of_each_image(make_node: Make, tmp_path: Path) -> None:
    node, folder = make_node(), tmp_path / "a"
    write(folder, {f"{name}.jpg": jpeg(number) for number, name in enumerate("abc")})
    (folder / "list.csv").write_text("Nr,Bild,L,px\n1,a.jpg|b.jpg,CC0|all rights reserved,20|\n2,c.jpg,,\n", "utf-8")
    (folder / "list.csv.mapping.toml").write_text(
        '[columns]\n"Nr" = "dwc:catalogNumber"\n"Bild" = "dwc:associatedMedia"\n"L" = "media:dcterms:license"\n'
        '"px" = "media:vasculum:pixelsPerMillimetre"\n',
        "utf-8",
    )
    ingest(node, folder / "list.csv")
    first, second, third = media(node)
    said = [item["body"].get("xmpRights:UsageTerms") for item in (first, second, third)]
    assert said == ["CC0", "all rights reserved", None]
    assert [item["body"].get("vasculum:pixelsPerMillimetre") for item in (first, second, third)] == ["20", None, None]
    assert (first["access"], second["access"], third["access"]) == (0, 1, 1)
    with node.database.reader() as conn:
        bodies = [bytes(row["body"]) for row in conn.execute("SELECT body FROM record")]
    assert bodies and not [body for body in bodies if b'"media:' in body]


@pytest.mark.parametrize("policy", ["stated", "none"])
def test_the_institution_may_switch_it_off_and_on_again(make_node: Make, tmp_path: Path, policy: str) -> None:
    node = make_node()
    path, _ = paired(tmp_path / "a", 1)
    ingest(node, path)
    (kept,) = media(node)
    apart = make_node("apart", settings=f"[sources.other]\nvariants = '{policy}'")
    ingest(apart, path, source="other")
    assert [item["others"] for item in media(apart)] == [[], []]
    source = replace(apart.settings.sources["other"], variants="found")
    object.__setattr__(apart.settings, "sources", {"other": source})
    ingest(apart, path, source="other")
    assert [(item["key"], item["others"]) for item in media(apart)] == [(kept["key"], kept["others"])]


# ---------------------------------------------------------------------- re-ingest
def test_a_reordered_export_changes_nothing(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, rows = paired(tmp_path / "a", 6)
    ingest(node, path)
    before, said = log_length(node), media(node)
    mixed = [{**row, "image": "|".join(reversed(row["image"].split("|")))} for row in random.Random(1).sample(rows, 6)]
    report = ingest(node, write_archive(path, mixed))
    assert (report.new, report.tombstoned, report.media_replaced) == (0, 0, 0)
    assert media(node) == said
    assert log_length(node) == before


def test_a_rekeyed_export_keeps_specimens_media_and_files(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, rows = paired(tmp_path / "a", 25)
    ingest(node, path)
    said = {item["iri"]: files_of(item) for item in media(node)}
    again = [{**row, "occurrenceID": row["occurrenceID"].replace("urn:x", "urn:y")} for row in rows]
    with pytest.raises(PlanHeld) as held:
        ingest(node, write_archive(path, again))
    report = ingest(node, path, accepted=held.value.plan.id)
    assert len(report.plan.rekeyed) == 25
    assert {item["iri"]: files_of(item) for item in media(node)} == said


def test_an_export_without_its_masters_is_held_then_the_copies_go_on_and_a_restored_one_is_as_before(
    make_node: Make, tmp_path: Path
) -> None:
    node = make_node()
    path, rows = paired(tmp_path / "a", 25)
    for number in range(25):  # the masters are larger, so they are what is processed
        write(path, {f"tif/X-{number}.tif": picture(number, "TIFF", size=(128, 96))})
    ingest(node, path)
    said = {item["iri"]: (item["key"], files_of(item)) for item in media(node)}
    assert {key[:3] for key, _ in said.values()} == {"tif"}
    write_archive(path, [{**row, "image": row["image"].split("|")[1]} for row in rows])
    with pytest.raises(PlanHeld, match="25 of 25 known images"):
        ingest(node, path)
    with pytest.raises(PlanHeld) as held:
        ingest(node, path)
    report = ingest(node, path, accepted=held.value.plan.id)
    assert report.media_replaced == 25
    left = media(node)
    assert {item["iri"]: item["key"][:3] for item in left} == dict.fromkeys(said, "jpg")
    assert all(not files_of(item) and not item["others"] for item in left)
    ingest(node, write_archive(path, rows))
    assert {item["iri"]: (item["key"], files_of(item)) for item in media(node)} == said
    assert len(media(node)) == 25


def test_a_halved_export_keeps_the_media_that_it_does_not_name(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, rows = paired(tmp_path / "a", 30)
    ingest(node, path)
    said = media(node)
    with pytest.raises(PlanHeld, match="15 of 30 known records"):
        ingest(node, write_archive(path, rows[:15]))
    with pytest.raises(PlanHeld) as held:
        ingest(node, path)
    assert ingest(node, path, accepted=held.value.plan.id).tombstoned == 0
    assert media(node) == said
    ingest(node, write_archive(path, rows))
    assert media(node) == said


def test_an_access_copy_that_comes_later_joins_and_what_was_processed_stays_so(make_node: Make, tmp_path: Path) -> None:
    node, folder = make_node(), tmp_path / "a"
    write(folder, {"tif/X-0.tif": picture(0, "TIFF")})
    row = rows_of(1)[0]
    ingest(node, write_archive(folder, [{**row, "image": "tif/X-0.tif"}]))
    (alone,) = media(node)
    write(folder, pair(0))
    report = ingest(node, write_archive(folder, paired_rows(1)))
    (joined,) = media(node)
    assert (joined["iri"], joined["key"], joined["others"]) == (alone["iri"], "tif/X-0.tif", ["jpg/X-0.jpg"])
    assert (report.media_replaced, joined["version"]) == (0, 2)


def test_a_file_that_stops_being_of_the_same_exposure_becomes_a_medium_of_its_own(
    make_node: Make, tmp_path: Path
) -> None:
    node = make_node()
    path, _ = paired(tmp_path / "a", 1)
    ingest(node, path)
    (before,) = media(node)
    write(path, {"tif/X-0.tif": picture(7, "TIFF", size=(48, 64))})
    ingest(node, path)
    after = media(node)
    assert [(item["key"], item["others"]) for item in after] == [("jpg/X-0.jpg", []), ("tif/X-0.tif", [])]
    assert after[0]["iri"] == before["iri"] != after[1]["iri"]
    assert files_of(after[0]) == []
    write(path, {"tif/X-0.tif": picture(0, "TIFF")})
    ingest(node, path)
    (again,) = media(node)
    assert (again["iri"], again["others"]) == (before["iri"], ["tif/X-0.tif"])


def test_a_missing_file_keeps_its_place_among_the_files(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, _ = paired(tmp_path / "a", 1)
    ingest(node, path)
    (before,) = media(node)
    (path / "tif/X-0.tif").unlink()
    report = ingest(node, path)
    assert (report.files_missing, report.is_unchanged) == (1, True)
    (after,) = media(node)
    assert (after["others"], files_of(after)) == (["tif/X-0.tif"], files_of(before))


async def test_two_media_that_were_known_become_one_and_nothing_that_was_said_is_lost(
    make_node: Make, tmp_path: Path
) -> None:
    """A node of an older version, or names that were mended: master and copy were two media with results of both."""
    world = review_world(make_node, tmp_path)
    rows = [dict(item) for item in world.rows]
    write(world.folder, {"masters/00.tif": picture(0, "TIFF", size=(128, 96))})
    rows[0]["image"] = "images/0.jpg|masters/00.tif"
    world.take_in(rows)
    copy = world.medium(0)
    assert len(media(world.node)) == 7
    await world.run_job({0: text_result(line("Herbarium Martii"))}, where="catalogNumber=X-0")
    said = world.statement(0)
    rows[0]["image"] = "images/0.jpg|images/masters/0.tif"
    write(world.folder, {"images/masters/0.tif": (world.folder / "masters/00.tif").read_bytes()})
    world.take_in(rows)
    found = [item for item in media(world.node) if item["others"]]
    assert [(item["key"], item["others"]) for item in found] == [("images/masters/0.tif", ["images/0.jpg"])]
    assert len(media(world.node)) == 6
    gone = world.record(copy)
    assert gone is not None
    assert (gone[0], gone[2]["dcterms:isReplacedBy"]) == ("tombstone", {"@id": found[0]["iri"]})
    moved = world.again(said.iri)
    assert (moved.medium, moved.document["oa:hasTarget"]["@id"]) == (found[0]["iri"], found[0]["iri"])
    record = world.record(said.iri)
    assert record is not None
    assert (record[0], record[2]["vasculum:evidenceStatus"]) == ("active", "evidence image replaced")
    with world.node.database.reader() as conn:
        links = conn.execute("SELECT medium FROM medium_specimen WHERE specimen = ?", (world.specimen(0),)).fetchall()
        body = conn.execute("SELECT body FROM record WHERE iri = ?", (world.specimen(0),)).fetchone()[0].decode()
    assert [item["medium"] for item in links] == [found[0]["iri"]]
    assert copy not in body
    app = build_application(world.node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        page = await client.get(copy.removeprefix(ORIGIN), headers={"Accept": "text/html"})
        assert page.status == 410
        assert f'href="{found[0]["iri"].removeprefix(ORIGIN)}"' in await page.text()
    world.take_in()
    assert len(media(world.node)) == 6


def findings(node: NodeFolder) -> list[tuple[str, str, str]]:
    with node.database.reader() as conn:
        return [tuple(row) for row in conn.execute("SELECT key, code, message FROM finding ORDER BY code, key")]


def test_a_stated_file_of_another_shape_stays_apart_and_every_ingest_says_so(make_node: Make, tmp_path: Path) -> None:
    node, folder = make_node(), tmp_path / "a"
    write(folder, {"m/9.tif": picture(0, "TIFF", size=(48, 64)), "a.jpg": jpeg(0)})
    (folder / "list.csv").write_text("Nr,Bild,Master\n1,a.jpg,m/9.tif\n", "utf-8")
    (folder / "list.csv.mapping.toml").write_text(
        '[table]\ndelimiter = ","\nencoding = "UTF-8"\n[columns]\n"Nr" = "dwc:catalogNumber"\n'
        '"Bild" = "dwc:associatedMedia"\n"Master" = "vasculum:archivalMaster"\n',
        "utf-8",
    )
    for _ in range(2):
        ingest(node, folder / "list.csv")
        assert [item["others"] for item in media(node)] == [[], []]
        said = [(code, message) for _, code, message in findings(node)]
        assert said == [("variant-differs", "a.jpg: 64x48 pixels, m/9.tif has 48x64")]


def test_a_rescan_of_one_file_tells_of_the_others(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, _ = paired(tmp_path / "a", 2)
    ingest(node, path)
    write(path, {"jpg/X-1.jpg": jpeg(77)})
    report = ingest(node, path)
    assert (report.media_replaced, report.changed) == (1, 1)
    assert findings(node) == [("urn:x:1", "variant-not-replaced", "tif/X-1.tif")]
    write(path, {"jpg/X-0.jpg": jpeg(78), "tif/X-0.tif": picture(78, "TIFF")})
    assert ingest(node, path).media_replaced == 1
    assert findings(node) == []


def test_a_master_with_other_metadata_replaces_nothing(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, _ = paired(tmp_path / "a", 1)
    ingest(node, path)
    write(path, {"tif/X-0.tif": picture(0, "TIFF", dpi=300)})
    report = ingest(node, path)
    assert (report.media_replaced, report.changed, findings(node)) == (0, 1, [])
    (found,) = media(node)
    assert (found["version"], files_of(found)[0][1]) == (2, hex_of(picture(0, "TIFF", dpi=300)))


def test_a_withdrawn_specimen_that_comes_back_has_its_files_again(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, rows = paired(tmp_path / "a", 3)
    ingest(node, path)
    said = [(item["iri"], item["key"], item["others"]) for item in media(node)]
    assert ingest(node, write_archive(path, rows[:2]), prune=True).tombstoned == 2
    assert len(media(node)) == 2
    ingest(node, write_archive(path, rows))
    assert [(item["iri"], item["key"], item["others"]) for item in media(node)] == said


# ---------------------------------------------------------------------- doors
async def test_jobs_manifests_and_addresses_know_the_exposure_once(make_node: Make, tmp_path: Path) -> None:
    world = review_world(make_node, tmp_path, settings="[images]\noriginals_withheld_for = 'nothing'")
    write(world.folder, {"images/0.tif": picture(0, "TIFF")})
    rows = [dict(item) for item in world.rows]
    rows[0]["image"] = "images/0.tif|images/0.jpg"
    world.take_in(rows)
    await world.run_job({}, where="catalogNumber=X-0")
    with world.node.database.reader() as conn:
        units = conn.execute("SELECT image FROM unit").fetchall()
    assert [item["image"] for item in units] == [hex_of(jpeg(0))]
    tiff, copy, iri = hex_of(picture(0, "TIFF")), hex_of(jpeg(0)), world.medium(0)
    app = build_application(world.node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        for image in (tiff, copy):
            answer = await client.get(f"/media/sha256/{image}")
            assert (await answer.json())["media"] == [iri]
        original = await client.get(f"/cas/sha256/{tiff}")
        assert (original.status, original.headers["Content-Type"]) == (200, "image/tiff")
        assert await original.read() == picture(0, "TIFF")
        number = world.specimen(0).rpartition("/")[2]
        manifest = await (await client.get(f"/iiif/presentation/3/specimen/{number}/manifest")).json()
        assert len(manifest["items"]) == 1
        info = await (await client.get(f"/iiif/3/{tiff}/info.json")).json()
        assert (info["width"], info["height"]) == SIZE
        page = await (await client.get(iri.removeprefix(ORIGIN), headers={"Accept": "text/html"})).text()
        assert "Files of this exposure" in page
        assert f"/cas/sha256/{tiff}" in page
        specimen = await (await client.get(f"/specimen/{number}", headers={"Accept": "text/html"})).text()
        assert specimen.count("<figure") == 1


async def test_the_strictest_use_of_any_file_closes_it_everywhere(make_node: Make, tmp_path: Path) -> None:
    """The master is also the only image of a record that closes it."""
    node = make_node(settings="[images]\noriginals_withheld_for = 'nothing'")
    path, rows = paired(tmp_path / "a", 1)
    other = {**rows_of(2)[1], "image": "other/Y.tif", "licence": "all rights reserved"}
    write(path, {"other/Y.tif": picture(0, "TIFF")})
    ingest(node, write_archive(path, [rows[0], other]))
    tiff = hex_of(picture(0, "TIFF"))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get(f"/cas/sha256/{tiff}")).status == 403
        assert (await client.get(f"/cas/sha256/{hex_of(jpeg(0))}")).status == 200
        assert len((await (await client.get(f"/media/sha256/{tiff}")).json())["media"]) == 2


@pytest.mark.parametrize("state", ["restricted", "private", "sensitive"])
async def test_a_closed_exposure_closes_all_of_its_files(make_node: Make, tmp_path: Path, state: str) -> None:
    settings = "[images]\noriginals_withheld_for = 'nothing'\n"
    settings += (
        "[[sensitive]]\nvalue = 'Planta numero0'\ncategory = 4\n" if state == "sensitive"
        else f"[[sources.collection.rules]]\nfield = 'catalogNumber'\nmatch = 'X-0'\naccess = '{state}'\n"
    )  # fmt: skip
    node = make_node(settings=settings)
    path, _ = paired(tmp_path / "a", 2)
    ingest(node, path)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        for data in (picture(0, "TIFF"), jpeg(0)):
            answer = await client.get(f"/cas/sha256/{hex_of(data)}")
            assert answer.status == (404 if state == "private" else 403)
        assert (await client.get(f"/cas/sha256/{hex_of(picture(1, 'TIFF'))}")).status == 200


def test_what_becomes_sensitive_later_keeps_its_files_together_and_closes_them(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, _ = paired(tmp_path / "a", 2)
    ingest(node, path)
    taxon = SensitiveTaxon(value="Planta numero0", category=4)
    settings = replace(node.settings, sensitive=(taxon,))
    assert protect_known(settings, node.database, clock=lambda: NOW) == 1
    first, second = media(node)
    assert (first["sensitive"], first["others"], second["sensitive"]) == (1, ["tif/X-0.tif"], 0)
    assert "ac:accessURI" not in json.dumps(first["body"]["ac:hasServiceAccessPoint"])


def test_withdrawing_a_master_leaves_the_copy_and_no_trace_of_the_master(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, _ = paired(tmp_path / "a", 2)
    ingest(node, path)
    cid = ContentId.of(picture(0, "TIFF"))
    plan = plan_withdrawal(node, cid)
    assert plan.other_files == (ContentId.of(jpeg(0)),)
    assert plan_withdrawal(node, ContentId.of(jpeg(0))).other_files == (cid,)
    withdraw(node, plan, reason="not ours", now=NOW, new_key=b"k" * 32)
    first, second = media(node)
    assert (first["others"], files_of(first), first["body"]["ac:hashValue"]) == ([], [], hex_of(jpeg(0)))
    assert second["others"] == ["tif/X-1.tif"]
    with node.database.reader() as conn:
        for table in ("record", "record_version", "medium_variant", "medium_version", "source_row", "finding"):
            for row in conn.execute(f"SELECT * FROM {table}"):
                text = str([item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in row])
                assert cid.hex not in text, table
                assert "tif/X-0.tif" not in text, table
    ingest(node, path)
    assert [item["others"] for item in media(node)] == [[], ["tif/X-1.tif"]]


def test_fsck_tells_of_a_file_that_is_gone(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path, _ = paired(tmp_path / "a", 2)
    ingest(node, path)
    assert list(check_records(node.database, node.blobs)) == []
    with node.database.transaction() as conn:
        conn.execute("UPDATE medium_variant SET image = ? WHERE key = 'tif/X-1.tif'", ("ab" * 32,))
    (finding,) = check_records(node.database, node.blobs)
    assert "ab" * 32 in finding.text


def test_a_master_that_is_closed_by_its_own_licence_stays_a_medium_of_its_own(make_node: Make, tmp_path: Path) -> None:
    node, folder = make_node(), tmp_path / "a"
    rows = rows_of(1)
    write(folder, pair(0))
    write_archive(folder, [{**rows[0], "image": "tif/X-0.tif|jpg/X-0.jpg"}])
    table = (folder / "multimedia.txt").read_text("utf-8")
    (folder / "multimedia.txt").write_text(
        table.replace("tif/X-0.tif\tCC0", "tif/X-0.tif\tall rights reserved"), "utf-8"
    )
    ingest(node, folder)
    assert [(item["key"], item["access"]) for item in media(node)] == [("jpg/X-0.jpg", 0), ("tif/X-0.tif", 1)]
