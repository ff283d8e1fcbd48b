"""How far the metrics may be off: intervals from a bootstrap that draws whole cases, not crops."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.classification import weighted_roc_auc
from mitoscope.scoring.metrics.thresholds import Rule
from mitoscope.scoring.predictions import Array, check_called, check_predictions

N_DRAWS = 2000
CHUNK_CELLS = 1_000_000  # draws × crops at once: 8 MB an array

Interval = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """95 % percentile intervals, each (low, high) in [0, 1], and what they were drawn from.

    Attributes:
        roc_auc: Of the area under the ROC curve.
        balanced_accuracy: Of the mean of the next two.
        sensitivity: Of the share of atypical crops that are called so (the paper's AMF accuracy).
        specificity: Of the share of normal crops that are called so (NMF accuracy).
        n_cases: Known cases; each is drawn whole.
        n_without_case: Crops of unknown case; each is drawn by itself, which narrows the intervals if some of
            them do share a case.
        n_draws: Draws that count.
        n_redrawn: Draws that lacked a class and were replaced.
        seed: Of the draws.
        threshold_refitted: The threshold was fitted again in each draw, so the last three intervals hold its
            uncertainty too; otherwise it was held fixed.
    """

    roc_auc: Interval
    balanced_accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    n_cases: int
    n_without_case: int
    n_draws: int
    n_redrawn: int
    seed: int
    threshold_refitted: bool


def bootstrap(
    is_atypical: Array,
    p_atypical: Array,
    called: Array,
    case: Array | None = None,
    *,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Intervals:
    """95 % percentile intervals of a bootstrap clustered by case (Field and Welsh, J. R. Stat. Soc. B 69, 2007).

    Crops of one slide share tumour, stain and scanner, so cases are drawn with replacement, as many as there are, and
    all crops of a drawn case come along as often as it was drawn. A draw without a crop of each class has no ROC
    curve: it is replaced by another draw and counted.

    Where no draw misses a crop of a class, or none finds one, the interval of that share is Wilson's (1927) with a case
    as a trial; the percentiles would say that it is certain. Balanced accuracy then has that of `combine_shares`. An
    ROC AUC of 1 in every draw stays 1.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].
        called: bool (N,), the crops that are called atypical, the same in each draw; see `call_atypical`.
        case: (N,), the cases' names, unique over all that is given; None or NaN where unknown, alone or for a crop.
        n_draws: Draws.
        seed: Of the draws; the same seed gives the same intervals.

    Raises:
        DataError: The predictions (see `check_predictions`) or the classes (see `check_called`) are unusable, the cases
            are not one a crop, or all crops are of one case.
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    called = check_called(called, len(is_atypical))
    draws = _Draws(is_atypical, case, n_draws, seed)
    samples = [weighted_statistics(is_atypical, p_atypical, weights, called) for weights in draws]
    return draws.summarise(samples, threshold_refitted=False)


