"""The counts at other thresholds, of figures whose places are chosen."""

import numpy as np
import pytest

from mitoscope.slide.counts import Thresholds, measure_sensitivity
from mitoscope.slide.figures import Figures
from mitoscope.slide.tissue import Tissue


def test_each_row_has_both_hotspots_and_the_share_within_the_rectangle() -> None:
    """Three figures in a row are within 1,778 µm, but not within the circle's 1,737 µm; a fourth one is far away."""
    points = np.array([[0, 100, 0.9], [900, 100, 0.9], [9000, 100, 0.9], [1770, 100, 0.45]])
    p_atypical = np.array([0.9, 0.1, 0.9, 0.9])
    figures = Figures(points, p_atypical[None], p_atypical, None, [""] * 4)
    tissue = Tissue(np.ones((200, 1200), bool), 8.0, (1.0, 1.0), "found", (9600.0, 1600.0))
    rows = measure_sensitivity(figures, tissue, Thresholds(0.5, 0.5), tissue.area_mm2, 0.05)
    found = {row["threshold_mitosis"]: row for row in rows if row["threshold_atypical"] == 0.5}
    assert [found[step]["n_hotspot"] for step in (0.4, 0.5, 0.6)] == [3, 2, 2]
    assert [found[step]["n_hotspot_circle"] for step in (0.4, 0.5, 0.6)] == [2, 2, 2]
    assert [found[step]["share"] for step in (0.4, 0.5)] == pytest.approx([3 / 4, 2 / 3])
    assert [found[step]["share_hotspot"] for step in (0.4, 0.5)] == pytest.approx([2 / 3, 1 / 2])


def test_without_a_figure_the_hotspots_are_empty_and_have_no_share() -> None:
    figures = Figures(np.empty((0, 3)), np.empty((1, 0)), np.empty(0), None, [])
    tissue = Tissue(np.ones((10, 10), bool), 8.0, (1.0, 1.0), "found", (80.0, 80.0))
    for row in measure_sensitivity(figures, tissue, Thresholds(0.5, 0.5), tissue.area_mm2, 0.05):
        assert (row["n_hotspot"], row["n_hotspot_circle"], row["share_hotspot"]) == (0, 0, None)
