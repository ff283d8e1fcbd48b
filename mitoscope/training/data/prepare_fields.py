"""Fields as published → one folder of fields at one resolution, which training maps into memory."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mitoscope.errors import DataError
from mitoscope.images.resample import resample
from mitoscope.markdown import render_table
from mitoscope.progress import progress
from mitoscope.scoring.detection.tables import HARD_NEGATIVE
from mitoscope.training.data.field_sources.layout import LabelledFields
from mitoscope.training.data.fields import (
    FIELD_COLUMNS,
    NO_POINT,
    POINT_COLUMNS,
    FieldData,
    read_fields,
    writing_fields,
)
from mitoscope.training.data.rois import open_field, read_mpp
from mitoscope.training.data.samples import TRAIN_ONLY


def prepare_fields(sources: Sequence[LabelledFields], out: Path, mpp: float, read_as: float | None = None) -> FieldData:
    """Decode every field once, resample it, and write the data folder, field by field.

    Args:
        sources: The data sets.
        out: The folder to write.
        mpp: µm per pixel of what is written.
        read_as: µm per pixel of images of which neither the data set nor the file states it.

    Returns:
        What was written.

    Raises:
        DataError: Two fields have the same name or pixels, an image cannot be read, its resolution is not known, or a
            point is outside of its field.
    """
    fields = pd.concat([_mark(source) for source in sources], ignore_index=True)
    points = pd.concat([source.points for source in sources], ignore_index=True)
    _refuse_twice(fields, "image_id", "name")
    of_field = {str(name): part for name, part in points.groupby("image_id")}
    none = points.iloc[:0]
    rows, placed = [], []
    with writing_fields(out) as (file, tables):
        with progress(len(fields), unit="fields", what="reading") as bar:
            for field in list_records(fields):
                pixels, read = read_field(field, mpp, read_as)
                height, width, _ = pixels.shape
                own = move_points(of_field.get(field["image_id"], none), field["path"], read, (width, height))
                file.write(np.ascontiguousarray(pixels).data)
                stated = own[own["is_mined"].isna()] if "is_mined" in own else own
                label = " + ".join(sorted(set(stated["label"]))) or NO_POINT
                digest = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
                sizes = {"width_px": width, "height_px": height, "mpp": mpp, "read_mpp": read[0], "sha256": digest}
                rows.append({**field, "label": label, **sizes})
                placed.append(own)
                bar.update()
        table = pd.DataFrame(rows, columns=list(FIELD_COLUMNS))
        _refuse_twice(table, "sha256", "pixels")
        tables += [table, pd.concat(placed)[list(POINT_COLUMNS)]]
    return read_fields(out)


def _mark(source: LabelledFields) -> pd.DataFrame:
    """A data set's fields with their part: one that holds no figure cannot validate."""
    part = None if (source.points["label"] != HARD_NEGATIVE).any() else TRAIN_ONLY
    return source.fields if "part" in source.fields else source.fields.assign(part=part)


def _refuse_twice(fields: pd.DataFrame, column: str, what: str) -> None:
    """Refuse two fields that agree in a column."""
    twice = fields[fields.duplicated(column, keep=False)].sort_values(column)
    if len(twice):
        raise DataError(
            f"two fields have the same {what}",
            got=f"{len(twice)} such fields: {' and '.join(twice['path'].iloc[:2])}",
            expected="each field once",
            remedy="remove one, or rename a data set's folder",
        )


def list_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Its rows as dicts."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def read_field(
    field: Mapping[str, Any], mpp: float, read_as: float | None
) -> tuple[np.ndarray, tuple[float, int, int]]:
    """Read one field.

    Args:
        field: A row of `LabelledFields`.
        mpp: µm per pixel of what is returned.
        read_as: See `prepare_fields`.

    Returns:
        uint8 (H, W, 3), its pixels at ``mpp``; and its own µm per pixel, width and height in pixels.

    Raises:
        DataError: It cannot be read, or its resolution is not known.
    """
    path = Path(field["path"])
    pixels = open_field(path)
    known = float(field["read_mpp"])
    own = read_mpp(path) or read_as if math.isnan(known) else known
    if own is None:
        raise DataError(
            f"the resolution of {path} is not known",
            got="no µm per pixel in its tags",
            expected="some",
            remedy="state that of all such images with --mpp",
        )
    height, width = pixels.shape[:2]
    return resample(pixels, round(width * own / mpp), round(height * own / mpp)), (own, width, height)


def move_points(
    points: pd.DataFrame, path: object, read: tuple[float, int, int], size: tuple[int, int]
) -> pd.DataFrame:
    """A field's points in the pixels that `read_field` returned.

    Args:
        points: In the field's own pixels.
        path: The image's, for the message.
        read: As `read_field` returns it.
        size: Width and height of the new pixels.

    Raises:
        DataError: A point is outside of the field, or has no label.
    """
    _, width, height = read
    x, y = points["x_px"].astype(float), points["y_px"].astype(float)
    inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height) & points["label"].notna()  # False for NaN
    if not inside.all():
        raise DataError(
            f"a point of {path} cannot be used",
            got=", ".join(map(str, points.loc[~inside, ["x_px", "y_px", "label"]].iloc[0])),
            expected=f"a label, and a place within {width} × {height} px",
            remedy="use the image that the table was made for",
        )
    return points.assign(x_px=(x * size[0] / width).round(2), y_px=(y * size[1] / height).round(2))


def format_field_counts(data: FieldData) -> str:
    """Fields, slides, area and points by label of each data set, as a Markdown table."""
    points = data.points.assign(source=data.table["source"].to_numpy()[data.point_rows])
    labels = sorted(points["label"].unique())
    rows = []
    for source, fields in data.table.groupby("source", sort=False):
        area_mm2 = (fields["width_px"] * fields["height_px"]).sum() * data.mpp**2 / 1e6
        counts = points.loc[points["source"] == source, "label"].value_counts()
        slides = fields["case"].nunique() or "unknown"
        rows.append([str(source), f"{len(fields):,}", str(slides), f"{area_mm2:.1f}"])
        rows[-1] += [f"{counts.get(label, 0):,}" for label in labels]
    return render_table(("data set", "fields", "slides", "mm²", *labels), rows)
