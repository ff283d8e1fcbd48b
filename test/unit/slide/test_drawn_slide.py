"""A slide of 5 × 4 mm at .5 µm per px, all of whose figures are known: from its file to its tables, in one run.

Three clusters of figures lie on three pieces of tissue, the rest is glass. The hotspot holds two clusters, though the
third one is larger than either. They are 1,750 µm wide: too wide for the circle, which holds one figure less.
"""

import csv
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from unit.detect.conftest import draw
from unit.slide.conftest import ATYPICAL, NORMAL

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.slide import run as module
from mitoscope.slide.analyse import Settings, analyse
from mitoscope.slide.hotspot import HEIGHT_UM, RADIUS_UM, WIDTH_UM
from mitoscope.slide.run import run_slides

MPP = 0.5
SIZE = (8000, 10000)  # height, width; px
TILE = 512
GLASS, TISSUE = (243, 243, 243), (229, 203, 216)  # so pale that half of its density is Otsu's limit: no edge is moved
PIECES = ((1536, 3072), (4608, 3072), (8192, 6144))  # left and upper side, px: each is one tile of the file
LEFT = ((1578, 3328), (1720, 3200), (1900, 3328), (1720, 3456))
RIGHT = ((4750, 3200), (5078, 3328), (4750, 3456))
FAR = ((8300, 6250), (8440, 6250), (8580, 6250), (8300, 6450), (8440, 6450))
FIGURES = (*LEFT, *RIGHT, *FAR)  # x, y
BLUE = (LEFT[1], RIGHT[0], FAR[2])  # atypical: two in the hotspot, one outside of it


def draw_piece(left: int, top: int) -> np.ndarray:
    """uint8 (512, 512, 3): a piece of tissue with its figures."""
    pixels = np.full((TILE, TILE, 3), TISSUE, np.uint8)
    for x, y in ((x - left, y - top) for x, y in FIGURES):
        if 0 <= x < TILE and 0 <= y < TILE:
            draw(pixels, x, y)
            if (x + left, y + top) in BLUE:
                near = pixels[y - 21 : y + 22, x - 21 : x + 22]
                near[(near == NORMAL).all(axis=2)] = ATYPICAL
    return pixels


def encode_tiles() -> Iterator[bytes]:
    """The compressed tiles of level 0, row by row."""
    glass = zlib.compress(np.full((TILE, TILE, 3), GLASS, np.uint8).tobytes())
    for top in range(0, SIZE[0], TILE):
        for left in range(0, SIZE[1], TILE):
            yield zlib.compress(draw_piece(left, top).tobytes()) if (left, top) in PIECES else glass


