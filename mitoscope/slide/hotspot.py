"""The hotspot: the window of a fixed size with the most figures, found exactly, not on a grid.

A window is closed: a figure on its border is in it. Any rectangle can be moved to the right until its left side meets
its leftmost figure, and down until its upper side meets its uppermost one, without losing a figure: so it is enough to
look at such rectangles. Any circle can be moved until one of its figures is on its border: so it is enough to turn a
circle around each figure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import pi, sqrt
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

AREA_MM2 = 2.37  # ten fields of .55 mm, as in the WHO's and Fitzgibbons' recommendations
WIDTH_UM, HEIGHT_UM = 1778.0, 1333.0  # 4 : 3, 2.37 mm²
RADIUS_UM = sqrt(AREA_MM2 * 1e6 / pi)
SLACK_UM = 1e-6  # around every window, so that rounding does not lose a figure on a border
STEPS = 25  # places along each axis at which the tissue is measured, if a window can be moved without losing a figure


@dataclass(frozen=True)
class Rectangle:
    """A window, in µm from the slide's upper left corner, and how many figures are in it."""

    left_um: float
    top_um: float
    width_um: float
    height_um: float
    n_figures: int

    @classmethod
    def from_summary(cls, found: Mapping[str, Any]) -> "Rectangle":
        """The window of a summary's hotspot, which holds more than that."""
        return cls(*(found[each.name] for each in fields(cls)))

    @property
    def box_um(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        return self.left_um, self.top_um, self.left_um + self.width_um, self.top_um + self.height_um

    def contains(self, points_um: np.ndarray) -> np.ndarray:
        """Which points lie in the window: float (N, 2), x and y → bool (N,)."""
        x, y = points_um[:, 0] - self.left_um, points_um[:, 1] - self.top_um
        inside: np.ndarray = (
            (x >= -SLACK_UM) & (x <= self.width_um + SLACK_UM) & (y >= -SLACK_UM) & (y <= self.height_um + SLACK_UM)
        )
        return inside


@dataclass(frozen=True)
class Circle:
    """A window, in µm from the slide's upper left corner, and how many figures are in it."""

    x_um: float
    y_um: float
    radius_um: float
    n_figures: int

    def contains(self, points_um: np.ndarray) -> np.ndarray:
        """Which points lie in the window: float (N, 2), x and y → bool (N,)."""
        distance_um = np.hypot(points_um[:, 0] - self.x_um, points_um[:, 1] - self.y_um)
        inside: np.ndarray = distance_um <= self.radius_um + SLACK_UM
        return inside


def find_rectangle(
    points_um: np.ndarray,
    measure: Callable[[np.ndarray], np.ndarray],
    width_um: float = WIDTH_UM,
    height_um: float = HEIGHT_UM,
) -> Rectangle | None:
    """Find the rectangle with the most points.

    Args:
        points_um: float (N, 2), x and y.
        measure: The tissue in boxes: left, top, right and bottom in µm, float (M, 4) → float (M,). Of several windows
            with the most points, and of the places to which each can be moved without losing one, the one with the most
            tissue is taken; of several such ones, the one with its points most in its middle.
        width_um: Of the window.
        height_um: Of the window.

    Returns:
        None without points.
    """
    if len(points_um) == 0:
        return None
    order = np.lexsort((points_um[:, 1], points_um[:, 0]))
    points = points_um[order]
    last = np.searchsorted(points[:, 0], points[:, 0] + width_um + SLACK_UM, side="right")
    best, corners = 0, list[tuple[float, float]]()
    for first, (x, end) in enumerate(zip(points[:, 0].tolist(), last.tolist(), strict=True)):
        if end - first < best:
            continue
        y = np.sort(points[first:end, 1])
        counts = np.searchsorted(y, y + height_um + SLACK_UM, side="right") - np.arange(len(y))
        most = int(counts.max())
        if most > best:
            best, corners = most, []
        if most == best:
            corners += [(x, float(top)) for top in y[counts == best]]
    places = [_place(points, corner, width_um, height_um, measure) for corner in dict.fromkeys(corners)]
    _, _, top, left = min(places)
    found = Rectangle(left, top, width_um, height_um, best)
    return replace(found, n_figures=int(found.contains(points).sum()))


def _place(
    points: np.ndarray,
    corner: tuple[float, float],
    width_um: float,
    height_um: float,
    measure: Callable[[np.ndarray], np.ndarray],
) -> tuple[float, float, float, float]:
    """The place with the most tissue: less its tissue, how far it is from the middle, its top and left."""
    x, y = points[:, 0], points[:, 1]
    inside = points[
        (x >= corner[0])
        & (x <= corner[0] + width_um + SLACK_UM)
        & (y >= corner[1])
        & (y <= corner[1] + height_um + SLACK_UM)
    ]
    right, bottom = inside.max(axis=0)
    left, top = (
        places.ravel()
        for places in np.meshgrid(
            np.linspace(min(right - width_um, corner[0]), corner[0], STEPS),
            np.linspace(min(bottom - height_um, corner[1]), corner[1], STEPS),
        )
    )
    areas = measure(np.column_stack([left, top, left + width_um, top + height_um]))
    steps = abs(np.arange(STEPS) - STEPS // 2)
    away = (steps[:, None] + steps).ravel()
    best = np.lexsort((left, top, away, -areas))[0]
    return -float(areas[best]), int(away[best]), float(top[best]), float(left[best])


def find_circle(points_um: np.ndarray, radius_um: float = RADIUS_UM) -> Circle | None:
    """Find the circle with the most points; of several, the one around the first point that has one.

    Args:
        points_um: float (N, 2), x and y.
        radius_um: Of the window.

    Returns:
        None without points.
    """
    if len(points_um) == 0:
        return None
    points = points_um[np.lexsort((points_um[:, 0], points_um[:, 1]))]
    tree, reach = cKDTree(points), 2 * radius_um + SLACK_UM
    n_near = tree.query_ball_point(points, reach, return_length=True)
    best = Circle(float(points[0, 0]), float(points[0, 1]), radius_um, 0)
    for number in np.argsort(-n_near, kind="stable").tolist():
        if n_near[number] <= best.n_figures:
            break
        near = np.array(tree.query_ball_point(points[number], reach, return_sorted=True))  # all at once fill the memory
        count, angle = _turn(points[near[near != number]] - points[number], radius_um)
        if count + 1 > best.n_figures:
            x, y = points[number] + radius_um * np.array([np.cos(angle), np.sin(angle)])
            best = Circle(float(x), float(y), radius_um, count + 1)
    return replace(best, n_figures=int(best.contains(points).sum()))


def _turn(offsets: np.ndarray, radius_um: float) -> tuple[int, float]:
    """Turn a circle around a point on its border: the most other points in it, and the centre's angle for them.

    A point at distance d is in the circle while the centre's angle is within acos(d / 2r) of the point's.
    """
    if len(offsets) == 0:
        return 0, 0.0
    distance = np.hypot(offsets[:, 0], offsets[:, 1])
    n_same, offsets, distance = int((distance == 0).sum()), offsets[distance > 0], distance[distance > 0]
    if len(offsets) == 0:
        return n_same, 0.0
    half = np.arccos(np.clip(distance / (2 * radius_um), 0, 1)) + SLACK_UM / radius_um
    angle = np.arctan2(offsets[:, 1], offsets[:, 0])
    starts, ends = (angle - half) % (2 * pi), (angle + half) % (2 * pi)
    n_before = n_same + int((starts > ends).sum())  # those that hold at the angle 0
    at = np.concatenate([starts, ends])
    change = np.concatenate([np.ones(len(starts)), -np.ones(len(ends))])
    order = np.argsort(at, kind="stable")  # at one angle, first those that begin
    counts = n_before + np.cumsum(change[order])
    most = int(np.argmax(counts))
    at = at[order]
    end = at[most + 1] if most + 1 < len(at) else at[0] + 2 * pi
    return int(counts[most]), float((at[most] + end) / 2)
