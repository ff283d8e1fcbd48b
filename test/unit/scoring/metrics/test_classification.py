import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.classification import compute_metrics, weighted_roc_auc

RANDOM = np.random.default_rng(0)
TRUTH = np.arange(400) % 4 == 0
SCORES = RANDOM.beta(2, 5, 400) * 0.7 + TRUTH * 0.25


def test_metrics_of_a_case_worked_by_hand() -> None:
    truth, scores = np.array([True, True, False, False, False]), np.array([0.9, 0.3, 0.4, 0.2, 0.1])
    got = compute_metrics(truth, scores, scores >= 0.4)
    assert got["sensitivity"] == 0.5
    assert got["specificity"] == pytest.approx(2 / 3)
    assert got["balanced_accuracy"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert got["accuracy"] == pytest.approx(3 / 5)
    assert got["roc_auc"] == pytest.approx(5 / 6)
    assert (got["n_crops"], got["n_atypical"]) == (5, 2)


def test_metrics_are_those_of_scikit_learn() -> None:
    called = RANDOM.random(400) < 0.5  # whatever the scores say
    got = compute_metrics(TRUTH, SCORES, called)
    assert got["sensitivity"] == pytest.approx(recall_score(TRUTH, called))
    assert got["specificity"] == pytest.approx(recall_score(~TRUTH, ~called))
    assert got["roc_auc"] == pytest.approx(roc_auc_score(TRUTH, SCORES))
    assert got["accuracy"] == pytest.approx(accuracy_score(TRUTH, called))


def test_unusable_predictions_are_refused() -> None:
    with pytest.raises(DataError, match="a class is missing"):
        compute_metrics(TRUTH[TRUTH], SCORES[TRUTH], TRUTH[TRUTH])
    with pytest.raises(DataError, match=r"the classes do not match the predictions: got int64 \(400,\) for 400 crops"):
        compute_metrics(TRUTH, SCORES, TRUTH.astype(int))


@pytest.mark.parametrize("decimals", [1, 2, 16], ids=["many ties", "some ties", "no ties"])
def test_weighted_auc_is_that_of_scikit_learn(decimals: int) -> None:
    scores, weights = SCORES.round(decimals), RANDOM.poisson(1.0, (50, 400))
    expected = [roc_auc_score(TRUTH, scores, sample_weight=row) for row in weights]
    assert weighted_roc_auc(TRUTH, scores, weights) == pytest.approx(expected, rel=0, abs=1e-12)


def test_a_weight_is_so_many_copies_of_a_crop() -> None:
    weights = RANDOM.integers(0, 4, 400)
    copied = roc_auc_score(np.repeat(TRUTH, weights), np.repeat(SCORES, weights))
    assert weighted_roc_auc(TRUTH, SCORES, weights[None])[0] == pytest.approx(copied, rel=0, abs=1e-12)
