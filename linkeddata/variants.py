"""Which files of a specimen are variants of one exposure: the archival master, the access copy, smaller copies.

Two ways, and no third:

**Stated** by the institution, in the media rows of the same specimen:
- the same ``vasculum:exposure`` (a column of its own; ``vasculum:archivalMaster`` of a table writes it);
- Audiovisual Core rows with the same identifier (``dcterms:identifier`` beside ``ac:accessURI``, or
  ``ac:providerManagedID``) that each say which variant they are (``ac:variantLiteral``, ``ac:variant``), each another;
- ``ac:hasServiceAccessPoint`` of a row names the address of another.

**Found** by names, of files that nothing is stated about. All of it must hold: the same name but for the ending, in the
same folder but for folders that are called after a size or a format (``tiff/``, ``thumbs/``, ``1024px/``); the same
specimens; another format or another size in pixels; the same proportions to a pixel; the same licence; and nothing that
says otherwise: two titles, two identifiers, two orientations or parts of the subject.

Invariants:
- Pure. Two exposures are never one: what is doubtful stays apart, at the price that a copy counts as an image.
- All files of an exposure show the same field of view: whatever its pixels prove otherwise is left out, stated or not.
- The order of the rows decides nothing.

It leaves out: comparing what is on the pictures; who keeps it (``node.services.exposures``).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from linkeddata.dwca_media import EXPOSURE, media_key
from linkeddata.licences import normalise_licence
from linkeddata.source import SourceMedia

Policy = Literal["found", "stated", "none"]
"""What counts, as ``node.toml`` says."""
Role = Literal["archival master", "access copy"]
_IDENTIFIERS: Final = ("dcterms:identifier", "ac:providerManagedID")
_VARIANTS: Final = ("ac:variantLiteral", "ac:variant")
_SAYS_OTHERWISE: Final = (
    *_IDENTIFIERS, "ac:subjectOrientation", "ac:subjectOrientationLiteral", "ac:subjectPart", "ac:subjectPartLiteral",
)  # fmt: skip
_SIZE_FOLDER: Final = re.compile(
    r"tiffs?|tifs?|jpe?gs?|pngs?|webps?|masters?|archival|originals?|access|web|full|fullsize|large|medium|small"
    r"|thumbs?|thumbnails?|previews?|hi-?res|high-?res|lo-?res|low-?res|derivatives?|\d{2,5}px|\d{2,5}x\d{2,5}",
    re.IGNORECASE,
)
_FORMATS: Final = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".tif": "image/tiff", ".tiff": "image/tiff", ".png": "image/png",
    ".webp": "image/webp",
}  # fmt: skip
_PREFERRED: Final = ("image/jpeg", "image/webp", "image/png", "image/tiff")
"""Of files with the same pixels the one that opens soonest is processed."""
_LOSSLESS: Final = ("image/tiff", "image/png")
_BEST: Final = frozenset({"best quality", "bestquality", "offline", "master", "archival master", "archive"})
_ADDRESSES: Final = re.compile(r"\s*\|\s*|[\s;,]+(?=https?://)")


@dataclass(frozen=True, slots=True)
class Group:
    """Media of one specimen that may be variants of one exposure, by key, in the order of their keys."""

    keys: tuple[str, ...]
    is_stated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a file."""

    format: str = ""
    """As read from its header; empty when it was not read."""
    width: int | None = None
    """Pixels of the upright image."""
    height: int | None = None
    size_bytes: int | None = None
    stated: str = ""
    """What the institution calls it."""

    @property
    def pixels(self) -> int:
        """How many; 0 when it was not read."""
        return (self.width or 0) * (self.height or 0)


def group_media(media: Sequence[SourceMedia], policy: Policy) -> list[Group]:
    """What the media of a specimen say, together and by their names; groups of two and more.

    Pixels are not asked yet (``confirm``), nor other specimens that show the same files.
    """
    if policy == "none" or len(media) < 2:
        return []
    stated = _stated(media)
    taken = {key for keys in stated for key in keys}
    found = _found([item for item in media if item.key not in taken]) if policy == "found" else []
    return [Group(keys, is_stated=True) for keys in stated] + [Group(keys, is_stated=False) for keys in found]


def confirm(group: Group, seen: Mapping[str, Seen]) -> tuple[str, ...]:
    """The keys of a group that stay together when their pixels are known; fewer than two: none do.

    Args:
        group: what was stated or found.
        seen: by key.
    """
    known = [key for key in group.keys if seen[key].pixels]
    if not known:
        return group.keys if group.is_stated else ()
    largest = max(known, key=lambda key: (seen[key].pixels, key))
    kept = [key for key in known if is_same_shape(seen[key], seen[largest])]
    if not group.is_stated:
        kinds = {(seen[key].format, seen[key].width, seen[key].height) for key in kept}
        return tuple(kept) if len(kinds) == len(kept) > 1 else ()
    return tuple(key for key in group.keys if key in kept or not seen[key].pixels)


def is_same_shape(one: Seen, other: Seen) -> bool:
    """Whether two pictures have the same proportions, as exactly as the smaller one can tell: to a pixel."""
    small, large = sorted((one, other), key=lambda item: item.pixels)
    assert small.width and small.height and large.width and large.height  # both were read
    return abs(small.height * large.width - small.width * large.height) <= max(large.width, large.height)


