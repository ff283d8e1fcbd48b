"""One fold: train a member, then leave in its folder all that publishing needs, none of it a pickle."""

import json
import logging
import sys
import warnings
from pathlib import Path

import lightning as L
import pandas as pd
import safetensors.torch
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from model.contract import CLASS_NAMES
from train.config import FitConfig
from train.data import CropDataset, training_batches, validation_batches
from train.folds import Folds
from train.module import FoldModule
from train.table import CropData

DONE = "done.json"
EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # a batch is one gather, nothing is decoded
    ".*number of training batches.*",  # metrics are logged by epoch
    ".*directory .* exists and is not empty.*",  # resuming
    ".*in eval mode at the start of training.*",  # the moving average is
    ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 on torch 2.10
)


class PlainProgress(L.Callback):
    """A line a validation where there is no terminal to draw a bar on."""

    def on_validation_end(self, trainer: L.Trainer, _module: L.LightningModule) -> None:
        """Print where the run stands."""
        if not trainer.sanity_checking:
            figures = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} {figures}", flush=True)


def is_done(run: Path, config: FitConfig, folds: Folds) -> bool:
    """Whether this run folder holds a member that was finished under the very same settings and folds."""
    if not (run / DONE).is_file():
        return False
    mark = json.loads((run / DONE).read_text(encoding="utf-8"))
    return bool(mark["config_sha256"] == config.sha256 and mark["folds_sha256"] == folds.sha256)


def fit(data: CropData, folds: Folds, fold: int, config: FitConfig, run: Path) -> None:
    """Train member ``fold``, resuming from ``last.ckpt`` when there is one.

    Writes ``member.safetensors`` (fp32, averaged weights), ``validation.csv`` (image_id, label, p_atypical),
    ``metrics.csv``, ``config.json`` and, last, ``done.json``. The weights are those of the last epoch: no epoch is
    chosen on the validation fold, so its predictions stay out of fold in the full sense.

    Args:
        data: The crops.
        folds: The split.
        fold: Which member, 0 … 4.
        config: The settings.
        run: The member's own folder.
    """
    if is_done(run, config, folds):
        print(f"{run} is finished: nothing to do")
        return
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n", encoding="utf-8")
    L.seed_everything(config.seed + fold, verbose=False)
    train_set = CropDataset(data, data.rows_of(folds.train_ids(fold)), config.vote_weight)
    val_set = CropDataset(data, data.rows_of(list(folds.folds[fold])))
    loader = training_batches(train_set, config, config.seed + fold)
    module = FoldModule(config, total_steps=len(loader) * config.epochs)
    _trainer(config, run).fit(
        module,
        loader,
        validation_batches(val_set),
        ckpt_path=run / "last.ckpt" if (run / "last.ckpt").is_file() else None,
    )
    _write_member(module, data, val_set, run)
    mark = {"config_sha256": config.sha256, "folds_sha256": folds.sha256, "fold": fold}
    (run / DONE).write_text(json.dumps(mark) + "\n", encoding="utf-8")


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
        logger=CSVLogger(run, name="", version=""),
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
    rows = data.table.iloc[val_set.rows]
    names = [CLASS_NAMES[int(label)] for label in val_set.labels]
    pd.DataFrame({"image_id": rows["image_id"].to_numpy(), "label": names, "p_atypical": p_atypical.numpy()}).to_csv(
        run / "validation.csv", index=False
    )
    state = {name: tensor.contiguous().cpu() for name, tensor in module.ema.module.state_dict().items()}
    partial = run / "member.safetensors.partial"
    safetensors.torch.save_file(state, partial)
    partial.replace(run / "member.safetensors")
