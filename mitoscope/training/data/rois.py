"""Regions of interest: opened, with their µm per pixel, and crops cut from them by their coordinates."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mitoscope.errors import DataError
from mitoscope.images import CROP_PX
from mitoscope.images.slide import open_slide

TIFFS = (".tif", ".tiff")


def open_roi(path: Path) -> np.ndarray:
    """Open a region of interest.

    Args:
        path: An RGB TIFF, 8 bits a channel; its first page is taken.

    Returns:
        uint8 (H, W, 3). Memory-mapped where the file is not compressed, so that only the windows that are cut are
        read; otherwise all of it is decoded, some 120 MB for a MIDOG++ slide.

    Raises:
        DataError: The file is damaged, or not such a TIFF.
    """
    try:
        try:
            roi = np.asarray(tifffile.memmap(path, page=0, mode="r"))
        except ValueError:  # compressed
            with TiffImageFile(path) as image:
                roi = np.asarray(image)
    except (OSError, SyntaxError, ValueError, tifffile.TiffFileError) as error:
        raise _unusable(path, error) from error
    if roi.ndim != 3 or roi.shape[2] != 3 or roi.dtype != np.uint8:
        raise _unusable(path, f"pixels of type {roi.dtype} and shape {roi.shape}")
    return roi


def open_field(path: Path) -> np.ndarray:
    """Open a region of any format that data sets come in.

    Args:
        path: A TIFF, see `open_roi`; or a JPEG or PNG in colour.

    Returns:
        uint8 (H, W, 3).

    Raises:
        DataError: The file is damaged or of another kind.
    """
    if path.suffix.lower() in TIFFS:
        return open_roi(path)
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            if image.mode != "RGB":
                raise _unusable(path, f"an image of mode {image.mode}")
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise _unusable(path, error) from error


def read_mpp(path: Path) -> float | None:
    """The µm per pixel that a TIFF's tags state, as detection reads them; None without plausible ones.

    Raises:
        InputError: Detection does not read such a file.
    """
    if path.suffix.lower() not in TIFFS:
        return None  # JPEGs state the resolution of paper
    size = open_slide(path).mpp
    return size.x if size.source == "tags" else None


def cut_crop(roi: np.ndarray, x_px: int, y_px: int) -> np.ndarray:
    """Cut the crop of a mitotic figure, as the published ones are cut.

    The window is [x - 64, x + 64) and [y - 64, y + 64). Outside of the region of interest it is black, as in the 122
    crops of AMi-Br that lie at a border: so a crop that is cut equals the published one.

    Args:
        roi: uint8 (H, W, 3).
        x_px: The figure's centre, from the left; it may lie a little outside.
        y_px: The same, from the top.

    Returns:
        uint8 (128, 128, 3).

    Raises:
        DataError: No part of the window is inside.
    """
    height, width = roi.shape[:2]
    left, top = x_px - CROP_PX // 2, y_px - CROP_PX // 2
    columns = slice(max(left, 0), min(left + CROP_PX, width))
    rows = slice(max(top, 0), min(top + CROP_PX, height))
    if columns.start >= columns.stop or rows.start >= rows.stop:
        raise DataError(
            "a crop lies outside of its region of interest",
            got=f"the centre ({x_px}, {y_px})",
            expected=f"one within {width} × {height} px",
            remedy="use the regions of interest that the table was made for",
        )
    crop = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = roi[rows, columns]
    return crop


def _unusable(path: Path, got: object) -> DataError:
    """The error for a file that cannot be used."""
    kind = "TIFF" if path.suffix.lower() in TIFFS else "JPEG or PNG"
    return DataError(f"{path} cannot be read", got=got, expected=f"an RGB {kind} of 8 bits", remedy="download it again")
