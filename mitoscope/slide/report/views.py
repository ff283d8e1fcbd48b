"""The pictures of a slide's page: the overview with outlines, the density of figures, and a window of the slide."""

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion
from scipy.signal import fftconvolve

from mitoscope.errors import InputError
from mitoscope.images.slide import Slide
from mitoscope.slide.hotspot import AREA_MM2, RADIUS_UM, Rectangle
from mitoscope.slide.overview import Overview
from mitoscope.slide.tissue import Tissue

BLOCK_PX = 1024
DAMAGED_COLOUR = (128, 128, 128)  # RGB
TISSUE_COLOUR, HOTSPOT_COLOUR = (40, 150, 60), (235, 175, 0)  # RGB
DENSITY_COLOURS = np.array([[255, 245, 200], [245, 140, 40], [150, 20, 90]], float)  # from few to many figures
CELL_UM = 64.0  # of the density's grid


class ArraySource:
    """Pixels in memory as a slide's source; see `mitoscope.images.source.Source`."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.height_px, self.width_px = pixels.shape[:2]
        self.block_px, self.is_grey = (BLOCK_PX, BLOCK_PX), False
        self.mpp: tuple[float, float] | None = None
        self._pixels = pixels

    def read_block(self, column: int, row: int) -> Image.Image:
        """A part of the pixels."""
        top, left = row * BLOCK_PX, column * BLOCK_PX
        return Image.fromarray(np.ascontiguousarray(self._pixels[top : top + BLOCK_PX, left : left + BLOCK_PX]))


class WindowSource:
    """A part of a slide as a source of its own; see `mitoscope.images.source.Source`."""

    def __init__(self, slide: Slide, left_px: int, top_px: int, width_px: int, height_px: int) -> None:
        self.left_px, self.top_px, self.width_px, self.height_px = left_px, top_px, width_px, height_px
        self.block_px, self.is_grey = (BLOCK_PX, BLOCK_PX), False
        self.mpp: tuple[float, float] | None = None
        self._slide = slide

    @classmethod
    def around(cls, slide: Slide, window: Rectangle) -> "WindowSource":
        """The part of a slide in a window."""
        left, top = max(0, int(window.left_um / slide.mpp.x)), max(0, int(window.top_um / slide.mpp.y))
        right = min(slide.width_px, int(np.ceil((window.left_um + window.width_um) / slide.mpp.x)))
        bottom = min(slide.height_px, int(np.ceil((window.top_um + window.height_um) / slide.mpp.y)))
        return cls(slide, left, top, right - left, bottom - top)

    def read_block(self, column: int, row: int) -> Image.Image:
        """A part of the window; grey where the slide is damaged, which the page's warnings say."""
        x, y = column * BLOCK_PX, row * BLOCK_PX
        size = min(BLOCK_PX, self.width_px - x), min(BLOCK_PX, self.height_px - y)
        try:
            return self._slide.read_level_0(self.left_px + x, self.top_px + y, *size)
        except InputError:
            return Image.new("RGB", size, DAMAGED_COLOUR)


def paint_damaged(overview: Overview) -> np.ndarray:
    """The pixels of an overview, grey where the slide is damaged: uint8 (H, W, 3)."""
    return np.where(overview.damaged[..., None], np.array(DAMAGED_COLOUR, np.uint8), overview.pixels)


def enlarge(tissue: Tissue, overview: np.ndarray) -> Tissue:
    """The tissue in pixels of an overview that is finer than its mask by a whole number."""
    zoom = overview.shape[0] // tissue.mask.shape[0]
    return replace(tissue, mask=tissue.mask.repeat(zoom, axis=0).repeat(zoom, axis=1), mpp=tissue.mpp / zoom)


def draw_outlines(overview: np.ndarray, tissue: Tissue, counts: dict[str, Any]) -> np.ndarray:
    """Draw the tissue's outline and the hotspots: uint8 (H, W, 3), pixels of the mask → the same shape."""
    drawn = overview.copy()
    drawn[tissue.mask & ~binary_erosion(tissue.mask, border_value=1)] = TISSUE_COLOUR
    image = Image.fromarray(drawn)
    pen = ImageDraw.Draw(image)
    if found := counts["hotspot"]:
        left, top = found["left_um"] / tissue.mpp, found["top_um"] / tissue.mpp
        box = (left, top, left + found["width_um"] / tissue.mpp, top + found["height_um"] / tissue.mpp)
        pen.rectangle(box, outline=HOTSPOT_COLOUR, width=3)
    if found := counts["hotspot_circle"]:
        x, y, radius = (found[name] / tissue.mpp for name in ("x_um", "y_um", "radius_um"))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=HOTSPOT_COLOUR, width=1)
    return np.asarray(image)


def measure_density(points_um: np.ndarray, width_um: float, height_um: float) -> np.ndarray:
    """Figures per mm² in the circle of 2.37 mm² around each cell: float (rows, columns), cells of `CELL_UM`."""
    shape = (max(1, int(np.ceil(height_um / CELL_UM))), max(1, int(np.ceil(width_um / CELL_UM))))
    cells = np.zeros(shape)
    rows, columns = (np.clip(points_um[:, axis] / CELL_UM, 0, shape[1 - axis] - 1).astype(int) for axis in (1, 0))
    np.add.at(cells, (rows, columns), 1)
    reach = int(RADIUS_UM // CELL_UM)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disc = (np.hypot(x, y) * CELL_UM <= RADIUS_UM).astype(float)
    summed: np.ndarray = np.maximum(np.rint(fftconvolve(cells, disc, mode="same")), 0) / AREA_MM2
    return summed


def draw_density(overview: np.ndarray, tissue: Tissue, points_um: np.ndarray) -> np.ndarray:
    """Colour the tissue by the density of the figures: uint8 (H, W, 3) → the same shape."""
    height, width = overview.shape[:2]
    density = measure_density(points_um, width * tissue.mpp, height * tissue.mpp)
    if not density.max():
        return overview
    share = density / density.max()
    colours = np.stack([np.interp(share, (0, 0.5, 1), DENSITY_COLOURS[:, k]) for k in range(3)], axis=2)
    size = (round(density.shape[1] * CELL_UM / tissue.mpp), round(density.shape[0] * CELL_UM / tissue.mpp))
    large = np.asarray(Image.fromarray(colours.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR))
    drawn = overview.copy()
    own = tissue.mask
    drawn[own] = (0.45 * overview[own] + 0.55 * large[:height, :width][own]).astype(np.uint8)
    return drawn
