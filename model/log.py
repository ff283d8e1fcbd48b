"""What the entries say: the log on stdout, and why a case failed as the last line of stderr.

No torch here: what fails before it is imported is said as well.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress

from mitoscope.errors import MAYBE_OUT_OF_MEMORY, OUT_OF_MEMORY, MitoscopeError, describe_memory_error, one_line

STDERR_LIMIT = 1000  # Grand Challenge cuts the line at 1,024 characters


def log(*lines: str) -> None:
    """Write lines on stdout. A log whose reader has gone, or whose disk is full, is no reason to lose the result."""
    try:
        print(*lines, sep="\n", flush=True)  # a server's log is read while it runs
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # once is enough
        _say(f"warning: the log is lost, the result is not: {error}")


def escape_unencodable() -> None:
    """Escape characters that stdout or stderr cannot encode: they must not cost the result."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed from the start
        stream.reconfigure(errors="backslashreplace")


def attempt(work: Callable[[], None]) -> str:
    """Do some work and log its warnings on stdout, or the reason of its failure as the last line of stderr.

    Python shows a warning once for each line of code; what is caught here is shown at every attempt.

    Returns:
        The reason, on one line that the platform shows whole; empty, as stderr is, where the work was done.
    """
    with warnings.catch_warnings(record=True) as caught:
        reason = _reason(work)
    if lines := dict.fromkeys(f"warning   {one_line(str(warning.message))}" for warning in caught):
        log(*lines)  # also of a failure: an old driver is why there is no GPU
    return _fail(reason) if reason else ""


def _fail(reason: str) -> str:
    """Put the reason on stderr, on one line that the platform shows whole."""
    line = one_line(f"error: {reason}")[:STDERR_LIMIT]
    _say(line)
    return line


def _reason(work: Callable[[], None]) -> str:
    """Do some work; empty, or why it failed."""
    try:
        work()
    except MitoscopeError as error:
        return str(error)
    except Exception as error:
        memory = describe_memory_error(error, OUT_OF_MEMORY + MAYBE_OUT_OF_MEMORY)
        if not memory or any(words in memory for words in MAYBE_OUT_OF_MEMORY):
            _say(traceback.format_exc())
        if memory:
            return f"{memory}: close other programs, or give the container more (docker run --memory 15g)"
        return f"unexpected {type(error).__name__}: {error}; please report this with all lines above"
    return ""


def _say(line: str) -> None:
    """Write on stderr, if anybody listens."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
