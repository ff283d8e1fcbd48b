"""Stain and focus of crops, and the way from RGB to stains and back."""

import math

import numpy as np
import torch
from torch import Tensor

from mitoscope.images import CROP_PX

# Ruifrok and Johnston 2001, as skimage.color.rgb_from_hed: one row a stain, one column a colour. Numbers, because
# importing skimage would slow every start of the container.
RGB_FROM_HED = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], dtype=torch.float32)
HED_FROM_RGB = torch.linalg.inv(RGB_FROM_HED.double()).float()
LOG_FLOOR = math.log(1e-6)  # skimage's unit: a stain of 1 absorbs all but a millionth
LUMINANCE = torch.tensor([0.2125, 0.7154, 0.0721])  # of red, green and blue, as in skimage.color.rgb2gray
FLAT = 1e-8  # added to the variance of the Laplacian, so that a page of one colour has a logarithm
BATCH = 64  # crops at once: about 50 MB
FEATURES = (
    *("haematoxylin mean", "haematoxylin spread", "eosin mean", "eosin spread", "residual mean", "residual spread"),
    "sharpness",
)


def rgb_to_hed(images: Tensor) -> Tensor:
    """Stain amounts of RGB: float (B, 3, H, W) in [0, 1] → float (B, 3, H, W) as skimage's rgb2hed, unclipped."""
    density = images.clamp(min=1e-6).log() / LOG_FLOOR
    return torch.einsum("bchw,cs->bshw", density, HED_FROM_RGB.to(images.device))


def hed_to_rgb(stains: Tensor) -> Tensor:
    """RGB of stain amounts: the inverse of `rgb_to_hed`, not clipped above 1."""
    return (torch.einsum("bshw,sc->bchw", stains, RGB_FROM_HED.to(stains.device)) * LOG_FLOOR).exp()


def measure_crops(crops: np.ndarray) -> np.ndarray:
    """Measure stain and focus of whole crops, on the CPU.

    Wholly black pixels, with which crops at a slide's edge are padded, are left out: they would count as the darkest
    stain there is. A crop of nothing else has no stain and no edge.

    Args:
        crops: uint8 (N, 128, 128, 3), RGB in [0, 255].

    Returns:
        float64 (N, 7), one column for each of `FEATURES`: mean and standard deviation (spread) over the crop of the
        amount of haematoxylin, of eosin and of the residual (Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23,
        2001; skimage's unit, but not clipped at 0), and sharpness: log10 of the variance of the Laplacian of the
        luminance in [0, 1] (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000).
    """
    if crops.shape[1:] != (CROP_PX, CROP_PX, 3) or crops.dtype != np.uint8:
        raise ValueError(f"crops must be uint8 (N, {CROP_PX}, {CROP_PX}, 3), got {crops.dtype} {crops.shape}")
    batches = [_measure(np.array(crops[i : i + BATCH])) for i in range(0, len(crops), BATCH)]
    return np.concatenate([np.empty((0, len(FEATURES))), *batches])


def _measure(crops: np.ndarray) -> np.ndarray:
    """One batch: uint8 (B, 128, 128, 3) → float64 (B, 7)."""
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
    tissue = (images > 0).any(dim=1)  # (B, H, W)
    mean, variance = _moments(rgb_to_hed(images).flatten(2), tissue.flatten(1)[:, None])  # (B, 3) each
    grey = torch.einsum("bchw,c->bhw", images, LUMINANCE)
    laplacian = sum(_neighbours(grey), start=-4 * _inside(grey))  # (B, H - 2, W - 2)
    whole = torch.stack([_inside(tissue), *_neighbours(tissue)]).all(dim=0)  # no padding under the kernel
    _, edges = _moments(laplacian.flatten(1), whole.flatten(1))  # (B,)
    stains = torch.stack([mean, variance.sqrt()], dim=2).flatten(1)  # (B, 6)
    return torch.cat([stains, (edges + FLAT).log10()[:, None]], dim=1).double().numpy()


def _inside(images: Tensor) -> Tensor:
    """All pixels but the outermost: (B, H, W) → (B, H - 2, W - 2)."""
    return images[:, 1:-1, 1:-1]


def _neighbours(images: Tensor) -> list[Tensor]:
    """The pixel above, below, left and right of each inner one, (B, H - 2, W - 2) each."""
    return [images[:, :-2, 1:-1], images[:, 2:, 1:-1], images[:, 1:-1, :-2], images[:, 1:-1, 2:]]


def _moments(values: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the last axis of what is counted; 0 where nothing is."""
    n_counted = counted.sum(dim=-1).clamp(min=1)
    mean = (values * counted).sum(dim=-1) / n_counted
    return mean, ((values - mean[..., None]).square() * counted).sum(dim=-1) / n_counted
