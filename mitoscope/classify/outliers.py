"""Find crops that are unlike the networks' training crops.

A network is tested only on crops like its training crops. The user should see when a scanner, a stain or a blurred scan
differs from them. This hint never changes a probability.
"""

import numpy as np

from mitoscope.bundle.checks import RESTORE
from mitoscope.bundle.inputs import FeatureRange, TrainingCrops
from mitoscope.errors import WeightsError
from mitoscope.images.stain import FEATURES

PERCENTILES = (0.1, 99.9)
MARGIN = 0.5  # standard deviations; see find_outliers


def describe_crops(features: np.ndarray) -> TrainingCrops:
    """Describe training crops for the manifest; features float (N, 7) of `measure_crops`, N at least 1."""
    low, high = np.percentile(features, PERCENTILES, axis=0)
    columns = np.stack([features.mean(axis=0), features.std(axis=0), low, high], axis=1).tolist()  # 7 × 4
    ranges = {name: FeatureRange(*values) for name, values in zip(FEATURES, columns, strict=True)}
    return TrainingCrops(len(features), ranges)


def check_features(training: TrainingCrops) -> None:
    """Refuse a description of training crops by other features than `FEATURES`.

    Raises:
        WeightsError: The features differ.
    """
    if set(training.features) != set(FEATURES):
        raise WeightsError(
            "the bundle describes its training crops by other features",
            got=sorted(training.features),
            expected=", ".join(FEATURES),
            remedy=RESTORE,
        )


def find_outliers(features: np.ndarray, training: TrainingCrops) -> list[list[str]]:
    """Name the features in which each crop is unlike the training crops.

    A feature is unlike if it is more than half a standard deviation outside of the training crops' central 99.8 %.
    Without that margin every fifth crop of AtNorM-Br would be named, although the networks do well on its scanners.

    Args:
        features: float (N, 7), as `measure_crops` gives them.
        training: The bundle's training crops.

    Returns:
        N lists of names from `FEATURES`, in their order; empty for a crop like the training crops.
    """
    ranges = [training.features[name] for name in FEATURES]
    low = np.array([known.low - MARGIN * known.std for known in ranges])
    high = np.array([known.high + MARGIN * known.std for known in ranges])
    outside = (features < low) | (features > high)  # (N, 7)
    return [[name for name, is_outside in zip(FEATURES, row, strict=True) if is_outside] for row in outside]
