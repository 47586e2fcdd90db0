"""Previews: small pictures for pages, made by a process behind walls, kept on disk, never authoritative."""

import asyncio
import contextlib
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from cas.ids import ContentId
from cas.store import BlobStore
from node.config import Settings

TIMEOUT_S: Final = 60.0
MAX_AT_A_TIME: Final = 2
"""Each takes a processor and up to a gigabyte; more visitors wait."""
_CODE_FOLDER: Final = str(Path(__file__).resolve().parents[2])


class PreviewFailed(Exception):
    """No preview can be made of this image; the message says why."""


class Previews:
    """The previews of one node."""

    def __init__(self, settings: Settings, blobs: BlobStore) -> None:
        self._folder = settings.derived_path / f"preview-{settings.images.preview_px}"
        self._settings = settings
        self._blobs = blobs
        self._slots = asyncio.Semaphore(MAX_AT_A_TIME)

    async def get(self, cid: ContentId) -> bytes:
        """The preview as JPEG bytes.

        Raises:
            PreviewFailed: the image cannot be decoded within its limits.
            CasError: the bytes are not here.
        """
        path = self._folder / cid.hex[:2] / f"{cid.hex}.jpg"
        with contextlib.suppress(FileNotFoundError):
            return await asyncio.to_thread(path.read_bytes)
        async with self._slots:
            with contextlib.suppress(FileNotFoundError):
                return await asyncio.to_thread(path.read_bytes)
            data = await self._make(cid)
            with contextlib.suppress(OSError):  # a full disk costs the cache, not the picture
                await asyncio.to_thread(_keep, path, data)
            return data

    async def _make(self, cid: ContentId) -> bytes:
        with await asyncio.to_thread(self._blobs.open_blob, cid) as blob:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "runners.preview", str(blob.fd), str(self._settings.images.preview_px),
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
