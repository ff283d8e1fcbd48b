"""The table that every later step reads, one row a crop; and the crops in one array beside it."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import DataError
from mitoscope.files import written_whole
from mitoscope.images import CROP_PX
from mitoscope.scoring.detection.tables import FIGURE, HARD_NEGATIVE
from mitoscope.training.data.samples import find_rows

COLUMNS = (
    "image_id",  # source/name; no two rows have the same
    "path",  # of the crop, or of the region of interest that it was cut from
    "label",  # a word of one of CLASSES
    "domain",  # cancer type; empty where the source does not name it
    "case",  # slide, named alike in all sources; empty where it is not known
    "source",  # data set
    "sha256",  # of the crop's pixels
)
KNOWN_BY_SOME = (
    "part",  # train or test of the published AMi-Br benchmark
    "cohort",  # MIDOG21 or TUPAC16 in AMi-Br, else the source
    "scanner",
    "species",  # human or canine
    "x_px",  # the figure's centre in the slide's pixels
    "y_px",
    "atypical_votes",  # share of the experts asked, in [0, 1]
    "subclass_1",  # one of SUBCLASSES, by each of two experts
    "subclass_2",
)
CLASSES = (CLASS_NAMES, (HARD_NEGATIVE, FIGURE))  # of each task that crops are labelled for; positive last
TRAINED_ON = ["image_id", "label", "case", "sha256", "atypical_votes", "subclass_1", "subclass_2"]
SUBCLASSES = (
    "NMF prometaphase",
    "NMF metaphase",
    "NMF ring shape",
    "NMF anaphase-telophase",
    "AMF segregation",
    "AMF bipolar assymetric",  # spelt so in the published table
    "AMF multipolar",
    "AMF other",
)


@dataclass(frozen=True)
class CropData:
    """A prepared data folder.

    Attributes:
        table: One row a crop with `COLUMNS` and `KNOWN_BY_SOME`; empty where a source does not know.
        crops: uint8 (N, 128, 128, 3), RGB, memory-mapped, in the table's order.
    """

    task: ClassVar[str] = "classify"

    table: pd.DataFrame
    crops: np.ndarray

    @cached_property
    def sha256(self) -> str:
        """A hash of all that a fit is trained on; a finished fit is skipped only if it is the same."""
        return hashlib.sha256(self.table[TRAINED_ON].to_csv(index=False).encode()).hexdigest()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Which of `CLASSES` the labels belong to; the last one is positive."""
        labels = set(self.table["label"])
        return next((classes for classes in CLASSES if labels <= set(classes)), CLASS_NAMES)

    @property
    def is_atypical(self) -> np.ndarray:
        """bool (N,): the label is the positive class, *atypical* or *mitotic figure*."""
        return np.asarray(self.table["label"] == self.classes[-1])

    def rows_of(self, image_ids: list[str]) -> np.ndarray:
        """int64 (n,): the rows of these crops, in the same order."""
        return find_rows(self.table, image_ids)

    def check_part(self, name: str, rows: np.ndarray) -> None:
        """Refuse a fold or a hold-out of one class."""
        if len(set(self.is_atypical[rows])) < 2:
            raise DataError(
                f"{name} holds one class only",
                got=f"{len(rows)} crops",
                expected=f"{' and '.join(self.classes)}; metrics need both",
                remedy="label crops of both, or hold out other crops",
            )


def write_data(folder: Path, table: pd.DataFrame, crops: np.ndarray) -> None:
    """Write crops.npy and table.csv, each whole or not at all; table.csv is never beside the crops of another.

    A process that has mapped the old crops keeps them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "table.csv") as new_table:
        table.to_csv(new_table, index=False)
        with written_whole(folder / "crops.npy") as new_crops:
            with new_crops.open("wb") as file:
                np.save(file, crops)
            (folder / "table.csv").unlink(missing_ok=True)


def read_data(folder: Path) -> CropData:
    """Read a folder that `prepare` wrote.

    Raises:
        DataError: A file or a column is missing, a label is outside the vocabulary, or the lengths differ.
    """
    remedy = f"run mitoscope train prepare … --out {folder}"
    if (folder / "labels.csv").is_file() and not (folder / "table.csv").is_file():
        raise DataError(
            f"no usable data in {folder}",
            got="labels alone",
            expected="table.csv and crops.npy",
            remedy=f"{remedy} without --labels-only",
        )
    try:
        table = pd.read_csv(folder / "table.csv", dtype={"image_id": str, "case": str})
        crops = np.load(folder / "crops.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"no usable data in {folder}", got=error, expected="table.csv and crops.npy, both complete", remedy=remedy
        ) from error
    lacking = [name for name in (*COLUMNS, *KNOWN_BY_SOME) if name not in table.columns]
    labels = set(map(str, table.get("label", [])))
    unknown = [] if any(labels <= set(classes) for classes in CLASSES) else sorted(labels)[:3]
    surplus = [] if crops.shape == (len(table), CROP_PX, CROP_PX, 3) and crops.dtype == np.uint8 else crops.shape
    for what, got, expected in (
        ("table.csv lacks columns", lacking, str(COLUMNS)),
        ("table.csv has unknown labels", unknown, " or ".join(map(str, CLASSES))),
        ("crops.npy is not the table's", surplus, f"{len(table)} uint8 crops of {CROP_PX} px"),
    ):
        if got:
            raise DataError(f"{folder}/{what}", got=got, expected=expected, remedy=remedy)
    return CropData(table, crops)
