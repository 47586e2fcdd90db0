"""Plain tables (CSV, TSV, XLSX) as archives: what a mapping file says of their columns, and their rows.

The mapping is a TOML file beside the table, ``NAME.mapping.toml``, which ``draft_mapping`` proposes and a person edits:

    [table]
    sheet = "Specimens"          # of a workbook
    delimiter = ";"              # of a text file
    encoding = "windows-1252"
    [columns]
    "Inv. Nr." = "dwc:catalogNumber"
    "Cupboard" = ""              # left out; the ingest says so
    [constants]
    "dwc:basisOfRecord" = "PreservedSpecimen"

Invariants:
- With its mapping a table is an archive of one table: same rows, findings, plan and brakes.
- A column of the table that the mapping does not name, and one that it names and the table lacks, is an error.
- A workbook is checked like any zip before it is opened, and must be without a DTD; it is read cell by cell, values
  and never formulas. Memory holds its shared texts (bounded) and one row.

It leaves out: several header lines, merged cells, the old .xls.
"""

import csv
import io
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Any, Final

from linkeddata.archive_files import DAMAGE, FolderFiles, ZipFiles
from linkeddata.column_guess import IMAGE_COLUMN, guess_columns
from linkeddata.dwca_media import ADDRESS_TERMS, OF_MEDIA
from linkeddata.dwca_meta import MAX_FIELDS, OCCURRENCE, ArchiveDescription, Column, DwcaError, Table
from linkeddata.dwca_text import MAX_ROW_CHARS
from linkeddata.records import PLACED_TERMS

ENDINGS: Final = (".csv", ".tsv", ".txt", ".xlsx")
MAPPING_ENDING: Final = ".mapping.toml"
MAX_MAPPING_BYTES: Final = 1 << 20
MAX_SHARED_TEXT_BYTES: Final = 300_000_000
"""Unpacked size of a workbook's shared texts, which are held in memory; a million specimens have some 100 MB."""
_BROKEN: Final = (
    KeyError, IndexError, ValueError, TypeError, AttributeError, SyntaxError, RecursionError, *DAMAGE,
)  # fmt: skip
"""What the library raises for workbooks that no program wrote (a ParseError of XML is a SyntaxError)."""
_HEAD_BYTES: Final = 1 << 16
_PREFIXES: Final = ("dwc:", "dcterms:", "ac:", "http://", "https://", "xmpRights:", "vasculum:", OF_MEDIA)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMapping:
    """What a mapping file says."""

    columns: Mapping[str, str]
    constants: Mapping[str, str]
    sheet: str = ""
    delimiter: str = ""
    encoding: str = ""


def is_plain_table(path: Path) -> bool:
    """Whether a path names a table by itself."""
    return path.suffix.lower() in ENDINGS and path.is_file()


def mapping_path(path: Path) -> Path:
    """Where the mapping of a table lies."""
    return path.with_name(path.name + MAPPING_ENDING)


def draft_mapping(path: Path) -> str:
    """The text of a mapping file for a table, to be looked over by a person.

    Raises:
        DwcaError: the table cannot be read, or has no header.
    """
    sheet = delimiter = encoding = ""
    if path.suffix.lower() == ".xlsx":
        sheet, header = _read_sheet_head(path)
    else:
        encoding, delimiter, header = _read_text_head(path)
    guessed = guess_columns(_unique(header, path))
    lines = [f"# How {path.name} is read. Look it over: every column needs the Darwin Core term that it holds.",
             '# Terms: https://dwc.tdwg.org/terms/ ; "" leaves a column out.', "", "[table]"]  # fmt: skip
    given = (("sheet", sheet), ("delimiter", delimiter), ("encoding", encoding))
    lines += [f"{key} = {_quoted(value)}" for key, value in given if value]
    lines += ["", "[columns]"]
    for name, term in guessed.items():
        lines.append(f"{_quoted(name)} = {_quoted(term)}" + ("" if term else "  # not recognised: left out"))
    lines += ["", "[constants]", "# What every row says, whatever stands in the table."]
    if "dwc:basisOfRecord" not in guessed.values():
        lines.append('"dwc:basisOfRecord" = "PreservedSpecimen"')
    if "dwc:institutionCode" not in guessed.values():
        lines.append('# "dwc:institutionCode" = "YOUR CODE"')
    return "\n".join(lines) + "\n"


