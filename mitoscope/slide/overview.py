"""A whole slide at a low resolution: for the mask of its tissue, and for its page."""

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from PIL import Image

from mitoscope.errors import InputError
from mitoscope.images.slide import Slide
from mitoscope.images.source import GLASS

MASK_MPP = 8.0  # µm per px of the mask of the tissue
SIDE_PX = 2000  # of the overview of a small slide, at most
MOST_PX = 100_000_000  # of any overview
BAND_PX = 16_000_000  # of the file, read at once


@dataclass(frozen=True)
class Overview:
    """A whole slide at a low resolution.

    Attributes:
        pixels: uint8 (H, W, 3), RGB; white outside of the slide and where it is damaged.
        damaged: bool (H, W), where pixels of the file could not be read.
        mpp: µm per px.
    """

    pixels: np.ndarray
    damaged: np.ndarray
    mpp: float

    @property
    def damaged_mm2(self) -> float:
        """The area that could not be read."""
        return int(self.damaged.sum()) * self.mpp**2 / 1e6


def measure_um(slide: Slide) -> tuple[float, float]:
    """Width and height of a slide in µm."""
    return slide.width_px * slide.mpp.x, slide.height_px * slide.mpp.y


def measure_mask(slide: Slide) -> tuple[int, int]:
    """Height and width of a slide's mask, in pixels of `MASK_MPP`."""
    width_um, height_um = measure_um(slide)
    return ceil(height_um / MASK_MPP), ceil(width_um / MASK_MPP)


def read_overview(slide: Slide) -> Overview:
    """Read the overview of which the mask is made, and that the page shows.

    Returns:
        (zoom * H, zoom * W) pixels for a mask of (H, W): a large slide at `MASK_MPP`, a smaller one finer by a whole
        number, up to `SIDE_PX` along its longer side, but not finer than level 0.

    Raises:
        InputError: Nothing of the slide can be read, or it is too large.
    """
    own_mpp, shape = max(slide.mpp.x, slide.mpp.y), measure_mask(slide)
    if shape[0] * shape[1] > MOST_PX:
        raise InputError(
            f"{slide.path.name} is too large",
            got=f"{slide.width_px:,} x {slide.height_px:,} px of {own_mpp:g} µm",
            expected=f"at most {MOST_PX * MASK_MPP**2 / 1e6:,.0f} mm²",
            remedy="correct its µm per px with --mpp if it is wrong",
        )
    zoom = max(1, min(SIDE_PX // max(shape), floor(MASK_MPP / own_mpp)))
    read = read_small(slide, MASK_MPP / zoom)
    if zoom > 1 and read.damaged.any():  # a smaller level may be whole
        zoom, read = 1, read_small(slide, MASK_MPP)
    height, width = zoom * shape[0], zoom * shape[1]
    rows, columns = (side - min(side, have) for side, have in zip((height, width), read.pixels.shape[:2], strict=True))
    around = ((0, rows), (0, columns))  # a rounded µm per px may give one pixel less, or one more
    return Overview(
        np.pad(read.pixels[:height, :width], (*around, (0, 0)), constant_values=255),
        np.pad(read.damaged[:height, :width], around),
        read.mpp,
    )


def read_small(slide: Slide, mpp: float) -> Overview:
    """Read the whole slide from the smallest of its levels that has a resolution, and that is not damaged.

    Args:
        slide: The slide.
        mpp: µm per px of the result, at least that of the slide. Pixel (i, j) shows [i, i + 1) * mpp µm along y and
            [j, j + 1) * mpp µm along x; the last ones may reach beyond the slide. Pixels are means of the level's.

    Raises:
        InputError: Nothing of the slide can be read.
    """
    *levels, own = slide.list_levels(mpp)
    for level in levels:
        try:
            read = _read_level(slide, level, mpp)
        except InputError:
            continue
        if not read.damaged.any():
            return read
    return _read_level(slide, own, mpp)


def _read_level(slide: Slide, level: Slide, mpp: float) -> Overview:
    """See `read_small`."""
    width, height = ceil(slide.width_px * slide.mpp.x / mpp), ceil(slide.height_px * slide.mpp.y / mpp)
    sx, sy = (mpp / size * own / full for size, own, full in (
        (slide.mpp.x, level.width_px, slide.width_px), (slide.mpp.y, level.height_px, slide.height_px)))  # fmt: skip
    rows = max(1, floor(BAND_PX / (width * sx * sy)))
    pixels, damaged, n_read = np.empty((height, width, 3), np.uint8), np.zeros((height, width), bool), 0
    faults: list[InputError] = []
    for row in range(0, height, rows):
        n_rows = min(rows, height - row)
        top, bottom, right = floor(row * sy), ceil((row + n_rows) * sy), ceil(width * sx)
        box = (0, row * sy - top, width * sx, (row + n_rows) * sy - top)
        try:
            band = level.read_level_0(0, top, right, bottom - top)
            n_read += 1
        except InputError as error:
            faults.append(error)
            band, lost, n_blocks = _read_blocks(level, top, right, bottom)
            n_read += n_blocks
            for x0, y0, x1, y1 in lost:
                damaged[floor(y0 / sy) : ceil(y1 / sy), floor(x0 / sx) : ceil(x1 / sx)] = True
        pixels[row : row + n_rows] = np.asarray(band.resize((width, n_rows), Image.Resampling.BOX, box))
    if not n_read:
        raise faults[0]
    return Overview(pixels, damaged, mpp)


def _read_blocks(
    level: Slide, top: int, right: int, bottom: int
) -> tuple[Image.Image, list[tuple[int, int, int, int]], int]:
    """Rows of a damaged level: what can be read of them, the boxes that cannot, and how many blocks could."""
    band, lost, n_read = Image.new("RGB", (right, bottom - top), GLASS), [], 0
    across, down = level.block_px
    for y0 in range(top // down * down, min(bottom, level.height_px), down):
        for x0 in range(0, min(right, level.width_px), across):
            x1, upper, y1 = min(x0 + across, right), max(y0, top), min(y0 + down, bottom)
            try:
                band.paste(level.read_level_0(x0, upper, x1 - x0, y1 - upper), (x0, upper - top))
                n_read += 1
            except InputError:
                lost.append((x0, upper, x1, y1))
    return band, lost, n_read
