"""Texts for spreadsheets: a cell that a spreadsheet would run as a formula is made inert by an apostrophe before it.

A text that begins like a formula (``=``, ``+``, ``-``, ``@``, also full-width, after blanks; ``|`` and ``%`` of DDE) is
one for Excel, LibreOffice and Google Sheets, and a formula can send the sheet somewhere (OWASP, CSV Injection).
Control characters are no text, and marks that turn the direction of a line hide what stands there: both are left out.

It leaves out: files (``node.sheet_files``).
"""

import re
from typing import Final

_FORMULA: Final = re.compile(r"[\s\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n|%]")
"""What a spreadsheet might take for a formula, or for the beginning of one once it has cut blanks off."""
_NUMBER: Final = re.compile(r"[+-][0-9]+(\.[0-9]+)?")
"""A number with its sign (a latitude) looks like the beginning of a formula, and is none."""
_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]"
)
"""Not allowed in XML, or turning the text of a line around."""
MAX_CELL_CHARS: Final = 32_767
"""Of one cell in Excel (Excel specifications and limits)."""


def inert(text: str) -> str:
    """The text as a CSV cell that no spreadsheet carries out; plain numbers stay numbers."""
    plain = clean(text)
    return f"'{plain}" if _FORMULA.match(plain) and not _NUMBER.fullmatch(plain) else plain


def clean(text: str) -> str:
    """The text without control characters and marks that turn the direction of a line."""
    return _CONTROL.sub("", text)[:MAX_CELL_CHARS]
