"""Work on many files by several threads, in order and in groups that share one durable commit."""

import concurrent.futures
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final, TypeVar

A = TypeVar("A")
B = TypeVar("B")
CHUNK_BYTES: Final = 4 << 20
CHUNK_FILES: Final = 32


def map_in_threads(work: Callable[[A], B], items: Iterable[A], *, threads: int, ahead: int) -> Generator[B, None, None]:
    """Like ``Executor.map``, in order, but takes only ``ahead`` items before their results are wanted.

    Whoever stops listening ends the work: what has not begun is dropped.
    """
    pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="blob")
    waiting: deque[concurrent.futures.Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_groups(items: Iterable[A], *, most: int, most_bytes: int, bytes_of: Callable[[A], int]) -> Iterator[list[A]]:
    """Groups of up to ``most`` items; a group ends early once its items were ``most_bytes`` of work."""
    group: list[A] = []
    total = 0
    for item in items:
        group.append(item)
        total += bytes_of(item)
        if len(group) >= most or total >= most_bytes:
            yield group
            group, total = [], 0
    if group:
        yield group


class ChunkPace:
    """Cuts work into chunks of about ``CHUNK_BYTES``: small files by the dozen, large ones singly.

    A thread that takes up one small file after the other spends its time on being woken up.
    """

    def __init__(self) -> None:
        self._most = 4

    def took(self, count: int, size: int) -> None:
        """What the files turned out to be: ``size`` bytes of work in ``count`` files."""
        self._most = max(1, min(CHUNK_FILES, CHUNK_BYTES * count // max(size, 1)))

    def chunks(self, items: Iterable[A]) -> Iterator[list[A]]:
        """The items, in chunks of the size that is right when each is cut."""
        chunk: list[A] = []
        for item in items:
            chunk.append(item)
            if len(chunk) >= self._most:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
