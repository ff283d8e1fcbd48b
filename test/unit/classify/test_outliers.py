import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mitoscope.bundle.inputs import FeatureRange, TrainingCrops
from mitoscope.bundle.read import read_bundle
from mitoscope.classify.outliers import check_features, describe_crops, find_outliers
from mitoscope.errors import WeightsError
from mitoscope.images.stain import FEATURES, measure_crops

LITE = Path(__file__).resolve().parents[3] / "weights" / "lite"
RANGE = FeatureRange(mean=0.0, std=1.0, low=-1.0, high=1.0)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """uint8 (70, 128, 128, 3), more than a batch: purple spots of a size and shade of their own on pink."""
    random = np.random.default_rng(0)
    made = random.normal((225, 180, 205), 12, (70, 128, 128, 3))
    for crop, size in zip(made, random.integers(8, 40, 70), strict=True):
        crop[60 : 60 + size, 50 : 50 + size] -= random.uniform(60, 130)
    return made.clip(1, 255).astype(np.uint8)


def test_the_description_holds_moments_and_percentiles() -> None:
    features = np.arange(1001)[:, None] * np.arange(1, 8)[None, :] / 10
    described = describe_crops(features)
    assert described.n_crops == 1001
    assert list(described.features) == list(FEATURES)
    for factor, name in enumerate(FEATURES, start=1):
        got = described.features[name]
        expected = FeatureRange(mean=50 * factor, std=28.896367 * factor, low=0.1 * factor, high=99.9 * factor)
        assert tuple(vars(got).values()) == pytest.approx(tuple(vars(expected).values()), rel=1e-6)


def test_features_outside_are_named_in_order_with_a_margin_of_half_a_standard_deviation() -> None:
    training = TrainingCrops(9, {name: RANGE for name in reversed(FEATURES)})
    features = np.zeros((4, 7))
    features[1, 2] = -1.49
    features[2, 2] = -1.51
    features[3, [0, 6]] = 1.51
    assert find_outliers(features, training) == [[], [], ["eosin mean"], ["haematoxylin mean", "sharpness"]]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda crop: crop.convert("L").convert("RGB"), "eosin mean"),
        (lambda crop: crop.point(lambda value: 255 - value), "haematoxylin mean"),
        (lambda crop: crop.filter(ImageFilter.GaussianBlur(3)), "sharpness"),
        (lambda crop: crop.point(lambda value: value // 2), "haematoxylin mean"),
    ],
    ids=["greyscale", "inverted", "blurred", "dark"],
)
def test_wrong_crops_are_unlike_and_the_right_ones_are_not(crops, spoil, named) -> None:
    training = describe_crops(measure_crops(crops))
    assert not any(find_outliers(measure_crops(crops), training))
    spoilt = np.stack([np.asarray(spoil(Image.fromarray(crop))) for crop in crops])
    assert all(named in names for names in find_outliers(measure_crops(spoilt), training))


@pytest.mark.data
def test_the_bundle_in_git_describes_the_published_crops() -> None:
    if "MITOSIS_DATA" not in os.environ:
        pytest.skip("MITOSIS_DATA, the folder with the real crops, is not set")
    paths = sorted((Path(os.environ["MITOSIS_DATA"]) / "AMi-Br").glob("*/*.png"))
    features = measure_crops(np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths]))
    described, stored = describe_crops(features), read_bundle(LITE).training_crops
    assert stored is not None
    assert described.n_crops == stored.n_crops
    for name in FEATURES:
        assert vars(described.features[name]) == pytest.approx(vars(stored.features[name]), rel=1e-4, abs=1e-5)
    assert sum(map(bool, find_outliers(features, stored))) < 0.005 * len(paths)


@pytest.mark.parametrize("change", [{"mean": math.nan}, {"std": -1.0}, {"low": 2.0}, {"high": "much"}, {"low": None}])
def test_an_unusable_range_is_explained(change: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="training crops cannot be used: got FeatureRange"):
        replace(RANGE, **change)


def test_features_of_other_names_are_explained() -> None:
    with pytest.raises(WeightsError, match=r"got \['eosin mean'\], expected haematoxylin mean, "):
        check_features(TrainingCrops(1, {"eosin mean": RANGE}))
