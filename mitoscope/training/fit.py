"""One fold: train a member, then leave in its folder all that publishing needs, none of it a pickle."""

import logging
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import safetensors.torch
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import DataError
from mitoscope.files import write_json
from mitoscope.training.batches import CropDataset, training_batches, validation_batches
from mitoscope.training.config import FitConfig, configure
from mitoscope.training.data.table import CropData, read_data
from mitoscope.training.folds import Folds, read_folds
from mitoscope.training.marks import claimed, fold_mark, is_done, write_done
from mitoscope.training.module import FoldModule

BEST, LAST = "best", "last"
EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # a batch is one gather, nothing is decoded
    ".*number of training batches.*",  # metrics are logged by epoch
    ".*Checkpoint directory .* exists and is not empty.*",  # resuming
    ".*in eval mode at the start of training.*",  # the moving average is
    ".*`srun` command is available.*",  # a fit is one process, also in a Slurm job
    ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 on torch 2.10
)


def fit_member(data_folder: Path, folds_file: Path, fold: int, run: Path, preset: str, settings: Sequence[str]) -> None:
    """Fit one member from files; see `fit`.

    Args:
        data_folder: Written by `mitoscope train prepare`.
        folds_file: Written by `mitoscope train split`.
        fold: Which member.
        run: The member's own folder.
        preset: Name of the preset.
        settings: ``key=value`` changes to it.
    """
    config = configure(preset, settings)
    data = read_data(data_folder)
    fit(data, read_folds(folds_file, data), fold, config, run)


class PlainProgress(L.Callback):
    """A line at the start and one a validation where there is no terminal to draw a bar on."""

    def on_train_start(self, trainer: L.Trainer, _module: L.LightningModule) -> None:
        """Print what is to come, unless nothing is."""
        if trainer.should_stop:
            return
        steps = f"{trainer.num_training_batches} steps an epoch, a line every {trainer.check_val_every_n_epoch} epochs"
        first, last = trainer.current_epoch + 1, trainer.max_epochs
        print(f"training epochs {first} to {last} on {trainer.strategy.root_device}: {steps}", flush=True)

    def on_validation_end(self, trainer: L.Trainer, _module: L.LightningModule) -> None:
        """Print where the run stands."""
        figures = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} {figures}", flush=True)


class StayStopped(L.Callback):
    """A run that was stopped early, and killed before it was finished, is not trained further when it is resumed."""

    def on_train_start(self, trainer: L.Trainer, _module: L.LightningModule) -> None:
        """Look at the early stopping's state, which came with the checkpoint."""
        stopping = trainer.early_stopping_callback
        trainer.should_stop = isinstance(stopping, EarlyStopping) and stopping.wait_count >= stopping.patience