def read_mapping(path: Path) -> TableMapping:
    """The mapping of a table.

    Raises:
        DwcaError: there is none, or it is not one; says what to do.
    """
    place = mapping_path(path)
    try:
        raw = place.read_bytes()
    except FileNotFoundError as error:
        raise DwcaError(
            f"{path.name} needs a mapping of its columns: the same command with --guess-mapping drafts {place.name}"
        ) from error
    except OSError as error:
        raise DwcaError(f"{place.name} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_MAPPING_BYTES:
        raise DwcaError(f"{place.name} is too large for a mapping")
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DwcaError(f"{place.name}: {error}") from error
    return _mapping(document, place.name)


@contextmanager
def open_plain(path: Path, mapping: TableMapping) -> Iterator[tuple["PlainFiles", ArchiveDescription, tuple[str, ...]]]:
    """A table as the files and the description of an archive, and the columns that are left out.

    Raises:
        DwcaError: it cannot be read, or it and its mapping do not fit.
    """
    if path.suffix.lower() == ".xlsx":
        with tempfile.TemporaryFile() as copy:
            header = _copy_sheet(path, mapping.sheet, copy)
            files = PlainFiles(path, copy)
            yield files, *_describe(header, mapping, path, delimiter=",", encoding="UTF-8")
        return
    encoding, delimiter, header = _read_text_head(path, mapping.encoding, mapping.delimiter)
    yield PlainFiles(path, None), *_describe(header, mapping, path, delimiter=delimiter, encoding=encoding)


class PlainFiles(FolderFiles):
    """The folder of a table: its images, and the table itself (of a workbook: its rows, copied as CSV)."""

    def __init__(self, path: Path, copy: IO[bytes] | None) -> None:
        super().__init__(path.parent)
        self.root = path.parent
        self._table = path.name
        self._copy = copy

    def open(self, name: str) -> IO[bytes]:
        """See ``ArchiveFiles``."""
        if name != self._table or self._copy is None:
            return super().open(name)
        self._copy.seek(0)
        return _Borrowed(self._copy)  # type: ignore[return-value, unused-ignore]


class _Borrowed(io.RawIOBase):
    """A stream whose closing leaves the file open for the next reader."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)


def _mapping(document: dict[str, Any], name: str) -> TableMapping:
    unknown = set(document) - {"table", "columns", "constants"}
    table, columns, constants = (document.get(key, {}) for key in ("table", "columns", "constants"))
    if unknown or not all(isinstance(part, dict) for part in (table, columns, constants)):
        raise DwcaError(f"{name} has the tables [table], [columns] and [constants], and no other")
    texts = [*columns.values(), *constants.values(), *table.values()]
    if set(table) - {"sheet", "delimiter", "encoding"} or not all(isinstance(text, str) for text in texts):
        raise DwcaError(f"{name}: [table] has sheet, delimiter and encoding, and every value is a text in quotes")
    terms = [term for term in (*columns.values(), *constants) if term]
    for term in terms:
        if not term.startswith(_PREFIXES):
            known = next((item for item in PLACED_TERMS if item.partition(":")[2].lower() == term.lower()), "")
            hint = f": did you mean {known}?" if known else ' (for example "dwc:catalogNumber")'
            raise DwcaError(f"{name}: {term[:60]!r} is no term{hint}")
    doubled = sorted({term for term in terms if terms.count(term) > 1})
    if doubled:
        raise DwcaError(f"{name} gives {doubled[0]} twice: one column or constant for each term")
    of_media = [term.removeprefix(OF_MEDIA) for term in terms if term.startswith(OF_MEDIA)]
    if of_media and IMAGE_COLUMN not in terms:
        raise DwcaError(f"{name} says something of images ({OF_MEDIA}{of_media[0]}), and no column is {IMAGE_COLUMN}")
    for term in of_media:
        if not term.startswith(_PREFIXES) or term.startswith(OF_MEDIA):
            hint = 'for example "media:dcterms:license"'
            raise DwcaError(f"{name}: {OF_MEDIA + term[:60]!r} is no term of an image ({hint})")
        if term in ADDRESS_TERMS:
            raise DwcaError(f"{name}: addresses of images stand in {IMAGE_COLUMN}, not in {OF_MEDIA}{term}")
    if not set(terms) & {"dwc:catalogNumber", "dwc:occurrenceID"}:
        raise DwcaError(f"{name}: no column is dwc:catalogNumber or dwc:occurrenceID, so records would have no ids")
    return TableMapping(
        columns=columns, constants=constants, sheet=table.get("sheet", ""), delimiter=table.get("delimiter", ""),
        encoding=table.get("encoding", ""),
    )  # fmt: skip


def _describe(
    header: list[str], mapping: TableMapping, path: Path, *, delimiter: str, encoding: str
) -> tuple[ArchiveDescription, tuple[str, ...]]:
    names = _unique(header, path)
    for name in mapping.columns:
        if name not in names:
            raise DwcaError(f"{mapping_path(path).name} names a column {name[:60]!r} that {path.name} does not have")
    for name in filter(str.strip, names):
        if name not in mapping.columns:
            raise DwcaError(
                f"{path.name} has a column {name[:60]!r} that {mapping_path(path).name} does not name:"
                ' add it under [columns] ("" leaves it out)'
            )
    columns = [
        Column(index=index, term=mapping.columns[name])
        for index, name in enumerate(names) if mapping.columns.get(name)
    ]  # fmt: skip
    columns += [Column(index=None, term=term, default=value) for term, value in mapping.constants.items()]
    table = Table(
        row_type=OCCURRENCE, location=path.name, encoding=encoding, delimiter=delimiter, quote='"', header_lines=1,
        id_index=None, columns=tuple(columns),
    )  # fmt: skip
    left_out = tuple(name for name in names if name.strip() and not mapping.columns[name])
    return ArchiveDescription(core=table, extensions=()), left_out


def _unique(header: list[str], path: Path) -> list[str]:
    names = [" ".join(name.split()) for name in header]
    said = [name for name in names if name]
    if not said:
        raise DwcaError(f"{path.name} has no line of column names")
    doubled = next((name for name in said if said.count(name) > 1), None)
    if doubled is not None:
        raise DwcaError(f"{path.name} has two columns named {doubled[:60]!r}: rename one")
    if len(names) > MAX_FIELDS:
        raise DwcaError(f"{path.name} has more than {MAX_FIELDS} columns")
    return names


def _read_text_head(path: Path, encoding: str = "", delimiter: str = "") -> tuple[str, str, list[str]]:
    """Encoding, delimiter and header of a text file; what is not given is found out."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        if not encoding:
            encoding = _encoding_of(head)
        stream.seek(0)
        try:
            with io.TextIOWrapper(
                stream, "utf-8-sig" if encoding == "UTF-8" else encoding, errors="replace", newline=""
            ) as text:
                line = text.readline(MAX_ROW_CHARS)
        except (LookupError, UnicodeError) as error:
            raise DwcaError(f"{path.name} is not text in {encoding[:40]!r}") from error
    if "\0" in line:
        raise DwcaError(f"{path.name} is not a text file")
    delimiter = delimiter or max("\t,;|", key=line.count)
    if len(delimiter) != 1:
        raise DwcaError(f"the delimiter of {path.name} must be one character")
    try:
        header = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        raise DwcaError(f"the first line of {path.name} is no line of column names: {error}") from error
    return encoding, delimiter, header


def _encoding_of(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    try:
        head[: head.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError:
        return "windows-1252"
    return "UTF-8"


# ---------------------------------------------------------------------- workbooks
def _read_sheet_head(path: Path) -> tuple[str, list[str]]:
    with _open_workbook(path) as workbook:
        sheet = _sheet_of(workbook, "", path)
        first = next(sheet.iter_rows(values_only=True), ())
        return sheet.title, [_cell(value) for value in first]


def _copy_sheet(path: Path, name: str, target: IO[bytes]) -> list[str]:
    """Writes the rows of a sheet as CSV; returns the header."""
    header: list[str] | None = None
    text = io.TextIOWrapper(target, "utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    with _open_workbook(path) as workbook:
        for row in _sheet_of(workbook, name, path).iter_rows(values_only=True):
            cells = [_cell(value) for value in row[:MAX_FIELDS]]
            if sum(map(len, cells)) > MAX_ROW_CHARS:
                raise DwcaError(f"a row of {path.name} has more than {MAX_ROW_CHARS} characters")
            if header is None:
                header = cells
            width = len(header)
            if any(cells):
                writer.writerow((*cells[:width], *[""] * (width - len(cells))))
    text.flush()
    text.detach()
    if header is None:
        raise DwcaError(f"{path.name} has no line of column names")
    return header


@contextmanager
def _open_workbook(path: Path) -> Iterator[Any]:
    import openpyxl

    _check_workbook(path)
    with path.open("rb") as stream:  # ours to close: the library leaves a file open when it fails
        try:
            workbook = openpyxl.load_workbook(stream, read_only=True, data_only=True, keep_links=False)
        except (OSError, *_BROKEN) as error:
            raise DwcaError(f"{path.name} is no workbook that can be read: save it again as .xlsx") from error
        try:
            yield workbook
        except DwcaError:
            raise
        except _BROKEN as error:
            raise DwcaError(f"{path.name} is damaged: save it again as .xlsx") from error
        finally:
            workbook.close()


def _check_workbook(path: Path) -> None:
    """The limits of any zip; no DTD anywhere, so that no parser has entities to expand; bounded shared texts."""
    files = ZipFiles(path)
    try:
        for name in sorted(files.names):
            if name.lower().endswith("sharedstrings.xml") and files.size_of(name) > MAX_SHARED_TEXT_BYTES:
                raise DwcaError(f"{path.name} holds more text than {MAX_SHARED_TEXT_BYTES >> 20} MiB: export it as CSV")
            if not name.lower().endswith((".xml", ".rels")):
                continue
            with files.open(name) as stream:
                is_odd = _has_dtd(stream)
            if is_odd:
                raise DwcaError(f"{name} in {path.name} has a DTD or is not UTF-8: no program writes workbooks so")
    except DAMAGE as error:
        raise DwcaError(f"{path.name} is damaged: {error}") from error
    finally:
        files.close()


def _has_dtd(stream: IO[bytes]) -> bool:
    """Whether XML declares a document type anywhere, or is in an encoding that could hide one."""
    before = b""
    while chunk := stream.read(_HEAD_BYTES):
        if (not before and b"\0" in chunk[:4]) or b"<!DOCTYPE" in before + chunk:
            return True
        before = chunk[-16:]
    return False


def _sheet_of(workbook: Any, name: str, path: Path) -> Any:
    sheets = [sheet for sheet in workbook.worksheets if hasattr(sheet, "iter_rows")]
    found = next((sheet for sheet in sheets if sheet.title == name), None) if name else next(iter(sheets), None)
    if found is None:
        raise DwcaError(f"{path.name} has no sheet {name!r}: it has {', '.join(sheet.title for sheet in sheets)[:200]}")
    found.reset_dimensions()  # what a file says about its size is not believed
    return found


def _cell(value: object) -> str:
    """A cell as text: dates as ISO 8601, whole numbers without a point."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(timespec="seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return '"' + "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in escaped) + '"'


__all__ = [
    "ENDINGS", "IMAGE_COLUMN", "PlainFiles", "draft_mapping", "is_plain_table", "mapping_path", "open_plain",
    "read_mapping",
]  # fmt: skip
