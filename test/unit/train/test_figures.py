import numpy as np
import pytest
from skimage.filters import threshold_otsu

from train.figures import THRESHOLD_RULES, figures, max_balanced_accuracy

RANDOM = np.random.default_rng(0)
TRUTH = np.arange(400) % 4 == 0
SCORES = RANDOM.beta(2, 5, 400) * 0.7 + TRUTH * 0.25


def test_figures_of_a_case_worked_by_hand() -> None:
    truth, scores = np.array([True, True, False, False, False]), np.array([0.9, 0.3, 0.4, 0.2, 0.1])
    got = figures(truth, scores, 0.4)
    assert got["sensitivity"] == 0.5
    assert got["specificity"] == pytest.approx(2 / 3)
    assert got["balanced_accuracy"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert got["roc_auc"] == pytest.approx(5 / 6)
    assert (got["n_crops"], got["n_atypical"]) == (5, 2)


def test_no_threshold_beats_the_fitted_one() -> None:
    best = figures(TRUTH, SCORES, max_balanced_accuracy(TRUTH, SCORES))["balanced_accuracy"]
    every = [figures(TRUTH, SCORES, score)["balanced_accuracy"] for score in np.unique(SCORES)]
    assert best == pytest.approx(max(every))


def test_otsu_is_that_of_skimage() -> None:
    assert THRESHOLD_RULES["otsu"](TRUTH, SCORES) == threshold_otsu(SCORES)
