"""The crops of a report: pictures and Grad-CAM as text, and the columns that the page sorts and filters by."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mitoscope.bundle.inputs import TrainingCrops
from mitoscope.classify.listing import list_crops, read_blocks
from mitoscope.classify.outliers import find_outliers
from mitoscope.classify.tables import member_columns
from mitoscope.classify.task import CLASS_NAMES
from mitoscope.errors import DataError
from mitoscope.images import CROP_PX
from mitoscope.images.stain import measure_crops
from mitoscope.progress import progress
from mitoscope.scoring.report.page import encode_image
from mitoscope.scoring.report.saliency import Saliency, quantise

BLOCK_CROPS = 64


@dataclass(frozen=True)
class Pictures:
    """What the page shows of each crop.

    Attributes:
        images: image_id → base64 of a WebP, 128 × 128 px.
        maps: image_id → base64 of uint8 (H, W) row by row, see `saliency.quantise`; None without saliency.
        map_cells: (H, W); None without saliency.
        unlike: image_id → the features unlike those of the training crops; None where the bundle does not list them.
        n_others: Crops that were found and have no prediction, the unreadable ones among them.
    """

    images: dict[str, str]
    maps: dict[str, str] | None
    map_cells: tuple[int, int] | None
    unlike: dict[str, list[str]] | None
    n_others: int


def read_pictures(
    paths: Sequence[Path], image_ids: Sequence[str], saliency: Saliency | None, training: TrainingCrops | None
) -> Pictures:
    """Read the crops that were predicted.

    Args:
        paths: See `mitoscope.classify.listing.list_crops`.
        image_ids: Of the predictions.
        saliency: Makes the maps; None: none are made.
        training: What the bundle was trained on; None: unknown.

    Raises:
        DataError: A prediction's crop is not there or cannot be read.
    """
    wanted, reasons, n_others = set(image_ids), dict[str, str](), 0
    images: dict[str, str] = {}
    maps: dict[str, str] = {}
    unlike: dict[str, list[str]] = {}
    cells: tuple[int, int] | None = None
    listing = list_crops(paths)
    with progress(listing.n_files, unit="files", what="reading crops") as bar:
        for block in read_blocks(listing, BLOCK_CROPS):
            reasons.update(block.unreadable)
            known = [number for number, image_id in enumerate(block.image_ids) if image_id in wanted]
            n_others += len(block.image_ids) - len(known)
            names, crops = [block.image_ids[number] for number in known], block.crops[known]
            images.update(zip(names, map(encode_image, crops), strict=True))
            if training and known:
                unlike.update(zip(names, find_outliers(measure_crops(crops), training), strict=True))
            if saliency and known:
                found = quantise(saliency.maps(crops))  # uint8 (B, H, W)
                cells = (found.shape[1], found.shape[2])
                maps.update(zip(names, map(_base64, found), strict=True))
            bar.update(block.n_files)
    _check_whole(image_ids, images, reasons)
    return Pictures(images, maps if saliency else None, cells, unlike if training else None, n_others + len(reasons))


def page_data(table: pd.DataFrame, pictures: Pictures, threshold: float, frame_px: int | None) -> dict[str, Any]:
    """The data of the page's script, column by column.

    Args:
        table: Predictions, with labels, domain and case if labels were given (`mitoscope.scoring.labels.join_labels`).
        pictures: Of the same crops.
        threshold: A crop is called atypical when its probability is at least this.
        frame_px: Side of the central square that the networks see, in pixels of the crop; None if unknown.

    Returns:
        What `json.dumps` takes. Classes are 0 for normal, 1 for atypical.
    """
    image_ids, unlike = table["image_id"].tolist(), pictures.unlike
    return {
        "threshold": threshold,
        "crop_px": CROP_PX,
        "frame_px": frame_px,
        "map_cells": pictures.map_cells,
        "image_id": image_ids,
        "p_atypical": table["p_atypical"].tolist(),
        "members": table[member_columns(table)].to_numpy().tolist(),
        "called": _class_numbers(table["class"]),
        "label": _class_numbers(table["label"]) if "label" in table else None,
        "domain": _known(table, "domain"),
        "case": _known(table, "case"),
        "unlike": None if unlike is None else [unlike[image_id] for image_id in image_ids],
        "image": [pictures.images[image_id] for image_id in image_ids],
        "map": None if pictures.maps is None else [pictures.maps[image_id] for image_id in image_ids],
    }


def _class_numbers(names: pd.Series) -> list[int]:
    """0 for normal, 1 for atypical."""
    return [CLASS_NAMES.index(name) for name in names]


def _known(table: pd.DataFrame, name: str) -> list[str | None] | None:
    """A column, None where a value is unknown; None for a column of which nothing is known."""
    if name not in table or table[name].isna().all():
        return None
    return [None if pd.isna(value) else value for value in table[name]]


def _base64(values: np.ndarray) -> str:
    """The bytes of an array, row by row."""
    return base64.b64encode(values.tobytes()).decode("ascii")


def _check_whole(image_ids: Sequence[str], images: Mapping[str, str], reasons: Mapping[str, str]) -> None:
    """Refuse predictions without their crops: a gallery with holes would hide the odd crops."""
    lacking = [image_id for image_id in image_ids if image_id not in images]
    if not lacking:
        return
    reason = reasons.get(lacking[0].rpartition("#")[0], reasons.get(lacking[0]))
    raise DataError(
        f"{len(lacking)} predictions have no crop",
        got=f"{', '.join(map(repr, lacking[:3]))}{' …' if len(lacking) > 3 else ''}{f' ({reason})' if reason else ''}",
        expected="every image_id of the predictions among the crops",
        remedy="give the same paths after --crops as for classify",
    )
