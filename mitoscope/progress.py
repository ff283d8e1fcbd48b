"""Progress of work that takes more than some seconds: a bar on a terminal, plain lines elsewhere.

The bar (tqdm) is drawn on stderr when stderr is a terminal. Otherwise, as in a batch job or a file, plain lines go to
stdout: stderr then holds warnings and errors alone. Work that is done within a moment shows nothing.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

BAR_DELAY_S = 1.0  # of the bar
FIRST_LINE_S = 10.0  # of plain lines, and the least time between two
LINE_EVERY_S = 30.0
LINE_EVERY_SHARE = 0.1  # of the total


class Progress:
    """What `progress` yields; not made directly."""

    def __init__(
        self, total: float, done: float, unit: str, what: str, bar: "tqdm[NoReturn] | None", clock: Callable[[], float]
    ) -> None:
        self.total, self.unit, self.what, self.n_done, self._n_before = total, unit, what, done, done
        self._bar, self._clock = bar, clock
        self._start_s = self._line_s = clock()
        self._line_at = 0.0
        self._has_lines = False

    def update(self, n: float = 1) -> None:
        """Count n more as done."""
        self.n_done += n
        if self._bar is not None:
            self._bar.update(n)
        elif self.n_done < self.total and self._is_due():
            self._print(f"{_show(self.n_done)} of {_show(self.total)} {self.unit}, {self._rate()}")

    def note(self, text: str) -> None:
        """Print a line on stderr without breaking the bar."""
        tqdm.write(text, file=sys.stderr)

    def finish(self) -> None:
        """Print the last line, if there were others."""
        if self._has_lines:
            self._print(f"{_show(self.n_done)} {self.unit} in {_spell_time(self._clock() - self._start_s)}")

    def _is_due(self) -> bool:
        """Whether the next plain line should be printed."""
        waited_s = self._clock() - self._line_s
        enough = self.n_done - self._line_at >= LINE_EVERY_SHARE * self.total
        return waited_s >= LINE_EVERY_S or (waited_s >= FIRST_LINE_S and (enough or not self._has_lines))

    def _rate(self) -> str:
        """Speed so far, and the time that is left at that speed."""
        per_s = (self.n_done - self._n_before) / (self._clock() - self._start_s)
        return f"{per_s:,.3g} a second, {_spell_time((self.total - self.n_done) / per_s)} left" if per_s else "starting"

    def _print(self, text: str) -> None:
        """One plain line."""
        self._line_s, self._line_at, self._has_lines = self._clock(), self.n_done, True
        print(f"{self.what}: {text}", flush=True)


@contextmanager
def progress(
    total: float, *, unit: str, what: str, done: float = 0, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """Show how far some work is.

    Args:
        total: How many units there are; where it is a float, parts of a unit count, too.
        unit: What is counted, in the plural, such as ``"crops"``.
        what: What is done, such as ``"scoring"``.
        done: Units that an earlier process did; they do not count for the speed.
        clock: Seconds, for tests.

    Yields:
        Its ``update(n)`` counts n more units as done; its ``note(text)`` prints a line on stderr.

    Example:
        >>> with progress(2, unit="crops", what="scoring") as bar:
        ...     for _ in range(2):
        ...         bar.update()
    """
    if not sys.stderr.isatty():
        plain = Progress(total, done, unit, what, None, clock)
        yield plain
        plain.finish()
        return
    bar: tqdm[NoReturn]
    with tqdm(total=total, initial=done, unit=f" {unit}", unit_scale=isinstance(total, float), desc=what,
              delay=BAR_DELAY_S, file=sys.stderr) as bar:  # fmt: skip
        yield Progress(total, done, unit, what, bar, clock)


def _show(n: float) -> str:
    """A number of units."""
    return f"{n:,.1f}" if isinstance(n, float) else f"{n:,}"


def _spell_time(seconds: float) -> str:
    """``h:mm:ss``, or ``m:ss`` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
