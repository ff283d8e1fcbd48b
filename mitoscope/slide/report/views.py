"""The pictures of a slide's page: the overview, the density of figures, a window of the slide, and the outlines."""

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
from PIL import Image
from scipy.signal import fftconvolve

from mitoscope.errors import InputError
from mitoscope.images.slide import Slide
from mitoscope.scoring.report.zoom import Outline
from mitoscope.slide.export.outline import trace_hotspot, trace_tissue
from mitoscope.slide.hotspot import AREA_MM2, RADIUS_UM, Rectangle
from mitoscope.slide.overview import Overview
from mitoscope.slide.tissue import Tissue

BLOCK_PX = 1024
DAMAGED_COLOUR = (128, 128, 128)  # RGB
TISSUE_COLOUR, HOTSPOT_COLOUR = "#28963c", "#ebaf00"
MARGIN_UM = 50.0  # around the hotspot in its own view
DENSITY_STEPS = (0, 2, 5, 10, 20, 40)  # figures per mm², the same on every slide
DENSITY_COLOURS = ((255, 248, 215), (254, 217, 118), (253, 141, 60), (222, 45, 60), (150, 20, 100), (65, 8, 85))  # RGB
SHADE = 0.35  # how much darker black tissue makes a colour
CELL_UM = 64.0  # of the density's grid


class WindowSource:
    """A part of a slide as a source of its own; see `mitoscope.images.source.Source`.

    Attributes:
        unread: Column and row of each block that could not be read, and is grey.
    """

    def __init__(self, slide: Slide, left_px: int, top_px: int, width_px: int, height_px: int) -> None:
        self.left_px, self.top_px, self.width_px, self.height_px = left_px, top_px, width_px, height_px
        self.block_px, self.is_grey = (BLOCK_PX, BLOCK_PX), False
        self.mpp: tuple[float, float] | None = None
        self.unread: set[tuple[int, int]] = set()
        self._slide = slide

    @classmethod
    def around(cls, slide: Slide, window: Rectangle) -> "WindowSource":
        """The part of a slide in a window and `MARGIN_UM` around it."""
        right_um, bottom_um = window.left_um + window.width_um, window.top_um + window.height_um
        left, top = (max(0, int((place - MARGIN_UM) / mpp)) for place, mpp in (
            (window.left_um, slide.mpp.x), (window.top_um, slide.mpp.y)))  # fmt: skip
        right = min(slide.width_px, ceil((right_um + MARGIN_UM) / slide.mpp.x))
        bottom = min(slide.height_px, ceil((bottom_um + MARGIN_UM) / slide.mpp.y))
        return cls(slide, left, top, right - left, bottom - top)

    def shows(self, points: np.ndarray) -> np.ndarray:
        """Which points it shows: float (N, ≥ 2), x and y in pixels of level 0 → bool (N,)."""
        x, y = points[:, 0] - self.left_px, points[:, 1] - self.top_px
        shown: np.ndarray = (x >= 0) & (x <= self.width_px) & (y >= 0) & (y <= self.height_px)
        return shown

    def read_block(self, column: int, row: int) -> Image.Image:
        """A part of the window; grey where the slide is damaged. Raises InputError if the whole file is gone."""
        x, y = column * BLOCK_PX, row * BLOCK_PX
        size = min(BLOCK_PX, self.width_px - x), min(BLOCK_PX, self.height_px - y)
        try:
            return self._slide.read_level_0(self.left_px + x, self.top_px + y, *size)
        except InputError:
            self._slide.check_exists()
            self.unread.add((column, row))
            return Image.new("RGB", size, DAMAGED_COLOUR)


def paint_damaged(overview: Overview) -> np.ndarray:
    """The pixels of an overview, grey where the slide is damaged: uint8 (H, W, 3)."""
    return np.where(overview.damaged[..., None], np.array(DAMAGED_COLOUR, np.uint8), overview.pixels)


def enlarge(tissue: Tissue, overview: np.ndarray) -> Tissue:
    """The tissue in pixels of an overview that is finer than its mask by a whole number."""
    zoom = overview.shape[0] // tissue.mask.shape[0]
    return replace(tissue, mask=tissue.mask.repeat(zoom, axis=0).repeat(zoom, axis=1), mpp=tissue.mpp / zoom)


def list_outlines(tissue: Tissue, counts: dict[str, Any]) -> list[Outline]:
    """The tissue and both hotspots of a summary's counts."""
    rings = [ring for polygon in trace_tissue(tissue) for ring in polygon]
    outlines = [Outline(TISSUE_COLOUR, 2, [np.round(ring, 1).tolist() for ring in rings])]
    for name, width in (("hotspot", 3), ("hotspot_circle", 1.5)):
        if found := counts[name]:
            ring = trace_hotspot(found, tissue.slide_mpp)
            outlines.append(Outline(HOTSPOT_COLOUR, width, [np.round(ring, 1).tolist()]))
    return outlines


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
    """Colour the tissue by the density of the figures: uint8 (H, W, 3) → the same shape.

    A place has the colour of its density, between two of `DENSITY_STEPS` a mixture; dark tissue makes it darker.
    """
    height, width = overview.shape[:2]
    density = measure_density(points_um, width * tissue.mpp, height * tissue.mpp)
    colours = np.stack(
        [np.interp(density, DENSITY_STEPS, channel) for channel in np.transpose(DENSITY_COLOURS)], axis=2
    )
    size = (round(density.shape[1] * CELL_UM / tissue.mpp), round(density.shape[0] * CELL_UM / tissue.mpp))
    large = np.asarray(Image.fromarray(colours.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR))
    drawn = overview.copy()
    own = tissue.mask
    brightness = overview[own].mean(axis=1, keepdims=True) / 255
    drawn[own] = (large[:height, :width][own] * (1 - SHADE + SHADE * brightness)).astype(np.uint8)
    return drawn


def list_density_key() -> list[tuple[str, str]]:
    """The density map's steps, as text, and their colours, as CSS has them."""
    texts = [*map(str, DENSITY_STEPS[:-1]), f"{DENSITY_STEPS[-1]} or more"]
    return [(text, "#{:02x}{:02x}{:02x}".format(*colour)) for text, colour in zip(texts, DENSITY_COLOURS, strict=True)]
