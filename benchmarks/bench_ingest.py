"""Benchmark: Darwin Core rows to durable, checked, searchable records in the publication log, and the same again.

``python -m benchmarks.bench_ingest --rows 20000 [--media] [--batch N]`` makes an archive with the given number of
occurrence rows (and one media row each, by address, with ``--media``), ingests it into a new node, ingests it again,
and prints one JSON line: rows per second of both, peak memory, what was counted afterwards.

Rows are made from a seed: 40 terms that collections fill, names from 3,000 species, coordinates in the stated country.
"""

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from node.folder import open_folder
from node.services.ingest import Ingest
from node.services.intake_source import open_intake
from node.setup import NewNode, create_node

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TERMS = (
    "occurrenceID basisOfRecord institutionCode collectionCode catalogNumber recordedBy recordNumber eventDate year month "
    "day country countryCode stateProvince county locality verbatimLocality decimalLatitude decimalLongitude "
    "geodeticDatum coordinateUncertaintyInMeters minimumElevationInMeters habitat scientificName "
    "scientificNameAuthorship taxonRank kingdom phylum class order family genus specificEpithet identifiedBy "
    "dateIdentified typeStatus preparations license rightsHolder modified"
).split()
PLACES = (
    ("Germany", "DE", 48, 53, 8, 13),
    ("Brazil", "BR", -20, -5, -58, -42),
    ("Australia", "AU", -32, -20, 120, 148),
    ("United States", "US", 33, 45, -118, -82),
    ("Kenya", "KE", -1, 3, 36, 39),
    ("Indonesia", "ID", -3, 1, 102, 104),
)
DCTERMS = {"license", "rightsHolder", "modified"}
PLAIN = 'encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" ignoreHeaderLines="1"'


def make(folder: Path, rows: int, *, media: bool) -> None:
    """Writes the archive."""
    rng = random.Random(5)
    syllables = ("al", "be", "cor", "du", "er", "fol", "gra", "hi", "ium", "lu", "mon", "ni", "or", "pe", "qui", "ra")
    word = lambda count: "".join(rng.choice(syllables) for _ in range(count))  # noqa: E731
    species = [
        (word(3).capitalize(), word(4), rng.choice(("L.", "Mill.", "(Hook.) Benth.", "DC."))) for _ in range(3000)
    ]
    people = [f"{rng.choice('ABCDEFGH')}. {word(3).capitalize()}" for _ in range(800)]
    places = [f"{word(3).capitalize()}, {word(2)} of {word(3)}" for _ in range(20_000)]
    folder.mkdir()
    with (folder / "occurrence.txt").open("w", encoding="utf-8") as core:
        core.write("\t".join(TERMS) + "\n")
        for number in range(rows):
            genus, epithet, author = rng.choice(species)
            name, code, south, north, west, east = rng.choice(PLACES)
            year, month, day = rng.randint(1850, 2020), rng.randint(1, 12), rng.randint(1, 28)
            place = rng.choice(places)
            row = (
                f"urn:uuid:{number:08x}-0000-4000-8000-{number:012x}", "PreservedSpecimen", "BENCH", "Herbarium", f"B {number:08d}",
                rng.choice(people), str(rng.randint(1, 9999)), f"{year}-{month:02d}-{day:02d}", str(year), str(month),
                str(day), name, code, word(3).capitalize(), word(2).capitalize(), place, place,
                f"{rng.uniform(south, north):.4f}", f"{rng.uniform(west, east):.4f}", "WGS84", "1000",
                str(rng.randint(0, 3000)), rng.choice(("forest", "meadow", "roadside", "bog")), f"{genus} {epithet} {author}",
                author, "species", "Plantae", "Tracheophyta", "Magnoliopsida", "Ordinales", genus + "aceae", genus,
                epithet, rng.choice(people), str(year + 5), "", "sheet", "CC0", "Bench herbarium", "2024-01-01",
            )  # fmt: skip
            core.write("\t".join(row) + "\n")
    tables = "".join(
        f'<field index="{i}" term="http://{"purl.org/dc/terms/" if t in DCTERMS else "rs.tdwg.org/dwc/terms/"}{t}"/>'
        for i, t in enumerate(TERMS)
    )
    extension = ""
    if media:
        with (folder / "multimedia.txt").open("w", encoding="utf-8") as table:
            table.write("coreid\ttype\tformat\tidentifier\tlicense\n")
            for number in range(rows):
                core_id = f"urn:uuid:{number:08x}-0000-4000-8000-{number:012x}"
                table.write(f"{core_id}\tStillImage\timage/jpeg\thttps://images.bench.example/{number:08d}.jpg\tCC0\n")
        terms = "".join(
            f'<field index="{i}" term="http://purl.org/dc/terms/{t}"/>'
            for i, t in ((1, "type"), (2, "format"), (3, "identifier"), (4, "license"))
        )
        extension = (
            f'<extension {PLAIN} rowType="http://rs.gbif.org/terms/1.0/Multimedia"><files><location>multimedia.txt'
            f'</location></files><coreid index="0"/>{terms}</extension>'
        )
    (folder / "meta.xml").write_text(
        f'<archive xmlns="http://rs.tdwg.org/dwc/text/"><core {PLAIN} rowType="http://rs.tdwg.org/dwc/terms/Occurrence">'
        f'<files><location>occurrence.txt</location></files><id index="0"/>{tables}</core>{extension}</archive>',
        "utf-8",
    )


