"""Images that lie elsewhere: first need, changes at the source, failures, the budget, kills."""

import hashlib
import json
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import NOW, ingest, jpeg, rows_of, write_archive
from kill_harness import finish, start
from remote_world import ON_NEED, Clock, Elsewhere, elsewhere, ingest_urls, media_of, medium_rows

from cas.check import Check
from cas.ids import ContentId
from cas.pins import add_pin
from cas.remote import NoRoom, RemoteBytes
from node.folder import NodeFolder
from node.services.check import check_records, check_remote
from node.services.ingest import Ingest
from node.services.intake_source import open_intake
from node.services.withdraw import plan_withdrawal, withdraw
from node.storage import records

Make = Callable[..., NodeFolder]


@pytest.fixture
def server() -> Iterator[Elsewhere]:
    with elsewhere() as found:
        yield found


@pytest.fixture
def node(make_node: Make) -> NodeFolder:
    return make_node(settings=ON_NEED)


def body_of(node: NodeFolder, iri: object) -> dict[str, object]:
    with node.database.reader() as conn:
        found = records.get_by_iri(conn, str(iri))
    assert found is not None
    body: dict[str, object] = json.loads(found.body)
    return body


def hex_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def clean(node: NodeFolder) -> list[str]:
    found = [*Check(node.blobs, now=NOW, read=True).run(), *check_records(node.database, node.blobs)]
    return [
        f"{item.code} {item.place} {item.text}"
        for item in (*found, *check_remote(node.database, node.blobs, fix=False))
    ]


def test_ingest_asks_for_nothing_and_publishes_where_the_image_lies(
    node: NodeFolder, server: Elsewhere, tmp_path: Path
) -> None:
    url = server.hold("/1.jpg", jpeg(1))
    report = ingest_urls(node, tmp_path / "a", [url])
    assert (report.elsewhere, report.files_missing, report.findings) == (1, 0, 0)
    assert server.asked == []
    (row,) = medium_rows(node)
    assert (row["image"], row["problem"]) == (None, None)
    body = body_of(node, row["iri"])
    assert body["ac:accessURI"] == url
    assert not {"ac:hashValue", "vasculum:contentId"} & set(body)
    assert ingest_urls(node, tmp_path / "a", [url]).is_unchanged


def test_first_need_gives_the_medium_its_id_in_a_new_version(
    node: NodeFolder, server: Elsewhere, tmp_path: Path
) -> None:
    image = jpeg(1)
    url = server.hold("/1.jpg", image, headers={"ETag": '"one"'})
    ingest_urls(node, tmp_path / "a", [url])
    (outcome,) = media_of(node, Clock()).work([url])
    assert (outcome.kind, outcome.size) == ("fetched", len(image))
    (row,) = medium_rows(node)
    assert (row["image"], row["version"], row["width"], row["height"]) == (hex_of(image), 2, 64, 48)
    body = body_of(node, row["iri"])
    assert body["ac:hashValue"] == hex_of(image)
    assert body["ac:accessURI"] == f"{node.settings.origin}/cas/sha256/{hex_of(image)}"
    assert (body["exif:PixelXDimension"], body["dcterms:format"], body["vasculum:sizeInBytes"]) == (
        64, "image/jpeg", len(image),
    )  # fmt: skip
    with node.database.reader() as conn:
        ops = [tuple(item) for item in conn.execute("SELECT version, op FROM change WHERE iri = ?", (row["iri"],))]
    assert ops == [(1, "Create"), (2, "Update")]
    with node.blobs.open_blob(ContentId.of(image)) as blob:
        assert blob.pread(0, blob.size) == image
    assert ingest_urls(node, tmp_path / "a", [url]).is_unchanged, "the next ingest leaves it as it is"
    (again,) = media_of(node, Clock()).work([url])
    assert (again.kind, len(server.asked)) == ("kept", 1)
    assert clean(node) == []


def test_unchanged_at_the_source_costs_a_question_and_no_bytes(
    node: NodeFolder, server: Elsewhere, tmp_path: Path
) -> None:
    url = server.hold("/1.jpg", jpeg(1), headers={"ETag": '"one"'})
    ingest_urls(node, tmp_path / "a", [url])
    media = media_of(node, Clock())
    assert [item.kind for item in media.work([url])] == ["fetched"]
    assert "if-none-match" not in server.asked[0][1]
    assert [item.kind for item in media.work([url], check=True)] == ["unchanged"]
    assert server.asked[1][1]["if-none-match"] == '"one"'
    assert medium_rows(node)[0]["version"] == 2
    server.answers["/1.jpg"].headers = {}
    assert [item.kind for item in media.work([url], check=True)] == ["fetched"], "without a tag the hash says it"
    assert medium_rows(node)[0]["version"] == 2


