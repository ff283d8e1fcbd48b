"""Measure how far a coarser precision changes a bundle's probabilities; ``auto`` takes only harmless ones."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mitoscope.bundle.manifest import Rounding
from mitoscope.bundle.read import read_ahead, read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.networks.device import choose_device

# `auto` allows .5 % of the classes to flip. Where .2 % do, chance exceeds that on 372 crops in one case of six, and on
# 930 in one of 25. fp16 flips fewer, and a CPU computes it slowly.
MOST_CROPS = {"fp16": 400, "bf16": 1000}


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
    bundle, device = read_bundle(folder), choose_device("auto")

    def predict(precision: str, some: np.ndarray) -> np.ndarray:
        p = Classifier.place(bundle, read_ahead(bundle), device, precision, base).predict_proba(some)
        update()
        return p

    crops = thin(crops, max(MOST_CROPS[name] for name in precisions))  # and from these, fewer for fp16
    full, found = predict("fp32", crops), {}
    for name in precisions:
        most = MOST_CROPS[name]
        rounded = predict(name, thin(crops, most))
        found[name] = compare_probabilities(thin(full, most), rounded, bundle.threshold.value)
    return found


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the values, evenly spread."""
    return values[:: -(-len(values) // most)]


def compare_probabilities(full: np.ndarray, rounded: np.ndarray, threshold: float) -> Rounding:
    """How far rounding moves probabilities, float64 (N,) each with N at least 1, and how many across the threshold."""
    return Rounding(
        n_crops=len(full),
        largest_change=float(np.abs(full - rounded).max()),
        flipped=float(((full >= threshold) != (rounded >= threshold)).mean()),
    )
