"""``/search`` over HTTP: forms of questions and answers, pages, facets, who read what, limits."""

import base64
import csv
import io
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from web_world import READ_HIDDEN, READ_OPEN, World, serving
from web_world import SETTINGS as WORLD_SETTINGS

from linkeddata.selection import parse_where
from node.access import STAFF
from node.folder import NodeFolder
from node.storage.db import Database
from node.storage.search import count
from node.web import search_api
from node.web.session import make_token

Make = Callable[..., NodeFolder]
JSON = {"Accept": "application/json"}
HTML = {"Accept": "text/html"}


@pytest.fixture
async def world(make_node: Make, tmp_path: Path) -> AsyncIterator[World]:
    async with serving(make_node(settings=WORLD_SETTINGS), tmp_path / "archive") as found:
        yield found


async def get(client: TestClient, query: str) -> dict:  # type: ignore[type-arg]
    answer = await client.get(f"/search?{query}", headers=JSON)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def post(client: TestClient, body: object) -> dict:  # type: ignore[type-arg]
    answer = await client.post("/search", json=body)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def as_staff(world: World) -> None:
    token = world.node.database.transaction()
    with token as conn:
        text = make_token(conn, now=NOW)
    answer = await world.client.post(
        "/login", data={"token": text}, headers={"Origin": world.node.settings.origin}, allow_redirects=False
    )
    assert answer.status in (302, 303)


async def test_the_same_question_in_three_forms_has_one_answer(world: World) -> None:
    asked = await get(world.client, "family=Testaceae&catalogNumber=X-0&catalogNumber=X-1&year=1900,*")
    leaf = {"type": "in", "key": "CATALOG_NUMBER", "values": ["X-0", "X-1"]}
    predicate = {
        "type": "and",
        "predicates": [
            {"type": "equals", "key": "FAMILY", "value": "testaceae"}, leaf,
            {"type": "greaterThanOrEquals", "key": "YEAR", "value": "1900"},
        ],
    }  # fmt: skip
    for body in (predicate, {"predicate": predicate}, {"selection": {"catalogNumber": ["X-0", "X-1"]}}):
        answer = await post(world.client, body)
        assert [item["id"] for item in answer["items"]] == [item["id"] for item in asked["items"]]
        assert answer["total"] == asked["total"] == 2


