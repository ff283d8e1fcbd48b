"""predictions.csv and labels.csv: what every scoring command hands to the next, read and checked here alone."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from model.contract import CLASS_NAMES
from model.errors import DataError
from model.files import read_json
from scoring.files import hash_file

LABEL_NAMES = {"normal": "normal", "atypical": "atypical", "NMF": "normal", "AMF": "atypical"}
BY_FOLDER = "folders"
COLUMN_LIMIT = 1000  # of a table
LINE_BYTES = 1 << 20
DECIMALS = 6  # of every probability in predictions.csv
RECORD_FORMAT = 1
RECORD_KEYS = ("shard", "crops", "versions", "machines", "device", "precision", "commit", "csv_sha256")
PREDICTION_COLUMNS = ("image_id", "p_atypical", "class")


def read_predictions(path: Path) -> pd.DataFrame:
    """Read predictions.csv.

    Args:
        path: A CSV with ``image_id`` (unique), ``p_atypical`` in [0, 1], ``class`` (normal or atypical), and perhaps
            ``member_0``, ``member_1``, … in [0, 1].

    Returns:
        image_id (str), p_atypical (float64), class (str) and the members that there are (float64), in the file's order.

    Raises:
        DataError: The file is no such table, or a value in it is unusable.
    """
    table = _read_csv(path, PREDICTION_COLUMNS)
    members = member_columns(table)
    for name in ("p_atypical", *members):
        values = pd.to_numeric(table[name], errors="coerce")
        wrong = table[~values.between(0, 1)]  # a NaN is not
        if len(wrong):
            row = wrong.iloc[0]
            got = f"{row[name]} for {row['image_id']!r} and {len(wrong)} such in all"
            raise DataError(
                f"{path}: {name} is no probability", got=got, expected="numbers in [0, 1]", remedy="correct it"
            )
        table[name] = values
    _check_words(path, table["class"], CLASS_NAMES)
    return table[[*PREDICTION_COLUMNS, *members]]


def member_columns(predictions: pd.DataFrame) -> list[str]:
    """The names of the columns that hold one member's probabilities each, in the members' order."""
    return sorted(
        filter(re.compile(r"member_[0-9]{1,3}").fullmatch, map(str, predictions)), key=lambda name: int(name[7:])
    )


def read_labels(path: Path) -> pd.DataFrame:
    """Read labels.csv; the table.csv that `python -m train prepare` writes is one too.

    Args:
        path: A CSV with ``image_id`` (unique), ``label`` (normal or atypical; NMF and AMF are read too), and perhaps
            ``domain`` (cancer type) and ``case`` (slide or patient). Other columns are left alone.

    Returns:
        image_id (str), label (normal or atypical), domain and case (str; None where unknown).

    Raises:
        DataError: The file is no such table, or a label is another word.
    """
    table = _read_csv(path, ("image_id", "label"))
    _check_words(path, table["label"], tuple(LABEL_NAMES))
    known = ("domain", "case")
    misspelt = [name for name in table if str(name).strip().lower() in known and name not in known]
    if misspelt:
        raise DataError(
            f"{path} has columns that are nearly known", got=misspelt, expected=str(known), remedy="rename them"
        )
    table = table.assign(label=table["label"].map(LABEL_NAMES))
    return (
        table.reindex(columns=["image_id", "label", "domain", "case"]).astype(object).where(lambda t: t.notna(), None)
    )


def find_labels(labels: str, image_ids: pd.Series) -> pd.DataFrame:
    """The labels that ``--labels`` names.

    Args:
        labels: A path, as for `read_labels`; or ``folders``, where the crops lie in folders named Atypical and Normal,
            as data sets are published.
        image_ids: As `scoring.listing` names crops: paths, such as ``Atypical/101.png``.

    Returns:
        As `read_labels`.

    Raises:
        DataError: As `read_labels`; or a crop lies in a folder of another name.
    """
    if labels != BY_FOLDER:
        return read_labels(Path(labels))
    names = {name.lower(): label for name, label in LABEL_NAMES.items()}
    found = image_ids.map(lambda name: PurePosixPath(name).parent.name.lower()).map(names)
    if found.isna().any():
        raise DataError(
            f"{int(found.isna().sum())} crops have no label",
            got=f"{image_ids[found.isna()].iloc[0]!r}",
            expected="each in a folder named Atypical, Normal, AMF or NMF",
            remedy="name the folder above those two with --crops, or give a table with --labels",
        )
    return pd.DataFrame({"image_id": image_ids, "label": found, "domain": None, "case": None})


def join_labels(predictions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Put each prediction's label beside it.

    Args:
        predictions: As `read_predictions` gives them.
        labels: As `read_labels` gives them.

    Returns:
        The predictions with label, domain and case, in their order.

    Raises:
        DataError: A prediction has no label, or a label no prediction: nothing is scored on a part in silence.
    """
    predicted, labelled = set(predictions["image_id"]), set(labels["image_id"])
    for what, lacking, remedy in (
        ("predictions have no label", sorted(predicted - labelled), "add their labels, or predict without them"),
        ("labels have no prediction", sorted(labelled - predicted), "predict those crops too, or take them out"),
    ):
        if lacking:
            got = f"{', '.join(map(repr, lacking[:3]))}{' …' if len(lacking) > 3 else ''}"
            raise DataError(f"{len(lacking)} {what}", got=got, expected="the same image_id in both", remedy=remedy)
    return predictions.merge(labels, on="image_id", validate="one_to_one")


