"""What members on one base cost: a process's peak memory by the number of members; switching factors against batching.

    python -m tools.bench.adapters --architecture virchow --members 1 5 --crops 1

Each process builds members from random tensors (a base in fp32 and adapters of rank 8 on qkv) and scores that
many crops in fp32 on the CPU. *batching* runs one member's factors and another's side by side in one batch of all
members' images; it is measured on a smaller network in one process, alternating, and is no part of the product.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Base, Bundle, Member, Threshold
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.preprocess import preprocess
from mitoscope.networks.build import build_network, embed
from mitoscope.networks.shared import AdaptedLinear
from mitoscope.provenance import describe_machine, read_commit
from tools.bench.result import print_result

RANK, REPEATS = 8, 3


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.adapters", description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="virchow", help="(%(default)s)")
    parser.add_argument("--small", default="vit_small_patch16_224", help="for batching (%(default)s)")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 5], help="(%(default)s)")
    parser.add_argument("--crops", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--small-crops", type=int, nargs="+", default=[1, 4], help="for batching (%(default)s)")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # a child: so many members
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.architecture, options.one, options.crops)))
        return
    command = [sys.executable, "-m", "tools.bench.adapters", "--architecture", options.architecture,
               "--crops", str(options.crops), "--one"]  # fmt: skip
    runs = []
    for count in options.members:
        done = subprocess.run([*command, str(count)], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    result = {
        "architecture": options.architecture,
        "weights": "random",
        "command": f"python -m tools.bench.adapters {' '.join(sys.argv[1:])}",
        "runs": runs,
        "peak_over_first": round(runs[-1]["peak_mib"] / runs[0]["peak_mib"], 3),
        "ways": compare_ways(options.small, max(options.members), options.small_crops),
        "threads": torch.get_num_threads(),
        "commit": read_commit(),
        "machine": describe_machine(),
        "torch": torch.__version__,
    }
    print_result(result, options.out)


def measure(architecture: str, n_members: int, n_crops: int) -> dict[str, Any]:
    """This process's peak resident memory and seconds, with so many members."""
    classifier = make_classifier(architecture, n_members, 224)
    crops = np.random.default_rng(0).integers(0, 256, (n_crops, 128, 128, 3), dtype=np.uint8)
    started_s = time.perf_counter()
    p_members = classifier.predict_members(crops)
    seconds = time.perf_counter() - started_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    different = len({float(p) for p in p_members[:, 0]})
    return {"members": n_members, "crops": n_crops, "peak_mib": peak_mib, "forward_s": round(seconds, 2),
            "different_answers": different}  # fmt: skip


def make_classifier(architecture: str, n_members: int, size_px: int) -> Classifier:
    """A classifier of random adapters on a random base."""
    with torch.device("meta"):
        shapes = build_network(architecture, size_px).state_dict()
    random = torch.Generator().manual_seed(0)
    head = [name for name in shapes if name.startswith("head.")]
    rows = torch.empty(1, 1 << 20).normal_(
        0, 0.02, generator=random
    )  # repeated: drawing all takes longer than the rest
    base = {
        name: rows.expand(-(-tensor.numel() // rows.numel()), -1).flatten()[: tensor.numel()].clone().view(tensor.shape)
        for name, tensor in shapes.items()
        if name not in head
    }

    def draw() -> dict[str, Tensor]:
        adapter = {name: torch.empty(shapes[name].shape).normal_(generator=random) for name in head}
        for name in shapes:
            if name.endswith(".attn.qkv.weight"):
                out, inner = shapes[name].shape
                layer = name.removesuffix(".weight")
                adapter[f"{layer}.lora_a"] = torch.empty(RANK, inner).normal_(generator=random)
                adapter[f"{layer}.lora_b"] = torch.empty(out, RANK).normal_(0, 0.1, generator=random)
        return adapter

    members = tuple(Member(f"fold{k}.safetensors", "", "adapter", fold=k) for k in range(n_members))
    spec, threshold = InputSpec(size_px=size_px), Threshold(0.5, "fixed", "nothing", 0)
    bundle = Bundle(Path(), "random", architecture, spec, threshold, members, base=Base("", "mit", "base.safetensors"))
    states: Iterator[dict[str, Tensor]] = iter([draw() for _ in members])
    return Classifier.of(bundle, states, torch.device("cpu"), "fp32", base)


class BatchedLinear(torch.nn.Module):
    """A layer that adds each member's factors to its own part of a batch, member after member."""

    def __init__(self, layer: AdaptedLinear) -> None:
        super().__init__()
        known = [factors for factors in layer.factors if factors is not None]
        self.base = layer.base
        self.a = torch.stack([a.T for a, _ in known])  # (M, in, rank)
        self.b = torch.stack([b.T for _, b in known])  # (M, rank, out)

    def forward(self, x: Tensor) -> Tensor:
        """float (M × B, T, in) → float (M × B, T, out)."""
        y: Tensor = self.base(x)
        parts = x.reshape(len(self.a), -1, x.shape[-1])
        return y + torch.bmm(torch.bmm(parts, self.a), self.b).view_as(y)


@torch.inference_mode()
def compare_ways(architecture: str, n_members: int, counts: list[int]) -> list[dict[str, Any]]:
    """Seconds of a batch through all members: chosen one by one, or all in one batch."""
    rows = []
    for n_crops in counts:
        classifier = make_classifier(architecture, n_members, 224)
        members: Any = classifier.members
        crops = np.random.default_rng(0).integers(0, 256, (n_crops, 128, 128, 3), dtype=np.uint8)
        images = preprocess(crops, classifier.bundle.input)
        shared = members[0].shared
        names = {id(module): name for name, module in shared.network.named_modules()}
        batched = {names[id(layer)]: BatchedLinear(layer) for layer in shared.layers}
        seconds: dict[str, list[float]] = {"switching": [], "batching": []}
        answers = {}
        for _ in range(REPEATS):
            started_s = time.perf_counter()
            answers["switching"] = torch.cat([member(images) for member in members])
            seconds["switching"].append(time.perf_counter() - started_s)
            for layer, new in zip(shared.layers, batched.values(), strict=True):
                shared.network.set_submodule(names[id(layer)], new)
            started_s = time.perf_counter()
            features = embed(shared.network, images.repeat(n_members, 1, 1, 1)).chunk(n_members)
            answers["batching"] = torch.cat([F.linear(part, member.head.weight, member.head.bias)
                                             for part, member in zip(features, members, strict=True)])  # fmt: skip
            seconds["batching"].append(time.perf_counter() - started_s)
            for layer in shared.layers:
                shared.network.set_submodule(names[id(layer)], layer)
        change = float((answers["switching"] - answers["batching"]).abs().max())
        rows.append({"architecture": architecture, "members": n_members, "crops": n_crops,
                     **{f"{way}_s": round(min(each), 3) for way, each in seconds.items()},
                     "largest_difference_of_a_logit": change})  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
