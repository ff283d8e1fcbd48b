"""Where a slide has tissue: a mask at low magnification.

The optical density of tissue differs between the colours, since its stains are coloured, and is above that of glass.
Both limits are Otsu's (IEEE Trans. Syst. Man Cybern. 9, 1979), but not above a cap: beside dense tissue, Otsu's limit
alone would lose faint tissue, and on a field without glass it would cut the tissue in two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import numpy as np
from PIL import Image
from scipy import ndimage

from mitoscope.errors import InputError
from mitoscope.images.slide import Slide
from mitoscope.slide.overview import MASK_MPP, Overview, measure_mask, measure_um

DENSITY_LIMITS = (0.03, 0.07)  # natural logarithm, mean of the colours: what Otsu's limit must lie between
COLOUR_LIMITS = (0.03, 0.07)  # largest less smallest density of the three colours
BLACK_DENSITY = 0.7  # a pixel of this density without colour is ink or a border, not tissue
GREY_SHARE = 0.2  # of the density, that the colours of ink and borders differ by at most
PEN_DENSITY = 0.35  # an ink's, in its strongest colour
PEN_MARGIN = 0.15  # by which the colours of an ink differ otherwise than stains
PEN_REACH_UM = 40.0  # around an ink, where it fades into glass
DARKEST_GLASS = 225  # grey level; an image without glass must not take its palest tissue for it
SCANNED_SHARE = 0.1  # of an overview, that is bright, but not white: then white is no glass
SMOOTH_UM = 8.0  # standard deviation of the smoothing
SPECK_MM2 = 0.01  # smaller pieces are dust
HOLE_MM2 = 0.05  # smaller holes belong to the tissue
BAND_PX = 1_000_000  # of an overview, computed at once: the arrays between take 50 times its memory


@dataclass(frozen=True)
class Tissue:
    """The tissue of a slide.

    Attributes:
        mask: bool (H, W), pixels of `MASK_MPP`.
        mpp: µm per px of the mask.
        slide_mpp: µm per px of level 0, along x and y.
        source: ``"found"`` in the pixels, or ``"region"`` of the user.
        size_um: Width and height of the slide; the last pixels of the mask may reach beyond it.
    """

    mask: np.ndarray
    mpp: float
    slide_mpp: tuple[float, float]
    source: str
    size_um: tuple[float, float]

    @property
    def area_mm2(self) -> float:
        """The area of the tissue."""
        return self.measure_box_mm2(0, 0, *self.size_um)

    def contains(self, points_px: np.ndarray) -> np.ndarray:
        """Which points lie in the tissue: float (N, ≥ 2), x and y in pixels of level 0 → bool (N,)."""
        cells = np.floor(points_px[:, :2] * np.array(self.slide_mpp) / self.mpp).astype(int)
        height, width = self.mask.shape
        columns, rows = cells[:, 0].clip(0, width - 1), cells[:, 1].clip(0, height - 1)
        found: np.ndarray = self.mask[rows, columns]
        return found

    @cached_property
    def _sums(self) -> np.ndarray:
        """Pixels of tissue above and to the left of each corner: int (H + 1, W + 1)."""
        kind = np.int32 if self.mask.size < 2**31 else np.int64
        sums: np.ndarray = np.pad(self.mask.cumsum(axis=0, dtype=kind).cumsum(axis=1, dtype=kind), ((1, 0), (1, 0)))
        return sums

    def measure_box_mm2(self, left_um: float, top_um: float, right_um: float, bottom_um: float) -> float:
        """The area of the tissue in a box; µm from the slide's upper left corner."""
        return float(self.measure_boxes_mm2(np.array([[left_um, top_um, right_um, bottom_um]]))[0])

    def measure_boxes_mm2(self, boxes_um: np.ndarray) -> np.ndarray:
        """As `measure_box_mm2`: float (N, 4) → float64 (N,)."""
        left, top, right, bottom = np.asarray(boxes_um, float).T
        sums = self._sum_to(right, bottom) - self._sum_to(left, bottom)
        sums += self._sum_to(left, top) - self._sum_to(right, top)
        areas: np.ndarray = np.maximum(sums.round(6), 0.0) * self.mpp**2 / 1e6  # rounded: none is none
        return areas

    def without(self, boxes_um: Sequence[tuple[float, float, float, float]]) -> "Tissue":
        """The tissue less some boxes, to whole pixels of the mask: left, top, right and bottom in µm."""
        mask = self.mask.copy()
        for box in boxes_um:
            left, top, right, bottom = (round(place / self.mpp) for place in box)
            mask[top:bottom, left:right] = False
        return replace(self, mask=mask)

    def _sum_to(self, x_um: np.ndarray, y_um: np.ndarray) -> np.ndarray:
        """Pixels of tissue above and to the left of places; parts of pixels count as such."""
        height, width = self.mask.shape
        x, y = (places.clip(0, size) / self.mpp for places, size in zip((x_um, y_um), self.size_um, strict=True))
        column, row = x.astype(int).clip(max=width - 1), y.astype(int).clip(max=height - 1)
        a, b, c, d = (self._sums[row + down, column + right] for down in (0, 1) for right in (0, 1))
        fx, fy = x - column, y - row
        found: np.ndarray = (1 - fy) * ((1 - fx) * a + fx * b) + fy * ((1 - fx) * c + fx * d)
        return found


