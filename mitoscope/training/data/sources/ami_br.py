"""AMi-Br: Bertram et al. 2025, "Histologic Dataset of Normal and Atypical Mitotic Figures on Human Breast Cancer"."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mitoscope.errors import DataError
from mitoscope.training.data.sources.layout import (
    BREAST,
    counted,
    find_parts,
    one_table,
    read_csv,
    to_labels,
    to_pixels,
    to_votes,
)
from mitoscope.training.data.table import SUBCLASSES

COUNTS = {"atypical": 832, "normal": 2888}
CLASSES = {"False": "normal", "True": "atypical"}
SAME = {name: name for name in SUBCLASSES}
EXPERTS = [f"expert{k}_atypical" for k in (1, 2, 3)]
COLUMNS = ["slide", "dataset", "uid", "x", "y", "majority_atypical", *EXPERTS, "expert1_label", "expert2_label"]


@dataclass(frozen=True)
class AmiBr:
    """AMi-Br: human breast cancer from MIDOG21 and TUPAC16, with slides, votes and two experts' sub-classes.

    The layout is that of github.com/DeepMicroscopy/AMi-Br. ``x`` and ``y`` are the figure's centre in the slide's
    pixels; the crop is the window from 64 px before to 64 px after it (see `mitoscope.training.data.rois`).

    Attributes:
        table: The published AMI-BR.csv.
        crops: Holds ``Atypical/`` and ``Normal/`` with ``<dataset>_<uid>.png``. Optional.
        train_split: The published benchmark's list of its train part (github.com/DeepMicroscopy/AMi-Br_Benchmark);
            the rest is its test part. Optional.
    """

    table: Path
    crops: Path | None = None
    train_split: Path | None = None

    @classmethod
    def at(cls, paths: Sequence[Path]) -> "AmiBr":
        """The data set at the paths named on the command line; a CSV with "split" in its name is the train split."""
        tables, crops = find_parts("--ami-br", paths, unpacked_as="patches")
        splits = [path for path in tables if "split" in path.stem]
        table = one_table("--ami-br", [path for path in tables if path not in splits], "AMI-BR.csv")
        return cls(table, crops, one_table("--ami-br", splits, "one train split") if splits else None)

    def rows(self) -> pd.DataFrame:
        """One row a crop, in the published table's order; see `mitoscope.training.data.sources.Source`."""
        published = read_csv(self.table, COLUMNS)
        names = published["dataset"] + "_" + published["uid"].astype(str)
        label = to_labels(published["majority_atypical"], CLASSES, self.table)
        rows = pd.DataFrame(
            {
                "image_id": "AMi-Br/" + names,
                "label": label,
                "domain": BREAST,
                "case": published["dataset"] + "/" + published["slide"],
                "source": "AMi-Br",
                "cohort": published["dataset"],
                "species": "human",
                "x_px": to_pixels(published["x"], self.table),
                "y_px": to_pixels(published["y"], self.table),
                "atypical_votes": to_votes(published[EXPERTS], CLASSES, self.table),
                "subclass_1": to_labels(published["expert1_label"], SAME, self.table),
                "subclass_2": to_labels(published["expert2_label"], SAME, self.table),
            }
        )
        if self.crops:
            rows["path"] = f"{self.crops}/" + label.str.capitalize() + "/" + names + ".png"
        if self.train_split:
            rows["part"] = self._parts(names, self.train_split)
        counted(rows, "AMi-Br", COUNTS)
        return rows

    def _parts(self, names: pd.Series, train_split: Path) -> list[str]:
        """``train`` or ``test`` for each crop."""
        listed = set(read_csv(train_split, ["dataset_uid"])["dataset_uid"])
        if unknown := listed - {f"{name}.png" for name in names}:
            raise DataError(
                f"{train_split} names crops that {self.table} has not",
                got=sorted(unknown)[:3],
                expected="the split of this very table",
                remedy="use the published split",
            )
        return ["train" if f"{name}.png" in listed else "test" for name in names]
