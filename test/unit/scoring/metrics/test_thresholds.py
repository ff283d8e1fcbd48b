import numpy as np
import pytest
from skimage.filters import threshold_otsu

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.thresholds import (
    BATCH_RULES,
    COST_RATIO,
    THRESHOLD_RULES,
    Rule,
    cost_weighted,
    max_balanced_accuracy,
    one_half,
    otsu,
)
from mitoscope.scoring.predictions import call_atypical

RANDOM = np.random.default_rng(0)
TRUTH = np.arange(400) % 4 == 0
SCORES = RANDOM.beta(2, 5, 400) * 0.7 + TRUTH * 0.25
FITTED = [rule for rule in THRESHOLD_RULES.values() if rule is not one_half]


def cost(threshold: float) -> float:
    called = threshold <= SCORES
    return COST_RATIO * (TRUTH & ~called).sum() + (~TRUTH & called).sum()


def test_no_threshold_beats_the_fitted_one() -> None:
    best = compute_metrics(TRUTH, SCORES, max_balanced_accuracy(TRUTH, SCORES) <= SCORES)["balanced_accuracy"]
    every = [compute_metrics(TRUTH, SCORES, score <= SCORES)["balanced_accuracy"] for score in np.unique(SCORES)]
    assert best == pytest.approx(max(every))


def test_no_threshold_costs_less_than_the_fitted_one() -> None:
    least = min(cost(score) for score in [*np.unique(SCORES), 1.0])
    assert cost(cost_weighted(TRUTH, SCORES)) == pytest.approx(least)


def test_the_dearer_a_miss_the_lower_the_threshold() -> None:
    assert max_balanced_accuracy(TRUTH, SCORES) > cost_weighted(TRUTH, SCORES)  # 3 and 10 false alarms for a miss


def test_the_threshold_is_midway_to_the_next_lower_score() -> None:
    assert max_balanced_accuracy(np.array([True, False]), np.array([0.75, 0.25])) == 0.5
    assert max_balanced_accuracy(np.array([True, False, False]), np.array([0.5, 0.25, 0.25])) == 0.375


def test_of_equally_good_thresholds_the_highest_is_taken() -> None:
    truth, scores = np.array([True, False, True, False]), np.array([0.875, 0.625, 0.375, 0.125])
    assert max_balanced_accuracy(truth, scores) == (0.875 + 0.625) / 2  # as good as 0.25: one error either way
    assert cost_weighted(truth, scores) == (0.375 + 0.125) / 2


def test_where_all_must_be_called_atypical_the_lowest_score_is_the_threshold() -> None:
    assert cost_weighted(np.array([False, True]), np.array([0.75, 0.25])) == 0.25


def test_a_threshold_parts_two_scores_that_are_neighbours() -> None:
    for kind in (np.float32, np.float64):
        high = np.nextafter(kind(0.5), kind(1))
        scores, truth = np.array([0.5, high, 0.1], kind), np.array([False, True, False])
        threshold = max_balanced_accuracy(truth, scores)
        assert 0.5 < threshold <= high
        assert compute_metrics(truth, scores, call_atypical(scores, threshold))["balanced_accuracy"] == 1


def test_otsu_is_that_of_skimage_and_needs_no_labels() -> None:
    assert THRESHOLD_RULES["otsu"](TRUTH, SCORES) == threshold_otsu(SCORES)
    assert BATCH_RULES["otsu_of_batch"](TRUTH & False, SCORES) == threshold_otsu(SCORES)


def test_one_half_is_fitted_on_nothing() -> None:
    assert THRESHOLD_RULES["one_half"](TRUTH[:0], SCORES[:0]) == 0.5


def test_a_rule_that_needs_the_batch_has_a_name_of_its_own() -> None:
    assert set(THRESHOLD_RULES) == {"max_balanced_accuracy", "otsu", "one_half", "cost_weighted"}
    assert not THRESHOLD_RULES.keys() & BATCH_RULES.keys()


@pytest.mark.parametrize("rule", FITTED)
@pytest.mark.parametrize(
    ("scores", "line"),
    [
        (SCORES * 0 + 0.3, "no threshold can part the scores: got 400 scores between 0.3 and 0.3"),
        (0.5 + SCORES * 1e-12, "no threshold can part the scores"),
        (np.where(SCORES > 0.6, np.nan, SCORES), "p_atypical is no probability: got nan"),
        (SCORES * 4, "p_atypical is no probability"),
        (SCORES[:0], "there are no predictions"),
    ],
    ids=["constant", "nearly constant", "NaN", "above 1", "empty"],
)
def test_scores_without_a_threshold_are_refused_in_one_line(rule: Rule, scores: np.ndarray, line: str) -> None:
    with pytest.raises(DataError) as error:
        rule(TRUTH[: len(scores)], scores)
    assert line in str(error.value)


@pytest.mark.parametrize("rule", [max_balanced_accuracy, cost_weighted])
@pytest.mark.parametrize("truth", [TRUTH & False, TRUTH | True])
def test_rules_that_look_at_labels_refuse_a_single_class(rule: Rule, truth: np.ndarray) -> None:
    with pytest.raises(DataError, match="a class is missing: got 400 crops, all"):
        rule(truth, SCORES)


def test_otsu_parts_any_scores_that_it_accepts() -> None:
    spread = np.array([0.5, 0.5 + 2e-9])
    assert spread[0] < otsu(TRUTH[:2], spread) < spread[1]


def test_cost_weighted_gives_a_threshold_even_where_none_pays() -> None:
    truth = np.zeros(400, dtype=bool)
    truth[np.argsort(SCORES)[:3]] = True  # the least probable: to call any costs more than to miss all
    highest, next_lower = np.sort(SCORES)[:-3:-1]
    assert cost_weighted(truth, SCORES) == (highest + next_lower) / 2
