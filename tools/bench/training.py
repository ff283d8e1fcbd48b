"""How near training comes to its network: crops per second of whole steps against the bare network, side by side.

    python -m tools.bench.training --preset l2 --set pretrained=false

A whole step gathers a batch from the memory map, moves it, augments it and trains; the bare network trains on one
random tensor that is already on the device. Both run in one process, in turn, in several rounds; medians are kept.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mitoscope.images import CROP_PX
from mitoscope.provenance import describe_machine, read_commit
from mitoscope.training.classify.batches import CropDataset, training_batches
from mitoscope.training.classify.module import FoldModule
from mitoscope.training.classify.settings import ClassifyConfig
from mitoscope.training.data.table import COLUMNS, KNOWN_BY_SOME, read_data, write_data
from mitoscope.training.presets import configure
from tools.bench.result import print_result

PRECISIONS = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.training", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--crops", type=int, default=4096, help="random crops on disk (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="steps a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    config = configure(options.preset, options.set)
    result = measure(config, options.crops, options.steps, options.rounds)
    result = {"preset": options.preset, "set": options.set, "steps": options.steps, "rounds": options.rounds, **result}
    print_result(result, options.out)


def measure(config: ClassifyConfig, n_crops: int, n_steps: int, n_rounds: int) -> dict[str, Any]:
    """Crops per second of whole steps and of the bare network, their ratio, and what they were measured on."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    module = FoldModule(config, total_steps=1000, seed=0).to(device).train()
    module.ema.eval()
    module.generator = torch.Generator(device).manual_seed(0)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer
    step = _stepper(module, config, device)
    with tempfile.TemporaryDirectory() as folder:
        batches = _batches(Path(folder), config, n_crops)
        shape = (config.batch_size, 3, config.part.input.size_px, config.part.input.size_px)
        images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
        targets = torch.rand(config.batch_size, device=device)

        def whole() -> Tensor:
            batch = {name: tensor.to(device, non_blocking=True) for name, tensor in next(batches).items()}
            loss: Tensor = module.training_step(batch, 0)
            return loss

        def bare() -> Tensor:
            logits: Tensor = module.network(images).squeeze(1)
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)

        seconds: dict[str, list[float]] = {"whole": [], "bare": []}
        for round_ in range(n_rounds + 1):  # the first warms up and does not count
            for name, loss in (("whole", whole), ("bare", bare)):
                spent_s = _time(step, loss, n_steps, device)
                if round_:
                    seconds[name].append(spent_s)
    per_s = {name: n_steps * config.batch_size / statistics.median(spent) for name, spent in seconds.items()}
    return {
        "whole_step_crops_per_s": per_s["whole"],
        "bare_network_crops_per_s": per_s["bare"],
        "share": per_s["whole"] / per_s["bare"],
        "device": device.type,
        "threads": torch.get_num_threads(),
        "machine": describe_machine(),
        "torch": torch.__version__,
        "commit": read_commit(),
    }


def _stepper(
    module: FoldModule, config: ClassifyConfig, device: torch.device
) -> Callable[[Callable[[], Tensor]], None]:
    """One step of the optimiser on a loss, as Lightning makes it in this precision."""
    optimizer = module.configure_optimizers()["optimizer"]
    dtype = PRECISIONS.get(config.precision)
    scaler = torch.amp.grad_scaler.GradScaler(device.type, enabled=dtype is torch.float16)

    def step(loss: Callable[[], Tensor]) -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            value = loss()
        optimizer.zero_grad()
        scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        module.ema.update(module.network, step=0)

    return step


def _time(
    step: Callable[[Callable[[], Tensor]], None], loss: Callable[[], Tensor], n_steps: int, device: torch.device
) -> float:
    """Seconds of so many steps."""
    started = time.perf_counter()
    for _ in range(n_steps):
        step(loss)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _batches(folder: Path, config: ClassifyConfig, n_crops: int) -> Iterator[dict[str, Tensor]]:
    """Endless batches of random crops from a memory map, as `mitoscope.training.fit` reads them."""
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (n_crops, CROP_PX, CROP_PX, 3), dtype=np.uint8)
    table = pd.DataFrame("", index=range(n_crops), columns=[*COLUMNS, *KNOWN_BY_SOME])
    table["image_id"] = [f"random/{row}" for row in range(n_crops)]
    table["label"] = np.where(np.arange(n_crops) % 5 == 0, "atypical", "normal")
    write_data(folder, table, crops)
    dataset = CropDataset(read_data(folder), np.arange(n_crops), config.part.vote_weight)
    loader = training_batches(dataset, config, seed=0)
    while True:
        yield from loader


if __name__ == "__main__":
    main()
