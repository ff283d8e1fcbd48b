"""Run a study: every trial once, each with its own folder, so that another run continues an interrupted one."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch

from mitoscope.errors import DataError
from mitoscope.files import read_object, write_json, write_text
from mitoscope.progress import progress
from mitoscope.provenance import read_commit
from mitoscope.training.classify.task import predict_rows
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds, write_folds
from mitoscope.training.foundation.probe.heads import (
    PROBES,
    SETTINGS,
    ProbeSettings,
    configure_probe,
    fit_head,
    has_setting,
    list_settings,
)
from mitoscope.training.foundation.probe.store import Embeddings
from mitoscope.training.foundation.scale.measure import Scored, score
from mitoscope.training.foundation.scale.trials import VALIDATION, Plan, Trial, draw
from mitoscope.training.marks import locked, name_differences
from mitoscope.training.presets import add_base, configure, needs_base
from mitoscope.training.settings import FitConfig, check_task
from mitoscope.training.study.launch import FitJob

OF_PROBES = {name for names in SETTINGS.values() for name in names}
TRIAL, PREDICTIONS = "trial.json", "predictions.csv"
Launch = Callable[[list[FitJob]], None]


@dataclass(frozen=True)
class Source:
    """What a study learns from.

    Attributes:
        folder: The data folder.
        data: Its crops.
        embeddings: Of them; None where no probe is asked for.
        settings: ``key=value`` changes: those of a probe to every probe that has them, others to every preset of a fit.
        base: The weights of the presets that `needs_base`: a file or a folder; None: the hub's.
    """

    folder: Path
    data: CropData
    embeddings: Embeddings | None
    settings: tuple[str, ...] = ()
    base: Path | None = None


@dataclass(frozen=True)
class Work:
    """One trial, ready to be run.

    Attributes:
        trial: The run.
        folds: Fold 0 validates, fold 1 is learned from.
        method: The probe's settings, or those of the fit.
        mark: Identity: only the same trial is taken as finished.
        folder: Its own.
    """

    trial: Trial
    folds: Folds
    method: ProbeSettings | FitConfig[Any]
    mark: dict[str, Any]
    folder: Path


def run_plan(plan: Plan, source: Source, out: Path, launch: Launch) -> list[Scored]:
    """Run what is not finished, and score all.

    Args:
        plan: The study.
        source: What it learns from.
        out: The study's folder. More seeds, fractions or methods may be added to it later.
        launch: Runs the fits, e.g. `mitoscope.training.study.launch.run_local`.

    Raises:
        DataError: Before anything is run: a fraction leaves a class empty, a method is unknown, no method has a
            setting, a trial's folder holds another trial, or another process works in ``out``. Later: a fit failed.
    """
    _check_settings(plan, source)
    trials = plan.list_trials(source.data.table)
    _check_names(trials)
    works = [_prepare(trial, plan, source, out) for trial in trials]
    with locked(out):
        _run(works, source, launch)
    return [each for work in works for each in _score(work, source.data)]


def _check_names(trials: Sequence[Trial]) -> None:
    """Refuse two trials whose names differ only in characters that a folder's name cannot hold."""
    counts = Counter(trial.name for trial in trials)
    name, count = counts.most_common(1)[0]
    if count > 1:
        raise DataError(
            "two trials of this study would use one folder",
            got=f"{count} called {name}",
            expected="names that differ in letters, digits or . - = _",
            remedy="rename the values of the column, or name other fractions",
        )


def _run(works: Sequence[Work], source: Source, launch: Launch) -> None:
    """Run what is not finished."""
    todo = [work for work in works if not _is_done(work)]
    if len(todo) < len(works):
        print(f"{len(works) - len(todo)} of {len(works)} trials are finished: nothing to do for them")
    for work in todo:
        work.folder.mkdir(parents=True, exist_ok=True)
        write_folds(work.folder / "folds.json", work.folds)
    fits = [(work, _job(work, source)) for work in todo if isinstance(work.method, FitConfig)]
    if fits:
        launch([job for _, job in fits])
    with progress(len(todo), unit="trials", what="scoring") as bar:
        for work in todo:
            predict = _predict_fit if isinstance(work.method, FitConfig) else _predict_probe
            table, learned = predict(work, source)
            write_text(work.folder / PREDICTIONS, table.to_csv(index=False))
            write_json(work.folder / TRIAL, {"mark": work.mark, "commit": read_commit(), "learned": learned})
            bar.update()


def _check_settings(plan: Plan, source: Source) -> None:
    """Refuse a setting or a base that would change nothing."""
    for setting in source.settings:
        if not any(_changes(method, setting) for method in plan.methods):
            raise DataError(
                f"--set {setting} changes no method of this study",
                got=", ".join(plan.methods),
                expected=f"{list_settings()}; or a setting of a fit, beside a preset",
                remedy="remove it, or name another --method",
            )
    presets = [method for method in plan.methods if method not in PROBES]
    if source.base and not any(needs_base(preset, _common(preset, source)) for preset in presets):
        raise DataError(
            f"--base {source.base} is used by no method of this study",
            got=", ".join(plan.methods),
            expected="a preset that trains on a frozen base, such as virchow-lora-r8",
            remedy="remove it, or name another --method",
        )


