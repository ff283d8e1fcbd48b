"""Platt's calibration, fitted on labelled predictions."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from mitoscope.bundle.manifest import Calibration
from mitoscope.errors import DataError
from mitoscope.scoring.predictions import Array, check_predictions

SMALLEST = 1e-6  # predictions.csv has six decimals; logits are finite from here on


def fit_platt(is_atypical: Array, p_atypical: Array, fitted_on: str = "out-of-fold") -> Calibration:
    """Fit sigmoid(scale × logit(p) + offset) to the labels by maximum likelihood.

    Platt, "Probabilistic outputs for support vector machines", 1999, with his targets: (n + 1) / (n + 2) in place of 1
    for n atypical crops, and 1 / (n + 2) in place of 0, so that separated classes give finite numbers. Two numbers are
    well known on a few thousand crops; and unlike isotonic regression they keep the order of all crops.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1]. Out of fold if possible: on training crops a network is overconfident.
        fitted_on: What they are, for the manifest.

    Raises:
        DataError: The predictions are unusable (see `check_predictions`), or atypical crops do not have the higher
            probabilities.
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    p = p_atypical.clip(SMALLEST, 1 - SMALLEST)
    logits = np.log(p) - np.log1p(-p)
    n_atypical = int(is_atypical.sum())
    target = np.where(is_atypical, (n_atypical + 1) / (n_atypical + 2), 1 / (len(p) - n_atypical + 2))
    # A soft target is a crop of both classes, each with its share as weight.
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        np.tile(logits, 2)[:, None],
        np.repeat([True, False], len(p)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    scale = float(model.coef_[0, 0])
    if scale <= 0:
        raise DataError(
            "the predictions cannot be calibrated",
            got=f"a slope of {scale:.3g}: atypical crops do not have the higher probabilities",
            expected="a slope above 0",
            remedy="train longer, or check the labels",
        )
    return Calibration(
        method="platt",
        scale=scale,
        offset=float(model.intercept_[0]),
        fitted_on=fitted_on,
        n_crops=len(p),
        prevalence=float(is_atypical.mean()),
    )
