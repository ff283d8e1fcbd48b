"""The outlines of tissue and hotspots: polygons that every reader of GeoJSON takes for valid."""

from collections.abc import Mapping
from math import cos, pi, sin
from typing import Any

import numpy as np
from skimage.measure import find_contours

from mitoscope.slide.tissue import Tissue

Ring = np.ndarray  # float (N, 2): x and y of a closed ring, the first point once more at the end
Polygon = list[Ring]  # the outer ring, then its holes
CIRCLE_CORNERS = 120


def trace_tissue(tissue: Tissue) -> list[Polygon]:
    """Trace the pieces of the tissue, in pixels of level 0; see `trace`."""
    return [[ring * tissue.mpp / tissue.slide_mpp for ring in polygon] for polygon in trace(tissue.mask)]


def trace_hotspot(hotspot: Mapping[str, Any], mpp: tuple[float, float]) -> Ring:
    """Trace a rectangle or a circle, in pixels of level 0.

    Args:
        hotspot: One of a summary, see `mitoscope.slide.counts.count`.
        mpp: µm per px of level 0, along x and y.
    """
    if "radius_um" in hotspot:
        angles = [2 * pi * number / CIRCLE_CORNERS for number in range(CIRCLE_CORNERS)]
        x, y, radius = hotspot["x_um"], hotspot["y_um"], hotspot["radius_um"]
        corners = [(x + radius * cos(angle), y + radius * sin(angle)) for angle in angles]
    else:
        left, top = hotspot["left_um"], hotspot["top_um"]
        right, bottom = left + hotspot["width_um"], top + hotspot["height_um"]
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return np.array([*corners, corners[0]]) / mpp


def trace(mask: np.ndarray) -> list[Polygon]:
    """Trace the pieces of a mask.

    Marching squares cross each edge between two pixels in its middle, once. So no ring touches itself or another one,
    even where two pixels meet in a corner.

    Args:
        mask: bool (H, W).

    Returns:
        One polygon a piece, in pixels of the mask: the first pixel covers [0, 1). Outer rings run counter-clockwise as
        GeoJSON has it (y down: clockwise to the eye), holes the other way.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    found = find_contours(padded, 0.5, positive_orientation="low")  # type: ignore[no-untyped-call]
    rings = [_simplify(ring[:, ::-1] - 0.5) for ring in found]
    outer = [ring for ring in rings if _area(ring) > 0]
    polygons: list[Polygon] = [[ring] for ring in outer]
    areas = [_area(ring) for ring in outer]
    for hole in (ring for ring in rings if _area(ring) < 0):
        around = [number for number, ring in enumerate(outer) if _is_inside(hole[0], ring)]
        polygons[min(around, key=lambda number: areas[number])].append(hole)
    return polygons


def _area(ring: Ring) -> float:
    """The signed area by the shoelace formula, positive for an outer ring."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _simplify(ring: Ring) -> Ring:
    """Leave out the points on straight lines; what remains is the same outline."""
    points = ring[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    corner = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    kept = points[corner]
    return np.vstack([kept, kept[:1]])


def _is_inside(point: np.ndarray, ring: Ring) -> bool:
    """Whether a point lies in a ring, by the crossings of a line to the right."""
    x0, y0, x1, y1 = ring[:-1, 0], ring[:-1, 1], ring[1:, 0], ring[1:, 1]
    spans = (y0 > point[1]) != (y1 > point[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = x0 + (point[1] - y0) * (x1 - x0) / (y1 - y0)
    return bool((spans & (point[0] < crossing)).sum() % 2)
