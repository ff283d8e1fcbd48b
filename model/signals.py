"""What SIGTERM and Ctrl-C do to a container's process: it ends at once.

Nothing is raised. An exception would appear in whatever code runs at that moment, and be lost where that code clears
the errors of what it calls, as NumPy does where it compares a dtype.
"""

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO


def end_on_signal(end: Callable[[], int]) -> None:
    """Let SIGTERM and Ctrl-C end this process, as soon as its main thread is between two steps of Python.

    A process that was told to ignore Ctrl-C, as a shell tells those in its background, goes on doing so.

    Args:
        end: Gives the exit code. It runs in the middle of anything: what it says, it says by `say`.
    """

    def handle(*_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os._exit(end())

    signal.signal(signal.SIGTERM, handle)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handle)


def say(stream: TextIO | None, line: str) -> None:
    """Write a line past the stream's buffer, which may be in use; nothing where the stream is closed or full."""
    if stream is not None:
        with suppress(OSError, ValueError):  # ValueError: it was closed in Python
            if select.select([], [stream], [], 0)[1]:
                os.write(stream.fileno(), f"{line}\n".encode())
