"""One fold: train a member, then leave in its folder all that publishing needs, none of it a pickle."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import safetensors.torch
import torch

from mitoscope.errors import DataError
from mitoscope.files import write_bytes, write_json, write_text
from mitoscope.memory import keep_freed_memory
from mitoscope.training.classify.settings import ClassifySettings
from mitoscope.training.classify.task import make_member as make_classifier
from mitoscope.training.data.read import read_samples
from mitoscope.training.data.samples import Samples
from mitoscope.training.detect.settings import DetectSettings, check_fold
from mitoscope.training.detect.task import make_member as make_detector
from mitoscope.training.folds import Folds, read_folds
from mitoscope.training.marks import CONFIG, claimed, fold_mark, is_done, write_done
from mitoscope.training.presets import configure
from mitoscope.training.settings import FitConfig, check_task
from mitoscope.training.task import MemberFit
from mitoscope.training.trainer import train

MAKERS: dict[str, Callable[[FitConfig[Any], Any, Folds, int], MemberFit]] = {  # the data are those of the task
    ClassifySettings.task: make_classifier,
    DetectSettings.task: make_detector,
}


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
    data = read_samples(data_folder)
    fit(data, read_folds(folds_file, data), fold, config, run)


def fit(data: Samples, folds: Folds, fold: int, config: FitConfig[Any], run: Path) -> None:
    """Train member ``fold``, resuming from ``last.ckpt`` when there is one.

    Writes ``member.safetensors`` (fp32, averaged weights), other weights that the task keeps, ``validation.csv`` (what
    the member predicts of its validation fold), ``best.ckpt``, ``last.ckpt``, ``log/`` (CSV), ``tensorboard/``,
    ``config.json`` and, last, ``done.json``.

    Args:
        data: The crops or fields.
        folds: The split.
        fold: Which member, 0 … 4; 5, `mitoscope.training.folds.WHOLE`, is trained on all folds and never validated.
        config: The settings.
        run: The member's own folder.

    Raises:
        DataError: The data are another task's; the folder is in use or belongs to another fit; the machine lacks the
            precision; the checkpoint is damaged; or the loss or a weight is not a finite number.
    """
    check_task(data, config)
    check_fold(fold, config)
    mark = fold_mark(config.sha256, data, folds, fold)
    if is_done(run, mark):
        print(f"{run} is finished: nothing to do")
        return
    if config.precision == "16-mixed" and not torch.cuda.is_available():
        raise DataError(
            "precision 16-mixed cannot be used",
            got="no CUDA device",
            expected="a GPU: without one Lightning would silently use another precision",
            remedy="use a GPU, or --set precision=32-true",
        )
    keep_freed_memory()
    with claimed(run, mark):
        write_json(run / CONFIG, config.to_dict())
        L.seed_everything(config.seed + fold, verbose=False)
        member = MAKERS[config.part.task](config, data, folds, fold)
        seconds, epochs = train(member, config, run)
        _write_member(member, run)
        write_done(run, mark, seconds, epochs)


def _write_member(member: MemberFit, run: Path) -> None:
    """Write the weights to publish, and what they predict of the validation fold."""
    state = member.module.published_state()
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise DataError(
            f"the member in {run} is unusable",
            got=f"{len(broken)} tensors with infinity or NaN, such as {broken[0]}",
            expected="finite weights",
            remedy="delete that folder, then lower --set learning_rate=… or use --set precision=32-true",
        )
    write_text(run / "validation.csv", member.predict(state).to_csv(index=False))
    for name, other in member.module.other_states().items():
        write_bytes(run / f"{name}.safetensors", safetensors.torch.save(other))
    write_bytes(run / "member.safetensors", safetensors.torch.save(state, member.module.metadata() or None))
