"""Where a slide has tissue: a mask at low magnification.

The optical density of tissue differs between the colours, since its stains are coloured, and is above that of glass.
Both limits are Otsu's (IEEE Trans. Syst. Man Cybern. 9, 1979), but not above a cap: beside dense tissue, Otsu's limit
alone would lose faint tissue, and on a field without glass it would cut the tissue in two.
"""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor

import numpy as np
from PIL import Image
from scipy import ndimage

from mitoscope.errors import InputError
from mitoscope.images.slide import OVERVIEW_PX, Slide

MASK_MPP = 8.0  # µm per px
OVERVIEW_SIDE_PX = 2000  # of the page's overview of a small slide, at most
DENSITY_LIMITS = (0.03, 0.07)  # natural logarithm, mean of the colours: what Otsu's limit must lie between
COLOUR_LIMITS = (0.03, 0.07)  # largest less smallest density of the three colours
BLACK_DENSITY = 0.7  # a pixel of this density without colour is ink or a border, not tissue
GREY_SHARE = 0.2  # of the density, that the colours of ink and borders differ by at most
PEN_DENSITY = 0.35  # an ink's, in its strongest colour
PEN_MARGIN = 0.15  # by which the colours of an ink differ otherwise than stains
PEN_REACH_UM = 40.0  # around an ink, where it fades into glass
DARKEST_GLASS = 225  # grey level; an image without glass must not take its palest tissue for it
SMOOTH_UM = 8.0  # standard deviation of the smoothing
SPECK_MM2 = 0.01  # smaller pieces are dust
HOLE_MM2 = 0.05  # smaller holes belong to the tissue


@dataclass(frozen=True)
class Tissue:
    """The tissue of a slide.

    Attributes:
        mask: bool (H, W), pixels of `MASK_MPP`.
        mpp: µm per px of the mask.
        slide_mpp: µm per px of level 0, along x and y.
        source: ``"found"`` in the pixels, or ``"region"`` of the user.
    """

    mask: np.ndarray
    mpp: float
    slide_mpp: tuple[float, float]
    source: str

    @property
    def area_mm2(self) -> float:
        """The area of the tissue."""
        return float(self.mask.sum()) * self.mpp**2 / 1e6

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
        """The area of the tissue in a box, by whole pixels of the mask; µm from the slide's upper left corner."""
        height, width = self.mask.shape
        x0, x1 = (min(max(place, 0), width) for place in (floor(left_um / self.mpp), ceil(right_um / self.mpp)))
        y0, y1 = (min(max(place, 0), height) for place in (floor(top_um / self.mpp), ceil(bottom_um / self.mpp)))
        sums = self._sums
        return int(sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]) * self.mpp**2 / 1e6


def measure_mask(slide: Slide) -> tuple[int, int]:
    """Height and width of a slide's mask, in pixels of `MASK_MPP`."""
    return ceil(slide.height_px * slide.mpp.y / MASK_MPP), ceil(slide.width_px * slide.mpp.x / MASK_MPP)