def bootstrap_rule(
    is_atypical: Array,
    p_atypical: Array,
    rule: Rule,
    case: Array | None = None,
    *,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Intervals:
    """As `bootstrap`, but with a threshold that is fitted again in each draw.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].
        rule: Fits the threshold, see `mitoscope.scoring.metrics.thresholds`.
        case: As for `bootstrap`.
        n_draws: Draws.
        seed: Of the draws.

    Raises:
        DataError: As for `bootstrap`, or the rule cannot be fitted on a draw.
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    draws = _Draws(is_atypical, case, n_draws, seed)
    samples = []
    for weights in draws:
        drawn = ((np.repeat(is_atypical, row), np.repeat(p_atypical, row)) for row in weights)
        thresholds = np.array([[rule(*crops)] for crops in drawn])  # (B, 1)
        samples.append(weighted_statistics(is_atypical, p_atypical, weights, p_atypical >= thresholds))
    return draws.summarise(samples, threshold_refitted=True)


class _Draws:
    """The draws of one bootstrap, and the intervals of what was computed from them."""

    def __init__(self, is_atypical: Array, case: Array | None, n_draws: int, seed: int) -> None:
        self.is_atypical, self.n_draws, self.seed, self.n_redrawn = is_atypical, n_draws, seed, 0
        self.cluster, self.n_cases = cluster_crops(case, len(is_atypical))

    def __iter__(self) -> Iterator[Array]:
        """The weights, int (B, N) each; counts the draws that lacked a class."""
        classes = (self.is_atypical, ~self.is_atypical)
        for weights, n_lacking in draw_weights(self.cluster, classes, self.n_draws, self.seed):
            self.n_redrawn += n_lacking
            yield weights

    def summarise(self, samples: Sequence[Array], *, threshold_refitted: bool) -> Intervals:
        """The intervals of float (B, 4) each, as `weighted_statistics` gives them."""
        drawn = np.concatenate(samples)
        auc, balanced, *shares = percentile_intervals(drawn)
        sensitivity, specificity = widened = [
            widen(share, len(np.unique(self.cluster[rows])))
            for share, rows in zip(shares, (self.is_atypical, ~self.is_atypical), strict=True)
        ]
        if widened != shares:
            balanced = combine_shares(drawn[:, 2:].mean(axis=0).tolist(), widened)
        return Intervals(
            roc_auc=auc,
            balanced_accuracy=balanced,
            sensitivity=sensitivity,
            specificity=specificity,
            n_cases=self.n_cases,
            n_without_case=int(self.cluster.max()) + 1 - self.n_cases,
            n_draws=self.n_draws,
            n_redrawn=self.n_redrawn,
            seed=self.seed,
            threshold_refitted=threshold_refitted,
        )


def percentile_intervals(samples: Array) -> list[Interval]:
    """The 95 % percentile interval of each statistic; samples are float (draws, statistics)."""
    low, high = np.percentile(samples, (2.5, 97.5), axis=0).tolist()
    return list(zip(low, high, strict=True))


def widen(share: Interval, n_clusters: int) -> Interval:
    """Wilson's interval where every draw gave 0, or every draw 1: a bootstrap cannot see beyond what is there.

    Args:
        share: The interval of a share, from a bootstrap.
        n_clusters: Cases that hold what the share is of.
    """
    if share not in ((0.0, 0.0), (1.0, 1.0)):
        return share
    low, high = binomtest(int(share[0]) * n_clusters, n_clusters).proportion_ci(method="wilson")
    return float(low), float(high)


def combine_shares(shares: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """The interval of the mean of two independent shares from theirs (MOVER; Newcombe, Stat. Med. 17, 1998)."""
    mean = sum(shares) / 2
    low, high = (
        math.hypot(*(share - interval[side] for share, interval in zip(shares, intervals, strict=True))) / 2
        for side in (0, 1)
    )
    return mean - low, mean + high


def weighted_statistics(is_atypical: Array, p_atypical: Array, weights: Array, called: Array) -> Array:
    """The statistics of many drawn samples at once.

    Args:
        is_atypical: bool (N,).
        p_atypical: float (N,) in [0, 1].
        weights: int (B, N), as `draw_weights` gives them.
        called: bool (N,), the crops that are called atypical; or bool (B, N), those of each sample.

    Returns:
        float (B, 4): ROC AUC, balanced accuracy, sensitivity and specificity.
    """
    atypical, normal = weights * is_atypical, weights * ~is_atypical
    sensitivity = (atypical * called).sum(axis=1) / atypical.sum(axis=1)
    specificity = (normal * ~called).sum(axis=1) / normal.sum(axis=1)
    auc = weighted_roc_auc(is_atypical, p_atypical, weights)
    return np.stack([auc, (sensitivity + specificity) / 2, sensitivity, specificity], axis=1)


def draw_weights(cluster: Array, needed: Sequence[Array], n_draws: int, seed: int) -> Iterator[tuple[Array, int]]:
    """Draw clusters with replacement, as many as there are.

    Args:
        cluster: int (N,), as `cluster_crops` gives them.
        needed: bool (N,) each, such as the crops of a class; each with at least one crop.
        n_draws: Draws that count.
        seed: Of the draws.

    Yields:
        How often each crop was drawn, int (B, N), each row with one of each that is needed, and how many draws lacked
        one; as often as it takes for n_draws rows.
    """
    random, n_clusters = np.random.default_rng(seed), int(cluster.max()) + 1
    rows = max(1, CHUNK_CELLS // len(cluster))
    while n_draws > 0:
        drawn = random.integers(n_clusters, size=(min(n_draws, rows), n_clusters))
        drawn += n_clusters * np.arange(len(drawn))[:, None]  # a range of its own for each row
        weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)[:, cluster]
        whole = np.all([weights[:, rows].any(axis=1) for rows in needed], axis=0)
        n_draws -= int(whole.sum())
        yield weights[whole], int((~whole).sum())


def cluster_crops(case: Array | None, n_crops: int) -> tuple[Array, int]:
    """Say which crops are drawn together.

    Args:
        case: As `bootstrap` takes it.
        n_crops: N.

    Returns:
        The number of each crop's cluster, int (N,) from 0 on, and how many of the clusters are known cases.

    Raises:
        DataError: The cases are not one a crop, or all crops are of one case.
    """
    names = np.full(n_crops, None) if case is None else np.asarray(case, dtype=object)
    if names.shape != (n_crops,):
        raise DataError(
            "the cases do not match the predictions",
            got=f"shape {names.shape} for {n_crops} crops",
            expected="one a crop, NaN where unknown",
            remedy="correct the table",
        )
    cluster, known = pd.factorize(names)
    unknown = cluster < 0
    cluster[unknown] = len(known) + np.arange(unknown.sum())
    if cluster.max() == 0:
        raise DataError(
            "no interval can be drawn",
            got=f"{n_crops} crops of one case",
            expected="two cases or more",
            remedy="score more cases",
        )
    return cluster, len(known)
