"""Looks for image bytes in captured traffic: the count that the demo prints, made outside the nodes.

Every file, and a sample of every file's decoded pixel rows, is cut into windows of 32 bytes, 64 bytes apart; a window
with little variety (blank paper, zeros) is left out. Traffic is searched at every offset, as it is, and again after
undoing base64, hexadecimal, lists of small numbers and gzip or deflate.

A run of 95 bytes of a file always holds a whole window; shorter snippets can pass, and so can bytes that were
encrypted or rearranged first. A hit counts for the 64 bytes it stands for.
Windows that are plain text are left out too: the addresses in a picture's metadata stand in our records as well.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps

STRIDE: Final = 64
WINDOW: Final = 32
MIN_VARIETY: Final = 12
"""Different byte values a window must have; text of ours has more than that only by chance, blank paper never."""
ROW_STEP: Final = 16
DEPTH: Final = 2
"""Encodings inside each other that are undone: an envelope, and what a leaking pipeline might do inside it."""
MAX_INFLATED: Final = 256 * 1024 * 1024
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){36,}")
_NUMBERS = re.compile(rb"(?:\d{1,3}\s*,\s*){40,}\d{1,3}")
_GZIP: Final = b"\x1f\x8b\x08"

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class LeakFinder:
    """Windows of the images to look for."""

    def __init__(self, windows: Bytes) -> None:
        keys = windows[:, :8].copy().view("<u8").ravel()
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._windows = windows[order]

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> "LeakFinder":
        """Windows of these files and of their decoded pixels."""
        parts: list[Bytes] = []
        for path in paths:
            data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
            parts.append(_windows(data))
            parts.extend(_windows(row) for row in _pixel_rows(path))
        found = np.concatenate(parts) if parts else np.empty((0, WINDOW), dtype=np.uint8)
        return cls(np.unique(found, axis=0))

    @property
    def window_count(self) -> int:
        """How many windows are looked for."""
        return len(self._keys)

    def count(self, traffic: bytes) -> int:
        """Image bytes in some traffic; 0 when there are none."""
        return sum(self._covered(view) for view in _views(traffic, depth=DEPTH))

    def _covered(self, data: bytes) -> int:
        """Bytes of ``data`` that lie in a stride that begins with a window of an image."""
        covered, end = 0, 0
        for offset in sorted(set(self._hits(data))):
            start = max(offset, end)
            end = max(end, min(offset + STRIDE, len(data)))
            covered += max(0, end - start)
        return covered

    def _hits(self, data: bytes) -> Iterator[int]:
        if len(data) < WINDOW or not len(self._keys):
            return
        array = np.frombuffer(data, dtype=np.uint8)
        for start in range(8):
            usable = (len(array) - start) // 8 * 8
            if usable < 8:
                continue
            keys = array[start : start + usable].view("<u8")
            places = np.searchsorted(self._keys, keys)
            places[places == len(self._keys)] = 0
            for index in np.nonzero(self._keys[places] == keys)[0]:
                offset = start + 8 * int(index)
                candidate = int(places[index])
                while candidate < len(self._keys) and self._keys[candidate] == keys[index]:
                    piece = array[offset : offset + WINDOW]
                    if len(piece) == WINDOW and bool((piece == self._windows[candidate]).all()):
                        yield offset
                        break
                    candidate += 1


def _windows(data: Bytes) -> Bytes:
    count = (len(data) - WINDOW) // STRIDE + 1
    if count < 1:
        return np.empty((0, WINDOW), dtype=np.uint8)
    index = np.arange(count)[:, None] * STRIDE + np.arange(WINDOW)[None, :]
    cut = data[index]
    ordered = np.sort(cut, axis=1)
    variety = 1 + (np.diff(ordered, axis=1) != 0).sum(axis=1)
    is_text = ((cut >= 32) & (cut < 127)).all(axis=1)
    kept: Bytes = cut[(variety >= MIN_VARIETY) & ~is_text]
    return kept


def _pixel_rows(path: Path) -> Iterator[Bytes]:
    try:
        with Image.open(path, formats=("JPEG", "PNG", "TIFF", "WEBP")) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            pixels = np.asarray(upright)
    except (OSError, ValueError, SyntaxError):
        return  # what cannot be decoded has no pixels that could leave
    for row in range(0, len(pixels), ROW_STEP):
        yield pixels[row].reshape(-1)


def _views(traffic: bytes, *, depth: int) -> Iterator[bytes]:
    """The traffic as it is, and with encodings undone; results travel in base64 envelopes, hence more than once."""
    yield traffic
    if depth:
        for inner in _decoded(traffic):
            if len(inner) >= WINDOW:
                yield from _views(inner, depth=depth - 1)


def _decoded(traffic: bytes) -> Iterator[bytes]:
    for found in _BASE64.finditer(traffic):
        text = found[0].replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):
            piece = text[start : start + (len(text) - start) // 4 * 4]
            try:
                yield base64.b64decode(piece)
            except (binascii.Error, ValueError):
                continue
    for found in _HEX.finditer(traffic):
        yield bytes.fromhex(found[0].decode("ascii"))
    for found in _NUMBERS.finditer(traffic):
        values = [int(number) for number in found[0].split(b",")]
        yield bytes(value for value in values if value < 256)
    at = traffic.find(_GZIP)
    while at >= 0:
        yield _inflate(traffic[at:], 31)
        at = traffic.find(_GZIP, at + 1)
    for header in (b"\x78\x9c", b"\x78\x01", b"\x78\xda"):
        at = traffic.find(header)
        while at >= 0:
            inflated = _inflate(traffic[at:], 15)
            if len(inflated) > 64:
                yield inflated
            at = traffic.find(header, at + 1)


def _inflate(data: bytes, window_bits: int) -> bytes:
    try:
        return zlib.decompressobj(window_bits).decompress(data, MAX_INFLATED)
    except zlib.error:
        return b""