def test_a_304_that_nobody_asked_for_is_a_failure(node: NodeFolder, server: Elsewhere, tmp_path: Path) -> None:
    url = server.hold("/1.jpg", b"", status=304)
    ingest_urls(node, tmp_path / "a", [url])
    (outcome,) = media_of(node, Clock()).work([url])
    assert (outcome.kind, outcome.reason) == ("failed", "the server answered 304")


@pytest.mark.parametrize("is_dropped", [False, True])
def test_other_bytes_at_the_source_are_another_image(
    node: NodeFolder, server: Elsewhere, tmp_path: Path, is_dropped: bool
) -> None:
    old, new = jpeg(1), jpeg(2)
    url = server.hold("/1.jpg", old, headers={"ETag": '"one"'})
    ingest_urls(node, tmp_path / "a", [url])
    media = media_of(node, Clock())
    assert [item.kind for item in media.work([url])] == ["fetched"]
    iri = medium_rows(node)[0]["iri"]
    with node.database.transaction() as conn:
        conn.execute(
            "INSERT INTO annotation VALUES ('a', ?, ?, 'barcode/1', 'p', 'e', 'w', NULL, 'current', 'x')",
            (iri, hex_of(old)),
        )
    if is_dropped:
        assert media.bytes.make_room(1, 1, is_needed=lambda _: False) == [ContentId.of(old)]
    server.hold("/1.jpg", new, headers={"ETag": '"two"'})
    (outcome,) = media.work([url], check=True)
    assert (outcome.kind, outcome.media) == ("replaced", (iri,))
    (row,) = medium_rows(node)
    assert (row["image"], row["version"]) == (hex_of(new), 3)
    with node.database.reader() as conn:
        assert conn.execute("SELECT state FROM annotation").fetchone()[0] == "evidence replaced"
        versions = [item[0] for item in conn.execute("SELECT image FROM medium_version ORDER BY version")]
    assert versions == [hex_of(old), hex_of(new)], "what version 2 showed is still said"
    assert media.bytes.former_sources(ContentId.of(old)) == [url]
    assert media.bytes.is_here(ContentId.of(old)) is not is_dropped
    if not is_dropped:
        with node.blobs.open_blob(ContentId.of(old)) as blob:
            assert blob.pread(0, blob.size) == old, "the old id never means the new bytes"
    assert clean(node) == []


