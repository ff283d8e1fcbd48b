"""What is split into folds and trained on: rows of a table, whatever one row is."""

from typing import ClassVar, Protocol

import numpy as np
import pandas as pd

from mitoscope.errors import DataError

TRAIN_ONLY = "train only"  # the part of samples that train every member and validate none


class Samples(Protocol):
    """A prepared data folder.

    Attributes:
        task: For which it can be used, as in a bundle's manifest.
    """

    task: ClassVar[str]

    @property
    def table(self) -> pd.DataFrame:
        """One row a sample, with at least the columns ``image_id``, ``label``, ``domain``, ``case`` and ``source``."""

    @property
    def sha256(self) -> str:
        """A hash of all that a fit is trained on; a finished fit is skipped only if it is the same."""

    def rows_of(self, image_ids: list[str]) -> np.ndarray:
        """int64 (n,): the rows of these samples, in the same order."""

    def check_part(self, name: str, rows: np.ndarray) -> None:
        """Refuse a fold or a hold-out that cannot be evaluated.

        Raises:
            DataError: A class is missing in it.
        """


def find_rows(table: pd.DataFrame, image_ids: list[str]) -> np.ndarray:
    """The rows of samples by their ids, int64 (n,).

    Raises:
        DataError: One is not in the table.
    """
    rows = pd.Index(table["image_id"]).get_indexer(pd.Index(image_ids))
    if (rows < 0).any():
        missing = [name for name, row in zip(image_ids, rows, strict=True) if row < 0]
        raise DataError(
            f"{len(missing)} images of the folds are not in the table",
            got=missing[:3],
            expected="the table that the folds were made from",
            remedy="run split again on this data folder",
        )
    return np.asarray(rows)
