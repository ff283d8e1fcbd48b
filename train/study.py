"""A study: five folds of one split under one configuration, each fold in a process of its own, resumable."""

import os
import subprocess
import sys
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import pandas as pd
import torch

from model.bundle import N_MEMBERS
from model.errors import DataError
from train.config import FitConfig
from train.files import read_json, write_json
from train.fit import DONE, fold_mark, is_done
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
        record: study.json: data folder, preset and configuration, versions; and the folds' commits and seconds.
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
    folds = split(data, hold_out)
    if (out / "folds.json").is_file() and read_folds(out / "folds.json", data) != folds:
        raise DataError(
            f"{out} holds a study of another split",
            got=sorted(read_folds(out / "folds.json", data).held_out),
            expected=f"held out: {sorted(folds.held_out)}, the same table and seed",
            remedy="name another --out",
        )
    write_folds(out / "folds.json", folds)
    command = [sys.executable, "-m", "train", "fit", "--data", str(data_folder.resolve())]
    command += ["--folds", str((out / "folds.json").resolve()), "--preset", preset]
    command += [word for setting in settings for word in ("--set", setting)]
    _fit_all(command, out.resolve(), workers)
    for fold in range(N_MEMBERS):
        if not is_done(out / f"fold{fold}", fold_mark(config, folds, fold)):
            raise DataError(
                f"fold {fold} ended before it was finished",
                got="no done.json of this study",
                expected="one",
                remedy="run the same command again",
            )
    record = {"data": str(data_folder.resolve()), "preset": preset, "settings": settings, "config": config.to_dict()}
    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    write_json(out / "study.json", {**record, "config_sha256": config.sha256, "workers": workers, "versions": versions})


def default_workers() -> int:
    """One fold a GPU; on a CPU one a core, since two processes of one thread do twice what one of two does."""
    return torch.cuda.device_count() or min(N_MEMBERS, _cores())


def read_study(folder: Path) -> Study:
    """Read a finished study.

    Raises:
        DataError: It is not finished, or a fold was fitted under other settings or another split.
    """
    remedy = f"run python -m train run … --out {folder} to the end"
    record = read_json(folder / "study.json", remedy)
    data = read_data(Path(record["data"]))
    folds = read_folds(folder / "folds.json", data)
    done = [read_json(folder / f"fold{fold}" / DONE, remedy) for fold in range(N_MEMBERS)]
    for fold, got in enumerate(done):
        expected = {"config_sha256": record["config_sha256"], "folds_sha256": folds.sha256, "fold": fold}
        if got["mark"] != expected:
            raise DataError(f"fold {fold} is not this study's", got=got["mark"], expected=str(expected), remedy=remedy)
    record["commits"] = sorted({mark["commit"] for mark in done})
    record["fold_seconds"] = [mark["seconds"] for mark in done]
    return Study(folder, record, data, folds)


def _fit_all(command: list[str], out: Path, workers: int) -> None:
    """Every fold's process, so many at once; when one fails, or the user stops the study, the others stop too."""
    devices: Queue[str] = Queue()
    for device in _devices(workers):
        devices.put(device)
    running: list[subprocess.Popen[str]] = []
    threads = max(1, _cores() // workers)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "GLIBC_TUNABLES": KEEP_MEMORY}
    shared = (environment, devices, running)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_run_fold, [*command, "--fold", str(k), "--out", str(out / f"fold{k}")], k, *shared)
            for k in range(N_MEMBERS)
        ]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
            for job in jobs:
                if job.done():
                    job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            raise


def _run_fold(
    command: list[str],
    fold: int,
    environment: dict[str, str],
    devices: "Queue[str]",
    running: "list[subprocess.Popen[str]]",
) -> None:
    """One fold's process on a free device; its lines appear with the fold's number in front."""
    device = devices.get()
    sees = {"CUDA_VISIBLE_DEVICES": device} if device else {}
    process = subprocess.Popen(
        command, cwd=ROOT, env={**environment, **sees}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running.append(process)
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip():
            print(f"fold {fold} | {line.rstrip()}", flush=True)
            last = line.strip()
    running.remove(process)
    devices.put(device)
    if process.wait():
        raise DataError(
            f"fold {fold} failed", got=last, expected="exit code 0", remedy="mend that, then run the same command again"
        )


def _devices(workers: int) -> list[str]:
    """What each worker sees: one of the GPUs that this process sees, or "" for the CPU."""
    granted = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    gpus = granted.split(",") if torch.cuda.is_available() else [""]
    return [gpus[worker % len(gpus)] for worker in range(workers)]


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))
