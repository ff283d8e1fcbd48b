import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mitoscope.classify.classifier import Classifier
from mitoscope.errors import DataError
from mitoscope.scoring.report.gallery import Pictures, page_data, read_pictures
from mitoscope.scoring.report.page import encode_image
from mitoscope.scoring.report.saliency import Saliency, quantise


def decode(text: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert image.format == "WEBP"
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def crops(tmp_path: Path, stack: np.ndarray, save_tiff: Callable[..., Path]) -> Path:
    """Two PNGs in folders and a TIFF of three pages."""
    folder = tmp_path / "crops"
    for name, page in (("a/1.png", stack[0]), ("b/1.png", stack[1])):
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(page).save(folder / name)
    save_tiff(folder / "three.tif", stack[2:5])
    return folder


def test_every_prediction_gets_its_own_picture_and_map(crops: Path, stack: np.ndarray, tiny_bundle: Path) -> None:
    saliency = Saliency(Classifier.load(tiny_bundle, device="cpu"))
    pictures = read_pictures([crops], ["three.tif#3", "b/1.png"], saliency, None)
    assert pictures.n_others == 3
    assert pictures.map_cells == (8, 8)
    assert pictures.maps is not None
    for name, page in (("three.tif#3", stack[4]), ("b/1.png", stack[1])):
        difference = np.abs(decode(pictures.images[name]).astype(int) - page)
        assert difference.mean() < 6
        cells = np.frombuffer(base64.b64decode(pictures.maps[name]), np.uint8).astype(int)
        assert np.abs(cells - quantise(saliency.maps(page[None])).ravel()).max() <= 1


def test_without_saliency_there_are_no_maps(crops: Path) -> None:
    pictures = read_pictures([crops], ["a/1.png"], None, None)
    assert pictures.maps is None
    assert pictures.map_cells is None


def test_a_prediction_without_its_crop_is_refused(crops: Path) -> None:
    with pytest.raises(DataError, match=r"2 predictions have no crop: got 'a/2.png', 'c', expected every image_id"):
        read_pictures([crops], ["a/1.png", "a/2.png", "c"], None, None)


@pytest.mark.parametrize("name", ["broken.png", "broken.tif#2"])
def test_a_prediction_whose_crop_cannot_be_read_is_refused_with_the_reason(name: str, crops: Path) -> None:
    (crops / name.partition("#")[0]).write_bytes(b"no image")
    with pytest.raises(
        DataError, match=rf"1 predictions have no crop: got '{name}' \('.*broken\.(png|tif)' cannot be read"
    ):
        read_pictures([crops], ["a/1.png", name], None, None)


def test_what_cannot_be_read_and_was_not_predicted_is_counted(crops: Path) -> None:
    (crops / "broken.png").write_bytes(b"no image")
    assert read_pictures([crops], ["a/1.png"], None, None).n_others == 5


def test_five_thousand_pictures_of_tissue_take_less_than_40_mb() -> None:
    """Noise like a sharp scanner's on the smooth pages' colours: harder to compress than the published crops."""
    random = np.random.default_rng(0)
    coarse = random.integers(90, 250, (20, 32, 32, 3), np.uint8)
    pages = [np.asarray(Image.fromarray(page).resize((128, 128), Image.Resampling.BICUBIC)) for page in coarse]
    assert np.mean([len(encode_image(page)) for page in pages]) * 5000 < 40e6


def test_the_columns_belong_together() -> None:
    table = pd.DataFrame(
        {
            "image_id": ["x", "y"],
            "p_atypical": [0.7, 0.2],
            "class": ["atypical", "normal"],
            "member_0": [0.6, 0.1],
            "member_1": [0.8, 0.3],
            "label": ["normal", "normal"],
            "domain": ["lung", None],
            "case": [None, None],
        }
    )
    pictures = Pictures({"y": "Y", "x": "X"}, {"y": "m", "x": "n"}, (8, 8), {"y": ["stain"], "x": []}, 0)
    assert page_data(table, pictures, 0.5, 64) == {
        "threshold": 0.5,
        "crop_px": 128,
        "frame_px": 64,
        "map_cells": (8, 8),
        "image_id": ["x", "y"],
        "p_atypical": [0.7, 0.2],
        "members": [[0.6, 0.8], [0.1, 0.3]],
        "called": [1, 0],
        "label": [0, 0],
        "domain": ["lung", None],
        "case": None,
        "unlike": [[], ["stain"]],
        "image": ["X", "Y"],
        "map": ["n", "m"],
    }
