"""A study: the folds of one split under one configuration; or one such study for each domain that is left out."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd

from mitoscope.errors import DataError
from mitoscope.files import read_object, write_json
from mitoscope.provenance import describe_machine, list_versions
from mitoscope.training.data.read import read_samples
from mitoscope.training.data.samples import Samples
from mitoscope.training.detect.settings import check_fold
from mitoscope.training.folds import N_FOLDS, WHOLE, Folds, held_out_mask, read_folds, split, write_folds
from mitoscope.training.marks import DONE, MARKED, fold_mark, is_done, is_same
from mitoscope.training.presets import configure, hash_recorded
from mitoscope.training.settings import check_task
from mitoscope.training.study.launch import FitJob

STUDY, LEFT_OUT = "study.json", "leave_one_out.json"
Data = TypeVar("Data", bound=Samples)


@dataclass(frozen=True)
class Study(Generic[Data]):
    """A finished study.

    Attributes:
        folder: Holds study.json, folds.json and fold0 … fold4.
        record: study.json: data folder, preset and configuration, versions; and the folds' commits and seconds.
        data: The crops or fields.
        folds: The split, checked against the data.
    """

    folder: Path
    record: dict[str, Any]
    data: Data
    folds: Folds

    @property
    def members(self) -> range:
        """The folds whose members were fitted, from 0 on."""
        return range(self.record["members"])

    @property
    def has_whole(self) -> bool:
        """Whether there is also a member that all folds trained."""
        return bool(self.record.get("whole"))

    def read_validation(self) -> pd.DataFrame:
        """Each member's validation.csv, one below the other, and a column ``fold``."""
        tables = [pd.read_csv(self.folder / f"fold{k}" / "validation.csv").assign(fold=k) for k in self.members]
        return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class Recipe:
    """How a study's members are trained.

    Attributes:
        preset: By name.
        settings: ``key=value`` changes to it.
        members: How many of the five folds are fitted, from the first on. Fewer are enough for a quick comparison.
        whole: Fit one more member that all folds train and none validates; only a detector.
    """

    preset: str
    settings: tuple[str, ...]
    members: int = N_FOLDS
    whole: bool = False


def name_fit(fold: int) -> str:
    """The folder of a fit."""
    return "whole" if fold == WHOLE else f"fold{fold}"


def _list_fits(members: int, *, whole: bool) -> list[int]:
    """The numbers of a study's fits."""
    return [*range(members), *([WHOLE] if whole else [])]


def run_study(
    data_folder: Path, out: Path, recipe: Recipe, hold_out: list[str], launch: Callable[[list[FitJob]], None]
) -> None:
    """Split if that has not been done, then fit every fold that is not finished.

    Args:
        data_folder: Written by `prepare`.
        out: The study's folder; running again resumes it.
        recipe: How each member is trained.
        hold_out: See `mitoscope.training.folds.split`.
        launch: Runs the fits, e.g. `mitoscope.training.study.launch.run_local`.

    Raises:
        DataError: The folder holds another study, or a fold failed.
    """
    _run_all(data_folder, {out: hold_out}, recipe, launch)


def run_leave_one_out(
    data_folder: Path,
    out: Path,
    recipe: Recipe,
    hold_out: list[str],
    launch: Callable[[list[FitJob]], None],
    column: str = "domain",
) -> None:
    """Run one study for each value of a column, with that value held out: the paper's 7 × 5 networks.

    Args:
        data_folder: Written by `prepare`.
        out: A folder that gets a study's folder for each value, and leave_one_out.json that lists them.
        recipe: How each member is trained.
        hold_out: Held out of every study as well.
        launch: Runs the fits, all studies' in one call.
        column: Of the table; ``"domain"`` is the cancer type.

    Raises:
        DataError: The column has fewer than two values, or as `run_study`.
    """
    table = read_samples(data_folder).table
    values = sorted(map(str, table[column].dropna().unique())) if column in table else []
    if len(values) < 2:
        raise DataError(
            f"--leave-one-out {column} leaves nothing to train on",
            got=values,
            expected="a column of the table with two values or more",
            remedy="name domain, cohort, source, scanner or species, if the table has two values of it",
        )
    hidden = table[column].isna() & ~held_out_mask(table, hold_out)
    if hidden.any():
        raise DataError(
            f"--leave-one-out {column} cannot hold out crops of unknown {column}",
            got=f"{int(hidden.sum())} crops of unknown {column} from {sorted(table.loc[hidden, 'source'].unique())}",
            expected=f"a {column} for every crop that is trained on",
            remedy="hold those out too: --hold-out source=NAME",
        )
    folders = {value: re.sub(r"\W+", "-", value.lower()).strip("-") for value in values}
    if len({*folders.values()} - {""}) < len(values):
        raise DataError(
            f"--leave-one-out {column} cannot name the studies' folders",
            got=values,
            expected="values that differ in letters or digits",
            remedy="rename them in the table",
        )
    content = {"column": column, "studies": folders}
    if (out / LEFT_OUT).is_file() and read_object(out / LEFT_OUT, f"delete {out / LEFT_OUT}") != content:
        raise DataError(
            f"{out} holds another leave-one-out run",
            got=str(read_object(out / LEFT_OUT, "")),
            expected=str(content),
            remedy="name another --out",
        )
    plan = {out / folder: [f"{column}={value}", *hold_out] for value, folder in folders.items()}
    _run_all(data_folder, plan, recipe, launch)
    write_json(out / LEFT_OUT, content)


