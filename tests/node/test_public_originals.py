"""An original whose metadata tells too much stays; the same picture without it is given out under an id of its own."""

import io
import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ROOT, ingest, jpeg, rows_of, write_archive
from PIL import Image

from cas.ids import ContentId
from linkeddata.jpeg_parts import SOS, parts_of
from linkeddata.luggage import Luggage
from node.access import ANONYMOUS, STAFF, Door, Facts, Viewer, decide
from node.app import build_application
from node.cli.main import run
from node.config import ImagesSection
from node.doctor import examine
from node.folder import NodeFolder
from node.services.roots import named_digests
from node.services.withdraw import plan_withdrawal, withdraw
from node.storage.facts import bytes_facts
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
NOTE = b"SERIAL-4711"


def with_gps(*, orientation: int = 6, note: bytes = NOTE) -> bytes:
    """A JPEG that tells where it was taken, and a serial number."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0xA431] = note.decode()
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "N", (47.0, 12.0, 34.5), "E", (8.0, 5.0, 6.5)
    out = io.BytesIO()
    Image.effect_noise((160, 120), 60).convert("RGB").save(out, "JPEG", quality=90, exif=exif)
    return out.getvalue()


GPS = with_gps()
LICENCES = ("CC0", "all rights reserved", "CC0")


def filled(make_node: Make, folder: Path, *, settings: str = "") -> tuple[NodeFolder, list[str]]:
    """A node with: an open image with GPS, a restricted one with GPS, an open one without; and the three ids."""
    files = [GPS, with_gps(note=b"SERIAL-0815"), jpeg(2)]
    rows = rows_of(3)
    for row, licence in zip(rows, LICENCES, strict=True):
        row["licence"] = licence
    node = make_node(settings=settings)
    ingest(node, write_archive(folder, rows, images=lambda number: files[number]))
    return node, [ContentId.of(data).hex for data in files]


def serve(node: NodeFolder) -> TestClient:  # type: ignore[type-arg]
    return TestClient(TestServer(build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)))


def public_of(node: NodeFolder, image: str) -> str | None:
    with node.database.reader() as conn:
        row = conn.execute("SELECT public FROM luggage WHERE image = ?", (image,)).fetchone()
        return None if row is None else row["public"]


async def test_the_original_stays_and_says_where_its_picture_is(make_node: Make, tmp_path: Path) -> None:
    node, (gps, restricted, plain) = filled(make_node, tmp_path / "a")
    public = public_of(node, gps)
    assert public is not None
    async with serve(node) as client:
        for method in ("GET", "HEAD"):
            for headers in ({}, {"Range": "bytes=0-99"}):
                refused = await client.request(method, f"/cas/sha256/{gps}", headers=headers)
                assert refused.status == 403
                assert public in refused.headers["Link"]
        said = await (await client.get(f"/cas/sha256/{gps}")).json()
        assert said["type"].endswith("/metadata-withheld")
        assert said["detail"].endswith(f"/cas/sha256/{public}")
        assert "47" not in said["detail"].partition("http")[0]
        for form in ("raw", "car"):
            answer = await client.get(f"/ipfs/{ContentId.from_hex(gps).to_cid()}?format={form}")
            assert answer.status == 403, form
        answer = await client.get(f"/cas/sha256/{public}")
        data = await answer.read()
        assert answer.status == 200
        assert answer.content_type == "image/jpeg"
        assert "immutable" in answer.headers["Cache-Control"]
        assert ContentId.of(data).hex == public
        assert NOTE not in data
        assert (await client.get(f"/iiif/3/{public}/full/20,/0/default.jpg")).status == 200
        assert (await client.get(f"/iiif/3/{gps}/full/20,/0/default.jpg")).status == 200
        known = await (await client.get(f"/media/sha256/{public}")).json()
        assert len(known["media"]) == 1
        assert (await client.get(f"/cas/sha256/{plain}")).status == 200, "what tells nothing is given out as it is"
        assert (await client.get(f"/cas/sha256/{restricted}")).status == 403
    assert public_of(node, restricted) is None, "made only of what is open"
    assert [data[p.start : p.stop] for p in parts_of(data) if p.marker == SOS] == [
        GPS[p.start : p.stop] for p in parts_of(GPS) if p.marker == SOS
    ]
    with Image.open(io.BytesIO(data)) as image:
        assert dict(image.getexif()) == {0x0112: 6}
        assert b"publicdomain/zero" in image.info["xmp"]


async def test_the_record_says_which_is_public_and_what_it_was_made_from(make_node: Make, tmp_path: Path) -> None:
    node, (gps, restricted, plain) = filled(make_node, tmp_path / "a")
    public = public_of(node, gps)
    bodies: dict[str, Any] = {}
    with node.database.reader() as conn:
        for row in conn.execute("SELECT m.image, r.body FROM medium m JOIN record r ON r.iri = m.iri"):
            bodies[row["image"]] = json.loads(row["body"])
    body = bodies[gps]
    assert body["vasculum:contentId"] == f"hash://sha256/{gps}"
    assert body["ac:accessURI"] == f"{node.settings.origin}/cas/sha256/{public}"
    described = body["vasculum:publicOriginal"]
    assert described["vasculum:contentId"] == f"hash://sha256/{public}"
    assert described["prov:wasDerivedFrom"] == {"@id": f"hash://sha256/{gps}"}
    assert bodies[plain]["ac:accessURI"].endswith(plain)
    for image in (restricted, plain):
        assert "vasculum:publicOriginal" not in bodies[image]
    async with serve(node) as client:
        with node.database.reader() as conn:
            iri = conn.execute("SELECT iri FROM medium WHERE image = ?", (gps,)).fetchone()[0]
        page = await (await client.get("/media/" + iri.rsplit("/", 1)[1], headers={"Accept": "text/html"})).text()
    assert f"/cas/sha256/{public}" in page
    assert f"/cas/sha256/{gps}" not in page


@pytest.mark.parametrize(("value", "status"), [("nothing", 200), ("places", 403), ("all", 403)])
async def test_node_toml_says_what_an_original_is_withheld_for(
    make_node: Make, tmp_path: Path, value: str, status: int
) -> None:
    node, (gps, _, _) = filled(make_node, tmp_path / "a", settings=f'[images]\noriginals_withheld_for = "{value}"\n')
    async with serve(node) as client:
        assert (await client.get(f"/cas/sha256/{gps}")).status == status
    assert (public_of(node, gps) is None) == (status == 200)


def test_the_decision() -> None:
    from linkeddata.access import AccessClass

    tells = frozenset({Luggage.POSITION})
    facts = Facts(access=AccessClass.OPEN, luggage=tells, public_original="p")
    assert decide(STAFF, Door.ORIGINAL, facts, withheld_for="places").allowed
    for viewer in (ANONYMOUS, Viewer(kid="k")):
        seen = decide(viewer, Door.ORIGINAL, facts, withheld_for="places")
        assert (seen.allowed, seen.kind, seen.instead) == (False, "metadata-withheld", "p")
        assert decide(viewer, Door.BYTES, facts).allowed, "pictures made of it carry no metadata"
        assert decide(viewer, Door.ORIGINAL, facts, withheld_for="nothing").allowed
        unseen = Facts(access=AccessClass.OPEN, public_original="p")
        assert decide(viewer, Door.ORIGINAL, unseen, withheld_for="places").instead is None, "nobody has looked"
    closed = Facts(access=AccessClass.RESTRICTED, luggage=tells, public_original="p")
    assert decide(ANONYMOUS, Door.ORIGINAL, closed, withheld_for="places").instead is None


async def test_a_public_original_is_closed_with_its_original(make_node: Make, tmp_path: Path) -> None:
    node, (gps, _, _) = filled(make_node, tmp_path / "a")
    public = public_of(node, gps)
    async with serve(node) as client:
        assert (await client.get(f"/cas/sha256/{public}")).status == 200
        for column, value, status in (("sensitive", 1, 403), ("access", 1, 403), ("access", 2, 404)):
            with node.database.transaction() as conn:
                conn.execute(f"UPDATE medium SET access = 0, sensitive = 0, {column} = ? WHERE image = ?", (value, gps))
            for name in (public, gps):
                answer = await client.get(f"/cas/sha256/{name}")
                assert answer.status == status, (column, name)
                if name == gps:
                    assert str(public) not in await answer.text()
            assert (await client.get(f"/iiif/3/{public}/full/max/0/default.jpg")).status == status


def test_it_is_named_and_goes_with_its_original(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, (gps, _, _) = filled(make_node, tmp_path / "a")
    public = public_of(node, gps)
    assert public is not None
    cid = ContentId.from_hex(public)
    assert cid.digest in set(named_digests(node.database)), "else the next gc removes it"
    plan = plan_withdrawal(node, ContentId.from_hex(gps))
    assert plan.public_originals == (cid,)
    capsys.readouterr()
    assert run(["withdraw", str(node.settings.folder), gps, "--reason", "asked", "--dry-run"]) == 0
    assert f"{cid}, the public original, goes with it" in capsys.readouterr().out
    withdraw(node, plan, reason="asked", now=NOW, new_key=b"k" * 32)
    assert node.blobs.stat(cid) is None
    assert node.blobs.is_withdrawn(cid)
    with node.database.reader() as conn:
        assert not conn.execute("SELECT 1 FROM luggage WHERE image = ?", (gps,)).fetchone()
        assert not conn.execute("SELECT 1 FROM public_original").fetchone()
        assert not bytes_facts(conn, cid).exists


async def test_new_rights_make_a_new_one_and_the_old_id_stays(make_node: Make, tmp_path: Path) -> None:
    node, (gps, _, _) = filled(make_node, tmp_path / "a")
    old = public_of(node, gps)
    rows = rows_of(3)
    rows[0]["licence"] = "CC BY 4.0"
    ingest(node, write_archive(tmp_path / "a", rows, images=lambda number: [GPS, jpeg(1), jpeg(2)][number]))
    new = public_of(node, gps)
    assert new not in (None, old)
    async with serve(node) as client:
        for name in (old, new):
            assert (await client.get(f"/cas/sha256/{name}")).status == 200
        assert b"licenses/by/4.0" in await (await client.get(f"/cas/sha256/{new}")).read()


def test_a_second_ingest_changes_nothing(make_node: Make, tmp_path: Path) -> None:
    node, _ = filled(make_node, tmp_path / "a")
    with node.database.reader() as conn:
        before = conn.execute("SELECT count(*) FROM change").fetchone()[0]
    assert ingest(node, tmp_path / "a").is_unchanged
    with node.database.reader() as conn:
        assert conn.execute("SELECT count(*) FROM change").fetchone()[0] == before


def test_the_commands(make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node, (gps, _, plain) = filled(make_node, tmp_path / "a")
    folder = str(node.settings.folder)
    with node.database.transaction() as conn:  # as after an upgrade from a version that did not look
        conn.execute("DELETE FROM luggage")
        assert (
            decide(ANONYMOUS, Door.ORIGINAL, bytes_facts(conn, ContentId.from_hex(plain))).kind == "metadata-withheld"
        )
    assert run(["images", "withheld", folder, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["id"].rpartition("/")[2] for line in lines} == {gps, plain}
    assert {line["why"] for line in lines} == {"not looked at"}
    assert run(["images", "public-original", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"looked": 3, "publicOriginals": 1, "recordsChanged": 0}
    assert run(["images", "withheld", folder]) == 0
    text = capsys.readouterr().out
    assert "coordinates, serial numbers" in text
    assert str(public_of(node, gps)) in text
    assert "1 originals are withheld" in text


def test_doctor_and_fsck_know_about_them(make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node, (gps, _, _) = filled(make_node, tmp_path / "a")
    folder, public = str(node.settings.folder), public_of(node, gps)
    assert public is not None
    assert run(["fsck", folder]) == 0
    assert not [item for item in examine(node.settings.folder, now=NOW) if item.about == "originals"]
    with node.database.transaction() as conn:
        conn.execute("DELETE FROM luggage WHERE image <> ?", (gps,))
    found = [item.text for item in examine(node.settings.folder, now=NOW) if item.about == "originals"]
    assert len(found) == 1
    assert "2 files" in found[0]
    path = next(
        item for item in (node.settings.blobs_path).rglob("*") if item.name.endswith(public) or public in str(item)
    )
    path.unlink()
    capsys.readouterr()
    assert run(["fsck", folder]) == 1, "its bytes are gone"
    assert run(["images", "public-original", folder]) == 0
    assert run(["fsck", folder]) == 0, "they were made again"
    assert public_of(node, gps) == public
    with node.database.transaction() as conn:
        conn.execute("UPDATE luggage SET public = ? WHERE image = ?", ("a" * 64, gps))
    capsys.readouterr()
    assert run(["fsck", folder]) == 1
    assert "public-original-missing" in capsys.readouterr().out


def test_the_page_about_them_runs(make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands of docs/how-to-protect-sensitive-images.md, and its settings; what is blacked out: test_redactions."""
    page = (
        (ROOT / "docs/how-to-protect-sensitive-images.md").read_text("utf-8").partition("### Pictures with blacked")[0]
    )
    asked: dict[str, Any] = {}
    for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        asked |= tomllib.loads(block)["images"]
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in asked.items())
    node, (gps, _, _) = filled(make_node, tmp_path / "a", settings=f"[images]\n{lines}")
    default = ImagesSection()
    assert {name: getattr(default, name) for name in asked} == asked, "the page shows the defaults"
    commands = re.findall(r"^\$ vasculum (.*)$", page, re.MULTILINE)
    assert len(commands) == 3
    for line in commands:
        assert run(shlex.split(line.replace("hortus", str(node.settings.folder)))) == 0, line
        printed = capsys.readouterr().out
        assert (gps in printed) == ("withheld" in line)
