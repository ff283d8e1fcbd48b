"""End a command with 0, or with one clear line on stderr and another exit code."""

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from mitoscope.errors import MitoscopeError, describe_memory_error, one_line

REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space") | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "correct the permissions"
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


def end_by_closed_pipe() -> int:
    """The exit code where the reader of stdout, such as ``head``, has closed it: that of SIGPIPE, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
    return 141


def run_command(command: Callable[[], int | None], extra: str = "") -> int:
    """Run one command.

    Args:
        command: Does the work and returns the exit code; None is 0.
        extra: The extra of the package that it needs, such as ``"train"``.

    Returns:
        The exit code; 1 with one line on stderr for every failure that outside data can cause, 130 after Ctrl-C.

    Raises:
        BrokenPipeError: See `end_by_closed_pipe`.
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
    except BrokenPipeError:
        raise
    except OSError as error:  # the system's own message is the clearest
        reason = f"{error}; {REMEDIES.get(error.errno or 0, 'fix the cause')}, then run the same command again"
    except (MemoryError, RuntimeError, ImportError) as error:
        memory = describe_memory_error(error)
        if not memory:
            raise
        reason = f"{memory}; close other programs, then run the same command again"
    except KeyboardInterrupt:
        reason, code = "stopped by Ctrl-C: run the same command again", 130
    print(one_line(f"error: {reason}"), file=sys.stderr)
    return code
