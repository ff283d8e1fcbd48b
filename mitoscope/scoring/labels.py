"""The labels that predictions are compared with: a table, or the names of the crops' folders."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pandas as pd

from mitoscope.classify.task import LABEL_NAMES
from mitoscope.errors import DataError
from mitoscope.files import hash_file
from mitoscope.tables import check_words, read_csv, take_known

BY_FOLDER = "folders"  # the word for it on the command line


class LabelSource(Protocol):
    """Where labels come from."""

    def check(self) -> None:
        """Refuse what cannot be read, before hours of work."""

    def read(self, image_ids: pd.Series) -> pd.DataFrame:
        """The labels of crops, as `read_labels` gives them."""

    def describe(self) -> Mapping[str, Any]:
        """Name and SHA-256."""


@dataclass(frozen=True)
class LabelTable:
    """A labels.csv.

    Attributes:
        path: See `read_labels`.
    """

    path: Path

    def check(self) -> None:
        """Read the table once."""
        read_labels(self.path)

    def read(self, _image_ids: pd.Series) -> pd.DataFrame:
        """The whole table."""
        return read_labels(self.path)

    def describe(self) -> Mapping[str, Any]:
        """The file's name and SHA-256."""
        return {"name": self.path.name, "sha256": hash_file(self.path)}


@dataclass(frozen=True)
class FolderLabels:
    """The crops' folders are named Atypical and Normal (or AMF and NMF), as data sets are published."""

    def check(self) -> None:
        """Nothing is known before the crops are."""

    def read(self, image_ids: pd.Series) -> pd.DataFrame:
        """Labels from names such as ``Atypical/101.png``.

        Raises:
            DataError: A crop is in a folder of another name.
        """
        found = _to_labels(image_ids.map(lambda name: PurePosixPath(name).parent.name))
        if found.isna().any():
            raise DataError(
                f"{int(found.isna().sum())} crops have no label",
                got=f"{image_ids[found.isna()].iloc[0]!r}",
                expected="each directly in a folder named Atypical, Normal, AMF or NMF",
                remedy="give the folder above those two after --crops, or a table of labels",
            )
        return pd.DataFrame({"image_id": image_ids, "label": found, "domain": None, "case": None})

    def describe(self) -> Mapping[str, Any]:
        """The word on the command line."""
        return {"name": BY_FOLDER, "sha256": None}


def parse_labels(text: str) -> LabelSource:
    """What ``--labels`` names: a table's path, or the word ``folders``."""
    return FolderLabels() if text == BY_FOLDER else LabelTable(Path(text))


def read_labels(path: Path, also: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read labels.csv; the table.csv that `mitoscope train prepare` writes is one too.

    Args:
        path: A CSV with ``image_id`` (unique), ``label`` (normal or atypical; NMF and AMF are read too; in capitals or
            not), and perhaps ``domain`` (cancer type) and ``case`` (slide or patient). Other columns are left alone.
        also: Further columns that it may have.

    Returns:
        image_id (str), label (normal or atypical), domain, case and those of ``also`` (str; None where unknown).

    Raises:
        DataError: The file is no such table, or a label is another word.
    """
    table = read_csv(path, ("image_id", "label"))
    labels = _to_labels(table["label"])
    check_words(path, table["label"][labels.isna()], tuple(LABEL_NAMES))
    return take_known(path, table.assign(label=labels), ("image_id", "label"), ("domain", "case", *also))


def _to_labels(words: pd.Series) -> pd.Series:
    """normal or atypical for each word as tables or folders spell it; NaN for others."""
    return words.str.strip().str.lower().map({name.lower(): label for name, label in LABEL_NAMES.items()})


def join_labels(predictions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Put each prediction's label beside it.

    Args:
        predictions: As `read_predictions` gives them.
        labels: As `read_labels` gives them.

    Returns:
        The predictions with label, domain and case, in their order.

    Raises:
        DataError: A prediction has no label, or a label no prediction: nothing is scored in part.
    """
    predicted, labelled = set(predictions["image_id"]), set(labels["image_id"])
    for what, lacking, remedy in (
        ("predictions have no label", sorted(predicted - labelled), "add their labels, or classify without them"),
        ("labels have no prediction", sorted(labelled - predicted), "classify those crops too, or remove their labels"),
    ):
        if lacking:
            got = f"{', '.join(map(repr, lacking[:3]))}{' …' if len(lacking) > 3 else ''}"
            raise DataError(f"{len(lacking)} {what}", got=got, expected="the same image_id in both", remedy=remedy)
    return predictions.merge(labels, on="image_id", validate="one_to_one")
