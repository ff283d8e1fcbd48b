import tracemalloc
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import pytest

from mitoscope.images.slide import Mpp, Slide
from mitoscope.images.source import ArraySource
from mitoscope.slide import tissue as module
from mitoscope.slide.export.outline import trace
from mitoscope.slide.overview import read_overview
from mitoscope.slide.tissue import Tissue, make_mask

GLASS = 243
DENSE, FAINT, EOSIN = (150, 80, 160), (228, 205, 225), (225, 140, 180)
INKS = {"blue": (40, 60, 200), "green": (30, 160, 70), "black": (15, 15, 15), "red": (235, 30, 35)}


def paint(*boxes: tuple[int, int, int, int, tuple[int, int, int]]) -> np.ndarray:
    """uint8 (200, 300, 3): glass with a little noise, and boxes (left, top, right, bottom, colour)."""
    pixels = np.full((200, 300, 3), GLASS, float)
    for left, top, right, bottom, colour in boxes:
        pixels[top:bottom, left:right] = colour
    return (pixels + np.random.default_rng(0).normal(0, 2, pixels.shape)).clip(0, 255).astype(np.uint8)


def share(mask: np.ndarray, box: tuple[int, int, int, int]) -> float:
    left, top, right, bottom = box
    return float(mask[top + 4 : bottom - 4, left + 4 : right - 4].mean())


def test_faint_tissue_is_kept_beside_dense_tissue() -> None:
    mask = make_mask(paint((20, 20, 120, 120, DENSE), (150, 20, 250, 120, FAINT)), 8.0)
    assert share(mask, (20, 20, 120, 120)) == 1
    assert share(mask, (150, 20, 250, 120)) > 0.95
    assert share(mask, (20, 140, 280, 200)) == 0
    assert mask.sum() == pytest.approx(20_000, rel=0.08)


@pytest.mark.parametrize("ink", INKS)
def test_ink_is_no_tissue(ink: str) -> None:
    mask = make_mask(paint((20, 20, 120, 120, EOSIN), (160, 10, 180, 190, INKS[ink])), 8.0)
    assert share(mask, (20, 20, 120, 120)) > 0.95
    assert not mask[:, 145:].any()


def test_black_borders_holes_and_specks() -> None:
    border = ((0, 0, 300, 8, (0, 0, 0)), (0, 0, 8, 200, (0, 0, 0)))
    boxes = ((40, 40, 160, 160, DENSE), (60, 60, 70, 70, (GLASS,) * 3), (90, 90, 140, 140, (GLASS,) * 3),
             (250, 100, 256, 106, DENSE))  # a small hole, a large one, a speck  # fmt: skip
    mask = make_mask(paint(*border, *boxes), 8.0)
    assert not mask[:, :20].any() and not mask[:20].any() and not mask[:, 200:].any()
    assert mask[65, 65] and not mask[115, 115]


def test_a_field_of_nothing_but_tissue_is_whole_and_glass_is_empty() -> None:
    assert make_mask(paint((0, 0, 300, 200, EOSIN)), 8.0).mean() == 1
    assert not make_mask(paint(), 8.0).any()
    assert not make_mask(paint((0, 0, 300, 200, (180, 180, 180))), 8.0).any()


@pytest.mark.parametrize("n_white", [30, 180])
def test_what_was_not_scanned_is_no_glass(n_white: int) -> None:
    """Readers paint it white; beside it tinted glass must not become tissue."""
    pixels = paint((50, 50, 150, 150, EOSIN))
    pixels[...] = pixels * (np.array([242, 238, 222]) / 243)
    pixels[:, -n_white:] = 255
    mask = make_mask(pixels, 8.0)
    assert mask[55:145, 55:115].all() and not mask[:, :40].any()


def test_a_little_glass_at_the_border_is_no_hole() -> None:
    mask = make_mask(paint((0, 0, 285, 200, EOSIN)), 8.0)  # .19 mm² of glass remain
    assert not make_mask(paint((0, 0, 285, 200, EOSIN))[:20], 8.0)[:, 292:].any()
    assert not mask[:, 292:].any()


def test_outlines_hold_the_mask_and_no_ring_touches_another() -> None:
    mask = np.zeros((12, 16), bool)
    mask[1:9, 1:9] = True
    mask[3:6, 3:6] = False
    mask[4, 4] = True  # an island in the hole
    mask[9, 9] = True  # meets the first piece in a corner
    polygons = trace(mask)
    assert len(polygons) == 3
    assert sorted(len(polygon) for polygon in polygons) == [1, 1, 2]
    corners = [tuple(point) for polygon in polygons for ring in polygon for point in ring[:-1].tolist()]
    assert len(corners) == len(set(corners))
    for polygon in polygons:
        for ring in polygon:
            assert np.array_equal(ring[0], ring[-1]) and len(ring) >= 5


def test_the_tissue_of_a_box() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:6, 5:15] = True
    tissue = Tissue(mask, 8.0, (0.25, 0.25), "found", (160.0, 80.0))
    assert tissue.area_mm2 == pytest.approx(40 * 64e-6)
    assert tissue.measure_box_mm2(-99, -99, 999, 999) == pytest.approx(tissue.area_mm2)
    assert tissue.measure_box_mm2(40, 16, 48, 24) == pytest.approx(64e-6)
    assert tissue.measure_box_mm2(0, 0, 40, 80) == 0
    assert replace(tissue, size_um=(100.0, 80.0)).area_mm2 == pytest.approx(30 * 64e-6)  # the slide ends in the tissue
    assert tissue.measure_box_mm2(44, 18, 46, 22) == pytest.approx(8e-6)  # a part of a pixel is a part of its area
    assert tissue.measure_box_mm2(38, 14, 42, 18) == pytest.approx(4e-6)  # a corner of the tissue


@pytest.mark.parametrize("side_px", [960, 961, 20_000])
def test_a_small_slide_has_a_finer_overview_of_the_same_places(side_px: int) -> None:
    pixels = (
        np.full((side_px // 4, side_px, 3), 243, np.uint8) if side_px < 10_000 else np.zeros((64, side_px, 3), np.uint8)
    )
    slide = Slide(Path("a"), ArraySource(pixels), Mpp(0.25, 0.25, "tags"), ())
    rows, columns, _ = read_overview(slide).pixels.shape
    mask = ceil(pixels.shape[0] / 32), ceil(side_px / 32)
    zoom = columns // mask[1]
    assert (rows, columns) == (zoom * mask[0], zoom * mask[1])
    assert columns <= 2000
    assert zoom == {960: 32, 961: 32, 20_000: 3}[side_px]


def test_the_mask_does_not_depend_on_the_bands_that_save_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = ((20, 20, 120, 120, DENSE), (150, 20, 250, 120, FAINT), (160, 130, 180, 190, INKS["green"]),
             (250, 150, 256, 156, DENSE), (60, 60, 70, 70, (GLASS,) * 3))  # fmt: skip
    pixels = np.tile(paint(*boxes), (2, 2, 1))
    whole = make_mask(pixels, 8.0)
    monkeypatch.setattr(module, "BAND_PX", 7 * pixels.shape[1])
    tracemalloc.start()
    try:
        assert np.array_equal(make_mask(pixels, 8.0), whole)
        assert tracemalloc.get_traced_memory()[1] < 25 * whole.size  # some 50 in one piece
    finally:
        tracemalloc.stop()
