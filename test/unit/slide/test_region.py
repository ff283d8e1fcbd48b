"""The user's own outline of the tissue, as a mask."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitoscope.errors import DataError
from mitoscope.images.slide import Slide, open_slide
from mitoscope.slide.region import read_region
from mitoscope.slide.tissue import Tissue


def read_um(folder: Path, slide: Slide, *polygons: list[list[tuple[float, float]]]) -> Tissue:
    """The region of polygons whose corners are in µm."""
    coordinates = [[[(x / slide.mpp.x, y / slide.mpp.y) for x, y in ring] for ring in rings] for rings in polygons]
    (folder / "r.geojson").write_text(json.dumps({"type": "MultiPolygon", "coordinates": coordinates}))
    return read_region(folder / "r.geojson", slide)


def box_um(left: float, top: float, width: float, height: float) -> list[tuple[float, float]]:
    right, bottom = left + width, top + height
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


@pytest.fixture
def field(tmp_path: Path) -> Path:
    Image.fromarray(np.full((800, 1600, 3), 200, np.uint8)).save(tmp_path / "f.png")
    return tmp_path / "f.png"


def test_a_region_of_the_user(tmp_path: Path, field: Path) -> None:
    ring = [[160, 160], [1120, 160], [1120, 640], [160, 640], [160, 160]]
    hole = [[320, 320], [640, 320], [640, 480], [320, 480], [320, 320]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring, hole]}}
    (tmp_path / "r.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    content = (tmp_path / "r.geojson").read_bytes()
    (tmp_path / "r.geojson.gz").write_bytes(gzip.compress(content))
    tissue = read_region(tmp_path / "r.geojson", open_slide(field, 0.25))
    zipped = read_region(tmp_path / "r.geojson.gz", open_slide(field, 0.25))
    assert np.array_equal(tissue.mask, zipped.mask)
    assert tissue.area_mm2 == pytest.approx((960 * 480 - 320 * 160) * 0.25**2 / 1e6, rel=1e-9)  # cells of 32 px
    inside = tissue.contains(np.array([[200, 200], [480, 400], [10, 10], [1100, 600]]))
    assert inside.tolist() == [True, False, False, True]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"type": "Polygon", "coordinates": [[["a", 1]]]}',
                                     '{"type": "Point", "coordinates": [1, 2]}'])  # fmt: skip
def test_a_region_that_is_none_is_one_line(tmp_path: Path, field: Path, content: str) -> None:
    (tmp_path / "r.geojson").write_text(content)
    with pytest.raises(DataError, match=r"r\.geojson") as caught:
        read_region(tmp_path / "r.geojson", open_slide(field, 0.25))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("shift_um", [0.0, 1.0, 3.9, 4.0, 4.1, 7.0])
def test_the_area_of_a_rectangle_is_exact_wherever_it_lies(tmp_path: Path, field: Path, shift_um: float) -> None:
    """Its sides are whole cells, so each row of cells has as many centres in it wherever it begins."""
    slide = open_slide(field, 0.25)
    tissue = read_um(tmp_path, slide, [box_um(40 + shift_um, 24 + shift_um, 240, 120)])
    assert tissue.area_mm2 == pytest.approx(0.0288, rel=1e-9)
    around = [box_um(16, 16, 320, 160), box_um(40 + shift_um, 24 + shift_um, 240, 120)]
    assert read_um(tmp_path, slide, around).area_mm2 == pytest.approx(0.0512 - 0.0288, rel=1e-9)
    small = read_um(tmp_path, slide, [box_um(40 + shift_um, 24 + shift_um, 80, 40)])
    assert small.area_mm2 == pytest.approx(0.0032, rel=1e-9)


def test_the_area_of_a_round_region_with_a_round_hole(tmp_path: Path) -> None:
    Image.new("L", (2400, 2400), 200).save(tmp_path / "f.png")
    angles = np.linspace(0, 2 * np.pi, 721)
    outer, hole = ([(613.3 + r * x, 588.8 + r * y) for x, y in zip(np.cos(angles), np.sin(angles), strict=True)]
                   for r in (500, 150))  # fmt: skip
    slide = open_slide(tmp_path / "f.png", 0.5)
    for rings in ([outer, hole], [outer, hole[::-1]], [outer[:-1], hole[:-1]]):  # also rings that are not closed
        tissue = read_um(tmp_path, slide, rings)
        assert tissue.area_mm2 == pytest.approx(np.pi * (500**2 - 150**2) / 1e6, rel=0.01)


def test_two_polygons_are_joined_and_a_hole_cuts_only_its_own(tmp_path: Path, field: Path) -> None:
    slide = open_slide(field, 0.25)
    first = [box_um(40, 40, 160, 80), box_um(80, 64, 80, 32)]
    assert read_um(tmp_path, slide, first, [box_um(120, 64, 80, 32)]).area_mm2 == pytest.approx((12800 - 1280) / 1e6)


def test_what_lies_outside_of_the_slide_is_left_out(tmp_path: Path, field: Path) -> None:
    tissue = read_um(tmp_path, open_slide(field, 0.25), [box_um(-80, 120, 160, 160)])
    assert tissue.area_mm2 == pytest.approx(80 * 80 / 1e6)


@pytest.mark.parametrize("box", [(41, 41, 2, 2), (5000, 40, 80, 80)], ids=["smaller than a cell", "beside the slide"])
def test_a_region_without_a_cell_is_refused(
    tmp_path: Path, field: Path, box: tuple[float, float, float, float]
) -> None:
    with pytest.raises(DataError, match=r"r\.geojson has no area on f\.png: got .* 8 µm") as caught:
        read_um(tmp_path, open_slide(field, 0.25), [box_um(*box)])
    assert str(caught.value).isprintable()
