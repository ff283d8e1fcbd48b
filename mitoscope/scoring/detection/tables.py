"""detections.csv and truth.csv: what a detector found in images, and what is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mitoscope.classify.tables import check_unchanged, record_of
from mitoscope.errors import DataError
from mitoscope.files import hash_file, read_object
from mitoscope.scoring.detection.match import Array
from mitoscope.scoring.detection.regions import Region
from mitoscope.scoring.predictions import check_threshold
from mitoscope.tables import check_filled, check_words, parse_numbers, read_csv, take_known

FIGURE, HARD_NEGATIVE = LABELS = ("mitotic figure", "hard negative")
PIXELS = ["x_px", "y_px"]
MICROMETRES = ["x_um", "y_um"]
Scale = tuple[float, float]  # µm per pixel, from left to right and from top to bottom
REMEDY = "detect again, or give --threshold"
EVERY_ROW = "the table: every row counts, since neither --threshold nor a record gives one"


@dataclass(frozen=True, eq=False)
class Detections:
    """A detections.csv.

    Attributes:
        path: The file.
        table: image (str), x_um, y_um, x_px, y_px and p_mitosis (float64), in the file's order; it may have no row.
        threshold: From it on, a row is called a mitotic figure.
        origin: Where the threshold comes from, for a reader.
        searched: The images that were searched, also those without a point, as the file's record names them; None
            where no record names any.
    """

    path: Path
    table: pd.DataFrame
    threshold: float
    origin: str
    searched: tuple[str, ...] | None = None

    def describe(self) -> dict[str, Any]:
        """The file's name and SHA-256, and the threshold."""
        threshold = {"value": self.threshold, "origin": self.origin}
        return {"name": self.path.name, "sha256": hash_file(self.path), "threshold": threshold}

    def list_unsearched(self, truth: pd.DataFrame) -> list[str]:
        """The images of a truth that were not searched; none where no record names those that were."""
        return [] if self.searched is None else sorted(set(truth["image"]) - set(self.searched))


def read_detections(path: Path, threshold: float | None = None) -> Detections:
    """Read detections.csv and find its threshold.

    Args:
        path: A CSV with ``image``, ``x_um``, ``y_um``, ``x_px``, ``y_px`` (pixels of level 0) and ``p_mitosis`` in
            [0, 1]. Other columns are left alone. The header alone is a result, too.
        threshold: In [0, 1]; None: that of the record beside the file (``bundle.threshold`` in detections.csv.json),
            else the lowest probability in the file. Beside a given one, the record of another table is left alone.

    Raises:
        DataError: The file is no such table, it was changed after its record was made, or the threshold is unusable.
    """
    table = read_csv(path, ("image", *MICROMETRES, *PIXELS, "p_mitosis"), may_be_empty=True)
    for name in (*MICROMETRES, *PIXELS):
        table[name] = parse_numbers(path, table, name, "image")
    table["p_mitosis"] = parse_numbers(path, table, "p_mitosis", "image", shares=True)
    record = _read_record(path) if record_of(path).is_file() else None
    searched = None
    if record and (threshold is None or record["csv_sha256"] == hash_file(path)):
        check_unchanged(path, record["csv_sha256"])
        if "images" in record:
            searched = tuple(str(each["image"]) for each in record["images"])
    if threshold is not None:
        return Detections(path, table, check_threshold(threshold), "--threshold", searched)
    if record:
        return Detections(path, table, _find_threshold(path, record), record_of(path).name, searched)
    return Detections(path, table, float(table["p_mitosis"].min()) if len(table) else 0.0, EVERY_ROW)


def _read_record(path: Path) -> dict[str, Any]:
    """The record of a detections.csv."""
    return read_object(record_of(path), REMEDY, ("bundle", "csv_sha256"))


