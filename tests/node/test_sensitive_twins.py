"""No answer tells the precise place: two nodes that differ only in it answer alike, byte for byte, at every door.

The routes are those of ``test_access_all_routes.ROUTES``, which fails for a route that it does not know.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from redact_world import REDACTED, derivative_of
from test_access_all_routes import ROUTES, _plain, cookie_of_staff
from twin_world import (
    EXTRAS,
    ONE,
    OTHER,
    Side,
    Twin,
    serving_twin,
    twin_folders,
    without_csrf,
    words_of,
)

from linkeddata import redaction, sensitive
from node.cli.main import run
from node.folder import NodeFolder

Make = Callable[..., NodeFolder]
METHODS = ("GET", "HEAD", "POST")
ACCEPTS = ("application/ld+json", "text/html", "text/turtle")
VALUES = (
    "true",
    "COUNTRY_COORDINATE_MISMATCH",
    "*",
    "1,12",
    "-90,90",
    "Austria",
    "POLYGON((11.2 47.1,11.3 47.1,11.3 47.2,11.2 47.2,11.2 47.1))",
)
ASKED = ("sensitive", "open")
"""Of the kinds of the common world; the others are the same on both sides and asked about elsewhere."""
VOLATILE_HEADERS = {"Date", "Server"}
PARAMETERS = (
    "scientificName", "kingdom", "phylum", "class", "order", "family", "genus", "country", "countryCode", "stateProvince",
    "locality", "recordedBy", "recordNumber", "catalogNumber", "institutionCode", "collectionCode", "basisOfRecord",
    "typeStatus", "license", "occurrenceId", "year", "month", "day", "eventDate", "decimalLatitude", "decimalLongitude",
    "elevation", "depth", "county", "municipality", "waterBody", "island", "habitat", "fieldNumber", "eventId", "issue",
    "localEventID", "coordinateUncertaintyInMeters", "annotation.text", "annotation.text~", "annotation.class", "mediaType",
    "geometry", "geoDistance", "hasCoordinate", "hasImage", "taxonKey", "verbatimLocality", "q", "facet", "sort", "scoreMin",
)  # fmt: skip
"""Names that the search knows, will know, or refuses: it must do so alike."""
TEXTS = ("q", "locality", "decimalLatitude", "month", "annotation.text~")


def asks(twin: Twin, *, searches: bool = True) -> Iterator[tuple[str, str]]:
    """(name of the question, path) for one node; the names are the same on both sides."""
    for route, ask in ROUTES.items():
        for world, kinds in ((twin.world, ASKED), (twin.extras, EXTRAS)):
            for kind in kinds:
                # Lambdas of the table find catalogue numbers by the place of the kind among KINDS.
                named = world if world is twin.world else as_kind(world, kind)
                asked = kind if world is twin.world else "sensitive"
                for number, path in enumerate(ask(named, asked)):
                    yield f"{route} {kind} {number}", path
    covered = derivative_of(twin.world.node, twin.world.images["sensitive"])
    if covered is not None:
        for route, ask in ROUTES.items():
            for number, path in enumerate(ask(replace(twin.world, images={"sensitive": covered}), "sensitive")):
                yield f"{route} covered {number}", path
    if not searches:
        return
    for word in words_of((ONE, OTHER)):
        for name in PARAMETERS if word[0].isupper() and "*" not in word else TEXTS:
            yield f"search {name}={word}", f"/search?{name}={quote(word)}"
        for number in range(len(EXTRAS)) if word in (ONE.secret.place, OTHER.secret.place) else ():
            for known in (f"images/{word}-{number}.jpg", f"https://img.example/{word}/{number}.jpg", word):
                yield f"id {known}", f"/specimen?id={quote(known, safe='')}"
    for name in PARAMETERS:
        yield f"facet {name}", f"/search?facet={name}&facetLimit=50&country=Austria"
        for value in VALUES:
            yield f"search {name}={value}", f"/search?{name}={quote(value)}&limit=200"
    for since in range(0, 40, 8):
        yield f"changes {since}", f"/changes?since={since}&limit=5"


def as_kind(world: object, kind: str):  # type: ignore[no-untyped-def]
    """The world with one of its specimens in the place of ``sensitive``."""
    names = ("specimens", "media", "images", "annotations")
    return replace(world, **{name: {"sensitive": getattr(world, name).get(kind, "x/" + "z" * 16)} for name in names})  # type: ignore[type-var]


async def answer(twin: Twin, method: str, path: str, accept: str, **more: object) -> str:
    """Everything that comes back, as one text without the names that must differ."""
    headers = {"Accept": accept, **more.pop("headers", {})}  # type: ignore[dict-item]
    found = await twin.world.client.request(method, path, headers=headers, allow_redirects=False, **more)  # type: ignore[arg-type]
    data = await found.read()
    hashed = hashlib.sha256(data).hexdigest()[:40]
    if (
        hashed in found.headers.get("ETag", "") and method == "GET"
    ):  # says the body again, which is compared here; HEAD has it without one
        twin.hashes.add(hashed)
    body = data.decode("utf-8", "surrogateescape")
    shown = sorted((name, value) for name, value in found.headers.items() if name not in VOLATILE_HEADERS)
    return without_csrf(twin.plain(f"{found.status} {shown}\n{body}"))


@pytest.fixture
async def twins(make_node: Make, tmp_path: Path) -> AsyncIterator[tuple[Twin, Twin]]:
    async with AsyncExitStack() as stack:
        homes = twin_folders(make_node(), tmp_path)
        yield (
            await stack.enter_async_context(serving_twin(homes[0], tmp_path / "a1", ONE, with_jobs=True)),
            await stack.enter_async_context(serving_twin(homes[1], tmp_path / "a2", OTHER, with_jobs=True)),
        )


async def differences(
    one: Twin,
    other: Twin,
    *,
    first: int = 5,
    searches: bool = True,
    only: str = "",
    methods: tuple[str, ...] = METHODS,
) -> list[str]:
    """Questions (those whose name begins with ``only``) to which the two give different answers."""
    found: list[str] = []
    pairs = zip(asks(one, searches=searches), asks(other, searches=searches), strict=True)
    for (name, path), (name_too, path_too) in pairs:
        assert name == name_too
        if not name.startswith(only):
            continue
        is_search = name.startswith(("search", "facet", "id "))
        for method in ("GET",) if is_search else methods:
            for accept in (("application/json",) if is_search else ACCEPTS) if method == "GET" else ("*/*",):
                said = [await answer(twin, method, where, accept) for twin, where in ((one, path), (other, path_too))]
                if said[0] != said[1]:
                    found.append(f"{method} {path} ({accept}):\n{said[0]}\n-- but --\n{said[1]}")
                    if len(found) >= first:
                        return found
    return found


async def test_no_door_tells_the_place(twins: tuple[Twin, Twin], capsys: pytest.CaptureFixture[str]) -> None:
    """Routes with all methods and forms, queries, facets, the log, predicates, exports, jobs, and pages for staff."""
    assert {_plain(path) for path in ROUTES} == {
        resource.canonical
        for resource in twins[0].world.client.server.app.router.resources()  # type: ignore[attr-defined]
    }, "a new route is named in test_access_all_routes.ROUTES"
    assert await differences(*twins) == []
    await check_predicates(*twins)
    check_jobs(*twins)
    for form in ("ndjson", "csv", "jsonld", "nquads"):
        check_export(*twins, form=form, capsys=capsys)
    for twin in twins:
        await check_staff(twin)


async def check_predicates(*twins: Twin) -> None:
    for word in (ONE.secret.place, OTHER.secret.read, "47.1187", "11"):
        for key in ("LOCALITY", "MONTH", "DECIMAL_LATITUDE", "EVENT_ID", "FIELD_NUMBER", "Q"):
            for kind in ("equals", "like", "greaterThan", "in"):
                predicate = {"type": kind, "key": key, **({"values": [word]} if kind == "in" else {"value": word})}
                said = [
                    await answer(twin, "POST", "/search", "application/json", json={"predicate": predicate})
                    for twin in twins
                ]
                assert said[0] == said[1], predicate


def check_jobs(one: Twin, other: Twin) -> None:
    assert len(one.answers) == 18
    for name, text in one.answers.items():
        assert one.plain(text) == other.plain(other.answers[name]), name
    assert "sensitive taxon" in json.dumps(one.answers)


def check_export(one: Twin, other: Twin, *, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for twin in (one, other):
        capsys.readouterr()
        assert run(["export", str(twin.settings_folder), "--format", form]) == 0
        text = twin.plain(capsys.readouterr().out)
        if form == "jsonld":  # ordered by ids that are keyed hashes, as the lines of the other forms are
            text = "\n".join(json.dumps(item) for item in json.loads(text)["@graph"])
        if form == "nquads":  # blank nodes are named anew each time
            text = re.sub(r"_:\w+", "_:b", text)
        said.append(sorted(text.splitlines()))
    assert said[0] == said[1]
    assert len(said[0]) >= 10


async def check_staff(twin: Twin) -> None:
    """Records hold the projection only: staff look up the place where they keep it, in their own system."""
    cookie = await cookie_of_staff(twin.world)
    for name in EXTRAS:
        path = "/specimen/" + twin.extras.specimens[name].rsplit("/", 1)[1]
        text = await answer(twin, "GET", path, "text/html", headers={"Cookie": cookie})
        assert "sensitive taxon" in text
        assert twin.side.cells["cat4"][0] not in text


def test_the_sides_differ() -> None:
    assert ONE.secret.place not in OTHER.secret.place
    for name in EXTRAS:
        assert ONE.cells[name] != OTHER.cells[name]


# ---------------------------------------------------------------------- the test can fail
def keep_locality(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitive, "KEPT", sensitive.KEPT | {"dwc:habitat"})


def keep_month(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitive, "KEPT", sensitive.KEPT | {"dwc:month"})


def round_finer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitive, "DECIMALS", {2: "0.01", 3: "0.01", 4: "0.001"})


def let_repeats_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitive.PlaceWords, "are_in", lambda self, text: False)


def index_what_was_received(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is right and the search says more."""
    from node.services import publish_row

    plain = publish_row.index_specimen

    def index(conn, iri):  # type: ignore[no-untyped-def]
        plain(conn, iri)
        row = conn.execute("SELECT body FROM source_row WHERE iri = ?", (iri,)).fetchone()
        if row is not None:
            text = " ".join(json.loads(row["body"])["fields"].values())
            conn.execute(
                """UPDATE specimen_text SET body = body || ' ' || ?
                   WHERE rowid = (SELECT n FROM specimen_facet WHERE iri = ?)""",
                (text, iri),
            )

    monkeypatch.setattr(publish_row, "index_specimen", index)


