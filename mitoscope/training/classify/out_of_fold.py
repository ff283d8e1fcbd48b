"""Out-of-fold predictions: each training crop, predicted by the member that never saw its case."""

from dataclasses import dataclass

import numpy as np

from mitoscope.classify.classifier import Classifier
from mitoscope.errors import DataError
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds
from mitoscope.training.study.study import Study


@dataclass(frozen=True)
class OutOfFold:
    """The predictions, read or computed once and handed on.

    Attributes:
        rows: int64 (N,), each crop's row in the data.
        fold: int64 (N,), the fold of the member that predicted it.
        is_atypical: bool (N,), the labels.
        p_atypical: float64 (N,) in [0, 1].
    """

    rows: np.ndarray
    fold: np.ndarray
    is_atypical: np.ndarray
    p_atypical: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def read_out_of_fold(study: Study[CropData]) -> OutOfFold:
    """The predictions that the fits of a study recorded."""
    table = study.read_validation()
    return OutOfFold(
        rows=study.data.rows_of(table["image_id"].tolist()),
        fold=table["fold"].to_numpy(),
        is_atypical=(table["label"] == study.data.classes[-1]).to_numpy(),
        p_atypical=table["p_atypical"].to_numpy(),
    )


def predict_out_of_fold(classifier: Classifier, data: CropData, folds: Folds) -> OutOfFold:
    """The predictions of a bundle's members, each of the fold that validated it.

    Raises:
        DataError: A member names no fold.
    """
    rows, fold, p_atypical = [], [], []
    for number, member in enumerate(classifier.bundle.members):
        if member.fold is None or not 0 <= member.fold < len(folds.folds):
            raise DataError(
                f"{member.file} has no out-of-fold predictions",
                got=f"fold {member.fold}",
                expected=f"the fold that validated it, 0 to {len(folds.folds) - 1}",
                remedy="publish the study that it came from",
            )
        rows.append(data.rows_of(list(folds.folds[member.fold])))
        fold.append(np.full(len(rows[-1]), member.fold))
        p_atypical.append(_predict_by_member(classifier, number, data.crops[rows[-1]]))
    chosen = np.concatenate(rows)
    return OutOfFold(chosen, np.concatenate(fold), data.is_atypical[chosen], np.concatenate(p_atypical))


def _predict_by_member(classifier: Classifier, number: int, crops: np.ndarray) -> np.ndarray:
    """P(atypical) by one member, before calibration: uint8 (N, 128, 128, 3) → float64 (N,)."""
    p_atypical: np.ndarray = classifier.alone(number).predict_members(crops)[0]
    return p_atypical
