"""Lightning's trainer as every fit uses it: one device, resumable, no pickle."""

import logging
import shutil
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mitoscope.errors import DataError
from mitoscope.training.callbacks import MovedFolder, PlainProgress, StayStopped
from mitoscope.training.settings import FitConfig
from mitoscope.training.task import MemberFit

BEST, LAST = "best", "last"
EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # a batch is read from a memory map, nothing is decoded
    ".*number of training batches.*",  # metrics are logged by epoch
    ".*Checkpoint directory .* exists and is not empty.*",  # resuming
    ".*in eval mode at the start of training.*",  # the moving average is
    ".*`srun` command is available.*",  # a fit is one process, also in a Slurm job
    ".*have no `val_dataloader`.*",  # a member that all folds train
    ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 on torch 2.10
)


def train(member: MemberFit, config: FitConfig[Any], run: Path) -> tuple[float, int]:
    """Train to the end, and leave the weights to publish in the module.

    Args:
        member: What is trained.
        config: The settings.
        run: The member's own folder; its ``last.ckpt`` is resumed when there is one.

    Returns:
        The seconds of all starts, and the epochs: fewer than the settings name where the run stopped early.

    Raises:
        DataError: The checkpoint is damaged.
        SystemExit: SIGTERM arrived; the exit code is 143.
    """
    trainer, timer = _trainer(config, member, run)
    checkpoint = _checkpoint(run)
    scratch = run / ".partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    tempfile.tempdir = str(scratch)  # Lightning renames a checkpoint into place: atomic on one file system only
    try:
        trainer.fit(member.module, member.training, member.validation, ckpt_path=checkpoint, weights_only=True)
    except SIGTERMException:  # Lightning's own exit code for it is 0
        raise SystemExit(143) from None
    finally:
        tempfile.tempdir = None
        shutil.rmtree(scratch, ignore_errors=True)
    if config.keep == BEST and member.validation is not None:
        best = torch.load(run / f"{BEST}.ckpt", map_location="cpu", weights_only=True)
        member.module.load_state_dict(best["state_dict"])
    return timer.time_elapsed("train"), trainer.current_epoch


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
            expected="a complete checkpoint",
            remedy=f"delete {run} and run the same command again; this member then starts from the beginning",
        )
    return path


def _trainer(config: FitConfig[Any], member: MemberFit, run: Path) -> tuple[L.Trainer, Timer]:
    """The trainer, without warnings about deliberate choices; and the clock, which survives a resume."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for expected in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=expected)
    on_terminal = sys.stdout.isatty()
    timer = Timer(verbose=False)
    callbacks: list[L.Callback] = []
    if config.patience and member.validation is not None:
        callbacks += [EarlyStopping(member.score, mode=member.mode, patience=config.patience), StayStopped()]
    callbacks += [
        TQDMProgressBar() if on_terminal else PlainProgress(),
        timer,
        MovedFolder(run),
        ModelCheckpoint(run, filename=LAST, enable_version_counter=False, save_on_train_epoch_end=True),
    ]
    if member.validation is not None:
        best = ModelCheckpoint(
            run,
            filename=BEST,
            monitor=member.score,
            mode=member.mode,
            enable_version_counter=False,
            save_weights_only=True,
        )
        callbacks.insert(-1, best)
    trainer = L.Trainer(
        max_epochs=config.epochs,
        precision=config.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.clip_norm,
        check_val_every_n_epoch=config.validate_every,
        callbacks=callbacks,
        # Below these, each start has a version of its own.
        logger=[CSVLogger(run, name="log"), TensorBoardLogger(run, name="tensorboard")],
        enable_model_summary=False,
        enable_progress_bar=on_terminal,
        num_sanity_val_steps=0,
        accelerator="auto",
        # Also in a Slurm job: mitoscope.launch.slurm requeues a fit, not Lightning.
        plugins=[LightningEnvironment()],
        devices=1,
    )
    return trainer, timer
