"""One prediction on the disk: predictions.csv and its record, in one piece or in shards that are put together again."""

import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from mitoscope.classify.tables import RECORD_FORMAT, read_record, record_of
from mitoscope.errors import DataError
from mitoscope.files import check_file, hash_file, write_json

FILES = "files_sha256"  # of a record: see `mitoscope.classify.listing.Listing`; another for each place of the crops
UNREADABLE_CODE = 3  # the exit code when files could not be read; 1 is any other fault, 2 a wrong command line


def unreadable_of(out: Path) -> Path:
    """Where the files are listed that could not be read; there only when there are any."""
    return out.with_name(out.name + ".unreadable.csv")


@dataclass(frozen=True)
class Draft:
    """A prediction that is being written, in a temporary folder beside its target.

    Attributes:
        out: predictions.csv, as it is to be.
        scores: The same, being written.
        unreadable: The files that could not be read, being written.
    """

    out: Path
    scores: Path
    unreadable: Path

    def keep(self, record: dict[str, Any]) -> None:
        """Put the prediction in its place; record: what it was made from, by what."""
        content = {**record, "format": RECORD_FORMAT, "csv_sha256": hash_file(self.scores)}
        new = self.scores.with_name("record.json")
        write_json(new, content)
        record_of(self.out).unlink(missing_ok=True)  # never one's record beside another's scores
        self.scores.replace(self.out)
        if record["crops"]["n_unreadable"]:
            self.unreadable.replace(unreadable_of(self.out))
        else:
            unreadable_of(self.out).unlink(missing_ok=True)
        new.replace(record_of(self.out))


@contextmanager
def draft(out: Path) -> Iterator[Draft]:
    """Begin a prediction; what is not kept of it is deleted, and what was left by a process that was killed.

    Raises:
        DataError: Where it is to lie is a folder.
    """
    check_file(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for old in out.parent.glob(f".{escape(out.name)}.*.draft"):
        with suppress(OSError), _held(old) as free:
            if free:
                shutil.rmtree(old)
    new = Path(mkdtemp(prefix=f".{out.name}.", suffix=".new", dir=out.parent))
    folder = new.with_suffix(".draft")
    with _held(new):  # before it bears a name that others look for
        new.rename(folder)
        try:
            yield Draft(out, folder / "scores.csv", folder / "unreadable.csv")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a folder while this process works in it; False where another one does, or the file system has no locks."""
    with (folder / "lock").open("a") as lock:  # the system lets go of it when the process dies
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def is_finished(out: Path, mark: dict[str, Any]) -> bool:
    """Whether out holds what `Draft.keep` wrote under this very mark."""
    try:
        record = read_record(record_of(out))
    except DataError:
        return False
    return out.is_file() and _is_same(record, mark) and record["csv_sha256"] == hash_file(out)


def _is_same(record: Mapping[str, Any], mark: Mapping[str, Any], *but: str) -> bool:
    """Whether a record agrees with a mark. Another commit with the same code is no difference."""
    return all(record.get(key) == value for key, value in mark.items() if key not in ("commit", *but))


def check_shard(out: Path, mark: dict[str, Any]) -> None:
    """Refuse to write a shard over another one of the same prediction.

    Raises:
        DataError: It holds another shard.
    """
    try:
        record = read_record(record_of(out))
    except DataError:
        return
    if record["shard"] != mark["shard"] and _is_same(record, mark, "shard", FILES):
        spelt = ["/".join(map(str, shard)) for shard in (record["shard"], mark["shard"])]
        raise DataError(
            f"{out} holds another shard", got=f"shard {spelt[0]}", expected=f"nothing, or shard {spelt[1]}",
            remedy="name another --out for each shard",
        )  # fmt: skip


def print_result(out: Path, n_crops: int, n_greyscale: int, n_unreadable: int) -> int:
    """Print what was written; returns the exit code."""
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
        As `mitoscope.classify.predict.predict`.

    Raises:
        DataError: A shard is missing, given twice or changed, or they are not of one prediction.
    """
    records = {path: read_record(record_of(path)) for path in shards}
    if out.resolve() in {path.resolve() for path in shards}:
        raise DataError(
            f"{out} is one of the shards",
            got="the same path after --out",
            expected="another name",
            remedy="choose another",
        )
    if len({path.resolve() for path in shards}) < len(shards):
        given = ", ".join(map(str, shards))
        raise DataError("a shard is given twice", got=given, expected="each once", remedy="name each file once")
    ordered = sorted(shards, key=lambda path: records[path]["shard"])
    _check(records)
    with draft(out) as new:
        _concatenate(ordered, new.scores)
        _concatenate([unreadable_of(path) for path in ordered if unreadable_of(path).is_file()], new.unreadable)
        counts = [records[path]["crops"] for path in ordered]
        crops = {name: sum((count[name] for count in counts[1:]), counts[0][name]) for name in counts[0]}
        machines = [machine for path in ordered for machine in records[path]["machines"]]
        own = {
            "shard": [1, 1],
            "crops": crops,
            "machines": [machine for number, machine in enumerate(machines) if machine not in machines[:number]],
        }
        new.keep({**records[ordered[0]], **own})
    return print_result(out, crops["n_crops"], crops["n_greyscale"], crops["n_unreadable"])


def _check(records: dict[Path, dict[str, Any]]) -> None:
    """Refuse gaps, duplicates, changed files and shards of different predictions."""
    (first, reference), *others = records.items()
    remedy = "run mitoscope classify for every shard with the same crops, weights, code and precision"
    for path, record in others:
        for key in reference.keys() - {"shard", "crops", "machines", "csv_sha256", FILES}:
            if record.get(key) != reference[key]:
                got = f"{key} {record.get(key)}, where {first.name} has {reference[key]}"
                raise DataError(f"{path} is of another prediction", got=got, expected="the same", remedy=remedy)
    for path, record in records.items():
        if not path.is_file() or hash_file(path) != record["csv_sha256"]:
            got = "another SHA-256 than its record's" if path.is_file() else "no such file"
            raise DataError(
                f"{path} was changed",
                got=got,
                expected=record["csv_sha256"],
                remedy=remedy,
            )
    found = sorted(tuple(record["shard"]) for record in records.values())
    count = found[0][1]
    expected = [(number, count) for number in range(1, count + 1)]
    if found != expected:
        missing = [f"{number}/{count}" for number, count in expected if (number, count) not in found]
        got = f"{[f'{number}/{count}' for number, count in found]}{f', without {missing}' if missing else ''}"
        raise DataError("the shards are not complete", got=got, expected=f"each of 1 to {count} once", remedy=remedy)


def _concatenate(paths: Sequence[Path], out: Path) -> None:
    """Copy CSVs one after another, the header once."""
    with out.open("wb") as target:
        for number, path in enumerate(paths):
            with path.open("rb") as source:
                header = source.readline()
                if number == 0:
                    target.write(header)
                shutil.copyfileobj(source, target)
