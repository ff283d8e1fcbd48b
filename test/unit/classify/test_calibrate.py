from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mitoscope.bundle.manifest import Calibration
from mitoscope.bundle.read import read_bundle
from mitoscope.classify.calibrate import calibrate, set_prevalence
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.predict import encode_rows
from mitoscope.errors import DataError, WeightsError

P = np.array([0.0, 1e-9, 0.2, 0.5, 0.9, 1.0])
KNOWN = Calibration("platt", 0.5, -0.3, "out-of-fold", 100, 0.2)


def test_the_order_stays_and_certainty_too() -> None:
    got = calibrate(P, KNOWN)
    assert (np.diff(got) > 0).all()
    assert (got[0], got[-1]) == (0, 1)
    assert got[3] == pytest.approx(1 / (1 + np.exp(0.3)))


def test_no_calibration_changes_nothing() -> None:
    assert calibrate(P, None) is P


def test_another_prevalence_changes_probabilities_and_no_class(tiny_bundle: Path) -> None:
    bundle = replace(read_bundle(tiny_bundle), calibration=KNOWN)
    other = set_prevalence(bundle, 0.4)
    before, after = calibrate(P, bundle.calibration), calibrate(P, other.calibration)
    np.testing.assert_array_equal(before >= bundle.threshold.value, after >= other.threshold.value)
    odds_before, odds_after = before[2] / (1 - before[2]), after[2] / (1 - after[2])
    assert odds_after / odds_before == pytest.approx((0.4 / 0.6) / (0.2 / 0.8))  # Bayes, by hand
    back = set_prevalence(other, 0.2)
    assert back.threshold.value == pytest.approx(bundle.threshold.value)


def test_without_calibration_there_is_no_prevalence(tiny_bundle: Path) -> None:
    with pytest.raises(WeightsError, match="--prevalence needs calibrated weights"):
        set_prevalence(read_bundle(tiny_bundle), 0.1)


@pytest.mark.parametrize("prevalence", [0.0, 1e-9, 0.9999, 2.0, float("nan")])
def test_a_prevalence_out_of_range_is_refused(tiny_bundle: Path, prevalence: float) -> None:
    with pytest.raises(DataError, match="the prevalence cannot be used: .*expected a number from 0.001 to 0.999"):
        Classifier.load(tiny_bundle, prevalence=prevalence)


@pytest.mark.parametrize("prevalence", [0.001, 0.05, 0.5, 0.999])
def test_no_written_class_depends_on_the_prevalence(tiny_bundle: Path, prevalence: float) -> None:
    bundle = replace(read_bundle(tiny_bundle), calibration=KNOWN)
    random = np.random.default_rng(0)
    at = 1 / (1 + np.exp(-0.6))  # calibrated: 0.5, the threshold
    p = np.concatenate([random.uniform(0, 1, 1000), at + random.uniform(-1e-4, 1e-4, 1000)])
    p_members = np.tile(p, (5, 1))
    names = [str(k) for k in range(len(p))]

    def rows(one: object) -> list[list[str]]:
        return encode_rows(names, p_members, Classifier(one, [], torch.device("cpu"), "fp32"))

    moved = set_prevalence(bundle, prevalence)
    before, after = rows(bundle), rows(moved)
    assert [row[2] for row in after] == [row[2] for row in before]
    for some, threshold in ((before, bundle.threshold.value), (after, moved.threshold.value)):
        assert all((float(row[1]) >= threshold) == (row[2] == "atypical") for row in some)
    expected = calibrate(p, moved.calibration)
    np.testing.assert_allclose([float(row[1]) for row in after], expected, rtol=0, atol=1.01e-6)