BAD = {
    "too large": ({"body": jpeg(1) + b"\0" * (1 << 20)}, "larger than 1048576 bytes", timedelta(days=1)),
    "truncated": ({"body": jpeg(1), "truncated": True}, "", timedelta(minutes=1)),
    "no image": ({"body": b"<html>" * 100}, "no image", timedelta(days=1)),
    "another type": ({"body": jpeg(1), "headers": {"Content-Type": "text/html"}}, "type text/html", timedelta(days=1)),
    "gone": ({"status": 410}, "answered 410", timedelta(days=1)),
    "server error": ({"status": 500}, "answered 500", timedelta(minutes=1)),
    "to the metadata service": (
        {"status": 302, "headers": {"Location": "http://169.254.169.254/latest"}}, "only https", timedelta(days=1),
    ),
    "to a file": ({"status": 302, "headers": {"Location": "file:///etc/passwd"}}, "no host", timedelta(days=1)),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_what_is_not_a_whole_image_in_time_and_size_is_a_failure_with_a_reason(
    make_node: Make, server: Elsewhere, tmp_path: Path, case: str
) -> None:
    given, reason, pause = BAD[case]
    node = make_node(settings=ON_NEED + "max_file_mib = 1\n")
    url = server.hold("/1.jpg", **given)  # type: ignore[arg-type]
    ingest_urls(node, tmp_path / "a", [url])
    media = media_of(node, Clock())
    (outcome,) = media.work([url])
    assert outcome.kind == "failed"
    assert reason in outcome.reason
    assert outcome.until == NOW + pause
    row = media.bytes.find(url)
    assert row is not None
    assert (row.failures, row.reason, row.id) == (1, outcome.reason, None)
    assert medium_rows(node)[0]["image"] is None
    assert node.blobs.counts() == (0, 0)
    assert list((node.settings.blobs_path / "staging").iterdir()) == []
    assert clean(node) == []


def test_failures_are_tried_again_after_longer_and_longer_and_a_success_forgets_them(
    node: NodeFolder, server: Elsewhere, tmp_path: Path
) -> None:
    url = server.hold("/1.jpg", b"", status=503)
    ingest_urls(node, tmp_path / "a", [url])
    clock = Clock()
    media = media_of(node, clock)
    server.answers["/1.jpg"].status = 500
    for minutes in (1, 4, 16, 64, 256, 1024, 1440, 1440):
        (outcome,) = media.work([url])
        assert outcome.until == clock.now + timedelta(minutes=minutes)
        assert [item.kind for item in media.work([url])] == ["later"], "not asked before its time"
        clock.later(minutes=minutes)
    assert len(server.asked) == 8
    server.hold("/1.jpg", jpeg(1))
    assert [item.kind for item in media.work([url])] == ["fetched"]
    row = media.bytes.find(url)
    assert row is not None
    assert (row.failures, row.reason) == (0, "")


def test_retry_after_counts_for_the_whole_host(node: NodeFolder, server: Elsewhere, tmp_path: Path) -> None:
    first = server.hold("/1.jpg", b"", status=429, headers={"Retry-After": "1800"})
    second = server.hold("/2.jpg", jpeg(2))
    ingest_urls(node, tmp_path / "a", [first, second])
    clock = Clock()
    media = media_of(node, clock)
    outcomes = list(media.work([first, second]))
    assert [item.kind for item in outcomes] == ["failed", "later"]
    assert outcomes[0].until == outcomes[1].until == NOW + timedelta(seconds=1800)
    assert server.paths() == ["/1.jpg"]
    assert clock.waits == [], "half an hour is not waited for"
    assert media_of(node, clock).fetch(second).kind == "later", "whoever else asks knows it, too"
    clock.later(seconds=1800)
    assert [item.kind for item in media.work([second])] == ["fetched"]


def test_a_host_that_does_not_answer_is_left_alone_and_does_not_fill_the_line_for_ever(
    node: NodeFolder, tmp_path: Path
) -> None:
    with elsewhere() as dead:
        urls = [dead.url("/1.jpg"), dead.url("/2.jpg")]
    ingest_urls(node, tmp_path / "a", urls)
    clock = Clock()
    media = media_of(node, clock)
    assert media.bytes.want(urls[0], now=clock.now, most=10)
    outcomes = list(media.work(urls))
    assert [item.kind for item in outcomes] == ["failed", "later"]
    assert outcomes[1].until == NOW + timedelta(minutes=5)
    assert clock.waits == []
    for _ in range(3):
        clock.later(days=1)
        assert [item.kind for item in media.work_off_line(is_over=lambda: False)] == ["failed"]
        assert media.bytes.usage().waiting == 1
    clock.later(days=1)
    assert [item.kind for item in media.work_off_line(is_over=lambda: False)] == ["failed"]
    assert media.bytes.usage().waiting == 0


def test_a_copy_whose_file_is_lost_is_fetched_again(node: NodeFolder, server: Elsewhere, tmp_path: Path) -> None:
    """As after a restore of a backup, which holds no images."""
    image = jpeg(1)
    url = server.hold("/1.jpg", image)
    ingest_urls(node, tmp_path / "a", [url])
    media = media_of(node, Clock())
    list(media.work([url]))
    node.blobs.tree.path(ContentId.of(image)).unlink()
    assert list(media.addresses()) == [url]
    assert media.bring_back(ContentId.of(image))
    assert node.blobs.verify(ContentId.of(image))
    assert clean(node) == []


def test_a_pause_comes_between_two_requests_to_a_host(make_node: Make, server: Elsewhere, tmp_path: Path) -> None:
    node = make_node(settings=ON_NEED.replace("pause_s = 0", "pause_s = 3"))
    urls = [server.hold(f"/{number}.jpg", jpeg(number)) for number in range(3)]
    ingest_urls(node, tmp_path / "a", urls)
    clock = Clock()
    assert [item.kind for item in media_of(node, clock).work(urls)] == ["fetched"] * 3
    assert clock.waits == [3.0, 3.0]


def test_one_host_is_asked_by_one_at_a_time(node: NodeFolder, server: Elsewhere, tmp_path: Path) -> None:
    urls = [server.hold(f"/{number}.jpg", jpeg(number)) for number in range(2)]
    ingest_urls(node, tmp_path / "a", urls)
    first, second = media_of(node, Clock()), media_of(node, Clock())
    seen: list[str] = []
    server.answers["/0.jpg"].before = lambda: seen.append(second.fetch(urls[1]).reason)
    assert [item.kind for item in first.work([urls[0]])] == ["fetched"]
    assert seen == ["another fetch from this host is under way"]
    assert second.fetch(urls[1]).kind == "fetched"


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://169.254.169.254/x.jpg", "https://10.0.0.7/x.jpg", "http://images.example.org/x.jpg"],
)
def test_an_address_that_must_not_be_asked_is_a_finding_at_ingest_and_never_asked(
    node: NodeFolder, tmp_path: Path, url: str
) -> None:
    report = ingest_urls(node, tmp_path / "a", [url])
    assert (report.elsewhere, report.findings) == (0, 1)
    (row,) = medium_rows(node)
    assert row["problem"]
    assert "ac:accessURI" not in body_of(node, row["iri"])
    media = media_of(node, Clock())
    assert list(media.addresses()) == []
    assert media.fetch(url).kind == "unknown"


