"""uint8 crops → normalised network input: the only preprocessing there is.

Inference, scoring and the validation half of training call this one function, so a network is never
asked about pixels that were prepared in another way than those it was measured on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.contract import CROP_PX
from model.errors import WeightsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputSpec:
    """How a 128 × 128 px crop becomes a network's input; stored in the bundle's manifest.

    Attributes:
        crop_px: Side of the central square that the network sees, in pixels of the crop (even, 2 … 128).
        size_px: Side of the network's input, in pixels.
        interpolation: ``"bicubic"`` or ``"bilinear"``.
        mean: Mean per RGB channel that is subtracted, on the scale [0, 1].
        std: Standard deviation per RGB channel that is divided by, on the scale [0, 1].
    """

    crop_px: int = CROP_PX
    size_px: int = 256
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        good = (
            isinstance(self.crop_px, int)
            and 2 <= self.crop_px <= CROP_PX
            and self.crop_px % 2 == 0
            and isinstance(self.size_px, int)
            and 32 <= self.size_px <= 1024
            and self.interpolation in ("bicubic", "bilinear")
            and len(self.mean) == len(self.std) == 3
            and all(isinstance(value, int | float) for value in (*self.mean, *self.std))
            and all(0 < s < 10 for s in self.std)
            and all(-10 < m < 10 for m in self.mean)
        )
        if not good:
            raise WeightsError(
                "the network's input is not described in a usable way",
                got=self,
                expected="crop_px even in 2…128, size_px in 32…1024, bicubic or bilinear, 3 means, 3 positive stds",
                remedy="restore manifest.json from where the bundle was published, or correct --set input.…",
            )


def preprocess(crops: Tensor | np.ndarray, spec: InputSpec, device: torch.device | str = "cpu") -> Tensor:
    """Cut the centre, resize and normalise.

    Args:
        crops: uint8 (N, 128, 128, 3), RGB in [0, 255].
        spec: The network's input.
        device: Where to compute; the bytes travel as uint8.

    Returns:
        float32 (N, 3, size_px, size_px), normalised, channels-last in memory.
    """
    if crops.shape[1:] != (CROP_PX, CROP_PX, 3) or crops.dtype not in (torch.uint8, np.uint8):
        raise ValueError(f"crops must be uint8 (N, {CROP_PX}, {CROP_PX}, 3), got {crops.dtype} {tuple(crops.shape)}")
    pixels = torch.as_tensor(crops).to(device)
    edge = (CROP_PX - spec.crop_px) // 2
    centre = pixels[:, edge : edge + spec.crop_px, edge : edge + spec.crop_px]  # (N, crop, crop, 3)
    images = centre.permute(0, 3, 1, 2).float()  # (N, 3, crop, crop)
    if spec.size_px != spec.crop_px:
        images = F.interpolate(
            images, size=spec.size_px, mode=spec.interpolation, antialias=spec.size_px < spec.crop_px
        ).clamp_(0, 255)  # bicubic overshoots at edges
    return normalise(images / 255, spec).contiguous(memory_format=torch.channels_last)


def normalise(images: Tensor, spec: InputSpec) -> Tensor:
    """Subtract the mean and divide by the standard deviation; images float (N, 3, H, W) in [0, 1]."""
    mean = torch.tensor(spec.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(spec.std, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / std
