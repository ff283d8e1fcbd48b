"""Where the threshold lies, and what that costs: fitted on all slides but one, judged on that one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mitoscope.errors import DataError
from mitoscope.scoring.detection.metrics import compute_rates
from mitoscope.scoring.detection.regions import Group, Region
from mitoscope.scoring.detection.sweep import Curve, trace_sweep

RULE = "max_f1"


@dataclass(frozen=True)
class Price:
    """The cost of a threshold on one slide that had no part in placing it.

    Attributes:
        threshold: The one with the best F1 on all other slides together.
        f1_score: On this slide, at that threshold.
        best_threshold: The one with the best F1 on this slide, which its own labels have chosen.
        best_f1_score: At it. With few figures it also fits their chance.
        price_points: The difference, in percentage points.
        n_figures: True figures of this slide.
    """

    threshold: float
    f1_score: float
    best_threshold: float
    best_f1_score: float
    price_points: float
    n_figures: int


def fit_threshold(regions: Sequence[Region]) -> float:
    """The threshold with the highest F1 of all regions together; of several the highest.

    It lies midway between the point that gives it and the next less probable one, so that no rounding moves a point of
    these regions across it.

    Raises:
        DataError: No network found anything.
    """
    curve = trace_sweep(Group("all", regions, None))
    if not len(curve.threshold):
        raise DataError(
            "the threshold cannot be fitted",
            got="networks that find nothing out of fold",
            expected="points above the floor of detection",
            remedy="train longer",
        )
    return _place(curve)


def _place(curve: Curve) -> float:
    """See `fit_threshold`."""
    return float(curve.threshold[max(curve.best - 1, 0) : curve.best + 1].mean())


def split_cases(regions: Sequence[Region]) -> dict[str, list[Region]]:
    """The regions of each case, by name."""
    names = sorted({str(region.case) for region in regions})
    return {name: [region for region in regions if str(region.case) == name] for name in names}


def price_threshold(regions: Sequence[Region]) -> tuple[float | None, dict[str, Price]]:
    """Fit the threshold on all cases but one and judge it on that one, for each case with figures.

    Returns:
        F1 of all regions together, each at the threshold that its own case did not help to place; and the prices by
        case. None, and no price, where there is one case only or nothing was found.
    """
    cases = split_cases(regions)
    if len(cases) < 2 or not any(len(region.p_mitosis) for region in regions):
        return None, {}
    n_found = n_called = n_true = 0
    prices = {}
    for name, own in cases.items():
        others = trace_sweep(Group("others", [each for each in regions if str(each.case) != name], None))
        fitted = _place(others) if len(others.threshold) else 1.0  # where nothing else was found
        judged = trace_sweep(Group(name, own, None), np.array([fitted]))
        n_own = sum(len(region.figures_mm) for region in own)
        n_found += int(judged.n_found[0])
        n_called += int(judged.n_called[0])
        n_true += n_own
        if n_own:
            prices[name] = _price(trace_sweep(Group(name, own, None)), judged, n_own)
    return float(compute_rates(np.array(n_found), np.array(n_called), n_true)[0]), prices


def _price(curve: Curve, judged: Curve, n_figures: int) -> Price:
    """One case's price, from its whole curve, and from the one threshold at which it is judged."""
    fitted, got = float(judged.threshold[0]), float(judged.f1_score[0])
    found = len(curve.threshold) > 0
    highest = float(curve.f1_score.max()) if found else got
    return Price(
        threshold=fitted,
        f1_score=got,
        best_threshold=_place(curve) if found else fitted,
        best_f1_score=highest,
        price_points=100 * (highest - got),
        n_figures=n_figures,
    )


def summarise_prices(prices: Mapping[str, Price]) -> dict[str, float] | None:
    """The mean price of all slides, and the largest; None without any."""
    if not prices:
        return None
    points = [price.price_points for price in prices.values()]
    return {"mean_points": float(np.mean(points)), "largest_points": max(points)}
