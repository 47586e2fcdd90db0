"""Tables as files that people open in a spreadsheet, CSV or XLSX, with no cell that a spreadsheet would carry out.

A text that begins like a formula (``=``, ``+``, ``-``, ``@``, also full-width, after blanks) is one for Excel,
LibreOffice and Google Sheets, and a formula can send the sheet somewhere (OWASP, CSV Injection). In CSV such a text
gets an apostrophe in front, which is what people type to the same end. XLSX knows types: every cell is a text, and
is marked so.

It leaves out: what stands in the table.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

Form = Literal["csv", "xlsx"]
FORMULA: Final = re.compile(r"[\s\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n|%]")
"""What a spreadsheet might take for a formula, or for the beginning of one once it has cut blanks off."""
_NUMBER: Final = re.compile(r"-[0-9]+(\.[0-9]+)?")
"""A negative number (a latitude) looks like the beginning of a formula, and is none."""
_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]"
)
"""Not allowed in XML, or turning the text of a line around."""
MAX_CELL_CHARS: Final = 32_767
"""Of one cell in Excel (Excel specifications and limits)."""


def inert(text: str) -> str:
    """The text as a CSV cell that no spreadsheet carries out."""
    plain = clean(text)
    return f"'{plain}" if FORMULA.match(plain) and not _NUMBER.fullmatch(plain) else plain


def clean(text: str) -> str:
    """The text without control characters and marks that turn the direction of a line."""
    return _CONTROL.sub("", text)[:MAX_CELL_CHARS]


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
