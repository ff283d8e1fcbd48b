"""A study: five folds of one split under one configuration, each fold in a process of its own, resumable."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from model.bundle import N_MEMBERS
from model.errors import DataError
from train.config import FitConfig
from train.fit import DONE
from train.folds import Folds, read_folds, split, write_folds
from train.table import CropData, read_data

ROOT = Path(__file__).resolve().parent.parent
# glibc otherwise returns every batch's memory to the kernel: measured 1.2 times the steps per second on a CPU.
KEEP_MEMORY = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"


@dataclass(frozen=True)
class Study:
    """A finished study's folder and what its folds left.

    Attributes:
        folder: Holds study.json, folds.json and fold0 … fold4.
        record: study.json: data folder, configuration, commit, seconds.
        data: The crops.
        folds: The split, checked against the data.
    """

    folder: Path
    record: dict[str, Any]
    data: CropData
    folds: Folds

    def out_of_fold(self) -> pd.DataFrame:
        """Every training crop's prediction by the member that never saw its case: image_id, label, p_atypical, fold."""
        tables = [pd.read_csv(self.folder / f"fold{k}" / "validation.csv").assign(fold=k) for k in range(N_MEMBERS)]
        return pd.concat(tables, ignore_index=True)


def run_study(
    data_folder: Path, out: Path, preset: str, settings: list[str], config: FitConfig, hold_out: list[str], workers: int
) -> None:
    """Split if that has not been done, then fit every fold that is not finished.

    Args:
        data_folder: Written by `prepare`.
        out: The study's folder; running again resumes it.
        preset: Name of the preset, handed to each fold's process with ``settings``.
        settings: ``key=value`` changes to the preset.
        config: What preset and settings make together.
        hold_out: See `train.folds.split`.
        workers: Folds fitted at once.

    Raises:
        DataError: The folder holds another study, or a fold failed.
    """
    data = read_data(data_folder)
    wanted = split(data, hold_out)
    if (out / "folds.json").is_file() and read_folds(out / "folds.json", data) != wanted:
        raise DataError(
            f"{out} holds a study of another split",
            got=sorted(read_folds(out / "folds.json", data).held_out),
            expected=f"held out: {sorted(wanted.held_out)}, the same table and seed",
            remedy="name another --out",
        )
    write_folds(out / "folds.json", wanted)
    started = time.monotonic()
    command = [sys.executable, "-m", "train", "fit", "--data", str(data_folder.resolve())]
    command += ["--folds", str((out / "folds.json").resolve()), "--preset", preset]
    command += [word for setting in settings for word in ("--set", setting)]
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_run_fold, [*command, "--fold", str(k), "--out", str((out / f"fold{k}").resolve())], k, workers)
            for k in range(N_MEMBERS)
        ]
        for job in jobs:
            job.result()
    record = {
        "data": str(data_folder.resolve()),
        "preset": preset,
        "config": config.to_dict(),
        "config_sha256": config.sha256,
        "commit": _commit(),
        "seconds": round(time.monotonic() - started),
        "workers": workers,
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
    }
    (out / "study.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def default_workers() -> int:
    """One fold a GPU; on a CPU one a core, since two processes of one thread do twice what one of two does."""
    return torch.cuda.device_count() or min(N_MEMBERS, os.cpu_count() or 1)


def read_study(folder: Path) -> Study:
    """Read a finished study.

    Raises:
        DataError: It is not finished, or a fold was fitted under other settings or another split.
    """
    remedy = f"run python -m train run … --out {folder} to the end"
    if not (folder / "study.json").is_file():
        raise DataError(f"no finished study in {folder}", got="no study.json", expected="one", remedy=remedy)
    record = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    data = read_data(Path(record["data"]))
    folds = read_folds(folder / "folds.json", data)
    expected = {"config_sha256": record["config_sha256"], "folds_sha256": folds.sha256}
    for fold in range(N_MEMBERS):
        mark = folder / f"fold{fold}" / DONE
        got = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else "not finished"
        if got != {**expected, "fold": fold}:
            raise DataError(f"fold {fold} is not this study's", got=got, expected=str(expected), remedy=remedy)
    return Study(folder, record, data, folds)


def _run_fold(command: list[str], fold: int, workers: int) -> None:
    """One fold's process; its lines appear with the fold's number in front."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "GLIBC_TUNABLES": KEEP_MEMORY}
    if torch.cuda.is_available():
        environment["CUDA_VISIBLE_DEVICES"] = str(fold % torch.cuda.device_count())
    last = ""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in _lines(process):
            print(f"fold {fold} | {line}", flush=True)
            last = line
    if process.returncode:
        raise DataError(
            f"fold {fold} failed", got=last, expected="exit code 0", remedy="mend that, then run the same command again"
        )


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    """The process's lines, without the empty ones."""
    assert process.stdout is not None
    return (line.rstrip() for line in process.stdout if line.strip())


def _commit() -> str:
    """The checkout's commit, with ``+changes`` when files differ from it; ``unknown`` outside git."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
