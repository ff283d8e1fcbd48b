"""The detector's loss, by architecture; RTMDet's: quality focal loss on the classes, GIoU on the boxes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from mitoscope.networks.fcos import PREFIX
from mitoscope.networks.rtmdet import flatten_grids
from mitoscope.training.detect.assign import assign
from mitoscope.training.detect.fcos import fcos_loss

FOCAL_BETA = 2.0
BOX_WEIGHT = 2.0


def find_loss(architecture: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """The loss of a network that `build_detector` builds: its grids, the boxes, their classes → two parts."""
    return fcos_loss if architecture.startswith(PREFIX) else detection_loss


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
