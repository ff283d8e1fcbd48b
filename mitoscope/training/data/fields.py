"""Fields with labelled points: one table of fields, one of points, and all pixels in one file beside them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
import pandas as pd

from mitoscope.errors import DataError
from mitoscope.files import written_whole
from mitoscope.scoring.detection.tables import HARD_NEGATIVE
from mitoscope.training.data.samples import find_rows

NO_POINT = "none"
FIELDS, POINTS, PIXELS = "fields.csv", "points.csv", "pixels.bin"
FIELD_COLUMNS = (
    "image_id",  # source/name; no two rows have the same
    "path",  # of the image that was read
    "label",  # of its points, mined ones left out: they change no fold; "hard negative + mitotic figure", or none
    "domain",  # cancer type; empty where it is not known
    "case",  # slide, named alike in all sources; empty where it is not known
    "source",  # data set
    "part",  # `TRAIN_ONLY`, or empty
    "width_px",  # as stored
    "height_px",
    "mpp",  # µm per pixel as stored, the same in all rows
    "read_mpp",  # that of the image
    "sha256",  # of the stored pixels
)
POINT_COLUMNS = ("image_id", "x_px", "y_px", "label")  # in pixels as stored, from the field's corner


@dataclass(frozen=True)
class FieldData:
    """A prepared folder of fields.

    Attributes:
        table: One row a field with `FIELD_COLUMNS`.
        points: One row a labelled point with `POINT_COLUMNS`. A label is a class, or `HARD_NEGATIVE`.
        pixels: uint8, memory-mapped: all fields one after the other, each (height, width, 3), RGB.
    """

    task: ClassVar[str] = "detect"

    table: pd.DataFrame
    points: pd.DataFrame
    pixels: np.ndarray

    @cached_property
    def sha256(self) -> str:
        """See `mitoscope.training.data.samples.Samples`."""
        used = self.table[["image_id", "case", "source", "mpp", "sha256"]].to_csv(index=False)
        return hashlib.sha256((used + self.points[list(POINT_COLUMNS)].to_csv(index=False)).encode()).hexdigest()

    @property
    def mpp(self) -> float:
        """µm per pixel of all fields."""
        return float(self.table["mpp"].iloc[0])

    def rows_of(self, image_ids: list[str]) -> np.ndarray:
        """int64 (n,): the rows of these fields, in the same order."""
        return find_rows(self.table, image_ids)

    def check_part(self, name: str, rows: np.ndarray) -> None:
        """Refuse a fold or a hold-out without a figure."""
        if not (self.points_of(rows)["label"] != HARD_NEGATIVE).any():
            raise DataError(
                f"{name} holds no figure",
                got=f"{len(rows)} fields",
                expected="at least one point of a class; metrics need it",
                remedy="hold out other fields",
            )

    def points_of(self, rows: np.ndarray) -> pd.DataFrame:
        """The points of some fields, with a column ``row``."""
        chosen = self.points.assign(row=self.point_rows)
        return chosen[chosen["row"].isin(rows)]

    @cached_property
    def point_rows(self) -> np.ndarray:
        """int64: the field's row of each point."""
        return find_rows(self.table, self.points["image_id"].tolist())

    def field(self, row: int) -> np.ndarray:
        """uint8 (H, W, 3): a view into the memory map."""
        height, width = self.table[["height_px", "width_px"]].to_numpy()[row]
        start = self._starts[row]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)

    @cached_property
    def _starts(self) -> np.ndarray:
        """Where each field's bytes start."""
        return np.concatenate([[0], count_bytes(self.table).cumsum()])


def count_bytes(table: pd.DataFrame) -> np.ndarray:
    """int64 (N,): the bytes of each field."""
    return np.asarray(table["height_px"].astype("int64") * table["width_px"].astype("int64") * 3)


@contextmanager
def writing_fields(folder: Path) -> Iterator[tuple[BinaryIO, list[pd.DataFrame]]]:
    """Write the three files, each whole or not at all; fields.csv is never beside the pixels of another.

    Yields:
        The open file of pixels, and a list that takes the two tables before the block ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[pd.DataFrame] = []
    with (
        written_whole(folder / FIELDS) as new_fields,  # renamed last
        written_whole(folder / POINTS) as new_points,
        written_whole(folder / PIXELS) as new_pixels,
    ):
        with new_pixels.open("wb") as file:
            yield file, tables
        fields, points = tables
        fields.to_csv(new_fields, index=False)
        points.to_csv(new_points, index=False)
        (folder / FIELDS).unlink(missing_ok=True)


def read_fields(folder: Path) -> FieldData:
    """Read a folder that `mitoscope.training.data.prepare_fields.prepare_fields` wrote.

    Raises:
        DataError: A file or a column is missing, or the files do not belong together.
    """
    remedy = f"run mitoscope train prepare … --out {folder}"
    try:
        table = pd.read_csv(folder / FIELDS, dtype={"image_id": str, "case": str, "domain": str, "part": str})
        points = pd.read_csv(folder / POINTS, dtype={"image_id": str, "label": str}, keep_default_na=False)
        lacking = [*set(FIELD_COLUMNS) - set(table), *set(POINT_COLUMNS) - set(points)]
        if lacking:
            raise ValueError(f"no column {min(lacking)}")
        pixels = np.memmap(folder / PIXELS, np.uint8, "r")
        if table["mpp"].nunique() != 1 or pixels.size != count_bytes(table).sum():
            raise ValueError(f"{pixels.size:,} bytes for fields of {count_bytes(table).sum():,}")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"no usable fields in {folder}",
            got=error,
            expected=f"{FIELDS}, {POINTS} and {PIXELS}, all complete",
            remedy=remedy,
        ) from error
    return FieldData(table, points, pixels)