def read_overview(slide: Slide) -> np.ndarray:
    """Read the overview that the page shows.

    Returns:
        uint8 (zoom * H, zoom * W, 3), RGB, for a mask of (H, W): a large slide at `MASK_MPP`, a smaller one finer by a
        whole number, up to `OVERVIEW_SIDE_PX` along its longer side, but not finer than level 0. White outside.

    Raises:
        InputError: The slide cannot be read, or is too large.
    """
    own_mpp, shape = max(slide.mpp.x, slide.mpp.y), measure_mask(slide)
    if shape[0] * shape[1] > OVERVIEW_PX:
        raise InputError(
            f"{slide.path.name} is too large",
            got=f"{slide.width_px:,} x {slide.height_px:,} px of {own_mpp:g} µm",
            expected=f"at most {OVERVIEW_PX * MASK_MPP**2 / 1e6:,.0f} mm²",
            remedy="correct its µm per px with --mpp if it is wrong",
        )
    zoom = max(1, min(OVERVIEW_SIDE_PX // max(shape), floor(MASK_MPP / own_mpp)))
    try:
        read = slide.read_overview(MASK_MPP / zoom)
    except InputError:  # a tile of level 0 is damaged, say; a smaller level may be whole
        if zoom == 1:
            raise
        zoom = 1
        read = slide.read_overview(MASK_MPP)
    read = read[: zoom * shape[0], : zoom * shape[1]]  # a rounded µm per px may give one more
    missing = [(0, zoom * side - have) for side, have in zip(shape, read.shape[:2], strict=True)]
    return np.pad(read, [*missing, (0, 0)], constant_values=255)


def find_tissue(slide: Slide, overview: np.ndarray) -> Tissue:
    """Find the tissue of a slide.

    Args:
        slide: The slide.
        overview: Of it, see `read_overview`.

    Raises:
        InputError: No tissue is found.
    """
    height, width = measure_mask(slide)
    small = Image.fromarray(overview).resize((width, height), Image.Resampling.BOX)  # means of whole pixels
    mask = make_mask(np.asarray(small), MASK_MPP)
    if not mask.any():
        raise InputError(
            f"no tissue is found in {slide.path.name}",
            got="an image of glass, ink or grey alone",
            expected="tissue in an H&E stain",
            remedy="give its outline with --region if there is tissue",
        )
    return Tissue(mask, MASK_MPP, (slide.mpp.x, slide.mpp.y), "found")


def make_mask(overview: np.ndarray, mpp: float) -> np.ndarray:
    """Find tissue in an overview.

    Args:
        overview: uint8 (H, W, 3), RGB.
        mpp: Its µm per px, some 4 to 16.

    Returns:
        bool (H, W).
    """
    density = _measure_density(overview, mpp)  # (H, W, 3)
    foreign = find_foreign(density, mpp)
    mean, colour = density.mean(axis=2), np.ptp(density, axis=2)
    own = ~foreign
    mask: np.ndarray = own & (mean > _limit(mean[own], DENSITY_LIMITS)) & (colour > _limit(colour[own], COLOUR_LIMITS))
    pixels_per_mm2 = 1e6 / mpp**2
    mask = _drop_small(mask, SPECK_MM2 * pixels_per_mm2)
    filled = ~_drop_small(~mask, HOLE_MM2 * pixels_per_mm2, keep_border=True)  # what meets the border is no hole
    found: np.ndarray = filled & own
    return found


def find_foreign(density: np.ndarray, mpp: float) -> np.ndarray:
    """Find ink and black borders: float (H, W, 3), density → bool (H, W).

    Haematoxylin, eosin and blood absorb green most. Blue and violet inks absorb red most, green ones red and blue, and
    red ones blue as much as green, but no red. A black one has no colour.
    """
    red, green, blue = np.moveaxis(density, 2, 0)
    strongest, weakest = density.max(axis=2), density.min(axis=2)
    is_black = (density.mean(axis=2) > BLACK_DENSITY) & (strongest - weakest < GREY_SHARE * strongest)
    is_blue = red - green > PEN_MARGIN
    is_green = np.minimum(red, blue) - green > PEN_MARGIN / 2
    is_red = (np.abs(green - blue) < PEN_MARGIN) & (red < 0.12) & (green > 2 * PEN_DENSITY)
    ink = is_black | ((strongest > PEN_DENSITY) & (is_blue | is_green | is_red))
    ink = _drop_small(ink, SPECK_MM2 * 1e6 / mpp**2)  # single dark cells and grains of pigment are not ink
    reach = ndimage.generate_binary_structure(2, 1)
    grown: np.ndarray = ndimage.binary_dilation(ink, reach, iterations=max(1, round(PEN_REACH_UM / mpp)))
    return grown if ink.any() else ink


def _measure_density(overview: np.ndarray, mpp: float) -> np.ndarray:
    """Optical density of each colour above that of glass, smoothed: float32 (H, W, 3), at least 0."""
    pixels = overview.astype(np.float32)
    brightness = overview.min(axis=2)
    bright = overview[brightness >= min(200, brightness.max())]
    glass = np.maximum(np.percentile(bright, 90, axis=0), DARKEST_GLASS).astype(np.float32)  # scanners differ
    smooth = ndimage.gaussian_filter(pixels, (SMOOTH_UM / mpp, SMOOTH_UM / mpp, 0), mode="nearest")
    density: np.ndarray = np.maximum(np.log(np.maximum(glass, 1)) - np.log(np.maximum(smooth, 1)), 0)
    return density


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
    sizes = np.bincount(pieces.ravel())
    keep = sizes >= least_px
    if keep_border:
        keep[np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])] = True
    keep[0] = False
    kept: np.ndarray = keep[pieces]
    return kept
