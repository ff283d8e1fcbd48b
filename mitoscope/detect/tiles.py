"""Overlapping tiles that cover an image. Each has a core; the cores cover the image once, without overlap."""

from dataclasses import dataclass
from itertools import product

from mitoscope.networks.rtmdet import STRIDES

STEP_PX = max(STRIDES)  # sides of tiles are multiples of it
MARGIN_PX = 3 * STEP_PX  # that a tile shows around its core (docs/adr/0017)
LEAST_PX = 2 * MARGIN_PX + STEP_PX  # of a largest tile


@dataclass(frozen=True)
class Span:
    """A tile or its core along one axis, in pixels.

    Attributes:
        start: First pixel of the tile.
        size: Its length.
        low: The core is [low, high); the first starts and the last ends with the image.
        high: See low.
    """

    start: int
    size: int
    low: int
    high: int


@dataclass(frozen=True)
class Tile:
    """A tile: along x and along y."""

    x: Span
    y: Span


def cut_axis(length: int, most_px: int) -> list[Span]:
    """Cut an axis into as few tiles as possible, all of one length.

    Starts are multiples of `STEP_PX`, so that the cells of the networks' grids fall on the same pixels in every tile.

    Args:
        length: Of the image, in pixels.
        most_px: The longest tile; a multiple of `STEP_PX`, at least `LEAST_PX`.
    """
    overlap = 2 * MARGIN_PX
    count = 1 if length <= most_px else -(-(length - overlap) // (most_px - overlap))
    size = _round_up(-(-(length + overlap * (count - 1)) // count))
    starts = [number * (size - overlap) for number in range(count)]
    bounds = [0, *(start + MARGIN_PX for start in starts[1:]), length]
    return [Span(start, size, *bounds[number : number + 2]) for number, start in enumerate(starts)]


def plan_tiles(width: int, height: int, most_px: int) -> list[Tile]:
    """Cover an image, row by row.

    Args:
        width: Of the image in pixels.
        height: Of the image in pixels.
        most_px: The longest side of a tile; see `cut_axis`.
    """
    return [Tile(x, y) for y, x in product(cut_axis(height, most_px), cut_axis(width, most_px))]


def _round_up(length: int) -> int:
    """To a multiple of `STEP_PX`."""
    return -(-length // STEP_PX) * STEP_PX
