"""Apply a bundle's calibration."""

import numpy as np

from mitoscope.bundle.manifest import Calibration


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
    with np.errstate(divide="ignore", over="ignore"):  # 0 and 1 stay 0 and 1
        odds = np.log(p) - np.log1p(-p)
        calibrated: np.ndarray = 1 / (1 + np.exp(-(calibration.scale * odds + calibration.offset)))
    return calibrated
