"""What predict holds in memory, by the number of crops: peak resident memory of whole processes, side by side.

    python -m bench.memory --crops 20000 100000

Each process scores that many PNG files (links to a few different crops) with five of the smallest networks that timm
has, random weights, by `python -m scoring predict`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.result import tell
from model.manifest import N_MEMBERS, Bundle, InputSpec, Member, Threshold
from model.network import build_network
from model.weights import write_bundle
from scoring.provenance import describe_machine, read_commit

ARCHITECTURE, SIZE_PX = "test_efficientnet", 32
DIFFERENT = 64  # crops
FOLDER = 10_000  # links in one


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, nargs="+", default=[20_000, 100_000], help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder / "bundle")
        runs = [measure(folder, bundle, n_crops) for n_crops in options.crops]
    peaks = [run["peak_mib"] for run in runs]
    result = {
        "network": f"{N_MEMBERS} x {ARCHITECTURE}, {SIZE_PX} px",
        "runs": runs,
        "largest_over_smallest": round(max(peaks) / min(peaks), 4),
        "commit": read_commit(),
        "machine": describe_machine(),
        "torch": torch.__version__,
    }
    tell(result, options.out)


def make_bundle(folder: Path) -> Path:
    """Five small networks with random weights."""
    torch.manual_seed(0)
    states = [build_network(ARCHITECTURE, SIZE_PX).state_dict() for _ in range(N_MEMBERS)]
    members = tuple(Member(k, f"fold{k}.safetensors", "", 0.5, 0.5) for k in range(N_MEMBERS))
    threshold = Threshold(0.5, "one_half", "nothing", 0)
    return write_bundle(
        Bundle(folder, "smallest", ARCHITECTURE, InputSpec(size_px=SIZE_PX), threshold, members), states
    ).folder


def measure(folder: Path, bundle: Path, n_crops: int) -> dict[str, Any]:
    """One process over n_crops: its peak resident memory, from the system, and its seconds."""
    crops = folder / str(n_crops)
    random = np.random.default_rng(0)
    for number in range(n_crops):
        if number % FOLDER == 0:
            (crops / str(number // FOLDER)).mkdir(parents=True)
        path = crops / str(number // FOLDER) / f"{number:07d}.png"
        if number < DIFFERENT:
            coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            coarse.resize((128, 128)).save(path)
        else:
            os.link(crops / "0" / f"{number % DIFFERENT:07d}.png", path)
    command = [sys.executable, "-m", "scoring", "predict", "--device", "cpu", "--crops", str(crops)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--weights", str(bundle), "--out", str(folder / f"{n_crops}.csv")], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"predict ended with status {status}")
    seconds = time.perf_counter() - started
    return {"crops": n_crops, "peak_mib": round(usage.ru_maxrss / 1024, 1), "seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
