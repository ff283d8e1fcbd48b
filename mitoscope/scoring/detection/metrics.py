"""F1, precision, recall, average precision and FROC AUC, with the arithmetic of the challenge's evaluation container.

The functions take counts, so that a bootstrap can weigh them.
"""

import numpy as np

from mitoscope.scoring.detection.match import Array

METRICS = ("f1_score", "precision", "recall", "AP", "froc_auc")
EPSILON = 1e-6  # the evaluator's, in each denominator; F1 is 1 where there is nothing to find and nothing is found
RECALLS = np.arange(0, 1.01, 0.01)  # (101,)
FROC_THRESHOLDS = 40
MOST_FALSE_ALARMS = 8.0  # an image
FALSE_ALARMS = np.linspace(0, MOST_FALSE_ALARMS, 50)  # where the FROC curve is integrated


def compute_rates(n_found: Array, n_called: Array, n_true: Array | float) -> tuple[Array, Array, Array]:
    """F1, precision and recall.

    Args:
        n_found: Figures that are found; a number or an array.
        n_called: Points that are called mitotic figures.
        n_true: True figures.

    Returns:
        Each in [0, 1], of the counts' common shape.
    """
    f1 = (2 * n_found + EPSILON) / (n_called + n_true + EPSILON)
    return f1, n_found / (n_called + EPSILON), n_found / (n_true + EPSILON)


def average_precision(right: Array, n_true: float, weights: Array | None = None) -> float:
    """Average precision over 101 steps of recall, as pycocotools computes it.

    The evaluator rounds its result to float32; here it is not rounded.

    Args:
        right: bool (P,), the points that `mitoscope.scoring.detection.match.match_boxes` finds right, in the order of
            `mitoscope.scoring.detection.match.rank_points`.
        n_true: True figures.
        weights: (P,), how often each point counts; None: once.

    Returns:
        In [0, 1]; NaN without true figures.
    """
    if not n_true:
        return float("nan")
    weights = np.ones(len(right)) if weights is None else weights
    found = (right * weights).cumsum()
    precision = found / (weights.cumsum() + np.spacing(1))
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a larger one
    steps = np.searchsorted(found / n_true, RECALLS)
    return float(np.append(highest, 0.0)[steps].mean())


def choose_froc_thresholds(p_mitosis: Array) -> Array:
    """The thresholds of a FROC curve.

    Args:
        p_mitosis: float (P,), of all points of all images; at least one.

    Returns:
        float (K,), rising: 40 from the lowest to the highest probability, fewer where these are almost equal.
    """
    return np.unique(np.linspace(p_mitosis.min(), p_mitosis.max(), FROC_THRESHOLDS))


def froc_auc(n_found: Array, n_called: Array, n_true: float, n_images: float) -> float:
    """The area under recall over false alarms an image, from 0 to 8 of them (FROC).

    Args:
        n_found: (K,), figures that are found at each of the thresholds of `choose_froc_thresholds`.
        n_called: (K,), points at each of them.
        n_true: True figures.
        n_images: Images.

    Returns:
        In [0, 8]: the evaluator does not divide it by 8.
    """
    false_alarms, (_, _, recall) = (n_called - n_found) / n_images, compute_rates(n_found, n_called, n_true)
    order = np.argsort(false_alarms)  # NumPy's default, as the evaluator's: it also decides the order of equal ones
    heights = np.interp(FALSE_ALARMS, false_alarms[order], recall[order], left=0, right=recall[order][-1])
    return float(np.trapezoid(heights, FALSE_ALARMS))
