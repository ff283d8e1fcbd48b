"""The rules that place the threshold from which on a crop is called atypical.

The paper (Qi et al., arXiv 2509.02589) places Otsu's threshold on the very batch that it scores, which a case of a
few crops does not allow. `THRESHOLD_RULES` are those that need no batch: each is fitted once on out-of-fold
predictions (`one_half` on nothing) and then fixed. `BATCH_RULES` are fitted, without labels, on the batch to be
scored. A rule of either kind takes ``is_atypical``, bool (N,), and ``p_atypical``, float (N,) in [0, 1].
"""

from collections.abc import Callable

import numpy as np
from skimage.filters import threshold_otsu
from sklearn.metrics import confusion_matrix_at_thresholds

from mitoscope.errors import DataError
from mitoscope.scoring.predictions import Array, check_predictions, check_probabilities

Rule = Callable[[Array, Array], float]
COST_RATIO = 10.0
LEAST_SPREAD = 1e-9  # below it the 256 bins of Otsu's histogram run out of floats


def max_balanced_accuracy(is_atypical: Array, p_atypical: Array) -> float:
    """The threshold with the best balanced accuracy on these predictions.

    It is `cost_weighted` with as cost ratio the number of normal crops for each atypical one in the predictions.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].

    Returns:
        The threshold, midway between the lowest score that is called atypical and the next lower one. Of equally good
        ones the highest.

    Raises:
        DataError: The predictions are unusable (see `check_predictions`) or all scores are equal.
    """
    n_atypical = int(np.sum(is_atypical))
    return _cheapest(is_atypical, p_atypical, miss=len(is_atypical) - n_atypical, false_alarm=n_atypical)


def cost_weighted(is_atypical: Array, p_atypical: Array) -> float:
    """The threshold of least cost on these predictions, where a missed atypical crop costs ten false alarms.

    The ratio is a convention, not a measurement. A reader dismisses a false alarm at a glance. Nobody searches for
    crops that were missed. So one miss costs as much as ten false alarms. If the probabilities are calibrated, that
    calls a crop atypical from a chance of 1 in 11 on. Balanced accuracy implies a ratio of 5.4 on the paper's Table 1
    (3.2 to 11.5 by cancer) and 3.5 on AMi-Br; unlike it, this
    ratio does not follow how many atypical crops the fitted data happen to hold.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].

    Returns:
        The threshold, as `max_balanced_accuracy` places it, even where to call nothing atypical would cost less.

    Raises:
        DataError: As `max_balanced_accuracy`.
    """
    return _cheapest(is_atypical, p_atypical, miss=COST_RATIO, false_alarm=1)


def otsu(_is_atypical: Array, p_atypical: Array) -> float:
    """Otsu's threshold of the scores, which needs no labels (Otsu 1979, as in skimage).

    Args:
        _is_atypical: Not looked at.
        p_atypical: float (N,) in [0, 1].

    Returns:
        The threshold: the centre of one of skimage's 256 bins between the lowest and the highest score.

    Raises:
        DataError: All scores are equal, or one is no probability.
    """
    return float(threshold_otsu(_spread(check_probabilities(p_atypical))))  # type: ignore[no-untyped-call]  # skimage is untyped


def one_half(_is_atypical: Array, _p_atypical: Array) -> float:
    """0.5, fitted on nothing."""
    return 0.5


THRESHOLD_RULES: dict[str, Rule] = {
    "max_balanced_accuracy": max_balanced_accuracy,
    "otsu": otsu,
    "one_half": one_half,
    "cost_weighted": cost_weighted,
}
BATCH_RULES: dict[str, Rule] = {"otsu_of_batch": otsu}


def _cheapest(is_atypical: Array, p_atypical: Array, miss: float, false_alarm: float) -> float:
    """The highest threshold of least cost among those that call something atypical."""
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    _, false_alarms, misses, _, scores = confusion_matrix_at_thresholds(is_atypical, _spread(p_atypical))
    costs = miss * misses + false_alarm * false_alarms  # whole numbers where the prices are, so that ties are exact
    cheapest = int(np.argmin(costs))  # the scores fall, so the first is the highest
    if cheapest == len(scores) - 1:
        return float(scores[cheapest])
    midway = (scores[cheapest] + scores[cheapest + 1]) / 2
    return float(midway if midway > scores[cheapest + 1] else scores[cheapest])  # two neighbouring floats


def _spread(p_atypical: Array) -> Array:
    """The scores, refused where no threshold can part them."""
    lowest, highest = p_atypical.min(), p_atypical.max()
    if highest - lowest < LEAST_SPREAD:
        raise DataError(
            "no threshold can part the scores",
            got=f"{len(p_atypical)} scores between {lowest} and {highest}",
            expected=f"scores that differ by {LEAST_SPREAD} or more",
            remedy="check the networks that gave them, or use the rule one_half",
        )
    return p_atypical
