"""Which crops are unlike those that the networks were trained on.

A network is known to work on crops like its training crops. Its user should see where a scanner, a stain or a blurred
scan differs from them. This hint never changes a probability.
"""

import numpy as np

from mitoscope.bundle.manifest import RESTORE, FeatureRange, TrainingCrops
from mitoscope.errors import WeightsError
from mitoscope.images.stain import FEATURES

PERCENTILES = (0.1, 99.9)
MARGIN = 0.5  # standard deviations; see find_outliers


def describe_crops(features: np.ndarray) -> TrainingCrops:
    """What a bundle's manifest says of its training crops; features float (N, 7) of `measure_crops`, N of 1 or more."""
    low, high = np.percentile(features, PERCENTILES, axis=0)
    columns = np.stack([features.mean(axis=0), features.std(axis=0), low, high], axis=1).tolist()  # 7 × 4
    ranges = {name: FeatureRange(*values) for name, values in zip(FEATURES, columns, strict=True)}
    return TrainingCrops(len(features), ranges)


def check_features(training: TrainingCrops) -> None:
    """Refuse training crops that are described in other features than `FEATURES`.

    Raises:
        WeightsError: They are.
    """
    if set(training.features) != set(FEATURES):
        raise WeightsError(
            "the bundle's training crops are described in other features",
            got=sorted(training.features),
            expected=", ".join(FEATURES),
            remedy=RESTORE,
        )


def find_outliers(features: np.ndarray, training: TrainingCrops) -> list[list[str]]:
    """Name the features in which each crop is unlike the training crops.

    A feature is unlike when it lies more than half a standard deviation outside of the training crops' central 99.8 %.
    Without that margin the scanners of AtNorM-Br, on which the networks do well, would be named in every fifth crop.

    Args:
        features: float (N, 7), as `measure_crops` gives them.
        training: The bundle's training crops.

    Returns:
        N lists of names, of `FEATURES` and in their order; an empty list is a crop like the training crops.
    """
    ranges = [training.features[name] for name in FEATURES]
    low = np.array([known.low - MARGIN * known.std for known in ranges])
    high = np.array([known.high + MARGIN * known.std for known in ranges])
    outside = (features < low) | (features > high)  # (N, 7)
    return [[name for name, is_outside in zip(FEATURES, row, strict=True) if is_outside] for row in outside]
