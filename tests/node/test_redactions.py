"""``sensitive_images = "redacted"``: a picture with blacked out labels is given out, and nothing else."""

import json
import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ROOT, ingest, jpeg, rows_of, write_archive
from redact_world import (
    BOXES,
    LABELS,
    REDACTED,
    SENSITIVE,
    SIZE,
    approve,
    derivative_of,
    filled,
    given_out,
    keep,
    pixels,
    sensitive_images,
    settle,
    sheet,
    text_of,
    why_not,
)
from test_access_all_routes import last

from cas.ids import ContentId
from linkeddata.luggage import Luggage, luggage_of
from node.app import build_application
from node.cli import redact
from node.cli.main import run
from node.config import load_settings
from node.folder import NodeFolder
from node.services.ingest import Ingest
from node.services.intake_source import open_intake
from node.services.read_labels import LabelsRead
from node.services.redactions import Redactions
from node.services.roots import named_digests
from node.services.withdraw import plan_withdrawal, withdraw
from node.storage import records, redactions
from node.web.session import make_token
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
SETTINGS = REDACTED + SENSITIVE


def serve(node: NodeFolder) -> TestClient:  # type: ignore[type-arg]
    return TestClient(TestServer(build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)))


def medium_of(node: NodeFolder, image: str) -> tuple[str, str, dict[str, Any]]:
    """IRIs of medium and specimen, and the record of the medium."""
    with node.database.reader() as conn:
        row = conn.execute(
            "SELECT m.iri, s.specimen FROM medium m JOIN medium_specimen s ON s.medium = m.iri WHERE m.image = ?",
            (image,),
        ).fetchone()
        stored = records.get_by_iri(conn, row["iri"])
    assert stored is not None
    return row["iri"], row["specimen"], json.loads(stored.body)


def set_toml(node: NodeFolder, old: str, new: str) -> None:
    path = node.settings.folder / "node.toml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    object.__setattr__(node, "settings", load_settings(node.settings.folder))


def take_in_again(node: NodeFolder, archive: Path) -> None:
    with open_intake(archive, "collection") as intake:
        Ingest(node.settings, node.database, node.blobs, intake, clock=lambda: NOW).run()


async def staff_cookie(node: NodeFolder, client: TestClient) -> str:  # type: ignore[type-arg]
    with node.database.transaction() as conn:
        token = make_token(conn, now=NOW)
    answer = await client.post(
        "/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False
    )
    return f"vasculum_staff={answer.cookies['vasculum_staff'].value}"