def _find_threshold(path: Path, record: Mapping[str, Any]) -> float:
    """The threshold in the record of a detections.csv."""
    try:
        return check_threshold(float(record["bundle"]["threshold"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{record_of(path)} holds no threshold",
            got=f"{type(error).__name__} {error}",
            expected="a number in bundle.threshold",
            remedy=REMEDY,
        ) from error


def read_truth(path: Path, labels: tuple[str, ...] | None = LABELS) -> pd.DataFrame:
    """Read truth.csv.

    Args:
        path: A CSV with ``image``, ``x_px``, ``y_px`` (pixels of level 0), ``label``, and perhaps ``domain`` (tumour
            type) and ``case`` (slide or patient), the same in all rows of an image. A row that lacks x_px, y_px and
            label names an image without any point. Other columns are left alone.
        labels: The words that are labels; None: any.

    Returns:
        image (str), x_px and y_px (float64), label (str), domain and case (str; None where unknown). Of an image
        without any point x_px and y_px are NaN, and label is None.

    Raises:
        DataError: The file is no such table, a label is another word, or an image has two domains or cases.
    """
    table = read_csv(path, ("image",), with_gaps=(*PIXELS, "label"))
    points = table[table[[*PIXELS, "label"]].notna().any(axis=1)]
    check_filled(path, points, (*PIXELS, "label"))
    if labels is not None:
        check_words(path, points["label"], labels)
    numbers = {name: parse_numbers(path, points, name, "image") for name in PIXELS}
    table = table.assign(**{name: column.reindex(table.index) for name, column in numbers.items()})
    known = take_known(path, table, ("image", "label"), ("domain", "case"))
    for name in ("domain", "case"):
        n_names = known.groupby("image", sort=False)[name].nunique(dropna=False)
        if (n_names > 1).any():
            raise DataError(
                f"{path}: an image has several values in the column {name}",
                got=f"{n_names[n_names > 1].index[0]!r}",
                expected="one an image",
                remedy="correct it",
            )
    return pd.concat([known, table[PIXELS]], axis=1)


def join_truth(detections: Sequence[Detections], truth: pd.DataFrame, mpp: float | None) -> list[list[Region]]:
    """Put each image's detections beside its true figures.

    Args:
        detections: One table or more.
        truth: As `read_truth` gives it.
        mpp: µm per pixel of every image; None: that of each image's detections.

    Returns:
        For each table a region for each image of all files and their records, in the same order: first those of the
        truth. An image that the truth does not name holds no figure.

    Raises:
        DataError: The files have no image in common, or the scale of an image is not known.
    """
    searched = [image for each in detections for image in [*each.table["image"], *(each.searched or ())]]
    images = list(dict.fromkeys([*truth["image"], *searched]))
    for each in detections:
        if len(each.table) and not set(each.table["image"]) & set(truth["image"]):
            raise DataError(
                f"{each.path} and the truth have no image in common",
                got=f"{each.table['image'].iloc[0]!r} and {truth['image'].iloc[0]!r}",
                expected="the same names in the column image",
                remedy="name the images alike",
            )
    true = dict(list(truth.groupby("image", sort=False)))
    scales = _find_common_scales(detections, mpp)
    return [
        [_make_region(image, found, true.get(image, truth.iloc[:0]), each.threshold, scales.get(image, (1.0, 1.0)), mpp)
         for image, found in _split(each.table, images)]
        for each in detections
    ]  # fmt: skip


def _find_common_scales(detections: Sequence[Detections], mpp: float | None) -> dict[str, Scale]:
    """µm per pixel of each image of any table; raises DataError where tables differ in that of an image."""
    try:
        return find_scales(pd.concat([each.table for each in detections]), mpp)
    except DataError:
        if mpp is not None:
            raise
        own = [find_scales(each.table, None) for each in detections]  # raises if one of them has the fault
        raise DataError(
            "the detections differ in µm per pixel",
            got="; ".join(
                f"{each.path}: {', '.join(f'{x:.4g}' for x, _ in list(scales.values())[:3])}"
                for each, scales in zip(detections, own, strict=True)
            ),
            expected="the same for the same image",
            remedy="detect again with one --mpp, or give --mpp",
        ) from None


def _split(table: pd.DataFrame, images: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each image, which may be none."""
    rows = dict(list(table.groupby("image", sort=False)))
    return [(image, rows.get(image, table.iloc[:0])) for image in images]


def _make_region(
    image: str, found: pd.DataFrame, true: pd.DataFrame, threshold: float, scale: Scale, mpp: float | None
) -> Region:
    """One image; scale is its µm per pixel, any numbers if nothing was found in it."""
    points = found[MICROMETRES] if mpp is None else found[PIXELS] * mpp
    figures, hard_negatives = (true.loc[true["label"] == label, PIXELS].mul(list(scale)) for label in LABELS)
    p_mitosis = found["p_mitosis"].to_numpy()
    return Region(
        image=image,
        points_mm=_to_mm(points),
        p_mitosis=p_mitosis,
        called=p_mitosis >= threshold,
        figures_mm=_to_mm(figures),
        hard_negatives_mm=_to_mm(hard_negatives),
        domain=true["domain"].iloc[0] if len(true) else None,
        case=true["case"].iloc[0] if len(true) else None,
    )


def _to_mm(points_um: pd.DataFrame) -> Array:
    """float64 (N, 2), from µm."""
    return points_um.to_numpy(dtype=np.float64) / 1000


def find_scales(table: pd.DataFrame, mpp: float | None) -> dict[str, Scale]:
    """µm per pixel of each image with detections, across and down.

    Args:
        table: As `Detections` has it.
        mpp: That of all; None: from µm and pixels of the detections.

    Raises:
        DataError: It is not known, or out of range.
    """
    if mpp is not None:
        if not 0 < mpp < np.inf:
            raise DataError("--mpp is out of range", got=mpp, expected="a number above 0", remedy="correct it")
        return dict.fromkeys(table["image"], (mpp, mpp))
    return {str(image): _find_scale(str(image), rows) for image, rows in table.groupby("image", sort=False)}


def _find_scale(image: str, rows: pd.DataFrame) -> Scale:
    """µm per pixel, by least squares; µm and pixels must agree within a pixel, which leaves room for rounding.

    One factor for both axes, since a few rounded places determine it better; two where pixels are not square.
    """
    um, px = (rows[names].to_numpy(np.float64) for names in (MICROMETRES, PIXELS))
    both = _fit_scale(um.ravel(), px.ravel())
    for x, y in ((both, both), (_fit_scale(um[:, 0], px[:, 0]), _fit_scale(um[:, 1], px[:, 1]))):
        if x > 0 and y > 0 and (abs(um - px * (x, y)) <= (x, y)).all():
            return x, y
    raise DataError(
        f"the scale of {image!r} is not known",
        got=f"x_um, y_um and x_px, y_px that {'differ by no one factor' if both > 0 else 'are 0 or of two signs'}",
        expected="µm per pixel times pixels",
        remedy="correct the detections, or give --mpp",
    )


def _fit_scale(um: Array, px: Array) -> float:
    """The factor from pixels to µm with the least squares; 0 without one."""
    return float(um @ px / (px @ px)) if px.any() else 0.0
