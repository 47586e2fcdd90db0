"""Lines for a terminal that repeat what others wrote: names of files, ids, values of records.

Invariant: a control character (an escape sequence above all, or a line end that would forge a line) or a mark that
turns the direction of a line never reaches the terminal; a sign is shown in its place.
"""

import re
from typing import Final

import click

_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def say(text: str, *, err: bool = False) -> None:
    """Prints it as one line."""
    click.echo(_UNSEEN.sub("\ufffd", text), err=err)
