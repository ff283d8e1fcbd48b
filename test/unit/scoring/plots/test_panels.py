from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.calibration import measure_calibration
from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.metrics.sweep import sweep_thresholds
from mitoscope.scoring.plots import plot_calibration, plot_precision_recall_curves, plot_sweeps

TRUTH = np.arange(80) % 5 == 0
SCORES = np.random.default_rng(0).beta(2, 4, 80) * 0.7 + TRUTH * 0.2
GROUP = Group.at_threshold("cancer 0", TRUTH, SCORES, 0.45)


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []

    def save(figure: Figure, path: Path, **_: object) -> None:
        figures.append(figure)
        path.touch()

    monkeypatch.setattr(Figure, "savefig", save)
    return figures


def test_the_reliability_diagram_shows_each_bin(saved: list[Figure], tmp_path: Path) -> None:
    plot_calibration([GROUP], tmp_path / "calibration.svg")
    axes: Axes = saved[0].axes[0]
    calibration = measure_calibration(TRUTH, SCORES)
    diagonal, curve = axes.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    expected = [(each.mean_p_atypical, each.share_atypical) for each in calibration.bins]
    assert curve.get_xydata() == pytest.approx(np.array(expected))
    assert [bar.get_height() * 80 for bar in axes.patches] == pytest.approx([b.n_crops for b in calibration.bins])
    whiskers = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    assert np.array(whiskers) == pytest.approx(np.array([each.interval for each in calibration.bins]))
    assert axes.get_title() == f"cancer 0\nECE {calibration.ece:.3f}"


def test_the_sweep_marks_the_fixed_threshold_and_names_its_price(saved: list[Figure], tmp_path: Path) -> None:
    plot_sweeps([GROUP], tmp_path / "sweep.svg")
    axes: Axes = saved[0].axes[0]
    sweep = sweep_thresholds(TRUTH, SCORES, 0.45)
    curve, best, point = axes.lines
    assert sweep.price_points > 0
    assert curve.get_drawstyle() == "steps-pre"
    assert max(np.asarray(curve.get_ydata())) == pytest.approx(sweep.best_balanced_accuracy)
    assert best.get_xdata() == [sweep.best_threshold] * 2
    assert point.get_xydata()[0] == pytest.approx([0.45, sweep.balanced_accuracy])
    price = f"● threshold 0.450\ncosts {sweep.price_points:.1f} points\n┊ best {sweep.best_threshold:.3f}"
    assert price in axes.get_title()
    low, high = axes.get_ylim()
    assert low <= min(np.asarray(curve.get_ydata()))
    assert high >= sweep.best_balanced_accuracy


def test_without_a_threshold_there_is_no_price(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match="^cancer 0: the cost of the threshold cannot be computed: got classes",
    ):
        plot_sweeps([Group("cancer 0", TRUTH, SCORES, TRUTH, None)], tmp_path / "sweep.svg")
    assert not list(tmp_path.iterdir())


def test_the_area_under_precision_and_recall_is_the_average_precision(saved: list[Figure], tmp_path: Path) -> None:
    plot_precision_recall_curves([GROUP], tmp_path / "curve.svg")
    curve, point = saved[0].axes[0].lines
    recall, precision = curve.get_xydata().T
    area = -(np.diff(recall) * precision[:-1]).sum()  # steps-post, from high recall to low
    value = average_precision_score(TRUTH, SCORES)
    assert curve.get_drawstyle() == "steps-post"
    assert area == pytest.approx(value)
    called = SCORES >= 0.45
    assert point.get_xydata()[0] == pytest.approx([called[TRUTH].mean(), TRUTH[called].mean()])
    labels = [text.get_text() for text in saved[0].legends[0].get_texts()]
    assert labels == [f"{value:.3f} (0.200)  cancer 0", "at the threshold 0.450"]


def test_where_nothing_is_called_there_is_no_precision_to_mark(saved: list[Figure], tmp_path: Path) -> None:
    plot_precision_recall_curves([Group.at_threshold("cancer 0", TRUTH, SCORES, 1.0)], tmp_path / "curve.svg")
    assert len(saved[0].axes[0].lines) == 1
