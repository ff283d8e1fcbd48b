"""uint8 crops → normalised network input: the only preprocessing.

Inference, scoring and validation during training call this function, so that networks are used as they were evaluated.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mitoscope.bundle.inputs import InputSpec
from mitoscope.images import CROP_PX
from mitoscope.networks.views import normalise


def preprocess(crops: Tensor | np.ndarray, spec: InputSpec, device: torch.device | str = "cpu") -> Tensor:
    """Cut the centre, resize and normalise.

    Args:
        crops: uint8 (N, 128, 128, 3), RGB in [0, 255].
        spec: The network's input.
        device: Where to compute; the crops are copied there as uint8.

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
