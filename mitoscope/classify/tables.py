"""predictions.csv and the record beside it: what `mitoscope classify` writes and every scoring command reads."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import DataError
from mitoscope.files import hash_file, read_json
from mitoscope.tables import check_words, parse_numbers, read_csv

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
    table = read_csv(path, PREDICTION_COLUMNS)
    members = member_columns(table)
    for name in ("p_atypical", *members):
        table[name] = parse_numbers(path, table, name, "image_id", shares=True)
    check_words(path, table["class"], CLASS_NAMES)
    return table[[*PREDICTION_COLUMNS, *members]]


def member_columns(predictions: pd.DataFrame) -> list[str]:
    """The names of the columns that hold one member's probabilities each, in the members' order."""
    return sorted(
        filter(re.compile(r"member_[0-9]{1,3}").fullmatch, map(str, predictions)), key=lambda name: int(name[7:])
    )


def record_of(predictions_csv: Path) -> Path:
    """The path of the record of a predictions.csv: its input, weights, code and threshold."""
    return predictions_csv.with_name(predictions_csv.name + ".json")


def find_record(predictions_csv: Path) -> dict[str, Any] | None:
    """The record that `predict` wrote beside a predictions.csv; None where there is none.

    Raises:
        DataError: It is no such record, or the predictions were changed after they were made.
    """
    path = record_of(predictions_csv)
    if not path.is_file():
        return None
    record = read_record(path)
    check_unchanged(predictions_csv, record["csv_sha256"])
    return record


def check_unchanged(csv: Path, sha256: str) -> None:
    """Refuse a table that differs from what its record says.

    Raises:
        DataError: It does.
    """
    if (found := hash_file(csv)) != sha256:
        name = record_of(csv).name
        raise DataError(
            f"{csv} was changed after it was made",
            got=f"sha256 {found}",
            expected=f"{sha256}, as in {name}",
            remedy=f"make it again with mitoscope; or give your own table another name, without {name} beside it",
        )


def describe_predictions(predictions_csv: Path) -> dict[str, Any]:
    """A predictions.csv's name, SHA-256 and record; the record is None where there is none."""
    return {"name": predictions_csv.name, "sha256": hash_file(predictions_csv), "record": find_record(predictions_csv)}


def find_threshold(predictions: pd.DataFrame, record: Mapping[str, Any] | None) -> float | None:
    """The threshold behind the classes.

    Args:
        predictions: As `read_predictions` gives them.
        record: Theirs, as `find_record` gives it.

    Returns:
        The record's, else that of `find_gap`. None where no threshold explains the classes, as when the winning
        class's confidence stands for P(atypical).

    Raises:
        DataError: The record's does not explain the classes.
    """
    atypical = (predictions["class"] == CLASS_NAMES[1]).to_numpy()
    p = predictions["p_atypical"].to_numpy()
    if record is None:
        return find_gap(atypical, p)
    value = float(record["bundle"]["threshold"])
    wrong = np.flatnonzero((p >= value) != atypical)
    if len(wrong):
        row = predictions.iloc[wrong[0]]
        raise DataError(
            f"{len(wrong)} classes contradict the threshold of their record",
            got=f"{row['class']} for p_atypical {row['p_atypical']} of {row['image_id']!r}, threshold {value}",
            expected="atypical from the threshold on, else normal",
            remedy="run mitoscope classify again",
        )
    return value


def find_gap(called: np.ndarray, p: np.ndarray) -> float | None:
    """The threshold behind calls.

    Args:
        called: bool (N,).
        p: float (N,) in [0, 1].

    Returns:
        The middle of the gap between the highest probability that is not called (0 where all are) and the lowest that
        is (1 where none is); None where no threshold explains the calls.
    """
    highest, lowest = p[~called].max(initial=0.0), p[called].min(initial=1.0)
    if highest < lowest:
        midway = float((highest + lowest) / 2)
        return midway if midway > highest else float(lowest)  # two neighbouring floats
    return float(lowest) if called.all() else None


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
            expected="the record that mitoscope classify writes",
            remedy="run mitoscope classify again",
        ) from error
    assert isinstance(record, dict)
    return record
