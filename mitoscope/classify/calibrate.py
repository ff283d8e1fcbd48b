"""Calibration: from a network's probability to a frequency, and from one prevalence to another."""

from dataclasses import replace

import numpy as np

from mitoscope.bundle.manifest import Bundle, Calibration
from mitoscope.errors import DataError, WeightsError

LEAST_PREVALENCE, MOST_PREVALENCE = 0.001, 0.999  # beyond, six decimals hardly tell the crops apart


def calibrate(p: np.ndarray, calibration: Calibration | None) -> np.ndarray:
    """Convert the networks' probabilities to frequencies; the order of the crops, and so the ROC AUC, stays.

    Args:
        p: float64 of any shape, in [0, 1].
        calibration: The bundle's; None changes nothing.

    Returns:
        float64 of the same shape, in [0, 1]: sigmoid(scale × logit(p) + offset).
    """
    if calibration is None:
        return p
    return _shift(p, calibration.scale, calibration.offset)


def set_prevalence(bundle: Bundle, prevalence: float) -> Bundle:
    """Make a bundle's probabilities hold where another share of the figures is atypical.

    Bayes' rule: the odds of every crop change by the ratio of the two prevalences' odds. The threshold moves with
    them, so no class changes: only the probabilities do. (Elkan, "The foundations of cost-sensitive learning", IJCAI
    2001.)

    Args:
        bundle: A calibrated one.
        prevalence: The share of atypical figures where the crops come from, from 0.001 to 0.999.

    Raises:
        DataError: The prevalence is out of range.
        WeightsError: The bundle is not calibrated: there is no prevalence that its probabilities hold for.
    """
    if not LEAST_PREVALENCE <= prevalence <= MOST_PREVALENCE:
        raise DataError(
            "the prevalence cannot be used",
            got=prevalence,
            expected=f"a number from {LEAST_PREVALENCE} to {MOST_PREVALENCE}",
            remedy="give the share of atypical figures, such as 0.15, or leave --prevalence out",
        )
    known = bundle.calibration
    if known is None:
        raise WeightsError(
            "--prevalence needs calibrated weights",
            got=f"the bundle {bundle.name!r}, whose manifest holds no calibration",
            expected="a bundle that was published with one",
            remedy="leave --prevalence out, or publish the bundle again",
        )
    shift = _log_odds(prevalence) - _log_odds(known.prevalence)
    moved = float(_shift(np.array(bundle.threshold.value), 1.0, shift))
    return replace(
        bundle,
        calibration=replace(known, offset=known.offset + shift, prevalence=prevalence),
        threshold=replace(bundle.threshold, value=moved),
    )


def _log_odds(share: float) -> float:
    """The logit of a share in (0, 1)."""
    return float(np.log(share) - np.log1p(-share))


def _shift(p: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """sigmoid(scale × logit(p) + offset); 0 and 1 stay what they are."""
    with np.errstate(divide="ignore", over="ignore"):
        odds = np.log(p) - np.log1p(-p)
        moved: np.ndarray = 1 / (1 + np.exp(-(scale * odds + offset)))
    return moved
