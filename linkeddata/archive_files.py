"""The files of an archive, in a folder or a zip, with the limits that hostile archives meet.

Invariants:
- Members are read by name and streamed; nothing is ever extracted to a path the archive chose.
- Refused: names that leave the archive, the same name twice, encryption, too many members, a member (or all of them
  together) that unpacks at a ratio no table reaches, links that lead out of the folder. What a member says about its
  size is not believed: the library stops there, and the checksum then fails.
- A file whose name is not text cannot be named in a record; it is listed in ``unnamable`` and otherwise left alone.
"""

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final, Protocol

from linkeddata.dwca_meta import DwcaError

MAX_MEMBERS: Final = 200_000
"""Of a zip; a folder may hold more, since its files need not be listed in memory with all that a zip says of each."""
MAX_DIRECTORY_BYTES: Final = 24 * 1_048_576
"""Of the list of members, which is read at once and takes some ten times as much memory."""
MAX_RATIO: Final = 200
"""Tables of real archives reach 22 (RBINS); a zip bomb reaches 1,000."""
RATIO_FREE_BYTES: Final = 20_000_000
"""Below this size a high ratio harms nobody (a small file of blanks)."""
MAX_MEMBER_BYTES: Final = 1 << 40
DAMAGE: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
"""What reading a damaged zip member raises (the last: a compression that nobody writes)."""
_JUNK: Final = ("__MACOSX/", ".DS_Store", "._", "Thumbs.db")


class ArchiveFiles(Protocol):
    """Files by name relative to the archive's root."""

    @property
    def names(self) -> frozenset[str]:
        """Every file that belongs to the archive."""
        ...

    @property
    def unnamable(self) -> int:
        """Files whose names are not text."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A stream of one file.

        Raises:
            DwcaError: there is no such file, or it must not be read.
        """
        ...

    def size_of(self, name: str) -> int:
        """Bytes of a file, as its folder or zip says; 0 when it is gone."""
        ...

    def close(self) -> None:
        """Gives everything back."""
        ...


@contextmanager
def open_files(path: Path) -> Iterator[ArchiveFiles]:
    """The files of a folder, or of a zip file, with its one root folder (if it has one) taken off.

    Raises:
        DwcaError: it is neither, or hostile.
    """
    files: ArchiveFiles
    if path.is_dir():
        files = FolderFiles(path)
    elif path.is_file():
        files = ZipFiles(path)
    else:
        raise DwcaError(f"{path} does not exist")
    try:
        yield files
    except DAMAGE as error:
        raise DwcaError(f"{path.name} is damaged: {error}") from error
    finally:
        files.close()


class FolderFiles:
    """An unpacked archive."""

    def __init__(self, root: Path) -> None:
        self.root = _step_into(root)
        names = [
            item.relative_to(self.root).as_posix()
            for item in self.root.rglob("*")
            if item.is_file() and not _is_junk(item.relative_to(self.root).as_posix())
        ]
        self._names = frozenset(name for name in names if _is_text(name))
        self.unnamable = len(names) - len(self._names)

    @property
    def names(self) -> frozenset[str]:
        """See ``ArchiveFiles``."""
        return self._names

    def open(self, name: str) -> IO[bytes]:
        """See ``ArchiveFiles``."""
        path = self.root / check_name(name)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DwcaError(f"{name} is a link that leads out of the archive")
        try:
            return path.open("rb")
        except OSError as error:
            raise DwcaError(f"{name} cannot be read: {error.strerror}") from error

    def size_of(self, name: str) -> int:
        """See ``ArchiveFiles``."""
        try:
            return (self.root / name).stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        """See ``ArchiveFiles``."""


