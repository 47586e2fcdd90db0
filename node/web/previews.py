"""Previews: small pictures for pages, made by a process behind walls, kept on disk, never authoritative."""

import asyncio
import contextlib
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from cas.errors import BlobWithdrawn
from cas.ids import ContentId
from cas.pace import TookOf
from cas.store import BlobStore
from node.access import Viewer
from node.config import Settings

TIMEOUT_S: Final = 60.0
MAX_AT_A_TIME: Final = 2
"""Each takes a processor and up to a gigabyte; more visitors wait."""
_CODE_FOLDER: Final = str(Path(__file__).resolve().parents[2])


class PreviewFailed(Exception):
    """No preview can be made of this image; the message says why."""


class Previews:
    """The previews of one node."""

    def __init__(self, settings: Settings, blobs: BlobStore, *, read: TookOf = lambda _volume, _count: None) -> None:
        self._settings = settings
        self._blobs = blobs
        self._read = read
        self._slots = asyncio.Semaphore(MAX_AT_A_TIME)

    def size_for(self, viewer: Viewer) -> int:
        """The longest side of what this viewer gets."""
        images = self._settings.images
        if images.anonymous_max_px and not viewer.is_staff and viewer.kid is None:
            return min(images.preview_px, images.anonymous_max_px)
        return images.preview_px

    async def get(self, cid: ContentId, longest_px: int) -> bytes:
        """The preview as JPEG bytes, at most so many pixels long (``size_for``).

        Raises:
            PreviewFailed: the image cannot be decoded within its limits.
            CasError: the bytes are not here, or were withdrawn.
        """
        path = self._settings.derived_path / f"preview-{longest_px}" / cid.hex[:2] / f"{cid.hex}.jpg"
        with contextlib.suppress(FileNotFoundError):
            return await asyncio.to_thread(self._kept, cid, path)
        async with self._slots:
            with contextlib.suppress(FileNotFoundError):
                return await asyncio.to_thread(self._kept, cid, path)
            data = await self._make(cid, longest_px)
            with contextlib.suppress(OSError):  # a full disk costs the cache, not the picture
                await asyncio.to_thread(_keep, path, data)
            return await asyncio.to_thread(self._unless_withdrawn, cid, path, data)

    def _kept(self, cid: ContentId, path: Path) -> bytes:
        return self._unless_withdrawn(cid, path, path.read_bytes())

    def _unless_withdrawn(self, cid: ContentId, path: Path, data: bytes) -> bytes:
        """Asked after the file is there: whoever withdraws sets the mark first and then looks for files."""
        if self._blobs.is_withdrawn(cid):
            path.unlink(missing_ok=True)
            raise BlobWithdrawn(cid)
        return data

    async def _make(self, cid: ContentId, longest_px: int) -> bytes:
        with await asyncio.to_thread(self._blobs.open_blob, cid) as blob:
            self._read(blob.place.volume, blob.size)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "runners.preview", str(blob.fd), str(longest_px),
                str(self._settings.images.max_pixels), pass_fds=(blob.fd,), stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd="/",
                env={"PYTHONPATH": _CODE_FOLDER, "PATH": os.environ.get("PATH", "")},
            )  # fmt: skip
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    out, reason = await process.communicate()
            except TimeoutError as error:
                raise PreviewFailed("the picture takes too long to decode") from error
            finally:
                if process.returncode is None:  # too slow, or the visitor went away
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.communicate()
            await asyncio.to_thread(blob.check_unchanged)  # a preview of other bytes must not be kept under this id
        if process.returncode != 0 or not out:
            raise PreviewFailed(reason.decode("utf-8", "replace")[:300] or "the decoder ended")
        return out


def _keep(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    temporary.write_bytes(data)
    temporary.replace(path)
