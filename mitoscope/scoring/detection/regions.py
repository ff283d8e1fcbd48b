"""Regions with their points and true figures, and regions that are evaluated together: one domain, one kind, or all."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mitoscope.scoring.detection.match import (
    Array,
    Hits,
    count_found,
    count_found_by_threshold,
    find_hits,
    match_boxes,
    rank_points,
)
from mitoscope.scoring.detection.metrics import (
    METRICS,
    average_precision,
    choose_froc_thresholds,
    compute_rates,
    froc_auc,
)
from mitoscope.scoring.metrics.groups import spell_domain
from mitoscope.scoring.metrics.judge import find_domains


@dataclass(frozen=True, eq=False)  # arrays have no one answer to ==
class Region:
    """One image: what was found, and what is there. Coordinates are x and y in mm from the image's corner.

    Attributes:
        image: Its name.
        points_mm: float (P, 2), all points above the detector's floor.
        p_mitosis: float (P,) in [0, 1].
        called: bool (P,), the points that are called mitotic figures.
        figures_mm: float (T, 2), the true mitotic figures, in the file's order.
        hard_negatives_mm: float (H, 2), labelled look-alikes; the evaluator does not know them.
        domain: Tumour type or the like; None where unknown.
        kind: Kind of region (hotspot, challenging, random); None where unknown.
        case: Slide or patient; None where unknown.
    """

    image: str
    points_mm: Array
    p_mitosis: Array
    called: Array
    figures_mm: Array
    hard_negatives_mm: Array
    domain: str | None = None
    kind: str | None = None
    case: str | None = None

    @cached_property
    def hits(self) -> Hits:
        """As `find_hits` gives them."""
        return find_hits(self.figures_mm, self.points_mm)

    @cached_property
    def n_found(self) -> int:
        """True figures that are found by the points called so."""
        return count_found(self.hits, self.called)

    @cached_property
    def right(self) -> Array:
        """As `match_boxes` gives them; bool (P,)."""
        return match_boxes(self.figures_mm, self.points_mm, self.p_mitosis)

    @cached_property
    def n_on_hard_negatives(self) -> int:
        """Labelled look-alikes that are called mitotic figures."""
        return count_found(find_hits(self.hard_negatives_mm, self.points_mm), self.called)

    def count_at(self, thresholds: Array) -> tuple[Array, Array]:
        """Figures found, and points, at each threshold; int (K,) each."""
        n_called = len(self.p_mitosis) - np.searchsorted(np.sort(self.p_mitosis), thresholds)
        return count_found_by_threshold(self.hits, self.p_mitosis, thresholds), n_called


@dataclass(frozen=True, eq=False)
class Group:
    """Regions that make one row of a table, one curve or one panel.

    Attributes:
        name: As it is to be read in a picture.
        regions: At least one, in the jobs' order: it decides the order of equally probable points.
        threshold: The one that gives these calls, in [0, 1]; None where no threshold does.
    """

    name: str
    regions: Sequence[Region]
    threshold: float | None

    @cached_property
    def counts(self) -> Array:
        """int (3, N): by region, figures found, points called mitotic figures, and true figures."""
        rows = [(region.n_found, region.called.sum(), len(region.figures_mm)) for region in self.regions]
        return np.array(rows, dtype=int).reshape(-1, 3).T

    @cached_property
    def p_mitosis(self) -> Array:
        """float (P,), of all points."""
        return np.concatenate([region.p_mitosis for region in self.regions])

    @cached_property
    def ranked(self) -> tuple[Array, Array]:
        """By point in the order of `rank_points`: whether it is right, and the number of its region."""
        order = rank_points(self.p_mitosis)
        owner = np.repeat(np.arange(len(self.regions)), [len(region.p_mitosis) for region in self.regions])
        return np.concatenate([region.right for region in self.regions])[order], owner[order]

    @cached_property
    def froc_counts(self) -> tuple[Array, Array] | None:
        """int (N, K) each: figures found and points at the FROC's thresholds; None without any point."""
        if not len(self.p_mitosis):
            return None
        thresholds = choose_froc_thresholds(self.p_mitosis)
        found, called = zip(*(region.count_at(thresholds) for region in self.regions), strict=True)
        return np.array(found), np.array(called)

    def measure(self, weights: Array | None = None) -> Array:
        """Compute the metrics.

        Args:
            weights: (N,), how often each region counts; None: once. FROC's thresholds stay those of all regions.

        Returns:
            float (5,), in the order of `METRICS`: F1, precision, recall and AP in [0, 1], FROC AUC in [0, 8]. AP is
            NaN without true figures, FROC AUC without points.
        """
        weights = np.ones(len(self.regions)) if weights is None else weights
        right, owner = self.ranked
        n_true = (self.counts[2] * weights).sum()
        auc = float("nan")
        if self.froc_counts is not None:
            found, called = (weights @ counts for counts in self.froc_counts)
            auc = froc_auc(found, called, n_true, weights.sum())
        ap = average_precision(right, n_true, weights[owner])
        return np.array([*compute_rates(*(self.counts @ weights)), ap, auc])

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """By the names of `METRICS`; None where one is not defined."""
        return {
            name: None if np.isnan(value) else value
            for name, value in zip(METRICS, self.measure().tolist(), strict=True)
        }


def make_groups(regions: Sequence[Region], threshold: float | None) -> tuple[Group, dict[str, Group], dict[str, Group]]:
    """The regions that are judged together.

    Args:
        regions: At least one.
        threshold: See `Group`.

    Returns:
        All regions; by name those of each domain; and by name those of each kind.
    """

    def split(attribute: str) -> dict[str, Group]:
        rows = find_domains(pd.DataFrame({"domain": [getattr(region, attribute) for region in regions]}, dtype=object))
        return {
            name: Group(
                spell_domain(name), [region for region, is_own in zip(regions, own, strict=True) if is_own], threshold
            )
            for name, own in rows.items()
        }

    return Group("all regions", regions, threshold), split("domain"), split("kind")
