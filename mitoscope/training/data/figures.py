"""Labelled points of fields → crops of mitotic figures and look-alikes, in the folder that classifiers train on."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mitoscope.errors import DataError
from mitoscope.images import CROP_PX
from mitoscope.markdown import render_table
from mitoscope.progress import progress
from mitoscope.scoring.detection.tables import FIGURE, HARD_NEGATIVE, LABELS
from mitoscope.training.data.duplicates import BY_NAME, BY_PIXELS, remove_duplicates
from mitoscope.training.data.field_sources.layout import LabelledFields
from mitoscope.training.data.prepare_fields import list_records, move_points, read_field
from mitoscope.training.data.rois import cut_crop
from mitoscope.training.data.table import COLUMNS, KNOWN_BY_SOME, write_data

CROP_MPP = 0.25  # as the published crops


def prepare_figures(sources: Sequence[LabelledFields], out: Path, read_as: float | None = None) -> pd.DataFrame:
    """Cut a crop around every labelled point, at .25 µm per pixel, and write the data folder.

    A crop at the border of its field is black outside, as the published crops are. Points of other labels than
    mitotic figure and hard negative are reported and left out.

    Args:
        sources: The data sets.
        out: The folder to write.
        read_as: See `mitoscope.training.data.prepare_fields.prepare_fields`.

    Returns:
        The table as written; ``x_px`` and ``y_px`` are pixels of the field as published, ``cohort`` is the data set.

    Raises:
        DataError: A field cannot be read, a point is outside of its field, or no point of a class is left.
    """
    fields = pd.concat([source.fields for source in sources], ignore_index=True)
    points = _take_labelled(pd.concat([source.points for source in sources], ignore_index=True))
    of_field = {str(name): part for name, part in points.groupby("image_id")}
    fields = fields[fields["image_id"].isin(of_field)]
    rows, crops = [], []
    with progress(len(fields), unit="fields", what="cutting") as bar:
        for field in list_records(fields):
            pixels, read = read_field(field, CROP_MPP, read_as)
            height, width, _ = pixels.shape
            published = of_field[field["image_id"]]
            moved = move_points(published, field["path"], read, (width, height))
            for (x, y, label), (x_new, y_new) in zip(
                published[["x_px", "y_px", "label"]].to_numpy(), moved[["x_px", "y_px"]].to_numpy(), strict=True
            ):
                crop = cut_crop(pixels, round(x_new), round(y_new))
                image_id = f"{field['image_id']}/{round(x)}_{round(y)}"
                known = {name: field[name] for name in ("path", "domain", "case", "source")}
                place = {"x_px": round(x), "y_px": round(y), "cohort": field["source"]}
                digest = hashlib.sha256(crop.tobytes()).hexdigest()
                rows.append({"image_id": image_id, "label": label, **known, **place, "sha256": digest})
                crops.append(crop)
            bar.update()
    table = pd.DataFrame(rows).reindex(columns=[*COLUMNS, *KNOWN_BY_SOME])
    for by in (BY_NAME, BY_PIXELS):
        table = remove_duplicates(table, by)
    _check_classes(table)
    write_data(out, table.reset_index(drop=True), np.stack([crops[row] for row in table.index]))
    return table.reset_index(drop=True)


def _take_labelled(points: pd.DataFrame) -> pd.DataFrame:
    """The points of the two labels."""
    labelled = points["label"].isin(LABELS)
    if not labelled.all():
        print(f"left out {(~labelled).sum()} points of other labels: {sorted(set(points.loc[~labelled, 'label']))[:5]}")
    return points[labelled]


def _check_classes(table: pd.DataFrame) -> None:
    """Refuse crops of one class."""
    found = table["label"].value_counts().to_dict()
    if set(found) != set(LABELS):
        raise DataError(
            f"the points give no crops of {CROP_PX} px of both classes",
            got=found or "no point",
            expected=f"some of {FIGURE} and of {HARD_NEGATIVE}",
            remedy="add a data set that labels both",
        )


def format_figure_counts(table: pd.DataFrame) -> str:
    """Crops and slides of each data set, as a Markdown table."""
    rows = []
    for source, crops in table.groupby("source", sort=False):
        counts = crops["label"].value_counts()
        rows.append([str(source), str(crops["case"].nunique() or "unknown")])
        rows[-1] += [f"{counts.get(label, 0):,}" for label in LABELS]
    return render_table(("data set", "slides", *LABELS), rows)
