"""Tables as files that people open in a spreadsheet, CSV or XLSX, with no cell that a spreadsheet would carry out.

In CSV a text that begins like a formula gets an apostrophe in front (``linkeddata.spreadsheet``). XLSX knows types:
every cell is a text, and is marked so.

It leaves out: what stands in the table.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from linkeddata.spreadsheet import clean, inert

Form = Literal["csv", "xlsx"]


def write_table(path: Path, form: Form, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a table; the file is complete or not there.

    Raises:
        OSError: the disk refused.
    """
    data = _csv(heading, rows) if form == "csv" else _xlsx(heading, rows)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data)
    temporary.replace(path)


def csv_text(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The table as CSV text (RFC 4180, UTF-8)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([inert(name) for name in heading])
    writer.writerows([inert(value) for value in row] for row in rows)
    return out.getvalue()


def _csv(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    # Excel reads UTF-8 only with this mark in front; others skip it.
    return b"\xef\xbb\xbf" + csv_text(heading, rows).encode("utf-8")


def _xlsx(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    book = Workbook(write_only=True)
    sheet = book.create_sheet("corrections")
    for row in (heading, *rows):
        cells = []
        for value in row:
            cell = WriteOnlyCell(sheet)
            cell.value = clean(value)
            cell.data_type = "s"  # a text, whatever it looks like
            cell.number_format = "@"
            cells.append(cell)
        sheet.append(cells)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()
