import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.color import rgb2gray, rgb2hed, rgb_from_hed

from mitoscope.images.stain import RGB_FROM_HED, hed_to_rgb, measure_crops, rgb_to_hed


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