def test_an_address_that_no_record_names_is_never_asked(node: NodeFolder, server: Elsewhere, tmp_path: Path) -> None:
    ingest_urls(node, tmp_path / "a", [server.hold("/1.jpg", jpeg(1))])
    other = server.hold("/2.jpg", jpeg(2))
    assert media_of(node, Clock()).fetch(other).kind == "unknown"
    assert server.asked == []


def test_sources_that_do_not_say_on_need_stay_as_they_were(make_node: Make, server: Elsewhere, tmp_path: Path) -> None:
    node = make_node()
    url = server.hold("/1.jpg", jpeg(1))
    report = ingest_urls(node, tmp_path / "a", [url])
    assert (report.elsewhere, report.files_missing) == (0, 1)
    assert "--fetch" in str(medium_rows(node)[0]["problem"])
    assert media_of(node, Clock()).fetch(url).kind == "unknown"
    assert server.asked == []


# ---------------------------------------------------------------------- the budget
def kept(node: NodeFolder, urls: list[str]) -> list[bool]:
    remote = RemoteBytes(node.blobs)
    rows = [remote.find(url) for url in urls]
    return [row is not None and row.id is not None and remote.is_here(row.id) for row in rows]


def test_room_is_made_by_what_was_used_longest_ago_and_ids_stay(
    node: NodeFolder, server: Elsewhere, tmp_path: Path
) -> None:
    images = [jpeg(number) for number in range(4)]
    urls = [server.hold(f"/{number}.jpg", image) for number, image in enumerate(images)]
    ingest_urls(node, tmp_path / "a", urls)
    clock = Clock()
    media = media_of(node, clock)
    for url in urls[:3]:
        assert [item.kind for item in media.work([url])] == ["fetched"]
        clock.later(hours=2)
    media.bytes.note_use(ContentId.of(images[0]), now=clock.now)
    closings = node.blobs.closings()
    budget = sum(map(len, images[:3]))
    dropped = media.bytes.make_room(budget, len(images[3]), is_needed=lambda _: False)
    assert dropped[0] == ContentId.of(images[1]), "the first was used since"
    assert kept(node, urls)[0]
    assert node.blobs.closings() > closings, "nobody goes on serving it from memory"
    assert not node.blobs.tree.path(ContentId.of(images[1])).exists()
    rows = medium_rows(node)
    assert [row["image"] for row in rows[:3]] == [hex_of(image) for image in images[:3]]
    assert ingest_urls(node, tmp_path / "a", urls).is_unchanged
    assert clean(node) == []
    assert media.bring_back(ContentId.of(images[1]))
    assert medium_rows(node)[1]["version"] == rows[1]["version"], "the same bytes again are no news"
    assert clean(node) == []


