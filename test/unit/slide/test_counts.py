"""The counts at other thresholds, of figures whose places are chosen."""

from dataclasses import replace

import numpy as np
import pytest

from mitoscope.slide import counts as module
from mitoscope.slide.counts import Thresholds, choose_floor, count, find_in_hotspot, measure_sensitivity
from mitoscope.slide.figures import Figures
from mitoscope.slide.hotspot import RADIUS_UM, WIDTH_UM
from mitoscope.slide.tissue import Tissue


def test_each_row_has_both_hotspots_and_the_share_within_the_rectangle() -> None:
    """Three figures in a row are within 1,778 µm, but not within the circle's 1,737 µm; a fourth one is far away."""
    points = np.array([[0, 100, 0.9], [900, 100, 0.9], [9000, 100, 0.9], [1770, 100, 0.45]])
    p_atypical = np.array([0.9, 0.1, 0.9, 0.9])
    figures = Figures(points, p_atypical[None], p_atypical, None, [""] * 4)
    tissue = Tissue(np.ones((200, 1200), bool), 8.0, (1.0, 1.0), "found", (9600.0, 1600.0))
    rows = measure_sensitivity(figures, tissue, Thresholds(0.5, 0.5), tissue, 0.05)
    found = {row["threshold_mitosis"]: row for row in rows if row["threshold_atypical"] == 0.5}
    assert [found[step]["n_hotspot"] for step in (0.4, 0.5, 0.6)] == [3, 2, 2]
    assert [found[step]["n_hotspot_circle"] for step in (0.4, 0.5, 0.6)] == [2, 2, 2]
    assert [found[step]["share"] for step in (0.4, 0.5)] == pytest.approx([3 / 4, 2 / 3])
    assert [found[step]["share_hotspot"] for step in (0.4, 0.5)] == pytest.approx([2 / 3, 1 / 2])


def test_without_a_figure_the_hotspots_are_empty_and_have_no_share() -> None:
    figures = Figures(np.empty((0, 3)), np.empty((1, 0)), np.empty(0), None, [])
    tissue = Tissue(np.ones((10, 10), bool), 8.0, (1.0, 1.0), "found", (80.0, 80.0))
    for row in measure_sensitivity(figures, tissue, Thresholds(0.5, 0.5), tissue, 0.05):
        assert (row["n_hotspot"], row["n_hotspot_circle"], row["share_hotspot"]) == (0, 0, None)


@pytest.mark.parametrize("width_um", [WIDTH_UM, 2 * RADIUS_UM], ids=["hotspot", "hotspot_circle"])
def test_a_figure_just_outside_of_a_window_is_nowhere_counted_in_it(
    width_um: float, request: pytest.FixtureRequest
) -> None:
    """Two figures at the left and one at the right hold the window; a fourth one is .5 nm outside of it."""
    points = np.array([[100, 100, 0.9], [100, 100, 0.9], [100 + width_um, 100, 0.9], [100.0005 + width_um, 100, 0.9]])
    figures = Figures(points, np.full((1, 4), 0.9), np.full(4, 0.9), None, [""] * 4)
    tissue = Tissue(np.ones((200, 400), bool), 8.0, (1.0, 1.0), "found", (3200.0, 1600.0))
    counted = count(figures, tissue, Thresholds(0.5, 0.5), tissue)
    window = counted[request.node.callspec.id]
    assert window["n_figures"] == window["atypical"]["n_figures"] == 3
    if request.node.callspec.id == "hotspot":
        assert find_in_hotspot(points, (1.0, 1.0), window).tolist() == [True, True, True, False]


def test_tissue_that_could_not_be_read_is_in_no_density_and_in_no_hotspot() -> None:
    points = np.array([[1000, 1000, 0.9], [3000, 3000, 0.9]])
    figures = Figures(points, np.full((1, 2), 0.9), np.full(2, 0.9), None, [""] * 2)
    tissue = Tissue(np.ones((500, 500), bool), 8.0, (1.0, 1.0), "found", (4000.0, 4000.0))
    read = tissue.without([(0, 0, 4000, 2000), (0, 0, 2000, 4000)])  # the lower right quarter is left
    counted = count(figures, tissue, Thresholds(0.5, 0.5), read)
    assert (counted["tissue_mm2"], counted["read_mm2"], counted["per_mm2"]) == pytest.approx((16, 4, 0.5))
    hotspot = counted["hotspot"]
    assert (hotspot["left_um"], hotspot["top_um"]) >= (2000, 2000) and hotspot["tissue_mm2"] == pytest.approx(
        2.37, rel=1e-3
    )
    at_the_border = count(
        replace(figures, points=points[:1], p_atypical=np.full(1, 0.9)), tissue, Thresholds(0.5, 0.5), read
    )["hotspot"]
    assert at_the_border["tissue_mm2"] < 1


def test_the_row_of_the_used_thresholds_has_the_counts_of_the_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(0, 6000, (80, 2)), rng.uniform(0.2, 1, 80)])
    p_atypical = rng.uniform(0, 1, 80)
    p_atypical[::9] = np.nan
    figures = Figures(points, p_atypical[None], p_atypical, None, [""] * 80)
    tissue = Tissue(np.ones((750, 750), bool), 8.0, (1.0, 1.0), "found", (6000.0, 6000.0))
    counted = count(figures, tissue, Thresholds(0.5, 0.5), tissue)
    found, searched = module.find_circle, []
    monkeypatch.setattr(module, "find_circle", lambda points_um: searched.append(len(points_um)) or found(points_um))
    (used,) = (row for row in measure_sensitivity(figures, tissue, Thresholds(0.5, 0.5), tissue, 0.2) if row["is_used"])
    assert len(searched) == 3  # once for each threshold of the detector
    hotspot, circle = counted["hotspot"], counted["hotspot_circle"]
    assert (used["n_hotspot"], used["n_hotspot_circle"]) == (hotspot["n_figures"], circle["n_figures"])
    assert (used["n_atypical"], used["share"]) == (counted["atypical"]["n_atypical"], counted["atypical"]["share"])
    assert used["share_hotspot"] == hotspot["atypical"]["share"]
    assert used["n_atypical_hotspot"] == hotspot["atypical"]["n_atypical"] < used["n_atypical"]
    assert (used["n_mitotic_figures"], used["per_mm2"]) == (counted["n_mitotic_figures"], counted["per_mm2"])


@pytest.mark.parametrize(("threshold", "floor"), [(0.4, 0.3), (0.2, 0.1), (0.1, 0.05)])
def test_points_are_kept_down_to_the_lowest_threshold_of_the_table(threshold: float, floor: float) -> None:
    assert choose_floor(threshold) == pytest.approx(floor)
