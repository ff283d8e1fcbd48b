"""CSV tables from outside, read as text and checked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mitoscope.errors import DataError

COLUMN_LIMIT = 1000
LINE_BYTES = 1 << 20


def read_csv(
    path: Path, columns: tuple[str, ...], *, with_gaps: tuple[str, ...] = (), may_be_empty: bool = False
) -> pd.DataFrame:
    """Read a table as text.

    Args:
        path: A CSV.
        columns: It must have these, without an empty cell; ``image_id`` among them must be unique.
        with_gaps: It must have these, too; their cells may be empty.
        may_be_empty: The columns without a row are a table, too.

    Raises:
        DataError: It is no such table.
    """
    expected = f"a CSV in UTF-8, separated by commas, with the columns {', '.join([*columns, *with_gaps])}"
    try:
        with path.open("rb") as file:  # pandas takes minutes for a million columns
            if max(file.readline(LINE_BYTES).count(b",") for _ in range(2)) >= COLUMN_LIMIT:
                raise ValueError(f"more than {COLUMN_LIMIT} columns")
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("rows with more cells than there are columns")  # pandas would take the first for names
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist", got="no such file", expected=expected, remedy="correct the path"
        ) from error
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path} cannot be read", got=error, expected=expected, remedy="correct it") from error
    lacking = [name for name in (*columns, *with_gaps) if name not in table]
    if lacking or (table.empty and not may_be_empty):
        got = f"no {', no '.join(lacking)}, but {', '.join(map(str, table.columns[:10]))}" if lacking else "no rows"
        raise DataError(f"{path} is not a usable table", got=got, expected=expected, remedy="correct it")
    check_filled(path, table, columns)
    if "image_id" in columns and table["image_id"].duplicated().any():
        twice = table["image_id"][table["image_id"].duplicated()]
        got = f"{twice.iloc[0]!r} twice or more and {twice.nunique()} such"
        raise DataError(f"{path} names a crop twice", got=got, expected="a unique image_id", remedy="correct it")
    return table


def check_filled(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse an empty cell in some columns.

    Args:
        path: The table's, for the message.
        table: As `read_csv` gives it, or some of its rows.
        columns: Those without an empty cell.

    Raises:
        DataError: Names the first line with one.
    """
    for name in columns:
        if table[name].isna().any():
            line = int(table.index[table[name].isna()][0]) + 2
            raise DataError(
                f"{path} has an empty {name}", got=f"line {line}", expected="one a row", remedy="correct it"
            )


def take_known(path: Path, table: pd.DataFrame, columns: tuple[str, ...], known: tuple[str, ...]) -> pd.DataFrame:
    """Take columns that a table has, and others that it may have.

    Args:
        path: The table's, for the message.
        table: As `read_csv` gives it.
        columns: Those that it has.
        known: Those that it may have; None where a cell is empty or the column is missing.

    Raises:
        DataError: A known column is misspelt.
    """
    misspelt = [name for name in table if str(name).strip().lower() in known and name not in known]
    if misspelt:
        raise DataError(f"{path} has misspelt columns", got=misspelt, expected=str(known), remedy="rename them")
    return table.reindex(columns=[*columns, *known]).astype(object).where(lambda t: t.notna(), None)


def parse_numbers(path: Path, table: pd.DataFrame, name: str, key: str, *, shares: bool = False) -> pd.Series:
    """Turn a column of text into finite numbers.

    Args:
        path: The table's, for the message.
        table: As `read_csv` gives it.
        name: The column.
        key: The column that names a row in the message.
        shares: They are probabilities, in [0, 1].

    Returns:
        float64.

    Raises:
        DataError: A value is no such number.
    """
    values = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
    wrong = table[~(values.between(0, 1) if shares else np.isfinite(values))]  # a NaN is neither
    if len(wrong):
        row = wrong.iloc[0]
        raise DataError(
            f"{path}: {name} is no {'probability' if shares else 'number'}",
            got=f"{row[name]} for {row[key]!r} and {len(wrong)} such in all",
            expected="numbers in [0, 1]" if shares else "finite numbers",
            remedy="correct it",
        )
    return values


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
