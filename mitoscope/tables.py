"""CSV tables from outside, read as text and checked."""

from pathlib import Path

import numpy as np
import pandas as pd

from mitoscope.errors import DataError

COLUMN_LIMIT = 1000
LINE_BYTES = 1 << 20


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a table as text.

    Args:
        path: A CSV.
        columns: It must have these, without an empty cell; ``image_id`` among them must be unique.

    Raises:
        DataError: It is no such table.
    """
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
        raise DataError(f"{path} is not a usable table", got=got, expected=expected, remedy="correct it")
    for name in columns:
        if table[name].isna().any():
            row = int(np.flatnonzero(table[name].isna())[0]) + 2
            raise DataError(f"{path} has an empty {name}", got=f"line {row}", expected="one a row", remedy="correct it")
    twice = table["image_id"][table["image_id"].duplicated()]
    if len(twice):
        got = f"{twice.iloc[0]!r} twice or more and {twice.nunique()} such"
        raise DataError(f"{path} names a crop twice", got=got, expected="a unique image_id", remedy="correct it")
    return table


def check_words(path: Path, column: pd.Series, words: tuple[str, ...]) -> None:
    """Refuse a word outside of a vocabulary.

    Raises:
        DataError: Names the first such words.
    """
    unknown = sorted(set(column) - set(words))
    if unknown:
        raise DataError(
            f"{path} has an unknown {column.name}", got=unknown[:3], expected=", ".join(words), remedy="correct it"
        )
