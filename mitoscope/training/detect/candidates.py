"""What a network finds in a tile; and how well that agrees with the labels, to watch a fit."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mitoscope.networks.rtmdet import flatten_grids
from mitoscope.scoring.detection.match import RADIUS_MM

MOST_A_TILE = 300
OVERLAP = 0.2  # IoU from which two boxes are one figure: for boxes of 12.5 µm, centres nearer than some 8 µm
RADIUS_UM = 1000 * RADIUS_MM  # within which a candidate is a hit, as the scoring has it


def find_candidates(logits: Sequence[Tensor], distances: Sequence[Tensor], floor: float) -> list[Tensor]:
    """The boxes of each tile.

    Args:
        logits: (N, C, h, w) by grid.
        distances: (N, 4, h, w) by grid.
        floor: Least probability.

    Returns:
        For each tile float32 (K, 6) on the CPU: left, upper, right and lower side in pixels, probability, class. Many
        boxes show the same figure, see `merge`.
    """
    flat, boxes, _ = flatten_grids(logits, distances)
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


def match(found: np.ndarray, truth: np.ndarray, radius_px: float) -> np.ndarray:
    """Which candidates are hits. Each takes the nearest figure that no more probable one has taken.

    Args:
        found: float (M, 2), x and y by falling probability.
        truth: float (G, 2), the figures.
        radius_px: The largest distance of a hit.

    Returns:
        bool (M,).
    """
    hits, free = np.zeros(len(found), dtype=bool), np.ones(len(truth), dtype=bool)
    for number, place in enumerate(found):
        far = np.where(free, np.hypot(*(truth - place).T), np.inf)
        if len(far) and far.min() <= radius_px:
            hits[number], free[far.argmin()] = True, False
    return hits


def best_f1(p: np.ndarray, hits: np.ndarray, n_figures: int) -> tuple[float, float]:
    """The highest F1 of any threshold, and that threshold. It flatters: the labels have chosen it.

    Args:
        p: float (M,), the candidates' probabilities.
        hits: bool (M,), see `match`.
        n_figures: All that were to be found.
    """
    if not len(p):
        return 0.0, 1.0
    order = np.argsort(-p, kind="stable")
    n_hits = hits[order].cumsum()
    f1 = 2 * n_hits / (np.arange(1, len(p) + 1) + n_figures)
    last = np.append(np.diff(p[order]) != 0, True)  # equal probabilities stand on the same side of a threshold
    best = int(np.where(last, f1, -1).argmax())
    return float(f1[best]), float(p[order][best])
