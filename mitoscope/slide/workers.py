"""Read and compute in a few threads at once, and measure how long."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import TypeVar

import torch

WORKERS = 2  # each holds the pixels and the grids of one batch
Item = TypeVar("Item")
Result = TypeVar("Result")


def work(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call a function for each item, in `WORKERS` threads, which share torch's threads; the results in order.

    Two networks of one thread each are faster on two cores than one network of two, which wait for each other after
    every layer; and one can compute while the other reads.

    Raises:
        Exception: The function's own; calls that have not begun are dropped.
    """
    n_threads = torch.get_num_threads()
    n_workers = min(WORKERS, n_threads)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(n_threads // n_workers,)) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * n_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(n_threads)


class Clock:
    """How long threads were busy with one kind of work.

    Args:
        one_at_a_time: Another thread waits until this one is ready.

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
        """This thread is busy."""
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


def make_clocks(device: str) -> tuple[Clock, Clock]:
    """Of reading and of computing. Who waits for another's reading computes while that one reads, from then on.

    A GPU computes one batch at a time: its memory is not needed twice.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
    """
    return Clock(one_at_a_time=True), Clock(one_at_a_time=device == "cuda")