class ZipFiles:
    """A zipped archive."""

    unnamable = 0

    def __init__(self, path: Path) -> None:
        try:
            self._stream = _BoundedReads(io.FileIO(path))
        except OSError as error:
            raise DwcaError(f"{path.name} cannot be read: {error.strerror}") from error
        try:
            self._zip = zipfile.ZipFile(self._stream)
            self._members = _members(self._zip.infolist(), path)
        except _TooMuch as error:
            self._stream.close()
            raise DwcaError(f"{path.name} has too many members: unpack it into a folder") from error
        except (*DAMAGE, OSError, ValueError) as error:
            self._stream.close()
            raise DwcaError(f"{path.name} is not a zip file, or it ends early") from error
        except DwcaError:
            self._stream.close()
            raise

    @property
    def names(self) -> frozenset[str]:
        """See ``ArchiveFiles``."""
        return frozenset(self._members)

    def open(self, name: str) -> IO[bytes]:
        """See ``ArchiveFiles``."""
        info = self._members.get(check_name(name))
        if info is None:
            raise DwcaError(f"{name} is not in the archive")
        try:
            return self._zip.open(info)
        except (*DAMAGE, RuntimeError, ValueError, OSError) as error:
            raise DwcaError(f"{name} cannot be read: {error}") from error

    def size_of(self, name: str) -> int:
        """See ``ArchiveFiles``."""
        info = self._members.get(name)
        return info.file_size if info is not None else 0

    def close(self) -> None:
        """See ``ArchiveFiles``."""
        self._zip.close()
        self._stream.close()


class _TooMuch(Exception):
    """More was asked for in one read than the list of members may be long."""


class _BoundedReads(io.BufferedReader):
    """The file of a zip. The library reads the list of members in one piece: a hostile one would fill the memory."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise _TooMuch
        return super().read(-1 if size is None else size)


def check_name(name: str) -> str:
    """A member name that stays inside.

    Raises:
        DwcaError: it does not.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise DwcaError(f"the name {name[:80]!r} leaves the archive")
    if ":" in path.parts[0] or not _is_text(name):
        raise DwcaError(f"the name {name[:80]!r} leaves the archive")
    return name


def _members(infos: list[zipfile.ZipInfo], path: Path) -> dict[str, zipfile.ZipInfo]:
    infos = [info for info in infos if not info.filename.endswith("/") and not _is_junk(info.filename)]
    if len(infos) > MAX_MEMBERS:
        raise DwcaError(f"{path.name} has more than {MAX_MEMBERS} members: unpack it into a folder")
    for info in infos:
        _check_member(info)
    total = sum(info.file_size for info in infos)
    if total > RATIO_FREE_BYTES and total > MAX_RATIO * max(1, path.stat().st_size):
        raise DwcaError(f"{path.name} unpacks to {total} bytes in all: a zip bomb")
    if len({info.filename for info in infos}) != len(infos):
        raise DwcaError(f"{path.name} holds the same name twice")
    prefix = _common_root([info.filename for info in infos])
    return {info.filename.removeprefix(prefix): info for info in infos}


def _check_member(info: zipfile.ZipInfo) -> None:
    check_name(info.filename)
    if info.flag_bits & 0x1:
        raise DwcaError(f"{info.filename} is encrypted")
    if info.file_size > MAX_MEMBER_BYTES:
        raise DwcaError(f"{info.filename} claims {info.file_size} bytes")
    if info.file_size > RATIO_FREE_BYTES and info.file_size > MAX_RATIO * max(1, info.compress_size):
        raise DwcaError(f"{info.filename} unpacks to {info.file_size} bytes from {info.compress_size}: a zip bomb")
    if info.external_attr >> 16 & 0o170000 == 0o120000:
        raise DwcaError(f"{info.filename} is a link")


def _is_text(name: str) -> bool:
    """Names in an old encoding reach us as lone surrogates, which neither a database nor a document can hold."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _is_junk(name: str) -> bool:
    return any(part.startswith(_JUNK[1:]) for part in PurePosixPath(name).parts) or name.startswith(_JUNK[0])


def _common_root(names: list[str]) -> str:
    if any("/" not in name for name in names) or not names:
        return ""
    roots = {name.split("/", 1)[0] for name in names}
    return roots.pop() + "/" if len(roots) == 1 else ""


def _step_into(root: Path) -> Path:
    if (root / "meta.xml").exists():
        return root
    inside = [item for item in root.iterdir() if not _is_junk(item.name)]
    if len(inside) == 1 and inside[0].is_dir() and (inside[0] / "meta.xml").exists():
        return inside[0]
    return root
