"""Any images with a table of points: truth.csv, as `mitoscope evaluate` takes it."""

from collections.abc import Sequence
from pathlib import Path

from mitoscope.scoring.detection import tables
from mitoscope.training.data.field_sources.layout import (
    LabelledFields,
    check_listed,
    list_images,
)


def read_truth(paths: Sequence[Path]) -> LabelledFields:
    """truth.csv (``image,x_px,y_px,label[,domain][,case]``) and the folder of its images.

    Any label is a class, but for ``hard negative``. A row without coordinates and label names an image that holds
    none. Images that the table does not name are reported and left out: nobody labelled them.

    Raises:
        DataError: The table is not such a table, or names an image that is not there.
    """
    table, images = paths[0], list_images(paths[1], "--truth")
    rows = tables.read_truth(table, labels=None)
    check_listed(rows["image"], images, table)
    if unnamed := sorted(set(images) - set(rows["image"])):
        print(f"left out {len(unnamed)} images that {table} does not name, such as {unnamed[0]}")
    source = table.resolve().parent.name
    rows = rows.assign(image_id=f"{source}/" + rows["image"])
    first = rows.drop_duplicates("image_id").reset_index(drop=True)
    fields = first[["image_id"]].assign(
        path=[str(images[name]) for name in first["image"]],
        source=source,
        read_mpp=float("nan"),
        domain=first["domain"],
        case=first["case"],
    )
    return LabelledFields(fields, rows[rows["label"].notna()])