def test_copies_that_the_source_has_replaced_go_first_pinned_and_needed_ones_never(
    node: NodeFolder, server: Elsewhere, tmp_path: Path
) -> None:
    images = [jpeg(number) for number in range(3)]
    urls = [server.hold(f"/{number}.jpg", image) for number, image in enumerate(images)]
    ingest_urls(node, tmp_path / "a", urls)
    clock = Clock()
    media = media_of(node, clock)
    for url in urls:
        list(media.work([url]))
        clock.later(hours=2)
    newer = jpeg(9)
    server.hold("/2.jpg", newer)
    assert [item.kind for item in media.work([urls[2]], check=True)] == ["replaced"]
    add_pin(node.blobs, ContentId.of(images[0]), "why", now=NOW)
    used = media.bytes.usage().bytes
    assert media.bytes.make_room(used, 1, is_needed=lambda _: False) == [ContentId.of(images[2])]
    needed = {ContentId.of(images[1])}
    used = media.bytes.usage().bytes
    assert media.bytes.make_room(used, 1, is_needed=needed.__contains__) == [ContentId.of(newer)]
    with pytest.raises(NoRoom):
        media.bytes.make_room(1, 1, is_needed=needed.__contains__)
    assert kept(node, urls) == [True, True, False]


def test_a_copy_that_another_medium_rests_on_stays(make_node: Make, server: Elsewhere, tmp_path: Path) -> None:
    """The second source's image came from a zip: there is no other copy, and no address to fetch it from."""
    node = make_node(settings="[sources.slides]\nfetch = false\n" + ON_NEED)
    image = jpeg(1)
    url = server.hold("/1.jpg", image)
    ingest_urls(node, tmp_path / "a", [url])
    media = media_of(node, Clock())
    list(media.work([url]))
    needed = media._is_needed
    assert not needed(ContentId.of(image))
    folder = write_archive(tmp_path / "b", rows_of(1), images=lambda _: image)
    import shutil

    archive = Path(shutil.make_archive(str(tmp_path / "slides"), "zip", folder))
    ingest(node, archive, source="slides")
    assert needed(ContentId.of(image))


