"""``vasculum doctor``: says in plain words what is wrong."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from node.doctor import examine

_MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}


@click.command(epilog="Example: vasculum doctor hortus/")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of text.")
def doctor(node_dir: Path, as_json: bool) -> int:
    """Look at NODE_DIR and say what is wrong; changes nothing. Exit code 1 when there is a problem."""
    findings = examine(node_dir, now=datetime.now(UTC))
    problems = sum(item.level == "problem" for item in findings)
    if as_json:
        click.echo(json.dumps([asdict(item) for item in findings], indent=1))
    else:
        for item in findings:
            click.echo(f"{_MARKS[item.level]} {item.about}: {item.text}")
        click.echo("nothing is wrong" if not problems else f"{problems} problem(s)")
    return 1 if problems else 0
