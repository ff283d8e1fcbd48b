"""Data sets → one folder: table.csv and crops.npy.

Duplicates, and crops with conflicting labels, are reported and removed.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pandas as pd

from mitoscope.errors import DataError
from mitoscope.files import write_text
from mitoscope.images import CROP_PX
from mitoscope.images.crops import read_crops
from mitoscope.progress import progress
from mitoscope.training.data.duplicates import BY_NAME, BY_PIXELS, BY_PLACE, remove_duplicates
from mitoscope.training.data.rois import cut_crop, open_roi
from mitoscope.training.data.sources import Source
from mitoscope.training.data.table import COLUMNS, KNOWN_BY_SOME, write_data

LABELS = "labels.csv"  # not table.csv, which needs crops.npy beside it


def prepare(
    sources: Sequence[Source], out: Path, rois: Path | None = None, *, labels_only: bool = False
) -> pd.DataFrame:
    """Decode every crop once and write the data folder.

    Args:
        sources: The data sets; of two copies, that of the earlier data set is kept.
        out: The folder to write.
        rois: Holds the slides' TIFFs; crops of data sets without a folder of crops are cut from them.
        labels_only: Read no image, compare no pixels, and write only `LABELS`, with ``sha256`` empty.

    Returns:
        The table as written.

    Raises:
        DataError: A data set is incomplete, an image cannot be read, or two data sets have one name or may share
            slides.
    """
    tables = [source.rows() for source in sources]
    _check_names(tables)
    rows = pd.concat(tables, ignore_index=True)
    rows = rows.reindex(columns=[*COLUMNS, *KNOWN_BY_SOME])
    for by in (BY_NAME, BY_PLACE):
        rows = remove_duplicates(rows, by)
    rows = rows.reset_index(drop=True)
    out.mkdir(parents=True, exist_ok=True)
    if labels_only:
        _check_slides(rows)
        write_text(out / LABELS, rows.to_csv(index=False))
        return rows
    return _write_crops(_find_images(rows, rois), out)


def _check_names(tables: Sequence[pd.DataFrame]) -> None:
    """Refuse two data sets of one name: their crops would be taken for each other's."""
    names = [str(name) for table in tables for name in table["source"].unique()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(
            "two data sets have the same name",
            got=twice[0],
            expected="a name each; that of your own crops is their folder's",
            remedy="rename a folder",
        )


def _find_images(rows: pd.DataFrame, rois: Path | None) -> pd.DataFrame:
    """Fill in the region of interest where there is no crop, and refuse rows whose image is missing."""
    path = rows["path"]
    if rois:
        path = path.where(path.notna() | rows["x_px"].isna(), f"{rois}/" + rows["case"].str.partition("/")[2])
    remedy = "name the folder of crops, or that of the slides after --rois, or use --labels-only"
    if path.isna().any():
        raise DataError(
            f"{path.isna().sum()} crops have no image",
            got=f"tables alone of {sorted(rows.loc[path.isna(), 'source'].unique())}",
            expected="a folder of PNG crops beside each table",
            remedy=remedy,
        )
    if missing := [name for name in path.unique() if not Path(name).is_file()]:
        raise DataError(
            f"{len(missing)} images are missing",
            got=f"no {', no '.join(missing[:3])}",
            expected="one for every row of the tables",
            remedy=remedy,
        )
    return rows.assign(path=path)


def _write_crops(rows: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Decode into a temporary file, remove crops with the same pixels, and write the rest; memory-mapped."""
    digests = []
    with TemporaryFile(dir=out) as file:
        with progress(len(rows), unit="crops", what="reading") as bar:
            for crop in _read_crops(rows):
                file.write(crop.tobytes())
                digests.append(hashlib.sha256(crop.tobytes()).hexdigest())
                bar.update()
        file.flush()
        table = remove_duplicates(rows.assign(sha256=digests), BY_PIXELS)
        _check_slides(table)
        crops = np.memmap(file, np.uint8, "r+", shape=(len(rows), CROP_PX, CROP_PX, 3))
        for new, old in enumerate(table.index):
            if new != old:  # always to the front, so that nothing is overwritten before it was moved
                crops[new] = crops[old]
        table = table.reset_index(drop=True)
        write_data(out, table, crops[: len(table)])
    return table


def _read_crops(rows: pd.DataFrame) -> Iterator[np.ndarray]:
    """Each row's crop; a region of interest is opened once for all of its rows that follow each other."""
    places = rows[["path", "x_px", "y_px"]].itertuples(index=False, name=None)
    for path, block in groupby(places, key=itemgetter(0)):
        within = [(x_px, y_px) for _, x_px, y_px in block]
        if Path(path).suffix == ".png" or pd.isna(within[0][0]):
            yield from (_read_crop(Path(path)) for _ in within)
        else:
            roi = open_roi(Path(path))
            yield from (cut_crop(roi, x_px, y_px) for x_px, y_px in within)


def _read_crop(path: Path) -> np.ndarray:
    """The only crop of a file."""
    crops = read_crops(path)
    if len(crops) != 1:
        raise DataError(
            f"{path} is a stack",
            got=f"{len(crops)} pages",
            expected="one crop a file",
            remedy="write each to its own file",
        )
    return np.asarray(crops[0])


def _check_slides(table: pd.DataFrame) -> None:
    """Refuse AtNorM-MD beside MIDOG25: a slide could be in two folds, or in training and held out."""
    n_hidden = int((table["source"] == "AtNorM-MD").sum())
    if n_hidden and (table["source"] == "MIDOG25").any():
        raise DataError(
            "AtNorM-MD and MIDOG25 share slides, and AtNorM-MD does not name them",
            got=f"{n_hidden} crops that match none of MIDOG25",
            expected="data sets with named slides, or with slides of their own",
            remedy="prepare one of the two",
        )
