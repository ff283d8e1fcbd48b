"""Anyone's labelled crops: a folder of images, and a table of labels or two folders named by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mitoscope.classify.listing import list_crops
from mitoscope.errors import DataError
from mitoscope.scoring.labels import FolderLabels, read_labels
from mitoscope.tables import check_words
from mitoscope.training.data.sources.layout import check_exist

OPTION = "--crops"
PARTS = ("train", "test")


@dataclass(frozen=True)
class OwnCrops:
    """Labelled crops as `mitoscope classify --crops` and `mitoscope evaluate --labels` take them.

    Attributes:
        folder: Searched to the bottom; one crop a file. Its name is the data set's.
        table: labels.csv (see `mitoscope.scoring.labels.read_labels`), in which a column ``part`` is read, too. None:
            each crop lies in a folder named by its class.
    """

    folder: Path
    table: Path | None = None

    @classmethod
    def at(cls, paths: Sequence[Path]) -> "OwnCrops":
        """The data set at the paths named on the command line, in any order: a folder, and perhaps its labels.csv."""
        check_exist(OPTION, paths)
        folders = [path for path in paths if path.is_dir()]
        tables = [path for path in paths if path not in folders]
        if len(folders) != 1 or len(tables) > 1 or any(path.suffix.lower() != ".csv" for path in tables):
            raise DataError(
                f"{OPTION} is not understood",
                got=" ".join(map(str, paths)),
                expected="one folder of crops, and its labels.csv unless the crops lie in Atypical/ and Normal/",
                remedy="correct the paths; repeat the option for another folder",
            )
        return cls(folders[0], *tables)

    @staticmethod
    def _read_table(path: Path) -> pd.DataFrame:
        """The labels, and ``part`` in lower case."""
        labels = read_labels(path, ("part",))
        part = labels["part"].str.strip().str.lower()
        check_words(path, part.dropna(), PARTS)
        return labels.assign(part=part)

    def rows(self) -> pd.DataFrame:
        """One row a crop, by name; see `mitoscope.training.data.sources.Source`.

        Prints how many crops and cases there are, and how many crops are left out since the table does not name them.

        Raises:
            DataError: The table is none, or names a crop that the folder lacks; or a crop's folder names no class.
        """
        files = pd.DataFrame(list_crops([self.folder]).files, columns=["image_id", "path"])
        labels = self._read_table(self.table) if self.table else FolderLabels().read(files["image_id"])
        if missing := sorted(set(labels["image_id"]) - set(files["image_id"])):
            raise DataError(
                f"{self.folder} lacks crops that {self.table} names",
                got=f"{len(missing)}, such as {missing[0]}",
                expected=f"paths below the folder, such as {files['image_id'].iloc[0]}; one crop a file",
                remedy="correct image_id, or add the crops",
            )
        rows = files.merge(labels, on="image_id")
        name, loose = self.folder.resolve().name, int(rows["case"].isna().sum())
        print(
            f"{name}: {len(rows):,} crops of {rows['case'].nunique():,} cases"
            + (f"; {loose:,} without a case stay together" if loose else "")
            + (f"; left out {len(files) - len(rows):,} crops that have no label" if len(rows) < len(files) else "")
        )
        return rows.assign(image_id=f"{name}/" + rows["image_id"], source=name, cohort=name)