async def test_only_the_covered_picture_is_given_out_and_at_every_door(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings=SETTINGS)
    image = filled(node, tmp_path / "a")
    iri, specimen, before = medium_of(node, image)
    closed = [f"/cas/sha256/{image}", f"/iiif/3/{image}/info.json", f"/iiif/3/{image}/full/max/0/default.jpg",
              f"/media/sha256/{image}"]  # fmt: skip

    async def refusals(client: TestClient) -> list[tuple[int, bytes]]:  # type: ignore[type-arg]
        return [((answer := await client.get(path)).status, await answer.read()) for path in closed]

    async with serve(node) as client:
        refused = await refusals(client)
        assert [status for status, _ in refused] == [403, 403, 403, 200]
        assert (await client.get(f"/media/{last(iri)}/preview.jpg")).status == 403
        keep(node, image, text_of(BOXES))
        assert "nobody has looked at it" in why_not(node, image)
        assert settle(node).made == 0
        approve(node, image)
        settle(node)
        made = derivative_of(node, image)
        assert made is not None
        assert await refusals(client) == refused, "the original stays as it was, and leads nowhere"
        answer = await client.get(f"/cas/sha256/{made}")
        data = await answer.read()
        assert (answer.status, answer.content_type) == (200, "image/jpeg")
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert ContentId.of(data).hex == made
        assert luggage_of(data) <= {Luggage.TEXT}
        assert b"licenses/by/4.0" in data
        assert not luggage_of(sheet()) <= {Luggage.TEXT}
        shown, original = pixels(data), pixels(sheet())
        assert shown.shape == original.shape
        for x, y, w, h in BOXES:
            assert shown[y - 15 : y + h + 40, x - 20 : x + w + 20].max() <= 40
        plant = np.s_[350:800, 250:650]
        assert np.abs(shown[plant].astype(int) - original[plant]).mean() < 4, "the plant is as it was"
        info = await (await client.get(f"/iiif/3/{made}/info.json")).json()
        assert (info["width"], info["height"]) == SIZE
        for path in (
            f"/iiif/3/{made}/full/max/0/default.jpg",
            f"/iiif/3/{made}/{LABELS[0][0]},{LABELS[0][1]},400,200/max/0/default.png",
        ):
            answer = await client.get(path)
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "private, no-store"
        assert pixels(await answer.read()).max() <= 40
        assert pixels(await (await client.get(f"/iiif/3/{made}/full/400,/0/default.jpg")).read()).shape[1] == 400
        preview = await client.get(f"/media/{last(iri)}/preview.jpg")
        assert preview.headers["Cache-Control"] == "private, no-store"
        small = pixels(await preview.read())
        assert small[LABELS[0][1] + 20 : LABELS[0][1] + 200, 440:840].max() <= 40
        assert (await (await client.get(f"/media/sha256/{made}")).json())["media"] == [iri]
        for form in ("raw", "car"):
            assert (await client.get(f"/ipfs/{ContentId.from_hex(made).to_cid()}?format={form}")).status == 404
        manifest = await (await client.get(f"/iiif/presentation/3/specimen/{last(specimen)}/manifest")).text()
        assert f"/iiif/3/{made}" in manifest
        assert f"/iiif/3/{image}" not in manifest
        assert "labels blacked out" in manifest
        page = await (await client.get(f"/specimen/{last(specimen)}", headers={"Accept": "text/html"})).text()
        assert f'data-viewer="/iiif/3/{made}"' in page
        assert "labels blacked out" in page
        assert f"/iiif/3/{image}" not in page
        assert (
            f"/media/{last(iri)}/preview.jpg"
            in await (await client.get("/search?q=numero0", headers={"Accept": "text/html"})).text()
        )
        own = {"Accept": "text/html", "Cookie": await staff_cookie(node, client)}
        assert (
            f'data-viewer="/iiif/3/{image}"'
            in await (await client.get(f"/specimen/{last(specimen)}", headers=own)).text()
        )
    _, _, body = medium_of(node, image)
    said = body["vasculum:redacted"]
    assert said["vasculum:contentId"] == f"hash://sha256/{made}"
    assert said["prov:wasDerivedFrom"] == {"@id": f"hash://sha256/{image}"} == {"@id": before["vasculum:contentId"]}
    assert body["ac:accessURI"] == said["ac:accessURI"] == f"{node.settings.origin}/cas/sha256/{made}"
    assert body["ac:hashValue"] == before["ac:hashValue"], "the medium is the same"
    kept = {name: value for name, value in body.items() if name not in ("ods:version", "dcterms:modified")}
    added = json.dumps({name: kept[name] for name in kept.keys() - before.keys()})
    assert not re.search(r"(?<![0-9a-f])450(?![0-9a-f])", added), "no box is told (hashes hold any digits)"


@pytest.mark.parametrize("changed", ["doubts", "readable", "uncertain", "size", "parameters", "nothing read", "rejected",
                                     "not conformant", "licence", "not approved"])  # fmt: skip
