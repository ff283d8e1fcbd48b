"""Which fit a run folder belongs to, who works in it now, and whether it is finished."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mitoscope.errors import DataError
from mitoscope.files import read_object, write_json
from mitoscope.provenance import read_commit
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds

STARTED, DONE = "started.json", "done.json"


def fold_mark(config_sha256: str, data: CropData, folds: Folds, fold: int) -> dict[str, Any]:
    """What a run folder belongs to; a folder of anything else is neither resumed nor taken as finished."""
    return {"config_sha256": config_sha256, "data_sha256": data.sha256, "folds_sha256": folds.sha256, "fold": fold}


def is_done(run: Path, mark: dict[str, Any]) -> bool:
    """Whether this run folder holds a member that was finished under this very mark."""
    return (run / DONE).is_file() and bool(read_object(run / DONE, f"delete {run}")["mark"] == mark)


def write_done(run: Path, mark: dict[str, Any], seconds: float) -> None:
    """Say that the member is whole, and which commits it was fitted by."""
    commits = read_object(run / STARTED, f"delete {run}")["commits"]
    write_json(run / DONE, {"mark": mark, "commits": commits, "seconds": round(seconds)})


@contextmanager
def claimed(run: Path, mark: dict[str, Any]) -> Iterator[None]:
    """Hold a run folder for one fit: it says what it is for before anything else lies in it, and who works in it.

    Raises:
        DataError: It is for something else, or another process works in it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{run} is in use",
                got="another fit that works in it",
                expected="one fit a folder",
                remedy="wait for it, or stop it",
            ) from error
        _write_started(run, mark)
        yield


def _write_started(run: Path, mark: dict[str, Any]) -> None:
    """What the folder is for, and the commit of each start; refused where it is for something else."""
    commits: list[str] = []
    if (run / STARTED).is_file():
        started = read_object(run / STARTED, f"delete {run}")
        if started["mark"] != mark:
            raise DataError(
                f"{run} belongs to other data, another fold, split or configuration",
                got=started["mark"],
                expected=str(mark),
                remedy="name another --out, or delete that folder",
            )
        commits = started["commits"]
    write_json(run / STARTED, {"mark": mark, "commits": sorted({*commits, read_commit()})})