def record_of(predictions_csv: Path) -> Path:
    """Where the record of a predictions.csv lies: what it was made from, by what, and at which threshold."""
    return predictions_csv.with_name(predictions_csv.name + ".json")


def find_record(predictions_csv: Path) -> dict[str, Any] | None:
    """The record that `predict` wrote beside a predictions.csv; None where there is none.

    Raises:
        DataError: It is no such record, or the predictions were changed after they were made.
    """
    path = record_of(predictions_csv)
    if not path.is_file():
        return None
    record, found = read_record(path), hash_file(predictions_csv)
    if record["csv_sha256"] != found:
        raise DataError(
            f"{predictions_csv} was changed after it was made",
            got=f"sha256 {found}",
            expected=f"{record['csv_sha256']}, as in {path.name}",
            remedy=f"predict again; or give your own table another name, without {path.name} beside it",
        )
    return record


def find_threshold(predictions: pd.DataFrame, record: Mapping[str, Any] | None) -> float | None:
    """The threshold behind the classes.

    Args:
        predictions: As `read_predictions` gives them.
        record: Theirs, as `find_record` gives it.

    Returns:
        The record's, else the middle of the gap between the highest probability that is called
        normal (0 where none is) and the lowest that is called atypical (1 where none is). None where no threshold
        explains the classes, as when the winning class's confidence stands for P(atypical).

    Raises:
        DataError: The record's does not explain the classes.
    """
    atypical = (predictions["class"] == CLASS_NAMES[1]).to_numpy()
    p = predictions["p_atypical"].to_numpy()
    if record is None:
        highest, lowest = p[~atypical].max(initial=0.0), p[atypical].min(initial=1.0)
        if highest < lowest:
            midway = float((highest + lowest) / 2)
            return midway if midway > highest else float(lowest)  # two neighbouring floats
        return float(lowest) if atypical.all() else None
    value = float(record["bundle"]["threshold"])
    wrong = np.flatnonzero((p >= value) != atypical)
    if len(wrong):
        row = predictions.iloc[wrong[0]]
        raise DataError(
            f"{len(wrong)} classes contradict the threshold of their record",
            got=f"{row['class']} for p_atypical {row['p_atypical']} of {row['image_id']!r}, threshold {value}",
            expected="atypical from the threshold on, else normal",
            remedy="predict again",
        )
    return value


def read_record(path: Path) -> dict[str, Any]:
    """Read a record that `predict` wrote beside its predictions.

    Raises:
        DataError: It is missing or no such record.
    """
    try:
        record = read_json(path)
        if record["format"] != RECORD_FORMAT:
            raise ValueError(f"format {record['format']}")
        float(record["bundle"]["threshold"])
        for key in RECORD_KEYS:
            record[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read",
            got=f"{type(error).__name__}: {error}",
            expected="the record that python -m scoring predict writes",
            remedy="predict again",
        ) from error
    assert isinstance(record, dict)
    return record


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table as text, with the given columns and a unique image_id."""
    expected = f"a CSV with the columns {', '.join(columns)}"
    try:
        with path.open("rb") as file:  # pandas takes minutes for a million columns
            if max(file.readline(LINE_BYTES).count(b",") for _ in range(2)) >= COLUMN_LIMIT:
                raise ValueError(f"more than {COLUMN_LIMIT} columns")
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("rows with more cells than there are columns")  # pandas would take the first for names
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path} cannot be read", got=error, expected=expected, remedy="correct it") from error
    lacking = [name for name in columns if name not in table]
    if lacking or table.empty:
        got = f"no {', no '.join(lacking)}" if lacking else "no rows"
        raise DataError(f"{path} is no usable table", got=got, expected=expected, remedy="correct it")
    for name in columns:
        if table[name].isna().any():
            row = int(np.flatnonzero(table[name].isna())[0]) + 2
            raise DataError(f"{path} has an empty {name}", got=f"line {row}", expected="one a row", remedy="correct it")
    twice = table["image_id"][table["image_id"].duplicated()]
    if len(twice):
        got = f"{twice.iloc[0]!r} twice or more and {twice.nunique()} such"
        raise DataError(f"{path} names a crop twice", got=got, expected="a unique image_id", remedy="correct it")
    return table


def _check_words(path: Path, column: pd.Series, words: tuple[str, ...]) -> None:
    """Refuse a word outside of a vocabulary."""
    unknown = sorted(set(column) - set(words))
    if unknown:
        raise DataError(
            f"{path} has an unknown {column.name}", got=unknown[:3], expected=", ".join(words), remedy="correct it"
        )