def processed(seen: Mapping[str, Seen], *, before: str | None = None) -> str:
    """The key of the processing variant: the one with the most pixels.

    Of several with as many, the one that was it before; else a JPEG before WebP, PNG and TIFF, because it opens soonest
    and has the same pixels. While none was read, an access copy before the master: fetching it moves less.

    Args:
        seen: by key, of one exposure.
        before: key of the processing variant until now.
    """
    most = max(item.pixels for item in seen.values())

    def order(key: str) -> tuple[bool, bool, int, str]:
        form = seen[key].format
        rank = _PREFERRED.index(form) if form in _PREFERRED else len(_PREFERRED)
        return key != before, not most and _is_called_best(seen[key]), rank, key

    return min((key for key in seen if seen[key].pixels == most), key=order)


def roles(seen: Mapping[str, Seen]) -> dict[str, Role]:
    """Key -> role: one archival master, the others access copies.

    The one that the institution calls so; else the TIFF if there is one; else the largest, of equals the lossless one.
    """

    def order(key: str) -> tuple[bool, bool, int, bool, int, str]:
        item = seen[key]
        return (
            _is_called_best(item), item.format == "image/tiff", item.pixels, item.format in _LOSSLESS,
            item.size_bytes or 0, key,
        )  # fmt: skip

    master = max(seen, key=order)
    return {key: "archival master" if key == master else "access copy" for key in seen}


def called(medium: SourceMedia) -> str:
    """What the institution calls a variant, in words; empty when it does not say."""
    text = next((medium.fields[term].strip() for term in _VARIANTS if medium.fields.get(term)), "")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text.rsplit("/", 1)[-1].removeprefix("ac:").removeprefix("acvariant:"))


# ---------------------------------------------------------------------- stated
def _stated(media: Sequence[SourceMedia]) -> list[tuple[str, ...]]:
    together = _Together(item.key for item in media)
    by_exposure: dict[str, list[SourceMedia]] = {}
    by_identifier: dict[tuple[str, str], list[SourceMedia]] = {}
    for item in media:
        if item.fields.get(EXPOSURE):
            by_exposure.setdefault(item.fields[EXPOSURE], []).append(item)
        for term in _IDENTIFIERS:
            if item.fields.get(term) and called(item):
                by_identifier.setdefault((term, item.fields[term]), []).append(item)
        points = item.fields.get("ac:hasServiceAccessPoint", "")
        if points:
            together.join(item.key, *map(media_key, _ADDRESSES.split(points)))
    for items in by_exposure.values():
        together.join(*(item.key for item in items))
    for items in by_identifier.values():
        if len({called(item).lower() for item in items}) == len(items):
            together.join(*(item.key for item in items))
    return together.groups()


class _Together:
    """Keys that belong together, whichever were joined first."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._head = {key: key for key in keys}

    def join(self, *keys: str) -> None:
        """These are one; keys that nobody knows are left out."""
        heads = sorted({self._find(key) for key in keys if key in self._head})
        for head in heads[1:]:
            self._head[head] = heads[0]

    def groups(self) -> list[tuple[str, ...]]:
        """Those of two and more."""
        found: dict[str, list[str]] = {}
        for key in self._head:
            found.setdefault(self._find(key), []).append(key)
        return sorted(tuple(sorted(keys)) for keys in found.values() if len(keys) > 1)

    def _find(self, key: str) -> str:
        while self._head[key] != key:
            self._head[key] = self._head[self._head[key]]  # paths stay short
            key = self._head[key]
        return key


# ---------------------------------------------------------------------- found
@dataclass(frozen=True, slots=True)
class _Name:
    """A locator, taken apart."""

    place: tuple[str, ...]
    """Folders, without those that are called after a size or a format."""
    stem: str
    folders: tuple[str, ...]
    format: str


def _found(media: Sequence[SourceMedia]) -> list[tuple[str, ...]]:
    groups: dict[tuple[tuple[str, ...], str], list[tuple[_Name, SourceMedia]]] = {}
    for item in media:
        name = _name(item.locator)
        if name is not None:
            groups.setdefault((name.place, name.stem), []).append((name, item))
    return sorted(tuple(sorted(item.key for _, item in members)) for members in groups.values() if _may_be_one(members))


def _may_be_one(members: Sequence[tuple[_Name, SourceMedia]]) -> bool:
    if len(members) < 2 or len({(name.folders, name.format) for name, _ in members}) < len(members):
        return False
    media = [item for _, item in members]
    licences = [normalise_licence(item.licence) for item in media]
    return (
        len({(licence.uri, licence.access) for licence in licences}) == 1
        and all(_agree(item.fields.get(term, "") for item in media) for term in _SAYS_OTHERWISE)
        and _agree(item.title for item in media)
    )


def _agree(values: Iterable[str]) -> bool:
    return len({value.strip() for value in values if value.strip()}) < 2


def _name(locator: str) -> _Name | None:
    """None for what has no ending of an image, or more than a path (``?size=2``)."""
    text = locator.strip()
    if "://" in text:
        try:
            parts = urlsplit(text)
        except ValueError:
            return None
        if parts.query or parts.fragment:
            return None
        text = f"{parts.netloc.lower()}{parts.path}"
    path = PurePosixPath(unquote(text).replace("\\", "/"))
    form = _FORMATS.get(path.suffix.lower())
    if form is None or not path.stem:
        return None
    folders = path.parent.parts
    place = tuple(folder for folder in folders if not _SIZE_FOLDER.fullmatch(folder))
    return _Name(place, path.stem, folders, form)


def _is_called_best(item: Seen) -> bool:
    return item.stated.strip().lower() in _BEST
