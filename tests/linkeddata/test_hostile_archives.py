"""Archives that are large where nobody expects it: a million members, a field without end; and signs that nobody sees."""

import contextlib
import struct
import zipfile
from pathlib import Path

import archives
import pytest
from archives import CSV, DWC, TABS

from linkeddata import archive_files
from linkeddata.archive_files import ZipFiles
from linkeddata.dwca import open_archive
from linkeddata.dwca_meta import Column, DwcaError, Table
from linkeddata.dwca_text import TableReader

OCCURRENCE = DWC + "Occurrence"
TERMS = [DWC + "occurrenceID", DWC + "country", DWC + "locality"]


def zip_of(path: Path, count: int) -> Path:
    """A zip of so many empty members, written without the library, which would take a minute."""
    local, central = struct.Struct("<4sHHHHHIIIHH"), struct.Struct("<4sHHHHHHIIIHHHHHII")
    body, directory = bytearray(), bytearray()
    for number in range(count):
        name = b"%d.jpg" % number
        directory += central.pack(b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, len(body)) + name
        body += local.pack(b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0) + name
    start, size = len(body), len(directory)
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, size, start, 0)
    path.write_bytes(body + directory + end64 + locator + end)
    return path


def test_a_million_tiny_members_are_refused_before_they_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(ZipFiles(zip_of(tmp_path / "few.zip", 500))) as few:
        assert len(few.names) == 500
    path = zip_of(tmp_path / "many.zip", 1_000_000)

    def never(*args: object) -> None:
        raise AssertionError("the members were listed")

    monkeypatch.setattr(zipfile.ZipInfo, "__init__", never)
    with pytest.raises(DwcaError, match=r"many.zip has too many members: unpack it into a folder"):
        ZipFiles(path)


def test_more_members_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_files, "MAX_MEMBERS", 400)
    with pytest.raises(DwcaError, match="more than 400 members: unpack"):
        ZipFiles(zip_of(tmp_path / "few.zip", 500))


class _Endless:
    """A table whose one value is 200 MB long, without the file."""

    def __init__(self, head: bytes, filler: bytes) -> None:
        self._head = head
        self._filler = filler
        self.given = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._head or ((self._filler * size)[:size] if self.given < 200_000_000 else b"")
        self._head = b""
        self.given += len(data)
        return data


@pytest.mark.parametrize(
    ("delimiter", "quote", "head", "filler"),
    [("\t", "", b"1\ta\t", b"x"), (",", '"', b'1,a,"', b"x"), (",", '"', b"1,a,", b"x"), (",", '"', b'1,a,"', b"x\n")],
)
def test_a_field_of_200_mb_is_refused_after_its_beginning(
    delimiter: str, quote: str, head: bytes, filler: bytes
) -> None:
    table = Table(
        row_type=OCCURRENCE, location="o.txt", encoding="UTF-8", delimiter=delimiter, quote=quote, header_lines=0,
        id_index=0, columns=tuple(Column(index=index, term=term) for index, term in enumerate(TERMS)),
    )  # fmt: skip
    stream = _Endless(head, filler)
    with pytest.raises(DwcaError, match=r"4000000 characters|field limit|larger than"):
        list(TableReader(table).read(stream))  # type: ignore[arg-type]
    assert stream.given < 40_000_000


@pytest.mark.parametrize("form", [TABS, CSV])
def test_null_and_other_signs_that_nobody_sees_break_no_row(tmp_path: Path, form: str) -> None:
    sign = b"," if form == CSV else b"\t"
    row = sign.join((b"1", b"a\0b\x1b[31m", "x\u202ey\u200fz\ufeff".encode()))
    path = archives.folder(
        tmp_path / "a", archives.table("core", OCCURRENCE, "o.txt", TERMS, form=form), {"o.txt": row + b"\n2\n"}
    )
    with open_archive(path) as opened:
        rows = list(opened.rows("s", note=lambda *note: None))
    assert [item.key for item in rows] == ["1", "2"]
    assert rows[0].fields["dwc:locality"] == "x\u202ey\u200fz\ufeff"
    assert rows[0].fields["dwc:country"].replace("\0", "") == "ab\x1b[31m"
    assert rows[0].digest
