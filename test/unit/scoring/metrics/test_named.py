import numpy as np
import pytest

from mitoscope.scoring.metrics.named import compare_named, near_threshold

IS_ATYPICAL = np.array([True, False] * 20)
NAMED = np.arange(40) < 12
P_ATYPICAL = np.where(NAMED, 0.5, np.where(IS_ATYPICAL, 0.8, 0.2))  # guessed where named, else right


def test_named_crops_are_ranked_apart_from_the_others() -> None:
    found = compare_named(IS_ATYPICAL, P_ATYPICAL, NAMED)
    assert 0 < found.pop("n_redrawn") < 20  # of 2,000, some 2 x .85^40 draw none of six crops of a class
    assert found == {
        "n_named": 12,
        "roc_auc_named": 0.5,
        "roc_auc_others": 1.0,
        "difference": 0.5,
        "interval": (0.5, 0.5),
    }
    assert compare_named(IS_ATYPICAL, P_ATYPICAL, ~NAMED)["difference"] == -0.5


def test_the_interval_holds_the_difference_of_a_name_that_means_nothing() -> None:
    random = np.random.default_rng(0)
    is_atypical, p_atypical = random.random(400) < 0.3, random.random(400)
    found = compare_named(is_atypical, p_atypical, random.random(400) < 0.4, random.integers(50, size=400))
    low, high = found["interval"]
    assert low < 0 < high


@pytest.mark.parametrize("named", [np.zeros(40, dtype=bool), IS_ATYPICAL])
def test_a_side_without_a_class_has_no_roc_auc(named: np.ndarray) -> None:
    found = compare_named(IS_ATYPICAL, P_ATYPICAL, named)
    assert found["n_named"] == named.sum()
    assert {found[key] for key in ("roc_auc_named", "roc_auc_others", "difference", "interval")} == {None}


def test_the_crops_near_the_threshold_are_those_nearest_in_logits() -> None:
    p_atypical = np.array([0.0, 0.1, 0.3, 0.02, 1.0])
    assert near_threshold(p_atypical, 0.1, 3).tolist() == [False, True, True, True, False]
    assert not near_threshold(p_atypical, 0.1, 0).any()
