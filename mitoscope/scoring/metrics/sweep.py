"""The cost of the fixed threshold, compared with the best threshold on these labels."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix_at_thresholds

from mitoscope.scoring.metrics.classification import count_calls
from mitoscope.scoring.metrics.thresholds import LEAST_SPREAD, max_balanced_accuracy
from mitoscope.scoring.predictions import Array, check_predictions, check_threshold


@dataclass(frozen=True)
class Sweep:
    """The fixed threshold against the best.

    Attributes:
        threshold: The fixed one, in [0, 1].
        balanced_accuracy: At it.
        best_threshold: `max_balanced_accuracy` on these very labels; where all scores are equal,
            the fixed one.
        best_balanced_accuracy: At it; no threshold does better on these labels.
        price_points: The loss of the fixed threshold against the best, in percentage points of balanced accuracy; 0 or
            more. With few crops the best threshold fits their chance too, and the price looks higher than it is.
    """

    threshold: float
    balanced_accuracy: float
    best_threshold: float
    best_balanced_accuracy: float
    price_points: float


def sweep_thresholds(is_atypical: Array, p_atypical: Array, threshold: float) -> Sweep:
    """Compute the cost of a fixed threshold.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].
        threshold: In [0, 1]; a crop is called atypical when its probability is at least this.

    Raises:
        DataError: The predictions are unusable (see `check_predictions`), or the threshold is not in [0, 1].
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    check_threshold(threshold)
    best = max_balanced_accuracy(is_atypical, p_atypical) if np.ptp(p_atypical) >= LEAST_SPREAD else threshold
    lost, least = (_weighted_errors(is_atypical, p_atypical >= cut) for cut in (threshold, best))
    whole = 2 * int(is_atypical.sum()) * int((~is_atypical).sum())
    return Sweep(threshold, 1 - lost / whole, best, 1 - least / whole, 100 * (lost - least) / whole)


def sweep_curve(is_atypical: Array, p_atypical: Array) -> tuple[Array, Array]:
    """Balanced accuracy at every threshold.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].

    Returns:
        The thresholds where it changes, float (K,), rising from 0 to 1; and the balanced accuracy from before each
        one (exclusive) to it (inclusive), float (K,).

    Raises:
        DataError: The predictions are unusable (see `check_predictions`).
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    rejected, false_alarms, missed, found, scores = confusion_matrix_at_thresholds(is_atypical, p_atypical)
    balanced = (found / (found + missed) + rejected / (rejected + false_alarms)) / 2  # the scores fall
    thresholds = np.concatenate([[0.0], scores[::-1], [1.0]])
    return thresholds, np.concatenate([[0.5], balanced[::-1], [0.5 if scores[0] < 1 else balanced[0]]])


def _weighted_errors(is_atypical: Array, called: Array) -> int:
    """Errors as whole numbers, each weighted by the other class's crops, so that equal thresholds cost the same."""
    (_, false_alarms), (missed, _) = count_calls(is_atypical, called).tolist()
    return int(missed * (~is_atypical).sum() + false_alarms * is_atypical.sum())
