"""What each precision changes of a bundle's answers, against fp32 on a CPU, on real crops.

python -m tools.bench.precision --weights weights/lite --crops ../data/AtNorM-Br
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mitoscope.classify.classifier import Classifier
from mitoscope.errors import DeviceError
from mitoscope.provenance import describe_machine, read_commit
from tools.bench.bundles import read_some
from tools.bench.result import print_result


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.precision", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR")
    parser.add_argument("--crops", type=Path, required=True, metavar="DIR")
    parser.add_argument("--most", type=int, default=10_000, help="crops at most, evenly spread (%(default)s)")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    crops = read_some(options.crops, options.most)
    exact = predict(options.weights, "cpu", "fp32", crops)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows = [
        compare(options.weights, device, precision, crops, exact)
        for device in devices
        for precision in ("fp32", "fp16", "bf16")
        if (device, precision) != ("cpu", "fp32")
    ]
    result = {
        "bundle": Classifier.load(options.weights).bundle.name,
        "crops": {"folder": options.crops.name, "n": len(crops)},
        "rows": [row for row in rows if row],
        "machine": describe_machine(),
        "torch": torch.__version__,
        "commit": read_commit(),
    }
    print_result(result, options.out)


def predict(weights: Path, device: str, precision: str, crops: np.ndarray) -> np.ndarray:
    """float64 (N,): the members' mean P(atypical)."""
    p_atypical: np.ndarray = Classifier.load(weights, device=device, precision=precision).predict_proba(crops)
    return p_atypical


def compare(weights: Path, device: str, precision: str, crops: np.ndarray, exact: np.ndarray) -> dict[str, Any] | None:
    """One precision against what is exact; None, and a line on stderr, where the machine has not got it."""
    try:
        p_atypical = predict(weights, device, precision, crops)
    except DeviceError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None
    threshold = Classifier.load(weights).bundle.threshold.value
    change = np.abs(p_atypical - exact)
    return {
        "device": device,
        "precision": precision,
        "largest_change": float(change.max()),
        "median_change": float(np.median(change)),
        "flipped": int(((p_atypical >= threshold) != (exact >= threshold)).sum()),
    }


if __name__ == "__main__":
    main()
