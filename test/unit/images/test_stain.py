import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage
from skimage.color import rgb2gray, rgb2hed, rgb_from_hed

from mitoscope.bundle.find import CHECKOUT, read_bundle
from mitoscope.bundle.manifest import FEATURES, FeatureRange, TrainingCrops
from mitoscope.errors import WeightsError
from mitoscope.images.stain import RGB_FROM_HED, describe_crops, find_outliers, hed_to_rgb, measure_crops, rgb_to_hed

RANGE = FeatureRange(mean=0.0, std=1.0, low=-1.0, high=1.0)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """uint8 (70, 128, 128, 3), more than a batch: purple spots of a size and shade of their own on pink."""
    random = np.random.default_rng(0)
    made = random.normal((225, 180, 205), 12, (70, 128, 128, 3))
    for crop, size in zip(made, random.integers(8, 40, 70), strict=True):
        crop[60 : 60 + size, 50 : 50 + size] -= random.uniform(60, 130)
    return made.clip(1, 255).astype(np.uint8)


def test_the_matrix_is_that_of_skimage() -> None:
    np.testing.assert_array_equal(RGB_FROM_HED.numpy(), rgb_from_hed.astype(np.float32))


def test_deconvolution_is_that_of_skimage() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = rgb2hed(images.permute(0, 2, 3, 1).numpy())  # which clips below 0
    np.testing.assert_allclose(rgb_to_hed(images).permute(0, 2, 3, 1).clamp(min=0), expected, atol=1e-5)


def test_deconvolution_and_back_is_the_identity() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(hed_to_rgb(rgb_to_hed(images)), images, atol=1 / 255, rtol=0)


def test_the_features_are_those_of_other_libraries(crops: np.ndarray) -> None:
    features = measure_crops(crops)
    assert features.shape == (70, 7)
    for crop, row in zip(crops, features, strict=True):
        density = np.log(crop / 255) / math.log(1e-6)
        stains = (density @ np.linalg.inv(rgb_from_hed)).reshape(-1, 3)
        if stains.min() >= 0:
            np.testing.assert_allclose(stains, rgb2hed(crop).reshape(-1, 3), atol=1e-4)
        np.testing.assert_allclose(row[[0, 2, 4]], stains.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(row[[1, 3, 5]], stains.std(axis=0), atol=1e-5)
        laplacian = ndimage.laplace(rgb2gray(crop))[1:-1, 1:-1]
        assert row[6] == pytest.approx(math.log10(laplacian.var()), abs=1e-4)


def test_a_crop_s_features_do_not_depend_on_its_neighbours(crops: np.ndarray) -> None:
    np.testing.assert_allclose(measure_crops(crops[66:68]), measure_crops(crops)[66:68], atol=1e-6)


def test_black_padding_changes_little(crops: np.ndarray) -> None:
    padded = crops.copy()
    padded[:, 96:] = 0
    shift = np.abs(measure_crops(padded) - measure_crops(crops))
    assert shift.max(axis=0)[:6].max() < 0.02  # black would add amounts of up to 1.9 over a quarter of the crop
    assert shift.max(axis=0)[6] < 0.3


@pytest.mark.parametrize("value", [0, 255])
def test_a_page_of_one_colour_has_no_stain_and_no_edge(value: int) -> None:
    features = measure_crops(np.full((1, 128, 128, 3), value, np.uint8))
    np.testing.assert_allclose(features, [[0, 0, 0, 0, 0, 0, -8]], atol=1e-6)


def test_no_crops_have_no_features() -> None:
    assert measure_crops(np.empty((0, 128, 128, 3), np.uint8)).shape == (0, 7)


@pytest.mark.parametrize("crops", [np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 128, 128, 3))])
def test_other_crops_are_refused(crops: np.ndarray) -> None:
    with pytest.raises(ValueError, match="crops must be uint8"):
        measure_crops(crops)


def test_the_description_holds_moments_and_percentiles() -> None:
    features = np.arange(1001)[:, None] * np.arange(1, 8)[None, :] / 10
    described = describe_crops(features)
    assert described.n_crops == 1001
    assert list(described.features) == list(FEATURES)
    for factor, name in enumerate(FEATURES, start=1):
        got = described.features[name]
        expected = FeatureRange(mean=50 * factor, std=28.896367 * factor, low=0.1 * factor, high=99.9 * factor)
        assert tuple(vars(got).values()) == pytest.approx(tuple(vars(expected).values()), rel=1e-6)


def test_what_lies_outside_is_named_in_order_and_the_margin_is_half_a_standard_deviation() -> None:
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
    described, stored = describe_crops(features), read_bundle(CHECKOUT).training_crops
    assert stored is not None
    assert described.n_crops == stored.n_crops
    for name in FEATURES:
        assert vars(described.features[name]) == pytest.approx(vars(stored.features[name]), rel=1e-4, abs=1e-5)
    assert sum(map(bool, find_outliers(features, stored))) < 0.005 * len(paths)


@pytest.mark.parametrize("change", [{"mean": math.nan}, {"std": -1.0}, {"low": 2.0}, {"high": "much"}, {"low": None}])
def test_an_unusable_range_is_explained(change: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="training crops are not described in a usable way: got FeatureRange"):
        replace(RANGE, **change)


def test_features_of_other_names_are_explained() -> None:
    with pytest.raises(WeightsError, match=r"got \['eosin mean'\], expected haematoxylin mean, "):
        TrainingCrops(1, {"eosin mean": RANGE})
