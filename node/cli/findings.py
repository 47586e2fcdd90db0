"""``vasculum findings``: what was noticed during ingest, record by record, or how often."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from linkeddata.issues import FLAGS
from node.cli.errors import UserError
from node.cli.say import say
from node.config import ConfigError, load_settings
from node.storage.db import Database, DatabaseError
from node.storage.issues import count_issues, count_levels

_FINDINGS = """SELECT source, key, code, message, at FROM finding
  WHERE (:source IS NULL OR source = :source) AND (:code IS NULL OR code = :code) AND (:key IS NULL OR key = :key)
  ORDER BY id"""
_ISSUES = """SELECT s.source, s.key, i.code, i.detail AS message, s.last_seen AS at, i.iri
  FROM record_issue i JOIN source_row s ON s.iri = i.iri
  WHERE (:source IS NULL OR s.source = :source) AND (:key IS NULL OR s.key = :key) ORDER BY i.code, i.iri"""
_ISSUES_OF_CODE = _ISSUES.replace("WHERE", "WHERE i.code = :code AND")


@click.command(
    epilog="""\b
Examples:
  vasculum findings hortus/ --summary
  vasculum findings hortus/ --code RECORDED_DATE_INVALID
  vasculum findings hortus/ --code image-unreadable --json"""
)
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--source", default=None, help="Only this source.")
@click.option("--code", default=None, help="Only findings of this kind.")
@click.option("--key", default=None, help="Only those of the record with this id of the source.")
@click.option("--summary", is_flag=True, help="How many of each kind, and how many records at each MIDS level.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def findings(
    node_dir: Path, source: str | None, code: str | None, key: str | None, summary: bool, as_json: bool
) -> None:
    """List what was noticed while ingesting into NODE_DIR.

    Codes in capitals are issues of records, named like those of GBIF; the others are about archives and files
    (bad images, duplicate ids, orphan rows). docs/reference-findings.md explains each.
    """
    try:
        database = Database.open(load_settings(node_dir).database_path)
    except (ConfigError, DatabaseError) as error:
        raise UserError(str(error)) from error
    asked = {"source": source, "code": code, "key": key}
    try:
        with database.reader(limit_s=None) as conn:
            if summary:
                _say_summary(conn, source, as_json=as_json)
                return
            count = 0
            for row in _rows(conn, asked):
                count += 1
                if as_json:
                    sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
                else:
                    say(f"{row['source']}  {row['key'] or '-'}  {row['code']}: {row['message']}")
    finally:
        database.close()
    if not as_json:
        click.echo(f"{count} finding(s)")
        if code is not None and code in FLAGS:
            click.echo(f"{code}: {FLAGS[code].says} {FLAGS[code].advice}")


def _rows(conn: sqlite3.Connection, asked: dict[str, str | None]) -> Iterator[dict[str, Any]]:
    """Findings about archives and files first, then issues of records."""
    if asked["code"] not in FLAGS:
        yield from (dict(row) for row in conn.execute(_FINDINGS, asked))
    if asked["code"] is None or asked["code"] in FLAGS:
        yield from (dict(row) for row in conn.execute(_ISSUES if asked["code"] is None else _ISSUES_OF_CODE, asked))


def _say_summary(conn: sqlite3.Connection, source: str | None, *, as_json: bool) -> None:
    rows = conn.execute(
        """SELECT code, count(*) AS n FROM finding WHERE :source IS NULL OR source = :source
           GROUP BY code ORDER BY n DESC, code""",
        {"source": source},
    )
    counts = [*count_issues(conn, source), *((row["code"], row["n"]) for row in rows)]
    levels = count_levels(conn, source)
    if as_json:
        mids = {"none" if level is None else str(level): count for level, count in levels}
        click.echo(json.dumps({"counts": dict(counts), "mids": mids}, ensure_ascii=False))
        return
    for level, count in levels:
        click.echo(f"{count:>9}  {'below MIDS 0' if level is None else f'MIDS {level}'}")
    for code, count in counts:
        click.echo(f"{count:>9}  {code}" + (f": {FLAGS[code].says}" if code in FLAGS else ""))
