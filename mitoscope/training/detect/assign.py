"""Which cells of the grids learn which figure: RTMDet's dynamic soft label assignment (Lyu et al., 2022, section 3.4).

A cell whose centre is inside of any box is a candidate. It costs little to give a figure to a candidate that already
finds it (classification), whose box fits (IoU) and that is near its centre. Each figure takes as many of its cheapest
candidates as the boxes overlap it well; a cell that is wanted twice goes to the cheaper figure.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

MOST_CELLS = 13  # whose overlap decides how many a figure takes
RADIUS = 3.0  # cells; within it the distance to the centre hardly counts
IOU_WEIGHT = 3.0
EPS = 1e-7


@dataclass(frozen=True)
class Assignment:
    """What each of P cells learns.

    Attributes:
        figure: int64 (P,), the number of its box, or -1 for background.
        iou: float (P,), of the cell's box with that figure's; 0 for background.
    """

    figure: Tensor
    iou: Tensor


@torch.no_grad()
def assign(logits: Tensor, boxes: Tensor, cells: Tensor, true_boxes: Tensor, classes: Tensor) -> Assignment:
    """Assign the figures of one image.

    Args:
        logits: float (P, C), the network's.
        boxes: float (P, 4), its boxes: left, upper, right, lower side in pixels.
        cells: float (P, 3), see `mitoscope.networks.rtmdet.make_cells`.
        true_boxes: float (G, 4), the figures'.
        classes: int64 (G,), theirs.
    """
    figure = torch.full((len(cells),), -1, dtype=torch.int64, device=cells.device)
    iou = torch.zeros(len(cells), device=cells.device)
    x, y = cells[:, :1], cells[:, 1:2]
    left, upper, right, lower = true_boxes.T
    inside = torch.stack([x - left, y - upper, right - x, lower - y]).amin(dim=0) > 0  # (P, G)
    chosen = inside.any(dim=1).nonzero().squeeze(1)
    if len(chosen) == 0:
        return Assignment(figure, iou)
    overlap = box_iou(boxes[chosen], true_boxes)  # (V, G)
    cost = _cost(logits[chosen], cells[chosen], overlap, true_boxes, classes)
    best = overlap.topk(min(MOST_CELLS, len(chosen)), dim=0).values.sum(dim=0).int().clamp(min=1)
    taken = torch.zeros_like(cost, dtype=torch.bool)
    for number, count in enumerate(best.tolist()):
        taken[cost[:, number].topk(count, largest=False).indices, number] = True
    twice = taken.sum(dim=1) > 1
    taken[twice] = F.one_hot(cost[twice].argmin(dim=1), taken.shape[1]).bool()
    rows = taken.any(dim=1)
    owner = taken[rows].int().argmax(dim=1)
    figure[chosen[rows]] = owner
    iou[chosen[rows]] = overlap[rows, owner]
    return Assignment(figure, iou)


def _cost(logits: Tensor, cells: Tensor, overlap: Tensor, true_boxes: Tensor, classes: Tensor) -> Tensor:
    """What it costs to give each figure to each candidate: float (V, G)."""
    centres = (true_boxes[:, :2] + true_boxes[:, 2:]) / 2
    distance = torch.cdist(cells[:, :2], centres) / cells[:, 2:]
    near = 10.0 ** (distance - RADIUS)
    fit = -IOU_WEIGHT * (overlap + EPS).log()
    targets = F.one_hot(classes, logits.shape[1]) * overlap[..., None]  # (V, G, C)
    wide = logits[:, None].expand_as(targets)
    error = F.binary_cross_entropy_with_logits(wide, targets, reduction="none")
    found = (error * (targets - wide.sigmoid()).abs() ** 2).sum(dim=-1)
    return found + fit + near