def calibrate() -> float:
    """Microseconds for a fixed piece of work, the best and the usual of many: how fast this machine is just now."""
    document = {f"dwc:term{number}": "some text of usual length " * 2 for number in range(40)}
    found = []
    for _ in range(200):
        began = time.perf_counter()
        json.loads(json.dumps(document, sort_keys=True))
        found.append(time.perf_counter() - began)
    return statistics.median(found) * 1e6


def children_s() -> float:
    """CPU seconds of processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Makes, ingests twice, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--media", action="store_true")
    parser.add_argument("--profile", action="store_true", help="where the time of the first ingest goes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make(root / "archive", arguments.rows, media=arguments.media)
        create_node(root / "n", NewNode(name="Bench", public_url="https://bench.example", source="bench"), now=NOW)
        with (root / "n/node.toml").open("r+", encoding="utf-8") as stream:
            text = stream.read().replace("[sources.bench]", '[sources.bench]\nfetch = "on-need"')
            stream.seek(0)
            stream.write(text)
        seconds, cpu, beside, speed = [], [], [], [calibrate()]
        for turn in range(2):
            with open_folder(root / "n") as node:
                began, worked, helped = time.perf_counter(), time.process_time(), children_s()
                if arguments.profile and turn == 0:
                    import cProfile
                    import pstats

                    profile = cProfile.Profile()
                    profile.enable()
                with open_intake(root / "archive", "bench") as intake:
                    report = Ingest(node.settings, node.database, node.blobs, intake, clock=lambda: NOW).run()
                seconds.append(time.perf_counter() - began)
                cpu.append(time.process_time() - worked)
                beside.append(children_s() - helped)
                speed.append(calibrate())
                if arguments.profile and turn == 0:
                    profile.disable()
                    pstats.Stats(profile).sort_stats("tottime").print_stats(45)
                if turn == 1:
                    assert report.is_unchanged, report.counts()
                with node.database.reader(limit_s=None) as conn:
                    counted = conn.execute(
                        """SELECT (SELECT count(*) FROM specimen_facet) AS searchable, (SELECT count(*) FROM change) AS log,
                                  (SELECT count(*) FROM record_issue) AS issues"""
                    ).fetchone()
                assert counted["searchable"] == arguments.rows
    usage = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        json.dumps(
            {
                "rows": arguments.rows, "media": arguments.rows if arguments.media else 0,
                "first_s": round(seconds[0], 2), "first_rows_per_s": round(arguments.rows / seconds[0]),
                "again_s": round(seconds[1], 2), "again_rows_per_s": round(arguments.rows / seconds[1]),
                "first_cpu_s": round(cpu[0], 2), "again_cpu_s": round(cpu[1], 2),
                "first_beside_cpu_s": round(beside[0], 2),
                "first_rows_per_s_of_two_free_cores": round(arguments.rows / max(cpu[0], beside[0])), "ratio": round(seconds[0] / seconds[1], 1), "peak_rss_mib": usage // 1024, "log": counted["log"],
                "calibration_us": [round(value) for value in speed],
                "issues": counted["issues"],
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
