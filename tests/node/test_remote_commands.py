"""``vasculum fetch``, and what ingest, doctor, du, fsck, gc and withdraw say about images that lie elsewhere."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import NOW, jpeg, write_archive
from remote_world import ON_NEED, Clock, Elsewhere, elsewhere, ingest_urls, media_of, medium_rows

from cas.ids import ContentId
from node.cli.main import run
from node.folder import NodeFolder
from node.services.remote_rules import judge_status, next_attempt

Make = Callable[..., NodeFolder]
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def server() -> Iterator[Elsewhere]:
    with elsewhere() as found:
        yield found


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def command(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return command


@pytest.fixture
def filled(make_node: Make, server: Elsewhere, tmp_path: Path) -> NodeFolder:
    node = make_node(settings=ON_NEED)
    urls = [server.hold(f"/{number}.jpg", jpeg(number)) for number in range(3)]
    ingest_urls(node, tmp_path / "a", [*urls, server.url("/none.jpg")])
    return node


def test_fetch_says_what_it_did_and_goes_on_where_it_stopped(filled: NodeFolder, server: Elsewhere, say: Say) -> None:
    folder = filled.settings.folder
    first, said = say("fetch", folder, "--limit", 2, "--source", "web")
    assert len(server.asked) == 2
    code, text = say("fetch", folder)
    assert {first, code} == {0, 1}, "one cannot be fetched; when its turn is, follows from its record's id"
    text += said
    assert "answered 404" in text
    assert server.url("/none.jpg") in text
    assert [row["image"] is not None for row in medium_rows(filled)] == [True, True, True, False]
    assert sorted(server.paths()) == ["/0.jpg", "/1.jpg", "/2.jpg", "/none.jpg"]
    code, text = say("fetch", folder)
    assert (code, len(server.asked)) == (0, 4), "the failed one is left alone"
    assert "1 left for later" in text
    code, text = say("fetch", folder, "--again")
    assert (code, len(server.asked)) == (1, 5)
    code, text = say("fetch", folder, "--failed")
    assert (code, "2 times" in text) == (0, True)


def test_ctrl_c_is_said_in_one_line_and_nothing_is_left(
    filled: NodeFolder, server: Elsewhere, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("node.services.remote_media.safe_download", lambda _: interrupted)
        code, text = say("fetch", filled.settings.folder)
    assert (code, text.count("\n")) == (1, 1)
    assert "goes on from here" in text
    assert say("fsck", filled.settings.folder)[0] == 0
    assert say("fetch", filled.settings.folder)[0] == 1
    assert len(server.asked) == 4


def test_fetch_json_is_one_object_per_address_and_one_with_the_counts(filled: NodeFolder, say: Say) -> None:
    code, text = say("fetch", filled.settings.folder, "--json")
    *rows, counts = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert code == 1
    assert sorted(row["outcome"] for row in rows) == ["failed", "fetched", "fetched", "fetched"]
    assert {row["id"] for row in rows if row["id"]} == {str(ContentId.of(jpeg(number))) for number in range(3)}
    assert (counts["fetched"], counts["failed"], counts["leftByBudget"]) == (3, 1, 0)
    code, text = say("fetch", filled.settings.folder, "--failed", "--json")
    assert json.loads(text)["failures"] == 1


def test_check_asks_again_and_says_what_changed(filled: NodeFolder, server: Elsewhere, say: Say) -> None:
    folder = filled.settings.folder
    say("fetch", folder)
    server.hold("/1.jpg", jpeg(9))
    code, text = say("fetch", folder, "--check")
    assert code == 0
    assert "1 new at the source" in text
    assert medium_rows(filled)[1]["image"] == ContentId.of(jpeg(9)).hex


def test_fetch_ends_when_the_budget_is_used_up(
    filled: NodeFolder, server: Elsewhere, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(len(jpeg(number)) for number in range(3))
    monkeypatch.setattr("node.services.remote_media._GIB", largest // 50 + 1)  # budget_gib is 50: room for one
    monkeypatch.setattr("node.services.remote_media._largest", lambda _: 1 << 20)
    server.hold("/none.jpg", jpeg(7))
    code, text = say("fetch", filled.settings.folder)
    assert code == 0
    assert "2 not fetched: the budget is used up" in text
    assert len(server.asked) == 2, "what is here is not turned over for what nobody asked for"


def test_fetch_without_a_source_that_says_on_need_says_what_to_write(make_node: Make, say: Say) -> None:
    node = make_node()
    code, text = say("fetch", node.settings.folder)
    assert code == 2
    assert 'fetch = "on-need"' in text
    code, text = say("fetch", node.settings.folder, "--source", "nope")
    assert code == 2
    assert "nope" in text


def test_ingest_says_that_images_lie_elsewhere(make_node: Make, server: Elsewhere, tmp_path: Path, say: Say) -> None:
    from conftest import rows_of

    node = make_node(settings=ON_NEED)
    rows = rows_of(1)
    rows[0]["image"] = server.hold("/1.jpg", jpeg(1))
    code, text = say("ingest", node.settings.folder, write_archive(tmp_path / "a", rows), "--source", "web")
    assert code == 0
    assert "1 images lie elsewhere" in text
    assert server.asked == []
    code, text = say("ingest", node.settings.folder, tmp_path / "a", "--source", "web", "--fetch")
    assert code == 0
    assert server.paths() == ["/1.jpg"], "--fetch fetches for good, whatever node.toml says"


def test_doctor_du_fsck_and_gc_know_about_it(filled: NodeFolder, server: Elsewhere, tmp_path: Path, say: Say) -> None:
    folder = filled.settings.folder
    say("fetch", folder)
    _, text = say("doctor", folder)
    assert "3 copies of 4 known addresses" in text
    assert "1 could not be fetched" in text
    code, text = say("du", folder)
    assert "remote" in text
    code, text = say("du", folder, "--json")
    assert json.loads(text)["remote"]["copies"] == 3
    media = media_of(filled, Clock(now=NOW))
    assert media.bytes.make_room(1, 1, is_needed=lambda _: False)
    assert say("fsck", folder) == (0, "nothing is wrong\n"), "an image that can be fetched again is not missing"
    code, text = say("gc", folder, "--json")
    assert json.loads(text.splitlines()[-1])["unnamed"] == 0
    with filled.database.transaction() as conn:
        conn.execute("UPDATE medium SET state = 'withdrawn' WHERE locator LIKE '%/0.jpg'")
    code, text = say("fsck", folder)
    assert (code, "address-left" in text) == (1, True)
    code, text = say("gc", folder, "--delete")
    assert "1 addresses that no record names any more were forgotten" in text
    assert say("fsck", folder)[0] == 0


def test_withdraw_names_the_address_that_is_never_fetched_again(
    filled: NodeFolder, server: Elsewhere, say: Say
) -> None:
    folder = filled.settings.folder
    say("fetch", folder)
    code, text = say("withdraw", folder, ContentId.of(jpeg(1)).hex, "--reason", "asked for", "--yes")
    assert code == 0, text
    assert f"{server.url('/1.jpg')} is never fetched again" in text
    remains = [
        path for path in folder.rglob("*") if path.is_file() and server.url("/1.jpg").encode() in path.read_bytes()
    ]
    assert remains == []


@pytest.mark.parametrize(
    ("status", "after", "seconds"),
    [
        (429, "120", 120), (503, "0", 0), (503, "999999999999", 86_400), (429, "", 60), (429, "soon", 60),
        (429, "Tue, 24 Nov 2026 12:05:00 GMT", 300), (429, "Mon, 23 Nov 2026 12:05:00 GMT", 0), (500, "120", 0),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms_and_believed_for_a_day(status: int, after: str, seconds: int) -> None:
    found = judge_status(status, retry_after=after, asked_whether_changed=False, now=NOW)
    assert not isinstance(found, str)
    assert found.host_pause.total_seconds() == seconds
    assert next_attempt(found, failures=1, now=NOW) >= NOW + found.host_pause
