"""The weights in git, from a slide to its counts: within bounds on a drawn slide whose figures are known."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import render_region
import tifffile
from PIL import Image

from mitoscope.cli import main

REGION = Path(__file__).parents[2] / "input" / "region0"
GLASS_PX = 100  # around each of the two pieces of tissue
FOUND_UM = 7.5


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """The committed region twice, once turned by 180°, on glass; and its figures, float (18, 2), x and y in px."""
    [path] = REGION.glob("images/*/*.tiff")
    tissue = np.asarray(Image.open(path).convert("RGB"))
    height, width, _ = tissue.shape
    pixels = np.full((height + 2 * GLASS_PX, 2 * width + 3 * GLASS_PX, 3), 243, np.uint8)
    pixels[GLASS_PX : GLASS_PX + height, GLASS_PX : GLASS_PX + width] = tissue
    pixels[GLASS_PX : GLASS_PX + height, 2 * GLASS_PX + width : 2 * (GLASS_PX + width)] = tissue[::-1, ::-1]
    places = np.array([(x, y) for _, x, y in render_region.FIGURES], float)
    turned = (width, height) - places + (GLASS_PX + width, 0)
    slide = tmp_path_factory.mktemp("slide") / "drawn.tif"
    tifffile.imwrite(slide, pixels, photometric="rgb", tile=(256, 256), compression="zlib", resolution=(40000, 40000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    return slide, np.concatenate([places, turned]) + GLASS_PX


def count_hits(rows: list[dict[str, str]], places: np.ndarray) -> tuple[int, int]:
    """Figures that lie near a point, and points that lie near no figure."""
    points = np.array([(float(row["x_px"]), float(row["y_px"])) for row in rows]).reshape(-1, 2)
    near = np.hypot(*(points[:, None] - places).transpose(2, 0, 1)) * 0.25 <= FOUND_UM
    return int(near.any(axis=0).sum()), int((~near.any(axis=1)).sum())


def test_the_weights_in_git_count_a_drawn_slide_within_bounds(drawn: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    slide, places = drawn
    given = ["--device", "cpu", "--precision", "fp32", "--floor", "0.2"]
    assert main(["slide", str(slide), *given, "--out", str(tmp_path)]) == 0
    rows = list(csv.DictReader((tmp_path / slide.name / "detections.csv").read_text(encoding="utf-8").splitlines()))
    called = [row for row in rows if row["class"]]
    # On drawn tissue the network is unsure: most figures lie between the floor and the threshold.
    (n_found, n_false), (n_shown, n_wrong) = count_hits(called, places), count_hits(rows, places)
    assert n_found >= 4 and n_false <= 1
    assert n_shown >= 11 and n_wrong <= 3
    counts = json.loads((tmp_path / slide.name / "summary.json").read_text(encoding="utf-8"))["counts"]
    assert counts["n_mitotic_figures"] == counts["hotspot"]["n_figures"] == len(called)  # less tissue than a hotspot
    assert counts["atypical"]["n_unclassified"] == 0
    assert counts["atypical"]["n_atypical"] == sum(row["class"] == "atypical" for row in called)