async def test_a_wrong_question_is_400_with_the_nearest_name(world: World) -> None:
    for query, says in (
        ("famly=x", "did you mean family"), ("taxonKey=5", "write the name"), ("offset=10", "after="),
        ("limit=0", "from 1 to 200"), ("facet=locale", "did you mean"), ("facet=year&facet=hasImage", "no facet"),
        ("sort=colour", "sort is one of"), ("after=xyz", "first page"), ("format=xml", "format is one of"),
        ("limit=1&limit=2", "more than once"), ("localSource=collection", "staff"), ("sort=relevance", "with q"),
        ("issue=ZERO_COORD", "did you mean ZERO_COORDINATE"), ("issue=DUPLICATE_CATALOG_NUMBER", "staff"),
    ):  # fmt: skip
        answer = await world.client.get(f"/search?{query}", headers=JSON)
        assert answer.status == 400, query
        assert says in (await answer.json())["detail"], query
    for body in (
        b"{",
        b"[]",
        b'{"predicate": {"type": "x"}}',
        b'{"colour": 1}',
        b'{"limit": true}',
        b"\xff",
        b"{" * 100,
    ):
        answer = await world.client.post("/search", data=body, headers={"Content-Type": "application/json"})
        assert answer.status == 400, body
    answer = await world.client.post("/search", data=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status == 415


async def test_flags_are_asked_counted_and_those_of_the_file_only_by_staff(make_node: Make, tmp_path: Path) -> None:
    sensitive = '[[sensitive]]\nvalue = "Planta numero1"\ncategory = 1\n'
    rows = rows_of(3)
    for row in rows[:2]:
        row |= {"decimalLatitude": "-52.5", "decimalLongitude": "13.4", "catalogNumber": "SAME"}
    node = make_node(settings=sensitive)
    async with serving_rows(node, tmp_path, rows) as world:
        flag = "issue=COUNTRY_COORDINATE_MISMATCH"
        assert [(await get(world, query))["total"] for query in (flag, "!" + flag, "issue=*", "!issue=*")] == [
            1,
            2,
            3,
            0,
        ]
        predicate = {"type": "not", "predicate": {"type": "equals", "key": "ISSUE", "value": flag[6:]}}
        assert (await post(world, predicate))["total"] == 2
        for query in ("", "family=*&"):
            found = (await get(world, f"{query}facet=issue"))["facets"][0]["counts"]
            assert {"name": "COUNTRY_COORDINATE_MISMATCH", "count": 1} in found
            assert not any(item["name"] == "DUPLICATE_CATALOG_NUMBER" for item in found)
        assert (await get(world, flag + "&country=Germany"))["noValue"] == [], "no flag is an answer, not a gap"
    with node.database.reader() as conn:
        assert count(conn, parse_where("issue=DUPLICATE_CATALOG_NUMBER"), STAFF) == 2
        assert count(conn, parse_where(flag), STAFF) == 2


@pytest.mark.parametrize("text", ['"', "(", "a AND", "NEAR(", "*", "^x", "a:b", "-x", "{x}", "'", "a OR (b", "\\", "🌿", "col:", "+", '""'])  # fmt: skip
async def test_no_punctuation_is_an_error_of_full_text(world: World, text: str) -> None:
    for name in ("q", "annotation.text"):
        answer = await world.client.get(f"/search?{name}={quote(text)}&sort=", headers=JSON)
        assert answer.status == 200, await answer.text()
    assert (await world.client.get(f"/search?q={quote(text)}&sort=relevance", headers=JSON)).status == 200


async def test_what_machines_read_is_found_with_who_read_it(world: World) -> None:
    for query in (f"q={READ_OPEN}", f"annotation.text~{READ_OPEN}", f"annotation.text={READ_OPEN}&scoreMin=0.9",
                  "annotation.class=label-text", "annotation.pipeline=label-text", f"annotation.text={READ_OPEN[:5]}*"):  # fmt: skip
        found = await get(world.client, query)
        assert [item["id"] for item in found["items"]] == [world.specimens["open"]], query
        assert found["items"][0]["annotations"] == [
            {
                "annotation": world.annotations["open"], "class": "label-text", "pipeline": "sha256:" + "0" * 64,
                "by": "label-text", "text": READ_OPEN, "score": "0.9",
            }
        ]  # fmt: skip
    for query in (f"annotation.text={READ_OPEN}&scoreMin=0.95", "annotation.class=stamp", "annotation.pipeline=other"):
        assert (await get(world.client, query))["total"] == 0, query
    page = await (await world.client.get(f"/search?q={READ_OPEN}", headers=HTML)).text()
    assert f"{READ_OPEN}” read by label-text" in page


async def test_only_staff_find_what_was_read_from_images_that_are_not_open(world: World) -> None:
    for query in (f"q={READ_HIDDEN}", f"annotation.text={READ_HIDDEN}"):
        assert (await get(world.client, query))["total"] == 0
    everything = await get(world.client, "annotation.class=label-text&limit=200")
    assert everything["total"] == 1
    await as_staff(world)
    for query in (f"q={READ_HIDDEN}", f"annotation.text={READ_HIDDEN}"):
        found = await get(world.client, query)
        assert {item["id"] for item in found["items"]} == {world.specimens["restricted"], world.specimens["sensitive"]}
        assert all(item["annotations"][0]["text"] == READ_HIDDEN for item in found["items"])
    assert (await get(world.client, "localAccess=private"))["total"] == 2
    assert (await get(world.client, "localSource=collection"))["total"] == 6


async def test_a_stranger_learns_nothing_of_private_records_from_counts(world: World) -> None:
    found = await get(world.client, "facet=country&facet=catalogNumber&country=*&year=*")
    assert found["total"] == 4
    facets = {facet["field"]: {item["name"]: item["count"] for item in facet["counts"]} for facet in found["facets"]}
    assert facets["country"] == {"Germany": 4}
    assert set(facets["catalogNumber"]) == {"X-0", "X-1", "X-3", "X-4"}
    assert (await get(world.client, "facet=country"))["facets"][0]["counts"] == [{"name": "Germany", "count": 4}]
    assert (await get(world.client, "recordNumber=1"))["noValue"] == [{"keys": ["recordNumber"], "count": 4}]
    assert (await get(world.client, "country=Privatia&recordNumber=1"))["noValue"] == []
    assert (await get(world.client, "localAccess=private"))["total"] == 0
    covers = (await get(world.client, "covers=true"))["covers"]
    assert covers["records"] == 4
    assert covers["images"] == 3  # the fourth specimen's image is also that of a private one


async def test_private_media_of_public_records_show_in_no_condition(world: World) -> None:
    with world.node.database.transaction() as conn:
        conn.execute("UPDATE medium SET access = 2 WHERE iri = ?", (world.media["open"],))
        from node.storage.search_index import index_specimen

        index_specimen(conn, world.specimens["open"])
    for query in ("hasImage=true", "mediaType=StillImage"):
        found = await get(world.client, query)
        assert world.specimens["open"] not in {item["id"] for item in found["items"]}, query


async def test_of_a_sensitive_taxon_only_the_generalised_place_is_found(world: World) -> None:
    iri = world.specimens["sensitive"]
    exact = "geometry=" + quote("POLYGON((-180 47.1,180 47.1,180 47.2,-180 47.2,-180 47.1))")
    for query in ("hasCoordinate=true", "decimalLatitude=47.1234", "decimalLatitude=47,48", exact, "month=5", "eventDate=1901-05",
                  "locality~*ecretvalle*"):  # fmt: skip
        found = await get(world.client, query)
        assert iri not in {item["id"] for item in found["items"]}, query
    assert iri in {item["id"] for item in (await get(world.client, "eventDate=1901"))["items"]}


async def test_tables_are_inert_for_spreadsheets(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    cells = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\uff1d1+1", '"quoted", and', "plain"]
    rows = rows_of(len(cells))
    for row, cell in zip(rows, cells, strict=True):
        row |= {"locality": cell, "decimalLatitude": "-12.5", "decimalLongitude": "-60"}
    async with serving_rows(node, tmp_path, rows) as client:
        answer = await client.get("/search?format=csv&limit=200")
        assert answer.content_type == "text/csv"
        table = list(csv.DictReader(io.StringIO(await answer.text())))
    assert {row["locality"] for row in table} == {"'" + cell if cell[0] in "=+-@\uff1d" else cell for cell in cells}
    assert {row["decimalLatitude"] for row in table} == {"-12.5"}
    assert all(row["id"].startswith("http") for row in table)


def serving_rows(node: NodeFolder, folder: Path, rows: list[dict[str, str]]):  # type: ignore[no-untyped-def]
    from contextlib import asynccontextmanager

    from aiohttp.test_utils import TestServer

    from node.app import build_application
    from runners.catalogue import Catalogue

    @asynccontextmanager
    async def run() -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
        ingest(node, write_archive(folder / "rows", rows, images=jpeg))
        app = build_application(node, catalogue=Catalogue.of(()), clock=lambda: NOW)
        async with TestClient(TestServer(app)) as client:
            yield client

    return run()


async def test_json_ld_and_pages_of_all_forms_go_on(world: World) -> None:
    answer = await world.client.get("/search?format=jsonld&limit=2", headers=HTML)
    assert answer.content_type == "application/ld+json"
    document = await answer.json()
    assert len(document["@graph"]) == 2
    assert document["@context"]["dwc"].startswith("http")
    assert 'rel="next"' in answer.headers["Link"]
    seen: list[str] = []
    query = "limit=3&sort=-catalogNumber"
    while True:
        page = await get(world.client, query)
        seen += [item["record"]["dwc:catalogNumber"] for item in page["items"]]
        if page["next"] is None:
            break
        query = page["next"].partition("?")[2]
    assert seen == ["X-4", "X-3", "X-1", "X-0"]
    body: dict[str, object] = {"limit": 3}
    first = await post(world.client, body)
    second = await post(world.client, {**body, "after": first["after"]})
    assert len({item["id"] for item in [*first["items"], *second["items"]]}) == 4
    assert "after" not in second
    forged = base64.urlsafe_b64encode(json.dumps(["year", [], 1]).encode()).decode()
    assert (await world.client.get(f"/search?sort=year&after={forged}", headers=JSON)).status == 400


async def test_pages_stay_where_they_are_while_records_come_and_go(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    async with serving_rows(node, tmp_path, rows_of(10)) as client:
        for sort in ("", "&sort=catalogNumber"):
            page = await get(client, "limit=4" + sort)
            seen = [item["id"] for item in page["items"]]
            with node.database.transaction() as conn:  # one that was shown goes, and new ones come
                conn.execute("UPDATE record SET state = 'tombstone' WHERE iri = ?", (seen[1],))
                from node.storage.search_index import index_specimen

                index_specimen(conn, seen[1])
            ingest(node, write_archive(tmp_path / f"more{sort}", rows_of(3, start=100), images=jpeg), source="second")
            while page["next"] is not None:
                page = await get(client, page["next"].partition("?")[2])
                seen += [item["id"] for item in page["items"]]
            assert len(seen) == len(set(seen))
            assert len(seen) >= 10 - bool(sort)


async def test_facets_are_counted_and_linked(world: World) -> None:
    found = await get(world.client, "facet=family&facet=YEAR&facetLimit=5&limit=1")
    assert found["facets"] == [
        {"field": "family", "counts": [{"name": "Testaceae", "count": 4}]},
        {"field": "year", "counts": [{"name": "1901", "count": 4}]},
    ]
    page = await (await world.client.get("/search?country=Germany", headers=HTML)).text()
    assert "country=Germany&amp;family=Testaceae" in page
    assert "without" not in page
    assert (
        "4 more without recordNumber" in await (await world.client.get("/search?recordNumber=5", headers=HTML)).text()
    )


async def test_the_best_of_a_full_text_question_come_first(make_node: Make, tmp_path: Path) -> None:
    rows = rows_of(4)
    rows[0]["verbatimLabel"] = "Brasilia " + "other words that say nothing at all " * 20
    rows[2]["verbatimLabel"] = "Brasilia Brasilia Brasilia"
    rows[3]["verbatimLabel"] = "Brasilia"
    async with serving_rows(make_node(), tmp_path, rows) as client:
        found = await get(client, "q=brasilia&sort=relevance")
        assert [item["record"]["dwc:catalogNumber"] for item in found["items"]] == ["X-2", "X-3", "X-0"]
        assert (found["ranked"], found["next"]) == (3, None)
        assert "ranked" not in await get(client, "q=brasilia")


async def test_a_question_that_takes_too_long_is_stopped_with_a_hint(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def for_ever(conn: sqlite3.Connection, *_: object, **_options: object) -> None:
        conn.execute(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
        ).fetchone()

    limits: list[float] = []
    real = Database.read

    def noting(self: Database, work: Any, *, limit_s: float = 5.0) -> Any:
        limits.append(limit_s)
        return real(self, work, limit_s=limit_s)

    monkeypatch.setattr(Database, "read", noting)
    monkeypatch.setattr(search_api, "LIMIT_S", 0.05)
    monkeypatch.setattr(search_api, "look", for_ever)
    answer = await world.client.get("/search?q=x", headers=JSON)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert "send it as a job" in (await answer.json())["detail"]
    assert limits[-1] == 0.05
    monkeypatch.undo()
    assert (await get(world.client, "q=planta"))["total"] == 4


async def test_answers_name_the_name_without_its_authors_and_gbif_spellings(make_node: Make, tmp_path: Path) -> None:
    rows = rows_of(1)
    rows[0] |= {"country": "Germany"}
    async with serving_rows(make_node(), tmp_path, rows) as client:
        for query in ("basisOfRecord=PRESERVED_SPECIMEN", "basisOfRecord=preservedspecimen", "occurrenceID=urn:x:0",
                      "country=germany", "country~Ger*", "mediaType=StillImage", "!mediaType=Sound", "month=5", "eventDate=1901-05-02",
                      "eventDate=1901-05,1901-06", "license=CC0", "!typeStatus=*"):  # fmt: skip
            expected = 0 if query == "license=CC0" else 1  # CC0 is what the image says; the record says nothing
            assert (await get(client, quote(query, safe="=!~,&:")))["total"] == expected, query
