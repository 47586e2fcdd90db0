"""``vasculum corrections``: accepted values, back to the collection system."""

import json
from pathlib import Path
from typing import Literal

import click

from node.cli.errors import CommandFailed, UserError
from node.cli.node_database import open_database
from node.config import ConfigError, load_settings
from node.services.corrections import export_table
from node.sheet_files import csv_text, write_table


@click.group(epilog="Example: vasculum corrections export hortus/ --since 0 --out corrections.xlsx")
def corrections() -> None:
    """Values that were accepted in review, for the collection system."""


@corrections.command(epilog="Example: vasculum corrections export hortus/ --since 1042 --format xlsx --out march.xlsx")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--since", type=click.IntRange(min=0), default=0, show_default=True,
              help="Number of the publication log that the last export said; 0: everything.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["csv", "xlsx"]), default=None,
              help="Default: by the ending of --out, else csv.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=None, help="File to write; csv: screen."
)
@click.option("--json", "as_json", is_flag=True, help="Print the values and the next number as JSON.")
def export(node_dir: Path, since: int, form: Literal["csv", "xlsx"] | None, out: Path | None, as_json: bool) -> None:
    """Write what was accepted since a number, keyed by your own ids, and say the next number.

    Each line is one value for one field of one of your rows: what it is now, what is proposed, and the evidence.
    A line with the status 'withdrawn' takes an earlier one back.
    """
    form = form or ("xlsx" if out is not None and out.suffix.lower() == ".xlsx" else "csv")
    if form == "xlsx" and out is None and not as_json:
        raise UserError("a spreadsheet needs a file: --out NAME.xlsx")
    try:
        settings = load_settings(node_dir)
    except ConfigError as error:
        raise UserError(str(error)) from error
    with open_database(node_dir) as database, database.transaction() as conn:
        table = export_table(conn, settings, since=since)
        if out is not None:
            try:
                write_table(out, form, table.heading, table.rows)
            except OSError as error:
                raise CommandFailed(f"{out} cannot be written: {error.strerror}") from error
    if as_json:
        click.echo(json.dumps({"corrections": list(table.documents), "next": table.following}, ensure_ascii=False))
        return
    if out is None:
        click.echo(csv_text(table.heading, table.rows), nl=False)
    click.echo(f"{len(table.rows)} value(s); next time: --since {table.following}", err=True)
