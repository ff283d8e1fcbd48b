"""What the readers of fields share: their result, and finding images."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mitoscope.errors import DataError
from mitoscope.training.data.sources.layout import read_csv

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
POINT_COLUMNS = ["image_id", "x_px", "y_px", "label"]


@dataclass(frozen=True)
class LabelledFields:
    """A data set of fields as published.

    Attributes:
        fields: One row an image: ``image_id``, ``path``, ``domain``, ``case``, ``source``, and ``read_mpp``, its µm per
            pixel where the data set states them for all its images, else NaN.
        points: One row a labelled point: ``image_id``, ``x_px`` and ``y_px`` in pixels of that image, ``label``.
    """

    fields: pd.DataFrame
    points: pd.DataFrame


def list_images(folder: Path, option: str) -> dict[str, Path]:
    """The images in a folder by file name.

    Raises:
        DataError: It holds none.
    """
    found = {path.name: path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES}
    if not found:
        raise DataError(
            f"{folder} holds no image",
            got="no such file" if folder.is_dir() else "no such folder",
            expected=f"files that end in {', '.join(SUFFIXES)}",
            remedy=f"correct the folder after {option}",
        )
    return found


def check_listed(names: Iterable[str], images: Iterable[str], table: Path) -> None:
    """Refuse a table that names an image which is not there.

    Raises:
        DataError: Names the first.
    """
    if missing := sorted(set(names) - set(images)):
        raise DataError(
            f"{table} names images that are missing",
            got=f"{len(missing)}, such as {missing[0]}",
            expected="every image of the table in the folder",
            remedy="complete the folder",
        )


def read_points(table: Path, x: str, y: str) -> pd.DataFrame:
    """Read a CSV of points.

    Args:
        table: With at least the columns ``image``, x, y and ``label``.
        x: Name of its column of pixels from the left.
        y: Name of its column of pixels from the top.

    Returns:
        The table, with x and y as numbers in ``x_px`` and ``y_px``, and all else as text.

    Raises:
        DataError: A column or value is missing, or x or y is no number.
    """
    rows = read_csv(table, ["image", x, y, "label"])
    try:
        numbers = {"x_px": pd.to_numeric(rows[x]), "y_px": pd.to_numeric(rows[y])}
    except (ValueError, TypeError) as error:
        raise DataError(f"{table} holds unusable places", got=error, expected="pixels", remedy="correct it") from error
    texts: dict[str, pd.Series] = {
        str(name): rows[name].map(str, na_action="ignore") for name in rows if name not in (x, y)
    }
    return pd.DataFrame(texts | numbers)
