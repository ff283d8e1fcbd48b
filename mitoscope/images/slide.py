"""A slide, or a region or field of one: its size, its µm per px, and its pixels at any µm per px.

Pixels are read as they are needed, so that memory does not grow with the image where its file allows that: scanners'
formats, TIFF and uncompressed MHA do; PNG, JPEG and compressed MHA are decoded at once.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, prod
from pathlib import Path

import numpy as np
from PIL import Image

from mitoscope.errors import InputError
from mitoscope.images.mha import MhaSource, read_header, read_origin
from mitoscope.images.picture import PictureSource
from mitoscope.images.source import GLASS, PixelError, Pyramid, Source, measure_file
from mitoscope.images.tiff_source import TiffSource

PLAUSIBLE_MPP = (0.05, 5.0)  # tags of other values, such as 72 dpi, describe a screen
ASSUMED_MPP = 0.25  # a scanner's 40×; those of the challenge have 0.23 to 0.25
SAME_SCALE = 0.01  # pixels whose size differs by less are not resampled
LARGEST_SCALE = 8.0  # between the file's pixels and those that are asked for: more would fill the memory
CACHE_BYTES = 96 << 20  # of decoded blocks
STRIPS_BYTES = 256 << 20  # of blocks as wide as the image: all boxes of a row need the same ones
REACH_PX = 2  # of a bicubic filter, in pixels of the coarser grid
READERS: dict[str, Callable[[Path], Source]] = {
    ".tif": TiffSource,
    ".tiff": TiffSource,
    ".mha": MhaSource,
    ".png": PictureSource,
    ".jpg": PictureSource,
    ".jpeg": PictureSource,
}
OPENSLIDE = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".dcm", ".vms", ".vmu", ".svslide", ".czi")  # read by openslide
PLAIN = (None, "generic-tiff")  # what openslide calls a TIFF of no scanner: read here
LONGEST_PATH = 200  # in a message


@dataclass(frozen=True)
class Mpp:
    """The size of a pixel.

    Attributes:
        x: µm per px from left to right.
        y: µm per px from top to bottom.
        source: ``"tags"`` of the file, ``"given"`` by the user, or ``"assumed"``.
    """

    x: float
    y: float
    source: str


class Slide:
    """An image of tissue. Coordinates are continuous: the first pixel covers [0, 1), x to the right, y down.

    Attributes:
        path: The file.
        width_px: Width at level 0, the file's own pixels.
        height_px: Height at level 0.
        block_px: Width and height of what the file decodes at once.
        bounds_px: Left, top, width and height, at level 0, of what was scanned; QuPath counts pixels from there.
        mpp: The size of a pixel of level 0.
        notes: What a reader of the result must know, one sentence each; usually none.
    """

    def __init__(self, path: Path, source: Source, mpp: Mpp, notes: tuple[str, ...]) -> None:
        self.path, self.mpp, self.notes = path, mpp, notes
        self.width_px, self.height_px, self.block_px = source.width_px, source.height_px, source.block_px
        self.bounds_px = source.bounds_px if isinstance(source, Pyramid) else (0, 0, source.width_px, source.height_px)
        self._source = source
        self._blocks: OrderedDict[tuple[int, int], Image.Image] = OrderedDict()

    def measure_scale(self, mpp: float) -> tuple[float, float]:
        """How many pixels of level 0 a pixel of `mpp` µm spans along x and y; 1 if they are nearly the same.

        Raises:
            InputError: They are too different to be resampled.
        """
        scale = [1.0 if abs(mpp / own - 1) < SAME_SCALE else mpp / own for own in (self.mpp.x, self.mpp.y)]
        if not 1 / LARGEST_SCALE <= min(scale) <= max(scale) <= LARGEST_SCALE:
            raise InputError(
                f"{_name(self.path)} cannot be resampled to {mpp:g} µm per px",
                got=f"{self.mpp.x:.4g} x {self.mpp.y:.4g} µm per px ({self.mpp.source})",
                expected=f"{mpp / LARGEST_SCALE:g} to {mpp * LARGEST_SCALE:g}",
                remedy="scan at another magnification, or correct it with --mpp",
            )
        return scale[0], scale[1]

    def measure(self, mpp: float) -> tuple[int, int]:
        """Width and height in pixels of `mpp` µm, rounded up."""
        scale = self.measure_scale(mpp)
        return ceil(self.width_px / scale[0]), ceil(self.height_px / scale[1])

    def read(self, x: int, y: int, width: int, height: int, mpp: float, interpolation: str = "bicubic") -> np.ndarray:
        """Read a box. A pixel has the same value, to two grey levels, in whichever box it is read.

        Args:
            x: The box's left side, in pixels of `mpp` µm from the image's left side.
            y: Its upper side.
            width: Its width in such pixels.
            height: Its height.
            mpp: µm per px of the result.
            interpolation: ``"bicubic"`` or ``"bilinear"``, with antialiasing.

        Returns:
            uint8 (height, width, 3), RGB in [0, 255]; white outside of the image.

        Raises:
            InputError: The pixels are damaged or missing, or too different in size; see `measure_scale`.
        """
        sx, sy = self.measure_scale(mpp)
        if (sx, sy) == (1, 1):
            return np.asarray(self._paint(x, y, x + width, y + height))
        reach_x, reach_y = (ceil(REACH_PX * max(scale, 1)) + 1 for scale in (sx, sy))
        left, top = floor(x * sx) - reach_x, floor(y * sy) - reach_y
        right, bottom = ceil((x + width) * sx) + reach_x, ceil((y + height) * sy) + reach_y
        box = (x * sx - left, y * sy - top, (x + width) * sx - left, (y + height) * sy - top)
        wide = self._paint(left, top, right, bottom)
        return np.asarray(wide.resize((width, height), Image.Resampling[interpolation.upper()], box))

    def read_level_0(self, left_px: int, top_px: int, width_px: int, height_px: int) -> Image.Image:
        """A box of the file's own pixels as RGB; white outside of the image. Raises InputError as `read`."""
        return self._paint(left_px, top_px, left_px + width_px, top_px + height_px)

    def check_exists(self) -> None:
        """After pixels could not be read: raise InputError if the whole file is gone, and not damaged."""
        if not self.path.exists():
            raise InputError(
                f"{self.path.name} is gone", got="no such file any more", expected="the slide", remedy="run again"
            )

    def list_levels(self, mpp: float) -> list["Slide"]:
        """The versions of the image whose pixels are not larger than `mpp` µm, the smallest one first, itself last."""
        levels = self._source.open_levels() if isinstance(self._source, Pyramid) else ()
        found = []
        for level in reversed(levels):
            size = Mpp(
                self.mpp.x * self.width_px / level.width_px, self.mpp.y * self.height_px / level.height_px, "tags"
            )
            if max(size.x, size.y) <= mpp * (1 + SAME_SCALE):
                found.append(Slide(self.path, level, size, ()))
        return [*found, self]

    def _paint(self, left: int, top: int, right: int, bottom: int) -> Image.Image:
        """A box of level 0 as RGB."""
        canvas = Image.new("RGB", (right - left, bottom - top), GLASS)
        across, down = self._source.block_px
        columns = range(max(left, 0) // across, ceil(min(right, self.width_px) / across))
        for row in range(max(top, 0) // down, ceil(min(bottom, self.height_px) / down)):
            for column in columns:
                x0, y0 = max(left, column * across), max(top, row * down)
                x1, y1 = min(right, (column + 1) * across, self.width_px), min(bottom, (row + 1) * down, self.height_px)
                inside = (x0 - column * across, y0 - row * down, x1 - column * across, y1 - row * down)
                part = self._load(column, row).crop(inside)
                canvas.paste(part if part.mode == "RGB" else part.convert("RGB"), (x0 - left, y0 - top))
        return canvas

    def _load(self, column: int, row: int) -> Image.Image:
        """A block, from the cache if it is there."""
        block = self._blocks.pop((column, row), None)
        most_bytes = STRIPS_BYTES if self.block_px[0] >= self.width_px else CACHE_BYTES
        n_kept = max(1, most_bytes // (4 * prod(self.block_px)))  # Pillow needs 4 bytes a pixel
        while len(self._blocks) >= n_kept:  # before the next one is decoded, whose memory it is
            self._blocks.popitem(last=False)
        if block is None:
            try:
                block = self._source.read_block(column, row)
            except (MemoryError, InputError):
                raise
            except Exception as error:  # on a damaged file Pillow raises OSError, SyntaxError, TypeError and others
                raise _fault(self.path, error) from error
        self._blocks[column, row] = block
        return block


def open_slide(path: str | Path, mpp: float | None = None, *, may_assume: bool = True) -> Slide:
    """Open an image of tissue; only its header is read.

    Args:
        path: TIFF in strips or tiles, PNG, JPEG or MHA, 8 bits a channel; or a scanner's slide or DICOM, which
            openslide reads. Greyscale is repeated to RGB, a palette looked up, an alpha channel dropped without
            blending; orientation tags are ignored.
        mpp: µm per px, if the file's own tags are missing or wrong; else they are taken.
        may_assume: Without both, `ASSUMED_MPP` is assumed and a note says so; otherwise that is an error.

    Raises:
        InputError: The file is missing, empty, damaged, of another format, or has other pixels; `mpp` is out of range,
            or missing.
    """
    path = Path(path)
    if mpp is not None and not PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
        expected = f"{PLAUSIBLE_MPP[0]} to {PLAUSIBLE_MPP[1]} µm per px, such as 0.25"
        raise InputError("--mpp cannot be used", got=f"{mpp:g}", expected=expected, remedy="correct it")
    if path.is_dir() or not path.exists():
        got, remedy = ("a folder", "name its files") if path.is_dir() else ("no such file", "correct the path")
        what = f"{_name(path)} cannot be read as an image of tissue"
        raise InputError(what, got=got, expected="a file", remedy=remedy)
    try:
        source = _find_reader(path)(path)
    except (MemoryError, InputError):
        raise
    except Exception as error:  # as in `Slide._load`
        raise _fault(path, error) from error
    size, notes = _choose_mpp(mpp, source.mpp)
    if size.source == "assumed" and not may_assume:
        got = notes[0].partition(": ")[0]
        expected = f"{PLAUSIBLE_MPP[0]} to {PLAUSIBLE_MPP[1]} µm per px"
        remedy = "name the right one with --mpp, such as --mpp 0.25"
        raise InputError(f"{_name(path)} has no usable µm per px", got=got, expected=expected, remedy=remedy)
    if source.is_grey:
        notes += ("it is greyscale: the networks were trained on H&E in colour",)
    return Slide(path, source, size, notes)


def read_quickhash(path: Path) -> str | None:
    """What openslide names a scanner's slide by: the same for every file of a DICOM series, and for a copy.

    Returns:
        None for other images, and for a file that openslide cannot open: `open_slide` raises the reason.
    """
    if path.suffix.lower() not in OPENSLIDE:
        return None
    try:
        from mitoscope.images.openslide_source import read_hash

        return read_hash(path)
    except (ImportError, OSError, ValueError):
        return None


def read_origin_mm(path: Path) -> tuple[float, float]:
    """Where the centre of an image's first pixel lies, as ITK reads it: (0, 0), but for an MHA with an offset.

    Raises:
        InputError: An MHA is turned.
    """
    if path.suffix.lower() != ".mha":
        return 0.0, 0.0
    try:
        with path.open("rb") as file:
            return read_origin(read_header(file))
    except (PixelError, OSError) as error:
        raise _fault(path, error) from error


def _find_reader(path: Path) -> Callable[[Path], Source]:
    """What reads a file: by its name, and a scanner's TIFF by what it holds."""
    kind = path.suffix.lower()
    if kind not in READERS and kind not in OPENSLIDE:
        raise PixelError(f"a file of type {path.suffix!r}", f"one of {', '.join((*READERS, *OPENSLIDE))}")
    measure_file(path)
    try:  # here: the container does without openslide
        from mitoscope.images.openslide_source import OpenSlideSource, detect_vendor
    except ImportError as error:
        if kind in READERS:
            return READERS[kind]
        raise InputError(
            f"{_name(path)} is a scanner's slide",
            got=f"no openslide ({error})",
            expected="openslide-python and openslide-bin",
            remedy="run pip install 'mitoscope[slides]'",
        ) from error
    is_plain = kind in READERS and (kind not in (".tif", ".tiff") or detect_vendor(path) in PLAIN)
    return READERS[kind] if is_plain else OpenSlideSource


def _choose_mpp(given: float | None, tags: tuple[float, float] | None) -> tuple[Mpp, tuple[str, ...]]:
    """The size of a pixel, and a note if it is assumed, or if tags say otherwise."""
    found = f"its tags give {tags[0]:.4g} x {tags[1]:.4g} µm per px" if tags else "it has no resolution tags"
    plausible = tags if tags and all(PLAUSIBLE_MPP[0] <= each <= PLAUSIBLE_MPP[1] for each in tags) else None
    if given is not None:
        is_other = plausible is not None and any(abs(given / each - 1) >= SAME_SCALE for each in plausible)
        return Mpp(given, given, "given"), (f"{found}: --mpp {given:g} is taken",) if is_other else ()
    if plausible:
        return Mpp(*plausible, "tags"), ()
    note = f"{found}: {ASSUMED_MPP} µm per px is assumed; name the right one with --mpp"
    return Mpp(ASSUMED_MPP, ASSUMED_MPP, "assumed"), (note,)


def _name(path: Path) -> str:
    """A path in a message."""
    return repr(str(path)[-LONGEST_PATH:])


def _fault(path: Path, error: Exception) -> InputError:
    """The error for a file that cannot be read."""
    if isinstance(error, PixelError):
        got, expected = error.got, error.expected
    else:
        got, expected = f"{type(error).__name__}: {error}", "a whole image"
    return InputError(
        f"{_name(path)} cannot be read as an image of tissue",
        got=got[:300],
        expected=expected,
        remedy="write it as 8-bit RGB: TIFF (best in tiles), PNG, JPEG or MHA",
    )
