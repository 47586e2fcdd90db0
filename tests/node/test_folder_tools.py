"""init, doctor, backup and restore, reindex, the command line's manners, released schemas."""

import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NOW, ROOT, ingest, jpeg, rows_of, write_archive

from federation.identity import SigningKey
from node import backup, doctor
from node.backup import BackupError, make_backup, restore_backup
from node.cli.main import COMMANDS, run
from node.config import load_settings
from node.folder import FolderBusy, NodeFolder, open_folder, serve_lock
from node.setup import NewNode, SetupError, check_origin, create_node
from node.storage.db import Database, migrate, schema_version
from node.storage.search_index import reindex

Make = Callable[..., NodeFolder]


def new(**changes: object) -> NewNode:
    base = {"name": "Hortus", "public_url": "https://h.example"}
    return NewNode(**{**base, **changes})  # type: ignore[arg-type]


def test_init_makes_settings_keys_and_a_recovery_key_that_is_stored_nowhere(tmp_path: Path) -> None:
    made = create_node(tmp_path / "n", new(policy="reading", licence="CC0"), now=NOW)
    settings = load_settings(tmp_path / "n")
    assert settings.policy.preset == "reading"
    assert settings.sources["collection"].licence == "CC0"
    assert (settings.key_path.stat().st_mode & 0o777) == 0o600
    secret = made.recovery_key.rpartition(":")[2]
    for path in (tmp_path / "n").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
    recovery = SigningKey.from_secret_text(made.recovery_key)
    assert (tmp_path / "n/keys/recovery.pub").read_text().strip() == recovery.public_key_b64


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": 'a"b'}, "name must be"), ({"name": "a\nb"}, "name must be"), ({"public_url": "http://h.example"}, "https"),
        ({"source": "Bad Name"}, "lower-case"), ({"public_url": "https://h.example/x"}, "without a path"),
    ],
)  # fmt: skip
def test_init_refuses_what_it_cannot_use(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(SetupError, match=says):
        create_node(tmp_path / "n", new(**changes), now=NOW)
    assert not (tmp_path / "n").exists()


def test_init_never_overwrites(tmp_path: Path) -> None:
    create_node(tmp_path / "n", new(), now=NOW)
    key = (tmp_path / "n/keys/node.key").read_bytes()
    with pytest.raises(SetupError, match="is a node already"):
        create_node(tmp_path / "n", new(), now=NOW)
    assert (tmp_path / "n/keys/node.key").read_bytes() == key


def test_the_public_address_cannot_be_changed_by_a_slip(make_node: Make) -> None:
    node = make_node()
    with node.database.reader() as conn:
        assert check_origin(conn, node.settings.origin) is None
        assert "set it back" in str(check_origin(conn, "https://other.example"))


def test_two_servers_cannot_serve_one_folder(tmp_path: Path) -> None:
    with serve_lock(tmp_path / "lock"), pytest.raises(FolderBusy), serve_lock(tmp_path / "lock"):
        pass
    with serve_lock(tmp_path / "lock"):
        pass


def test_backup_and_restore_give_the_same_node(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    path = write_archive(tmp_path / "a", rows_of(4), images=jpeg)
    ingest(node, path)
    report = make_backup(node.settings, tmp_path / "b.tar", now=NOW)
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600
    assert set(report.members) == set(backup.MEMBERS) - {backup.TAXA_MEMBER}
    restore_backup(tmp_path / "b.tar", tmp_path / "again", now=NOW)
    with open_folder(tmp_path / "again") as restored:
        assert restored.key.kid == node.key.kid
        assert ingest(restored, path).is_unchanged
        with restored.database.reader() as conn:
            assert conn.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0] == "2"


def test_a_backup_is_not_overwritten_nor_a_node_by_a_restore(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    make_backup(node.settings, tmp_path / "b.tar", now=NOW)
    with pytest.raises(BackupError, match="not overwritten"):
        make_backup(node.settings, tmp_path / "b.tar", now=NOW)
    with pytest.raises(BackupError, match="not empty"):
        restore_backup(tmp_path / "b.tar", node.settings.folder, now=NOW)


@pytest.mark.parametrize("flaw", ["truncated", "flipped", "foreign", "traversal", "link", "none"])
def test_a_backup_that_is_not_whole_or_not_ours_restores_nothing(make_node: Make, tmp_path: Path, flaw: str) -> None:
    node = make_node()
    good = tmp_path / "b.tar"
    make_backup(node.settings, good, now=NOW)
    bad = tmp_path / "bad.tar"
    data = good.read_bytes()
    if flaw == "truncated":
        bad.write_bytes(data[: len(data) // 2])
    elif flaw == "flipped":
        at = data.index(b"SQLite format 3") + 5000
        bad.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif flaw == "none":
        bad.write_bytes(b"nothing")
    else:
        shutil.copy(good, bad)
        with tarfile.open(bad, "a") as archive:
            info = tarfile.TarInfo({"foreign": "extra.txt", "traversal": "../evil", "link": "keys/other"}[flaw])
            if flaw == "link":
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    with pytest.raises(BackupError):
        restore_backup(bad, tmp_path / "again", now=NOW)
    assert not (tmp_path / "again" / "node.toml").exists()
    assert not (tmp_path / "evil").exists()


def test_doctor_says_in_plain_words_what_is_wrong(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(2), images=lambda number: b"no image\n"))

    def problems() -> dict[str, str]:
        return {
            item.about: item.text for item in doctor.examine(node.settings.folder, now=NOW) if item.level == "problem"
        }

    assert problems() == {}
    warned = [item.text for item in doctor.examine(node.settings.folder, now=NOW) if item.level == "warning"]
    assert any("image-unreadable" in text for text in warned)
    node.settings.key_path.chmod(0o644)
    assert "chmod 600" in problems()["keys"]
    node.settings.key_path.unlink()
    assert "missing" in problems()["keys"]
    text = (node.settings.folder / "node.toml").read_text("utf-8")
    (node.settings.folder / "node.toml").write_text(text.replace("127.0.0.1:8765", "127.0.0.1:9999"), "utf-8")
    assert "identifiers begin with" in problems()["settings"]
    (node.settings.folder / "node.toml").write_text("[nod]\n", "utf-8")
    assert "settings" in problems()
    assert "settings" in {
        item.about for item in doctor.examine(tmp_path / "nowhere", now=NOW) if item.level == "problem"
    }


def test_doctor_says_that_published_records_follow_older_settings(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    archive = write_archive(tmp_path / "a", rows_of(2), images=jpeg)
    ingest(node, archive)

    def outdated() -> list[str]:
        found = doctor.examine(node.settings.folder, now=NOW)
        return [item.about for item in found if "until `vasculum ingest` runs again" in item.text]

    assert outdated() == []
    with (node.settings.folder / "node.toml").open("a", encoding="utf-8") as stream:
        stream.write('\n[[sensitive]]\nvalue = "Cypripedium calceolus"\ncategory = 1\n')
    assert len(outdated()) == 1
    with open_folder(node.settings.folder) as again:
        ingest(again, archive)
    assert outdated() == []


def test_doctor_notices_a_clock_that_went_back_and_a_damaged_database(make_node: Make, tmp_path: Path) -> None:
    from datetime import timedelta

    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(2), images=jpeg))
    found = doctor.examine(node.settings.folder, now=NOW - timedelta(days=400))
    assert any(item.about == "clock" and item.level == "problem" for item in found)
    node.database.close()
    path = node.settings.database_path
    for leftover in path.parent.glob("node.sqlite-*"):
        leftover.unlink()
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert any(
        item.about == "database" and item.level == "problem" for item in doctor.examine(node.settings.folder, now=NOW)
    )


def test_search_tables_can_be_lost_and_are_rebuilt(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(4), images=jpeg))

    def state(conn: sqlite3.Connection) -> list[tuple[object, ...]]:
        rows = conn.execute(
            "SELECT f.*, t.body FROM specimen_facet f JOIN specimen_text t ON t.rowid = f.n ORDER BY f.iri"
        )
        return [tuple(row)[1:] for row in rows]  # the first column, the number, follows the order of indexing

    with node.database.transaction() as conn:
        before = state(conn)
        conn.execute("DELETE FROM specimen_facet")
        conn.execute("DELETE FROM specimen_text")
        assert reindex(conn) == 4
        assert state(conn) == before


@pytest.mark.parametrize("word", ["Preferred", "Active", "open", "Local", "hasDigitalMedia", "catalogNumber"])
def test_words_of_our_own_documents_find_nothing(make_node: Make, tmp_path: Path, word: str) -> None:
    node = make_node()
    ingest(node, write_archive(tmp_path / "a", rows_of(2), images=jpeg))
    with node.database.reader() as conn:
        assert (
            conn.execute("SELECT count(*) FROM specimen_text WHERE specimen_text MATCH ?", (word,)).fetchone()[0] == 0
        )
        assert conn.execute("SELECT count(*) FROM specimen_text WHERE specimen_text MATCH 'numero1'").fetchone()[0] == 1


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert run([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert "Usage:" in text
        if "Commands:" not in text:
            assert "Example" in text, name


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["serve", "NOWHERE"], 2), (["ingest", "NOWHERE", "x"], 2), (["doctor", "NOWHERE"], 1), (["backup", "NOWHERE", "b.tar"], 2),
        (["reindex", "NOWHERE"], 2), (["findings", "NOWHERE"], 2), (["staff", "token", "NOWHERE"], 2), (["nope"], 2),
        (["init", "NOWHERE", "--name", "x", "--public-url", "ftp://x", "--licence", ""], 2),
        (["init", "NOWHERE", "--name", "x", "--public-url", "https://x.example", "--licence", "mine"], 2),
        (["demo", "--data", "NOWHERE"], 2), (["researchers", "list", "NOWHERE"], 2), (["requests", "list", "NOWHERE"], 2),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_an_exit_code(
    arguments: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([argument.replace("NOWHERE", str(tmp_path / "nowhere")) for argument in arguments]) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    errors = [line for line in said.err.splitlines() if line.startswith("Error:")]
    assert len(errors) == (0 if arguments[0] == "doctor" else 1), said.err


def test_ingest_command_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, path = tmp_path / "n", write_archive(tmp_path / "a", rows_of(3), images=jpeg)
    assert run(["init", str(folder), "--name", "N", "--public-url", "https://n.example", "--licence", ""]) == 0
    assert run(["ingest", str(folder), str(path), "--dry-run"]) == 0
    assert "3 new" in capsys.readouterr().out
    assert run(["ingest", str(folder), str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 3
    assert run(["ingest", str(folder), str(path)]) == 0
    assert "no change" in capsys.readouterr().out
    write_archive(path, rows_of(1))
    assert run(["ingest", str(folder), str(path)]) == 1
    assert "--accept-plan" in capsys.readouterr().err
    assert run(["ingest", str(folder), str(path), "--source", "nope"]) == 2
    assert run(["reindex", str(folder)]) == 0
    assert "3 specimens indexed" in capsys.readouterr().out


FIXTURES = ROOT / "tests" / "fixtures"


def test_there_is_a_fixture_of_every_schema_and_each_migrates(tmp_path: Path) -> None:
    from node.storage.db import migrations

    newest = migrations()[-1][0]
    for number, _ in migrations():
        fixture = FIXTURES / f"schema-{number}.sql"
        assert fixture.is_file(), (
            f"make {fixture.name} with tests/make_schema_fixture.py when schema {number} is released"
        )
        path = tmp_path / f"{number}.sqlite"
        conn = sqlite3.connect(path)
        conn.executescript(fixture.read_text("utf-8"))
        conn.execute(f"PRAGMA user_version={number}")
        conn.close()
        migrate(path)
        assert schema_version(path) == newest
        database = Database.open(path)
        with database.reader() as reader:
            assert reader.execute("SELECT count(*) FROM record").fetchone()[0] >= 1
        database.close()
