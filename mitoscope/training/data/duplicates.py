"""One crop of each mitotic figure: copies, and figures with two labels, are reported and removed."""

import pandas as pd

from mitoscope.training.data.table import KNOWN_BY_SOME

BY_NAME = ("image_id",)
BY_PLACE = ("case", "x_px", "y_px")
BY_PIXELS = ("sha256",)
WORDS = {BY_NAME: "the same file", BY_PLACE: "the same place of the same slide", BY_PIXELS: "the same pixels"}


def remove_duplicates(rows: pd.DataFrame, by: tuple[str, ...]) -> pd.DataFrame:
    """Keep the first of the rows that agree, and none where their labels differ; print what was removed.

    Args:
        rows: One row a crop; the index is kept.
        by: `BY_NAME`, `BY_PLACE` or `BY_PIXELS`. A row without a value in one of the columns has no copies.

    Returns:
        The rows that stay. Values that one of them lacks (the scanner, say, or a crop) are taken from its copies.
    """
    known = rows[rows[list(by)].notna().all(axis=1)]
    copies = known[known.duplicated(list(by), keep=False)]
    groups = copies.groupby(list(by))
    conflicting = groups["label"].transform("nunique") > 1
    again = copies.duplicated(list(by)) & ~conflicting
    for _, group in copies[conflicting].groupby(list(by), sort=False):
        named = ", ".join(f"{image_id} ({label})" for image_id, label in group[["image_id", "label"]].to_numpy())
        print(f"removed {named}: two labels for {WORDS[by]}")
    for source, count in copies.loc[again, "source"].value_counts().items():
        print(f"removed {count} crops of {source}: {WORDS[by]} came before")
    filled = rows.copy()
    for column in ("path", *KNOWN_BY_SOME):
        filled.loc[copies.index, column] = groups[column].transform("first")
    return filled.drop(index=copies.index[conflicting | again])
