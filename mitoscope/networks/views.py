"""What a network sees of an image: normalised pixels, in any of the eight orientations.

Orientations 0 to 3 are quarter turns, 4 to 7 their mirror images.
"""

import torch
from torch import Tensor

from mitoscope.bundle.inputs import InputSpec

ORIENTATIONS = 8


def normalise(images: Tensor, spec: InputSpec) -> Tensor:
    """Subtract the mean and divide by the standard deviation; images float (N, 3, H, W) in [0, 1]."""
    mean = torch.tensor(spec.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(spec.std, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / std


def turn(images: Tensor, orientation: int) -> Tensor:
    """Quarter turns, then from 4 on the mirror image: (N, C, H, W) → the same or (N, C, W, H), channels-last."""
    turned = torch.rot90(images, orientation % 4, (2, 3))
    turned = turned.flip(3) if orientation >= 4 else turned
    return turned.contiguous(memory_format=torch.channels_last)


def turn_back(maps: Tensor, orientation: int) -> Tensor:
    """Undo `turn`: (N, H, W) → the same."""
    maps = maps.flip(2) if orientation >= 4 else maps
    return torch.rot90(maps, -(orientation % 4), (1, 2))


def turn_points_back(points: Tensor, orientation: int, shape: tuple[int, int]) -> Tensor:
    """Undo `turn` for points.

    Args:
        points: float (N, 2), x and y in the turned image; the first pixel covers [0, 1).
        orientation: As for `turn`.
        shape: Height and width of the image before the turn.
    """
    x, y = points.unbind(dim=1)
    height, width = shape if orientation % 2 == 0 else shape[::-1]  # of the turned image
    if orientation >= 4:
        x = width - x
    for _ in range(orientation % 4):
        x, y = height - y, x
        height, width = width, height
    return torch.stack([x, y], dim=1)
