"""``vasculum findings``: what was noticed during ingest, record by record."""

import json
import sys
from pathlib import Path

import click

from node.cli.errors import UserError
from node.config import ConfigError, load_settings
from node.storage.db import Database, DatabaseError


@click.command(epilog="Example: vasculum findings hortus/ --code image-unreadable")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--source", default=None, help="Only this source.")
@click.option("--code", default=None, help="Only findings of this kind.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def findings(node_dir: Path, source: str | None, code: str | None, as_json: bool) -> None:
    """List what was noticed while ingesting into NODE_DIR: bad images, duplicate ids, orphan rows."""
    try:
        database = Database.open(load_settings(node_dir).database_path)
    except (ConfigError, DatabaseError) as error:
        raise UserError(str(error)) from error
    try:
        with database.reader(limit_s=None) as conn:
            rows = conn.execute(
                """SELECT source, key, code, message, at FROM finding
                   WHERE (:source IS NULL OR source = :source) AND (:code IS NULL OR code = :code) ORDER BY id""",
                {"source": source, "code": code},
            )
            count = 0
            for row in rows:
                count += 1
                if as_json:
                    sys.stdout.write(json.dumps(dict(row), ensure_ascii=False) + "\n")
                else:
                    click.echo(f"{row['source']}  {row['key'] or '-'}  {row['code']}: {row['message']}")
    finally:
        database.close()
    if not as_json:
        click.echo(f"{count} finding(s)")
