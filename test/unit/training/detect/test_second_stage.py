import numpy as np
import pytest
from scipy.special import logit

from mitoscope.training.detect.results.second_stage import judge_again


@pytest.fixture
def candidates() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features of which one tells figures apart, logits that do so, too, labels, and four folds of 50."""
    random = np.random.default_rng(0)
    right = random.random(200) < 0.4
    features = random.normal(size=(200, 6))
    features[:, 2] += 2 * right
    return features, random.normal(size=200) + 1.5 * right, right, np.arange(200) // 50


def auc(score: np.ndarray, right: np.ndarray) -> float:
    return float((score[right][:, None] > score[~right]).mean())


def test_what_the_features_add_to_the_detector(candidates: tuple[np.ndarray, ...]) -> None:
    features, first, right, fold = candidates
    alone, both = judge_again(features, first, right, fold)
    assert auc(alone, right) > 0.8
    assert auc(both, right) > max(auc(alone, right), auc(first, right))


def test_noise_leaves_the_detectors_order_nearly_as_it_was(candidates: tuple[np.ndarray, ...]) -> None:
    _, first, right, fold = candidates
    _, both = judge_again(np.random.default_rng(1).normal(size=(200, 6)), first, right, fold)
    for own in range(4):
        assert np.corrcoef(logit(both[fold == own]), first[fold == own])[0, 1] > 0.9


def test_no_candidate_is_judged_by_its_own_folds_labels(candidates: tuple[np.ndarray, ...]) -> None:
    features, first, right, fold = candidates
    alone, both = judge_again(features, first, right, fold)
    other = np.where(fold == 1, ~right, right)
    changed_alone, changed_both = judge_again(features, first, other, fold)
    own = fold == 1
    assert np.array_equal(changed_alone[own], alone[own]) and np.array_equal(changed_both[own], both[own])
    assert not np.allclose(changed_alone[~own], alone[~own])
