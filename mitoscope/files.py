"""Files: read whole from outside, within limits; written whole or not at all.

Reading a file from outside raises OSError or ValueError when it is refused; the caller explains which file it
expected. `read_object`, for files that this software wrote, raises a DataError itself.
"""

import ctypes
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mitoscope.errors import DataError

DEPTH_LIMIT = 64  # of JSON; deeper values parse, but repr or dump may then fail
PIECE_BYTES = 1 << 20
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux
JSON_BYTES = 32 << 20  # `[],[],…` takes 24 bytes of memory for each byte of the file


def read_file(path: Path, limit: int) -> bytes:
    """Read a file whose size is limited.

    Args:
        path: The file.
        limit: The most bytes that it may hold.

    Raises:
        OSError: It is missing, unreadable, larger, or not a regular file (a folder, a pipe, a device).
        ValueError: Its name holds a zero byte.
    """
    # With O_NONBLOCK a pipe without a writer opens at once; without it, opening would block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)  # os.fdopen would not, of a folder
        raise OSError("it is no file, but a folder, a pipe or a device")
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > limit:
            raise OSError(f"it holds {found.st_size:,} bytes, more than {limit:,}")
        pieces = [file.read(found.st_size)]  # allocates no more than the size that was checked
        n_bytes = len(pieces[0])
        while n_bytes <= limit and (piece := file.read(PIECE_BYTES)):  # files in /proc report a size of 0
            pieces.append(piece)
            n_bytes += len(piece)
    if n_bytes > limit:
        raise OSError(f"it holds more than {limit:,} bytes")
    return b"".join(pieces)


def read_json(path: Path, limit: int = JSON_BYTES, encoding: str = "utf-8") -> Any:  # noqa: ANN401 - whatever the file holds
    """Read UTF-8 JSON. NaN and Infinity are accepted, as Python's reader accepts them.

    Args:
        path: The file.
        limit: The most bytes that it may hold.
        encoding: ``"utf-8-sig"`` also accepts a byte order mark.

    Raises:
        OSError: As `read_file`.
        ValueError: It is not JSON, or is nested deeper than `DEPTH_LIMIT`.
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


def read_object(path: Path, remedy: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Read a JSON object that this software wrote.

    Args:
        path: The file.
        remedy: What the user can do when it is missing or broken.
        keys: What it must have.

    Raises:
        DataError: It is missing, not JSON, not an object, or lacks a key.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}")
        if lacking := [key for key in keys if key not in content]:
            raise ValueError(f"no {', no '.join(lacking)}")
    except (OSError, ValueError) as error:
        expected = f"a JSON object with {', '.join(keys)}" if keys else "a JSON object"
        raise DataError(f"{path} cannot be read", got=error, expected=expected, remedy=remedy) from error
    return content


def _children(node: object) -> list[Any]:
    """The values in a list or an object."""
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def partial_of(path: Path) -> Path:
    """The temporary name of a file that is being written: hidden, in the same folder so that a rename is atomic."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all; every atomic write of a file is this one. One process a file.

    Args:
        path: The file; one that exists is replaced when the block ends without an exception.

    Yields:
        Where to write. What is there is flushed to the disk, then renamed; on an exception it is deleted.
    """
    partial = partial_of(path)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """As `write_text`, a JSON object; a NaN in it raises ValueError, since JSON has none."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


@contextmanager
def written_folder(folder: Path, draft: Path | None = None) -> Iterator[Path]:
    """Write a folder whole or not at all, replacing an older one.

    Where the file system cannot exchange two names (NFS), a process that is killed in the moment between two renames
    leaves the older folder hidden beside its place, with a name that ends in ``.old``.

    Args:
        folder: Where it will be; missing parents are made.
        draft: A folder on the same file system, in which it is made; None: beside it.

    Yields:
        A new empty folder there, which takes its place when the block ends without an exception.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=draft or folder.parent))
    old = new.with_name(f"{new.name}.old")
    try:
        yield new
        new.chmod(0o755)
        if not folder.exists():
            new.rename(folder)
        elif not _exchange(new, folder):
            folder.rename(old)
            new.rename(folder)
    finally:  # an interrupt may arrive between the two renames
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False where the file system or the C library cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    code: int = libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
    return code == 0


def check_file(out: Path) -> None:
    """Refuse a folder where a file is to be written, before anything is computed for it.

    Raises:
        DataError: It is a folder, or lies below a file.
    """
    if out.is_dir():
        raise DataError(f"{out} is a folder", got="a folder", expected="a file's name after --out", remedy="add one")
    if below := next((parent for parent in out.parents if parent.is_file()), None):
        raise DataError(
            f"{out} cannot be written", got=f"{below}, a file", expected="a folder there", remedy="correct the path"
        )


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_folder(folder: Path, limit: int = 8) -> str:
    """What is at a path where a folder should be, short enough for an error message."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "no such folder"
    try:
        names = sorted(path.name[:80] for path in folder.iterdir())
    except OSError:
        return "a folder that cannot be listed"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"a folder that holds {names[:limit]}{more}" if names else "an empty folder"
