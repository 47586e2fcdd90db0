"""``vasculum export``: the public records of a node in other forms."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import sqlite_utils

from linkeddata.errors import DocumentError
from linkeddata.rdf import FORMATS, serialise
from linkeddata.spreadsheet import inert
from node.cli.errors import CommandFailed, UserError
from node.config import ConfigError, load_settings
from node.storage.db import Database, DatabaseError


@click.command(
    epilog="""\b
Examples:
  vasculum export hortus/ --format turtle --output hortus.ttl
  vasculum export hortus/ --format csv > specimens.csv"""
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonld", "ndjson", "csv", *FORMATS]),
    default="ndjson",
    show_default=True,
    help="jsonld: one document with @graph. csv: the table of specimens.",
)
@click.option(
    "--type", "kind", type=click.Choice(["specimen", "medium", "annotation"]), default=None, help="Only these."
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Default: standard output."
)
def export(node_dir: Path, form: str, kind: str | None, output: Path | None) -> None:
    """Write the public records of NODE_DIR. What is private, withheld or withdrawn is not in it."""
    try:
        settings = load_settings(node_dir)
        database = Database.open(settings.database_path)
    except (ConfigError, DatabaseError) as error:
        raise UserError(str(error)) from error
    try:
        stream = output.open("w", encoding="utf-8") if output else sys.stdout
        try:
            if form == "csv":
                _write_csv(settings.database_path, stream)
            else:
                with database.reader(limit_s=None) as conn:
                    _write(_documents(conn, kind), form, stream)
        finally:
            if output:
                stream.close()
    except DocumentError as error:
        raise CommandFailed(str(error)) from error
    except BrokenPipeError:
        raise  # the reader of our output went away
    except OSError as error:
        raise CommandFailed(f"{output}: {error.strerror}") from error
    finally:
        database.close()


def _documents(conn: Any, kind: str | None) -> Iterator[dict[str, Any]]:
    rows = conn.execute(
        """SELECT body FROM record WHERE state = 'active' AND published = 1 AND (:kind IS NULL OR kind = :kind)
             AND (kind <> 'annotation' OR (access = 0 AND sensitive = 0)) ORDER BY iri""",
        {"kind": kind},
    )
    for row in rows:
        yield json.loads(row["body"])


def _write(documents: Iterator[dict[str, Any]], form: str, stream: Any) -> None:
    if form == "ndjson":
        for document in documents:
            stream.write(json.dumps(document, ensure_ascii=False) + "\n")
    elif form == "jsonld":
        items = list(documents)
        context = items[0]["@context"] if items else {}
        graph = [{key: value for key, value in item.items() if key != "@context"} for item in items]
        json.dump({"@context": context, "@graph": graph}, stream, ensure_ascii=False, indent=1)
        stream.write("\n")
    else:
        stream.write(serialise(documents, form))


def _write_csv(path: Path, stream: Any) -> None:
    """The search table as CSV; sqlite-utils knows how to write rows."""
    import csv

    tables = sqlite_utils.Database(path)
    try:
        rows = tables.query("SELECT * FROM specimen_facet WHERE access < 2 ORDER BY iri")
        names = [
            column.name for column in tables["specimen_facet"].columns if column.name not in ("n", "access", "source")
        ]
        writer = csv.DictWriter(stream, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: inert("" if row[name] is None else str(row[name])) for name in names} for row in rows)
    finally:
        tables.close()
