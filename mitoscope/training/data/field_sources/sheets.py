"""Crops of figures → sheets: many crops side by side in one image, from which a detector learns figures of many slides.

A crop shows a figure and what lies around it, both in one stain: what a detector has to tell apart. Each crop is cut
again at random, so that neither a figure's place in its crop nor the borders between crops say where figures are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mitoscope.errors import DataError
from mitoscope.files import written_whole
from mitoscope.images import CROP_PX
from mitoscope.images.crops import read_crops
from mitoscope.scoring.detection.tables import FIGURE
from mitoscope.training.data.field_sources.layout import POINT_COLUMNS, LabelledFields
from mitoscope.training.data.samples import TRAIN_ONLY

CROP_MPP = 0.25
SHEET_PX, PIECES = 1536, 15  # a side of a sheet, and how many pieces of crops lie along it
JITTER_PX = 11  # by which the borders between pieces are moved: a piece has 80 to 125 px
INSIDE_PX, OUTSIDE_PX = 12, 18  # a figure lies that far within a piece, or that far outside of it
COPIES = 2  # of each crop, cut differently
TRIES = 50


@dataclass(frozen=True)
class Crop:
    """A crop or a piece of one, and the centres (F, 2) of the figures in it and near it, in its pixels."""

    pixels: np.ndarray
    figures: np.ndarray


def make_sheets(rows: pd.DataFrame, folder: Path, seed: int = 0) -> LabelledFields:
    """Write the sheets of one or more data sets of crops.

    Args:
        rows: As `mitoscope.training.data.sources.Source.rows` returns them, with ``path``, ``case``, ``x_px`` and
            ``y_px``: neighbours in the slide are figures, too.
        folder: Gets a PNG for each sheet.
        seed: Of the order and of the pieces.

    Returns:
        The sheets as fields that every member is trained on, at `CROP_MPP`.

    Raises:
        DataError: A crop is missing or damaged, its place is not known, or there are too few for one sheet.
    """
    lacking = [name for name in ("path", "x_px", "y_px") if name not in rows or rows[name].isna().any()]
    if lacking:
        raise DataError(
            "crops cannot be made into sheets",
            got=f"crops without {lacking[0]}",
            expected="crops as files, with their places in the slides",
            remedy="name the folder of the crops, or leave this data set out",
        )
    folder.mkdir(parents=True, exist_ok=True)
    crops, rng = _read(rows), np.random.default_rng(seed)
    queue = [crops[number] for _ in range(COPIES) for number in rng.permutation(len(crops))]
    fields, points = [], []
    for number, (sheet, figures) in enumerate(_compose(queue, rng)):
        name = f"sheet{number:03}.png"
        with written_whole(folder / name) as path:
            Image.fromarray(sheet).save(path, format="PNG", compress_level=1)
        fields.append((f"sheets/{name}", str(folder / name)))
        points += [(f"sheets/{name}", x, y, FIGURE) for x, y in figures]
    if not fields:
        raise DataError(
            "too few crops for a sheet", got=len(crops), expected="some hundred", remedy="leave this data set out"
        )
    table = pd.DataFrame(fields, columns=["image_id", "path"])
    source = " and ".join(sorted(set(rows["source"])))
    table = table.assign(domain=None, case="sheets", source=f"sheets of {source}", read_mpp=CROP_MPP, part=TRAIN_ONLY)
    return LabelledFields(table, pd.DataFrame(points, columns=POINT_COLUMNS))


def _read(rows: pd.DataFrame) -> list[Crop]:
    """All crops with their figures."""
    places = rows[["x_px", "y_px"]].to_numpy(float)
    slides = rows.reset_index(drop=True).groupby("case", dropna=False).indices
    crops = []
    for number, (path, case) in enumerate(zip(rows["path"], rows["case"], strict=True)):
        figures = places[slides[case]] - places[number] + CROP_PX / 2
        near = (np.abs(figures - CROP_PX / 2) < CROP_PX).all(axis=1)
        crops.append(Crop(read_crops(path)[0], figures[near]))
    return crops


def _compose(queue: list[Crop], rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sheets uint8 (S, S, 3) with their figures (F, 2), as long as there are crops for a whole one."""
    while True:
        sheet, figures = np.empty((SHEET_PX, SHEET_PX, 3), np.uint8), []
        for (top, height), (left, width) in product(_spans(rng), _spans(rng)):
            piece = None
            while piece is None:
                if not queue:
                    return
                piece = _cut(queue.pop(), height, width, rng)
            sheet[top : top + height, left : left + width] = piece.pixels
            figures.append(piece.figures + np.array([left, top]))
        yield sheet, np.concatenate(figures)


def _spans(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Start and length of the pieces along a side."""
    inner = np.arange(1, PIECES) * SHEET_PX // PIECES + rng.integers(-JITTER_PX, JITTER_PX + 1, PIECES - 1)
    borders = [0, *inner.tolist(), SHEET_PX]
    return [(start, end - start) for start, end in pairwise(borders)]


def _cut(crop: Crop, height: int, width: int, rng: np.random.Generator) -> Crop | None:
    """A piece of a crop, at random; None where every one that was tried cuts through a figure."""
    size = np.array([width, height])
    for _ in range(TRIES):
        left, top = rng.integers(CROP_PX - width + 1), rng.integers(CROP_PX - height + 1)
        figures = crop.figures - (left, top)
        inside = ((figures >= INSIDE_PX) & (figures <= size - INSIDE_PX)).all(axis=1)
        outside = ((figures < -OUTSIDE_PX) | (figures > size + OUTSIDE_PX)).any(axis=1)
        if (inside | outside).all():
            return Crop(crop.pixels[top : top + height, left : left + width], figures[inside])
    return None