async def test_where_one_condition_fails_nothing_is_given_out(make_node: Make, tmp_path: Path, changed: str) -> None:
    node = make_node(settings=SETTINGS)
    licence = "all rights reserved" if changed == "licence" else "CC0"
    image = filled(node, tmp_path / "a", licence=licence)
    good, said = text_of(BOXES), {
        "doubts": "has doubts", "readable": "could not be read", "uncertain": "1 of 4 lines", "size": "another size",
        "parameters": "a smaller size", "nothing read": "not read by this node", "rejected": "rejected or taken back",
        "not conformant": "does not do what it should", "licence": "no open licence", "not approved": "nobody has looked",
    }  # fmt: skip
    bodies: dict[str, Any] = {
        "doubts": {**good, "doubts": ["blur"]}, "readable": {**good, "readable": False},
        "size": text_of(BOXES, size=(1800, 2400)),
        "uncertain": {**good, "lines": [{**good["lines"][0], "writing": "uncertain"}, *good["lines"][1:]]},
    }  # fmt: skip
    unit = keep(node, image, good, at=NOW - timedelta(days=1))
    if changed not in ("licence", "not approved"):
        approve(node, image)
        settle(node)
        assert derivative_of(node, image)
    given = derivative_of(node, image)
    with node.database.transaction() as conn:
        if changed == "nothing read":
            conn.execute("DELETE FROM unit")
        elif changed == "not conformant":
            conn.execute(
                "INSERT INTO conformance VALUES (?, ?, 'fail', x'7b7d', 'x')", (unit.pipeline, unit.environment)
            )
        elif changed == "rejected":
            conn.execute(
                """INSERT INTO review (iri, maker, medium, image, output, pipeline, environment, work_key, document, asked,
                     state, created) VALUES ('x', 'machine', 'm', ?, 'label-text/1', 'p', 'e', ?, x'7b7d', 0, 'rejected', 'x')""",
                (image, unit.key),
            )
    if changed in bodies:
        keep(node, image, bodies[changed], version="2")
    elif changed == "parameters":
        keep(node, image, good, version="2", parameters={"maxSide": 500})
    assert said[changed] in why_not(node, image)
    async with serve(node) as client:
        if given:
            for path in (f"/cas/sha256/{given}", f"/iiif/3/{given}/info.json", f"/media/sha256/{given}"):
                assert (await client.get(path)).status == 404, "at once, before anybody has tidied up"
        iri, specimen, _ = medium_of(node, image)
        assert (await client.get(f"/media/{last(iri)}/preview.jpg")).status == 403
        text = await (await client.get(f"/iiif/presentation/3/specimen/{last(specimen)}/manifest")).text()
        assert "/iiif/3/" not in text
    settle(node)
    assert derivative_of(node, image) is None
    assert "vasculum:redacted" not in medium_of(node, image)[2]
    if given:
        assert node.blobs.stat(ContentId.from_hex(given)) is None
        assert not [path for path in node.settings.derived_path.rglob("*") if given in path.name]


async def test_labels_that_are_read_again_elsewhere_are_covered_after_another_look(
    make_node: Make, tmp_path: Path
) -> None:
    node = make_node(settings=SETTINGS)
    image, first = given_out(node, tmp_path / "a")
    keep(node, image, text_of([(452, 921, 377, 41), *BOXES[1:]]), version="2", at=NOW + timedelta(hours=1))
    assert (settle(node), derivative_of(node, image)) == (settle(node), first), (
        "nearly the same boxes: the same picture"
    )
    keep(node, image, text_of([*BOXES, (300, 600, 200, 30)]), version="3", at=NOW + timedelta(hours=2))
    async with serve(node) as client:
        assert (await client.get(f"/cas/sha256/{first}")).status == 404
    assert "look at it again" in why_not(node, image)
    assert settle(node).taken_back == 1
    approve(node, image)
    assert settle(node).made == 1
    second = derivative_of(node, image)
    assert second not in (None, first)
    async with serve(node) as client:
        shown = pixels(await (await client.get(f"/cas/sha256/{second}")).read())
    assert shown[600:630, 300:500].max() <= 40


def test_labels_that_were_found_without_being_read_are_covered_after_another_look(
    make_node: Make, tmp_path: Path
) -> None:
    node = make_node(settings=SETTINGS)
    image = filled(node, tmp_path / "a", data=jpeg(7))
    keep(node, image, text_of([(4, 6, 10, 2)], size=(64, 48)))
    approve(node, image)
    label = {"kind": "label", "score": "0.900", "box": [40, 30, 12, 10], "outline": "40,30 51,30 51,39 40,39"}
    found = {"image": {"width": 64, "height": 48}, "objects": [label], "complete": True, "doubts": []}
    keep(node, image, found, output="objects/1", version="5")
    assert "look at it again" in why_not(node, image)
    with node.database.reader() as conn:
        covers = redactions.planned(conn, image).boxes
    assert any(x <= 40 and y <= 30 and x + w >= 52 and y + h >= 40 for x, y, w, h in covers)


def test_what_was_found_before_the_metadata_changed_is_covered_and_not_relied_on(
    make_node: Make, tmp_path: Path
) -> None:
    node = make_node(settings=SETTINGS)
    before = filled(node, tmp_path / "a", data=jpeg(7))
    keep(node, before, text_of([(4, 6, 10, 2), (40, 40, 10, 2)], size=(64, 48)))
    approve(node, before)
    path = tmp_path / "a" / "images" / "0.jpg"
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xfe\x00\x07owner" + data[2:])
    take_in_again(node, tmp_path / "a")
    with node.database.reader() as conn:
        [image] = sensitive_images(conn)
    assert image != before
    assert "were not read by this node" in why_not(node, image)
    keep(node, image, text_of([(4, 6, 10, 2)], size=(64, 48)), at=NOW + timedelta(hours=1))
    with node.database.reader() as conn:
        covers = redactions.planned(conn, image).boxes
    assert any(x <= 40 and y <= 40 and x + w >= 50 and y + h >= 42 for x, y, w, h in covers)


