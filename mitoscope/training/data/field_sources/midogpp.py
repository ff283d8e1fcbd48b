"""MIDOG++ (Aubreville et al., Scientific Data 10, 2023): 503 labelled regions of seven tumour types."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mitoscope.errors import DataError
from mitoscope.scoring.detection.tables import FIGURE, HARD_NEGATIVE
from mitoscope.training.data.field_sources.layout import LabelledFields, list_images
from mitoscope.training.data.sources.layout import counted

LABELS = {1: FIGURE, 2: HARD_NEGATIVE}  # by category
COUNTS = {FIGURE: 11_937, HARD_NEGATIVE: 14_349}
N_LABELLED = 503


def read_midogpp(paths: Sequence[Path]) -> LabelledFields:
    """MIDOG++: its JSON, and the folder of its TIFFs.

    Images of the table without a label were never annotated, and are left out. Those of which no TIFF is in the folder
    are reported and left out.

    Raises:
        DataError: The table is not the published one, or the folder holds none of its images.
    """
    option = "--midogpp"
    fields, points = _read_table(paths[0])
    here = list_images(paths[1], option)
    found = fields["file_name"].isin(here)
    if not found.any():
        raise DataError(
            f"{paths[1]} holds no labelled image of MIDOG++",
            got=f"{len(here)} other images",
            expected=f"files such as {fields['file_name'].iloc[0]}",
            remedy="download the TIFFs",
        )
    if not found.all():
        print(f"left out {(~found).sum()} of {N_LABELLED} labelled images of MIDOG++: {paths[1]} does not hold them")
    fields = fields[found].assign(path=[str(here[name]) for name in fields.loc[found, "file_name"]])
    return LabelledFields(fields, points[points["image_id"].isin(fields["image_id"])])


def _read_table(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The labelled images and all points of the JSON, with the published counts."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = pd.DataFrame(content["images"])[["id", "file_name", "tumor_type"]]
        marks = pd.DataFrame(content["annotations"])[["image_id", "category_id", "bbox"]]
        boxes = pd.DataFrame(marks["bbox"].tolist(), columns=["left", "upper", "right", "lower"]).astype(float)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read", got=repr(error), expected="the JSON of MIDOG++", remedy="download it again"
        ) from error
    names = "MIDOG++/" + images.set_index("id")["file_name"]
    points = pd.DataFrame(
        {
            "image_id": marks["image_id"].map(names),
            "x_px": (boxes["left"] + boxes["right"]) / 2,
            "y_px": (boxes["upper"] + boxes["lower"]) / 2,
            "label": marks["category_id"].map(LABELS),
        }
    )
    counted(points, "MIDOG++", COUNTS, by=["label"])
    fields = images[images["id"].isin(marks["image_id"])]
    if len(fields) != N_LABELLED or points.isna().any(axis=None):
        raise DataError(
            f"{path} is not the published table",
            got=f"{len(fields)} labelled images",
            expected=f"{N_LABELLED}, and points of no other",
            remedy="download it again",
        )
    name = "MIDOG++/" + fields["file_name"]
    fields = fields.rename(columns={"tumor_type": "domain"}).drop(columns="id")
    return fields.assign(image_id=name, case=name, source="MIDOG++", read_mpp=float("nan")), points
