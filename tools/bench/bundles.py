"""Bundles for measurements: five random networks whose probabilities differ between crops, and pickles of a bundle.

python -m tools.bench.bundles --architecture efficientvit_l2 --size-px 256 --crops DIR --out runs/l2-random
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import PRECISIONS, Bundle, Member, Threshold
from mitoscope.bundle.members import parse_member, write_bundle
from mitoscope.bundle.read import read_ahead
from mitoscope.classify.preprocess import preprocess
from mitoscope.classify.rounding import measure_roundings
from mitoscope.images.crops import READERS, read_crops
from mitoscope.images.stain import measure_crops
from mitoscope.networks.build import build_network
from tools.bench.reference import SETTINGS

N_MEMBERS = 5
N_CROPS = 128  # for fitting the networks
BATCH = 16
SPREAD = 1.5  # about that of weights/lite on AtNorM-Br
RIDGE = 0.01  # as a share of the features' mean variance


def read_some(folder: Path, n_crops: int) -> np.ndarray:
    """At most so many crops of a folder, evenly spread: uint8 (N, 128, 128, 3)."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in READERS)
    if not paths:
        raise SystemExit(f"no crops in {folder}: name a folder of {', '.join(READERS)} files")
    return np.concatenate([read_crops(path) for path in paths[:: -(-len(paths) // n_crops)]])[:n_crops]


def make_bundle(
    out: Path,
    architecture: str,
    spec: InputSpec,
    crops: np.ndarray,
    *,
    n_members: int = N_MEMBERS,
    precisions: Sequence[str] = PRECISIONS,
) -> Bundle:
    """Write a bundle of random networks that separate dark crops from pale ones, with its measured rounding.

    Rounding must change probabilities as it does in trained networks, whose members mostly agree. So the batch norms
    hold the crops' statistics, and the last layers are fitted to one target: the haematoxylin of a crop, as a logit of
    mean 0 and standard deviation `SPREAD`.

    Args:
        out: The bundle's folder.
        architecture: A timm model name.
        spec: The networks' input.
        crops: uint8 (N, 128, 128, 3).
        n_members: How many networks.
        precisions: The rounding of these is measured on the crops.
    """
    torch.manual_seed(0)
    images = [preprocess(crops[i : i + BATCH], spec) for i in range(0, len(crops), BATCH)]
    states = []
    haematoxylin = torch.as_tensor(measure_crops(crops)[:, 0])
    target = SPREAD * (haematoxylin - haematoxylin.mean()) / haematoxylin.std()
    for _ in range(n_members):
        network = build_network(architecture, spec.size_px)
        _settle(network, images)
        _fit_last(network, images, target)
        states.append(network.state_dict())
    members = tuple(Member(f"fold{k}.safetensors", "", fold=k) for k in range(n_members))
    threshold = Threshold(0.5, "one_half", "nothing", 0)
    bundle = Bundle(out, f"{architecture}-random", architecture, spec, threshold, members)
    written = write_bundle(bundle, states)
    rounding = measure_roundings(out, crops, precisions) if precisions else {}
    return write_bundle(replace(bundle, rounding=rounding), states) if rounding else written


@torch.no_grad()
def _settle(network: nn.Module, images: Sequence[Tensor]) -> None:
    """Set the batch norms to the statistics of batches (B, 3, S, S)."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over batches
    network.train()
    for batch in images:
        network(batch)
    network.eval()


@torch.no_grad()
def _fit_last(network: nn.Module, images: Sequence[Tensor], target: Tensor) -> None:
    """Fit the last layer by ridge regression: its inputs → float64 (N,) logits."""
    seen: list[Tensor] = []
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        for batch in images:
            network(batch)
    features = torch.cat(seen).double()  # (N, F)
    centred = features - features.mean(dim=0)
    products = centred @ centred.T  # (N, N)
    ridge = RIDGE * products.trace() / len(products) * torch.eye(len(products), dtype=torch.float64)
    weight = centred.T @ torch.linalg.solve(products + ridge, target)  # (F,)
    last.weight.copy_(weight.unsqueeze(0))
    last.bias.copy_(-(features.mean(dim=0) @ weight).unsqueeze(0))


def write_pickles(bundle: Bundle, folder: Path) -> None:
    """Write the files that `tools.bench.reference` reads: each member in fp32, and the settings."""
    folder.mkdir(parents=True)
    for member, content in zip(bundle.members, read_ahead(bundle), strict=True):
        state = {name: tensor.float() if tensor.is_floating_point() else tensor
                 for name, tensor in parse_member(content, member.file).items()}  # fmt: skip
        torch.save(state, folder / f"fold{member.fold}.pth")
    settings = {"architecture": bundle.architecture, "input": asdict(bundle.input), "threshold": bundle.threshold.value}
    (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")


def main() -> None:
    """Make a random bundle."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.bundles", description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="efficientvit_l2")
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--crops", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    spec = InputSpec(size_px=options.size_px)
    print(make_bundle(options.out, options.architecture, spec, read_some(options.crops, N_CROPS)).rounding)


if __name__ == "__main__":
    main()
