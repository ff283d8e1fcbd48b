"""What members on one base cost: a process's peak memory, and seconds, by the number of members.

    python -m tools.bench.adapters --architecture virchow --members 1 5 --crops 1

Writes a bundle of random tensors: a base, and adapters of rank 8 on qkv. A process of its own for each number loads so
many of its members as inference does, and scores that many crops, in fp32 on the CPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Base, Bundle, Member, Threshold
from mitoscope.bundle.members import write_bundle
from mitoscope.bundle.read import read_ahead, read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.networks.build import build_network
from mitoscope.networks.lora import A, B
from mitoscope.provenance import describe_machine, read_commit
from tools.bench.result import print_result

RANK, SIZE_PX = 8, 224
DRAWN = 1 << 20  # values, which are repeated: drawing all takes longer than the rest


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.adapters", description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="virchow", help="a ViT (%(default)s)")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 5], help="(%(default)s)")
    parser.add_argument("--crops", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args()
    if options.load:
        print(json.dumps(measure(options.load, options.members[0], options.crops)))
        return
    command = [sys.executable, "-m", "tools.bench.adapters", "--crops", str(options.crops), "--load"]
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = make_adapters(Path(name) / "bundle", options.architecture, max(options.members)).folder
        for count in options.members:
            given = [*command, str(folder), "--members", str(count)]
            done = subprocess.run(given, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    result = {
        "architecture": options.architecture,
        "weights": "random",
        "runs": runs,
        "peak_over_first": round(runs[-1]["peak_mib"] / runs[0]["peak_mib"], 3),
        "threads": torch.get_num_threads(),
        "commit": read_commit(),
        "machine": describe_machine(),
        "torch": torch.__version__,
    }
    print_result(result, options.out)


def measure(folder: Path, n_members: int, n_crops: int) -> dict[str, Any]:
    """This process's peak resident memory and seconds, with so many of a bundle's members."""
    whole = read_bundle(folder)
    bundle = replace(whole, members=whole.members[:n_members])
    crops = np.random.default_rng(0).integers(0, 256, (n_crops, 128, 128, 3), dtype=np.uint8)
    classifier = Classifier.place(bundle, read_ahead(bundle), torch.device("cpu"), "fp32")
    held_mib = _read_status("VmRSS")
    started_s = time.perf_counter()
    p_members = classifier.predict_members(crops)
    seconds = time.perf_counter() - started_s
    return {
        "members": len(p_members),
        "crops": n_crops,
        "held_mib": held_mib,
        "peak_mib": _read_status("VmHWM"),
        "forward_s": round(seconds, 2),
        "different_answers": len({float(p) for p in p_members[:, 0]}),
    }


def _read_status(name: str) -> int:
    """A line of /proc/self/status, in MiB; `ru_maxrss` would hold the parent's."""
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) // 1024


def make_adapters(folder: Path, architecture: str, n_members: int) -> Bundle:
    """Write a bundle of random adapters on a random base, which it holds."""
    with torch.device("meta"):
        shapes = build_network(architecture, SIZE_PX).state_dict()
    random = torch.Generator().manual_seed(0)
    drawn = torch.empty(DRAWN).normal_(0, 0.02, generator=random)

    def draw(*shape: int) -> Tensor:
        flat = torch.empty(shape).view(-1)
        for first in range(0, len(flat), DRAWN):
            part = flat[first : first + DRAWN]
            part.copy_(drawn[: len(part)])
        return flat.view(shape)

    head = [name for name in shapes if name.startswith("head.")]
    base = {name: draw(*tensor.shape) for name, tensor in shapes.items() if name not in head}
    states = []
    for _ in range(n_members):
        state = {name: torch.empty(shapes[name].shape).normal_(generator=random) for name in head}
        for name in shapes:
            if name.endswith(".attn.qkv.weight"):
                out, inner = shapes[name].shape
                layer = name.removesuffix(".weight")
                state[layer + A] = torch.empty(RANK, inner).normal_(generator=random)
                state[layer + B] = torch.empty(out, RANK).normal_(0, 0.1, generator=random)
        states.append(state)
    members = tuple(Member(f"fold{k}.safetensors", "", "adapter", fold=k) for k in range(n_members))
    spec, threshold = InputSpec(size_px=SIZE_PX), Threshold(0.5, "one_half", "nothing", 0)
    bundle = Bundle(folder, "random", architecture, spec, threshold, members, base=Base("", "mit", "base.safetensors"))
    return write_bundle(bundle, states, base)


if __name__ == "__main__":
    main()
