"""The optical density of an image's tissue, and a table that brings it to that of the training slides.

Stains and scanners differ from slide to slide. The mean and the standard deviation of the optical density of each
colour are brought to fixed values, as Reinhard et al. did in another colour space (IEEE Comput. Graph. Appl. 21, 2001).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SIDE_PX, PER_AXIS = 64, 16  # windows that are looked at: 16 x 16 of them, whatever the size of the image or tissue
GLASS = 220  # a pixel without a darker value is no tissue
LEAST_PX = 1000  # of tissue, for a measure
MOST = 2.0  # by how much densities are spread or narrowed
DENSITY = -np.log((np.arange(256) + 1) / 256)  # of each grey level; that of white is 0

Density = tuple[np.ndarray, np.ndarray]  # mean and standard deviation by red, green and blue, each float64 (3,)
Read = Callable[[int, int, int, int], np.ndarray]  # left, top, width and height in px → uint8 (height, width, 3), RGB


@dataclass(frozen=True)
class Measure:
    """What the windows of an image measured.

    Attributes:
        density: See `measure_density`.
        n_windows: How many windows were looked at.
        n_unread: Those that could not be read, and so were left out.
    """

    density: Density | None
    n_windows: int
    n_unread: int


def spread(mask: np.ndarray) -> np.ndarray:
    """Choose places in a mask, spread evenly over its area, always the same ones.

    The mask's pixels are put in the order of a Z curve (Morton, 1966), in which neighbours stay together, and every
    n-th is taken.

    Args:
        mask: bool (H, W).

    Returns:
        float64 (N, 2): x and y of their centres in pixels of the mask; as many as `read_windows` reads in a whole
        image, or all pixels of a mask that has fewer.
    """
    cells = np.argwhere(mask)
    order = np.zeros(len(cells), np.int64)
    for bit in range(max(mask.shape).bit_length()):
        order |= (cells[:, 0] >> bit & 1) << (2 * bit + 1) | (cells[:, 1] >> bit & 1) << (2 * bit)
    n_chosen = min(PER_AXIS**2, len(cells))
    chosen = np.argsort(order)[((np.arange(n_chosen) + 0.5) / max(n_chosen, 1) * len(cells)).astype(int)]
    return cells[chosen, ::-1] + 0.5


def read_windows(read: Read, width_px: int, height_px: int, centres: np.ndarray | None = None) -> Iterable[np.ndarray]:
    """Small windows of an image, the same ones however it is cut into tiles.

    Args:
        read: Reads a box of the image.
        width_px: Of the image.
        height_px: Of the image.
        centres: float (N, 2), x and y in px of the windows' centres; None: spread evenly over the image, `PER_AXIS`
            along each axis.

    Yields:
        uint8 (H, W, 3), RGB; `SIDE_PX` a side where the image is that large.
    """
    if centres is None:
        shares = (np.arange(PER_AXIS) + 0.5) / PER_AXIS
        centres = np.array([(column * width_px, row * height_px) for row in shares for column in shares])
    for x, y in centres.tolist():
        left, width = _place(x, width_px)
        top, height = _place(y, height_px)
        yield read(left, top, width, height)


def _place(centre_px: float, size_px: int) -> tuple[int, int]:
    """Start and length of a window along one axis; it is moved into the image."""
    side = min(SIDE_PX, size_px)
    return min(max(round(centre_px - side / 2), 0), size_px - side), side


def measure_density(windows: Iterable[np.ndarray]) -> Density | None:
    """Measure the tissue in some windows.

    Args:
        windows: uint8 (H, W, 3) each, RGB.

    Returns:
        Mean and standard deviation of -ln((value + 1) / 256) over the pixels that are not glass; None where there are
        fewer than `LEAST_PX`.
    """
    counts = np.zeros((3, 256), np.int64)
    for pixels in windows:
        tissue = pixels[pixels.min(axis=2) < GLASS]
        counts += [np.bincount(tissue[:, colour], minlength=256) for colour in range(3)]
    if counts[0].sum() < LEAST_PX:
        return None
    shares = counts / counts[0].sum()
    mean = shares @ DENSITY
    return mean, np.sqrt((shares * (DENSITY - mean[:, None]) ** 2).sum(axis=1))


def make_table(own: Density | None, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The new value of each grey level of each colour.

    Args:
        own: What was measured; None leaves the image as it is.
        mean: Of the training slides: red, green, blue.
        std: Of the training slides; empty: the standard deviation is kept.

    Returns:
        uint8 (3, 256).
    """
    if own is None:
        return np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    gain = np.clip(np.asarray(std) / np.maximum(own[1], 1e-6), 1 / MOST, MOST) if std else np.ones(3)
    density = (DENSITY - own[0][:, None]) * gain[:, None] + np.asarray(mean)[:, None]
    return np.asarray((256 * np.exp(-density) - 1).clip(0, 255).round(), np.uint8)


def apply_table(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Look up each value: uint8 (..., 3), RGB → uint8 (..., 3)."""
    return np.stack([table[colour][pixels[..., colour]] for colour in range(3)], axis=-1)
