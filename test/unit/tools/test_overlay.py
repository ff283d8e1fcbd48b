import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from tools.overlay import draw_points

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A called and another point, 0.1 mm from each other, in a region whose first pixel lies at (1, 2) mm."""
    points = [
        {"name": "mitotic figure", "point": [1.025, 2.0375, 0.0], "probability": 0.91},
        {"name": "non-mitotic figure", "point": [1.125, 2.0375, 0.0], "probability": 0.3},
        {"name": "non-mitotic figure", "point": [1.075, 2.0375, 0.0], "probability": 0.06},
    ]
    (tmp_path / "mitotic-figures.json").write_text(json.dumps({"points": points}))
    return tmp_path / "mitotic-figures.json"


@pytest.fixture
def region(tmp_path: Path) -> Path:
    image = SimpleITK.GetImageFromArray(np.full((300, 600, 3), 230, np.uint8), isVector=True)
    image.SetSpacing((0.00025, 0.00025))
    image.SetOrigin((1, 2))
    SimpleITK.WriteImage(image, str(tmp_path / "region.mha"))
    return tmp_path / "region.mha"


def test_rings_lie_around_the_points(result: Path, region: Path) -> None:
    drawn = np.asarray(draw_points(result, region)).astype(int)
    assert drawn.shape == (300, 600, 3)
    is_green = (drawn == (0, 160, 0)).all(axis=2)
    is_yellow = (drawn == (255, 208, 0)).all(axis=2)
    for mask, x in ((is_green, 100), (is_yellow, 500)):
        rows, columns = mask.nonzero()
        assert (rows.min() + rows.max()) / 2 == pytest.approx(150, abs=2)
        assert (columns.min() + columns.max()) / 2 == pytest.approx(x, abs=2)
        assert columns.max() - columns.min() == pytest.approx(100, abs=4)  # 25 µm
    assert (drawn[100:200, 280:320] == 230).all()  # the least probable point is not drawn


def test_the_command_writes_a_picture(result: Path, region: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.overlay", result, region, tmp_path / "p.png"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"wrote {tmp_path / 'p.png'}\n"
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (600, 300)