class MovedFolder(L.Callback):
    """A run folder may have moved, to another machine or into Docker: Lightning would else forget the best epoch.

    Args:
        run: The folder that is.
    """

    def __init__(self, run: Path) -> None:
        self.run = run.resolve()

    def on_load_checkpoint(self, _trainer: L.Trainer, _module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the folder that is into the callbacks' states, in the place of the folder that was."""
        for state in checkpoint["callbacks"].values():
            if state.get("best_model_path"):
                for key in ("best_model_path", "kth_best_model_path"):
                    state[key] = self._moved(state[key])
                state["best_k_models"] = {self._moved(path): at for path, at in state["best_k_models"].items()}
                state["dirpath"] = str(self.run)

    def _moved(self, path: str) -> str:
        """The same file in the folder that is."""
        return str(self.run / Path(path).name) if path else path


def fit(data: CropData, folds: Folds, fold: int, config: FitConfig, run: Path) -> None:
    """Train member ``fold``, resuming from ``last.ckpt`` when there is one.

    Writes ``member.safetensors`` (fp32, averaged weights), ``validation.csv`` (image_id, label, p_atypical),
    ``best.ckpt``, ``last.ckpt``, ``log/`` (CSV), ``tensorboard/``, ``config.json`` and, last, ``done.json``.

    Args:
        data: The crops.
        folds: The split.
        fold: Which member, 0 … 4.
        config: The settings.
        run: The member's own folder.

    Raises:
        DataError: The folder is in use or belongs to another fit; the machine cannot do the precision; the
            checkpoint is damaged; or the loss is no number.
    """
    mark = fold_mark(config.sha256, data, folds, fold)
    if is_done(run, mark):
        print(f"{run} is finished: nothing to do")
        return
    if config.precision == "16-mixed" and not torch.cuda.is_available():
        raise DataError(
            "precision 16-mixed cannot be had",
            got="no CUDA device",
            expected="a GPU: Lightning would take another precision than the one that is recorded",
            remedy="use a GPU, or --set precision=32-true",
        )
    with claimed(run, mark):
        write_json(run / "config.json", config.to_dict())
        seed = config.seed + fold
        L.seed_everything(seed, verbose=False)
        train_set = CropDataset(data, data.rows_of(folds.train_ids(fold)), config.vote_weight)
        val_set = CropDataset(data, data.rows_of(list(folds.folds[fold])))
        loader = training_batches(train_set, config, seed)
        module = FoldModule(config, total_steps=len(loader) * config.epochs, seed=seed)
        seconds = _train(module, loader, validation_batches(val_set), config, run)
        _write_member(module, data, val_set, run)
        write_done(run, mark, seconds)


def _train(module: FoldModule, loader: object, validation: object, config: FitConfig, run: Path) -> float:
    """Train to the end and leave the weights that count in the module, on its device; the seconds of all starts."""
    trainer, timer = _trainer(config, run)
    checkpoint = _checkpoint(run)
    scratch = run / ".partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    tempfile.tempdir = str(scratch)  # a checkpoint is renamed into place: only then on the same file system
    try:
        trainer.fit(module, loader, validation, ckpt_path=checkpoint, weights_only=True)
    except SIGTERMException:  # Lightning's own exit code for it is 0
        raise SystemExit(143) from None
    finally:
        tempfile.tempdir = None
        shutil.rmtree(scratch, ignore_errors=True)
    if config.keep == BEST:
        best = torch.load(run / f"{BEST}.ckpt", map_location="cpu", weights_only=True)
        module.load_state_dict(best["state_dict"])
    module.to(trainer.strategy.root_device)
    return timer.time_elapsed("train")


def _checkpoint(run: Path) -> Path | None:
    """The checkpoint to resume from, if there is one.

    Raises:
        DataError: It is damaged.
    """
    path = run / f"{LAST}.ckpt"
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        damaged = str(error)
    if damaged:
        raise DataError(
            f"{path} is damaged",
            got=damaged,
            expected="a whole checkpoint",
            remedy=f"delete {run} and run the same command again: this member starts anew",
        )
    return path


def _trainer(config: FitConfig, run: Path) -> tuple[L.Trainer, Timer]:
    """Lightning, told to keep quiet about what is chosen on purpose here; and the clock that survives a resume."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for expected in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=expected)
    on_terminal = sys.stdout.isatty()
    timer = Timer(verbose=False)
    score = "val_balanced_accuracy"
    callbacks: list[L.Callback] = []
    if config.patience:
        callbacks += [EarlyStopping(score, mode="max", patience=config.patience), StayStopped()]
    callbacks += [
        TQDMProgressBar() if on_terminal else PlainProgress(),
        timer,
        MovedFolder(run),
        ModelCheckpoint(
            run, filename=BEST, monitor=score, mode="max", enable_version_counter=False, save_weights_only=True
        ),
        ModelCheckpoint(run, filename=LAST, enable_version_counter=False, save_on_train_epoch_end=True),
    ]
    trainer = L.Trainer(
        max_epochs=config.epochs,
        precision=config.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.clip_norm,
        check_val_every_n_epoch=config.validate_every,
        callbacks=callbacks,
        # Each start that resumes has a version of its own below these.
        logger=[CSVLogger(run, name="log"), TensorBoardLogger(run, name="tensorboard")],
        enable_model_summary=False,
        enable_progress_bar=on_terminal,
        num_sanity_val_steps=0,
        accelerator="auto",
        plugins=[
            LightningEnvironment()
        ],  # also in a Slurm job: mitoscope.training.study.slurm puts it back into the queue, not Lightning
        devices=1,
    )
    return trainer, timer


def _write_member(module: FoldModule, data: CropData, val_set: CropDataset, run: Path) -> None:
    """Write the averaged weights and what they say of the validation fold."""
    module.eval()
    with torch.inference_mode():
        p_atypical = torch.cat([module.predict(batch["crops"]).cpu() for batch in validation_batches(val_set)])
    if not torch.isfinite(p_atypical).all():
        raise DataError(
            f"the member in {run} is of no use",
            got=f"{int((~torch.isfinite(p_atypical)).sum())} probabilities that are no numbers",
            expected="finite ones",
            remedy="delete that folder, then lower --set learning_rate=… or use --set precision=32-true",
        )
    image_ids = data.table["image_id"].iloc[val_set.rows].to_numpy()
    labels = [CLASS_NAMES[int(label)] for label in val_set.labels]
    predictions = pd.DataFrame({"image_id": image_ids, "label": labels, "p_atypical": p_atypical.numpy()})
    predictions.to_csv(run / "validation.csv", index=False)
    state = {name: tensor.contiguous().cpu() for name, tensor in module.ema.module.state_dict().items()}
    (run / "member.safetensors").write_bytes(safetensors.torch.save(state))
