"""Two hundred questions over made records, while other records change; the slowest ten by name.

Questions go through the same function as ``/search`` (``node.storage.search.look``): the count of all hits, how many had
no value, the facets, a page of 24 with their documents. HTTP and the making of JSON are outside the clock.
Changes come from another process, through the same indexing as an ingest.

::

    python benchmarks/bench_search.py [--records N] [--rounds N] [--changes-per-s N] [--folder FOLDER]
    python benchmarks/bench_search.py --write-queries      # makes benchmarks/search_queries.json anew

Stated with each question is its selectivity: the part of all records that fits, measured once over 100,000.
"""

import argparse
import json
import multiprocessing
import random
import resource
import shlex
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import search_world as world
from linkeddata.selection import parse_where
from node.access import ANONYMOUS
from node.storage.db import Database
from node.storage.search import Wanted, count, look
from node.storage.search_index import index_specimen, write

QUERIES = Path(__file__).parent / "search_queries.json"
BATCH = 2000
MUST_MS = {"facets": 60, "text": 150}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one question: milliseconds on the clock, and of the processor (what a busy machine does not lengthen)."""

    wall_ms: float
    cpu_ms: float


def fill(database: Database, records: int) -> None:
    """Makes the records and indexes them, as far as they are not there."""
    with database.reader(limit_s=None) as conn:
        there = conn.execute("SELECT count(*) FROM record WHERE kind = 'specimen'").fetchone()[0]
    made = indexed = 0.0
    for first in range(there, records, BATCH):
        with database.transaction() as conn:
            numbers = range(first, min(first + BATCH, records))
            started = time.perf_counter()
            for number in numbers:
                world.put_record(conn, number)
            between = time.perf_counter()
            for number in numbers:
                write(conn, world.iri_of(number))
            made, indexed = made + between - started, indexed + time.perf_counter() - between
    if records > there:
        print(f"indexed {records - there:,} records in {indexed:.0f} s: {(records - there) / indexed:,.0f} a second")
    with database.transaction() as conn:
        conn.execute("PRAGMA analysis_limit=2000")
        conn.execute("ANALYZE")


def change(path: Path, records: int, per_s: int, stop: Event, done: "multiprocessing.Queue[tuple[int, float]]") -> None:
    """Changes records, in groups as they come together in the writer of a node."""
    database, rng = Database.open(path), random.Random(7)
    group, turn, changed, started = max(1, per_s // 20), 0, 0, time.perf_counter()
    while not stop.is_set():
        turn += 1
        with database.transaction() as conn:
            for _ in range(group):
                index_specimen(conn, world.change_record(conn, rng.randrange(records), turn))
        changed += group
        late = started + changed / per_s - time.perf_counter()
        if late > 0:
            time.sleep(late)
    done.put((changed, time.perf_counter() - started))
    database.close()


def ask(database: Database, queries: list[dict[str, Any]]) -> list[Cost]:
    """What each question cost."""
    found = []
    for query in queries:
        started, cpu = time.perf_counter(), time.thread_time()
        selection = parse_where(query["where"])
        wanted = Wanted(limit=24, facets=tuple(query["facets"]), sort=query["sort"])
        with database.reader(limit_s=None) as conn:
            look(conn, selection, ANONYMOUS, wanted, columns=database.columns)
        found.append(Cost(wall_ms=(time.perf_counter() - started) * 1000, cpu_ms=(time.thread_time() - cpu) * 1000))
    return found


def write_queries(database: Database, records: int) -> None:
    """The committed file: each question with the part of all records that fits."""
    queries = list(world.questions(random.Random(11), records))
    with database.reader(limit_s=None) as conn:
        for number, query in enumerate(queries):
            hits = count(conn, parse_where(query["where"]), ANONYMOUS)
            query["name"] = f"{query['kind']}-{number:03}"
            query["selectivity"] = float(f"{hits / records:.2g}")
    lines = ",\n".join(json.dumps(query, ensure_ascii=False, sort_keys=True) for query in queries)
    QUERIES.write_text(f"[\n{lines}\n]\n", "utf-8")


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def run(folder: Path, records: int, rounds: int, per_s: int) -> None:
    queries = json.loads(QUERIES.read_text("utf-8"))
    path = folder / "node.sqlite"
    database = Database.open(path)
    fill(database, records)
    size = path.stat().st_size / 1e6
    print(f"{records:,} records, {size:,.0f} MB, {len(queries)} questions, {rounds} rounds")
    started, cpu = time.perf_counter(), time.process_time()
    database.columns.load()
    spent = time.process_time() - cpu
    print(f"columns loaded in {time.perf_counter() - started:.1f} s, {spent:.1f} of the processor")
    ask(database, queries)  # the first round fills the cache
    stop, done = multiprocessing.Event(), multiprocessing.Queue()
    writer = multiprocessing.Process(target=change, args=(path, records, per_s, stop, done))
    if per_s:
        writer.start()
    turns = [ask(database, queries) for _ in range(rounds)]
    stop.set()
    if per_s:
        changed, seconds = done.get()
        writer.join()
        print(f"meanwhile {changed / seconds:,.0f} changes a second")
    for kind, must in MUST_MS.items():
        every = [cost for turn in turns for query, cost in zip(queries, turn, strict=True) if query["kind"] == kind]
        for name, values in (
            ("clock", [cost.wall_ms for cost in every]),
            ("processor", [cost.cpu_ms for cost in every]),
        ):
            p50, p95, p99 = (percentile(values, part) for part in (0.5, 0.95, 0.99))
            print(f"{kind:7} {name:9} p50 {p50:7.1f}  p95 {p95:7.1f}  p99 {p99:7.1f}  max {max(values):7.1f} ms")
        print(f"{kind:7} p95 on the clock must be {must} ms")
    print("slowest (medians of the rounds, clock and processor):")
    medians = [
        (statistics.median(cost.wall_ms for cost in costs), statistics.median(cost.cpu_ms for cost in costs))
        for costs in zip(*turns, strict=True)
    ]
    for (wall, cpu), query in sorted(zip(medians, queries, strict=True), key=lambda pair: -pair[0][1])[:10]:
        said = f"{query['where'] or '(everything)'}{' sort=' + query['sort'] if query['sort'] else ''}"
        print(f"  {wall:7.1f} {cpu:7.1f} ms  {query['name']}  selectivity {query['selectivity']:g}  {said}")
    print(f"memory of the asking process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--changes-per-s", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="Keep the database here and use it again.")
    parser.add_argument("--write-queries", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.write_queries:
            database = Database.open(folder / "node.sqlite")
            fill(database, arguments.records)
            write_queries(database, arguments.records)
            database.close()
            return
        print("benchmarks/bench_search.py", shlex.join(sys.argv[1:]))
        run(folder, arguments.records, arguments.rounds, arguments.changes_per_s)


if __name__ == "__main__":
    main()
