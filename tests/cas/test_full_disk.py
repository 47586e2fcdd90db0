"""A full disk, and a disk that refuses to sync: a clear error, reads go on, and it passes when there is room again."""

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import kill_harness
import pytest
from conftest import NOW
from small_disk import SmallDisk, small_disk

from cas.check import Check
from cas.errors import StoreFailed
from cas.garbage import Garbage
from cas.ids import ContentId
from cas.leaves import build_leaf_table
from cas.scrub import quarantined, scrub
from cas.store import AdoptFailure, AdoptResult, BlobStore, PutResult

LATER = NOW + timedelta(days=60)
Work = Callable[[BlobStore, Path], object]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", size_mb=20) as made:
        yield made


def put(store: BlobStore, files: Path) -> None:
    store.put_bytes(random.Random(5).randbytes(300_000), now=NOW)


def copy(store: BlobStore, files: Path) -> None:
    found = list(store.put_files(sorted(files.iterdir()), now=NOW))
    failed = [item for item in found if isinstance(item, AdoptFailure)]
    if failed:
        assert not [item for item in found if isinstance(item, PutResult) and not store.verify(item.id)]
        raise StoreFailed(failed[0].reason)


def adopt(store: BlobStore, files: Path) -> None:
    found = list(store.adopt_many("v", sorted(path.name for path in files.iterdir()), now=NOW))
    assert all(isinstance(item, AdoptResult) for item in found)


def leaf_table(store: BlobStore, files: Path) -> None:
    build_leaf_table(store, ContentId.of(big()), now=NOW)


def scrub_all(store: BlobStore, files: Path) -> None:
    list(scrub(store, clock=lambda: LATER, older_than=LATER))


def collect(store: BlobStore, files: Path) -> None:
    garbage = Garbage(store, now=LATER, grace=timedelta(days=30))
    garbage.mark([ContentId.of(big()).digest])
    garbage.sweep(delete=True, even_most=True)


def big() -> bytes:
    return random.Random(1).randbytes(3_000_000)


@pytest.mark.fault
@pytest.mark.parametrize("work", [put, copy, adopt, leaf_table, scrub_all, collect])
def test_a_full_disk_is_a_clear_error_and_passes(disk: SmallDisk, tmp_path: Path, work: Work) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(300):
        (files / f"{number:03}").write_bytes(f"sheet {number}".encode() * 60)
    store = BlobStore.open(disk.path / "store")
    store.define_volume("v", files)
    kept = store.put_bytes(big(), now=NOW).id
    for number in range(20):
        store.put_bytes(f"rubbish {number}".encode(), now=NOW)
    Garbage(store, now=NOW, grace=timedelta(days=30)).mark([kept.digest])
    disk.fill()

    with pytest.raises(StoreFailed, match=r"full|No space|not stored|could not be"):
        work(store, files)
    assert store.verify(kept)
    assert all(store.verify(cid) for cid in store.all_ids())
    assert not list((store.folder / "staging").iterdir())

    disk.give_room()
    work(store, files)
    assert all(store.verify(cid) for cid in store.all_ids())
    assert list(Check(store, now=LATER, read=True, fix=True).run()) == []
    store.close()


@pytest.mark.fault
def test_damage_found_while_the_disk_is_full_is_quarantined_later(disk: SmallDisk) -> None:
    store = BlobStore.open(disk.path / "store")
    cid = store.put_bytes(big(), now=NOW).id
    path = store.tree.path(cid)
    path.chmod(0o644)
    path.write_bytes(b"rot" + path.read_bytes()[3:])
    disk.fill()
    with pytest.raises(StoreFailed):
        scrub_all(store, disk.path)
    assert path.exists()
    disk.give_room()
    scrub_all(store, disk.path)
    assert [item.id for item in quarantined(store)] == [cid]
    store.close()


# ---------------------------------------------------------------------- a disk that refuses to sync
def test_a_file_that_cannot_be_synced_is_not_stored(tmp_path: Path) -> None:
    """The fsync of the data, of a new shard folder, of the name: whichever fails, the index never says stored."""
    left = [0]

    def sync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(descriptor)

    refused = 0
    for number in range(1, 8):
        store = BlobStore.open(tmp_path / f"store{number}", sync=sync)
        left[0] = number
        data = b"precious" * 1000
        try:
            store.put_bytes(data, now=NOW)
        except StoreFailed as error:
            refused += 1
            assert "Input/output error" in str(error)
            assert store.stat(ContentId.of(data)) is None
            assert store.all_ids() == []
            left[0] = 0
            assert store.verify(store.put_bytes(data, now=NOW).id)
        assert not list((store.folder / "staging").iterdir())
        store.close()
    assert refused >= 4


CHILD = """
import sys
from pathlib import Path
from cas.errors import StoreFailed
from cas.ids import ContentId
from cas.store import BlobStore
from conftest import NOW
store = BlobStore.open(Path(sys.argv[1]) / "store")
for number in range(40):
    data = b"sheet %d" % number * 900
    try:
        print("ack stored", store.put_bytes(data, now=NOW).id.hex, flush=True)
    except StoreFailed as error:
        assert store.stat(ContentId.of(data)) is None, "the index says stored"
        print("ack refused", ContentId.of(data).hex, str(error)[:60], flush=True)
"""


@pytest.mark.fault
@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_syncs_that_fail_in_the_kernel_are_never_stored(tmp_path: Path, call: str) -> None:
    """strace makes every seventh such call of the process fail: those of files and those of SQLite."""
    if shutil.which("strace") is None:
        pytest.skip("did not run: needs Debian package strace")
    BlobStore.open(tmp_path / "store").close()
    child = kill_harness.start(
        CHILD, str(tmp_path),
        before=("strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}",
                "-e", f"inject={call}:error=EIO:when=9+7"),
    )  # fmt: skip
    acks, status = kill_harness.finish(child)
    if status and not (tmp_path / "trace").exists():
        pytest.skip("did not run: strace may not trace here")
    assert status == 0
    stored = [ack.split()[1] for ack in acks if ack.startswith("stored")]
    refused = [ack for ack in acks if ack.startswith("refused")]
    assert len(stored) + len(refused) == 40
    assert stored
    if "EIO" in (tmp_path / "trace").read_text():
        assert refused
    store = BlobStore.open(tmp_path / "store")
    assert all(store.verify(ContentId.from_hex(hex_id)) for hex_id in stored)
    assert all(store.verify(cid) for cid in store.all_ids())
    store.close()
