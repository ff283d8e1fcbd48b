"""Calibration: of the crops with a probability of 0.3, are three in ten atypical?"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss

from mitoscope.scoring.predictions import Array, check_predictions

N_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The crops whose probability is in one tenth of [0, 1].

    Attributes:
        low: The lowest probability that belongs to it.
        high: The lowest that no longer does; the last bin holds 1 too.
        n_crops: At least one.
        n_atypical: Of them, by their labels.
        mean_p_atypical: The networks' mean.
        share_atypical: By the labels.
        interval: Of the share, 95 % (Wilson, J. Am. Stat. Assoc. 22, 1927), with each crop counted by itself.
    """

    low: float
    high: float
    n_crops: int
    n_atypical: int
    mean_p_atypical: float
    share_atypical: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Reliability:
    """How far the probabilities are from the labels.

    Attributes:
        ece: Expected calibration error in [0, 1]: the bins' distances between probability and share, weighted by
            their crops (Naeini, Cooper and Hauskrecht, AAAI 2015). It depends on the bins and is biased upwards where
            they hold few crops.
        brier: Mean squared distance between probability and label, in [0, 1] (Brier, Mon. Weather Rev. 78, 1950).
        brier_of_share: The same for predicting the share of atypical crops each time, for comparison.
        bins: Those of the ten that hold a crop, from low to high.
    """

    ece: float
    brier: float
    brier_of_share: float
    bins: tuple[Bin, ...]


def measure_calibration(is_atypical: Array, p_atypical: Array) -> Reliability:
    """Compare the probabilities with the labels, in ten bins of equal width.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].

    Raises:
        DataError: The predictions are unusable (see `check_predictions`).
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    number = np.digitize(p_atypical, np.arange(1, N_BINS) / N_BINS)  # the tenths as a reader would write them
    bins = tuple(_fill(int(k), is_atypical[number == k], p_atypical[number == k]) for k in np.unique(number))
    distances = [each.n_crops * abs(each.mean_p_atypical - each.share_atypical) for each in bins]
    share = float(is_atypical.mean())
    return Reliability(
        ece=sum(distances) / len(is_atypical),
        brier=float(brier_score_loss(is_atypical, p_atypical)),
        brier_of_share=share * (1 - share),
        bins=bins,
    )


def _fill(number: int, is_atypical: Array, p_atypical: Array) -> Bin:
    """One bin; number is 0 to 9."""
    n_crops, n_atypical = len(is_atypical), int(is_atypical.sum())
    interval = binomtest(n_atypical, n_crops).proportion_ci(method="wilson")
    return Bin(
        low=number / N_BINS,
        high=(number + 1) / N_BINS,
        n_crops=n_crops,
        n_atypical=n_atypical,
        mean_p_atypical=float(p_atypical.mean()),
        share_atypical=n_atypical / n_crops,
        interval=(float(interval.low), float(interval.high)),
    )
