"""Read and compute in two threads, and measure how long."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import TypeVar

import torch

MOST_WORKERS = 2  # each holds the pixels and the grids of one batch
Item = TypeVar("Item")
Result = TypeVar("Result")


def cut(items: Sequence[Item], at_once: int) -> Iterator[Sequence[Item]]:
    """Items in batches of one forward pass; the last one may be smaller."""
    return (items[first : first + at_once] for first in range(0, len(items), at_once))


class Stage:
    """One kind of work: whether several threads may do it at once, and how long they did it.

    Args:
        one_at_a_time: A thread waits until another one has finished.

    Attributes:
        total_s: Seconds of all threads together.
        any_s: Seconds in which at least one was busy.
    """

    def __init__(self, *, one_at_a_time: bool) -> None:
        self._turn = Lock() if one_at_a_time else nullcontext()
        self.total_s = self.any_s = 0.0
        self._n_busy, self._since, self._lock = 0, 0.0, Lock()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """This thread does it."""
        with self._turn:
            started = time.perf_counter()
            with self._lock:
                if self._n_busy == 0:
                    self._since = started
                self._n_busy += 1
            try:
                yield
            finally:
                ended = time.perf_counter()
                with self._lock:
                    self._n_busy -= 1
                    self.total_s += ended - started
                    if self._n_busy == 0:
                        self.any_s += ended - self._since


class Workers:
    """Two threads that read and compute.

    Only one reads at a time, so that one computes while the other reads. On a CPU both compute, each with half of
    torch's threads: two networks of one thread each are faster on two cores than one network of two threads, which wait
    for each other after every layer.

    Args:
        one_computes: Only one computes at a time, with all of torch's threads: on a GPU, whose memory would be needed
            twice, or with networks that two threads cannot use at once. So it is with one core.

    Attributes:
        reading: Surround what reads with ``reading.busy()``.
        computing: Likewise.
    """

    def __init__(self, *, one_computes: bool) -> None:
        self._n_threads = torch.get_num_threads()
        one_computes = one_computes or self._n_threads == 1
        self._share = self._n_threads if one_computes else self._n_threads // MOST_WORKERS
        self.reading, self.computing = Stage(one_at_a_time=True), Stage(one_at_a_time=one_computes)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Call a function for each item, some of them before they are asked for; the results in order.

        Raises:
            Exception: The function's own; calls that have not begun are dropped.
        """
        pending: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(MOST_WORKERS, initializer=torch.set_num_threads, initargs=(self._share,)) as pool:
            try:
                for item in items:
                    pending.append(pool.submit(function, item))
                    if len(pending) > 2 * MOST_WORKERS:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(self._n_threads)
