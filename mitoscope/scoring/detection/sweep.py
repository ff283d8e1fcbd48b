"""F1 at every threshold, and the cost of the fixed calls against the best threshold on these regions."""

from dataclasses import dataclass

import numpy as np

from mitoscope.scoring.detection.metrics import compute_rates
from mitoscope.scoring.detection.regions import Group
from mitoscope.scoring.predictions import Array


@dataclass(frozen=True)
class Sweep:
    """The fixed calls against the best threshold.

    Attributes:
        threshold: The one that gives the calls; None where no threshold does.
        f1_score: Of the calls.
        best_threshold: The highest of those with the best F1 on these very regions; one of the points' probabilities.
        best_f1_score: At it.
        price_points: The loss of the calls against the best, in percentage points of F1. With few figures the best
            threshold fits their chance too, and the price looks higher than it is.
    """

    threshold: float | None
    f1_score: float
    best_threshold: float
    best_f1_score: float
    price_points: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts and metrics at rising thresholds; each array is (K,).

    Attributes:
        threshold: A point is called a mitotic figure from it on.
        n_found: True figures that are found.
        n_called: Points.
        f1_score: In [0, 1].
        precision: In [0, 1].
        recall: In [0, 1].
    """

    threshold: Array
    n_found: Array
    n_called: Array
    f1_score: Array
    precision: Array
    recall: Array

    @property
    def best(self) -> int:
        """The number of the threshold with the highest F1; of several the highest. There must be one."""
        return len(self.f1_score) - 1 - int(np.argmax(self.f1_score[::-1]))


def trace_sweep(group: Group, thresholds: Array | None = None) -> Curve:
    """Count at many thresholds.

    Args:
        group: The regions.
        thresholds: float (K,), rising; None: all where something changes, that is, the points' probabilities.
    """
    thresholds = np.unique(group.p_mitosis) if thresholds is None else thresholds
    n_found, n_called = np.zeros((2, len(thresholds)), dtype=int)
    for region in group.regions:
        found, called = region.count_at(thresholds)
        n_found, n_called = n_found + found, n_called + called
    return Curve(thresholds, n_found, n_called, *compute_rates(n_found, n_called, group.counts[2].sum()))


def sweep_regions(group: Group) -> Sweep | None:
    """Compute the cost of the calls; None without any point."""
    curve = trace_sweep(group)
    if not len(curve.threshold):
        return None
    own, highest = group.measure()[0], curve.f1_score[curve.best]
    price = 100 * float(highest - own)
    return Sweep(group.threshold, float(own), float(curve.threshold[curve.best]), float(highest), price)
