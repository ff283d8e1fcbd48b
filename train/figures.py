"""The figures that a study is judged by, and the rules that place its fixed threshold."""

from collections.abc import Callable

import numpy as np
from skimage.filters import threshold_otsu
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

Array = np.ndarray


def figures(is_atypical: Array, p_atypical: Array, threshold: float) -> dict[str, float]:
    """What the leaderboard reports, with atypical as the positive class.

    Args:
        is_atypical: bool (N,).
        p_atypical: float (N,) in [0, 1].
        threshold: A crop is called atypical when its probability is at least this.

    Returns:
        n_crops, n_atypical, roc_auc, balanced_accuracy, sensitivity, specificity; shares are in [0, 1].
    """
    called = p_atypical >= threshold
    return {
        "n_crops": len(is_atypical),
        "n_atypical": int(is_atypical.sum()),
        "roc_auc": float(roc_auc_score(is_atypical, p_atypical)),
        "balanced_accuracy": float(balanced_accuracy_score(is_atypical, called)),
        "sensitivity": float(called[is_atypical].mean()),
        "specificity": float((~called[~is_atypical]).mean()),
    }


def max_balanced_accuracy(is_atypical: Array, p_atypical: Array) -> float:
    """The threshold with the best balanced accuracy on these predictions, midway to the next lower score."""
    false_positive_rate, true_positive_rate, scores = roc_curve(is_atypical, p_atypical, drop_intermediate=False)
    best = scores[1:][
        int(np.argmax((true_positive_rate - false_positive_rate)[1:]))
    ]  # the first calls nothing atypical
    below = p_atypical[p_atypical < best]
    return float((best + below.max()) / 2 if len(below) else best)


def otsu(_is_atypical: Array, p_atypical: Array) -> float:
    """Otsu's threshold of the scores, which needs no labels (Otsu 1979, as in skimage)."""
    return float(threshold_otsu(p_atypical))  # type: ignore[no-untyped-call]  # skimage is untyped


def one_half(_is_atypical: Array, _p_atypical: Array) -> float:
    """0.5, fitted on nothing."""
    return 0.5


THRESHOLD_RULES: dict[str, Callable[[Array, Array], float]] = {
    "max_balanced_accuracy": max_balanced_accuracy,
    "otsu": otsu,
    "one_half": one_half,
}
