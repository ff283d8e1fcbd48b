import numpy as np
import pytest

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.sweep import sweep_curve, sweep_thresholds

RANDOM = np.random.default_rng(0)
TRUTH = np.arange(400) % 4 == 0
SCORES = (RANDOM.beta(2, 5, 400) * 0.7 + TRUTH * 0.25).round(2)  # with ties


def balanced(threshold: float) -> float:
    return compute_metrics(TRUTH, SCORES, threshold <= SCORES)["balanced_accuracy"]


def test_the_price_is_against_the_best_of_all_thresholds() -> None:
    best = max(balanced(threshold) for threshold in [0.0, *np.unique(SCORES), 1.0])
    for threshold in (0.0, 0.2, 0.45, 0.6, 1.0):
        got = sweep_thresholds(TRUTH, SCORES, threshold)
        assert got.balanced_accuracy == pytest.approx(balanced(threshold), rel=0, abs=1e-12)
        assert got.best_balanced_accuracy == pytest.approx(best, rel=0, abs=1e-12)
        assert balanced(got.best_threshold) == pytest.approx(best, rel=0, abs=1e-12)
        assert got.price_points == pytest.approx(100 * (best - balanced(threshold)), rel=0, abs=1e-9)
        assert got.price_points > 0


def test_the_best_threshold_costs_exactly_nothing() -> None:
    best = sweep_thresholds(TRUTH, SCORES, 0.5).best_threshold
    assert sweep_thresholds(TRUTH, SCORES, best).price_points == 0


def test_where_all_scores_are_equal_no_threshold_is_better() -> None:
    got = sweep_thresholds(TRUTH, SCORES * 0 + 0.3, 0.4)
    assert (got.balanced_accuracy, got.best_threshold, got.price_points) == (0.5, 0.4, 0)


@pytest.mark.parametrize("scores", [SCORES, np.where(SCORES > 0.6, 1.0, SCORES), np.where(SCORES < 0.2, 0.0, SCORES)])
def test_the_curve_is_the_balanced_accuracy_at_every_threshold(scores: np.ndarray) -> None:
    thresholds, values = sweep_curve(TRUTH, scores)
    assert (thresholds[0], thresholds[-1]) == (0, 1)
    assert (np.diff(thresholds) >= 0).all()
    for at in [*RANDOM.random(50), 0.0, 0.3, 1.0]:
        expected = compute_metrics(TRUTH, scores, scores >= at)["balanced_accuracy"]
        assert values[np.searchsorted(thresholds, at, side="left")] == pytest.approx(expected, rel=0, abs=1e-12)


def test_what_cannot_be_swept_is_refused() -> None:
    with pytest.raises(DataError, match="the threshold is unusable: got 1.5"):
        sweep_thresholds(TRUTH, SCORES, 1.5)
    with pytest.raises(DataError, match="a class is missing"):
        sweep_curve(TRUTH & False, SCORES)
