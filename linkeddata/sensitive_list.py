"""The list of sensitive taxa as people write it: CSV, checked line by line.

Invariant: a list that cannot be read whole is refused whole, with the line and what to write instead; a taxon that was
left out in silence would be published.
"""

import csv
import io
from typing import Final

from linkeddata.sensitive_taxa import SensitiveRule, listed_words, region_parts

FIELDS: Final = ("scientificName", "genus", "family", "order", "class")
"""Darwin Core terms by which a taxon may be named."""
_RANKS: Final = {"": "scientificName", "species": "scientificName", "subspecies": "scientificName",
                 "variety": "scientificName", "form": "scientificName",
                 **{name.lower(): name for name in FIELDS}}  # fmt: skip
COLUMNS: Final = ("name", "field", "region", "category", "reason", "synonyms")
MAX_RULES: Final = 100_000
"""More is not a list of taxa that a person keeps."""
MAX_CHARS: Final = 300
"""Of one cell."""


class SensitiveListError(Exception):
    """The list cannot be used; the message names the line and says what to write."""


def parse_sensitive_list(data: bytes, name: str) -> tuple[SensitiveRule, ...]:
    """A list from CSV: a header with ``name`` and ``category``, and if wanted ``field``, ``region``, ``reason``,
    ``synonyms`` (several with ``|`` between them).

    Args:
        data: UTF-8, with or without a byte order mark; comma, semicolon or tab between cells.
        name: of the file, for messages.

    Raises:
        SensitiveListError: with the line and what to write.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SensitiveListError(f"{name}: not UTF-8 (byte {error.start}): save it as CSV UTF-8") from error
    if "\0" in text:
        raise SensitiveListError(f"{name}: this is no text file: save the list as CSV UTF-8")
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rules: list[SensitiveRule] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            line = f"{name} line {reader.line_num}"
            stripped = [cell.strip() for cell in cells]
            if not any(stripped) or stripped[0].startswith("#"):
                continue
            if header is None:
                header = _header(stripped, line)
            else:
                rules.append(_rule(header, stripped, line))
            if len(rules) > MAX_RULES:
                raise SensitiveListError(f"{name}: more than {MAX_RULES} taxa: this is not a list of sensitive taxa")
    except csv.Error as error:
        raise SensitiveListError(f"{name} line {reader.line_num}: not readable as CSV: {error}") from error
    if header is None:
        raise SensitiveListError(f"{name}: empty: the first line must be {','.join(COLUMNS)}")
    return tuple(rules)


def check_rule(rule: SensitiveRule, where: str) -> None:
    """Refuses a rule that protects nothing or whose words cannot be meant.

    Raises:
        SensitiveListError: with ``where``.
    """
    if not 1 <= rule.category <= 4:
        raise SensitiveListError(f"{where} category must be 1, 2, 3 or 4")
    if rule.term not in {f"dwc:{name}" for name in FIELDS}:
        raise SensitiveListError(f"{where} field must be one of {', '.join(FIELDS)}")
    for name in rule.names:
        words = listed_words(name)
        if not words:
            raise SensitiveListError(f"{where} {name!r} is no name of a taxon")
        if rule.term == "dwc:scientificName" and len(words) == 1:
            raise SensitiveListError(
                f"{where} {name!r} is one word: write the whole name, or field genus, family, order or class"
            )
        if rule.term != "dwc:scientificName" and len(words) > 1:
            raise SensitiveListError(f"{where} {name!r} is more than one word: a {rule.term[4:]} is one")
    for country, state in region_parts(rule.region):
        if not country:
            raise SensitiveListError(
                f"{where} region {rule.region!r}: write a country (code or name), or country/state; "
                f"several with | between{f' (which country is {state} in?)' if state else ''}"
            )
    if not rule.reason.isprintable():
        raise SensitiveListError(f"{where} reason must be one line")


def _header(cells: list[str], line: str) -> list[str]:
    header = [cell.lower() for cell in cells]
    header = ["field" if cell == "rank" else cell for cell in header]
    unknown = [cell for cell in header if cell not in COLUMNS]
    missing = [cell for cell in ("name", "category") if cell not in header]
    if unknown or missing or len(set(header)) != len(header):
        what = f"unknown column {unknown[0][:60]!r}" if unknown else f"column {missing[0]} is missing" if missing else (
            "a column stands twice"
        )  # fmt: skip
        raise SensitiveListError(f"{line}: {what}: the first line names the columns, out of {', '.join(COLUMNS)}")
    return header


def _rule(header: list[str], cells: list[str], line: str) -> SensitiveRule:
    if len(cells) > len(header) and any(cells[len(header) :]):
        raise SensitiveListError(
            f"{line}: {len(cells)} cells under {len(header)} columns: put quotes around a cell that holds the separator"
        )
    cell = dict(zip(header, [*cells, *[""] * len(header)], strict=False))
    long = next((name for name, value in cell.items() if len(value) > MAX_CHARS and name != "synonyms"), None)
    if long is not None:
        raise SensitiveListError(f"{line}: {long} is longer than {MAX_CHARS} characters")
    rank = cell.get("field", "").lower()
    if rank not in _RANKS:
        raise SensitiveListError(f"{line}: field must be one of {', '.join(FIELDS)}, not {rank[:60]!r}")
    if cell["category"] not in ("1", "2", "3", "4"):
        raise SensitiveListError(f"{line}: category must be 1, 2, 3 or 4, not {cell['category'][:60]!r}")
    rule = SensitiveRule(
        term=f"dwc:{_RANKS[rank]}", value=cell["name"], category=int(cell["category"]),
        synonyms=tuple(item.strip() for item in cell.get("synonyms", "").split("|") if item.strip()),
        region=cell.get("region", ""), reason=cell.get("reason", ""),
    )  # fmt: skip
    check_rule(rule, f"{line}:")
    return rule
