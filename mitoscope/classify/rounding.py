"""Measure how far a coarser precision changes a bundle's probabilities; ``auto`` takes only harmless ones."""

from pathlib import Path

import numpy as np
import torch

from mitoscope.bundle.manifest import Rounding
from mitoscope.bundle.read import read_ahead, read_bundle
from mitoscope.classify.classifier import Classifier

MOST_CROPS = 400  # a share flipped of 0.5 % is two of them


def measure_rounding(folder: Path, crops: np.ndarray, precision: str, base: Path | None = None) -> Rounding:
    """Compare a precision with fp32 on the CPU, on some of the crops, evenly spread.

    The CPU computes fp16 too, slowly. A GPU rounds in the same way, except for the order of its sums.

    Args:
        folder: The bundle's folder.
        crops: uint8 (N, 128, 128, 3), N at least 1.
        precision: ``"fp16"`` or ``"bf16"``.
        base: The base network of a bundle of adapters that does not hold it: its file or folder.
    """
    some, bundle = crops[:: -(-len(crops) // MOST_CROPS)], read_bundle(folder)
    full, rounded = (
        Classifier.place(bundle, read_ahead(bundle), torch.device("cpu"), name, base).predict_proba(some)
        for name in ("fp32", precision)
    )
    return compare_probabilities(full, rounded, bundle.threshold.value)


def compare_probabilities(full: np.ndarray, rounded: np.ndarray, threshold: float) -> Rounding:
    """How far rounding moves probabilities, float64 (N,) each with N at least 1, and how many across the threshold."""
    return Rounding(
        n_crops=len(full),
        largest_change=float(np.abs(full - rounded).max()),
        flipped=float(((full >= threshold) != (rounded >= threshold)).mean()),
    )