async def test_it_follows_the_settings_and_the_list_of_taxa(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings=SETTINGS)
    image, made = given_out(node, tmp_path / "a")
    set_toml(node, 'sensitive_images = "redacted"', 'sensitive_images = "none"')
    async with serve(node) as client:
        assert (await client.get(f"/cas/sha256/{made}")).status == 404
        assert (await client.get(f"/iiif/3/{made}/full/max/0/default.jpg")).status == 404
    assert settle(node).taken_back == 1
    assert node.blobs.stat(ContentId.from_hex(made)) is None
    set_toml(node, 'sensitive_images = "none"', 'sensitive_images = "redacted"')
    assert settle(node).made == 1, "what was approved stays approved"
    assert derivative_of(node, image) == made
    set_toml(node, SENSITIVE, "")
    take_in_again(node, tmp_path / "a")
    assert "vasculum:redacted" not in medium_of(node, image)[2]
    async with serve(node) as client:
        assert (await client.get(f"/cas/sha256/{made}")).status == 404
        assert (await client.get(f"/iiif/3/{image}/info.json")).status == 200
    settle(node)
    assert node.blobs.stat(ContentId.from_hex(made)) is None


def test_an_ingest_keeps_it_and_new_rights_make_another(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings=SETTINGS)
    image, made = given_out(node, tmp_path / "a")
    before = medium_of(node, image)[2]
    take_in_again(node, tmp_path / "a")
    assert medium_of(node, image)[2] == before
    assert settle(node).made == 0
    rows = rows_of(3, licence="CC0")
    ingest(node, write_archive(tmp_path / "a", rows))
    assert medium_of(node, image)[2]["vasculum:redacted"] == before["vasculum:redacted"], "until it is made anew"
    assert settle(node).made == 1
    assert derivative_of(node, image) not in (None, made)
    assert node.blobs.stat(ContentId.from_hex(made)) is None


