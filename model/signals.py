"""SIGTERM and Ctrl-C end a container's process at once.

Exit directly: an exception raised here would appear in the code that is running, and some code swallows it, such as
NumPy's comparison of dtypes.
"""

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO


def end_on_signal(end: Callable[[], int]) -> None:
    """End this process on SIGTERM or Ctrl-C, as soon as Python runs its signal handlers.

    A process that ignores Ctrl-C, as a shell's background jobs do, still ignores it.

    Args:
        end: Returns the exit code. It may interrupt any code, so it must print by `write_line` only.
    """

    def handle(*_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os._exit(end())

    signal.signal(signal.SIGTERM, handle)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handle)


def write_line(stream: TextIO | None, line: str) -> None:
    """Write a line without the stream's buffer, which may be in use; do nothing if the stream is closed or full."""
    if stream is not None:
        with suppress(OSError, ValueError):  # ValueError: closed in Python
            if select.select([], [stream], [], 0)[1]:
                os.write(stream.fileno(), f"{line}\n".encode())