def find_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of a sensitive picture finds it."""
    from node.storage import records
    from node.web import records_api

    def resolve(conn, identifier, *, limit=20):  # type: ignore[no-untyped-def]
        return [row["iri"] for row in conn.execute("SELECT iri FROM record_alias WHERE alias = ?", (identifier,))][
            :limit
        ]

    monkeypatch.setattr(records, "resolve", resolve)
    monkeypatch.setattr(records_api.records, "resolve", resolve)


SABOTAGES = (
    (keep_locality, "/specimen/"), (keep_month, "/specimen/"), (round_finer, "/specimen/"),
    (let_repeats_through, "/specimen/"), (index_what_was_received, "search q"), (find_by_address, "id "),
)  # fmt: skip
"""What is broken, and the questions by which it shows: asking all of them would take long."""


@pytest.mark.parametrize(("sabotage", "only"), SABOTAGES, ids=[item.__name__ for item, _ in SABOTAGES])
async def test_a_node_that_tells_is_noticed(
    make_node: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[pytest.MonkeyPatch], None],
    only: str,
) -> None:
    sabotage(monkeypatch)
    homes = twin_folders(make_node(), tmp_path)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(serving_twin(homes[0], tmp_path / "a1", ONE))
        other = await stack.enter_async_context(serving_twin(homes[1], tmp_path / "a2", OTHER))
        assert await differences(one, other, first=1, only=only) != []


@pytest.mark.long
async def test_what_was_public_before_tells_nothing_afterwards(make_node: Make, tmp_path: Path) -> None:
    """Everything was public, and jobs had answers that differed; then the list names the specimens."""
    homes = twin_folders(make_node(), tmp_path)
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(
                serving_twin(home, tmp_path / home.name / "archive", side, with_jobs=True, is_later=True)
            )
            for home, side in zip(homes, (ONE, OTHER), strict=True)
        ]
        with one.world.node.database.reader() as conn:
            done = conn.execute("SELECT count(*) FROM unit WHERE state = 'done'").fetchone()[0]
        assert done > 0, "jobs did read the labels"
        assert await differences(one, other, searches=False, methods=("GET",)) == []
        assert await differences(one, other, only="search q") == []
        assert await differences(one, other, only="id ") == []
        check_jobs(one, other)


async def redacted_twins(
    stack: AsyncExitStack, make_node: Make, tmp_path: Path, sides: tuple[Side, Side] = (ONE, OTHER)
) -> list[Twin]:
    """Both give out covered pictures of all their sensitive specimens."""
    homes = twin_folders(make_node(settings=REDACTED), tmp_path)
    return [
        await stack.enter_async_context(serving_twin(home, tmp_path / home.name / "archive", side, redacted=True))
        for home, side in zip(homes, sides, strict=True)
    ]


@pytest.mark.long
async def test_covered_pictures_tell_nothing(make_node: Make, tmp_path: Path) -> None:
    """The labels differ in their words, in the length of a line and in the number of lines; no answer does."""
    async with AsyncExitStack() as stack:
        one, other = await redacted_twins(stack, make_node, tmp_path)
        image = one.world.images["sensitive"]
        covered = derivative_of(one.world.node, image)
        assert covered is not None
        assert (await one.world.client.get(f"/cas/sha256/{covered}")).status == 200
        assert await (await one.world.client.get(f"/iiif/3/{covered}/full/max/0/default.jpg")).read()
        assert covered == derivative_of(other.world.node, other.world.images["sensitive"])
        assert await differences(one, other, searches=False, methods=("GET",)) == []
        assert await differences(one, other, only="search q") == []


async def test_covers_that_follow_every_line_are_noticed(
    make_node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "cover", lambda boxes, *_, **__: tuple(sorted(boxes)))
    async with AsyncExitStack() as stack:
        one, other = await redacted_twins(stack, make_node, tmp_path)
        assert await differences(one, other, first=1, only="/media/") != []


@pytest.mark.long
async def test_another_scan_of_the_label_tells_nothing_but_its_id(make_node: Make, tmp_path: Path) -> None:
    """The bytes of the image differ too, as they do where the label does: only its content id may show it."""
    homes = twin_folders(make_node(), tmp_path)
    sides: list[Side] = [
        replace(side, secret=replace(side.secret, tail=tail)) for side, tail in ((ONE, b"1" * 9), (OTHER, b"2" * 9))
    ]
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(serving_twin(homes[0], tmp_path / "a1", sides[0], with_jobs=True))
        other = await stack.enter_async_context(serving_twin(homes[1], tmp_path / "a2", sides[1], with_jobs=True))
        assert one.world.images["sensitive"] != other.world.images["sensitive"]
        assert await differences(one, other, searches=False, methods=("GET",)) == []
        check_jobs(one, other)
