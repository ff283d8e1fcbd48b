"""DeLong's paired test: do two predictions of the same crops differ in ROC AUC, or is it chance?"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from mitoscope.scoring.metrics.bootstrap import Interval
from mitoscope.scoring.predictions import Array, check_predictions


@dataclass(frozen=True)
class DeLong:
    """The test's result.

    Attributes:
        difference: The first's ROC AUC less the second's.
        standard_error: Of the difference; None where a class has a single crop.
        interval: Of the difference, 95 %, by the normal approximation; None without a standard error.
        p_value: Two-sided. 1 where the standard error and the difference are 0, as for a prediction against itself;
            None where there is no standard error, or it is 0 beside a difference.
    """

    difference: float
    standard_error: float | None
    interval: Interval | None
    p_value: float | None


def delong(is_atypical: Array, p_first: Array, p_second: Array) -> DeLong:
    """Test whether two ROC AUCs differ (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988).

    The test takes crops as independent: where several come from one case, its p-value is too small.

    Args:
        is_atypical: bool (N,), both classes.
        p_first: float (N,) in [0, 1].
        p_second: float (N,) in [0, 1].

    Raises:
        DataError: The predictions are unusable (see `check_predictions`).
    """
    (atypical_1, normal_1), (atypical_2, normal_2) = (_placements(is_atypical, p) for p in (p_first, p_second))
    ahead, behind = atypical_1 - atypical_2, normal_1 - normal_2
    difference = float(ahead.mean())
    if min(len(ahead), len(behind)) < 2:
        return DeLong(difference, None, None, None)
    error = float(np.sqrt(ahead.var(ddof=1) / len(ahead) + behind.var(ddof=1) / len(behind)))
    if error == 0:
        return DeLong(difference, 0.0, (difference, difference), 1.0 if difference == 0 else None)
    reach = float(norm.ppf(0.975)) * error
    p_value = float(2 * norm.sf(abs(difference) / error))
    return DeLong(difference, error, (difference - reach, difference + reach), p_value)


def _placements(is_atypical: Array, p_atypical: Array) -> tuple[Array, Array]:
    """Each crop's own part of the AUC, from midranks (Sun and Xu, IEEE Signal Process. Lett. 21, 2014).

    Returns:
        Of each atypical crop the share of normal ones below it, ties counted half; of each normal crop the share of
        atypical ones above it. The mean of either is the ROC AUC.
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    ranks = rankdata(p_atypical)
    atypical, normal = p_atypical[is_atypical], p_atypical[~is_atypical]
    below = (ranks[is_atypical] - rankdata(atypical)) / len(normal)
    above = 1 - (ranks[~is_atypical] - rankdata(normal)) / len(atypical)
    return below, above
