"""Check the directories of a TIFF before Pillow reads them.

Pillow takes a circular chain of pages for a chain that has ended, and turns each value of a tag into a Python number:
100 MB of them become some GB.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from mitoscope.images import PAGE_LIMIT

VALUES_LIMIT = 65_536  # of one tag; a palette has 768
TAG_BYTES = 64 << 20
AS_THEY_ARE = (1, 2, 7)  # bytes, text and undefined: Pillow does not convert them
# Byte order, and whether it is a BigTIFF. Pillow also reads other kinds, but misreads some of them.
KINDS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True)}


def check_directories(path: Path, most_values: int = VALUES_LIMIT) -> None:
    """Refuse a circular chain of pages, and a tag that would fill the memory.

    Args:
        path: The file.
        most_values: The most numbers in one tag.

    Raises:
        ValueError: The pages run in a circle, there are more than 1,024, or a tag holds too much.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] not in KINDS or len(head) < 16:
            raise ValueError(f"a file that begins with {head[:4]!r}, which no TIFF does")
        order, is_big = KINDS[head[:4]]
        at = struct.unpack(f"{order}Q", head[8:16])[0] if is_big else struct.unpack(f"{order}I", head[4:8])[0]
        seen: set[int] = set()
        while at and len(seen) <= PAGE_LIMIT:
            if at in seen:
                raise ValueError(f"page {len(seen)} is followed by an earlier one")
            seen.add(at)
            at = _check_directory(file, at, order, is_big, most_values)
    if at:
        raise ValueError(f"more than {PAGE_LIMIT} pages")


def _check_directory(file: BinaryIO, at: int, order: str, is_big: bool, most_values: int) -> int:
    """Check one directory; returns the offset of the next one, 0 if there is none or the file ends."""
    count, entry, following = (
        (f"{order}Q", f"{order}HHQ8x", f"{order}Q") if is_big else (f"{order}H", f"{order}HHI4x", f"{order}I")
    )
    if at >= 1 << 63:
        return 0
    file.seek(at)
    head = file.read(struct.calcsize(count))
    if len(head) < struct.calcsize(count):
        return 0
    n_tags = struct.unpack(count, head)[0]
    if n_tags > VALUES_LIMIT:
        raise ValueError(f"a directory of {n_tags} tags")
    entries = file.read(n_tags * struct.calcsize(entry))
    tail = file.read(struct.calcsize(following))
    if len(tail) < struct.calcsize(following):
        return 0
    for tag, kind, n_values in struct.iter_unpack(entry, entries):
        if n_values > (TAG_BYTES if kind in AS_THEY_ARE else most_values):
            raise ValueError(f"tag {tag} of {n_values} values")
    return int(struct.unpack(following, tail)[0])
