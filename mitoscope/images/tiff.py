"""The directories of a TIFF, looked at before Pillow makes objects of what they hold.

Pillow takes a chain that runs in a circle for one that has ended, and makes a Python number of each value of a tag:
of 100 MB of them, some GB.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from mitoscope.images import PAGE_LIMIT

VALUES_LIMIT = 65_536  # of one tag; a palette has 768
AS_THEY_ARE = (1, 2, 7)  # bytes, text and undefined: Pillow keeps them so
# Order of the bytes, and whether it is a BigTIFF. Pillow takes others too, and not each as it says it is.
KINDS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True)}


def check_directories(path: Path) -> None:
    """Refuse a chain of pages that is no chain, and a tag that would fill the memory.

    Raises:
        ValueError: The pages run in a circle, there are more than 1,024, or a tag holds more than 65,536 numbers.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] not in KINDS or len(head) < 16:
            raise ValueError(f"a file that begins with {head[:4]!r}")
        order, is_big = KINDS[head[:4]]
        at = struct.unpack(f"{order}Q", head[8:16])[0] if is_big else struct.unpack(f"{order}I", head[4:8])[0]
        seen: set[int] = set()
        while at and len(seen) <= PAGE_LIMIT:
            if at in seen:
                raise ValueError(f"page {len(seen)} is followed by an earlier one")
            seen.add(at)
            at = _check_directory(file, at, order, is_big)
    if at:
        raise ValueError(f"more than {PAGE_LIMIT} pages")


def _check_directory(file: BinaryIO, at: int, order: str, is_big: bool) -> int:
    """Check one directory; where the next one lies, 0 where there is none or the file ends."""
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
        if n_values > VALUES_LIMIT and kind not in AS_THEY_ARE:
            raise ValueError(f"tag {tag} of {n_values} numbers")
    return int(struct.unpack(following, tail)[0])
