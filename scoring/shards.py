"""One prediction on the disk: predictions.csv and its record, in one piece or in shards that are put together again."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.errors import DataError
from scoring.tables import read_record, record_of

UNREADABLE_CODE = 3  # the exit code when files could not be read; 1 is any other fault, 2 a wrong command line
FORMAT = 1


def unreadable_of(out: Path) -> Path:
    """Where the files are listed that could not be read; there only when there are any."""
    return out.with_name(out.name + ".unreadable.csv")


@contextmanager
def partial_files(out: Path) -> Iterator[tuple[Path, Path]]:
    """Names for a prediction and its unreadable files while they are written; what is left of them is deleted."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    try:
        yield partial, unreadable_of(partial)
    finally:
        partial.unlink(missing_ok=True)
        unreadable_of(partial).unlink(missing_ok=True)


def keep(out: Path, scores: Path, reasons: Path, record: dict[str, Any]) -> None:
    """Put a finished prediction in its place.

    Args:
        out: predictions.csv.
        scores: The same under its partial name.
        reasons: The unreadable files under their partial name.
        record: What it was made from, by what.
    """
    content = {**record, "format": FORMAT, "csv_sha256": _hash(scores)}
    new = record_of(scores)
    new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    record_of(out).unlink(missing_ok=True)  # never one's record beside another's scores
    scores.replace(out)
    if record["crops"]["n_unreadable"]:
        reasons.replace(unreadable_of(out))
    else:
        unreadable_of(out).unlink(missing_ok=True)
    new.replace(record_of(out))


def is_finished(out: Path, mark: dict[str, Any]) -> bool:
    """Whether out holds what `keep` wrote under this very mark, unchanged."""
    if not (out.is_file() and record_of(out).is_file()):
        return False
    record = read_record(record_of(out))
    return all(record.get(key) == value for key, value in mark.items()) and record.get("csv_sha256") == _hash(out)


def tell(out: Path, n_crops: int, n_greyscale: int, n_unreadable: int) -> int:
    """Say what was written; returns the exit code."""
    print(f"wrote {n_crops:,} crops to {out}")
    if n_greyscale:
        print(f"warning   {n_greyscale:,} crops are greyscale: the networks were trained on H&E in colour")
    if n_unreadable:
        print(f"warning   {n_unreadable:,} files could not be read: {unreadable_of(out)}")
    return UNREADABLE_CODE if n_unreadable else 0


def merge(shards: Sequence[Path], out: Path) -> int:
    """Put the shards of one prediction together: the same bytes as without shards.

    Args:
        shards: All of them, in any order, each with its record beside it.
        out: predictions.csv.

    Returns:
        As `scoring.predict.predict`.

    Raises:
        DataError: A shard is missing, given twice or changed, or they are not of one prediction.
    """
    records = {path: read_record(record_of(path)) for path in shards}
    ordered = sorted(shards, key=lambda path: records[path]["shard"])
    _check(records)
    with partial_files(out) as (scores, reasons):
        _concatenate(ordered, scores)
        _concatenate([unreadable_of(path) for path in ordered if unreadable_of(path).is_file()], reasons)
        counts = [records[path]["crops"] for path in ordered]
        crops = {name: sum((count[name] for count in counts[1:]), counts[0][name]) for name in counts[0]}
        machines = [machine for path in ordered for machine in records[path]["machines"]]
        own = {
            "shard": [1, 1],
            "crops": crops,
            "machines": [machine for number, machine in enumerate(machines) if machine not in machines[:number]],
        }
        keep(out, scores, reasons, {**records[ordered[0]], **own})
    return tell(out, crops["n_crops"], crops["n_greyscale"], crops["n_unreadable"])


def _check(records: dict[Path, dict[str, Any]]) -> None:
    """Refuse gaps, duplicates, changed files and shards of different predictions."""
    (first, reference), *others = records.items()
    remedy = "predict every shard with the same crops, weights, code and precision"
    for path, record in others:
        for key in reference.keys() - {"shard", "crops", "machines", "csv_sha256"}:
            if record.get(key) != reference[key]:
                got = f"{key} {record.get(key)}, where {first.name} has {reference[key]}"
                raise DataError(f"{path} is of another prediction", got=got, expected="the same", remedy=remedy)
    for path, record in records.items():
        if not path.is_file() or _hash(path) != record["csv_sha256"]:
            got = "another SHA-256 than its record's" if path.is_file() else "no such file"
            raise DataError(f"{path} was changed", got=got, expected=record["csv_sha256"], remedy="predict it again")
    found = sorted(tuple(record["shard"]) for record in records.values())
    count = found[0][1]
    expected = [(number, count) for number in range(1, count + 1)]
    if found != expected:
        missing = [f"{number}/{count}" for number, count in expected if (number, count) not in found]
        got = f"{[f'{number}/{count}' for number, count in found]}{f', without {missing}' if missing else ''}"
        raise DataError("the shards are not whole", got=got, expected=f"each of 1 to {count} once", remedy=remedy)


def _concatenate(paths: Sequence[Path], out: Path) -> None:
    """Copy CSVs one after another, the header once."""
    with out.open("wb") as target:
        for number, path in enumerate(paths):
            with path.open("rb") as source:
                header = source.readline()
                if number == 0:
                    target.write(header)
                shutil.copyfileobj(source, target)


def _hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
