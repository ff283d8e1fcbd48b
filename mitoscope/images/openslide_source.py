"""Slides of scanners, and DICOM, as a slide's source: all that openslide reads."""

from math import isfinite
from pathlib import Path

import openslide
from PIL import Image

from mitoscope.images.source import GLASS, PixelError, check_size

BLOCK_PX = 1024  # about the side of a block: some tiles of the file


class OpenSlideSource:
    """A level of a slide; see `mitoscope.images.source.Pyramid`. Where nothing was scanned, it is glass."""

    def __init__(self, path: Path, level: int = 0) -> None:
        self._path, self._level = path, level
        self._slide = _open(path)
        self.width_px, self.height_px = self._slide.level_dimensions[level]
        check_size(self.width_px, self.height_px)
        full_px = self._slide.dimensions
        self._scale = (full_px[0] / self.width_px, full_px[1] / self.height_px)
        tile_px = (self._read_number(f"level[{level}].tile-{side}") for side in ("width", "height"))
        width, height = (int(side) if side and side <= BLOCK_PX else BLOCK_PX for side in tile_px)
        self.block_px = (width * (BLOCK_PX // width), height * (BLOCK_PX // height))
        self.is_grey = False
        size = [self._read_number(f"mpp-{axis}") for axis in "xy"]
        self.mpp = (size[0], size[1]) if size[0] and size[1] else None
        bounds = [self._read_number(f"bounds-{name}") for name in ("x", "y", "width", "height")]
        known = [int(number) for number in bounds if number is not None]
        self.bounds_px = (known[0], known[1], known[2], known[3]) if len(known) == 4 else (0, 0, *full_px)

    def open_levels(self) -> list["OpenSlideSource"]:
        """The smaller levels."""
        return [OpenSlideSource(self._path, level) for level in range(1, self._slide.level_count)]

    def read_block(self, column: int, row: int) -> Image.Image:
        """A box of the level."""
        x, y = column * self.block_px[0], row * self.block_px[1]
        at = (round(x * self._scale[0]), round(y * self._scale[1]))
        try:
            box = self._slide.read_region(at, self._level, self.block_px)
        except openslide.OpenSlideError as error:
            self._slide = _open(self._path)  # after an error openslide reads nothing any more from the same handle
            raise PixelError(f"{error} for the pixels from x {at[0]}, y {at[1]} on") from error
        painted = Image.new("RGB", box.size, GLASS)
        painted.paste(box, mask=box.getchannel("A"))
        return painted

    def _read_number(self, name: str) -> float | None:
        """A property of openslide; None if it is missing or no number."""
        try:
            number = float(self._slide.properties[f"openslide.{name}"])
        except (KeyError, ValueError):
            return None
        return number if isfinite(number) else None


def detect_vendor(path: Path) -> str | None:
    """The format as openslide names it, such as ``"aperio"``; None if openslide does not know it."""
    found: str | None = openslide.OpenSlide.detect_format(path)
    return found


def read_hash(path: Path) -> str | None:
    """What openslide names a slide by, the same for each file of it; raises PixelError if it cannot be opened."""
    with _open(path) as slide:
        found: str | None = slide.properties.get(openslide.PROPERTY_NAME_QUICKHASH1)
        return found


def _open(path: Path) -> openslide.OpenSlide:
    """Open a slide; its pixels are not read."""
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        raise PixelError("a format that openslide does not know", "a slide of a scanner, or DICOM") from None
    except openslide.OpenSlideError as error:
        raise PixelError(str(error), "a whole slide") from error
