"""Files from outside, read whole: no more of them than is asked for, and never a pipe, whose end nobody knows.

What is refused is an OSError or a ValueError; the caller says in its own words what the file should have been.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

DEPTH_LIMIT = 64  # of JSON; what the parser still takes, a later repr or dump may not
PIECE_BYTES = 1 << 20
JSON_BYTES = 32 << 20  # `[],[],…` takes 24 bytes of memory for each byte of the file


def read_file(path: Path, limit: int) -> bytes:
    """Read a file whose size has a bound.

    Args:
        path: The file.
        limit: The most bytes that it may hold.

    Raises:
        OSError: It is missing, unreadable, larger, or something else than a file: a folder, a pipe, a device.
        ValueError: Its name holds a zero byte.
    """
    # A pipe without a writer is opened at once under O_NONBLOCK, and would be waited for without it.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no file, but a folder, a pipe or a device")
        if found.st_size > limit:
            raise OSError(f"it holds {found.st_size:,} bytes, more than {limit:,}")
        pieces = [file.read(found.st_size)]  # which takes as much memory as it is asked for
        n_bytes = len(pieces[0])
        while n_bytes <= limit and (piece := file.read(PIECE_BYTES)):  # the size of a file in /proc is told as 0
            pieces.append(piece)
            n_bytes += len(piece)
    if n_bytes > limit:
        raise OSError(f"it holds more than {limit:,} bytes")
    return b"".join(pieces)


def read_json(path: Path, limit: int = JSON_BYTES, encoding: str = "utf-8") -> Any:  # noqa: ANN401 - whatever the file holds
    """Read UTF-8 JSON. NaN and Infinity are taken, as Python's reader takes them.

    Args:
        path: The file.
        limit: The most bytes that it may hold.
        encoding: ``"utf-8-sig"`` takes a byte order mark too.

    Raises:
        OSError: As `read_file`.
        ValueError: It is no JSON, or is nested deeper than `DEPTH_LIMIT`.
    """
    content = read_file(path, limit)
    try:
        value = json.loads(content.decode(encoding))
    except RecursionError:
        raise ValueError(f"nested deeper than {DEPTH_LIMIT} levels") from None
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [child for node in level for child in _children(node)]
    if level:
        raise ValueError(f"nested deeper than {DEPTH_LIMIT} levels")
    return value


def _children(node: object) -> list[Any]:
    """What a list or an object holds."""
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
