"""What the trials of a study are worth: metrics over seeds, with intervals over cases and seeds together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mitoscope.scoring.metrics.bootstrap import Interval, cluster_crops, draw_weights, weighted_statistics
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.thresholds import max_balanced_accuracy
from mitoscope.scoring.predictions import Array, call_atypical
from mitoscope.training.foundation.scale.trials import VALIDATION, Trial

METRICS = ("roc_auc", "balanced_accuracy")  # as weighted_statistics orders them
NAMES = {"roc_auc": "ROC AUC", "balanced_accuracy": "balanced accuracy"}
N_DRAWS = 1000
ENOUGH = 0.98  # of the metric with all crops


@dataclass(frozen=True, eq=False)
class Scored:
    """One set of crops, scored by one trial.

    Attributes:
        trial: The run.
        crops: The set: the test, or a hold-out.
        n_fitted: Crops that the trial learned from.
        is_atypical: bool (N,), the positive class.
        p_atypical: float64 (N,).
        case: (N,), names; NaN where unknown.
        threshold: With the best balanced accuracy on the validation crops.
    """

    trial: Trial
    crops: str
    n_fitted: int
    is_atypical: Array
    p_atypical: Array
    case: Array
    threshold: float

    @property
    def metrics(self) -> dict[str, float]:
        """See `mitoscope.scoring.metrics.classification.compute_metrics`."""
        return compute_metrics(self.is_atypical, self.p_atypical, call_atypical(self.p_atypical, self.threshold))

    def draw(self) -> Array | None:
        """float (N_DRAWS, 2): the metrics where cases are drawn with replacement; None where all are of one case.

        The same crops give the same draws, whatever the trial: differences between trials are paired.
        """
        if pd.notna(self.case).all() and len(set(self.case)) == 1:
            return None
        cluster, _ = cluster_crops(self.case, len(self.is_atypical))
        called = call_atypical(self.p_atypical, self.threshold)
        draws = draw_weights(cluster, (self.is_atypical, ~self.is_atypical), N_DRAWS, seed=0)
        return np.concatenate(
            [weighted_statistics(self.is_atypical, self.p_atypical, weights, called)[:, :2] for weights, _ in draws]
        )


@dataclass(frozen=True, eq=False)
class Point:
    """The trials that differ in nothing but the seed, on one set of crops.

    Attributes:
        trial: One of them.
        crops: The set.
        n_seeds: How many.
        n_fitted: Crops that they learned from; the mean.
        mean: By metric, over the seeds.
        drawn: float (N_DRAWS, 2), as `mean` where cases and seeds are drawn with replacement; None where they cannot.
    """

    trial: Trial
    crops: str
    n_seeds: int
    n_fitted: float
    mean: dict[str, float]
    drawn: Array | None

    def interval(self, metric: str) -> Interval | None:
        """95 %, percentiles."""
        return None if self.drawn is None else percentiles(self.drawn[:, METRICS.index(metric)])


def percentiles(drawn: Array) -> Interval:
    """The 95 % interval of drawn values, float (n,)."""
    low, high = np.percentile(drawn, (2.5, 97.5)).tolist()
    return low, high


def score(trial: Trial, n_fitted: int, predictions: pd.DataFrame) -> list[Scored]:
    """One trial's sets of crops.

    Args:
        trial: The run.
        n_fitted: Crops that it learned from.
        predictions: ``crops`` (the set's name), ``positive``, ``p`` and ``case`` of each crop; `VALIDATION` is one of
            the sets.
    """
    sets = {str(name): part for name, part in predictions.groupby("crops", sort=False)}
    validation = sets.pop(VALIDATION)
    threshold = max_balanced_accuracy(validation["positive"].to_numpy(bool), validation["p"].to_numpy())
    return [
        Scored(trial, name, n_fitted, part["positive"].to_numpy(bool), part["p"].to_numpy(),
               part["case"].to_numpy(object), threshold)
        for name, part in sets.items()
    ]  # fmt: skip


def summarise_seeds(scored: Sequence[Scored]) -> list[Point]:
    """One point for the trials that differ in nothing but the seed, in the order in which they come."""
    alike: dict[tuple[object, ...], list[Scored]] = {}
    for each in scored:
        trial = each.trial
        key = (trial.method, trial.settings, trial.left_out, trial.split, trial.fraction, each.crops)
        alike.setdefault(key, []).append(each)
    return [_summarise(group) for group in alike.values()]


def _summarise(group: Sequence[Scored]) -> Point:
    """The mean over the seeds, and draws of it."""
    draws = [drawn for each in group if (drawn := each.draw()) is not None]
    drawn = None
    if len(draws) == len(group):
        chosen = np.random.default_rng(0).integers(len(group), size=(N_DRAWS, len(group)))
        drawn = np.stack(draws)[chosen, np.arange(N_DRAWS)[:, None]].mean(axis=1)  # (N_DRAWS, 2)
    return Point(
        trial=group[0].trial,
        crops=group[0].crops,
        n_seeds=len(group),
        n_fitted=float(np.mean([each.n_fitted for each in group])),
        mean={metric: float(np.mean([each.metrics[metric] for each in group])) for metric in METRICS},
        drawn=drawn,
    )


def find_enough(curve: Sequence[Point], metric: str) -> float | None:
    """The smallest fraction from which on the mean metric is at least `ENOUGH` of that with all crops.

    Args:
        curve: Points that differ in the fraction, from small to large.
        metric: Of `METRICS`.

    Returns:
        None where the largest fraction is not 1.
    """
    if curve[-1].trial.fraction < 1:
        return None
    least, found = ENOUGH * curve[-1].mean[metric], None
    for point in reversed(curve):
        if point.mean[metric] < least:
            break
        found = point.trial.fraction
    return found


def compare(first: Point, second: Point, metric: str) -> tuple[float, Interval | None]:
    """The first's mean minus the second's, and its interval; paired where both were scored on the same crops."""
    column = METRICS.index(metric)
    difference = first.mean[metric] - second.mean[metric]
    if first.drawn is None or second.drawn is None:
        return difference, None
    return difference, percentiles(first.drawn[:, column] - second.drawn[:, column])
