import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from mitoscope.errors import DataError
from mitoscope.training.data.rois import cut_crop, open_roi


@pytest.fixture
def roi() -> np.ndarray:
    """uint8 (200, 300, 3): every pixel another colour, none black."""
    y, x = np.mgrid[:200, :300]
    return np.stack([x % 256, y, x // 256 + 1], axis=2).astype(np.uint8)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "tiled"])
def test_an_roi_is_read_as_its_pixels(tmp_path: Path, roi: np.ndarray, compression: str) -> None:
    if compression == "tiled":
        tifffile.imwrite(tmp_path / "roi.tiff", roi, tile=(64, 64), photometric="rgb")
    else:
        Image.fromarray(roi).save(tmp_path / "roi.tiff", compression=compression)
    np.testing.assert_array_equal(open_roi(tmp_path / "roi.tiff"), roi)


def test_an_uncompressed_roi_is_mapped_and_not_loaded(tmp_path: Path, roi: np.ndarray) -> None:
    Image.fromarray(roi).save(tmp_path / "roi.tiff")
    assert isinstance(open_roi(tmp_path / "roi.tiff").base, np.memmap)


@pytest.mark.parametrize("fault", ["missing", "no TIFF", "truncated", "grey", "16 bit"])
def test_an_unusable_roi_is_named(tmp_path: Path, roi: np.ndarray, fault: str) -> None:
    path = tmp_path / "roi.tiff"
    if fault == "no TIFF":
        path.write_text("no TIFF")
    elif fault == "grey":
        Image.fromarray(roi[..., 0]).save(path)
    elif fault != "missing":
        tifffile.imwrite(path, roi.astype(np.uint16) if fault == "16 bit" else roi, photometric="rgb")
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:90_000])
    with pytest.raises(DataError, match=r"roi.tiff cannot be read: got .*, expected an RGB TIFF"):
        open_roi(path)


def test_a_crop_has_its_figure_at_64_64(roi: np.ndarray) -> None:
    crop = cut_crop(roi, 150, 100)
    np.testing.assert_array_equal(crop, roi[36:164, 86:214])
    np.testing.assert_array_equal(crop[64, 64], roi[100, 150])


@pytest.mark.parametrize(("x_px", "y_px"), [(10, 100), (295, 100), (150, 3), (150, 199), (-2, 198)])
def test_a_crop_at_a_border_is_black_outside(roi: np.ndarray, x_px: int, y_px: int) -> None:
    crop = cut_crop(roi, x_px, y_px)
    for row, column in ((0, 0), (0, 127), (127, 0), (127, 127), (64, 64), (40, 80)):
        x, y = x_px - 64 + column, y_px - 64 + row
        inside = 0 <= x < 300 and 0 <= y < 200
        np.testing.assert_array_equal(crop[row, column], roi[y, x] if inside else 0)


@pytest.mark.parametrize(("x_px", "y_px"), [(-64, 100), (364, 100), (150, -70), (150, 300)])
def test_a_crop_wholly_outside_is_refused(roi: np.ndarray, x_px: int, y_px: int) -> None:
    with pytest.raises(DataError, match=rf"got the centre \({x_px}, {y_px}\), expected one within 300 × 200 px"):
        cut_crop(roi, x_px, y_px)


@pytest.mark.data
def test_published_crops_are_cut_by_the_same_rule() -> None:
    if "MITOSIS_DATA" not in os.environ:
        pytest.skip("MITOSIS_DATA, the folder with the real crops, is not set")
    data = Path(os.environ["MITOSIS_DATA"])
    table = pd.read_csv(data / "labels" / "AMI-BR.csv").query("dataset == 'MIDOG21' and (x < 64 or y < 64)")
    assert len(table) == 28
    for row in table.itertuples():
        folder = data / "AMi-Br" / ("Atypical" if row.majority_atypical else "Normal")
        crop = np.asarray(Image.open(folder / f"MIDOG21_{row.uid}.png").convert("RGB"))
        black = (crop == 0).all(axis=2)
        first = (max(64 - row.y, 0), max(64 - row.x, 0))
        assert black[: first[0]].all()
        assert black[:, : first[1]].all()
        assert not black[first[0] :, first[1] :].all(axis=1).any()
