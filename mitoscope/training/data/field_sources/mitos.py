"""MITOS-ATYPIA-14 (ICPR 2014) and its forerunner, the ICPR 2012 contest: fields of the same Curie slides."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mitoscope.errors import DataError
from mitoscope.scoring.detection.tables import FIGURE, HARD_NEGATIVE
from mitoscope.training.data.field_sources.layout import (
    LabelledFields,
    check_listed,
    list_images,
    read_points,
)
from mitoscope.training.data.sources.layout import BREAST

MITOS14_MPP = 0.2275  # Hamamatsu NanoZoomer 2.0-HT: .2273 across, .2275 down
ICPR12_MPP = 0.2456  # Aperio ScanScope XT
TABLE = "annotations.csv"


def read_mitos14(paths: Sequence[Path]) -> LabelledFields:
    """MITOS-ATYPIA-14: frames of the Hamamatsu scanner, ``H04_00Bb.jpg``."""
    return _read("--mitos14", paths, "MITOS14", MITOS14_MPP)


def read_icpr12(paths: Sequence[Path]) -> LabelledFields:
    """ICPR 2012: fields of the Aperio scanner, ``A04_00.jpg``. What has no label is a negative."""
    return _read("--icpr12", paths, "ICPR12", ICPR12_MPP)


def _read(option: str, paths: Sequence[Path], source: str, mpp: float) -> LabelledFields:
    """A folder with images/ and annotations.csv: image, x, y (from 0, in pixels), label.

    The scanner's letter in a name is left out of the case: A04 and H04 are the same tissue.
    """
    table, images = paths[0] / TABLE, list_images(paths[0] / "images", option)
    points = read_points(table, "x", "y")
    check_listed(points["image"], images, table)
    if unknown := sorted(set(points["label"]) - {FIGURE, HARD_NEGATIVE}):
        raise DataError(
            f"{table} has unknown labels", got=unknown[:3], expected=f"{FIGURE} or {HARD_NEGATIVE}", remedy="correct it"
        )
    fields = pd.DataFrame({"image_id": [f"{source}/{name}" for name in images], "path": map(str, images.values())})
    fields = fields.assign(domain=BREAST, case=[f"MITOS/{name[1:3]}" for name in images], source=source, read_mpp=mpp)
    return LabelledFields(fields, points.assign(image_id=f"{source}/" + points["image"]))
