import numpy as np
import pytest
import torch
from PIL import Image

from mitoscope.bundle.inputs import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from mitoscope.classify.preprocess import preprocess

CROPS = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)


def as_pixels(images: torch.Tensor) -> np.ndarray:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((images.permute(0, 2, 3, 1) * std + mean) * 255).numpy()


def test_without_resizing_only_the_centre_is_cut() -> None:
    images = preprocess(CROPS, InputSpec(crop_px=64, size_px=64))
    assert images.shape == (2, 3, 64, 64)
    assert images.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(as_pixels(images), CROPS[:, 32:96, 32:96], atol=1e-3)


@pytest.mark.parametrize(
    "spec", [InputSpec(128, 256), InputSpec(64, 128), InputSpec(128, 64), InputSpec(64, 96, "bilinear")]
)
def test_resizing_is_that_of_pillow(spec: InputSpec) -> None:
    smooth = np.stack([np.asarray(Image.fromarray(crop[:16, :16]).resize((128, 128))) for crop in CROPS])
    edge = (128 - spec.crop_px) // 2
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[spec.interpolation]
    expected = [
        np.asarray(Image.fromarray(crop[edge : 128 - edge, edge : 128 - edge]).resize((spec.size_px,) * 2, method))
        for crop in smooth
    ]
    difference = np.abs(as_pixels(preprocess(smooth, spec)) - np.stack(expected))
    assert difference.max() < 6  # Pillow's bicubic has a = -0.5, torch's -0.75
    assert difference.mean() < 1


def test_arrays_and_tensors_give_the_same() -> None:
    spec = InputSpec(64, 128)
    assert torch.equal(preprocess(torch.from_numpy(CROPS), spec), preprocess(CROPS, spec))


@pytest.mark.parametrize("crops", [CROPS[:, :64], CROPS.astype(np.float32), CROPS[0]])
def test_other_arrays_are_refused(crops: np.ndarray) -> None:
    with pytest.raises(ValueError, match="crops must be uint8"):
        preprocess(crops, InputSpec())
