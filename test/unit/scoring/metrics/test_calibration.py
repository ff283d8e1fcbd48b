import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.calibration import measure_calibration


def test_a_case_worked_by_hand() -> None:
    got = measure_calibration(np.array([False, True, True, True]), np.array([0.1, 0.15, 0.8, 1.0]))
    low, high, top = got.bins
    assert (low.low, low.high, low.n_crops, low.n_atypical, low.share_atypical) == (0.1, 0.2, 2, 1, 0.5)
    assert low.mean_p_atypical == pytest.approx(0.125)
    assert (high.low, high.n_crops, top.low, top.high, top.n_crops) == (0.8, 1, 0.9, 1.0, 1)
    assert got.ece == pytest.approx((2 * 0.375 + 0.2 + 0) / 4)
    assert got.brier == pytest.approx((0.1**2 + 0.85**2 + 0.2**2 + 0) / 4)
    assert got.brier_of_share == pytest.approx(0.75 * 0.25)


def test_a_tenth_belongs_to_the_bin_that_begins_with_it() -> None:
    p = np.arange(11) / 10
    got = measure_calibration(p > 0.45, p)
    assert [each.n_crops for each in got.bins] == [1] * 9 + [2]
    assert [each.low for each in got.bins] == [k / 10 for k in range(10)]


def test_the_bins_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    p = random.random(500)
    truth = random.random(500) < p
    share, said = calibration_curve(truth, p, n_bins=10)
    got = measure_calibration(truth, p)
    assert [each.share_atypical for each in got.bins] == pytest.approx(share)
    assert [each.mean_p_atypical for each in got.bins] == pytest.approx(said)
    assert sum(each.n_crops for each in got.bins) == 500


def test_probabilities_that_mean_what_they_say_have_a_small_error_and_bold_ones_a_large() -> None:
    random = np.random.default_rng(0)
    p = random.random(20_000)
    truth = random.random(20_000) < p
    honest, bold = measure_calibration(truth, p), measure_calibration(truth, (p > 0.5) * 0.98 + 0.01)
    assert honest.ece < 0.02
    assert bold.ece > 0.2
    assert honest.brier < bold.brier
    assert all(each.interval[0] <= each.share_atypical <= each.interval[1] for each in honest.bins)


def test_the_interval_of_a_share_is_wilson_s() -> None:
    truth = np.arange(20) % 4 == 0  # 5 of 20
    (only,) = measure_calibration(truth, np.full(20, 0.25)).bins
    z, n, share = 1.959963984540054, 20, 0.25
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert only.interval == pytest.approx((middle - reach, middle + reach))


def test_what_has_no_calibration_is_refused() -> None:
    with pytest.raises(DataError, match="a class is missing"):
        measure_calibration(np.array([True, True]), np.array([0.1, 0.2]))
