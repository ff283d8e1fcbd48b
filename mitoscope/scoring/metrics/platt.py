"""Platt's calibration, fitted on labelled predictions."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from mitoscope.bundle.manifest import Calibration
from mitoscope.scoring.predictions import Array, check_predictions

SMALLEST = 1e-6  # predictions.csv has six decimals; logits are finite from here on


def fit_platt(is_atypical: Array, p_atypical: Array, fitted_on: str = "out-of-fold") -> Calibration:
    """Fit sigmoid(scale × logit(p) + offset) to the labels by maximum likelihood.

    Platt, "Probabilistic outputs for support vector machines", 1999. Two numbers: on a few thousand crops they are
    known to some hundredths, and unlike isotonic regression they keep the order of all crops.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1]. Best out of fold: on training crops a network is too sure.
        fitted_on: What they are, for the manifest.

    Raises:
        DataError: The predictions are unusable (see `check_predictions`).
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    p = p_atypical.clip(SMALLEST, 1 - SMALLEST)
    logits = np.log(p) - np.log1p(-p)
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(logits[:, None], is_atypical)
    return Calibration(
        method="platt",
        scale=float(model.coef_[0, 0]),
        offset=float(model.intercept_[0]),
        fitted_on=fitted_on,
        n_crops=len(p),
        prevalence=float(is_atypical.mean()),
    )
