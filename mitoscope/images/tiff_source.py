"""TIFF as a slide's source: strips and tiles are decoded when they are needed.

Pillow decodes a whole page at once. So each block is given to it as a small TIFF of its own, with the page's
compression and colours: every codec of Pillow's libtiff is read, and no more of the file than is asked for.
"""

import io
import struct
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL import TiffImagePlugin as tiff

from mitoscope.images.source import (
    DAMAGE,
    GLASS,
    JPEG,
    PixelError,
    check_block,
    check_jpeg_end,
    check_size,
    check_tiff_samples,
    measure_file,
)
from mitoscope.images.tiff import check_directories

COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "Deflate", 32773: "PackBits", 32946: "Deflate", 34925: "LZMA",
                50000: "ZSTD"}  # fmt: skip
JPEG_TABLES, YCBCR_SUBSAMPLING, YCBCR, NEW_SUBFILE_TYPE = 347, 530, 6, 254
KEPT = (tiff.BITSPERSAMPLE, tiff.COMPRESSION, tiff.PHOTOMETRIC_INTERPRETATION, tiff.FILLORDER, tiff.SAMPLESPERPIXEL,
        tiff.PLANAR_CONFIGURATION, tiff.PREDICTOR, tiff.COLORMAP, tiff.EXTRASAMPLES, tiff.SAMPLEFORMAT, JPEG_TABLES,
        YCBCR_SUBSAMPLING)  # fmt: skip
UM_PER_UNIT = {2: 25_400.0, 3: 10_000.0}  # inch, centimetre
BAND_ROWS = 64  # strips of fewer rows are decoded together, an uncompressed page in bands of so many
BLOCK_BYTES = 400 << 20  # as stored
LEVEL_SLACK_PX = 2  # by which a level of a pyramid may differ in height from that of its width
MOST_LEVELS = 32
MOST_VALUES = 1 << 20  # of one tag: 256 px tiles of 60 gigapixels
Tags = Mapping[int, Any]


