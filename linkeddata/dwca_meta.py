"""meta.xml of a Darwin Core Archive: which files hold which columns, and how they are written.

Darwin Core Text Guide (TDWG), http://rs.tdwg.org/dwc/terms/guides/text/. Without a meta.xml an archive is one file
with a header line whose names are Darwin Core terms.

Refused: documents with a DTD or entities (defusedxml), deeper than a meta.xml ever is, larger than 1 MiB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from linkeddata.errors import DocumentError
from linkeddata.records import PLACED_TERMS, term_to_curie

NAMESPACE: Final = "{http://rs.tdwg.org/dwc/text/}"
OCCURRENCE: Final = "http://rs.tdwg.org/dwc/terms/Occurrence"
MATERIAL: Final = "http://rs.tdwg.org/dwc/terms/MaterialEntity"
SIMPLE_MULTIMEDIA: Final = "http://rs.gbif.org/terms/1.0/Multimedia"
AUDIOVISUAL: Final = "http://rs.tdwg.org/ac/terms/Multimedia"
MAX_META_BYTES: Final = 1_048_576
MAX_ERROR_CHARS: Final = 500
MAX_META_DEPTH: Final = 8
"""archive > extension > files > location are four."""
MAX_FIELDS: Final = 2000
KNOWN_HEADERS: Final = {
    term.partition(":")[2].lower(): term
    for term in (
        *PLACED_TERMS, "dcterms:license", "dcterms:rightsHolder", "dcterms:references", "dcterms:language",
        "dwc:associatedMedia", "dwc:occurrenceRemarks", "dwc:individualCount", "dwc:fieldNumber",
    )
}  # fmt: skip
"""Column names as they stand in files without a meta.xml, in any case, and the terms they mean."""
_ESCAPES: Final = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\r\\n": "\r\n", "\\\\": "\\"}


class DwcaError(DocumentError):
    """An archive cannot be read; one line that says why and what to do, whatever names and values the archive holds."""

    def __init__(self, message: str) -> None:
        printable = "".join(char if char.isprintable() else " " for char in message)
        super().__init__(" ".join(printable.split())[:MAX_ERROR_CHARS])


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: where it stands (None: a constant), its term, and what an empty cell means."""

    index: int | None
    term: str
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One file of the archive."""

    row_type: str
    location: str
    encoding: str
    delimiter: str
    quote: str
    header_lines: int
    id_index: int | None
    columns: tuple[Column, ...]

    @property
    def width(self) -> int:
        """Cells a row must have at least."""
        known = [column.index for column in self.columns if column.index is not None]
        return max([*known, self.id_index or 0]) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveDescription:
    """What meta.xml says."""

    core: Table
    extensions: tuple[Table, ...]
    metadata: str = ""
    """Name of the EML file; empty when none is named."""


def parse_meta(data: bytes) -> ArchiveDescription:
    """meta.xml as a description.

    Raises:
        DwcaError: it is not one, or hostile.
    """
    if len(data) > MAX_META_BYTES:
        raise DwcaError("meta.xml is larger than 1 MiB")
    try:
        root = fromstring(data.lstrip(b" \t\r\n"), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DwcaError("meta.xml has a DTD or entities, which are refused") from error
    except (ParseError, ValueError, RecursionError, LookupError) as error:
        raise DwcaError(f"meta.xml is not well-formed XML: {error}") from error
    check_depth(root, MAX_META_DEPTH, "meta.xml")
    cores = [item for item in root if _name(item) == "core"]
    if _name(root) != "archive" or len(cores) != 1:
        raise DwcaError("meta.xml must be an <archive> with one <core>")
    extensions = tuple(_table(item) for item in root if _name(item) == "extension")
    metadata = root.get("metadata", "").strip()
    return ArchiveDescription(core=_table(cores[0]), extensions=extensions, metadata=metadata)


def check_depth(root: Element, most: int, name: str) -> None:
    """Refuses documents that are nested deeper than theirs ever is.

    Raises:
        DwcaError: it is.
    """
    level = [root]
    for _ in range(most):
        level = [child for item in level for child in item]
    if level:
        raise DwcaError(f"{name} is nested deeper than {most} levels")


def describe_single(
    name: str, header: Sequence[str], *, delimiter: str, quote: str, encoding: str
) -> ArchiveDescription:
    """The description of an archive that is one file with a header line."""
    columns = tuple(Column(index=index, term=_header_term(text)) for index, text in enumerate(header) if text.strip())
    known = set(KNOWN_HEADERS.values())
    by_term = {column.term: column.index for column in columns}
    identifier = next((by_term[term] for term in ("id", "dwc:occurrenceID", "dwc:id") if term in by_term), None)
    if not any(column.term in known for column in columns):
        raise DwcaError(f"{name} has no column that is a Darwin Core term (first line: {', '.join(header)[:100]!r})")
    table = Table(
        row_type=OCCURRENCE, location=name, encoding=encoding, delimiter=delimiter, quote=quote, header_lines=1,
        id_index=identifier, columns=columns,
    )  # fmt: skip
    return ArchiveDescription(core=table, extensions=())


def _header_term(text: str) -> str:
    name = text.strip().strip('"')
    if "://" in name:
        return term_to_curie(name)
    if ":" in name:
        return name
    if name.lower() in ("id", "gbifid"):
        return "id"
    return KNOWN_HEADERS.get(name.lower(), "dwc:" + name)


def _table(element: Element) -> Table:
    locations = [
        (item.text or "").strip() for files in element if _name(files) == "files" for item in files
        if _name(item) == "location"
    ]  # fmt: skip
    if len(locations) != 1 or not locations[0]:
        raise DwcaError("each table of meta.xml must name exactly one file")
    identifier: int | None = None
    columns: list[Column] = []
    for item in list(element):
        if _name(item) in ("id", "coreid"):
            identifier = _index(item)
        elif _name(item) == "field":
            term = item.get("term", "")
            if not term:
                raise DwcaError("a <field> of meta.xml has no term")
            index = _index(item) if item.get("index") is not None else None
            columns.append(Column(index=index, term=term_to_curie(term), default=item.get("default")))
    if len(columns) > MAX_FIELDS:
        raise DwcaError(f"a table of meta.xml has more than {MAX_FIELDS} fields")
    header = element.get("ignoreHeaderLines", "0") or "0"
    if not header.isdecimal() or int(header) > 1000:
        raise DwcaError("ignoreHeaderLines must be a small number")
    lines = _unescape(element.get("linesTerminatedBy", "\\n"))
    if lines not in ("\n", "\r\n", "\r"):
        raise DwcaError(f"lines that end in {lines!r} cannot be read: export with \\n")
    delimiter = _unescape(element.get("fieldsTerminatedBy", ","))
    quote = _unescape(element.get("fieldsEnclosedBy", '"'))
    if len(delimiter) != 1 or len(quote) > 1:
        raise DwcaError("fieldsTerminatedBy must be one character, fieldsEnclosedBy at most one")
    return Table(
        row_type=element.get("rowType", OCCURRENCE), location=locations[0],
        encoding=element.get("encoding", "UTF-8") or "UTF-8", delimiter=delimiter, quote=quote,
        header_lines=int(header), id_index=identifier, columns=tuple(columns),
    )  # fmt: skip


def _index(element: Element) -> int:
    text = element.get("index", "")
    if not text.isdecimal() or int(text) > MAX_FIELDS:
        raise DwcaError(f"the index {text[:20]!r} in meta.xml is not a column number")
    return int(text)


def _unescape(text: str) -> str:
    return _ESCAPES.get(text, text)


def _name(element: Element) -> str:
    return str(element.tag).removeprefix(NAMESPACE)
