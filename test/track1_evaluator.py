"""The arithmetic of the challenge's evaluator, retyped from its description, plainly: one point after the other.

Sources: contract.md; the COCO evaluation's description of matching and precision (cocodataset.org); the documentation
of torchmetrics' MeanAveragePrecision. Every figure and every threshold is counted anew.
"""

import math
from typing import Any

import numpy as np

Image = dict[str, Any]  # points: (x, y, name, p); truth: (x, y); domain; kind


def count(truth: list[Any], points: list[Any]) -> tuple[int, int, int]:
    """True positives, false positives and false negatives within 7.5 µm."""
    free, found = list(range(len(points))), 0
    for x, y in truth:
        near = [(math.sqrt((points[k][0] - x) ** 2 + (points[k][1] - y) ** 2), k) for k in free
                if (points[k][0] - x) ** 2 + (points[k][1] - y) ** 2 <= 7.5e-3 * 7.5e-3]  # fmt: skip
        if near:
            free.remove(min(near)[1])
            found += 1
    return found, len(points) - found, len(truth) - found


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection over union of two boxes: left, top, width, height."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def box(x: float, y: float) -> list[float]:
    left, top, right, bottom = (np.float32(v) for v in (x - 0.01125, y - 0.01125, x + 0.01125, y + 0.01125))
    return [float(left), float(top), float(right - left), float(bottom - top)]


def average_precision(images: list[Image]) -> float:
    """map_50 with 101 recall steps; -1 without true figures."""
    ranked = []
    for image in images:
        taken: set[int] = set()
        for point in sorted(image["points"], key=lambda point: -np.float32(point[3])):
            best, chosen = 0.5, None
            for number, figure in enumerate(image["truth"]):
                if number not in taken and overlap(box(*point[:2]), box(*figure)) >= best:
                    best, chosen = overlap(box(*point[:2]), box(*figure)), number
            if chosen is not None:
                taken.add(chosen)
            ranked.append((-np.float32(point[3]), chosen is not None))
    n_true = sum(len(image["truth"]) for image in images)
    if not n_true:
        return -1.0
    ranked.sort(key=lambda pair: pair[0])
    curve, found = [], 0
    for rank, (_, is_right) in enumerate(ranked, start=1):
        found += is_right
        curve.append((found / n_true, found / rank))
    steps = [max((p for recall, p in curve if recall >= step), default=0.0) for step in np.arange(0, 1.01, 0.01)]
    return sum(steps) / len(steps)


def froc_auc(images: list[Image]) -> float:
    """Recall over false alarms an image, from 0 to 8, at 40 thresholds; NaN without points."""
    values = [point[3] for image in images for point in image["points"]]
    if not values:
        return math.nan
    rows = {}
    for threshold in np.linspace(min(values), max(values), 40) if min(values) < max(values) else values[:1]:
        counts = [count(image["truth"], [p for p in image["points"] if p[3] >= threshold]) for image in images]
        found, false_alarms, missed = (sum(column) for column in zip(*counts, strict=True))
        rows[threshold] = (false_alarms / len(images), found / (found + missed + 1e-6))
    x, y = np.array(list(rows.values())).T
    x, y = x[np.argsort(x)], y[np.argsort(x)]
    at = np.linspace(0, 8, 50)
    height = np.interp(at, x, y, left=0, right=y[-1])
    return float(sum((height[k] + height[k + 1]) / 2 * (at[k + 1] - at[k]) for k in range(49)))


def score(images: list[Image]) -> dict[str, float]:
    """The metrics of one group, by the evaluator's names in the aggregates of all images."""
    called = [[p for p in image["points"] if p[2] == "mitotic figure"] for image in images]
    counts = [count(image["truth"], points) for image, points in zip(images, called, strict=True)]
    found, false_alarms, missed = (sum(column) for column in zip(*counts, strict=True)) if images else (0, 0, 0)
    return {
        "precision": found / (found + false_alarms + 1e-6),
        "recall": found / (found + missed + 1e-6),
        "f1_score": (2 * found + 1e-6) / (2 * found + false_alarms + missed + 1e-6),
        "froc_auc": froc_auc(images),
        "AP": average_precision(images),
    }


def aggregate(images: list[Image]) -> dict[str, float]:
    """The aggregates of metrics.json."""
    result = score(images)
    groups = {f"tumor_{d}": [i for i in images if i["domain"] == d] for d in {i["domain"] for i in images}}
    groups |= {f"roi_type_{k}": [i for i in images if i["kind"] == k] for k in ("hotspot", "challenging", "random")}
    for name, group in groups.items():
        result |= {f"{name}_{'f1' if key == 'f1_score' else key}": value for key, value in score(group).items()}
    return result
