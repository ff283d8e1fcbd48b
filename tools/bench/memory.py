"""What predict costs by the number of crops: peak resident memory and seconds of whole processes, one after another.

    python -m tools.bench.memory --crops 20000 100000
    python -m tools.bench.memory --crops 1 10 100 1000 10000 --weights weights/lite

Each process scores that many PNG files (links to a few different crops) by `mitoscope classify`; without
--weights, with five of the smallest networks that timm has, random weights. *ms_a_crop* is what each crop more than in
the run before took.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mitoscope.bundle.inputs import InputSpec
from mitoscope.provenance import describe_machine, read_commit
from tools.bench.bundles import N_MEMBERS, make_bundle
from tools.bench.result import print_result

ARCHITECTURE, SPEC = "test_efficientnet", InputSpec(size_px=32)
DIFFERENT = 64  # crops
FOLDER = 10_000  # links in one


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, nargs="+", default=[20_000, 100_000], help="(%(default)s)")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="a bundle to take in their place")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = options.weights or make_bundle(folder / "bundle", ARCHITECTURE, SPEC, random_crops(8)).folder
        runs = [measure(folder, weights, n_crops) for n_crops in options.crops]
    peaks = [run["peak_mib"] for run in runs]
    for before, run in pairwise(runs):
        spent_s, n_crops = run["seconds"] - before["seconds"], run["crops"] - before["crops"]
        run["ms_a_crop"] = round(1000 * spent_s / n_crops, 2)
    result = {
        "bundle": options.weights.name if options.weights else f"{N_MEMBERS} x {ARCHITECTURE}, {SPEC.size_px} px",
        "runs": runs,
        "largest_over_smallest": round(max(peaks) / min(peaks), 4),
        "commit": read_commit(),
        "machine": describe_machine(),
        "torch": torch.__version__,
    }
    print_result(result, options.out)


def random_crops(n_crops: int) -> np.ndarray:
    """Smooth random pictures, no two alike: uint8 (N, 128, 128, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (n_crops, 16, 16, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((128, 128))) for one in coarse])


def measure(folder: Path, weights: Path, n_crops: int) -> dict[str, Any]:
    """One process over n_crops: its peak resident memory, from the system, and its seconds."""
    crops = folder / str(n_crops)
    pixels = random_crops(min(n_crops, DIFFERENT))
    for number in range(n_crops):
        if number % FOLDER == 0:
            (crops / str(number // FOLDER)).mkdir(parents=True)
        path = crops / str(number // FOLDER) / f"{number:07d}.png"
        if number < DIFFERENT:
            Image.fromarray(pixels[number]).save(path)
        else:
            os.link(crops / "0" / f"{number % DIFFERENT:07d}.png", path)
    command = [sys.executable, "-m", "mitoscope", "classify", "--device", "cpu", "--crops", str(crops)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--weights", str(weights), "--out", str(folder / f"{n_crops}.csv")], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"predict ended with status {status}")
    seconds = time.perf_counter() - started
    return {"crops": n_crops, "peak_mib": round(usage.ru_maxrss / 1024, 1), "seconds": round(seconds, 2)}


if __name__ == "__main__":
    main()
