"""The long part of `mitoscope selftest --full`: train one fold as `mitoscope train fit` does, and measure it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mitoscope.classify.selftest import Check
from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import DeviceError
from mitoscope.files import read_json
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.predictions import call_atypical
from mitoscope.training.data.table import CropData, read_data
from mitoscope.training.fit import fit
from mitoscope.training.folds import Folds, split
from mitoscope.training.marks import DONE
from mitoscope.training.presets import configure
from mitoscope.training.settings import FitConfig

PRESET, FOLD = "l2", 0


@dataclass(frozen=True)
class FoldPlan:
    """The fold to train.

    Attributes:
        preset: By name.
        config: Its settings, with the user's changes.
        data: All crops of the folder; none is held out.
        folds: Their split.
    """

    preset: str
    config: FitConfig[Any]
    data: CropData
    folds: Folds


def require_gpu(device: str) -> None:
    """Refuse a machine without a GPU, where the fold would take days.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        DeviceError: torch can use no GPU, or the user chose the processor.
    """
    if device == "cpu" or not torch.cuda.is_available():
        raise DeviceError(
            "--full cannot be used",
            got="--device cpu" if device == "cpu" else "no CUDA device that torch can see",
            expected="an NVIDIA GPU with driver 525 or newer",
            remedy="use a machine with a GPU, or leave --full out",
        )


def plan_fold(data_folder: Path, settings: Sequence[str], preset: str = PRESET) -> FoldPlan:
    """Read and check everything that the fold needs, before any work.

    Args:
        data_folder: Written by `mitoscope train prepare`.
        settings: ``key=value`` changes to the preset.
        preset: Another one than L2, for tests on the processor.

    Raises:
        DataError: A setting, the data or their split is unusable.
    """
    config = configure(preset, settings)
    config.to_dict()  # raises where init names no file
    data = read_data(data_folder)
    return FoldPlan(preset, config, data, split(data, []))


def measure_fold(plan: FoldPlan) -> tuple[list[Check], dict[str, Any]]:
    """Train the fold in a temporary folder.

    Args:
        plan: By `plan_fold`.

    Returns:
        The checks, and the same as JSON values. The time of an epoch includes validation and checkpoints.

    Raises:
        DataError: As `mitoscope.training.fit.fit`.
        WeightsError: The starting weights are not on this machine.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        fit(plan.data, plan.folds, FOLD, plan.config, Path(folder))
        done = read_json(Path(folder) / DONE)
        validated = pd.read_csv(Path(folder) / "validation.csv")
    p_atypical = validated["p_atypical"].to_numpy()
    is_atypical = (validated["label"] == CLASS_NAMES[1]).to_numpy()
    metrics = compute_metrics(is_atypical, p_atypical, call_atypical(p_atypical, 0.5))
    n_trained, epoch_s = len(plan.folds.train_ids(FOLD)), done["seconds"] / done["epochs"]
    n_left_out = n_trained % min(plan.config.batch_size, n_trained)  # of an epoch: the last, smaller batch
    result = {
        "preset": plan.preset,
        "config": plan.config.to_dict(),
        "data_sha256": plan.data.sha256,
        "fold": FOLD,
        "n_trained": n_trained,
        "lightning": version("lightning"),
        "epochs": done["epochs"],
        "seconds": done["seconds"],
        "epoch_s": epoch_s,
        "crops_per_s": (n_trained - n_left_out) / epoch_s,
        "peak_gpu_gb": torch.cuda.max_memory_allocated() / 1e9,  # 0 without a GPU
        "validation": metrics,
    }
    speed = f"{plan.preset}: {epoch_s:.1f} s an epoch with validation (mean of {done['epochs']}), "
    speed += f"{result['crops_per_s']:.1f} crops a second"
    found = f"ROC AUC {metrics['roc_auc']:.3f}, balanced accuracy {metrics['balanced_accuracy']:.3f} at .5, "
    found += f"{metrics['n_crops']} crops that it was not trained on"
    memory = f"at most {result['peak_gpu_gb']:.1f} GB"
    return [Check("training", speed), Check("GPU memory", memory), Check(f"fold {FOLD}", found)], result
