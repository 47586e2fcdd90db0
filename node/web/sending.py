"""Sending a long answer: by the kernel from the page cache (``sendfile``), or block by block through a thread.

Invariants:
- The loop never waits for a disk that may be slow: it lets the kernel send only what a probe has found in memory, on
  filesystems that can tell (``RWF_NOWAIT``: local ones). The rest is read by a thread. A page that is dropped between
  the probe and the sending costs one read of a local disk.
- The last block is read, the file is looked at again, and only then the block is sent: of a file that was changed
  meanwhile nobody gets what looks like the whole.

It leaves out: who may have the bytes (``node.web.blobs``).
"""

import asyncio
import logging
import os
from typing import Any, Final

from aiohttp import web

from cas.errors import BlobChanged
from cas.reader import BlobReader
from node.web.limits import BESIDE

BLOCK_BYTES: Final = 1_048_576
LAST_BYTES: Final = 65_536
"""Always read and never sent by the kernel: it holds the answer back until the file was looked at again."""
_PROBE_BYTES: Final = 131_072
"""One byte in so many is looked for in memory: the kernel reads ahead and drops in runs of about this size."""
log = logging.getLogger("vasculum.bytes")


class _File:
    """A descriptor as ``loop.sendfile`` wants it; closed by whoever opened it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor


async def send_blob(
    request: web.Request, response: web.StreamResponse, blob: BlobReader, offset: int, count: int
) -> None:
    """Sends bytes of an opened blob as the body of a prepared response; ends the connection when they changed.

    Raises:
        ConnectionError: the visitor went away.
    """
    loop, left = asyncio.get_running_loop(), count
    is_by_kernel = True
    while left:
        is_first, is_last = left == count, left <= LAST_BYTES
        length = min(left, LAST_BYTES if is_first or is_last else min(BLOCK_BYTES, left - LAST_BYTES))
        # The first block goes the other way too: aiohttp keeps the head back until it is written.
        if not is_first and not is_last and is_by_kernel and _is_in_memory(blob.fd, offset, length):
            sent = await _send_by_kernel(request, blob, offset, length)
            if sent is None:
                is_by_kernel = False
                continue
        else:
            block = await loop.run_in_executor(None, read_block, blob, offset, length, left)
            sent = 0 if block is None else length
            if block is not None:
                await response.write(block)
        if sent < length:
            log.warning("%s: the file changed while it was sent", blob.id)
            if request.transport is not None:
                request.transport.abort()  # nobody may take this for the whole
            return
        offset += length
        left -= length
    await response.write_eof()


async def _send_by_kernel(request: web.Request, blob: BlobReader, offset: int, length: int) -> int | None:
    """How many bytes the kernel has sent; None when this connection has no such way."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the visitor went away")
    file: Any = _File(blob.fd)
    try:
        sent = await asyncio.get_running_loop().sendfile(transport, file, offset, length, fallback=False)
    except (asyncio.SendfileNotAvailableError, NotImplementedError):
        return None
    request[BESIDE] = request.get(BESIDE, 0) + sent
    return sent


def _is_in_memory(descriptor: int, offset: int, length: int) -> bool:
    one = bytearray(1)
    try:
        return all(
            os.preadv(descriptor, [one], at, os.RWF_NOWAIT) == 1
            for at in (*range(offset, offset + length, _PROBE_BYTES), offset + length - 1)
        )
    except OSError:
        return False


def read_block(blob: BlobReader, offset: int, length: int, left: int) -> bytes | None:
    """The next block, blocking; None when the file is not what it was, which the last block of an answer asks."""
    block = blob.pread(offset, length)
    if len(block) < length:
        return None
    if length == left:
        try:
            blob.check_unchanged()
        except BlobChanged:
            return None
    return block
