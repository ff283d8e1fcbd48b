"""Commands of the product as processes that end by themselves, or are ended at a chosen moment."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
LITE = ROOT / "weights" / "lite"
CASE = ROOT / "test" / "input" / "interf0"
LONGEST_S = 600
POLL_S = 0.0005

Moment = Callable[[float], bool]  # of the seconds since the start: whether it has come


@dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
        code: Its exit code, below 0 for a signal.
        seconds: How long it lived.
        after_s: How long it lived after the signal; 0 where it had ended before.
        stdout: What it wrote there.
        stderr: What it wrote there.
    """

    code: int
    seconds: float
    after_s: float
    stdout: str
    stderr: str


def run(
    *arguments: object, moment: Moment = lambda _: False, number: int = signal.SIGKILL, environment: str = ""
) -> End:
    """Run Python in the repository's root; send its process group a signal when the moment has come.

    Args:
        arguments: Python's.
        moment: When.
        number: The signal.
        environment: ``NAME=value`` that differs from this process's own, where one thread is the rule.

    Raises:
        TimeoutError: It was still running after ten minutes, and has been killed.
    """
    name, _, value = (environment or "OMP_NUM_THREADS=1").partition("=")
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", name: value}
    command = [sys.executable, *map(str, arguments)]
    start, hit_s = time.monotonic(), None
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        subprocess.Popen(command, cwd=ROOT, env=variables, stdout=out, stderr=err, start_new_session=True) as process,
    ):
        while process.poll() is None:
            if hit_s is None and moment(time.monotonic() - start):
                os.killpg(process.pid, number)
                hit_s = time.monotonic() - start
            if time.monotonic() - start > LONGEST_S:
                os.killpg(process.pid, signal.SIGKILL)
                raise TimeoutError(f"{command} did not end")
            time.sleep(POLL_S)
        seconds = time.monotonic() - start
        for file in (out, err):
            file.seek(0)
        after_s = 0.0 if hit_s is None else seconds - hit_s
        return End(process.returncode, seconds, after_s, out.read(), err.read())


def spread(count: int, span_s: float, seed: int) -> list[Moment]:
    """Random moments, one in each of as many equal parts of a time."""
    at_s = (np.arange(count) + np.random.default_rng(seed).random(count)) * span_s / count
    return [lambda seconds, at=at: seconds >= at for at in at_s.tolist()]  # type: ignore[misc]  # mypy: a default


def when(found: Callable[[], bool], delay_s: float) -> Moment:
    """The moment at which something was found, and a delay. What is taken away during the look was not found."""
    since: list[float] = []

    def moment(seconds: float) -> bool:
        with suppress(FileNotFoundError):
            if not since and found():
                since.append(seconds)
        return bool(since) and seconds >= since[0] + delay_s

    return moment


def measure(start: Callable[[int], End], workers: int) -> float:
    """Seconds that an unbroken process takes beside as many others as there are workers."""
    with ThreadPoolExecutor(workers) as pool:
        return max(end.seconds for end in pool.map(start, range(workers)))


def each(work: Callable[[int], dict[str, int]], count: int, workers: int) -> dict[str, int]:
    """Do some work for 0 … count - 1, so many at once, and add up what is counted."""
    total: dict[str, int] = {}
    for counted in _each(work, count, workers):
        for name, number in counted.items():
            total[name] = total.get(name, 0) + number
    return total


def _each(work: Callable[[int], dict[str, int]], count: int, workers: int) -> Iterator[dict[str, int]]:
    """What each piece of work counted."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, range(count))
