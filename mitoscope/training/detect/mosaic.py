"""Mosaics: patches put together from the quadrants of four (Bochkovskiy et al., YOLOv4, 2020, arXiv 2004.10934).

Here every quadrant keeps its µm per px and its place, so that no figure changes its size.
"""

import torch
from torch import Generator, Tensor

NEAREST = 0.25  # of the side: how near to a border the quadrants may meet


def make_mosaics(images: Tensor, figures: Tensor, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Put a share of the images together from their own upper left quadrant and those of the three that follow.

    Args:
        images: float (B, C, S, S).
        figures: float (G, 4): number of the image, x and y in its pixels, class.
        share: Of the images, in expectation.
        generator: On the images' device.

    Returns:
        The same for the mosaics; a figure is where its centre is shown.
    """
    count, side = len(images), images.shape[-1]
    drawn = torch.rand(count, 3, device=images.device, generator=generator)
    meet = side * (NEAREST + (1 - 2 * NEAREST) * drawn[:, :2])  # (B, 2), x and y
    meet = torch.where(drawn[:, 2:] < share, meet, torch.inf)
    place = torch.arange(side, device=images.device)
    right, lower = (place >= meet[:, k, None] for k in (0, 1))  # (B, S) each
    quadrant = right[:, None, :] + 2 * lower[:, :, None]  # (B, S, S)
    mosaics, kept = images, []
    for number in range(4):
        if number:
            mosaics = torch.where((quadrant == number)[:, None], images.roll(-number, 0), mosaics)
        shown = (figures[:, 0].long() - number) % count  # the image that shows this one's quadrant
        own = meet[shown]
        is_there = (figures[:, 1] >= own[:, 0]) + 2 * (figures[:, 2] >= own[:, 1]) == number
        kept.append(torch.cat([shown[:, None].to(figures.dtype), figures[:, 1:]], dim=1)[is_there])
    return mosaics, torch.cat(kept)
