"""A medium gets other bytes: what was read before is marked, carried over or stands again, and pipelines wait."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from conftest import NOW, jpeg
from federation_world import MANIFEST
from review_world import NEWER, ReviewWorld, line, review_world, text_result

from cas.ids import ContentId
from linkeddata.access import AccessClass
from linkeddata.evidence import REPLACED
from linkeddata.rights_packet import put_in
from node.app import build_application
from node.doctor import examine
from node.folder import NodeFolder
from node.services import new_bytes, review
from node.services.withdraw import plan_withdrawal, withdraw
from node.storage import annotations, records
from runners.catalogue import Catalogue

Make = Callable[..., NodeFolder]
STATUS, CARRIED = "vasculum:evidenceStatus", "vasculum:carriedOverFrom"
READ = {0: text_result(line("Herbarium Martii")), 2: text_result(line("Wallich"))}


@pytest.fixture
async def world(make_node: Make, tmp_path: Path) -> AsyncIterator[ReviewWorld]:
    found = review_world(make_node, tmp_path)
    await found.run_job(READ)
    yield found


def with_metadata(data: bytes, text: str) -> bytes:
    """The same picture, with an XMP packet in the file."""
    return put_in(data, f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{text}</x:xmpmeta>".encode())


def replace_file(world: ReviewWorld, number: int, data: bytes) -> str:
    (world.folder / f"images/{number}.jpg").write_bytes(data)
    world.later(hours=1)
    world.take_in()
    return ContentId.of(data).hex


def state_of(world: ReviewWorld, iri: str) -> str:
    with world.node.database.reader() as conn:
        return str(conn.execute("SELECT state FROM annotation WHERE iri = ?", (iri,)).fetchone()["state"])


def waiting(world: ReviewWorld) -> list[tuple[str, str, str]]:
    with world.node.database.reader() as conn:
        return [(item.medium, item.image, item.reason) for item in new_bytes.pipeline_requests(conn, limit=10)]


def body_of(world: ReviewWorld, iri: str) -> dict[str, Any]:
    found = world.record(iri)
    assert found is not None
    assert found[0] == "active"
    return found[2]


def hits(world: ReviewWorld, word: str) -> list[dict[str, Any]]:
    from linkeddata.selection import parse_where
    from node.access import ANONYMOUS
    from node.storage.search import search

    with world.node.database.reader() as conn:
        found = search(conn, parse_where(f"q={word}"), ANONYMOUS, limit=10).hits
    return [mark.to_json() for hit in found for mark in hit.marks]


async def test_a_rescan_marks_what_was_read_in_record_and_search_and_waits_for_pipelines(world: ReviewWorld) -> None:
    said = world.statement(0)
    before = body_of(world, said.iri)
    assert STATUS not in before
    image = replace_file(world, 0, jpeg(99))
    after = body_of(world, said.iri)
    assert after == {**before, STATUS: REPLACED, "ods:version": 2, "dcterms:modified": after["dcterms:modified"]}
    assert world.log(said.iri) == ["Create", "Update"]
    (mark,) = hits(world, "Martii")
    assert (mark["status"], mark["by"]) == (REPLACED, "label-text")
    assert "status" not in hits(world, "Wallich")[0]
    assert waiting(world) == [(world.medium(0), image, new_bytes.RESCANNED)]
    said_by_doctor = [item.text for item in examine(world.node.settings.folder, now=NOW)]
    assert any(text.startswith("1 replaced images wait") for text in said_by_doctor)
    world.take_in()
    assert world.log(said.iri) == ["Create", "Update"]


async def test_what_is_read_from_the_new_image_takes_the_place_in_the_search(world: ReviewWorld) -> None:
    said = world.statement(0)
    replace_file(world, 0, jpeg(99))
    await world.run_job({}, where="catalogNumber=X-0")
    assert hits(world, "Martii") == []
    assert state_of(world, said.iri) == "evidence replaced"
    assert body_of(world, said.iri)[STATUS] == REPLACED


async def test_classifiers_speak_for_themselves_also_about_an_image_that_was_replaced(world: ReviewWorld) -> None:
    said = world.statement(0)
    with world.node.database.transaction() as conn:
        for name in ("moss", "lichen"):
            iri = f"{said.iri[:-5]}{name[:5]:a<5}"
            body = {**said.document, "@id": iri, "vasculum:outputContract": "classes/1"}
            records.publish(
                conn, records.NewRecord(kind="annotation", iri=iri, body=body, access=AccessClass.OPEN), now=world.now
            )
            conn.execute("INSERT INTO pipeline VALUES (?1, ?1, '1.0.0', 'classes/1', NULL, '')", (name,))
            row = annotations.AnnotationRow(
                iri=iri, medium=said.medium, image=said.image, output="classes/1", pipeline=name, environment="e",
                work_key=name, job=None,
            )  # fmt: skip
            annotations.add(conn, row, now=world.now)
    assert len(hits(world, "Martii")) == 3
    replace_file(world, 0, jpeg(99))
    assert [mark["status"] for mark in hits(world, "Martii")] == [REPLACED] * 3


async def test_the_pages_say_it_and_draw_no_box_of_another_picture(world: ReviewWorld) -> None:
    said = world.statement(0)
    replace_file(world, 0, jpeg(99))
    async with TestClient(
        TestServer(build_application(world.node, catalogue=Catalogue.of(()), clock=lambda: NOW))
    ) as client:
        html = {"Accept": "text/html"}
        path = said.iri.removeprefix(world.node.settings.origin)
        annotation = await (await client.get(path, headers=html)).text()
        medium = await (await client.get(world.medium(0).removeprefix(world.node.settings.origin), headers=html)).text()
        other = await (await client.get(world.medium(2).removeprefix(world.node.settings.origin), headers=html)).text()
        search = await (await client.get("/search?q=Martii", headers=html)).text()
    assert "Evidence image replaced" in annotation
    assert "Evidence image replaced" in medium
    assert "Herbarium Martii" in medium
    assert "<rect" not in medium.split('class="over"')[1].split("</svg>")[0]
    assert "<rect" in other.split('class="over"')[1].split("</svg>")[0]
    assert "(evidence image replaced)" in search


async def test_an_image_that_is_restored_brings_back_what_was_read_from_it(world: ReviewWorld) -> None:
    said = world.statement(0)
    before = body_of(world, said.iri)
    replace_file(world, 0, jpeg(99))
    await world.run_job({0: text_result(line("Something else"))}, where="catalogNumber=X-0", offer=NEWER)
    newer = world.statement(0, pipeline=NEWER.digest)
    replace_file(world, 0, jpeg(0))
    after = body_of(world, said.iri)
    volatile = ("ods:version", "dcterms:modified")
    assert {key: value for key, value in after.items() if key not in volatile} == {
        key: value for key, value in before.items() if key not in volatile
    }
    assert (state_of(world, said.iri), state_of(world, newer.iri)) == ("current", "evidence replaced")
    assert body_of(world, newer.iri)[STATUS] == REPLACED
    assert [mark.get("status") for mark in hits(world, "Martii")] == [None]
    assert world.finds("Something") == 0


async def test_other_metadata_carries_results_over_by_a_link_and_nothing_waits(world: ReviewWorld) -> None:
    said = world.statement(0)
    before = body_of(world, said.iri)
    old = ContentId.of(jpeg(0))
    image = replace_file(world, 0, with_metadata(jpeg(0), "owner"))
    new = ContentId.from_hex(image)
    after = body_of(world, said.iri)
    assert after["oa:hasTarget"] == {**before["oa:hasTarget"], "vasculum:contentId": str(new)}
    assert after[CARRIED]["vasculum:contentId"] == after[CARRIED]["@id"] == str(old)
    assert after["vasculum:hasRegion"] == before["vasculum:hasRegion"]
    assert (STATUS in after, after["ods:version"], state_of(world, said.iri)) == (False, 2, "current")
    assert waiting(world) == []
    assert [mark.get("status") for mark in hits(world, "Martii")] == [None]
    with world.node.database.reader() as conn:
        assert new_bytes.computed_for(conn, image) == [old.hex]
        assert conn.execute("SELECT count(*) FROM unit WHERE image = ?", (image,)).fetchone()[0] == 0
        medium = conn.execute("SELECT version, image FROM medium WHERE iri = ?", (said.medium,)).fetchone()
    assert tuple(medium) == (2, image)


async def test_a_person_can_decide_on_what_was_carried_over(world: ReviewWorld) -> None:
    said = world.statement(0)
    replace_file(world, 0, with_metadata(jpeg(0), "owner"))
    assert world.waiting(pipeline=MANIFEST.digest) == 6, "what waited for a decision still waits"
    with world.node.database.transaction() as conn:
        done = review.decide_on(conn, said.iri, "accepted", by="A. Curator", reason="", now=world.now)
    assert done.hidden_because == ""
    body = body_of(world, said.iri)
    assert body["ods:mergingDecisionStatus"] == "Approved"
    assert body[CARRIED]["vasculum:contentId"] == str(ContentId.of(jpeg(0)))


async def test_however_often_metadata_changes_the_link_names_what_was_computed_on(world: ReviewWorld) -> None:
    said = world.statement(0)
    first = body_of(world, said.iri)
    for text in ("one", "two"):
        replace_file(world, 0, with_metadata(jpeg(0), text))
    assert body_of(world, said.iri)[CARRIED]["@id"] == str(ContentId.of(jpeg(0)))
    replace_file(world, 0, jpeg(0))
    again = body_of(world, said.iri)
    assert CARRIED not in again
    assert again["oa:hasTarget"] == first["oa:hasTarget"]
    with world.node.database.reader() as conn:
        assert {row[0] for row in conn.execute("SELECT DISTINCT state FROM annotation")} == {"current"}


async def test_a_result_that_arrives_after_the_metadata_changed_is_about_the_new_bytes(world: ReviewWorld) -> None:
    job = await world.run_job({2: text_result(line("Late reading"))}, publish=False, offer=NEWER)
    replace_file(world, 2, with_metadata(jpeg(2), "owner"))
    from node.services.annotate import take_results
    from node.storage import jobs

    with world.node.database.transaction() as conn:
        row = jobs.get(conn, job)
        assert row is not None
        take_results(
            conn, origin=world.node.settings.origin, labels=frozenset(), job=row, after=-1, limit=100, now=world.now
        )
    late = world.statement(2, pipeline=NEWER.digest)
    assert late.image == ContentId.of((world.folder / "images/2.jpg").read_bytes()).hex
    assert late.document[CARRIED]["@id"] == str(ContentId.of(jpeg(2)))
    assert "image-differs" not in world.findings(late.iri)


async def test_what_waits_is_taken_once_and_not_for_bytes_that_are_gone(world: ReviewWorld) -> None:
    replace_file(world, 0, jpeg(98))
    replace_file(world, 3, jpeg(97))
    image = replace_file(world, 0, jpeg(99))
    with world.node.database.transaction() as conn:
        found = new_bytes.pipeline_requests(conn, limit=10)
        assert {(item.medium, item.image) for item in found} == {
            (world.medium(0), image), (world.medium(3), ContentId.of(jpeg(97)).hex),
        }  # fmt: skip
        new_bytes.pipelines_queued(conn, found)
        assert conn.execute("SELECT count(*) FROM pipeline_request").fetchone()[0] == 0


async def test_withdrawing_the_bytes_that_were_computed_on_takes_what_was_carried_over(world: ReviewWorld) -> None:
    said, other = world.statement(0), world.statement(2)
    old = ContentId.of(jpeg(0))
    replace_file(world, 0, with_metadata(jpeg(0), "owner"))
    withdraw(world.node, plan_withdrawal(world.node, old), reason="shows a person", now=world.now, new_key=b"k" * 32)
    found = world.record(said.iri)
    assert found is not None
    assert found[0] == "tombstone"
    assert state_of(world, other.iri) == "current"
    with world.node.database.reader() as conn:
        for table in ("carried_over", "review", "annotation", "record"):
            for row in conn.execute(f"SELECT * FROM {table}"):
                assert old.hex not in json.dumps([str(value) for value in tuple(row)]), table


async def test_what_was_carried_over_goes_when_the_bytes_computed_on_close_elsewhere(world: ReviewWorld) -> None:
    said = world.statement(0)
    replace_file(world, 0, with_metadata(jpeg(0), "owner"))
    (world.folder / "images/5.jpg").write_bytes(jpeg(0))
    rows = [dict(row) for row in world.rows]
    rows[5]["licence"] = "all rights reserved"
    world.take_in(rows)
    found = world.record(said.iri)
    assert found is not None
    assert found[0] == "tombstone", "another record closes the bytes that it was read from"


async def test_nothing_is_carried_over_when_nobody_looked_at_the_old_bytes(world: ReviewWorld) -> None:
    """A node of an older version knows no digest of its pictures: then new bytes are another image."""
    said = world.statement(0)
    with world.node.database.transaction() as conn:
        conn.execute("UPDATE luggage SET picture = NULL")
    replace_file(world, 0, with_metadata(jpeg(0), "owner"))
    assert body_of(world, said.iri)[STATUS] == REPLACED
    assert len(waiting(world)) == 1
