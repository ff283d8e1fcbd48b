"""Read MetaImage (.mha): only the header lines that a stack of crops needs, and the pixels; all else is refused.

Why not by ITK: docs/adr/0011. The format: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mitoscope.images import CROP_PX, PAGE_LIMIT

HEADER_BYTES = 65536
BLOCK_BYTES = 1 << 20
SEPARATOR = re.compile(rb"[=:]")
TRUE, FALSE = ("True", "true", "1"), ("False", "false", "0")


class MhaError(ValueError):
    """A faulty file: what was got, and what was expected."""

    def __init__(self, got: str, expected: str = "a whole MetaImage file") -> None:
        super().__init__(got, expected)
        self.got, self.expected = got, expected


def read_mha(path: Path) -> np.ndarray:
    """Read an MHA that holds its own pixels, compressed or not.

    Args:
        path: 128 × 128 px, with or without an axis of 1 to 1,024 pages; 8 bits a channel; 1, 3 or 4 channels.

    Returns:
        uint8 (N, 128, 128, C) in page order.

    Raises:
        MhaError: It holds other pixels, or fewer or more of them than its header says.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        fields = read_header(file)
        n_pages, n_channels = _check_shape(fields)
        n_bytes = n_pages * CROP_PX * CROP_PX * n_channels
        pixels = _read_pixels(file, n_bytes, _flag(fields, "CompressedData", False))
    return np.frombuffer(pixels, np.uint8).reshape(n_pages, CROP_PX, CROP_PX, n_channels)


def read_header(file: BinaryIO) -> dict[str, str]:
    """Read ``Key = Value`` lines up to ElementDataFile, and leave the file at its pixels.

    Raises:
        MhaError: A line is malformed, a key comes twice, or the pixels are in another file.
    """
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(HEADER_BYTES - file.tell())
        separator = SEPARATOR.search(line)
        if not line or (separator is None and b"ElementDataFile" not in line):
            raise MhaError("a header without ElementDataFile", "a MetaImage header")
        at = separator.start() if separator else 0
        key, value = (part.strip(b" \t\r\n").decode("latin-1") for part in (line[:at], line[at + 1 :]))
        if not key:
            raise MhaError(f"the line {line[:80]!r}", "Key = Value in each line of the header")
        if key in fields:
            raise MhaError(f"{key} twice", "each key once")
        fields[key] = value
    if fields["ElementDataFile"] != "LOCAL":
        got = f"pixels in the file {fields['ElementDataFile'][:80]!r}"
        raise MhaError(got, "a MetaImage file that holds its own pixels (ElementDataFile = LOCAL)")
    if fields.get("HeaderSize", "0") not in ("0", "-1") or not _flag(fields, "BinaryData", True):
        raise MhaError("pixels as text or behind a gap", "binary pixels right behind the header")
    return fields


def _check_shape(fields: dict[str, str]) -> tuple[int, int]:
    """The number of pages and of channels, from the header alone."""
    kind, n_channels = fields.get("ElementType"), fields.get("ElementNumberOfChannels", "1")
    if kind not in ("MET_UCHAR", "MET_UCHAR_ARRAY") or n_channels not in ("1", "3", "4"):
        got = f"pixels of type {str(kind)[:40]}, {n_channels[:20]} channels"
        raise MhaError(got, "8-bit unsigned RGB, RGBA or greyscale")
    size = fields.get("DimSize", "").split()
    n_pages = size[2] if len(size) == 3 else "1"
    known = re.fullmatch(r"[1-9]\d{0,3}", n_pages, re.ASCII) and int(n_pages) <= PAGE_LIMIT
    if fields.get("NDims") != str(len(size)) or len(size) not in (2, 3) or size[:2] != [str(CROP_PX)] * 2 or not known:
        got = f"an image of {' x '.join(size)[:60]}, NDims {fields.get('NDims', 'missing')[:20]}"
        raise MhaError(got, f"{CROP_PX} x {CROP_PX} px, or {CROP_PX} x {CROP_PX} x 1 to {PAGE_LIMIT} pages")
    return int(n_pages), int(n_channels)


def _flag(fields: dict[str, str], key: str, default: bool) -> bool:
    """A key that is True or False."""
    value = fields.get(key, str(default))
    if value not in TRUE + FALSE:
        raise MhaError(f"{key} = {value[:40]!r}", "True or False")
    return value in TRUE


def _read_pixels(file: BinaryIO, n_bytes: int, is_compressed: bool) -> bytes:
    """Read all pixels with no more memory than they need, however large a compressed stream becomes."""
    pixels = bytearray()
    try:
        for part in _inflate(file, n_bytes + 1) if is_compressed else [file.read(n_bytes + 1)]:
            pixels += part
    except zlib.error as error:
        raise MhaError(f"damaged compressed pixels ({error})") from error
    if len(pixels) != n_bytes:
        more = " or more" if len(pixels) > n_bytes else ""
        raise MhaError(f"{len(pixels)} bytes of pixels{more}", f"the {n_bytes} of its header")
    return bytes(pixels)


def _inflate(file: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    """A zlib or gzip stream (MetaIO reads both) in parts, at most `n_bytes`; it must end with the file."""
    stream, n_left = zlib.decompressobj(wbits=47), n_bytes
    while n_left and not stream.eof:
        block = stream.unconsumed_tail or file.read(BLOCK_BYTES)
        if not block:
            raise MhaError("compressed pixels without an end")
        part = stream.decompress(block, n_left)
        n_left -= len(part)
        yield part
    if n_left and (stream.unused_data or file.read(1)):
        raise MhaError("bytes behind the compressed pixels")