class TiffSource:
    """A page of a TIFF; see `mitoscope.images.source.Pyramid`. Smaller pages behind the first one are a pyramid's."""

    def __init__(self, path: Path, page: int = 0) -> None:
        self._path, self._page = path, page
        measure_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=DAMAGE)
            check_directories(path, MOST_VALUES)
            pages = _read_directories(path)
        tags = pages[page]
        self.width_px, self.height_px = _read_size(tags)
        self.bounds_px = (0, 0, self.width_px, self.height_px)
        if page == 0 and len(pages) > 1 and prod(_read_size(pages[1])) >= self.width_px * self.height_px:
            raise PixelError("a stack of pages", "one image; other pages only if they are smaller, as in a pyramid")
        self._n_pages = len(pages)
        self._tags = {tag: tags[tag] for tag in KEPT if tag in tags}
        self._compression = tags.get(tiff.COMPRESSION, 1)
        photometric = tags.get(tiff.PHOTOMETRIC_INTERPRETATION, 0)
        if self._compression not in COMPRESSIONS or (photometric == YCBCR and self._compression != JPEG):
            got = f"compression {self._compression}, photometric interpretation {photometric}"
            raise PixelError(got, f"compression {', '.join(dict.fromkeys(COMPRESSIONS.values()))}; YCbCr in JPEG only")
        self.is_grey = photometric in (0, 1)
        self.is_reduced = bool(tags.get(NEW_SUBFILE_TYPE, 0) & 1)
        self.mpp = _read_mpp(tags)
        self._place_blocks(tags)
        check_block(self.block_px)

    def open_levels(self) -> list["TiffSource"]:
        """The pages that say they are the same image smaller (NewSubfileType, bit 0), and have its proportions."""
        levels: list[TiffSource] = []
        for page in range(1, min(self._n_pages, MOST_LEVELS)):
            with suppress(PixelError, ValueError):
                level = TiffSource(self._path, page)
                height = self.height_px * level.width_px / self.width_px
                is_smaller = level.is_reduced and level.width_px < self.width_px
                if is_smaller and abs(level.height_px - height) <= LEVEL_SLACK_PX:
                    levels.append(level)
        return sorted(levels, key=lambda level: -level.width_px)

    def read_block(self, column: int, row: int) -> Image.Image:
        """Some strips, or a tile; one that a sparse file does not store is glass."""
        first = row * self._group
        rows = slice(first, first + self._group)
        offsets, counts = (each[:, rows, column].ravel().tolist() for each in (self._offsets, self._counts))
        if self._is_tiled and not any(offsets) and not any(counts):
            return Image.new("RGB", self.block_px, GLASS)
        if sum(counts) > BLOCK_BYTES:
            raise PixelError(f"a block of {sum(counts):,} bytes", f"at most {BLOCK_BYTES:,}")
        parts = []
        with self._path.open("rb") as file:
            for offset, count in zip(offsets, counts, strict=True):
                file.seek(offset)
                parts.append(file.read(count))
                if count == 0 or len(parts[-1]) != count:
                    x, y = column * self.block_px[0], row * self.block_px[1]
                    got = f"{len(parts[-1]):,} bytes for the pixels from x {x}, y {y} on"
                    raise PixelError(got, f"{count:,}" if count else "compressed pixels")
                if self._compression == JPEG:
                    check_jpeg_end(parts[-1])
        height = self.block_px[1] if self._is_tiled else min(self.block_px[1], self.height_px - row * self.block_px[1])
        small = _encode(self._tags, self.block_px[0], height, self._strip_rows, parts)
        del parts  # a block may hold as many bytes as its pixels
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size is checked
            with tiff.TiffImageFile(io.BytesIO(small)) as image:
                check_tiff_samples(image)
                image.load()
        return image

    def _place_blocks(self, tags: Tags) -> None:
        """Where each block lies in the file: `_offsets` and `_counts`, int64 (planes, rows, columns)."""
        width, height = self.width_px, self.height_px
        samples = tags.get(tiff.SAMPLESPERPIXEL, 1)
        planes = samples if tags.get(tiff.PLANAR_CONFIGURATION, 1) == 2 else 1
        self._is_tiled = tiff.TILEWIDTH in tags
        names = (tiff.TILEOFFSETS, tiff.TILEBYTECOUNTS) if self._is_tiled else (tiff.STRIPOFFSETS, tiff.STRIPBYTECOUNTS)
        offsets, counts = (np.array(tags.get(name, ()), np.int64).reshape(-1) for name in names)
        if self._is_tiled:
            block_width, rows = tags[tiff.TILEWIDTH], tags[tiff.TILELENGTH]
        else:
            block_width, rows = width, min(tags.get(tiff.ROWSPERSTRIP, height), height)
        shape = (planes, -(-height // rows), -(-width // block_width))
        if not len(offsets) == len(counts) == np.prod(shape):
            raise PixelError(f"{len(offsets)} strips or tiles", f"{np.prod(shape)} for {width} x {height} px")
        row_bytes = width * samples // planes
        if self._compression == 1 and not self._is_tiled and shape[1] == 1 and rows > BAND_ROWS:
            if (counts < height * row_bytes).any():
                raise PixelError(f"{counts.min():,} bytes of pixels", f"{height * row_bytes:,}")
            tops = np.arange(0, height, BAND_ROWS)
            offsets = offsets[:, None] + tops * row_bytes
            counts = np.broadcast_to(np.minimum(BAND_ROWS, height - tops) * row_bytes, offsets.shape)
            rows, shape = BAND_ROWS, (planes, len(tops), 1)
        self._offsets, self._counts = offsets.reshape(shape), counts.reshape(shape)
        self._strip_rows = rows
        self._group = 1 if self._is_tiled else max(BAND_ROWS // rows, 1)
        self.block_px = (block_width, rows * self._group)


def _read_directories(path: Path) -> list[Tags]:
    """The tags of each page."""
    pages: list[Tags] = []
    with path.open("rb") as file:
        head = file.read(8)
        head += file.read(8) if head[2] == 43 else b""  # BigTIFF
        at = tiff.ImageFileDirectory_v2(head).next
        while at or not pages:
            page = tiff.ImageFileDirectory_v2(head)
            file.seek(at)
            page.load(file)
            pages.append(page)
            at = page.next
    return pages


def _read_size(tags: Tags) -> tuple[int, int]:
    """Width and height in pixels."""
    size = tags.get(tiff.IMAGEWIDTH), tags.get(tiff.IMAGELENGTH)
    check_size(*size)
    return size  # type: ignore[return-value]  # checked


def _read_mpp(tags: Tags) -> tuple[float, float] | None:
    """µm per px along x and y, from the resolution tags."""
    unit = UM_PER_UNIT.get(tags.get(tiff.RESOLUTION_UNIT, 2))
    dots = [float(tags.get(tag, 0)) for tag in (tiff.X_RESOLUTION, tiff.Y_RESOLUTION)]
    return (unit / dots[0], unit / dots[1]) if unit and all(isfinite(each) and each > 0 for each in dots) else None


def _encode(tags: Tags, width: int, height: int, strip_rows: int, parts: Sequence[bytes]) -> bytes:
    """A TIFF of one page, from strips as they are stored."""
    ends = np.cumsum([8, *map(len, parts)]).tolist()
    lengths = [len(part) for part in parts]
    own = {tiff.IMAGEWIDTH: width, tiff.IMAGELENGTH: height, tiff.ROWSPERSTRIP: strip_rows,
           tiff.STRIPOFFSETS: tuple(ends[:-1]), tiff.STRIPBYTECOUNTS: tuple(lengths)}  # fmt: skip
    values = {**tags, **own}
    start = ends[-1] + ends[-1] % 2
    entries, behind = b"", b""
    for tag in sorted(values):
        value = values[tag]
        is_bytes = isinstance(value, bytes)
        numbers = value if isinstance(value, tuple) else (value,)
        content = value if is_bytes else struct.pack(f"<{len(numbers)}I", *numbers)
        at = start + 2 + 12 * len(values) + 4 + len(behind)
        stored = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack("<I", at)
        entries += struct.pack("<HHI", tag, 7 if is_bytes else 4, len(content if is_bytes else numbers)) + stored
        behind += content + b"\0" * (len(content) % 2) if len(content) > 4 else b""
    directory = struct.pack("<H", len(values)) + entries + bytes(4) + behind
    return b"".join([struct.pack("<2sHI", b"II", 42, start), *parts, bytes(start - ends[-1]), directory])
