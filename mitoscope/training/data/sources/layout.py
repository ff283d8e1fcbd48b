"""What the published layouts share: tables with named columns, words for the two classes, folders of PNG crops."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mitoscope.classify.task import CLASS_NAMES, LABEL_NAMES
from mitoscope.errors import DataError

BREAST = "human breast cancer"
NMF_AMF = {name: LABEL_NAMES[name] for name in ("NMF", "AMF")}


def check_exist(option: str, paths: Sequence[Path]) -> None:
    """Check the paths that a user names after one option.

    Raises:
        DataError: One does not exist.
    """
    if missing := [path for path in paths if not path.exists()]:
        raise DataError(
            f"{missing[0]} does not exist",
            got="no such file or folder",
            expected=f"the data set after {option}",
            remedy="correct the path",
        )


def find_parts(option: str, paths: Sequence[Path], unpacked_as: str = "") -> tuple[list[Path], Path | None]:
    """Find the tables and the folder of crops among the paths that a user names after one option, in any order.

    Args:
        option: The option, for the error.
        paths: CSVs and at most one folder.
        unpacked_as: The subfolder that holds the crops where the data set was unpacked as published.

    Returns:
        The CSVs: those named or, where none is, those in the folder. The folder of crops, or None without PNGs.

    Raises:
        DataError: A path is neither, or two folders are named.
    """
    check_exist(option, paths)
    folders = [path for path in paths if path.is_dir()]
    tables = [path for path in paths if path not in folders]
    if len(folders) > 1 or any(path.suffix.lower() != ".csv" for path in tables):
        raise DataError(
            f"{option} is not understood",
            got=[str(path) for path in paths],
            expected="at most one folder, and CSVs",
            remedy=f"name them after {option}",
        )
    if not folders:
        return tables, None
    crops = folders[0] / unpacked_as if (folders[0] / unpacked_as).is_dir() else folders[0]
    has_crops = next(crops.rglob("*.png"), None) is not None
    return tables or sorted(folders[0].glob("*.csv")), crops if has_crops else None


def one_table(option: str, tables: list[Path], name: str) -> Path:
    """The only table.

    Raises:
        DataError: There is none, or more than one.
    """
    if len(tables) != 1:
        raise DataError(
            f"{option} needs one table",
            got=[str(path) for path in tables],
            expected=f"{name}, named or in the folder",
            remedy=f"name it after {option}",
        )
    return tables[0]


def read_csv(path: Path, columns: Sequence[str], may_be_empty: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV that must have the named columns, with a value in every cell of them.

    Args:
        path: The file.
        columns: What it must have.
        may_be_empty: Those of the columns in which a cell may be empty.

    Raises:
        DataError: It cannot be read, or a column or a value is missing.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", got=error, expected="a CSV", remedy="download it again") from error
    remedy = "use the published table"
    if lacking := [name for name in columns if name not in table.columns]:
        missing = f"no {', no '.join(lacking)}"
        raise DataError(f"{path} lacks columns", got=missing, expected=", ".join(columns), remedy=remedy)
    empty = table[[name for name in columns if name not in may_be_empty]].isna().sum()
    if empty.any():
        got = empty[empty > 0].to_dict()
        raise DataError(f"{path} has empty cells", got=got, expected="a value in every row", remedy=remedy)
    return table


def to_labels(column: pd.Series, classes: Mapping[str, str], path: Path) -> pd.Series:
    """A published column in our words, ``normal`` and ``atypical``.

    Args:
        column: Of the table.
        classes: Our word by the published one.
        path: The table, for the error.

    Raises:
        DataError: A label is outside the vocabulary.
    """
    words = column.astype(str)
    if unknown := sorted(set(words) - set(classes)):
        raise DataError(
            f"{path} has unknown labels in the column {column.name}",
            got=unknown[:3],
            expected=" or ".join(classes),
            remedy="use the published table",
        )
    return words.map(dict(classes))


def to_votes(columns: pd.DataFrame, classes: Mapping[str, str], path: Path) -> pd.Series:
    """The share of the experts asked who chose atypical: float in [0, 1]; an empty cell is an expert not asked."""
    votes = {name: to_labels(columns[name].dropna(), classes, path) == CLASS_NAMES[1] for name in columns}
    return pd.DataFrame(votes, index=columns.index).astype(float).mean(axis=1)


def to_pixels(column: pd.Series, path: Path) -> pd.Series:
    """A column of coordinates as Int64, which also holds rows without coordinates.

    Raises:
        DataError: One is not a whole number.
    """
    try:
        return column.astype("Int64")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path} has unusable coordinates in the column {column.name}",
            got=error,
            expected="whole pixels",
            remedy="use the published table",
        ) from error


def list_crops(folder: Path | None) -> pd.DataFrame:
    """One row a PNG of ``Atypical/`` and ``Normal/``, by class and name: ``image_id`` (the stem), path, label."""
    found = [
        (path.stem, str(path), label)
        for label in CLASS_NAMES
        for path in (sorted((folder / label.capitalize()).glob("*.png")) if folder else [])
    ]
    return pd.DataFrame(found, columns=["image_id", "path", "label"])


def counted(rows: pd.DataFrame, name: str, published: Mapping[Any, int], by: Sequence[str] = ("label",)) -> None:
    """Check the rows against the published counts.

    Args:
        rows: One row a crop.
        name: Of the data set, for the error.
        published: Crops of each class; where ``by`` has several columns, of each combination.
        by: The columns that are counted.

    Raises:
        DataError: Names the counts that differ.
    """
    got = {key if len(by) > 1 else key[0]: len(group) for key, group in rows.groupby(list(by))}
    if wrong := {key: got.get(key, 0) for key in {**published, **got} if got.get(key) != published.get(key)}:
        raise DataError(
            f"{name} is not the published one",
            got=wrong,
            expected=str({key: published.get(key, 0) for key in wrong}),
            remedy="download all of its current version again",
        )
