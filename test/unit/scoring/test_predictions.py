import numpy as np
import pytest

from mitoscope.errors import DataError
from mitoscope.scoring.predictions import check_predictions, check_threshold

TRUTH, SCORES = np.array([True, False, False]), np.array([0.9, 0.2, 0.1])


def test_good_predictions_pass_as_float64() -> None:
    truth, scores = check_predictions(TRUTH, SCORES.astype(np.float32))
    assert truth is TRUTH
    assert scores.dtype == np.float64
    assert scores == pytest.approx(SCORES)


def test_both_ends_of_the_range_are_probabilities() -> None:
    check_predictions(TRUTH, np.array([0.0, 1.0, 0.5]))


@pytest.mark.parametrize(
    ("truth", "scores", "line"),
    [
        (TRUTH[:0], SCORES[:0], "there are no predictions: got shape (0,), expected a probability a crop"),
        (TRUTH, SCORES[None], "there are no predictions: got shape (1, 3)"),
        (TRUTH, [0.5, np.nan, np.nan], "got nan for crop 1 (counted from 0) and 2 such in all, expected numbers in"),
        (TRUTH, [0.5, 0.2, 1.01], "p_atypical is no probability: got 1.01 for crop 2"),
        (TRUTH, [-0.1, 0.2, 0.5], "p_atypical is no probability: got -0.1 for crop 0"),
        (TRUTH, [0.1, 0.2, np.inf], "p_atypical is no probability: got inf for crop 2"),
        (TRUTH[:2], SCORES, "the labels do not match the predictions: got bool (2,) for 3 crops"),
        (TRUTH.astype(int), SCORES, "the labels do not match the predictions: got int64 (3,) for 3 crops"),
        (TRUTH | True, SCORES, "a class is missing: got 3 crops, all atypical, expected crops of both classes"),
        (TRUTH & False, SCORES, "a class is missing: got 3 crops, all normal"),
    ],
)
def test_what_no_figure_can_be_computed_from_is_refused_in_one_line(
    truth: np.ndarray, scores: np.ndarray, line: str
) -> None:
    with pytest.raises(DataError) as error:
        check_predictions(truth, scores)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("threshold", [-0.01, 1.01, np.nan, np.inf])
def test_a_threshold_that_no_probability_can_meet_is_refused(threshold: float) -> None:
    with pytest.raises(DataError, match=r"^the threshold is unusable: got .*, expected a number in \[0, 1\]"):
        check_threshold(threshold)
