"""Texts for spreadsheets: a cell that a spreadsheet would run as a formula is made inert by an apostrophe before it.

The rule is that of OWASP ("CSV Injection"): what begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end.
"""

from typing import Final

_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the full-width forms, which some spreadsheets read as the plain ones."""


def inert(text: str) -> str:
    """The text as a cell that is only shown; plain numbers stay numbers."""
    if not text.startswith(_STARTS):
        return text
    return text if text[0] in "+-" and _is_number(text[1:]) else "'" + text


def _is_number(text: str) -> bool:
    whole, _, part = text.partition(".")
    return (whole + part).isascii() and whole.isdecimal() and (part == "" or part.isdecimal())