def test_when_nothing_may_go_the_fetch_fails_and_says_so(
    node: NodeFolder, server: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = jpeg(1), jpeg(2)
    urls = [server.hold("/1.jpg", first), server.hold("/2.jpg", second)]
    ingest_urls(node, tmp_path / "a", urls)
    media = media_of(node, Clock())
    list(media.work(urls[:1]))
    add_pin(node.blobs, ContentId.of(first), "why", now=NOW)
    monkeypatch.setattr("node.services.remote_media._GIB", 1)  # the setting is 50: a budget of 50 bytes
    monkeypatch.setattr("node.services.remote_media._largest", lambda _: 1 << 20)
    (outcome,) = media.work(urls[1:])
    assert outcome.kind == "failed"
    assert "budget" in outcome.reason
    assert kept(node, urls) == [True, False]


# ---------------------------------------------------------------------- withdrawal
def test_a_withdrawn_image_is_forgotten_with_its_address_and_never_fetched_again(
    node: NodeFolder, server: Elsewhere, tmp_path: Path
) -> None:
    image = jpeg(1)
    url, other = server.hold("/secretname.jpg", image), server.hold("/2.jpg", image)
    ingest_urls(node, tmp_path / "a", [url])
    media = media_of(node, Clock())
    list(media.work([url]))
    plan = plan_withdrawal(node, ContentId.of(image))
    assert plan.addresses == (url,)
    withdraw(node, plan, reason="asked for", now=NOW, new_key=bytes(32))
    assert medium_rows(node) == []
    assert media.bytes.find(url) is None
    assert media.fetch(url).kind == "barred"
    report = ingest_urls(node, tmp_path / "a", [url])
    assert medium_rows(node) == [], "the row is there again, its image is not"
    assert report.elsewhere == 0
    asked = len(server.asked)
    # The same bytes under another address: fetched once, recognised, and that address is never asked again.
    ingest_urls(node, tmp_path / "a", [url, other])
    (outcome,) = media.work([other])
    assert outcome.kind == "barred"
    assert node.blobs.counts() == (0, 0)
    (row,) = medium_rows(node)
    assert (row["image"], "withdrew" in str(row["problem"])) == (None, True)
    assert "ac:accessURI" not in body_of(node, row["iri"])
    assert [item.kind for item in media.work([url, other])] == ["barred", "barred"]
    assert len(server.asked) == asked + 1


def test_what_was_fetched_for_good_and_withdrawn_is_not_fetched_by_the_next_ingest(
    make_node: Make, server: Elsewhere, tmp_path: Path
) -> None:
    node, url = make_node(), server.hold("/1.jpg", jpeg(1))
    rows = [{**rows_of(1)[0], "image": url}]
    path = write_archive(tmp_path / "a", rows)
    asked: list[str] = []

    def fetch(address: str) -> bytes:
        asked.append(address)
        return jpeg(1)

    def again() -> None:
        with open_intake(path, "collection") as intake:
            Ingest(node.settings, node.database, node.blobs, intake, clock=lambda: NOW, fetch=fetch).run()

    again()
    withdraw(node, plan_withdrawal(node, ContentId.of(jpeg(1))), reason="asked for", now=NOW, new_key=bytes(32))
    again()
    assert asked == [url]


# ---------------------------------------------------------------------- kills
CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from node.folder import open_folder
from node.services.remote_media import RemoteMedia
with open_folder(Path(sys.argv[1])) as node:
    media = RemoteMedia(node.settings, node.database, node.blobs, clock=lambda: datetime.now(UTC), wait=lambda s: None)
    if sys.argv[2] == "drop":
        print("ack", len(media.bytes.make_room(1, 1, is_needed=lambda _: False)), flush=True)
    else:
        for outcome in media.work(list(media.addresses())):
            print("ack", outcome.id.hex, flush=True)
"""


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.fault) for seed in range(3, 40))])
def test_killed_anywhere_nothing_is_torn_and_the_next_fetch_goes_on(
    node: NodeFolder, server: Elsewhere, tmp_path: Path, seed: int
) -> None:
    images = [jpeg(number) for number in range(2)]
    urls = [server.hold(f"/{number}.jpg", image) for number, image in enumerate(images)]
    ingest_urls(node, tmp_path / "a", urls)
    kill_at = random.Random(seed).randrange(1, 41)
    acks, code = finish(start(CHILD, str(node.settings.folder), "fetch", kill_at=kill_at))
    assert code == -signal.SIGKILL, "it was killed for real"
    for line in acks:
        assert node.blobs.verify(ContentId.from_hex(line.split()[-1])), "what was said to be here is here"
    assert [item for item in clean(node) if "leftover" not in item and "file-without-row" not in item] == []
    outcomes = list(media_of(node, Clock(now=NOW + timedelta(days=3650))).work(urls))
    assert {item.kind for item in outcomes} <= {"fetched", "kept"}
    assert [row["image"] for row in medium_rows(node)] == [hex_of(image) for image in images]
    assert [row["version"] for row in medium_rows(node)] == [2, 2]
    node.blobs.sweep_staging()
    assert clean(node) == []


SABOTAGED = CHILD.replace(
    "if sys.argv[2]",
    """
    import os, signal
    def file_first(shas):
        for sha in shas:
            os.unlink(node.blobs.tree.root / sha.hex()[:2] / sha.hex()[2:4] / sha.hex())
        os.kill(os.getpid(), signal.SIGKILL)
    media.bytes._drop = file_first
    if sys.argv[2]""",
)


def test_twin_a_file_that_goes_before_its_row_is_noticed(node: NodeFolder, server: Elsewhere, tmp_path: Path) -> None:
    url = server.hold("/1.jpg", jpeg(1))
    ingest_urls(node, tmp_path / "a", [url])
    list(media_of(node, Clock()).work([url]))
    finish(start(SABOTAGED, str(node.settings.folder), "drop"))
    assert "bytes-missing" in clean(node)[0]


@pytest.mark.parametrize("kill_at", [3, 6, 9])
def test_killed_while_room_is_made_leaves_no_row_without_its_file(
    node: NodeFolder, server: Elsewhere, tmp_path: Path, kill_at: int
) -> None:
    urls = [server.hold(f"/{number}.jpg", jpeg(number)) for number in range(2)]
    ingest_urls(node, tmp_path / "a", urls)
    media = media_of(node, Clock())
    list(media.work(urls))
    _, code = finish(start(CHILD, str(node.settings.folder), "drop", kill_at=kill_at))
    assert code == -signal.SIGKILL, "it was killed for real"
    assert [item for item in clean(node) if "file-without-row" not in item] == []
    media.bytes.make_room(1 << 40, 0, is_needed=lambda _: False)
    assert clean(node) == [], "what the kill left is gone"
    with sqlite3.connect(node.settings.blobs_path / "index.sqlite") as conn:
        assert conn.execute("SELECT count(*) FROM remote_dropping").fetchone()[0] == 0
    conn.close()
