"""Crops as another laboratory, scanner or file format might have made them: the steps of a stress test."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from mitoscope.images.stain import hed_to_rgb, rgb_to_hed

BORDER = "mirror"  # what scipy puts where a moved crop leaves a gap
STAINS = ("haematoxylin", "eosin")


@dataclass(frozen=True)
class Perturbation:
    """One change of one strength.

    Attributes:
        kind: What is changed; a line in the picture.
        strength: How far, in `unit`; 0 changes nothing.
        unit: Of the strength, as it is to be read.
        variants: Each uint8 (N, 128, 128, 3) → the same. All are tried, and their answers judged together.
    """

    kind: str
    strength: float
    unit: str
    variants: tuple[Callable[[np.ndarray], np.ndarray], ...]


def list_perturbations() -> Iterator[Perturbation]:
    """Every step of the stress test: stains weaker and stronger, blur, JPEG, shifts to four sides, rotations."""
    for number, stain in enumerate(STAINS):
        for percent in (-60, -40, -20, 20, 40, 60):
            yield Perturbation(stain, percent, "%", (partial(restain, stain=number, factor=1 + percent / 100),))
    for sigma_px in (0.5, 1.0, 1.5, 2.0):
        yield Perturbation("blur", sigma_px, "px", (partial(blur, sigma_px=sigma_px),))
    for quality in (90, 70, 50, 30, 10):
        yield Perturbation("JPEG", quality, "quality", (partial(compress, quality=quality),))
    for distance_px in (4, 8, 16):
        sides = [(0, distance_px), (0, -distance_px), (distance_px, 0), (-distance_px, 0)]
        yield Perturbation("shift", distance_px, "px", tuple(partial(shift, yx_px=side) for side in sides))
    for degrees in (15, 45, 90, 180):
        turns = {degrees, -degrees} if degrees < 180 else {degrees}
        variants = tuple(partial(rotate, degrees=turn) for turn in sorted(turns))
        yield Perturbation("rotation", degrees, "°", variants)


def restain(crops: np.ndarray, stain: int, factor: float) -> np.ndarray:
    """Multiply the amount of one stain (Ruifrok and Johnston 2001).

    Args:
        crops: uint8 (N, 128, 128, 3), RGB.
        stain: 0 haematoxylin, 1 eosin, 2 residual.
        factor: 1 changes nothing.

    Returns:
        uint8 (N, 128, 128, 3).
    """
    images = torch.from_numpy(np.array(crops)).permute(0, 3, 1, 2).float() / 255  # (N, 3, H, W)
    stains = rgb_to_hed(images)
    stains[:, stain] *= factor
    pixels = (hed_to_rgb(stains).clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def blur(crops: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur with a Gaussian; uint8 (N, 128, 128, 3) → the same."""
    return _rounded(ndimage.gaussian_filter(crops.astype(np.float32), (0, sigma_px, sigma_px, 0), mode=BORDER))


def compress(crops: np.ndarray, quality: int) -> np.ndarray:
    """Compress and decompress each as JPEG of Pillow's quality, 1 … 95; uint8 (N, 128, 128, 3) → the same."""
    pictures = []
    for crop in crops:
        file = io.BytesIO()
        Image.fromarray(crop).save(file, "JPEG", quality=quality)
        pictures.append(np.asarray(Image.open(file)))
    return np.stack(pictures)


def shift(crops: np.ndarray, yx_px: tuple[int, int]) -> np.ndarray:
    """Move the figure off the centre, by whole pixels down and to the right; uint8 (N, 128, 128, 3) → the same."""
    return np.asarray(ndimage.shift(crops, (0, *yx_px, 0), order=0, mode=BORDER))


def rotate(crops: np.ndarray, degrees: float) -> np.ndarray:
    """Turn about the centre, cubic between right angles; uint8 (N, 128, 128, 3) → the same."""
    if degrees % 90 == 0:
        return np.rot90(crops, int(degrees // 90), axes=(1, 2)).copy()
    turned = ndimage.rotate(crops.astype(np.float32), degrees, axes=(2, 1), reshape=False, mode=BORDER)
    return _rounded(turned)


def _rounded(pixels: np.ndarray) -> np.ndarray:
    """Back to uint8."""
    return pixels.clip(0, 255).round().astype(np.uint8)
