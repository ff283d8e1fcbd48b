"""Identity of a fit: only the same fit may resume it or take it as finished; and which process works in its folder."""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mitoscope.errors import DataError
from mitoscope.files import read_object, write_json
from mitoscope.provenance import read_commit
from mitoscope.training.data.samples import Samples
from mitoscope.training.folds import Folds
from mitoscope.training.presets import hash_as_version_1, hash_recorded

STARTED, CONFIG, DONE = "started.json", "config.json", "done.json"
MARKED = ("mark", "commits")  # what both hold
WORDS = {
    "config_sha256": "settings",
    "method_sha256": "settings or embeddings",
    "embedder_sha256": "network, weights, input or precision",
    "data_sha256": "data",
    "folds_sha256": "folds or hold-outs",
}  # of what a mark holds


def fold_mark(config_sha256: str, data: Samples, folds: Folds, fold: int) -> dict[str, Any]:
    """Identity of a fit: only the same fit may resume it."""
    return {"config_sha256": config_sha256, "data_sha256": data.sha256, "folds_sha256": folds.sha256, "fold": fold}


def name_differences(found: Mapping[str, Any], mark: Mapping[str, Any]) -> str:
    """What differs between two marks, in words."""
    return ", ".join(WORDS.get(key, key) for key in mark if found.get(key) != mark[key])


def is_done(run: Path, mark: Mapping[str, Any]) -> bool:
    """Whether this folder holds a finished member with this mark."""
    return (run / DONE).is_file() and is_same(run, read_object(run / DONE, f"delete {run}", MARKED)["mark"], mark)


def is_same(run: Path, found: Mapping[str, Any], mark: Mapping[str, Any]) -> bool:
    """Whether a mark in a run folder is that of the same fit.

    Version 1 of the hash covered every setting that existed then. Such a mark is accepted when the recorded settings,
    with defaults for those that came later, are the same.

    Args:
        run: The folder; its config.json holds the settings.
        found: The mark in it.
        mark: The mark of the fit that asks.
    """
    if found == mark:
        return True
    if {**found, "config_sha256": None} != {**mark, "config_sha256": None} or not (run / CONFIG).is_file():
        return False
    settings = read_object(run / CONFIG, f"delete {run}")
    return bool(
        found.get("config_sha256") == hash_as_version_1(settings) and mark["config_sha256"] == hash_recorded(settings)
    )


def write_done(run: Path, mark: Mapping[str, Any], seconds: float, epochs: int) -> None:
    """Record that the member is complete, the commits that fitted it, and how long that took."""
    commits = read_object(run / STARTED, f"delete {run}", MARKED)["commits"]
    write_json(run / DONE, {"mark": mark, "commits": commits, "seconds": round(seconds, 1), "epochs": epochs})


@contextmanager
def claimed(run: Path, mark: Mapping[str, Any]) -> Iterator[None]:
    """Lock a run folder for one fit, and write the fit's mark into it before anything else.

    Raises:
        DataError: The folder belongs to another fit, or another process works in it.
    """
    with locked(run):
        _write_started(run, mark)
        yield


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder, which is made if need be, for one process.

    Raises:
        DataError: Another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{folder} is in use",
                got="another process that works in it",
                expected="one process a folder",
                remedy="wait for it, or stop it",
            ) from error
        yield


def _write_started(run: Path, mark: Mapping[str, Any]) -> None:
    """The mark and the commit of each start; refused where the folder belongs to another fit."""
    commits: list[str] = []
    if (run / STARTED).is_file():
        started = read_object(run / STARTED, f"delete {run}", MARKED)
        if not is_same(run, started["mark"], mark):
            raise DataError(
                f"{run} belongs to other data, another fold, split or configuration",
                got=f"other {name_differences(started['mark'], mark)}",
                expected="those of the run in this folder",
                remedy="name another --out, or delete that folder",
            )
        commits = started["commits"]
    write_json(run / STARTED, {"mark": mark, "commits": sorted({*commits, read_commit()})})
