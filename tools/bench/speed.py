"""The cold start and the bulk, beside the reference loop and the limits, in turn, in one run.

    python -m tools.bench.speed --weights weights/lite
    python -m tools.bench.speed --weights runs/l2-random

*stack* is one whole process from its start to its JSON, `inference.py` against
`tools.bench.reference` on the same case and the same weights;
*bulk* is the forward passes of both over the same crops in one process. Medians of all rounds but
the first, and ratios are medians of each round's own: what else the machine does changes from round to round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mitoscope.bundle.find import find_bundle
from mitoscope.bundle.read import read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.selftest import clock, count_flops
from mitoscope.images.crops import find_stack, read_stack
from mitoscope.memory import keep_freed_memory
from mitoscope.networks.device import DTYPES
from mitoscope.provenance import describe_machine, read_commit
from model.classification import IMAGES_FOLDER
from tools.bench import limits, reference
from tools.bench.bundles import write_pickles
from tools.bench.result import print_result

ROOT = Path(__file__).resolve().parents[2]

Round = dict[str, float]  # seconds by stage, with "process" for the whole and "peak_mib"


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "lite", metavar="DIR")
    parser.add_argument("--input", type=Path, default=ROOT / "test" / "input" / "interf0", metavar="DIR")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    print_result(measure(options), options.out)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one bundle."""
    bundle = read_bundle(find_bundle(options.weights))
    with tempfile.TemporaryDirectory() as name:
        pickles = Path(name) / "pickles"
        write_pickles(bundle, pickles)
        stack = measure_stack(options, pickles, Path(name))
        classifier, bulk = measure_bulk(options, pickles)
    flops = count_flops(bundle)
    rates = limits.measure_rates(DTYPES[classifier.precision], classifier.device)
    n_crops = bulk.pop("crops")
    return {
        "bundle": f"{bundle.name}: {len(bundle.members)} x {bundle.architecture}, {bundle.input.size_px} px",
        "device": classifier.device.type,
        "precision": classifier.precision,
        "threads": torch.get_num_threads(),
        "crops": n_crops,
        "rounds": options.rounds,
        "stack": stack,
        "bulk": bulk,
        "limits": {
            **rates,
            "gflop_a_crop": flops / 1e9,
            "arithmetic_s_a_stack": flops * n_crops / rates["matrix_gflops"] / 1e9,
            "share_of_matrix_rate": bulk["ours_crops_per_s"] * flops / rates["matrix_gflops"] / 1e9,
        },
        "machine": describe_machine(),
        "torch": torch.__version__,
        "commit": read_commit(),
    }


def measure_stack(options: argparse.Namespace, pickles: Path, scratch: Path) -> dict[str, Any]:
    """Whole processes: the reference's, ours, and the bare imports, in turn."""
    common = ["--input", str(options.input.resolve()), "--output", str(scratch / "output"), "--device", options.device]
    ours = ["inference.py", *common, "--weights", str(options.weights.resolve()), "--precision", options.precision]
    theirs = ["-m", "tools.bench.reference", *common, "--weights", str(pickles)]
    bundle = read_bundle(options.weights)
    works: dict[str, Callable[[], Round]] = {
        "reference": lambda: run(theirs, _read_reference),
        "ours": lambda: run(ours, _read_ours),
        "import_torch": lambda: {"process": limits.time_imports("torch")},
        "import_torch_timm": lambda: {"process": limits.time_imports("torch, timm")},
        "read_weights": lambda: {"process": limits.time_reading(bundle)},
    }
    rounds = [{name: work() for name, work in works.items()} for _ in range(options.rounds + 1)][1:]
    medians = {
        name: {stage: statistics.median(one[name][stage] for one in rounds) for stage in rounds[0][name]}
        for name in works
    }
    return {
        "median_s": medians,
        "reference_over_ours": _ratio(rounds, "reference", "ours", "process"),
        "reference_over_ours_peak": _ratio(rounds, "reference", "ours", "peak_mib"),
        "ours_over_import_torch_timm": _ratio(rounds, "ours", "import_torch_timm", "process"),
    }


def _ratio(rounds: list[dict[str, Round]], one: str, other: str, what: str) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(each[one][what] / each[other][what] for each in rounds)


def run(arguments: list[str], read: Callable[[str], Round]) -> Round:
    """One process to its end: seconds from exec on, by stage from its log, and peak resident memory."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    log = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    spent_s = time.perf_counter() - started
    if status:
        raise SystemExit(f"{arguments[0]} ended with status {status}, see above")
    return {"process": spent_s, **read(log), "peak_mib": usage.ru_maxrss / 1024}


def _read_reference(log: str) -> Round:
    """The seconds of `tools.bench.reference`, its last line."""
    seconds: Round = json.loads(log.splitlines()[-1])
    return seconds


def _read_ours(log: str) -> Round:
    """The seconds of inference.py's log: names and numbers in turn."""
    (line,) = [line for line in log.splitlines() if line.startswith("seconds ")]
    words = line.split()[1:]
    return {name: float(spent_s) for name, spent_s in zip(words[::2], words[1::2], strict=True) if name != "total"}


def measure_bulk(options: argparse.Namespace, pickles: Path) -> tuple[Classifier, dict[str, Any]]:
    """Crops per second of the forward passes, preprocessing included, in one process and in turn."""
    keep_freed_memory()
    crops = read_stack(find_stack(options.input / IMAGES_FOLDER, root=options.input))
    classifier = Classifier.load(options.weights, device=options.device, precision=options.precision)
    networks, settings = reference.load_networks(pickles, options.device)
    works = {
        "reference": lambda: reference.predict_proba(networks, settings, crops, options.device),
        "ours": lambda: classifier.predict_members(crops, repeatable=True),
    }
    rounds = [{name: {"s": clock(work)} for name, work in works.items()} for _ in range(options.rounds + 1)][1:]
    rates = {f"{name}_crops_per_s": len(crops) / statistics.median(one[name]["s"] for one in rounds) for name in works}
    return classifier, {"crops": len(crops), **rates, "ours_over_reference": _ratio(rounds, "reference", "ours", "s")}


if __name__ == "__main__":
    main()
