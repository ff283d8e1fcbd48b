"""End a command with 0, or with one clear line on stderr and another exit code."""

import argparse
import errno
import io
import os
import select
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from mitoscope.errors import MitoscopeError, describe_memory_error, one_line

REMEDIES = (
    dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space")
    | dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "correct the permissions or the path")
    | dict.fromkeys((errno.ENOENT, errno.EEXIST, errno.ENOTDIR), "correct the path")
)


def escape_unencodable() -> None:
    """Escape characters that stdout or stderr cannot encode, instead of failing."""
    for stream in (sys.stdout, sys.stderr):  # None, if it was closed when Python started
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class PrintVersion(argparse.Action):
    """Print the version that is installed, or the commit of a checkout, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            found = version("mitoscope")
        except PackageNotFoundError:
            from mitoscope.provenance import read_commit  # here: a container starts without it

            found = read_commit()
        print(f"mitoscope {found}")
        parser.exit()


def end_output(error: OSError) -> int:
    """The exit code where stdout cannot be written: 1 with a line on stderr, or 141 where its reader is gone.

    A shell shows 141 for any program that wrote to a pipe which nobody reads any more: ``head`` has read enough.
    """
    is_gone = isinstance(error, BrokenPipeError) and _reader_is_gone()
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
    if is_gone:
        return 141
    print(one_line(f"error: {_describe(error)}"), file=sys.stderr)
    return 1


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno())
    except (AttributeError, OSError):  # no stdout, or one without a file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _describe(error: OSError) -> str:
    """The system's own message, which is the clearest, and what to do."""
    return f"{error}; {REMEDIES.get(error.errno or 0, 'fix the cause')}, then run the command again"


def run_command(command: Callable[[], int | None], extra: str = "") -> int:
    """Run one command.

    Args:
        command: Does the work and returns the exit code; None is 0.
        extra: The extra of the package that it needs, such as ``"train"``.

    Returns:
        The exit code; 1 with one line on stderr for every failure that outside data can cause, 130 after Ctrl-C.

    Raises:
        BrokenPipeError: The reader of stdout is gone, see `end_output`.
    """
    code = 1
    try:
        return command() or 0
    except ModuleNotFoundError as error:
        package = f"mitoscope[{extra}]" if extra else "mitoscope"
        reason = f"this needs more packages: got {error}, expected {package} as installed by pip; "
        reason += f"run {sys.executable} -m pip install '{package}'"
    except MitoscopeError as error:
        reason = str(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            raise
        reason = _describe(error)
    except (MemoryError, RuntimeError, ImportError) as error:
        memory = describe_memory_error(error)
        if not memory:
            raise
        reason = f"{memory}; close other programs, then run the same command again"
    except KeyboardInterrupt:
        reason, code = "stopped by Ctrl-C: run the same command again", 130
    print(one_line(f"error: {reason}"), file=sys.stderr)
    return code
