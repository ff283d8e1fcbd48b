"""How far the metrics of a detector may be off, and whether one is better than another: whole cases are drawn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mitoscope.scoring.detection.metrics import METRICS
from mitoscope.scoring.detection.regions import Group
from mitoscope.scoring.metrics.bootstrap import (
    N_DRAWS,
    Interval,
    cluster_crops,
    draw_weights,
    percentile_intervals,
)
from mitoscope.scoring.metrics.paired import Lead, measure_lead
from mitoscope.scoring.predictions import Array


@dataclass(frozen=True)
class Intervals:
    """95 % percentile intervals, and what they were drawn from.

    Attributes:
        metrics: By the names of `METRICS`: low and high; those that are not defined are left out.
        n_cases: Known cases; each is drawn whole.
        n_without_case: Regions of unknown case; each is drawn by itself, which narrows the intervals if some of them
            do share a case.
        n_draws: Draws that count.
        n_redrawn: Draws without a true figure, which were replaced.
        seed: Of the draws.
    """

    metrics: dict[str, Interval]
    n_cases: int
    n_without_case: int
    n_draws: int
    n_redrawn: int
    seed: int


def bootstrap_regions(group: Group, seed: int, n_draws: int = N_DRAWS) -> Intervals | None:
    """95 % percentile intervals of a bootstrap clustered by case, as `mitoscope.scoring.metrics.bootstrap.bootstrap`.

    The calls and the FROC's thresholds are the same in each draw.

    Args:
        group: The regions.
        seed: Of the draws; the same seed gives the same intervals.
        n_draws: Draws.

    Returns:
        None where all regions are of one case, or hold no true figure.
    """
    if not _can_be_drawn(group):
        return None
    cluster, n_cases = _cluster(group)
    draws = list(_draw(group, n_draws, seed))
    samples = np.array([group.measure(row) for weights, _ in draws for row in weights])
    known = [number for number, name in enumerate(METRICS) if group.metrics[name] is not None]
    intervals = percentile_intervals(samples[:, known])
    return Intervals(
        metrics={METRICS[number]: interval for number, interval in zip(known, intervals, strict=True)},
        n_cases=n_cases,
        n_without_case=int(cluster.max()) + 1 - n_cases,
        n_draws=n_draws,
        n_redrawn=sum(n_lacking for _, n_lacking in draws),
        seed=seed,
    )


def bootstrap_region_lead(first: Group, second: Group, seed: int, n_draws: int = N_DRAWS) -> dict[str, Lead] | None:
    """Test whether each metric differs; the same drawn cases judge both detectors.

    Args:
        first: The regions with one detector's points.
        second: The same regions in the same order, with the other's.
        seed: Of the draws.
        n_draws: Draws.

    Returns:
        By the names of `METRICS`, without those that are not defined for both; None as `bootstrap_regions`.
    """
    if not _can_be_drawn(first):
        return None
    rows = [row for weights, _ in _draw(first, n_draws, seed) for row in weights]
    drawn = np.array([first.measure(row) - second.measure(row) for row in rows]).T
    leads = {}
    for name, column in zip(METRICS, drawn, strict=True):
        ours, theirs = first.metrics[name], second.metrics[name]
        if ours is not None and theirs is not None:
            leads[name] = measure_lead(ours - theirs, column)
    return leads


def _can_be_drawn(group: Group) -> bool:
    """There are two cases or more, and a true figure."""
    return len(set(_cluster_names(group))) > 1 and bool(group.counts[2].any())


def _cluster_names(group: Group) -> list[object]:
    """The case of each region; the region itself where its case is not known."""
    return [region if region.case is None else region.case for region in group.regions]


def _cluster(group: Group) -> tuple[Array, int]:
    """As `cluster_crops` gives it."""
    cases = np.array([region.case for region in group.regions], dtype=object)
    return cluster_crops(cases, len(cases))


def _draw(group: Group, n_draws: int, seed: int) -> Iterator[tuple[Array, int]]:
    """The weights of the regions, as `draw_weights` gives them; each draw holds a true figure."""
    return draw_weights(_cluster(group)[0], [group.counts[2] > 0], n_draws, seed)
