"""What reads the pixels of a slide's file: blocks, each decoded when it is needed. One class a format."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLEFORMAT, TiffImageFile

# Modes that Pillow converts to RGB in only one way: greyscale is repeated three times, a palette is looked up, an alpha
# channel is dropped (the colours stay as stored; nothing is blended).
PILLOW_MODES = ("RGB", "RGBA", "RGBX", "L", "LA", "P", "PA")
JPEG = 7  # a TIFF's compression
JPEG_END = b"\xff\xd9"
# Warnings after which Pillow returns damaged pixels; after its other warnings the pixels are whole.
DAMAGE = r"(?i).*(corrupt|truncated|larger than file|offset too large)"
GLASS = (255, 255, 255)  # outside of the image, and where nothing was scanned
SIDE_LIMIT = 1 << 20  # px
BLOCK_PIXELS = 100_000_000  # of one block, 4 bytes each; a challenge's region has 35 million
PICTURE_BYTES = 400 << 20  # of a file that is one block


class PixelError(ValueError):
    """A faulty file: what was got, and what was expected."""

    def __init__(self, got: str, expected: str = "a whole file") -> None:
        super().__init__(got, expected)
        self.got, self.expected = got, expected


class Source(Protocol):
    """The pixels of one file.

    Attributes:
        width_px: Width of the image.
        height_px: Height of the image.
        block_px: Width and height of a block; the blocks at the right and at the bottom may be smaller or reach beyond.
        is_grey: Whether it has no colours.
        mpp: µm per px along x and y as the file's tags give it, plausible or not; None without such tags.
    """

    width_px: int
    height_px: int
    block_px: tuple[int, int]
    is_grey: bool
    mpp: tuple[float, float] | None

    def read_block(self, column: int, row: int) -> Image.Image:
        """Decode a block, in any of `PILLOW_MODES`; counted from 0. Raises any exception where the file is damaged."""


class ArraySource:
    """Pixels in memory, uint8 (H, W, 3), as one block."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.height_px, self.width_px = pixels.shape[:2]
        self.block_px, self.is_grey = (self.width_px, self.height_px), False
        self.mpp: tuple[float, float] | None = None
        self._pixels = pixels

    def read_block(self, _column: int, _row: int) -> Image.Image:
        """All of them."""
        return Image.fromarray(np.ascontiguousarray(self._pixels))


@runtime_checkable
class Pyramid(Source, Protocol):
    """A source with smaller versions of the image.

    Attributes:
        bounds_px: Left, top, width and height of what was scanned; other pixels are empty.
    """

    bounds_px: tuple[int, int, int, int]

    def open_levels(self) -> Sequence[Source]:
        """The smaller versions, the largest first. Each shows the whole image."""


def measure_file(path: Path) -> int:
    """The size of a file in bytes.

    Raises:
        PixelError: There is no such file, it is empty, or it is a folder, a pipe or a device.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise PixelError(str(error), "a readable file") from error
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would block
        raise PixelError("a folder, a pipe or a device", "a file")
    if found.st_size == 0:
        raise PixelError("a file of zero bytes", "an image")
    return found.st_size


def check_size(width: object, height: object) -> None:
    """Refuse an image without pixels, and one that is too wide or high."""
    if not all(isinstance(side, int) and 1 <= side <= SIDE_LIMIT for side in (width, height)):
        raise PixelError(f"an image of {str(width)[:40]} x {str(height)[:40]} px", f"1 to {SIDE_LIMIT:,} px a side")


def check_block(block_px: tuple[int, int]) -> None:
    """Refuse blocks that would fill the memory."""
    if block_px[0] * block_px[1] > BLOCK_PIXELS:
        got = f"{block_px[0]:,} x {block_px[1]:,} px that can only be decoded at once"
        raise PixelError(got, f"at most {BLOCK_PIXELS:,} px, or a TIFF in tiles")


def check_jpeg_end(stored: bytes) -> None:
    """Refuse a strip or a tile of JPEG that breaks off: libtiff fills what is missing with one colour, and only warns.

    The marker of the end cannot occur among the pixels; what writers put behind it does no harm.
    """
    if JPEG_END not in stored:
        raise PixelError("JPEG data that break off")


def check_tiff_samples(image: TiffImageFile) -> None:
    """Refuse other than 8-bit samples. Pillow's mode alone would hide 16-bit RGB, which it cuts to 8."""
    bits = image.tag_v2.get(BITSPERSAMPLE, (1,))
    formats = image.tag_v2.get(SAMPLEFORMAT, (1,))  # 1 is unsigned, 2 signed, 3 float
    if set(bits) != {8} or set(formats) != {1} or image.mode not in PILLOW_MODES:
        kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(formats[0], "unknown")
        got = f"{max(bits)}-bit {kind} samples, mode {image.mode}"
        raise PixelError(got, "8-bit unsigned RGB, RGBA or greyscale")


def check_picture(image: PngImageFile | JpegImageFile) -> None:
    """Refuse several frames, and samples that Pillow would cut to 8 bits."""
    if getattr(image, "n_frames", 1) != 1:
        raise PixelError("an animation", "one picture")
    raw_mode = str(image.tile[0].args)
    if image.mode not in PILLOW_MODES or ";16" in raw_mode:
        raise PixelError(f"mode {image.mode}, stored as {raw_mode}", "8-bit RGB, RGBA or greyscale")
