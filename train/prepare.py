"""Public data sets → one folder: table.csv and crops.npy. Duplicates go, conflicting labels are told and dropped."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from model.contract import CROP_PX
from model.errors import DataError
from train.sources import AmiBr, AtnormBr
from train.table import COLUMNS, KNOWN_BY_SOME, write_data


def prepare(sources: Sequence[AmiBr | AtnormBr], out: Path) -> pd.DataFrame:
    """Decode every crop once and write the data folder.

    Args:
        sources: The data sets, in the order in which the first of two duplicates is kept.
        out: The folder to write.

    Returns:
        The table as written.

    Raises:
        DataError: A data set is not whole, or an image cannot be read.
    """
    rows = pd.concat([source.rows() for source in sources], ignore_index=True)
    crops = np.stack([read_crop(Path(path)) for path in rows["path"]])
    rows["sha256"] = [hashlib.sha256(crop.tobytes()).hexdigest() for crop in crops]
    table = remove_duplicates(rows.reindex(columns=[*COLUMNS, *KNOWN_BY_SOME]))
    write_data(out, table.reset_index(drop=True), crops[table.index])
    return table


def remove_duplicates(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep one crop of those with equal pixels, and none where their labels differ; print what went."""
    conflicting = rows.groupby("sha256")["label"].transform("nunique") > 1
    again = rows.duplicated("sha256") & ~conflicting
    for image_id, digest in rows.loc[conflicting, ["image_id", "sha256"]].to_numpy():
        print(f"dropped {image_id}: the same pixels carry two labels (sha256 {digest[:12]})")
    for source, count in rows.loc[again, "source"].value_counts().items():
        print(f"dropped {count} duplicates of {source}: the same pixels came before")
    return rows[~conflicting & ~again]


def read_crop(path: Path) -> np.ndarray:
    """uint8 (128, 128, 3), RGB.

    Raises:
        DataError: The file is missing, no image, or of another size.
    """
    try:
        with Image.open(path) as image:
            crop = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise DataError(
            f"{path} cannot be read", got=error, expected="a PNG crop", remedy="download it again"
        ) from error
    if crop.shape != (CROP_PX, CROP_PX, 3):
        raise DataError(
            f"{path} has the wrong size",
            got=crop.shape,
            expected=f"{CROP_PX} × {CROP_PX} px",
            remedy="give the crops as published",
        )
    return crop