def find_tissue(slide: Slide, overview: Overview) -> Tissue:
    """Find the tissue of a slide. Where pixels are damaged may be tissue, so they count as such.

    Args:
        slide: The slide.
        overview: Of it.

    Raises:
        InputError: No tissue is found.
    """
    height, width = measure_mask(slide)
    zoom = overview.pixels.shape[0] // height
    small = overview.pixels
    if zoom > 1:
        small = np.asarray(
            Image.fromarray(small).resize((width, height), Image.Resampling.BOX)
        )  # means of whole pixels
    mask = make_mask(small, MASK_MPP)
    if not mask.any():
        raise InputError(
            f"no tissue is found in {slide.path.name}",
            got="an image of glass, ink or grey alone",
            expected="tissue in an H&E stain",
            remedy="give its outline with --region if there is tissue",
        )
    mask |= overview.damaged.reshape(height, zoom, width, zoom).any(axis=(1, 3))
    return Tissue(mask, MASK_MPP, (slide.mpp.x, slide.mpp.y), "found", measure_um(slide))


def make_mask(overview: np.ndarray, mpp: float) -> np.ndarray:
    """Find tissue in an overview.

    Args:
        overview: uint8 (H, W, 3), RGB.
        mpp: Its µm per px, some 4 to 16.

    Returns:
        bool (H, W).
    """
    mean, colour = (np.empty(overview.shape[:2], np.float32) for _ in range(2))
    ink = np.empty(overview.shape[:2], bool)
    glass = _measure_glass(overview)
    for rows in _list_bands(overview):
        density = _measure_density(overview, glass, mpp, rows)  # (B, W, 3)
        mean[rows], colour[rows], ink[rows] = density.mean(axis=2), np.ptp(density, axis=2), _find_ink(density)
    own = ~_grow_ink(ink, mpp)
    mask = own & (mean > _limit(mean[own], DENSITY_LIMITS))
    del mean
    mask &= colour > _limit(colour[own], COLOUR_LIMITS)
    del colour
    pixels_per_mm2 = 1e6 / mpp**2
    mask = _drop_small(mask, SPECK_MM2 * pixels_per_mm2)
    filled = ~_drop_small(~mask, HOLE_MM2 * pixels_per_mm2, keep_border=True)  # what meets the border is no hole
    found: np.ndarray = filled & own
    return found