def _run_all(
    data_folder: Path, plan: dict[Path, list[str]], recipe: Recipe, launch: Callable[[list[FitJob]], None]
) -> None:
    """Write the splits of all studies, launch all fits that are not finished, then write each study.json."""
    config = configure(recipe.preset, recipe.settings)
    data = read_samples(data_folder)
    check_task(data, config)
    for fold in _list_fits(recipe.members, whole=recipe.whole):
        check_fold(fold, config)
    splits = {out: _claim(out, split(data, hold_out), data) for out, hold_out in plan.items()}
    jobs = [
        FitJob(data_folder, out / "folds.json", fold, out / name_fit(fold), recipe.preset, recipe.settings)
        for out in plan
        for fold in _list_fits(recipe.members, whole=recipe.whole)
    ]

    def finished(job: FitJob) -> bool:
        return is_done(job.out, fold_mark(config.sha256, data, splits[job.out.parent], job.fold))

    for job in filter(finished, jobs):
        print(f"{job.name} is finished: nothing to do")
    if todo := [job for job in jobs if not finished(job)]:
        launch(todo)
    for job in todo:
        if not finished(job):
            raise DataError(
                f"{job.name} ended before it was finished",
                got=f"no {DONE} of this study",
                expected="one",
                remedy="run the same command again",
            )
    record = {
        "data": str(data_folder.resolve()),
        "preset": recipe.preset,
        "settings": list(recipe.settings),
        "members": recipe.members,
        "whole": recipe.whole,
        "config": config.to_dict(),
        "init": config.init,  # where it is; the configuration knows it by its hash
        "versions": list_versions("torch", "timm", "lightning"),
        "machine": describe_machine(),
    }
    for out in plan:
        write_json(out / STUDY, record)


def _claim(out: Path, folds: Folds, data: Samples) -> Folds:
    """Write a study's split, or refuse a folder that holds another one."""
    path = out / "folds.json"
    if path.is_file() and read_folds(path, data) != folds:
        raise DataError(
            f"{out} holds a study of another split",
            got=sorted(read_folds(path, data).held_out),
            expected=f"held out: {sorted(folds.held_out)}, the same table and seed",
            remedy="name another --out",
        )
    write_folds(path, folds)
    return folds


def read_study(folder: Path, data_folder: Path | None = None) -> Study[Any]:
    """Read a finished study.

    Args:
        folder: The study's.
        data_folder: Where its data are now; None: where they were. They must be the same data.

    Raises:
        DataError: It is not finished, or a fold was fitted under other settings or another split.
    """
    remedy = f"run mitoscope train run … --out {folder} to the end"
    if not (folder / STUDY).is_file():
        raise DataError(f"{folder} is not a finished study", got=f"no {STUDY}", expected="one", remedy=remedy)
    record = read_object(folder / STUDY, remedy, ("data", "config", "members"))
    data = read_samples(data_folder or Path(record["data"]))
    folds = read_folds(folder / "folds.json", data)
    config_sha256 = hash_recorded(record["config"])
    fits = _list_fits(record["members"], whole=record.get("whole", False))
    done = {fold: read_object(folder / name_fit(fold) / DONE, remedy, (*MARKED, "seconds")) for fold in fits}
    for fold, got in done.items():
        name, expected = name_fit(fold), fold_mark(config_sha256, data, folds, fold)
        if not is_same(folder / name, got["mark"], expected):
            raise DataError(f"{name} is not this study's", got=got["mark"], expected=str(expected), remedy=remedy)
        for file in ("member.safetensors", "validation.csv"):
            if not (folder / name / file).is_file():
                raise DataError(
                    f"{folder} is incomplete",
                    got=f"no {name}/{file}",
                    expected="what fit wrote",
                    remedy=f"delete {folder / name} and {remedy}",
                )
    record["commits"] = sorted({commit for mark in done.values() for commit in mark["commits"]})
    record["fold_seconds"] = [mark["seconds"] for mark in done.values()]
    return Study(folder, record, data, folds)


def read_studies(folder: Path, data_folder: Path | None = None) -> dict[str, Study[Any]]:
    """The studies of a leave-one-out run by what each leaves out; or the one study, under the name ""."""
    if not (folder / LEFT_OUT).is_file():
        return {"": read_study(folder, data_folder)}
    names = read_object(folder / LEFT_OUT, f"run mitoscope train run … --leave-one-out --out {folder} again")["studies"]
    return {value: read_study(folder / name, data_folder) for value, name in names.items()}
