"""One fold: train a member, then leave in its folder all that publishing needs, none of it a pickle."""

import logging
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import safetensors.torch
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from model.contract import CLASS_NAMES
from model.errors import DataError
from train.config import FitConfig
from train.data import CropDataset, training_batches, validation_batches
from train.files import read_json, write_json
from train.folds import Folds
from train.module import FoldModule
from train.table import CropData

STARTED, DONE = "started.json", "done.json"
EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # a batch is one gather, nothing is decoded
    ".*number of training batches.*",  # metrics are logged by epoch
    ".*Checkpoint directory .* exists and is not empty.*",  # resuming
    ".*in eval mode at the start of training.*",  # the moving average is
    ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 on torch 2.10
)


class PlainProgress(L.Callback):
    """A line a validation where there is no terminal to draw a bar on."""

    def on_validation_end(self, trainer: L.Trainer, _module: L.LightningModule) -> None:
        """Print where the run stands."""
        figures = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} {figures}", flush=True)


def fold_mark(config: FitConfig, folds: Folds, fold: int) -> dict[str, Any]:
    """What a run folder belongs to; a folder of anything else is neither resumed nor taken as finished."""
    return {"config_sha256": config.sha256, "folds_sha256": folds.sha256, "fold": fold}


def is_done(run: Path, mark: dict[str, Any]) -> bool:
    """Whether this run folder holds a member that was finished under this very mark."""
    return (run / DONE).is_file() and bool(read_json(run / DONE, f"delete {run}")["mark"] == mark)


def fit(data: CropData, folds: Folds, fold: int, config: FitConfig, run: Path) -> None:
    """Train member ``fold``, resuming from ``last.ckpt`` when there is one.

    Writes ``member.safetensors`` (fp32, averaged weights), ``validation.csv`` (image_id, label, p_atypical),
    ``log/``, ``config.json`` and, last, ``done.json``. The weights are those of the last epoch: no epoch is
    chosen on the validation fold, so its predictions stay out of fold in the full sense.

    Args:
        data: The crops.
        folds: The split.
        fold: Which member, 0 … 4.
        config: The settings.
        run: The member's own folder.

    Raises:
        DataError: The folder belongs to another fold, split or configuration; or the loss is no number.
    """
    mark = fold_mark(config, folds, fold)
    if is_done(run, mark):
        print(f"{run} is finished: nothing to do")
        return
    _claim(run, mark)
    started = time.time()
    write_json(run / "config.json", config.to_dict())
    seed = config.seed + fold
    L.seed_everything(seed, verbose=False)
    train_set = CropDataset(data, data.rows_of(folds.train_ids(fold)), config.vote_weight)
    val_set = CropDataset(data, data.rows_of(list(folds.folds[fold])))
    loader = training_batches(train_set, config, seed)
    module = FoldModule(config, total_steps=len(loader) * config.epochs, seed=seed)
    trainer = _trainer(config, run)
    checkpoint = run / "last.ckpt"
    try:
        trainer.fit(module, loader, validation_batches(val_set), ckpt_path=checkpoint if checkpoint.is_file() else None)
    except SIGTERMException:  # Lightning's own exit code for it is 0
        raise SystemExit(143) from None
    _write_member(module.to(trainer.strategy.root_device), data, val_set, run)
    seconds = round(time.time() - started)  # of the last start alone, when the fit was resumed
    write_json(run / DONE, {"mark": mark, "commit": read_json(run / STARTED, "")["commit"], "seconds": seconds})


def _claim(run: Path, mark: dict[str, Any]) -> None:
    """Write what this folder is for before anything else lies in it, or refuse one that is for something else."""
    if (run / STARTED).is_file():
        got = read_json(run / STARTED, f"delete {run}")["mark"]
        if got != mark:
            raise DataError(
                f"{run} belongs to another fold, split or configuration",
                got=got,
                expected=str(mark),
                remedy="name another --out, or delete that folder",
            )
    else:
        write_json(run / STARTED, {"mark": mark, "commit": _commit()})


def _trainer(config: FitConfig, run: Path) -> L.Trainer:
    """Lightning, told to keep quiet about what is chosen on purpose here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for expected in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=expected)
    on_terminal = sys.stdout.isatty()
    progress: L.Callback = TQDMProgressBar() if on_terminal else PlainProgress()
    return L.Trainer(
        max_epochs=config.epochs,
        precision=config.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.clip_norm,
        check_val_every_n_epoch=config.validate_every,
        callbacks=[
            ModelCheckpoint(run, filename="last", enable_version_counter=False, save_on_train_epoch_end=True),
            progress,
        ],
        logger=CSVLogger(run, name="log"),  # version_0, and another version each time the fit is resumed
        enable_model_summary=False,
        enable_progress_bar=on_terminal,
        num_sanity_val_steps=0,
        accelerator="auto",
        devices=1,
    )


def _write_member(module: FoldModule, data: CropData, val_set: CropDataset, run: Path) -> None:
    """Write the averaged weights and what they say of the validation fold."""
    module.eval()
    with torch.inference_mode():
        p_atypical = torch.cat([module.predict(batch["crops"]).cpu() for batch in validation_batches(val_set)])
    image_ids = data.table["image_id"].iloc[val_set.rows].to_numpy()
    labels = [CLASS_NAMES[int(label)] for label in val_set.labels]
    predictions = pd.DataFrame({"image_id": image_ids, "label": labels, "p_atypical": p_atypical.numpy()})
    predictions.to_csv(run / "validation.csv", index=False)
    state = {name: tensor.contiguous().cpu() for name, tensor in module.ema.module.state_dict().items()}
    safetensors.torch.save_file(state, run / "member.safetensors")


def _commit() -> str:
    """The checkout's commit, with ``+changes`` when files differ from it; ``unknown`` outside git."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
