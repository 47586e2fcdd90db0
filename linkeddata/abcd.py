"""ABCD documents, alone or in the answers of a BioCASe provider, read as a stream: one specimen row for each unit.

Documents are ABCD 2.06 and 2.1 (TDWG), bare (``DataSets``) or inside a response of the BioCASe protocol
(http://www.biocase.org/schemas/protocol/1.3): one file, a folder of files, or a zip of them, as provider software
packs its archives.

Invariants:
- Memory stays flat: a unit is forgotten when it was read, and a unit has a limit.
- DTDs and entities are refused (defusedxml); so are documents that are nested deeper than any unit, a single text
  (or tag, or comment) without end, and a file that is not well-formed, at the place where it stops being so.
- What a response says about how many records there are is believed when fewer came: then it ends early.

It leaves out: what the elements of a unit mean (``linkeddata.abcd_unit``); ABCD 1.2 and 3.0; fetching from providers.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from linkeddata.abcd_unit import DataSetFacts, local_name, read_data_set, read_unit, strip_namespace, text_of
from linkeddata.archive_files import ArchiveFiles
from linkeddata.canon import digest_text
from linkeddata.countries import Countries
from linkeddata.dwca import Note, row_key
from linkeddata.dwca_meta import DwcaError
from linkeddata.source import SourceRow

NAMESPACES: Final = frozenset({"http://www.tdwg.org/schemas/abcd/2.06", "http://www.tdwg.org/schemas/abcd/2.1"})
PROTOCOL: Final = "http://www.biocase.org/schemas/protocol/"
ENDING: Final = ".xml"
MAX_DEPTH: Final = 40
"""response > content > DataSets > DataSet > Units > Unit, and a unit is some twelve levels deep."""
MAX_TEXT_BYTES: Final = 4_000_000
"""Longest text, tag or comment; the same as that of a row of an archive."""
MAX_PART_BYTES: Final = 16_000_000
"""Largest unit, and largest description of a data set; real ones have kilobytes."""
MAX_LOOKED_AT: Final = 20
"""Files of a folder that are opened to find out whether it holds ABCD."""
_HEAD_BYTES: Final = 1 << 16
_UNIT: Final = ("Units", "Unit")
_METADATA: Final = ("DataSet", "Metadata")


@dataclass(slots=True, kw_only=True)
class AbcdDocuments:
    """Opened documents of one source; read them once."""

    files: ArchiveFiles
    names: Sequence[str]
    """The documents among the files, in the order of reading."""
    title: str = ""
    """Of the first data set; known after reading."""
    ends_early: bool = False
    """Set while reading: a response says that there are more records than came."""
    rows_read: int = 0
    _countries: Countries = field(default_factory=Countries)

    def rows(self, source: str, *, key_columns: Sequence[str] = (), note: Note) -> Iterator[SourceRow]:
        """Every unit, once; a unit without an id is noted and known by its content.

        Raises:
            DwcaError: a document cannot be read; one clear line.
        """
        announced = not_images = unsure = 0
        for name in self.names:
            with self.files.open(name) as raw:
                document = _Document(raw, name)
                if len(self.names) > 1 and not document.is_abcd():
                    note("", "xml-not-abcd", f"{name} is XML, and no ABCD document; it was left out")
                    continue
                for element, data_set in document.units():
                    self.rows_read += 1
                    self.title = self.title or data_set.title
                    unit = read_unit(element, document.namespace, data_set, self._country_code)
                    not_images += unit.not_images
                    unsure += unit.is_unsure
                    fields = dict(unit.fields)
                    key = row_key(fields, None, key_columns)
                    if not key:
                        key = "row:" + digest_text(fields)[7:31]
                        note(key, "empty-id", f"unit {self.rows_read} of {name} has no id; any change makes it another")
                    yield SourceRow(source=source, key=key, fields=fields, media=unit.media)
                announced = max(announced, document.announced)
        if self.rows_read < announced:
            self.ends_early = True
            note("", "ends-early", f"{self.rows_read} units came of {announced} that there are: ask for all pages")
        if not_images:
            note("", "media-not-image", f"{not_images} multimedia objects are no images or have no FileURI")
        if unsure:
            note(
                "",
                "identification-not-preferred",
                f"{unsure} units have several identifications, none preferred",
            )

    def orphan_media(self) -> int:
        """Always none: media stand inside their unit."""
        return 0

    def _country_code(self, text: str) -> str:
        return self._countries.code_of(text) or text


def find_documents(files: ArchiveFiles) -> tuple[str, ...]:
    """The ABCD documents of a folder or zip, when that is what it holds; empty: it is something else."""
    names = sorted(name for name in files.names if name.lower().endswith(ENDING) and "/" not in name)
    if not names or "meta.xml" in files.names:
        return ()
    for name in names[:MAX_LOOKED_AT]:
        with files.open(name) as raw:
            if _Document(raw, name).is_abcd():
                return tuple(names)
    return ()


class _Watched:
    """A stream that is read as far as limits allow.

    The parser says nothing while a text, a tag or a comment goes on, so what was read since it last said something is
    the length of one.
    """

    def __init__(self, raw: IO[bytes], name: str) -> None:
        self._raw = raw
        self._name = name
        self.quiet = 0
        """Bytes since the last event."""
        self.held = 0
        """Bytes since something was forgotten."""

    def read(self, size: int = -1) -> bytes:
        if self.quiet > MAX_TEXT_BYTES:
            raise DwcaError(f"{self._name} has a text of more than {MAX_TEXT_BYTES} bytes: no label is so long")
        if self.held > MAX_PART_BYTES:
            raise DwcaError(f"{self._name} has a unit or a description of more than {MAX_PART_BYTES} bytes")
        data = self._raw.read(size if size > 0 else _HEAD_BYTES)
        self.quiet += len(data)
        self.held += len(data)
        return data


class _Document:
    """One document on its way through the parser."""

    def __init__(self, raw: IO[bytes], name: str) -> None:
        self._stream = _Watched(raw, name)
        self._name = name
        self._events = iterparse(self._stream, events=("start", "end"), forbid_dtd=True)
        self._root: Element | None = None
        self.namespace = ""
        self.announced = 0
        """Records that the provider says it has in all; 0 when it says nothing."""
        self._said = ""
        """Words of the response's diagnostics."""

    def is_abcd(self) -> bool:
        """Whether this looks like one, by its first element; what is refused does, so that it is said why."""
        try:
            root = self._first()
        except DwcaError as error:
            return isinstance(error.__cause__, DefusedXmlException)
        namespace = _namespace(root)
        return namespace in NAMESPACES or namespace.startswith(PROTOCOL)

    def units(self) -> Iterator[tuple[Element, DataSetFacts]]:
        """Every unit with what its data set says; names are local. Forgotten when the next one is asked for.

        Raises:
            DwcaError: see the module.
        """
        self._check_root(self._first())
        data_set, guid, seen = DataSetFacts(), "", 0
        path: list[Element] = []
        whole: Element | None = None  # a unit or a description, which is read when it is complete
        for event, element in itertools.chain([("start", self._first())], self._parsed()):
            if event == "start":
                if len(path) >= MAX_DEPTH:
                    raise DwcaError(f"{self._name} is nested deeper than {MAX_DEPTH} levels")
                if whole is None:
                    whole = self._begin(element, path[-1] if path else None)
                path.append(element)
                continue
            path.pop()
            if not path or (whole is not None and element is not whole):
                continue
            whole = None
            where = self._where(element, path[-1])
            if where == _UNIT:
                seen += 1
                strip_namespace(element, self.namespace)
                yield element, data_set
            elif where == _METADATA:
                strip_namespace(element, self.namespace)
                data_set = read_data_set(element, guid)
            elif where == ("DataSet", "DatasetGUID"):
                guid = text_of(element)
            elif where == ("DataSets", "DataSet"):
                data_set, guid = DataSetFacts(), ""
            elif local_name(element) == "diagnostic":
                self._said = self._said or text_of(element)
            path[-1].clear()
            self._stream.held = 0
        if not seen:
            said = f": {self._said[:200]}" if self._said else ""
            raise DwcaError(f"{self._name} holds no units{said}")

    def _first(self) -> Element:
        if self._root is None:
            event = next(self._parsed(), None)
            if event is None:
                raise DwcaError(f"{self._name} is empty")
            self._root = event[1]
        return self._root

    def _parsed(self) -> Iterator[tuple[str, Element]]:
        """What the parser says, with one clear line for everything that it cannot read."""
        try:
            for event, element in self._events:
                self._stream.quiet = 0
                yield event, element
        except DefusedXmlException as error:
            raise DwcaError(f"{self._name} has a DTD or entities, which are refused") from error
        except (ParseError, LookupError, UnicodeError) as error:
            raise DwcaError(f"{self._name} is cut off, or not well-formed XML: {error}") from error

    def _begin(self, element: Element, parent: Element | None) -> Element | None:
        """Notes what an opening element says; returns it when it is one that is read as a whole."""
        namespace = _namespace(element)
        if not self.namespace and namespace in NAMESPACES:
            self.namespace = namespace
        elif namespace.startswith(PROTOCOL) and local_name(element) == "content":
            said = element.get("totalSearchHits", "")
            self.announced = int(said) if said.isascii() and said.isdecimal() and len(said) < 12 else 0
        return element if parent is not None and self._where(element, parent) in (_UNIT, _METADATA) else None

    def _where(self, element: Element, parent: Element) -> tuple[str, str]:
        """Local names of an element of ABCD and what it stands in; empty for others."""
        if _namespace(element) != self.namespace:
            return "", ""
        return local_name(parent), local_name(element)

    def _check_root(self, root: Element) -> None:
        namespace = _namespace(root)
        if namespace in NAMESPACES and local_name(root) == "DataSets":
            return
        if namespace.startswith(PROTOCOL) and local_name(root) == "response":
            return
        if "tdwg.org/schemas/abcd/" in namespace:
            raise DwcaError(f"{self._name} is of {namespace}: export ABCD 2.06 or 2.1")
        raise DwcaError(
            f"{self._name} is XML, but neither ABCD 2.06 or 2.1 (DataSets) nor a BioCASe response;"
            f" it begins with {local_name(root)[:60]}"
        )


def _namespace(element: Element) -> str:
    return str(element.tag).rpartition("}")[0].removeprefix("{")
