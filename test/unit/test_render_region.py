"""The committed region is what its generator draws, and reads as a region does."""

import json
from pathlib import Path

import numpy as np
import pytest
import render_region
import SimpleITK
import tifffile
from PIL import Image

from mitoscope.images.slide import open_slide
from model.detection import IMAGES_FOLDER

CASE = Path(__file__).parents[1] / "input" / "region0"


@pytest.fixture(scope="module")
def committed() -> Path:
    (socket,) = json.loads((CASE / "inputs.json").read_text(encoding="utf-8"))
    assert socket["socket"]["slug"] == "histopathology-region-of-interest-cropout"
    assert socket["socket"]["relative_path"] == IMAGES_FOLDER
    (path,) = (CASE / IMAGES_FOLDER).iterdir()
    return path


@pytest.fixture(scope="module")
def pixels(committed: Path) -> np.ndarray:
    with Image.open(committed) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.long
def test_the_committed_region_is_what_the_generator_draws(committed: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    drawn = render_region.render_region()
    path = render_region.write_case(drawn, tmp_path)
    assert (tmp_path / "inputs.json").read_bytes() == (CASE / "inputs.json").read_bytes()
    with Image.open(path) as image:
        again = np.asarray(image.convert("RGB")).astype(int)
    # Another processor or encoder may differ in the last bit of some pixels.
    assert (np.abs(again - pixels) > 2).mean() < 1e-3


def test_it_is_a_small_tiled_jpeg_with_resolution_tags(committed: Path) -> None:
    assert committed.stat().st_size < 400_000
    with tifffile.TiffFile(committed) as file:
        (page,) = file.pages
        assert (page.is_tiled, page.compression.name, page.photometric.name) == (True, "JPEG", "YCBCR")
    slide = open_slide(committed)
    assert (slide.width_px, slide.height_px, slide.notes) == (1200, 1000, ())
    assert (slide.mpp.x, slide.mpp.y, slide.mpp.source) == (0.25, 0.25, "tags")


def test_simpleitk_and_the_slide_reader_read_the_same_pixels(committed: Path, pixels: np.ndarray) -> None:
    image = SimpleITK.ReadImage(str(committed))
    assert image.GetSpacing() == pytest.approx((0.00025, 0.00025))
    assert np.array_equal(open_slide(committed).read(0, 0, 1200, 1000, 0.25), pixels)
    by_itk = SimpleITK.GetArrayFromImage(image)[..., :3].astype(int)  # it adds an alpha channel
    assert np.abs(by_itk - pixels).mean() < 1  # the chroma is enlarged in another way


def test_every_figure_is_darker_than_the_nuclei_around_it(pixels: np.ndarray) -> None:
    grey = pixels.mean(axis=2)
    for page, x, y in render_region.FIGURES:
        centre, around = grey[y - 26 : y + 26, x - 26 : x + 26], grey[y - 90 : y + 90, x - 90 : x + 90]
        assert np.quantile(centre, 0.05) < np.quantile(around, 0.05), page.shows
