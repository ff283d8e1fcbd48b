import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.delong import delong

RANDOM = np.random.default_rng(0)
TRUTH = np.arange(120) % 4 == 0
FIRST = RANDOM.beta(2, 5, 120) * 0.7 + TRUTH * 0.25
SECOND = 0.5 * FIRST + 0.5 * RANDOM.random(120)


def slow(truth: np.ndarray, scores: list[np.ndarray]) -> tuple[float, float]:
    """Difference and standard error as DeLong, DeLong and Clarke-Pearson write them: every pair of crops compared."""
    m, n = int(truth.sum()), int((~truth).sum())
    kernels = []
    for p in scores:
        x, y = p[truth][:, None], p[~truth][None]
        kernels.append((x > y) + 0.5 * (x == y))  # (m, n)
    s10 = np.cov([kernel.mean(axis=1) for kernel in kernels])
    s01 = np.cov([kernel.mean(axis=0) for kernel in kernels])
    contrast = np.array([1, -1])
    areas = [kernel.mean() for kernel in kernels]
    return float(areas[0] - areas[1]), float(np.sqrt(contrast @ (s10 / m + s01 / n) @ contrast))


@pytest.mark.parametrize("decimals", [1, 2, 16], ids=["many ties", "some ties", "no ties"])
def test_midranks_give_what_comparing_every_pair_gives(decimals: int) -> None:
    first, second = FIRST.round(decimals), SECOND.round(decimals)
    got = delong(TRUTH, first, second)
    difference, error = slow(TRUTH, [first, second])
    assert got.difference == pytest.approx(difference, rel=0, abs=1e-12)
    assert got.difference == pytest.approx(roc_auc_score(TRUTH, first) - roc_auc_score(TRUTH, second), abs=1e-12)
    assert got.standard_error == pytest.approx(error, rel=0, abs=1e-12)
    assert got.interval == pytest.approx((difference - 1.959964 * error, difference + 1.959964 * error), abs=1e-6)
    assert got.p_value == pytest.approx(2 * norm.cdf(-abs(difference / error)), rel=1e-9)


def test_the_order_of_the_predictions_turns_the_sign_alone() -> None:
    there, back = delong(TRUTH, FIRST, SECOND), delong(TRUTH, SECOND, FIRST)
    assert back.difference == pytest.approx(-there.difference)
    assert back.p_value == pytest.approx(there.p_value)


def test_the_same_ranking_is_no_difference() -> None:
    got = delong(TRUTH, FIRST, FIRST**2)
    assert (got.difference, got.standard_error, got.p_value) == (0, 0, 1)


def test_where_nothing_varies_there_is_no_p_value() -> None:
    truth = np.array([True, True, False, False])
    got = delong(truth, np.array([0.9, 0.8, 0.2, 0.1]), np.array([0.1, 0.2, 0.8, 0.9]))
    assert (got.difference, got.standard_error, got.p_value) == (1, 0, None)
    single = delong(truth[1:], np.array([0.9, 0.2, 0.1]), np.array([0.1, 0.2, 0.3]))
    assert (single.difference, single.standard_error, single.interval, single.p_value) == (1, None, None, None)


def test_of_equally_good_predictions_one_in_twenty_seems_to_differ() -> None:
    random, seeming = np.random.default_rng(1), 0
    for _ in range(400):
        signal = random.normal(size=120) + TRUTH
        first, second = (norm.cdf(signal + random.normal(size=120)) for _ in range(2))
        seeming += (delong(TRUTH, first, second).p_value or 0) < 0.05
    assert 8 <= seeming <= 34


def test_what_has_no_roc_curve_is_refused() -> None:
    with pytest.raises(DataError, match="a class is missing"):
        delong(TRUTH & False, FIRST, SECOND)
    with pytest.raises(DataError, match="p_atypical is no probability"):
        delong(TRUTH, FIRST, SECOND * np.nan)