def draw_level(step: int) -> np.ndarray:
    """A smaller level: every step-th pixel."""
    pixels = np.full((SIZE[0] // step, SIZE[1] // step, 3), GLASS, np.uint8)
    for left, top in PIECES:
        pixels[top // step : (top + TILE) // step, left // step : (left + TILE) // step] = draw_piece(left, top)[
            ::step, ::step
        ]
    return pixels


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiled pyramid of three levels."""
    path = tmp_path_factory.mktemp("drawn") / "drawn.tif"
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 4, 16):
            resolution = 1e4 / MPP / step  # px per cm
            content = encode_tiles() if step == 1 else draw_level(step)
            writer.write(content, shape=(SIZE[0] // step, SIZE[1] // step, 3), dtype=np.uint8,
                         photometric="rgb", tile=(TILE, TILE), compression="zlib", subfiletype=int(step > 1),
                         resolution=(resolution, resolution), resolutionunit="CENTIMETER")  # fmt: skip
    return path


@pytest.fixture(scope="module")
def networks(truth: tuple[Detector, Classifier]) -> tuple[Detector, Classifier]:
    """What sees the drawn figures, at .5 µm per px."""
    detector, classifier = truth
    coarse = [replace(each.bundle, input=replace(each.bundle.input, mpp=MPP)) for each in truth]
    return (
        Detector(coarse[0], detector.members, detector.device, "fp32"),
        Classifier(coarse[1], classifier.members, classifier.device, "fp32"),
    )


@pytest.fixture(scope="module")
def folder(
    slide: Path, networks: tuple[Detector, Classifier], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """What the run wrote."""
    out = tmp_path_factory.mktemp("result")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module.Detector, "load", lambda *_, **__: networks[0])
        patched.setattr(module.Classifier, "load", lambda *_, **__: networks[1])
        assert run_slides([slide], out, device="cpu") == 0
    return out


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "drawn.tif" / "summary.json").read_text(encoding="utf-8"))
    return found


def test_the_tissue_is_what_was_drawn(summary: dict[str, Any]) -> None:
    assert summary["slide"]["mpp"]["x"] == pytest.approx(MPP)
    assert summary["counts"]["tissue_mm2"] == pytest.approx(3 * (TILE * MPP) ** 2 / 1e6, rel=0.01)
    assert summary["counts"]["per_mm2"] == pytest.approx(len(FIGURES) / summary["counts"]["tissue_mm2"])


def test_the_hotspot_holds_two_clusters_and_not_the_third(summary: dict[str, Any]) -> None:
    counts, held = summary["counts"], np.array([*LEFT, *RIGHT]) + 0.5
    assert counts["n_mitotic_figures"] == len(FIGURES)
    assert counts["atypical"]["n_atypical"] == len(BLUE)
    hotspot = counts["hotspot"]
    assert hotspot["n_figures"] == len(held) < len(FIGURES)
    middle = (held.min(axis=0) + held.max(axis=0)) / 2 * MPP  # both pieces are cut alike wherever it lies
    assert hotspot["left_um"] == pytest.approx(middle[0] - WIDTH_UM / 2, abs=1e-6)
    assert hotspot["top_um"] == pytest.approx(middle[1] - HEIGHT_UM / 2, abs=1e-6)
    assert hotspot["atypical"]["n_atypical"] == 2
    assert hotspot["atypical"]["share"] == pytest.approx(2 / 7)


def test_the_circle_holds_one_figure_less(summary: dict[str, Any]) -> None:
    circle = summary["counts"]["hotspot_circle"]
    assert circle["n_figures"] == circle["atypical"]["n_figures"] == len(LEFT) + len(RIGHT) - 1
    away_um = np.hypot(*((np.array(FIGURES) + 0.5) * MPP - (circle["x_um"], circle["y_um"])).T)
    held = away_um <= RADIUS_UM
    assert held.sum() == circle["n_figures"] and not held[-len(FAR) :].any()
    assert circle["atypical"]["n_atypical"] == 2


def test_the_tables_agree(summary: dict[str, Any], folder: Path) -> None:
    with (folder / "drawn.tif" / "detections.csv").open(encoding="utf-8") as file:
        rows = {(float(row["x_px"]) - 0.5, float(row["y_px"]) - 0.5): row for row in csv.DictReader(file)}
    assert sorted(rows) == sorted(FIGURES)
    assert {place for place, row in rows.items() if row["hotspot"] == "1"} == {*LEFT, *RIGHT}
    assert {place for place, row in rows.items() if row["class"] == "atypical"} == set(BLUE)
    assert all(float(row["x_um"]) == pytest.approx((x + 0.5) * MPP, abs=1e-3) for (x, _), row in rows.items())
    (used,) = (row for row in summary["sensitivity"] if row["is_used"])
    assert (used["n_hotspot"], used["n_hotspot_circle"], used["n_atypical_hotspot"]) == (7, 6, 2)
    assert (used["share_hotspot"], used["share"]) == (pytest.approx(2 / 7), pytest.approx(3 / 12))
    with (folder / "slides.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["state"], row["n_hotspot"], row["n_atypical_hotspot"], row["n_atypical"]) == ("finished", "7", "2", "3")
    assert row["share_atypical"] == "0.2500"


@pytest.mark.slow
def test_another_number_of_threads_gives_the_same_files(
    slide: Path, networks: tuple[Detector, Classifier], folder: Path, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        analyse(slide, tmp_path / "drawn.tif", *networks, Settings(None, None, networks[0].threshold / 2))
    finally:
        torch.set_num_threads(before)
    for name in ("detections.csv", "qupath.geojson"):
        assert (tmp_path / "drawn.tif" / name).read_bytes() == (folder / "drawn.tif" / name).read_bytes()