def _find_ink(density: np.ndarray) -> np.ndarray:
    """Find pixels of ink and black borders: float (H, W, 3), density → bool (H, W).

    Haematoxylin, eosin and blood absorb green most. Blue and violet inks absorb red most, green ones red and blue, and
    red ones blue as much as green, but no red. A black one has no colour.
    """
    red, green, blue = np.moveaxis(density, 2, 0)
    strongest, weakest = density.max(axis=2), density.min(axis=2)
    is_black = (density.mean(axis=2) > BLACK_DENSITY) & (strongest - weakest < GREY_SHARE * strongest)
    is_blue = red - green > PEN_MARGIN
    is_green = np.minimum(red, blue) - green > PEN_MARGIN / 2
    is_red = (np.abs(green - blue) < PEN_MARGIN) & (red < 0.12) & (green > 2 * PEN_DENSITY)
    ink: np.ndarray = is_black | ((strongest > PEN_DENSITY) & (is_blue | is_green | is_red))
    return ink


def _grow_ink(ink: np.ndarray, mpp: float) -> np.ndarray:
    """Ink and where it fades into glass, without single dark cells and grains of pigment."""
    ink = _drop_small(ink, SPECK_MM2 * 1e6 / mpp**2)
    reach = ndimage.generate_binary_structure(2, 1)
    grown: np.ndarray = ndimage.binary_dilation(ink, reach, iterations=max(1, round(PEN_REACH_UM / mpp)))
    return grown if ink.any() else ink


def _measure_glass(overview: np.ndarray) -> np.ndarray:
    """The grey level of glass in each colour, since scanners differ: float32 (3,)."""
    brightness = overview.min(axis=2)
    is_bright = brightness >= min(200, brightness.max())
    if (scanned := is_bright & (brightness < 255)).mean() > SCANNED_SHARE:  # readers paint white what was not scanned
        is_bright = scanned
    levels = [np.percentile(overview[..., colour][is_bright], 90) for colour in range(3)]
    return np.maximum(levels, DARKEST_GLASS).astype(np.float32)


def _measure_density(overview: np.ndarray, glass: np.ndarray, mpp: float, rows: slice) -> np.ndarray:
    """Optical density of each colour above that of glass, smoothed: float32 (B, W, 3), at least 0, of some rows."""
    sigma = SMOOTH_UM / mpp
    first = max(rows.start - ceil(5 * sigma), 0)  # the smoothing reaches 4 sigma
    pixels = overview[first : rows.stop + ceil(5 * sigma)].astype(np.float32)
    smooth = ndimage.gaussian_filter(pixels, (sigma, sigma, 0), mode="nearest")[rows.start - first : rows.stop - first]
    density: np.ndarray = np.maximum(np.log(np.maximum(glass, 1)) - np.log(np.maximum(smooth, 1)), 0)
    return density


def _list_bands(image: np.ndarray) -> list[slice]:
    """The rows of an image, `BAND_PX` pixels at once."""
    height, width = image.shape[:2]
    step = max(1, BAND_PX // width)
    return [slice(first, min(first + step, height)) for first in range(0, height, step)]


def _limit(values: np.ndarray, limits: tuple[float, float]) -> float:
    """Otsu's limit between two classes, kept between two limits."""
    if values.size == 0 or values.min() == values.max():  # one class only
        return limits[1]
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    sums = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_below = sums / below
        mean_above = (sums[-1] - sums) / np.append(above[1:], 0)
        between = below * np.append(above[1:], 0) * (mean_below - mean_above) ** 2
    return float(np.clip(middles[np.nanargmax(between[:-1])], *limits))


def _drop_small(mask: np.ndarray, least_px: float, *, keep_border: bool = False) -> np.ndarray:
    """Remove pieces (joined by sides) of fewer pixels; those at the image's border may be kept."""
    pieces, count = ndimage.label(mask)
    if not count:
        return mask
    bands = _list_bands(pieces)
    sizes = np.zeros(count + 1, np.int64)
    for rows in bands:
        sizes += np.bincount(pieces[rows].ravel(), minlength=count + 1)
    keep = sizes >= least_px
    if keep_border:
        keep[np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])] = True
    keep[0] = False
    kept = np.empty(mask.shape, bool)
    for rows in bands:
        kept[rows] = keep[pieces[rows]]
    return kept
