"""Measure how far a coarser precision changes a bundle's probabilities; ``auto`` takes only harmless ones."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mitoscope.bundle.manifest import Rounding
from mitoscope.bundle.read import read_ahead, read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.networks.device import choose_device

MOST_CROPS = 1000  # with fewer, chance alone often says more than .5 %, where it is .2 %


def measure_roundings(
    folder: Path,
    crops: np.ndarray,
    precisions: Sequence[str],
    base: Path | None = None,
    update: Callable[[], None] = lambda: None,
) -> dict[str, Rounding]:
    """Compare precisions with fp32, on some of the crops, evenly spread.

    On the GPU where there is one. A CPU computes fp16 too, slowly: it rounds in the same way, except for the order of
    the sums.

    Args:
        folder: The bundle's folder.
        crops: uint8 (N, 128, 128, 3), N at least 1.
        precisions: Of ``"fp16"`` and ``"bf16"``.
        base: The base network of a bundle of adapters that does not hold it: its file or folder.
        update: Called after each precision, fp32 first.

    Returns:
        What was measured, by precision.
    """
    some, bundle, device = crops[:: -(-len(crops) // MOST_CROPS)], read_bundle(folder), choose_device("auto")
    p = {}
    for name in ("fp32", *precisions):
        p[name] = Classifier.place(bundle, read_ahead(bundle), device, name, base).predict_proba(some)
        update()
    return {name: compare_probabilities(p["fp32"], p[name], bundle.threshold.value) for name in precisions}


def compare_probabilities(full: np.ndarray, rounded: np.ndarray, threshold: float) -> Rounding:
    """How far rounding moves probabilities, float64 (N,) each with N at least 1, and how many across the threshold."""
    return Rounding(
        n_crops=len(full),
        largest_change=float(np.abs(full - rounded).max()),
        flipped=float(((full >= threshold) != (rounded >= threshold)).mean()),
    )
