"""The metrics of the leaderboard, with atypical as the positive class."""

import numpy as np
from grand_challenge_metrics.stats import calculate_confusion_matrix
from sklearn.metrics import roc_auc_score

from mitoscope.scoring.predictions import Array, check_called, check_predictions


def compute_metrics(is_atypical: Array, p_atypical: Array, called: Array) -> dict[str, float]:
    """The metrics of the leaderboard, with atypical as the positive class.

    Args:
        is_atypical: bool (N,), the labels; both classes.
        p_atypical: float (N,) in [0, 1]; only ROC AUC depends on it.
        called: bool (N,), the crops that are called atypical, such as by `call_atypical`.

    Returns:
        n_crops, n_atypical, roc_auc, balanced_accuracy, accuracy, sensitivity, specificity; shares are in [0, 1].

    Raises:
        DataError: The predictions (see `check_predictions`) or the classes (see `check_called`) are unusable.
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    called = check_called(called, len(is_atypical))
    (rejected, false_alarms), (missed, found) = count_calls(is_atypical, called).tolist()
    sensitivity, specificity = found / (found + missed), rejected / (rejected + false_alarms)
    return {
        "n_crops": len(is_atypical),
        "n_atypical": int(is_atypical.sum()),
        "roc_auc": float(roc_auc_score(is_atypical, p_atypical)),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": (found + rejected) / len(is_atypical),
        "sensitivity": sensitivity,
        "specificity": specificity,
    }


def count_calls(is_atypical: Array, called: Array) -> Array:
    """The confusion matrix, int (2, 2): a row for each label, a column for each call, normal first.

    Args:
        is_atypical: bool (N,), the labels; one class may be missing.
        called: bool (N,), the crops that are called atypical.
    """
    return np.asarray(calculate_confusion_matrix(is_atypical, called, [False, True]))


def weighted_roc_auc(is_atypical: Array, p_atypical: Array, weights: Array) -> Array:
    """ROC AUC of many weightings of the same predictions at once: Mann and Whitney's statistic, ties counted half.

    Args:
        is_atypical: bool (N,).
        p_atypical: float (N,).
        weights: int (B, N), 0 or more; each row with weight on both classes.

    Returns:
        float (B,), as scikit-learn's `roc_auc_score` with each row as sample weights.
    """
    order = np.argsort(p_atypical, kind="stable")
    first = np.flatnonzero(np.diff(p_atypical[order], prepend=-np.inf))  # of each distinct score
    weights, is_atypical = weights[:, order], is_atypical[order]
    atypical = np.add.reduceat(weights * is_atypical, first, axis=1)  # (B, distinct scores)
    normal = np.add.reduceat(weights * ~is_atypical, first, axis=1)
    upto = normal.cumsum(axis=1)
    won_twice = (atypical * (2 * upto - normal)).sum(axis=1)  # whole numbers: no rounding before the division
    return np.asarray(won_twice / (2 * atypical.sum(axis=1) * upto[:, -1]))
