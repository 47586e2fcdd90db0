"""Work on many files by several threads, in order and in groups that share one durable commit."""

import concurrent.futures
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


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