def _changes(method: str, setting: str) -> bool:
    """Whether a ``key=value`` changes a method; the settings of a preset are checked later, by name."""
    return has_setting(method, setting) if method in PROBES else setting.partition("=")[0] not in OF_PROBES


def _common(method: str, source: Source) -> list[str]:
    """The study's changes to a method."""
    return [setting for setting in source.settings if _changes(method, setting)]


def _settings(trial: Trial, source: Source) -> tuple[str, ...]:
    """All changes to a trial's method: the study's, its own, and of a fit the base's file and the seed."""
    settings = [*_common(trial.method, source), *trial.settings]
    if trial.method in PROBES:
        return tuple(settings)
    if source.base and needs_base(trial.method, settings):
        settings = add_base(trial.method, settings, source.base)
    return (*settings, f"seed={trial.seed}")


def _prepare(trial: Trial, plan: Plan, source: Source, out: Path) -> Work:
    """Draw a trial's crops and check its settings."""
    method: ProbeSettings | FitConfig[Any]
    if trial.method in PROBES:
        method = configure_probe(trial.method, _settings(trial, source))
        if source.embeddings is None:
            raise DataError(
                f"{trial.method} needs --embeddings", got="none", expected="a folder that embed wrote", remedy="add it"
            )
        identity = hashlib.sha256(json.dumps([asdict(method), source.embeddings.sha256]).encode()).hexdigest()
    else:
        method = configure(trial.method, _settings(trial, source))
        check_task(source.data, method)
        identity = method.sha256
    folds = draw(source.data, trial, plan)
    mark = {"method_sha256": identity, "data_sha256": source.data.sha256, "folds_sha256": folds.sha256}
    return Work(trial, folds, method, mark, out / "trials" / trial.name)


def _is_done(work: Work) -> bool:
    """Whether its predictions are there.

    Raises:
        DataError: The folder holds another trial.
    """
    path = work.folder / TRIAL
    if not path.is_file():
        return False
    found = read_object(path, f"delete {work.folder}", ("mark",))["mark"]
    if found != work.mark:
        raise DataError(
            f"{work.folder} belongs to other data, embeddings, settings or hold-outs",
            got=f"other {name_differences(found, work.mark)}",
            expected="those of the trial in this folder",
            remedy="name another --out, or delete that folder",
        )
    return (work.folder / PREDICTIONS).is_file()


def _job(work: Work, source: Source) -> FitJob:
    """The fit of a trial."""
    trial = work.trial
    folds, out = work.folder / "folds.json", work.folder / "fit"
    return FitJob(source.folder, folds, 0, out, trial.method, _settings(trial, source))


def _predict_probe(work: Work, source: Source) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Fit a probe; its probabilities of the validation crops and of each set, and what was chosen."""
    assert isinstance(work.method, ProbeSettings) and source.embeddings is not None
    data, values = source.data, source.embeddings.values
    validation, fitted = (data.rows_of(list(ids)) for ids in work.folds.folds)
    head = fit_head(work.method, values, data.is_atypical, fitted, [(fitted, validation)])
    tables = [_table(name, data, rows, head.predict(values[rows])) for name, rows in _sets(work, data).items()]
    return pd.concat(tables), {"c": getattr(head, "c", None)}


def _predict_fit(work: Work, source: Source) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What the member of a finished fit predicts."""
    assert isinstance(work.method, FitConfig)
    data, run = source.data, work.folder / "fit"
    state = safetensors.torch.load_file(run / "member.safetensors")
    sets = _sets(work, data)
    p = predict_rows(work.method, state, data, np.concatenate(list(sets.values())), 0)["p_atypical"].to_numpy()
    parts = np.split(p, np.cumsum([len(rows) for rows in sets.values()])[:-1])
    tables = [_table(name, data, rows, part) for (name, rows), part in zip(sets.items(), parts, strict=True)]
    return pd.concat(tables), {"fit": read_object(run / "done.json", f"delete {run}")}


def _sets(work: Work, data: CropData) -> dict[str, np.ndarray]:
    """The rows of the validation crops and of each set that is scored."""
    ids = {VALIDATION: work.folds.folds[0], **work.folds.held_out}
    return {name: data.rows_of(list(names)) for name, names in ids.items()}


def _table(name: str, data: CropData, rows: np.ndarray, p: np.ndarray) -> pd.DataFrame:
    """The predictions of one set."""
    return pd.DataFrame({"crops": name, "image_id": data.table["image_id"].iloc[rows].to_numpy(), "p": p})


def _score(work: Work, data: CropData) -> Sequence[Scored]:
    """A finished trial's sets."""
    table = pd.read_csv(work.folder / PREDICTIONS, dtype={"image_id": str, "crops": str})
    rows = data.rows_of(table["image_id"].tolist())
    known = table.assign(positive=data.is_atypical[rows], case=data.table["case"].iloc[rows].to_numpy())
    return score(work.trial, len(work.folds.folds[1]), known)
