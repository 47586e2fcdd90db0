"""A harvester's way: what is here, what changed, each record; and what was withdrawn stays known as withdrawn."""

import json
from collections.abc import Callable
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, ingest, jpeg, rows_of, write_archive

from node.app import build_application
from node.folder import NodeFolder
from runners.catalogue import Catalogue

JSON_LD = {"Accept": "application/ld+json"}


async def test_everything_public_is_found_by_the_log_and_withdrawals_too(
    make_node: Callable[..., NodeFolder], tmp_path: Path
) -> None:
    node = make_node()
    archive = write_archive(tmp_path / "a", rows_of(3), images=jpeg)
    ingest(node, archive)
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:

        async def harvest(since: int) -> list[dict[str, object]]:
            found: list[dict[str, object]] = []
            path = f"/changes?since={since}&limit=2"
            while True:
                answer = await client.get(path)
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
                page = await answer.json()
                found.extend(page["items"])
                if not page["more"]:
                    return found
                path = page["next"].removeprefix(node.settings.origin)

        start = await (await client.get("/", headers=JSON_LD)).json()
        assert (start["@type"], start["@id"]) == ("Dataset", node.settings.origin + "/")
        assert start["description"].startswith("3 digital specimens with 3 images")
        assert start["distribution"]["contentUrl"] == node.settings.origin + "/changes"

        entries = await harvest(0)
        assert [entry["seq"] for entry in entries] == list(range(1, 7))
        for entry in entries:
            answer = await client.get(str(entry["object"]).removeprefix(node.settings.origin), headers=JSON_LD)
            assert (answer.status, answer.content_type) == (200, "application/ld+json")
            assert answer.headers["Access-Control-Allow-Origin"] == "*", "records can be read by pages elsewhere"
            assert (await answer.json())["@id"] == entry["object"]

        write_archive(archive, rows_of(2))
        (archive / "images" / "2.jpg").unlink()
        ingest(node, archive)
        assert await harvest(6) == [], "what is missing from an archive is withdrawn only when that is asked for"
        ingest(node, archive, prune=True)
        later = await harvest(6)
        gone = {str(entry["object"]) for entry in later if entry["type"] == "Delete"}
        assert any("/specimen/" in iri for iri in gone)
        for iri in gone:
            path = iri.removeprefix(node.settings.origin)
            answer = await client.get(path, headers=JSON_LD)
            assert answer.status == 410
            tombstone = await answer.json()
            assert tombstone["@id"] == iri
            assert tombstone["ods:hasTombstoneMetadata"]["ods:tombstoneDate"]
            assert "Planta" not in json.dumps(tombstone)
            page = await client.get(path, headers={"Accept": "text/html"})
            assert page.status == 410
            assert "was withdrawn" in await page.text()
        assert (await client.get("/specimen?id=urn:x:2", allow_redirects=False)).status == 404
        assert (await client.get("/specimen?id=urn:x:1", allow_redirects=False)).status == 303


async def test_an_identifier_of_two_records_names_both(make_node: Callable[..., NodeFolder], tmp_path: Path) -> None:
    node, rows = make_node(), rows_of(2)
    for row in rows:
        row["catalogNumber"] = "X-same"
    ingest(node, write_archive(tmp_path / "a", rows, images=jpeg))
    app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/specimen?id=X-same", allow_redirects=False)
        assert answer.status == 300
        assert (await answer.json())["detail"].count("/specimen/") == 2
