"""What a network finds in a tile, to watch a fit."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mitoscope.networks.rtmdet import flatten_grids

MOST_A_TILE = 300
OVERLAP = 0.2  # IoU from which two boxes are one figure: for boxes of 12.5 µm, centres nearer than some 8 µm


def find_candidates(grids: Sequence[Sequence[Tensor]], floor: float) -> list[Tensor]:
    """The boxes of each tile.

    Args:
        grids: What the network gives, see `flatten_grids`.
        floor: Least probability.

    Returns:
        For each tile float32 (K, 6) on the CPU: left, upper, right and lower side in pixels, probability, class. Many
        boxes show the same figure, see `merge`.
    """
    flat, boxes, _ = flatten_grids(*grids)
    found = []
    for p, box in zip(flat.sigmoid(), boxes, strict=True):  # (P, C), (P, 4)
        best, number = p.max(dim=1)
        count = min(MOST_A_TILE, int((best >= floor).sum()))
        cells = best.topk(count).indices
        found.append(torch.cat([box[cells], best[cells, None], number[cells, None].float()], dim=1).cpu())
    return found


def merge(candidates: Tensor) -> Tensor:
    """Keep the most probable of the boxes that overlap, class by class: (K, 6) → (M, 6), by falling probability."""
    kept = batched_nms(candidates[:, :4], candidates[:, 4], candidates[:, 5].long(), OVERLAP)
    return candidates[kept]
