"""The fitted threshold and its price, against a plain search over all thresholds."""

import numpy as np
import pytest

from mitoscope.errors import DataError
from mitoscope.scoring.detection.regions import Group, Region
from mitoscope.training.detect.results.threshold import fit_threshold, price_threshold, summarise_prices


def make_region(random: np.random.Generator, case: str, shift: float) -> Region:
    """A field with figures, most of them found; the case's probabilities are shifted."""
    figures = random.random((6, 2)) * 0.5
    points = np.concatenate([figures[:5] + random.normal(0, 0.002, (5, 2)), random.random((9, 2)) * 0.5])
    p = np.concatenate([random.beta(4, 2, 5), random.beta(2, 5, 9)]) * 0.8 + shift
    none = np.empty((0, 2))
    return Region("field", points, p, np.zeros(len(p), dtype=bool), figures, none, case=case)


@pytest.fixture
def regions() -> list[Region]:
    random = np.random.default_rng(3)
    return [make_region(random, f"s{number % 4}", 0.04 * (number % 4)) for number in range(12)]


def f1_at(regions: list[Region], threshold: float) -> float:
    """F1 by the scoring's own count."""
    called = [
        Region(each.image, each.points_mm, each.p_mitosis, each.p_mitosis >= threshold, each.figures_mm,
               each.hard_negatives_mm, case=each.case)
        for each in regions
    ]  # fmt: skip
    value = Group("all", called, threshold).metrics["f1_score"]
    assert value is not None
    return value


def test_no_threshold_is_better_than_the_fitted_one(regions: list[Region]) -> None:
    fitted = fit_threshold(regions)
    every = np.unique(np.concatenate([region.p_mitosis for region in regions]))
    assert f1_at(regions, fitted) == pytest.approx(max(f1_at(regions, value) for value in every))
    assert fitted not in every  # between two points: no rounding moves one across


def test_the_price_is_paid_on_the_slide_that_did_not_vote(regions: list[Region]) -> None:
    refitted, prices = price_threshold(regions)
    assert list(prices) == ["s0", "s1", "s2", "s3"]
    for name, price in prices.items():
        own = [region for region in regions if region.case == name]
        others = [region for region in regions if region.case != name]
        assert price.threshold == fit_threshold(others)
        assert price.f1_score == pytest.approx(f1_at(own, price.threshold))
        assert price.best_f1_score == pytest.approx(f1_at(own, fit_threshold(own)))
        assert price.price_points == pytest.approx(100 * (price.best_f1_score - price.f1_score))
    assert any(price.price_points > 0 for price in prices.values())
    assert refitted is not None
    assert refitted < f1_at(regions, fit_threshold(regions)) + 1e-9
    summary = summarise_prices(prices)
    assert summary is not None
    assert summary["largest_points"] == max(price.price_points for price in prices.values())


def test_one_slide_has_no_price_and_networks_that_find_nothing_no_threshold(regions: list[Region]) -> None:
    assert price_threshold([region for region in regions if region.case == "s0"]) == (None, {})
    none = np.empty((0, 2))
    blind = Region("field", none, np.empty(0), np.empty(0, dtype=bool), np.ones((1, 2)), none, case="s0")
    assert price_threshold([blind]) == (None, {})
    with pytest.raises(DataError, match="the threshold cannot be fitted: got networks that find nothing out of fold"):
        fit_threshold([blind])
