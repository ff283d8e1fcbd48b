"""FCOS's loss, as torchvision computes it: focal loss on the classes, GIoU on the boxes, and the centre-ness."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from mitoscope.networks.rtmdet import flatten_grids

RADIUS = 1.5  # strides; a cell farther from a figure's centre along one axis does not learn it
RANGE = (4.0, 8.0)  # of the larger distance from a cell to its box's sides, in strides; open below and above


@torch.no_grad()
def match_cells(cells: Tensor, true_boxes: Tensor) -> Tensor:
    """Which figure each cell learns: int64 (P,), the number of its box, or -1 for background.

    A cell learns the smallest of the boxes that it is inside of, whose centre is near, and whose size is its grid's.

    Args:
        cells: float (P, 3), see `mitoscope.networks.rtmdet.make_cells`.
        true_boxes: float (G, 4), in pixels.
    """
    if not len(true_boxes):
        return torch.full((len(cells),), -1, dtype=torch.int64, device=cells.device)
    at, stride = cells[:, None, :2], cells[:, 2:]  # (P, 1, 2), (P, 1)
    centres = (true_boxes[:, :2] + true_boxes[:, 2:]) / 2
    near = (at - centres).abs().amax(dim=2) < RADIUS * stride
    far = torch.cat([at - true_boxes[:, :2], true_boxes[:, 2:] - at], dim=2)  # (P, G, 4)
    lowest = torch.where(stride == stride.min(), 0.0, RANGE[0] * stride)
    highest = torch.where(stride == stride.max(), torch.inf, RANGE[1] * stride)
    largest = far.amax(dim=2)
    fits = near & (far.amin(dim=2) > 0) & (largest > lowest) & (largest < highest)
    areas = (true_boxes[:, 2:] - true_boxes[:, :2]).prod(dim=1).expand_as(fits)
    smallest = torch.where(fits, areas, torch.inf).min(dim=1)
    return torch.where(smallest.values.isfinite(), smallest.indices, -1)


def measure_centres(cells: Tensor, boxes: Tensor) -> Tensor:
    """How near the middle of its box a cell inside of it lies: float (K, 3), (K, 4) → (K,) in [0, 1]."""
    far = torch.stack([cells[:, :2] - boxes[:, :2], boxes[:, 2:] - cells[:, :2]], dim=2)  # (K, 2, 2)
    return (far.amin(dim=2) / far.amax(dim=2)).prod(dim=1).sqrt()


def fcos_loss(
    logits: Sequence[Tensor],
    distances: Sequence[Tensor],
    centres: Sequence[Tensor],
    true_boxes: Sequence[Tensor],
    classes: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """The loss of a batch: of the classes, and of boxes and centre-ness together; each divided by the learning cells.

    Args:
        logits: (N, C, h, w) by grid, as `mitoscope.networks.fcos.FCOS` gives them.
        distances: (N, 4, h, w) by grid.
        centres: (N, 1, h, w) by grid.
        true_boxes: float (G, 4) by image, in pixels.
        classes: int64 (G,) by image.
    """
    flat, boxes, cells = flatten_grids(logits, distances)
    near = torch.cat([grid.flatten(1) for grid in centres], dim=1).float()
    targets, placed, count = torch.zeros_like(flat), [flat.new_zeros(())], 0
    for image, (wanted, kinds) in enumerate(zip(true_boxes, classes, strict=True)):
        figure = match_cells(cells, wanted)
        rows = figure >= 0
        figure = figure[rows]
        count += len(figure)
        if len(figure):
            targets[image, rows.nonzero().squeeze(1), kinds[figure]] = 1.0
            placed.append(generalized_box_iou_loss(boxes[image][rows], wanted[figure], reduction="sum"))
            centre = measure_centres(cells[rows], wanted[figure])
            placed.append(F.binary_cross_entropy_with_logits(near[image][rows], centre, reduction="sum"))
    focal = sigmoid_focal_loss(flat, targets, reduction="sum")
    return focal / max(count, 1), torch.stack(placed).sum() / max(count, 1)
