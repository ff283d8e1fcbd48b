"""Read MetaImage (.mha): only the header lines that a stack of crops or a region needs, and the pixels.

Why not by ITK: docs/adr/0011. The format: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import re
import zlib
from collections.abc import Iterator
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from mitoscope.images import CROP_PX, PAGE_LIMIT
from mitoscope.images.source import PixelError, check_block, check_size, measure_file

HEADER_BYTES = 65536
BLOCK_BYTES = 1 << 20
WHOLE = re.compile(r"[1-9]\d{0,6}", re.ASCII)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels
BAND_ROWS = 64  # of a block
UM_PER_MM = 1_000.0
ORIGINS = ("Offset", "Position", "Origin")  # ITK's names for one thing
ROTATIONS = ("TransformMatrix", "Rotation", "Orientation")
SEPARATOR = re.compile(rb"[=:]")
TRUE, FALSE = ("True", "true", "1"), ("False", "false", "0")


def read_mha(path: Path) -> np.ndarray:
    """Read an MHA that holds its own pixels, compressed or not.

    Args:
        path: 128 × 128 px, with or without an axis of 1 to 1,024 pages; 8 bits a channel; 1, 3 or 4 channels.

    Returns:
        uint8 (N, 128, 128, C) in page order.

    Raises:
        PixelError: It holds other pixels, or fewer or more of them than its header says.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        fields = read_header(file)
        n_pages, n_channels = _check_stack(fields)
        n_bytes = n_pages * CROP_PX * CROP_PX * n_channels
        pixels = _read_pixels(file, n_bytes, _flag(fields, "CompressedData", False))
    return np.frombuffer(pixels, np.uint8).reshape(n_pages, CROP_PX, CROP_PX, n_channels)


class MhaSource:
    """One image as a slide's source; see `mitoscope.images.source.Source`. Compressed pixels are read at once."""

    def __init__(self, path: Path) -> None:
        measure_file(path)
        self._path = path
        with path.open("rb") as file:
            fields = read_header(file)
            self.width_px, self.height_px, channels = _check_plane(fields)
            self._is_compressed = _flag(fields, "CompressedData", False)
            self.block_px = (self.width_px, BAND_ROWS)
            check_size(self.width_px, self.height_px)
            check_block(self.block_px)
            self._mode, self._row_bytes = MODES[channels], self.width_px * channels
            self._start, n_bytes = file.tell(), self._row_bytes * self.height_px
            if self._is_compressed:
                check_block((self.width_px, self.height_px))
            elif (found := file.seek(0, 2) - self._start) != n_bytes:
                raise PixelError(f"{found:,} bytes of pixels", f"the {n_bytes:,} of its header")
        self.is_grey = channels == 1
        self.mpp = _read_mpp(fields)

    def read_block(self, column: int, row: int) -> Image.Image:
        """A band of rows."""
        n_rows = min(BAND_ROWS, self.height_px - row * BAND_ROWS)
        at, n_bytes = row * BAND_ROWS * self._row_bytes, n_rows * self._row_bytes
        if self._is_compressed:
            content = bytes(self._inflated[at : at + n_bytes])
        else:
            with self._path.open("rb") as file:
                file.seek(self._start + at)
                content = file.read(n_bytes)
        return Image.frombytes(self._mode, (self.width_px, n_rows), content)

    @cached_property
    def _inflated(self) -> bytearray:
        """All pixels."""
        with self._path.open("rb") as file:
            file.seek(self._start)
            return _read_pixels(file, self._row_bytes * self.height_px, True)


def _read_mpp(fields: dict[str, str]) -> tuple[float, float] | None:
    """µm per px from the spacing in mm; a spacing of 1 stands for none."""
    try:
        x_mm, y_mm = (float(each) for each in fields.get("ElementSpacing", "1 1").split()[:2])
    except ValueError:
        return None
    return None if x_mm == y_mm == 1 else (x_mm * UM_PER_MM, y_mm * UM_PER_MM)


def read_origin(fields: dict[str, str]) -> tuple[float, float]:
    """Where the centre of the first pixel lies, x and y in mm.

    Raises:
        PixelError: It is no number, or the image is turned.
    """
    n_axes = len(fields.get("DimSize", "").split())
    identity = [float(row == column) for row in range(n_axes) for column in range(n_axes)]
    for key, expected in [(key, identity) for key in ROTATIONS] + [(key, None) for key in ORIGINS]:
        if key in fields:
            try:
                values = [float(each) for each in fields[key].split()]
            except ValueError:
                values = []
            good = values == expected if expected else len(values) == n_axes and all(map(isfinite, values))
            if not good:
                raise PixelError(f"{key} = {fields[key][:60]}", f"{expected or f'{n_axes} numbers'}")
    x_mm, y_mm = next((fields[key].split()[:2] for key in ORIGINS if key in fields), ("0", "0"))
    return float(x_mm), float(y_mm)


