"""Re-scan of an unchanged tree against ``find -printf``; ids parsed and printed; lookups among 5 million rows.

Every peer and every piece of work is measured in turns in one run, the peer twice (the second is the control);
processor seconds stand beside wall time. ``--rows`` and ``--files`` make it smaller for a quick look.
The rows are written in the order of their hashes and not durably, which no node does; they take 5 GB of $TMPDIR meanwhile.

::

    python benchmarks/bench_index.py [scan] [ids] [lookup] [--times N] [--files N] [--rows N]
"""

import argparse
import cProfile
import os
import pstats
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import in_turns, show_timings
from cas.ids import ContentId, parse_content_id
from cas.index import BlobIndex, Location
from cas.scan import scan
from cas.store import BlobStore
from cas.walk import walk

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOOKUPS = 20_000
IDS = 100_000
PER_FOLDER = 500
KINDS = ("scan", "ids", "lookup")


def measure_scan(root: Path, files: int, times: int, *, profile: bool) -> None:
    """Files of a few bytes: neither side reads them, so their size does not matter."""
    tree = root / "tree"
    for number in range(files):
        folder = tree / f"{number // PER_FOLDER:04}"
        if number % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        path = folder / f"B_10_{number:09}.jpg"
        path.write_bytes(b"%d" % number)
        os.utime(path, (1_700_000_000, 1_700_000_000))  # written years ago, as the files of a collection are
    store = BlobStore.open(root / "store")
    store.define_volume("v", tree)
    rows = [
        Location(
            volume="v", path=seen.path, sha=seen.ino.to_bytes(32), size=seen.size, mtime_ns=seen.mtime_ns,
            ino=seen.ino, dev=seen.dev,
        )
        for seen in walk(tree)
    ]  # fmt: skip
    store.index.record(rows, verified=NOW.isoformat())  # as an adoption does, without its hashes

    def find() -> None:
        command = ["find", str(tree), "-type", "f", "-printf", "%p %s %T@ %i %D\\n"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def rescan() -> None:
        report = scan(store, "v", now=NOW)
        assert report.unchanged == files
        assert not (report.new or report.changed or report.vanished or report.moved or report.touched)

    find()
    rescan()
    if profile:
        show_profile(rescan)
    works: dict[str, Callable[[], None]] = {
        "find -printf": find, "the same again (control)": find, "re-scan": rescan,
    }  # fmt: skip
    show_timings(f"re-scan of {files:,} unchanged files", in_turns(works, times=times), base="find -printf")
    store.close()


def measure_ids(times: int) -> None:
    """Parse and print, each id once; the control is the same work a second time."""
    rng = random.Random(1)
    ids = [ContentId(rng.randbytes(32)) for _ in range(IDS)]
    spellings: dict[str, Callable[[ContentId], str]] = {
        "hash://sha256/..": str, "64 hex digits": lambda cid: cid.hex, "ni:///sha-256;..": ContentId.to_ni,
        "sha256-..": ContentId.to_sri, "bafkrei..": ContentId.to_cid,
    }  # fmt: skip
    works: dict[str, Callable[[], None]] = {}
    for name, spell in spellings.items():
        texts = [spell(cid) for cid in ids]
        works[name] = lambda texts=texts: [str(parse_content_id(text)) for text in texts]  # type: ignore[misc]
    works["hash://sha256/.. (control)"] = works["hash://sha256/.."]
    works["from_hex, as in a URL"] = lambda: [str(ContentId.from_hex(cid.hex)) for cid in ids]  # type: ignore[assignment,func-returns-value]
    show_each("id parse + print", in_turns(works, times=times), count=IDS)


def measure_lookup(root: Path, rows: int, times: int) -> None:
    """Random ids among many rows; half of the lookups of the last row are for bytes that are not here."""
    path = root / "index.sqlite"
    BlobIndex.open(path).close()
    started = time.perf_counter()
    ids = fill(path, rows)
    took = time.perf_counter() - started
    print(f"\n  {rows:,} rows written in {took:.0f} s, {path.stat().st_size / 1e6:,.0f} MB", flush=True)
    index = BlobIndex.open(path)
    rng = random.Random(2)
    absent = [ContentId(rng.randbytes(32)) for _ in ids]

    def sizes() -> None:
        for cid in ids:
            assert index.size_of(cid) is not None

    def places() -> None:
        for cid in ids:
            assert index.places(cid)

    def nothing() -> None:
        for cid in absent:
            assert index.size_of(cid) is None

    for work in (sizes, places, nothing):
        work()  # these pages are in memory afterwards
    works: dict[str, Callable[[], None]] = {
        "size_of": sizes, "size_of (control)": sizes, "places, as a request asks": places,
        "size_of what is not here": nothing,
    }  # fmt: skip
    show_each(f"lookup among {rows:,} rows", in_turns(works, times=times), count=len(ids))
    index.close()


def fill(path: Path, rows: int) -> list[ContentId]:
    """Writes that many rows in the order of their hashes, not durably; returns some of the ids, in random order."""
    rng = random.Random(3)
    wanted = set(rng.sample(range(rows), min(LOOKUPS, rows)))
    chosen: list[ContentId] = []
    verified = NOW.isoformat()

    def digests() -> Iterator[bytes]:
        for number in range(rows):
            digest = ((number << 64) // rows).to_bytes(8) + rng.randbytes(24)
            if number in wanted:
                chosen.append(ContentId(digest))
            yield digest

    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA synchronous=OFF")
    conn.execute("PRAGMA cache_size=-200000")
    conn.execute("INSERT INTO volume VALUES ('v', '/scans', 'inode')")
    conn.execute("BEGIN")
    conn.executemany("INSERT INTO blob VALUES (?, 3000000, ?)", ((digest, verified) for digest in digests()))
    conn.execute(
        """INSERT INTO location (volume, path, sha, size, mtime_ns, ino, dev, checked)
           SELECT 'v', lower(hex(substr(sha, 1, 1))) || '/' || lower(hex(sha)), sha, size, 1, 1, 1, verified
           FROM blob ORDER BY sha"""
    )
    conn.execute("COMMIT")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    rng.shuffle(chosen)
    return chosen


def show_each(title: str, found: dict[str, list], *, count: int) -> None:  # type: ignore[type-arg]
    """Microseconds of one piece: median, spread, processor time."""
    print(f"\n{title}, microseconds each")
    print(f"  {'what':<28} {'median':>9} {'min..max':>15} {'n':>3} {'CPU':>7}")
    for name, items in found.items():
        walls = [item.wall_s * 1e6 / count for item in items]
        cpu = statistics.median(item.cpu_s for item in items) * 1e6 / count
        spread = f"{min(walls):.2f}..{max(walls):.2f}"
        print(f"  {name:<28} {statistics.median(walls):>9.2f} {spread:>15} {len(walls):>3} {cpu:>7.2f}", flush=True)


def show_profile(work: Callable[[], None]) -> None:
    profile = cProfile.Profile()
    profile.runcall(work)
    pstats.Stats(profile).sort_stats("tottime").print_stats(14)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", metavar="|".join(KINDS))
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args()
    kinds = chosen.kinds or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="bench-index-") as name:
        if "scan" in kinds:
            measure_scan(Path(name), chosen.files, chosen.times, profile=chosen.profile)
        if "ids" in kinds:
            measure_ids(chosen.times)
        if "lookup" in kinds:
            measure_lookup(Path(name), chosen.rows, chosen.times)


if __name__ == "__main__":
    main()
