"""Which points are right: by distance, as F1 and FROC count them, and by overlap of boxes, as average precision does.

Both rules are those of the challenge's evaluation container (DeepMicroscopy/MIDOG25_T1_evaluation_docker).
"""

import numpy as np
from scipy.spatial import cKDTree

Array = np.ndarray
Hits = list[Array]
RADIUS_MM = 7.5e-3
HALF_BOX_MM = 0.01125  # boxes of this size overlap by half at a distance of 7.5 µm along one axis
LEAST_OVERLAP = 0.5
NEAR_MM = 8e-3  # along one axis; farther boxes overlap by less than half, even after rounding to float32


def find_hits(figures: Array, points: Array, radius: float = RADIUS_MM) -> Hits:
    """Find the points that may be a hit of each figure.

    Args:
        figures: float (T, 2), x and y of the true figures, in mm or another unit.
        points: float (P, 2), x and y of the points, in the same unit.
        radius: The largest distance of a hit, inclusive.

    Returns:
        For each figure the numbers of its points, int, the nearest first; of equally near ones the first in the file.
    """
    if not len(figures) or not len(points):
        return [np.empty(0, dtype=int)] * len(figures)
    hits = []
    # The tree rounds in its own way, so it searches a little farther, and the distance decides.
    for figure, near in zip(figures, cKDTree(points).query_ball_point(figures, 1.001 * radius), strict=True):
        numbers = np.sort(np.asarray(near, dtype=int))
        squared = ((points[numbers] - figure) ** 2).sum(axis=1)
        inside = squared <= radius * radius
        hits.append(numbers[inside][np.argsort(np.sqrt(squared[inside]), kind="stable")])
    return hits


def take_points(hits: Hits, usable: Array) -> Array:
    """Find each figure's point: it takes, in the file's order, its nearest usable point that is not taken.

    Args:
        hits: As `find_hits` gives them.
        usable: bool (P,), such as the points above a threshold.

    Returns:
        int (T,), the number of the point; -1 for a figure that is not found.
    """
    free, taken = usable.copy(), np.full(len(hits), -1)
    for number, near in enumerate(hits):
        mine = near[free[near]]
        if len(mine):
            free[mine[0]] = False
            taken[number] = mine[0]
    return taken


def count_found(hits: Hits, usable: Array) -> int:
    """Count the figures that `take_points` finds."""
    return int((take_points(hits, usable) >= 0).sum())


def count_found_by_threshold(hits: Hits, p_mitosis: Array, thresholds: Array) -> Array:
    """As `count_found`, at many thresholds.

    Args:
        hits: As `find_hits` gives them.
        p_mitosis: float (P,), the points' probabilities.
        thresholds: float (K,); a point is usable from the threshold on.

    Returns:
        int (K,).
    """
    n_rivals = np.bincount(np.concatenate([*hits, [0]]).astype(int), minlength=len(p_mitosis))
    alone = [near for near in hits if len(near) and n_rivals[near].max() <= 1]
    crowded = [near for near in hits if len(near) and n_rivals[near].max() > 1]
    # A figure that shares no point is found as long as one of its points is there.
    highest = np.sort([p_mitosis[near].max() for near in alone])
    found = len(highest) - np.searchsorted(highest, thresholds)
    if crowded:
        levels = np.unique(p_mitosis[np.concatenate(crowded)])
        counts = np.array([*(count_found(crowded, p_mitosis >= level) for level in levels), 0])
        found = found + counts[np.searchsorted(levels, thresholds)]
    return np.asarray(found)


def match_boxes(figures_mm: Array, points_mm: Array, p_mitosis: Array) -> Array:
    """Find the points whose box overlaps that of a true figure by half or more (intersection over union).

    The points choose, in falling order of probability: each takes the free figure with the largest overlap, of equal
    ones the last. Boxes and probabilities are rounded to float32 first, as torchmetrics does before pycocotools
    matches them.

    Args:
        figures_mm: float (T, 2), x and y of the true figures.
        points_mm: float (P, 2), x and y of the points.
        p_mitosis: float (P,).

    Returns:
        bool (P,).
    """
    right = np.zeros(len(points_mm), dtype=bool)
    if not len(figures_mm) or not len(points_mm):
        return right
    near = cKDTree(figures_mm).query_ball_point(points_mm, NEAR_MM, p=np.inf)
    figures, points, free = _make_boxes(figures_mm), _make_boxes(points_mm), np.full(len(figures_mm), True)
    for number in rank_points(p_mitosis):
        candidates = np.sort(np.asarray(near[number], dtype=int))[::-1]
        candidates = candidates[free[candidates]]
        if len(candidates):
            overlaps = _measure_overlaps(points[number], figures[candidates])
            best = int(np.argmax(overlaps))
            if overlaps[best] >= LEAST_OVERLAP:
                right[number], free[candidates[best]] = True, False
    return right


def rank_points(p_mitosis: Array) -> Array:
    """The numbers of points in falling order of probability as float32, equal ones in the file's order; int (P,)."""
    return np.argsort(-np.asarray(p_mitosis, dtype=np.float32), kind="stable")


def _make_boxes(centres_mm: Array) -> Array:
    """Left, top, width and height in mm, float64 (N, 4), each rounded to float32 as torchmetrics rounds it."""
    low, high = ((centres_mm + side).astype(np.float32) for side in (-HALF_BOX_MM, HALF_BOX_MM))
    return np.concatenate([low, high - low], axis=1).astype(np.float64)


def _measure_overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of a box with each of the others, float (N,)."""
    sides = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    return np.asarray(shared / (box[2] * box[3] + others[:, 2] * others[:, 3] - shared))
