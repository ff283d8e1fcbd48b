import tracemalloc
from itertools import product

import numpy as np
import pytest

from mitoscope.slide.hotspot import AREA_MM2, HEIGHT_UM, RADIUS_UM, WIDTH_UM, find_circle, find_rectangle


def no_tissue(boxes_um: np.ndarray) -> np.ndarray:
    return np.zeros(len(boxes_um))


def test_the_windows_have_the_area_that_is_named() -> None:
    assert pytest.approx(AREA_MM2, rel=1e-3) == WIDTH_UM * HEIGHT_UM / 1e6
    assert np.pi * RADIUS_UM**2 / 1e6 == pytest.approx(AREA_MM2)
    assert pytest.approx(4 / 3, rel=1e-3) == WIDTH_UM / HEIGHT_UM


@pytest.mark.parametrize("seed", range(30))
def test_no_window_holds_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = seed % 2 == 0  # many points on borders
    points = rng.integers(0, 40, (25, 2)).astype(float) if whole else rng.uniform(0, 40, (25, 2))
    width, height, radius = 12.0, 9.0, 6.0
    found = find_rectangle(points, no_tissue, width, height)
    x, y = points.T
    most = max(
        int(((x >= left) & (x <= left + width) & (y >= top) & (y <= top + height)).sum()) for left, top in product(x, y)
    )
    assert found is not None and found.n_figures == most
    slack = 1e-5
    inside = ((x >= found.left_um - slack) & (x <= found.left_um + width + slack)
              & (y >= found.top_um - slack) & (y <= found.top_um + height + slack))  # fmt: skip
    assert inside.sum() == most

    round_one = find_circle(points, radius)
    centres = [tuple(point) for point in points]
    for a, b in product(points, points):  # both circles through two points
        middle, half = (a + b) / 2, (b - a) / 2
        length = np.hypot(*half)
        if 0 < length <= radius:
            across = np.array([-half[1], half[0]]) / length * np.sqrt(max(radius**2 - length**2, 0))
            centres.append(tuple(middle + across))
    most = max(int((np.hypot(x - cx, y - cy) <= radius + 1e-6).sum()) for cx, cy in centres)
    assert round_one is not None and round_one.n_figures == most
    assert (np.hypot(x - round_one.x_um, y - round_one.y_um) <= radius + 1e-5).sum() == most


def test_a_hotspot_that_no_grid_of_whole_windows_finds() -> None:
    points = np.array([[0.0, 0], [WIDTH_UM, 0], [0, HEIGHT_UM], [WIDTH_UM, HEIGHT_UM], [5000, 5000]]) + 777.7
    found = find_rectangle(points, no_tissue)
    assert found is not None
    assert (found.n_figures, found.left_um, found.top_um) == (4, pytest.approx(777.7), pytest.approx(777.7))


def test_of_equal_windows_the_one_with_most_tissue_is_taken() -> None:
    points = np.array([[100.0, 100], [5000, 5000]])
    found = find_rectangle(points, lambda boxes: (boxes[:, 2].clip(max=9000) - boxes[:, 0].clip(4000)).clip(0))
    assert found is not None and found.n_figures == 1 and found.left_um >= 4000
    assert found.left_um <= 5000 <= found.left_um + WIDTH_UM


def test_without_figures_there_is_no_hotspot() -> None:
    assert find_rectangle(np.empty((0, 2)), no_tissue) is None
    assert find_circle(np.empty((0, 2))) is None


def test_figures_in_one_place_are_all_counted() -> None:
    found = find_circle(np.zeros((5, 2)), 3.0)
    assert found is not None and found.n_figures == 5


def test_the_circle_among_many_figures_takes_little_memory() -> None:
    """Each figure has most of the others as neighbours."""
    points = np.random.default_rng(0).uniform(0, 1500, (500, 2))
    tracemalloc.start()
    try:
        assert find_circle(points) is not None
        assert tracemalloc.get_traced_memory()[1] < 5e5
    finally:
        tracemalloc.stop()
