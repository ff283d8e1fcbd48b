"""Points that mean the same figure become one."""

import numpy as np
from scipy.spatial import cKDTree


def merge_points(points: np.ndarray, voters: np.ndarray, n_voters: int, radius: float) -> np.ndarray:
    """Make one point of all that lie within a radius of the most probable one, and so on with the rest.

    A voter is a member of an ensemble in one orientation. In each group it counts once, with its most probable point.
    A voter without a point there counts as 0. With one voter this is non-maximum suppression by distance.

    Args:
        points: float64 (N, 3): x, y and probability.
        voters: int (N,), from 0 on.
        n_voters: How many there are.
        radius: In the unit of x and y.

    Returns:
        float64 (K, 3), the most probable first: the mean place, weighted by probability, and the mean probability.
    """
    order = np.lexsort((voters, points[:, 0], points[:, 1], -points[:, 2]))
    points, voters = points[order], voters[order]
    if len(points) == 0:
        return points
    tree, is_free = cKDTree(points[:, :2]), np.ones(len(points), bool)
    if n_voters == 1:  # the same, four times as fast: the first of each group stays as it is
        kept = []
        for first in range(len(points)):
            if is_free[first]:
                kept.append(first)
                is_free[tree.query_ball_point(points[first, :2], radius)] = False
        return np.asarray(points[kept])
    merged = []
    for first in range(len(points)):
        if not is_free[first]:
            continue
        near = np.sort(tree.query_ball_point(points[first, :2], radius))
        near = near[is_free[near]]
        is_free[near] = False
        _, best = np.unique(voters[near], return_index=True)  # the first of each voter is its most probable
        group = points[near[best]]
        total = group[:, 2].sum()
        merged.append([*(group[:, 2] / total @ group[:, :2]), total / n_voters])
    found = np.array(merged)
    return found[np.lexsort((found[:, 0], found[:, 1], -found[:, 2]))]


def keep_distinct(points: np.ndarray, radius: float) -> np.ndarray:
    """Of points nearer than a radius, keep the most probable: float64 (N, 3) → (K, 3), the most probable first."""
    return merge_points(points, np.zeros(len(points), int), 1, radius)
