"""Pictures for visitors: the pyramid of an image made at first need, regions cut out of it, one small picture kept.

Invariants:
- This process never decodes a picture: files of strangers go to processes of their own, pyramids to the cutters.
- One pyramid is made once, however many ask for it; so many at a time, so many waiting, and the rest is told to come
  again (``PicturesBusy``).
- A picture that cannot be used is remembered for a while with its reason, so that asking again costs nothing.
- A damaged pyramid is made anew, once per request.

It leaves out: who may see what (``node.access``), HTTP.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from cas.errors import BlobWithdrawn, CasError
from cas.ids import ContentId
from cas.pace import TookOf
from cas.store import BlobStore
from linkeddata.iiif_image import Rendering, parse_target, resolve
from node.config import Settings
from node.services.derived import THUMBNAIL_PX, DerivedPictures
from runners.decode import Limits
from runners.errors import ImageRefused, UnitFailed, WorkerDied
from runners.pictures import Cutters, Decoder
from runners.pyramid_file import PyramidDamaged, PyramidFile

T = TypeVar("T")

MOST_WAITING_DECODES: Final = 16
"""A pyramid takes about half a second of two processors: whoever waits behind more would wait too long."""
MOST_WAITING_CUTS: Final = 64
"""A cut takes about 5 ms; a window of a viewer asks for about 50 at once."""
UNUSABLE_KEPT_S: Final = 600.0
MOST_UNUSABLE: Final = 4096


class PictureUnusable(Exception):
    """No picture can be made of these bytes; the message says why."""


class PicturesBusy(Exception):
    """Too many are waiting already, or it did not work this time: the same request may work in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image, as far as it is known before it is opened."""

    cid: ContentId
    width: int
    height: int


class ImageService:
    """The pictures of one node; used by its event loop, works in threads and processes of its own."""

    def __init__(self, settings: Settings, blobs: BlobStore, *, read: TookOf = lambda _volume, _count: None) -> None:
        images = settings.images
        self._blobs = blobs
        self._read = read
        self.derived = DerivedPictures(settings, blobs)
        self._decoder = Decoder(Limits(max_pixels=images.max_pixels, max_file_bytes=images.max_file_bytes))
        self._cutters = Cutters(images.cutters)
        self._decodes = _Line("decode", images.decoders, MOST_WAITING_DECODES)
        self._cuts = _Line("cut", images.cutters, MOST_WAITING_CUTS)
        self._making: dict[str, asyncio.Task[PyramidFile]] = {}
        self._unusable: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._guard = threading.Lock()

    async def pyramid(self, picture: Picture) -> PyramidFile:
        """The pyramid, made if it is not there.

        Raises:
            PictureUnusable, PicturesBusy: see there.
            CasError: the bytes are not here, or were withdrawn.
        """
        found = await asyncio.to_thread(self._find, picture)
        if found is not None:
            return found
        task = self._making.get(picture.cid.hex)
        if task is None:
            task = asyncio.create_task(self._decodes.run(lambda: self.make_pyramid(picture)))
            self._making[picture.cid.hex] = task
            task.add_done_callback(lambda _: self._making.pop(picture.cid.hex, None))
            task.add_done_callback(_look_at)
        return await asyncio.shield(task)  # whoever goes away leaves it to the others

    async def cut(
        self, picture: Picture, rendering: Rendering, *, offered: tuple[int, int], known: PyramidFile | None = None
    ) -> bytes:
        """An encoded picture.

        Args:
            picture: of which image.
            rendering: what of it, in the pixels of the size it is offered at.
            offered: that size.
            known: its pyramid, where it was just opened.

        Raises: as ``pyramid``.
        """
        for is_last in (False, True):
            pyramid = known if known is not None and not is_last else await self.pyramid(picture)
            request = cut_request(rendering, picture, offered, levels=len(pyramid.levels))
            try:
                return await self._cuts.run(lambda: self._cutters.cut(pyramid.fd, request))  # noqa: B023 - awaited here
            except ImageRefused as error:
                if is_last:
                    raise PictureUnusable(str(error)) from error
                await asyncio.to_thread(self.derived.drop, picture.cid, pyramid)
            except (UnitFailed, WorkerDied) as error:
                if is_last:
                    raise PicturesBusy(str(error)) from error
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def tile(self, picture: Picture, place: tuple[int, int, int]) -> bytes | None:
        """One whole tile as it lies in the pyramid; None when this picture is kept without such tiles.

        Raises: as ``pyramid``.
        """
        for is_last in (False, True):
            pyramid = await self.pyramid(picture)
            if not pyramid.has_jpeg_tiles:
                return None
            try:
                return await asyncio.to_thread(pyramid.tile, *place)
            except (PyramidDamaged, OSError) as error:
                if is_last:
                    raise PicturesBusy(str(error)) from error
                await asyncio.to_thread(self.derived.drop, picture.cid, pyramid)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def thumbnail(self, picture: Picture) -> bytes:
        """The small picture: kept, else from the pyramid, else straight from the file.

        Raises: as ``pyramid``.
        """
        kept = await asyncio.to_thread(self._kept_thumbnail, picture)
        if kept is not None:
            return kept
        pyramid = await asyncio.to_thread(self._find, picture)
        if pyramid is not None:
            target = parse_target(f"x/full/!{THUMBNAIL_PX},{THUMBNAIL_PX}/0/default.jpg")
            size = (picture.width, picture.height)
            data = await self.cut(picture, resolve(target.image, width=size[0], height=size[1]), offered=size)
        else:
            data = await self._decodes.run(lambda: self._decode(picture, self._thumbnail_of_file))
        await asyncio.to_thread(self.derived.keep_thumbnail, picture.cid, data)
        return data

    def make_pyramid(self, picture: Picture) -> PyramidFile:
        """Makes the pyramid; blocking. Raises as ``pyramid``."""
        found = self._find(picture)
        return found if found is not None else self._decode(picture, self._pyramid_of_file)

    def close(self) -> None:
        """Ends processes and threads."""
        self._decoder.close()
        self._cutters.close()
        self._decodes.close()
        self._cuts.close()

    @property
    def process_ids(self) -> list[int]:
        """Of the picture processes that run; for measuring."""
        return [*self._cutters.pids, *([] if self._decoder.pid is None else [self._decoder.pid])]

    # ------------------------------------------------------------------ in threads
    def _find(self, picture: Picture) -> PyramidFile | None:
        return self.derived.pyramid(picture.cid, width=picture.width, height=picture.height)

    def _kept_thumbnail(self, picture: Picture) -> bytes | None:
        if self._blobs.is_withdrawn(picture.cid):
            raise BlobWithdrawn(picture.cid)
        return self.derived.thumbnail(picture.cid)

    def _decode(self, picture: Picture, work: Callable[[Picture], T]) -> T:
        known = self._unusable.get(picture.cid.hex)
        if known is not None and known[1] > time.monotonic():
            raise PictureUnusable(known[0])
        try:
            return work(picture)
        except (ImageRefused, PyramidDamaged) as error:
            raise self._remember(picture, str(error)) from error
        except WorkerDied as error:
            raise self._remember(picture, "the decoder ended over this picture") from error
        except UnitFailed as error:
            raise PicturesBusy(str(error)) from error
        except CasError:
            raise
        except OSError as error:
            raise PicturesBusy(f"the disk refused: {error.strerror}") from error

    def _pyramid_of_file(self, picture: Picture) -> PyramidFile:
        with self._blobs.open_blob(picture.cid) as blob:
            self._read(blob.place.volume, blob.size)

            def write(descriptor: int) -> tuple[int, int]:
                size = self._decoder.write_pyramid(blob.fd, descriptor, tile_px=self.derived.tile_px)
                blob.check_unchanged()  # nothing made of other bytes is kept under this id
                return size

            return self.derived.keep_pyramid(picture.cid, width=picture.width, height=picture.height, write=write)

    def _thumbnail_of_file(self, picture: Picture) -> bytes:
        with self._blobs.open_blob(picture.cid) as blob:
            self._read(blob.place.volume, blob.size)
            data = self._decoder.thumbnail(blob.fd, longest_px=THUMBNAIL_PX)
            blob.check_unchanged()
        return data

    def _remember(self, picture: Picture, reason: str) -> PictureUnusable:
        with self._guard:
            self._unusable[picture.cid.hex] = (reason, time.monotonic() + UNUSABLE_KEPT_S)
            if len(self._unusable) > MOST_UNUSABLE:
                self._unusable.popitem(last=False)
        return PictureUnusable(reason)


class _Line:
    """Threads for one kind of work, with a bounded line before them."""

    def __init__(self, name: str, at_work: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(at_work, thread_name_prefix=name)
        self._most = at_work + waiting
        self._guard = threading.Lock()
        self._inside = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Raises ``PicturesBusy`` when the line is full."""
        if self._inside >= self._most:
            raise PicturesBusy("more pictures are waiting than this node can make at a time")
        with self._guard:
            self._inside += 1
        future = self._pool.submit(work)
        future.add_done_callback(self._done)  # not when nobody waits any more: a thread may still be at it
        return await asyncio.wrap_future(future)

    def _done(self, _: object) -> None:
        with self._guard:
            self._inside -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def cut_request(rendering: Rendering, picture: Picture, offered: tuple[int, int], *, levels: int) -> dict[str, object]:
    """What the cutter is asked for: the smallest level that is at least as large as the answer, and the box in it."""
    level = 0
    while level + 1 < levels:
        # Wider than the answer without its last pixel, and higher: clients round up at the edges.
        across = rendering.w * picture.width > (rendering.width - 1 << level + 1) * offered[0]
        down = rendering.h * picture.height > (rendering.height - 1 << level + 1) * offered[1]
        if not (across and down):
            break
        level += 1
    left, right = _stretch(rendering.x, rendering.w, offered[0], picture.width, level)
    top, bottom = _stretch(rendering.y, rendering.h, offered[1], picture.height, level)
    return {
        "level": level, "box": [left, top, right - left, bottom - top], "size": [rendering.width, rendering.height],
        "mirror": rendering.mirror, "turn": rendering.rotation, "quality": rendering.quality,
        "format": rendering.format,
    }  # fmt: skip


def _stretch(start: int, length: int, offered: int, whole: int, level: int) -> tuple[int, int]:
    """From where to where a stretch of the offered side goes in a level: whole pixels, at least one."""
    here = offered << level
    last_pixel = -(-whole >> level)
    end = start + length
    first = min((2 * start * whole + here) // (2 * here), last_pixel - 1)
    # What ends at the edge ends there also when the edge lies within a pixel.
    last = last_pixel if end == offered else min((2 * end * whole + here) // (2 * here), last_pixel)
    return first, max(first + 1, last)


def _look_at(task: "asyncio.Task[PyramidFile]") -> None:
    """Everybody who asked may have gone away; then nobody takes the exception."""
    if not task.cancelled():
        task.exception()
