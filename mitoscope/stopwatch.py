"""Seconds by stage, for the log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Wall-clock seconds by stage, in the order of the stages."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started

    def total_s(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self.started

    def __str__(self) -> str:
        """For the log: each stage's seconds, and the total."""
        return "  ".join(
            [*(f"{stage} {spent_s:.2f}" for stage, spent_s in self.seconds.items()), f"total {self.total_s():.2f}"]
        )
