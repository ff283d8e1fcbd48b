"""What the page of a slide holds: its pictures, its points and its words."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from unit.detect.conftest import overwrite_block

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.slide.analyse import Settings, analyse
from mitoscope.slide.overview import Overview
from mitoscope.slide.report.views import DAMAGED_COLOUR, paint_damaged

TILE_PX, DAMAGED_TILE = 128, (7, 2)  # column and row of a tile on glass


@pytest.fixture(scope="module")
def result(drawn: np.ndarray, truth: tuple[Detector, Classifier], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a slide without levels, of which a tile cannot be read."""
    folder = tmp_path_factory.mktemp("page")
    tifffile.imwrite(folder / "a.tif", drawn, photometric="rgb", tile=(TILE_PX, TILE_PX), compression="zlib",
                     resolution=(40000, 40000), resolutionunit="CENTIMETER")  # fmt: skip
    column, row = DAMAGED_TILE
    overwrite_block(folder / "a.tif", row * -(-drawn.shape[1] // TILE_PX) + column)
    analyse(folder / "a.tif", folder / "out", *truth, Settings(None, None, 0.05))
    return folder / "out"


def read_data(folder: Path) -> dict[str, Any]:
    """The data of a page's script."""
    html = (folder / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def show(view: dict[str, Any]) -> np.ndarray:
    """The finest level of a view that is small: uint8 (H, W, 3)."""
    (tile,) = view["levels"][-1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(tile))))


def test_damage_is_painted_on_a_copy_and_nothing_else_is() -> None:
    overview = Overview(np.full((2, 3, 3), 200, np.uint8), np.array([[False, True, False], [False] * 3]))
    painted = paint_damaged(overview)
    assert tuple(painted[0, 1]) == DAMAGED_COLOUR
    assert (painted[~overview.damaged] == 200).all() and (overview.pixels == 200).all()


def test_the_page_shows_a_damaged_tile_in_grey(result: Path) -> None:
    view = read_data(result)["views"][0]
    pixels, (column, row) = show(view), DAMAGED_TILE
    x, y = ((place + 0.5) * TILE_PX / scale for place, scale in zip((column, row), view["scale"], strict=True))
    np.testing.assert_allclose(pixels[int(y), int(x)], DAMAGED_COLOUR, atol=20)  # JPEG, beside an outline
