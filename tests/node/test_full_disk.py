"""A node whose disk is full: commands and writes say so in one line, reads go on, and the same command goes on later."""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import NOW, ROOT, jpeg, rows_of, write_archive
from small_disk import SmallDisk, small_disk

from node.folder import NodeFolder, open_folder
from node.setup import NewNode, create_node
from node.storage.db import Database, DatabaseError

pytestmark = pytest.mark.fault
ROWS = 30


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", size_mb=20) as made:
        yield made


@pytest.fixture
def node(disk: SmallDisk) -> Iterator[NodeFolder]:
    create_node(disk.path / "hortus", NewNode(name="Hortus", public_url="https://h.example", licence="CC0"), now=NOW)
    with open_folder(disk.path / "hortus") as opened:
        yield opened


def vasculum(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "node.cli.main", *words], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_an_ingest_on_a_full_disk_stops_with_one_line_and_goes_on_later(
    disk: SmallDisk, node: NodeFolder, tmp_path: Path, form: str
) -> None:
    archive = write_archive(tmp_path / "export", rows_of(ROWS), images=lambda number: jpeg(number))
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "export.zip", "w") as made:
            for path in sorted(archive.rglob("*")):
                made.write(path, path.relative_to(archive))
        archive = tmp_path / "export.zip"
    folder = str(node.settings.folder)
    with node.database.reader() as conn:  # as a serving node, which has the database open
        assert conn.execute("SELECT count(*) FROM record").fetchone()[0] == 0
    disk.fill()
    stopped = vasculum("ingest", folder, str(archive))
    assert stopped.returncode in (1, 2), stopped.stdout + stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert len(stopped.stderr.strip().splitlines()) == 1
    assert "full" in stopped.stderr or "No space" in stopped.stderr
    with node.database.reader() as conn:
        assert conn.execute("SELECT count(*) FROM record").fetchone()[0] == 0
    disk.give_room()
    done = vasculum("ingest", folder, str(archive))
    assert done.returncode == 0, done.stderr
    with node.database.reader() as conn:
        assert conn.execute("SELECT count(*) FROM medium WHERE image IS NOT NULL").fetchone()[0] == ROWS
    assert vasculum("fsck", folder, "--read", "--fix").returncode == 0


@pytest.mark.parametrize(
    "words", [("gc",), ("fsck",), ("doctor",), ("findings",), ("pin", "list"), ("du",), ("scrub",), ("reindex",)]
)
def test_commands_on_a_full_disk_answer_or_say_so(disk: SmallDisk, node: NodeFolder, words: tuple[str, ...]) -> None:
    for number in range(20):
        node.blobs.put_bytes(f"blob {number}".encode(), now=NOW)
    disk.fill()
    said = vasculum(*words, str(node.settings.folder))
    assert "Traceback" not in said.stderr
    assert said.returncode == 0 or "full" in said.stderr or "disk" in said.stdout, said.stdout + said.stderr
    disk.give_room()
    assert vasculum(*words, str(node.settings.folder)).returncode in (0, 1)


async def test_the_database_refuses_writes_answers_reads_and_recovers(disk: SmallDisk) -> None:
    database = Database.open(disk.path / "node.sqlite")

    def insert(key: str) -> Callable[..., object]:
        return lambda conn: conn.execute("INSERT INTO meta VALUES (?, ?)", (key, "x" * 500_000))

    await database.write(insert("before"))
    disk.fill()
    with pytest.raises(DatabaseError, match="not stored.*full"):
        await database.write(insert("while"))

    def count(conn) -> int:  # type: ignore[no-untyped-def]
        return int(conn.execute("SELECT count(*) FROM meta").fetchone()[0])

    assert await database.read(count) == 1
    disk.give_room()
    await database.write(insert("after"))
    assert await database.read(count) == 2
    database.close()
