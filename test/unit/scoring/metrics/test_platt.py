import numpy as np
import pytest

from mitoscope.classify.calibrate import calibrate
from mitoscope.errors import DataError
from mitoscope.scoring.metrics.calibration import measure_calibration
from mitoscope.scoring.metrics.platt import fit_platt


def too_sure(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of known chance, and probabilities that are twice too sure and half a logit too high."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1.3, 1.5, n)
    is_atypical = random.random(n) < 1 / (1 + np.exp(-logits))
    return is_atypical, 1 / (1 + np.exp(-(2 * logits + 0.5)))


def test_what_is_too_sure_becomes_a_frequency() -> None:
    fitted = fit_platt(*too_sure(20_000, 0))
    assert fitted.scale == pytest.approx(0.5, abs=0.02)
    assert fitted.offset == pytest.approx(-0.25, abs=0.05)
    is_atypical, p = too_sure(20_000, 1)  # others than it was fitted on
    assert measure_calibration(is_atypical, p).ece > 0.05
    assert measure_calibration(is_atypical, calibrate(p, fitted)).ece < 0.02
    assert fitted.prevalence == pytest.approx(is_atypical.mean(), abs=0.02)


def test_separated_classes_give_finite_numbers() -> None:
    fitted = fit_platt(np.arange(40) >= 30, np.linspace(0.1, 0.9, 40))
    assert 0 < fitted.scale < 100
    assert 0.9 < calibrate(np.array([0.9]), fitted)[0] < 1


def test_probabilities_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be calibrated: got a slope of -"):
        fit_platt(np.arange(40) < 20, np.linspace(0.1, 0.9, 40))


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="a class is missing"):
        fit_platt(np.ones(5, bool), np.linspace(0.1, 0.9, 5))
