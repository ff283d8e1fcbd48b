"""A detector on prepared fields: its points by the code that inference runs, as regions that the scoring takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mitoscope.detect.detector import FLOOR, Detector
from mitoscope.errors import DataError
from mitoscope.images.slide import Mpp, Slide
from mitoscope.images.source import ArraySource
from mitoscope.scoring.detection.regions import Region
from mitoscope.scoring.detection.tables import HARD_NEGATIVE
from mitoscope.training.data.fields import FieldData
from mitoscope.training.folds import case_groups

Update = Callable[[int], object]  # called with the number of fields that are done


def open_field(data: FieldData, row: int) -> Slide:
    """A prepared field as a slide of its own, named by its image id."""
    return Slide(
        Path(data.table["image_id"].iloc[row]), ArraySource(data.field(row)), Mpp(data.mpp, data.mpp, "given"), ()
    )


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in some fields, each by one detector.

    Attributes:
        rows: int64 (N,), the fields' rows in the data.
        fold: int64 (N,), of the network that looked; -1 where all did.
        points: For each field float64 (P, 3): x and y in its pixels, and the probability, from the floor on.
    """

    rows: np.ndarray
    fold: np.ndarray
    points: Sequence[np.ndarray]

    def of_fold(self, fold: int) -> "Found":
        """Only the fields that the network of one fold looked at."""
        chosen = np.flatnonzero(self.fold == fold).tolist()
        return Found(self.rows[chosen], self.fold[chosen], [self.points[number] for number in chosen])


def find_points(
    detector: Detector,
    data: FieldData,
    rows: np.ndarray,
    fold: int = -1,
    update: Update = lambda n_done: None,
    floor: float = FLOOR,
) -> Found:
    """Look for figures in some fields.

    Args:
        detector: Of the fields' µm per pixel.
        data: The fields.
        rows: int64 (N,), which of them.
        fold: Of the detector's one network; -1: none.
        update: Called with 1 after each field.
        floor: The least probability of a point.
    """
    points = []
    for row in rows.tolist():
        points.append(detector.detect(open_field(data, row), floor=floor))
        update(1)
    return Found(rows, np.full(len(rows), fold), points)


def check_least(least: float) -> None:
    """Refuse a least probability of candidates that is none.

    Raises:
        DataError: It is not in (0, 1).
    """
    if not 0 < least < 1:
        raise DataError("--least cannot be used", got=least, expected="a number in (0, 1)", remedy="correct it")


def join_found(parts: Sequence[Found]) -> Found:
    """One after the other."""
    points = [points for part in parts for points in part.points]
    return Found(np.concatenate([part.rows for part in parts]), np.concatenate([part.fold for part in parts]), points)


def make_regions(data: FieldData, found: Found, label: str, threshold: float = 1.0) -> list[Region]:
    """Put the points of each field beside its true figures.

    Args:
        data: The fields.
        found: The points.
        label: Of the figures, the detector's positive class. Hard negatives are look-alikes; other labels are left out.
        threshold: A point is called a figure from it on.

    Returns:
        In the order of ``found``. The case is what a split keeps together, see `mitoscope.training.folds.case_groups`.
    """
    mm = data.mpp / 1000
    labelled = data.points_of(found.rows)
    places: Mapping[tuple[int, str], np.ndarray] = {
        key: part[["x_px", "y_px"]].to_numpy(np.float64) * mm  # type: ignore[misc]  # pandas-stubs: key is a scalar
        for key, part in labelled.groupby(["row", "label"])
    }
    none, cases = np.empty((0, 2)), case_groups(data.table)
    regions = []
    for row, points in zip(found.rows.tolist(), found.points, strict=True):
        field = data.table.iloc[row]
        regions.append(
            Region(
                image=field["image_id"],
                points_mm=points[:, :2] * mm,
                p_mitosis=points[:, 2],
                called=points[:, 2] >= threshold,
                figures_mm=places.get((row, label), none),
                hard_negatives_mm=places.get((row, HARD_NEGATIVE), none),
                domain=field["domain"] if isinstance(field["domain"], str) else None,
                case=str(cases.iloc[row]),
            )
        )
    return regions
