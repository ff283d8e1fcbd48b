"""The detector's loss: quality focal loss on the classes, GIoU on the boxes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from mitoscope.training.detect.assign import assign, make_cells

FOCAL_BETA = 2.0
BOX_WEIGHT = 2.0


def flatten_grids(logits: Sequence[Tensor], distances: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The grids as lists of cells.

    Args:
        logits: (N, C, h, w) by grid, as `mitoscope.networks.rtmdet.RTMDet` gives them.
        distances: (N, 4, h, w) by grid.

    Returns:
        Logits float (N, P, C), boxes float (N, P, 4) as left, upper, right and lower side in pixels, and the cells
        (P, 3), see `make_cells`; all in fp32.
    """
    cells = make_cells([(grid.shape[2], grid.shape[3]) for grid in logits], logits[0].device)
    flat, far = (torch.cat([g.flatten(2) for g in grids], dim=2).mT.float() for grids in (logits, distances))
    at = cells[:, :2]
    return flat, torch.cat([at - far[..., :2], at + far[..., 2:]], dim=-1), cells


def detection_loss(
    logits: Sequence[Tensor], distances: Sequence[Tensor], true_boxes: Sequence[Tensor], classes: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The loss of a batch: of the classes, and of the boxes with its weight.

    Quality focal loss (Li et al., NeurIPS 2020): a cell's target is its box's IoU with its figure. Both are divided by
    the sum of these IoUs.

    Args:
        logits: (N, C, h, w) by grid.
        distances: (N, 4, h, w) by grid.
        true_boxes: float (G, 4) by image, in pixels.
        classes: int64 (G,) by image.
    """
    flat, boxes, cells = flatten_grids(logits, distances)
    targets = torch.zeros_like(flat)
    box_losses, total = [flat.new_zeros(())], flat.new_zeros(())
    for image, (wanted, kinds) in enumerate(zip(true_boxes, classes, strict=True)):
        assigned = assign(flat[image].detach(), boxes[image].detach(), cells, wanted, kinds)
        rows = assigned.figure >= 0
        figure, iou = assigned.figure[rows], assigned.iou[rows]
        targets[image, rows.nonzero().squeeze(1), kinds[figure]] = iou
        if len(figure):
            loss = generalized_box_iou_loss(boxes[image][rows], wanted[figure], reduction="none")
            box_losses.append((loss * iou).sum())
        total = total + iou.sum()
    divisor = total.clamp(min=1)
    error = F.binary_cross_entropy_with_logits(flat, targets, reduction="none")
    focal = (error * (targets - flat.sigmoid()).abs() ** FOCAL_BETA).sum() / divisor
    return focal, BOX_WEIGHT * torch.stack(box_losses).sum() / divisor
