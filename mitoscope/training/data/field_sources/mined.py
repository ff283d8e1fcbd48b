"""Mined hard negatives, added to the fields that they were found in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mitoscope.errors import DataError
from mitoscope.scoring.detection.tables import HARD_NEGATIVE, PIXELS, read_truth
from mitoscope.training.data.field_sources.layout import LabelledFields


def add_mined(sources: Sequence[LabelledFields], table: Path) -> list[LabelledFields]:
    """Add the points of a truth.csv to fields that are read from their own data sets.

    Args:
        sources: The data sets.
        table: As `mitoscope train mine --study` writes it: its images are named ``source/file``.

    Raises:
        DataError: The file is no such table, or names an image that no data set holds.
    """
    mined = read_truth(table, (HARD_NEGATIVE,))
    mined = mined[mined["label"].notna()].rename(columns={"image": "image_id"})[["image_id", *PIXELS, "label"]]
    mined = mined.assign(is_mined=True)
    known = {str(name) for source in sources for name in source.fields["image_id"]}
    if missing := sorted(set(mined["image_id"]) - known):
        raise DataError(
            f"{table} names fields that no data set holds",
            got=f"{len(missing)} such, the first is {missing[0]}",
            expected="fields of the data sets of this command, as source/file",
            remedy="add the data sets that it was mined from; for other images use --truth",
        )
    added = []
    for source in sources:
        own = mined[mined["image_id"].isin(source.fields["image_id"])]
        added.append(replace(source, points=pd.concat([source.points, own], ignore_index=True)) if len(own) else source)
    return added