def read_header(file: BinaryIO) -> dict[str, str]:
    """Read ``Key = Value`` lines up to ElementDataFile, and leave the file at its pixels.

    Raises:
        PixelError: A line is malformed, a key comes twice, or the pixels are in another file.
    """
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(HEADER_BYTES - file.tell())
        separator = SEPARATOR.search(line)
        if not line or (separator is None and b"ElementDataFile" not in line):
            raise PixelError("a header without ElementDataFile", "a MetaImage header")
        at = separator.start() if separator else 0
        key, value = (part.strip(b" \t\r\n").decode("latin-1") for part in (line[:at], line[at + 1 :]))
        if not key:
            raise PixelError(f"the line {line[:80]!r}", "Key = Value in each line of the header")
        if key in fields:
            raise PixelError(f"{key} twice", "each key once")
        fields[key] = value
    if fields["ElementDataFile"] != "LOCAL":
        got = f"pixels in the file {fields['ElementDataFile'][:80]!r}"
        raise PixelError(got, "a MetaImage file that holds its own pixels (ElementDataFile = LOCAL)")
    if fields.get("HeaderSize", "0") not in ("0", "-1") or not _flag(fields, "BinaryData", True):
        raise PixelError("pixels as text or behind a gap", "binary pixels right behind the header")
    return fields


def _check_stack(fields: dict[str, str]) -> tuple[int, int]:
    """The number of pages and of channels of a stack of crops."""
    n_channels = _check_type(fields)
    size = fields.get("DimSize", "").split()
    n_pages = size[2] if len(size) == 3 else "1"
    known = WHOLE.fullmatch(n_pages) and int(n_pages) <= PAGE_LIMIT
    if fields.get("NDims") != str(len(size)) or len(size) not in (2, 3) or size[:2] != [str(CROP_PX)] * 2 or not known:
        raise _wrong_size(fields, f"{CROP_PX} x {CROP_PX} px, or {CROP_PX} x {CROP_PX} x 1 to {PAGE_LIMIT} pages")
    return int(n_pages), n_channels


def _check_plane(fields: dict[str, str]) -> tuple[int, int, int]:
    """Width, height and number of channels of one image."""
    n_channels = _check_type(fields)
    size = fields.get("DimSize", "").split()
    if fields.get("NDims") != str(len(size)) or not all(map(WHOLE.fullmatch, size)) or size[2:] not in ([], ["1"]):
        raise _wrong_size(fields, "one image: width x height, or width x height x 1")
    width, height = (int(side) for side in size[:2])
    return width, height, n_channels


def _check_type(fields: dict[str, str]) -> int:
    """The number of channels of a pixel."""
    kind, n_channels = fields.get("ElementType"), fields.get("ElementNumberOfChannels", "1")
    if kind not in ("MET_UCHAR", "MET_UCHAR_ARRAY") or n_channels not in ("1", "3", "4"):
        got = f"pixels of type {str(kind)[:40]}, {n_channels[:20]} channels"
        raise PixelError(got, "8-bit unsigned RGB, RGBA or greyscale")
    return int(n_channels)


def _wrong_size(fields: dict[str, str], expected: str) -> PixelError:
    """The error for another size than the reader needs."""
    size = " x ".join(fields.get("DimSize", "").split())[:60]
    return PixelError(f"an image of {size}, NDims {fields.get('NDims', 'missing')[:20]}", expected)


def _flag(fields: dict[str, str], key: str, default: bool) -> bool:
    """A key that is True or False."""
    value = fields.get(key, str(default))
    if value not in TRUE + FALSE:
        raise PixelError(f"{key} = {value[:40]!r}", "True or False")
    return value in TRUE


def _read_pixels(file: BinaryIO, n_bytes: int, is_compressed: bool) -> bytearray:
    """Read all pixels with no more memory than they need, however large a compressed stream becomes."""
    pixels = bytearray()
    try:
        for part in _inflate(file, n_bytes + 1) if is_compressed else [file.read(n_bytes + 1)]:
            pixels += part
    except zlib.error as error:
        raise PixelError(f"damaged compressed pixels ({error})") from error
    if len(pixels) != n_bytes:
        more = " or more" if len(pixels) > n_bytes else ""
        raise PixelError(f"{len(pixels)} bytes of pixels{more}", f"the {n_bytes} of its header")
    return pixels


def _inflate(file: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    """A zlib or gzip stream (MetaIO reads both) in parts, at most `n_bytes`; it must end with the file."""
    stream, n_left = zlib.decompressobj(wbits=47), n_bytes
    while n_left and not stream.eof:
        block = stream.unconsumed_tail or file.read(BLOCK_BYTES)
        if not block:
            raise PixelError("compressed pixels without an end")
        part = stream.decompress(block, n_left)
        n_left -= len(part)
        yield part
    if n_left and (stream.unused_data or file.read(1)):
        raise PixelError("bytes behind the compressed pixels")
