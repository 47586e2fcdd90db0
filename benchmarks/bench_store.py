"""Adopt and copy against hashing with two threads over the same files, and against ``cp -a`` and ``sync``; one run."""

import concurrent.futures
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import repeat, show
from cas.store import AdoptFailure, BlobStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = 3


def hash_all(paths: list[Path]) -> None:
    def one(path: Path) -> str:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(one, paths))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-store-") as name:
        root = Path(name)
        for title, count, size in (
            ("small: 2,000 files of 200 KB", 2000, 200_000),
            ("big: 40 files of 10 MB", 40, 10_000_000),
        ):
            files = root / "files"
            files.mkdir()
            rng = random.Random(1)
            for number in range(count):
                (files / f"{number:05}").write_bytes(rng.randbytes(size))
            paths = sorted(files.iterdir())
            names = [path.name for path in paths]
            state = {"n": 0}

            def fresh() -> BlobStore:
                state["n"] += 1
                return BlobStore.open(root / f"store{state['n']}")

            def adopt() -> None:
                store = fresh()
                store.define_volume("v", files)
                assert not [item for item in store.adopt_many("v", names, now=NOW) if isinstance(item, AdoptFailure)]
                store.close()

            def copy() -> None:
                store = fresh()
                assert not [item for item in store.put_files(paths, now=NOW) if isinstance(item, AdoptFailure)]
                store.close()

            def cp() -> None:
                state["n"] += 1
                subprocess.run(["cp", "-a", str(files), str(root / f"cp{state['n']}")], check=True)
                subprocess.run(["sync"], check=True)

            hash_all(paths)
            hashing, control = (
                repeat(lambda: hash_all(paths), times=TIMES),
                repeat(lambda: hash_all(paths), times=TIMES),
            )
            adopting = repeat(adopt, times=TIMES)
            show(
                f"adopt in place, {title}",
                [
                    ("two-thread hashlib", hashing, "s"),
                    ("the same again (control)", control, "s"),
                    ("adopt", adopting, "s"),
                ],
                base="two-thread hashlib",
            )
            copying, peer = repeat(copy, times=TIMES), repeat(cp, times=TIMES)
            show(
                f"durable copy, {title}",
                [("cp -a && sync", peer, "s"), ("copy into the store", copying, "s")],
                base="cp -a && sync",
            )
            for folder in root.iterdir():
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
