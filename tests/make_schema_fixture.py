"""Writes ``tests/fixtures/schema-N.sql``: a small filled database of the newest schema, as text.

Run it once when a schema is released; the file is then never changed.
"""

import re
import sqlite3
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import NOW, ingest, jpeg, rows_of, write_archive

from node.folder import open_folder
from node.setup import NewNode, create_node
from node.storage.db import migrations


def main() -> None:
    """Makes the fixture of the newest schema."""
    number = migrations()[-1][0]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        create_node(root / "n", NewNode(name="Fixture", public_url="https://fixture.example"), now=NOW)
        with open_folder(root / "n") as node:
            ingest(node, write_archive(root / "a", rows_of(2), images=jpeg))
        conn = sqlite3.connect(root / "n/data/node.sqlite")
        skip = ("specimen_text_", "annotation_text_", "sqlite_")
        lines = [
            line
            for line in conn.iterdump()
            if not any(mark + part in line for part in skip for mark in ('"', "'", " "))
        ]
        conn.close()
    lines = [line for line in lines if "sqlite_master" not in line and "writable_schema" not in line]
    text = "\n".join(lines)
    create = next(sql for _, sql in reversed(migrations()) if "VIRTUAL TABLE" in sql)
    virtual = "\n".join(re.findall(r"^CREATE VIRTUAL TABLE [^;]+;", create, re.MULTILINE))
    text = text.replace("BEGIN TRANSACTION;", f"BEGIN TRANSACTION;\n{virtual}", 1)
    (Path(__file__).parent / "fixtures" / f"schema-{number}.sql").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
