"""Anyone's labelled crops: a folder of images, and a table of labels or two folders named by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mitoscope.classify.listing import list_crops
from mitoscope.errors import DataError
from mitoscope.scoring.labels import FolderLabels, LabelSource, LabelTable

OPTION = "--crops"


@dataclass(frozen=True)
class OwnCrops:
    """Labelled crops as `mitoscope classify --crops` and `mitoscope evaluate --labels` take them.

    Attributes:
        folder: Searched to the bottom; one crop a file. Its name is the data set's.
        labels: Where labels, cancer type (``domain``) and slide or patient (``case``) come from.
    """

    folder: Path
    labels: LabelSource

    @classmethod
    def at(cls, paths: Sequence[Path]) -> "OwnCrops":
        """The data set at the paths named on the command line, in any order: a folder, and perhaps its labels.csv."""
        folders = [path for path in paths if path.is_dir()]
        tables = [path for path in paths if path not in folders]
        if len(folders) != 1 or len(tables) > 1:
            raise DataError(
                f"{OPTION} is not understood",
                got=[str(path) for path in paths],
                expected="one folder of crops, and its labels.csv unless the crops lie in Atypical/ and Normal/",
                remedy="correct the paths; repeat the option for another folder",
            )
        return cls(folders[0], LabelTable(tables[0]) if tables else FolderLabels())

    def rows(self) -> pd.DataFrame:
        """One row a crop, by name; see `mitoscope.training.data.sources.Source`.

        A crop that the table does not name is left out, with a line that counts them.

        Raises:
            DataError: The table is none, or names a crop that the folder lacks; or a crop's folder names no class.
        """
        files = pd.DataFrame(list_crops([self.folder]).files, columns=["image_id", "path"])
        labels = self.labels.read(files["image_id"])
        if missing := sorted(set(labels["image_id"]) - set(files["image_id"])):
            raise DataError(
                f"{self.folder} lacks crops that have a label",
                got=f"{len(missing)}, such as {missing[0]}",
                expected="a file for each image_id, which is its path below the folder",
                remedy="complete the folder, or correct the labels",
            )
        rows = files.merge(labels, on="image_id")
        if len(rows) < len(files):
            print(f"left out {len(files) - len(rows)} crops of {self.folder} that have no label")
        name = self.folder.resolve().name
        return rows.assign(image_id=f"{name}/" + rows["image_id"], source=name, cohort=name)
