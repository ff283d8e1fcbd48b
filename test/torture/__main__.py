"""Kill, stop and damage the product and count its losses: minutes to hours, one JSON.

PYTHONPATH=.:test python -m torture --out docs/results/torture.json
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mitoscope.provenance import describe_code, describe_machine
from tools.bench.result import print_result
from torture.bundle import damage_bundle
from torture.inference import kill_inference, stop_inference
from torture.predict import kill_predict
from torture.repeat import repeat
from torture.slides import kill_slide
from torture.training import kill_training

Kind = Callable[[int, int, int, Path], Mapping[str, int | float]]
# Shots; some of those at a process come after its end.
KINDS: dict[str, tuple[Kind, int]] = {
    "inference_killed": (kill_inference, 350),
    "inference_stopped": (stop_inference, 200),
    "predict_killed": (kill_predict, 100),
    "bundle_damaged": (damage_bundle, 500),
    "slide_killed": (kill_slide, 75),
    "training_killed": (kill_training, 80),
    "repeated": (repeat, 20),
}


def main() -> int:
    """Run the kinds that the command line names; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--count", nargs="+", default=[], metavar="KIND=N", help="another number of shots")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes at once (%(default)s)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    counts_by_kind = dict(setting.split("=") for setting in options.count)
    kinds: dict[str, Any] = {}
    for name in options.only:
        kind, usual = KINDS[name]
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            counts = kind(int(counts_by_kind.get(name, usual)), options.seed, options.workers, Path(folder))
        kinds[name] = {**counts, "seconds": round(time.monotonic() - started)}
        print(name, kinds[name], flush=True)
    code = describe_code()
    result = {
        "kinds": kinds,
        "wrong": sum(counts["wrong"] for counts in kinds.values()),
        "seed": options.seed,
        "workers": options.workers,
        "machine": describe_machine(),
        "commit": code["commit"],
        "versions": {**code["versions"], "torch": torch.__version__},
    }
    print_result(result, options.out)
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
