"""Read in a thread while the networks compute, and measure both."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Pixels = TypeVar("Pixels")


class ReadAhead(Generic[Item, Pixels]):
    """Calls a function for each item, in a thread and in order, some of them before they are wanted.

    Args:
        read: The function.
        items: Its arguments.
        most: Results in memory that wait.

    Attributes:
        busy_s: Seconds that the thread has read.
    """

    def __init__(self, read: Callable[[Item], Pixels], items: Iterable[Item], most: int) -> None:
        self._read, self._items, self._most = read, items, most
        self.busy_s = 0.0

    def __iter__(self) -> Iterator[tuple[Item, "Future[Pixels]"]]:
        pending: deque[tuple[Item, Future[Pixels]]] = deque()
        with ThreadPoolExecutor(1) as pool:
            try:
                for item in self._items:
                    pending.append((item, pool.submit(self._measure, item)))
                    if len(pending) > self._most:
                        yield pending.popleft()
                yield from pending
            finally:
                pool.shutdown(cancel_futures=True)

    def _measure(self, item: Item) -> Pixels:
        """Read, and add the time that it took."""
        started = time.perf_counter()
        try:
            return self._read(item)
        finally:
            self.busy_s += time.perf_counter() - started
