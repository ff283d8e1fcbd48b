"""The entries' output: the log on stdout, and the reason of a failure as the last line of stderr.

No torch here: failures before its import are reported as well.
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
    """Write lines on stdout. If that fails (closed pipe, full disk), warn once on stderr and go on without a log."""
    try:
        print(*lines, sep="\n", flush=True)  # a server's log is read while it runs
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _write_error(f"warning: the log is lost, the result is not: {error}")


def run_logged(work: Callable[[], None]) -> str:
    """Call a function; log its warnings on stdout, and the reason of a failure as the last line of stderr.

    Python shows a warning once per line of code; here it is shown in every call, so that each case has its own.

    Returns:
        The reason, on one line that the platform does not cut; empty on success.
    """
    with warnings.catch_warnings(record=True) as caught:
        reason = _reason(work)
    if lines := dict.fromkeys(f"warning   {one_line(str(warning.message))}" for warning in caught):
        log(*lines)  # after a failure too: a warning may explain it
    return _fail(reason) if reason else ""


def _fail(reason: str) -> str:
    """Write the reason on stderr, on one line that the platform does not cut."""
    line = one_line(f"error: {reason}")[:STDERR_LIMIT]
    _write_error(line)
    return line


def _reason(work: Callable[[], None]) -> str:
    """Call a function and return the reason of its failure; empty on success."""
    try:
        work()
    except MitoscopeError as error:
        return str(error)
    except Exception as error:
        memory = describe_memory_error(error, OUT_OF_MEMORY + MAYBE_OUT_OF_MEMORY)
        if not memory or any(words in memory for words in MAYBE_OUT_OF_MEMORY):
            _write_error(traceback.format_exc())
        if memory:
            return f"{memory}: close other programs, or give the container more (docker run --memory 15g)"
        return f"unexpected {type(error).__name__}: {error}; please report this with all lines above"
    return ""


def _write_error(line: str) -> None:
    """Write on stderr; do nothing if it is closed."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
