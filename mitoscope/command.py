"""How a command line ends: with 0, or with one clear line on stderr and another exit code."""

import errno
import sys
from collections.abc import Callable

from model.errors import MitosisError, one_line
from model.log import tell_memory

REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space") | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "correct the permissions"
)


def run_command(command: Callable[[], int | None], requirements: str) -> int:
    """Run one command.

    Args:
        command: Does the work and gives the exit code; None is 0.
        requirements: The list to install from when a module is missing.

    Returns:
        The exit code; 1 with one line on stderr for every failure that outside data can cause, 130 after Ctrl-C.
    """
    code = 1
    try:
        return command() or 0
    except ModuleNotFoundError as error:
        reason = f"{sys.executable} cannot run this: got {error}, expected {requirements}; "
        reason += f"{sys.executable} -m pip install --require-hashes -r {requirements}"
    except MitosisError as error:
        reason = str(error)
    except OSError as error:  # the system's own words are the clearest
        reason = f"{error}; {REMEDIES.get(error.errno or 0, 'mend that')}, then run the same command again"
    except (MemoryError, RuntimeError, ImportError) as error:
        memory = tell_memory(error)
        if not memory:
            raise
        reason = f"{memory}; close other programs, then run the same command again"
    except KeyboardInterrupt:
        reason, code = "stopped by Ctrl-C: run the same command again", 130
    print(one_line(f"error: {reason}"), file=sys.stderr)
    return code
