"""Adopt, leaf tables and durable copy against hashing with two threads, ``cp -a && sync`` and ``git-annex add -J2``.

Everything in one run over the same files, in turns, with the page cache warm; CPU seconds stand beside wall time.

::

    python benchmarks/bench_store.py [small] [big] [--times N]
"""

import argparse
import concurrent.futures
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import in_turns, show_timings
from cas.leaves import build_leaf_table, without_leaf_table
from cas.store import AdoptFailure, BlobStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = {"small": ("5,000 files of 200 KB", 5_000, 200_000), "big": ("200 files of 10 MB", 200, 10_000_000)}


def hash_all(paths: list[Path]) -> None:
    def one(path: Path) -> str:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(one, paths))


class World:
    """The files of one kind, and each kind of work over them."""

    def __init__(self, root: Path, count: int, size: int) -> None:
        self.root, self.files = root, root / "files"
        self.files.mkdir()
        rng = random.Random(1)
        for number in range(count):
            (self.files / f"{number:05}").write_bytes(rng.randbytes(size))
        self.paths = sorted(self.files.iterdir())
        self.names = [path.name for path in self.paths]
        self._number = 0

    def fresh(self) -> Path:
        self._number += 1
        return self.root / f"made{self._number}"

    def clear(self) -> None:
        """Between turns, outside the clock: what the last turn made goes, and is on disk."""
        for path in self.root.glob("made*"):
            subprocess.run(["chmod", "-R", "u+w", str(path)], check=True)
            shutil.rmtree(path)
        os.sync()

    def hash(self) -> None:
        hash_all(self.paths)

    def adopt(self) -> None:
        store = BlobStore.open(self.fresh())
        store.define_volume("v", self.files)
        assert not [item for item in store.adopt_many("v", self.names, now=NOW) if isinstance(item, AdoptFailure)]
        assert store.counts()[0] == len(self.names)
        store.close()

    def prepare_leaf_tables(self) -> None:
        self.adopt()

    def leaf_tables(self) -> None:
        """Over files that are adopted already, as a node does in the background."""
        store = BlobStore.open(self.root / f"made{self._number}")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda cid: build_leaf_table(store, cid, now=NOW), store.all_ids()))
        assert not list(without_leaf_table(store))
        store.close()

    def copy(self) -> None:
        store = BlobStore.open(self.fresh())
        assert not [item for item in store.put_files(self.paths, now=NOW) if isinstance(item, AdoptFailure)]
        store.close()

    def cp(self) -> None:
        subprocess.run(["cp", "-a", str(self.files), str(self.fresh())], check=True)
        subprocess.run(["sync"], check=True)

    def annex(self) -> None:
        """A tenth of the files, in a repository that is there already; the copying is in the time, as it is for us."""
        place = self.fresh()
        place.mkdir()
        for command in ("git init -q", "git annex init -q"):
            subprocess.run(command.split(), check=True, capture_output=True, cwd=place)
        for path in self.paths[::10]:
            shutil.copy2(path, place / path.name)
        subprocess.run(["git", "annex", "add", "-q", "-J2", "."], check=True, capture_output=True, cwd=place)

    def copy_tenth(self) -> None:
        store = BlobStore.open(self.fresh())
        assert not [item for item in store.put_files(self.paths[::10], now=NOW) if isinstance(item, AdoptFailure)]
        store.close()


def measure(title: str, world: World, times: int) -> None:
    world.hash()
    works: dict[str, Callable[[], None]] = {
        "two-thread hashlib": world.hash, "the same again (control)": world.hash, "adopt": world.adopt,
    }  # fmt: skip
    if "big" in title:
        works["leaf tables (two hashes)"] = world.leaf_tables
    before = {"leaf tables (two hashes)": world.prepare_leaf_tables}
    found = in_turns(works, times=times, before=before, between=world.clear)
    show_timings(f"adopt in place, {title}", found, base="two-thread hashlib")
    copies: dict[str, Callable[[], None]] = {
        "cp -a && sync": world.cp, "the same again (control)": world.cp, "copy into the store": world.copy,
    }  # fmt: skip
    show_timings(f"durable copy, {title}", in_turns(copies, times=times, between=world.clear), base="cp -a && sync")
    if shutil.which("git-annex") is None:
        print("  git-annex is not installed (Debian: apt install git-annex): not compared")
        return
    annex: dict[str, Callable[[], None]] = {"git-annex add -J2": world.annex, "copy into the store": world.copy_tenth}
    found = in_turns(annex, times=min(times, 3), between=world.clear)
    show_timings(f"durable copy of a tenth, {title}", found, base="git-annex add -J2")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--times", type=int, default=5)
    chosen = parser.parse_args()
    for kind in chosen.kinds:
        title, count, size = KINDS[kind]
        with tempfile.TemporaryDirectory(prefix="bench-store-") as name:
            measure(f"{kind}: {title}", World(Path(name), count, size), chosen.times)


if __name__ == "__main__":
    main()