def test_it_is_named_checked_and_goes_with_its_original(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node(settings=SETTINGS)
    image, made = given_out(node, tmp_path / "a")
    cid, folder = ContentId.from_hex(made), str(node.settings.folder)
    assert cid.digest in set(named_digests(node.database)), "else the next gc removes it"
    assert run(["fsck", folder]) == 0
    node.blobs.tree.path(cid).unlink()
    with node.blobs.index.transaction() as conn:
        for table in ("location", "blob"):
            conn.execute(f"DELETE FROM {table} WHERE sha = ?", (cid.digest,))
    capsys.readouterr()
    assert run(["fsck", folder]) == 1
    assert "redacted-missing" in capsys.readouterr().out
    assert settle(node).made == 1
    assert derivative_of(node, image) == made
    capsys.readouterr()
    assert run(["withdraw", folder, image, "--reason", "asked", "--dry-run"]) == 0
    assert f"{cid}, the picture with blacked out labels, goes with it" in capsys.readouterr().out
    withdraw(node, plan_withdrawal(node, ContentId.from_hex(image)), reason="asked", now=NOW, new_key=b"k" * 32)
    assert node.blobs.stat(cid) is None
    assert node.blobs.is_withdrawn(cid)
    with node.database.reader() as conn:
        for table in ("redaction", "staff_action"):
            assert not conn.execute(f"SELECT 1 FROM {table}").fetchone()


def test_the_command_shows_writes_approves_and_takes_back(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node(settings=SETTINGS)
    image = filled(node, tmp_path / "a")
    folder, look = str(node.settings.folder), tmp_path / "look"

    def say(*arguments: str, code: int = 0) -> str:
        assert run(["images", "redact", folder, *arguments]) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    capsys.readouterr()
    assert "not read by this node" in say()
    assert "cannot be covered" not in say("--id", image)
    keep(node, image, text_of(BOXES))
    said = json.loads(say("--preview", str(look), "--json"))
    assert said["image"] == image
    assert len(said["covers"]) == 2
    assert said["notGivenOut"].startswith("nobody has looked")
    written = Path(said["preview"])
    assert written.parent == look
    assert pixels(written.read_bytes())[920:960, 450:830].max() <= 40
    assert look.stat().st_mode & 0o077 == 0, "for the eyes of staff"
    keep(node, image, text_of([*BOXES, (300, 600, 200, 30)]), version="2", at=NOW + timedelta(hours=1))
    of_another = look / f"{'0' * 64}.{'0' * 16}.jpg"
    of_another.touch()
    told = say("--approve", str(look))
    of_another.unlink()
    assert "other parts would be covered" in told
    assert f"{'0' * 64}: not approved: it was not chosen, or no sensitive specimen has it any more" in told
    assert derivative_of(node, image) is None
    written.unlink()
    assert "holds no pictures" in say("--approve", str(look), code=2)
    say("--preview", str(look))
    said_text = say("--approve", str(look), "--where", "scientificName='Planta numero0'")
    made = derivative_of(node, image)
    assert made is not None
    assert "1 of 1 pictures" in said_text
    assert f"given out as {made}" in said_text
    assert "say with --where or --id" in say("--take-back", code=2)
    assert "1 approvals ended" in say("--take-back", "--id", image)
    assert derivative_of(node, image) is None
    assert node.blobs.stat(ContentId.from_hex(made)) is None
    assert "vasculum:redacted" not in medium_of(node, image)[2]
    with node.database.reader() as conn:
        log = [row["action"] for row in conn.execute("SELECT action FROM staff_action ORDER BY id")]
    assert log == ["redaction approved", "redaction taken back"]
    for bad in (["--id", "nonsense"], ["--id", "0" * 64], ["--where", "nonsense=("],
                ["--preview", str(look), "--approve", str(look)]):  # fmt: skip
        say(*bad, code=2)


def test_what_cannot_be_made_is_said_and_the_rest_goes_on(make_node: Make, tmp_path: Path) -> None:
    node = make_node(settings=SETTINGS)
    image = filled(node, tmp_path / "a")
    keep(node, image, text_of(BOXES))
    approve(node, image)
    (tmp_path / "a/images/0.jpg").unlink()
    settled = settle(node)
    assert (settled.made, len(settled.problems)) == (0, 1)
    assert "cannot be read now" in settled.problems[0]
    assert derivative_of(node, image) is None


def test_an_approval_that_ends_while_the_picture_is_made_gives_nothing_out(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(settings=SETTINGS)
    image = filled(node, tmp_path / "a")
    keep(node, image, text_of(BOXES))
    approve(node, image)
    plain = Redactions.picture

    def slow(self: Redactions, redaction: Any) -> bytes:
        data = plain(self, redaction)
        keep(node, image, text_of([*BOXES, (300, 600, 200, 30)]), version="2", at=NOW + timedelta(hours=1))
        return data

    monkeypatch.setattr(Redactions, "picture", slow)
    count = node.blobs.counts()
    assert settle(node).made == 0
    assert derivative_of(node, image) is None
    assert node.blobs.counts() == count


def test_the_page_about_them_runs(
    make_node: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of that part of the page, with its setting; reading itself: test_redacted_reading."""
    page = (ROOT / "docs/how-to-protect-sensitive-images.md").read_text("utf-8")
    part = page.partition("### Pictures with blacked out labels")[2]
    [block] = re.findall(r"```toml\n(.*?)```", part, re.DOTALL)
    assert block == REDACTED
    node = make_node(settings=block + SENSITIVE)
    image = filled(node, tmp_path / "a")

    def read(node: NodeFolder, images: list[str], **_: Any) -> LabelsRead:
        for item in images:
            keep(node, item, text_of(BOXES))
        return LabelsRead(read=len(images), known=0, problems=())

    monkeypatch.setattr(redact, "read_labels", read)
    commands = re.findall(r"^\$ vasculum (.*)$", part, re.MULTILINE)
    assert len(commands) == 3
    said = []
    for line in commands:
        capsys.readouterr()
        text = line.replace("hortus", str(node.settings.folder)).replace(" look", f" {tmp_path / 'look'}")
        assert run(shlex.split(text)) == 0, line
        said.append(capsys.readouterr().out)
    assert "1 can be covered, 0 are given out" in said[0]
    assert "1 are given out" in said[1]
    assert json.loads(said[2])["derivative"] == derivative_of(node, image)
