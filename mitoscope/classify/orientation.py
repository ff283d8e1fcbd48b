"""The eight orientations of a crop: four quarter turns, each with its mirror image.

A mitotic figure has no upright: however the slide lay, the answer should be the same. Two steps make it so, exactly and
without further forward passes (docs/adr/0016): every crop is first brought to one orientation, found from its pixels;
then each member sees it in an orientation of its own, so that what a network makes of a turn averages out over the
members.
"""

import torch
from torch import Tensor

from mitoscope.networks.views import ORIENTATIONS

STRIDE = 3  # no divisor in common with 8: the first members have different turns, and mirror images among them


def choose_orientations(member: int, count: int) -> tuple[int, ...]:
    """In which orientations a member of an ensemble sees a crop; different ones for each member, as long as they last.

    Args:
        member: Its number in the ensemble, from 0.
        count: Orientations a member, 0 to 8; 0: the crop as it comes.
    """
    return tuple(STRIDE * (member * count + k) % ORIENTATIONS for k in range(count))


def find_standard(crops: Tensor) -> Tensor:
    """Which flips bring each crop to its standard orientation: the same picture, whichever of the eight it comes in.

    In it the left half is at least as bright as the right one, the upper as the lower, and the upper right quarter as
    the lower left. Crops whose halves or quarters are of equal brightness to the last digit may differ; they are rare.

    Args:
        crops: uint8 (N, S, S, 3), S even.

    Returns:
        bool (3, N): whether to flip left and right, then up and down, then to swap rows and columns.
    """
    half = crops.shape[1] // 2
    sums = crops.sum(dim=3, dtype=torch.int64).reshape(-1, 2, half, 2, half).sum(dim=(2, 4))
    sideways = sums[:, :, 0].sum(1) < sums[:, :, 1].sum(1)  # (N, upper or lower, left or right)
    upwards = sums[:, 0].sum(1) < sums[:, 1].sum(1)
    row, column = upwards.long(), (~sideways).long()  # what becomes the upper right quarter
    every = torch.arange(len(crops), device=crops.device)
    swapped = sums[every, row, column] < sums[every, 1 - row, 1 - column]
    return torch.stack([sideways, upwards, swapped])


def to_standard(crops: Tensor, flips: Tensor) -> Tensor:
    """Flip each crop as `find_standard` says: (N, S, S, …) → the same."""
    sideways, upwards, swapped = (each.view(-1, *(1,) * (crops.ndim - 1)) for each in flips)
    crops = torch.where(sideways, crops.flip(2), crops)
    crops = torch.where(upwards, crops.flip(1), crops)
    return torch.where(swapped, crops.transpose(1, 2), crops)


def from_standard(maps: Tensor, flips: Tensor) -> Tensor:
    """Undo `to_standard`: (N, S, S, …) → the same."""
    sideways, upwards, swapped = (each.view(-1, *(1,) * (maps.ndim - 1)) for each in flips)
    maps = torch.where(swapped, maps.transpose(1, 2), maps)
    maps = torch.where(upwards, maps.flip(1), maps)
    return torch.where(sideways, maps.flip(2), maps)
