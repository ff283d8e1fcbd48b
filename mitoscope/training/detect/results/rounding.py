"""How far each precision moves a detector's points, measured at publication; ``auto`` takes only harmless ones."""

from pathlib import Path

import numpy as np

from mitoscope.bundle.manifest import PRECISIONS, Rounding
from mitoscope.bundle.read import read_ahead, read_bundle
from mitoscope.classify.rounding import compare_probabilities, thin
from mitoscope.detect.detector import FLOOR, SAME_FIGURE_UM, Detector
from mitoscope.networks.device import choose_device
from mitoscope.scoring.detection.match import find_hits, take_points
from mitoscope.training.data.fields import FieldData
from mitoscope.training.detect.results.regions import Update, find_points

MOST_FIELDS = 12  # a CPU computes fp16 slowly


def choose_fields(rows: np.ndarray) -> np.ndarray:
    """Some of the fields, evenly spread."""
    return thin(rows, MOST_FIELDS)


def measure_roundings(
    folder: Path, threshold: float, data: FieldData, rows: np.ndarray, update: Update = lambda n_done: None
) -> dict[str, Rounding]:
    """Compare each precision with fp32, on the GPU where there is one.

    A CPU rounds in the same way, except for the order of its sums.

    Args:
        folder: The bundle's folder.
        threshold: A point is called a figure from it on.
        data: The fields.
        rows: int64 (N,), which of them; see `choose_fields`.
        update: Called with 1 after each field, for fp32 and each precision.

    Returns:
        By precision; ``n_crops`` counts the points that either finds. Empty if fp32 finds none.
    """
    bundle, device, found = read_bundle(folder), choose_device("auto"), {}
    for precision in ("fp32", *PRECISIONS):
        detector = Detector.place(bundle, read_ahead(bundle), device, precision)
        found[precision] = find_points(detector, data, rows, update=update).points
    if not any(map(len, found["fp32"])):
        return {}
    radius_px = SAME_FIGURE_UM / data.mpp
    measured = {}
    for precision in PRECISIONS:
        pairs = [pair_points(*both, radius_px) for both in zip(found["fp32"], found[precision], strict=True)]
        full, rounded = np.concatenate(pairs).T
        measured[precision] = compare_probabilities(full, rounded, threshold)
    return measured


def pair_points(full: np.ndarray, rounded: np.ndarray, radius_px: float) -> np.ndarray:
    """The probabilities that two detectors give to each figure that either finds.

    Args:
        full: float64 (N, 3): x, y and the probability.
        rounded: float64 (M, 3), of the other detector.
        radius_px: Within it two points are the same figure.

    Returns:
        float64 (K, 2). A figure that one does not find counts there as `FLOOR`: it may be just below.
    """
    hits = find_hits(full[:, :2], rounded[:, :2], radius_px)
    taken = take_points(hits, np.ones(len(rounded), dtype=bool))
    p = np.where(taken >= 0, np.append(rounded[:, 2], FLOOR)[taken], FLOOR)
    others = np.delete(rounded[:, 2], taken[taken >= 0])
    return np.concatenate([np.column_stack([full[:, 2], p]), np.column_stack([np.full(len(others), FLOOR), others])])
