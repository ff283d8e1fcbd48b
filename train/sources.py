"""Readers of the published data sets' own layouts: each gives rows of the one table and checks the counts."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from model.contract import CLASS_NAMES
from model.errors import DataError

AMI_BR_COUNTS = {"atypical": 832, "normal": 2888}
ATNORM_BR_COUNTS = {"atypical": 128, "normal": 618}
BREAST = "human breast cancer"


@dataclass(frozen=True)
class AmiBr:
    """AMi-Br: human breast cancer from MIDOG21 and TUPAC16, with slides, votes and two experts' sub-classes.

    Attributes:
        folder: Holds ``Atypical/`` and ``Normal/`` with ``<dataset>_<uid>.png``.
        table: The published AMI-BR.csv.
        train_split: The published benchmark's list of its train part; the rest is its test part. Optional.
    """

    folder: Path
    table: Path
    train_split: Path | None = None

    def rows(self) -> pd.DataFrame:
        """One row a crop, in the published table's order."""
        experts = [f"expert{k}_atypical" for k in (1, 2, 3)]
        subclasses = ["expert1_label", "expert2_label"]
        published = _read_csv(self.table, ["slide", "dataset", "uid", "majority_atypical", *experts, *subclasses])
        names = published["dataset"] + "_" + published["uid"].astype(str)
        label = published["majority_atypical"].map({False: "normal", True: "atypical"})
        votes = published[experts].astype(float).mean(axis=1)
        rows = pd.DataFrame(
            {
                "image_id": "AMi-Br/" + names,
                "path": [
                    str(self.folder / name.capitalize() / f"{stem}.png")
                    for name, stem in zip(label, names, strict=True)
                ],
                "label": label,
                "domain": BREAST,
                "case": published["dataset"] + "/" + published["slide"],
                "source": "AMi-Br",
                "part": "",
                "atypical_votes": votes,
                "subclass_1": published["expert1_label"],
                "subclass_2": published["expert2_label"],
            }
        )
        if self.train_split:
            listed = set(_read_csv(self.train_split, ["dataset_uid"])["dataset_uid"])
            if unknown := listed - {f"{stem}.png" for stem in names}:
                raise DataError(
                    f"{self.train_split} names crops that {self.table} has not",
                    got=sorted(unknown)[:3],
                    expected="the split of this very table",
                    remedy="give the published split",
                )
            rows["part"] = ["train" if f"{stem}.png" in listed else "test" for stem in names]
        return _counted(rows, AMI_BR_COUNTS)


@dataclass(frozen=True)
class AtnormBr:
    """AtNorM-Br: TCGA breast cancer, file names without slides; ``Atypical/`` and ``Normal/`` of PNG crops."""

    folder: Path

    def rows(self) -> pd.DataFrame:
        """One row a file, by class and name."""
        found = [
            {
                "image_id": f"AtNorM-Br/{path.stem}",
                "path": str(path),
                "label": label,
                "domain": BREAST,
                "case": "",
                "source": "AtNorM-Br",
                "part": "",
            }
            for label in CLASS_NAMES
            for path in sorted((self.folder / label.capitalize()).glob("*.png"))
        ]
        return _counted(pd.DataFrame(found, columns=[*(found or [{"label": ""}])[0]]), ATNORM_BR_COUNTS)


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """A CSV that must have the named columns."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", got=error, expected="a CSV", remedy="download it again") from error
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise DataError(
            f"{path} lacks columns", got=list(table.columns), expected=str(columns), remedy="give the published table"
        )
    return table


def _counted(rows: pd.DataFrame, published: dict[str, int]) -> pd.DataFrame:
    """The rows, if they are as many of each class as was published."""
    got = rows["label"].value_counts().to_dict()
    if got != published:
        raise DataError(
            f"{rows['source'].iloc[0] if len(rows) else 'a data set'} is not the published one",
            got=got,
            expected=str(published),
            remedy="download the data set again, whole",
        )
    return rows
