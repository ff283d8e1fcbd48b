"""The GeoJSON against the rules of QuPath's reader, and a slide with bounds by hand calculation.

Each rule names the file of QuPath's source (github.com/qupath/qupath, version 0.5) that demands it.
"""

import gzip
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from mitoscope.images.slide import Mpp, Slide
from mitoscope.images.source import ArraySource
from mitoscope.slide.counts import Thresholds, count
from mitoscope.slide.export import qupath as module
from mitoscope.slide.export.outline import trace
from mitoscope.slide.export.qupath import encode_slide, write_geojson
from mitoscope.slide.figures import Figures
from mitoscope.slide.tissue import Tissue

OBJECT_TYPES = ("annotation", "detection", "cell", "tile", "tmaCore", "root")
THRESHOLDS = Thresholds(0.5, 0.4)


class BoundedSource(ArraySource):
    bounds_px = (1000, 600, 2000, 1400)

    def open_levels(self) -> list:
        return []


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """A slide of .5 µm per px whose scan begins at x 1000, y 600."""
    slide = Slide(Path("s.mrxs"), BoundedSource(np.zeros((2400, 3600, 3), np.uint8)), Mpp(0.5, 0.5, "tags"), ())
    assert slide.bounds_px == (1000, 600, 2000, 1400)
    mask = np.zeros((150, 225), bool)  # pixels of 8 µm: 16 px of level 0
    mask[50:100, 80:160] = True
    mask[60:70, 90:100] = False
    points = np.array([[1500.5, 900.25, 0.9], [1700, 1000, 0.8], [1800, 1100, 0.7], [1900, 1200, 0.1]])
    p_atypical = np.array([0.9, 0.1, np.nan, 0.2])
    figures = Figures(points, p_atypical[None], p_atypical, None, [""] * 4)
    tissue = Tissue(mask, 8.0, (0.5, 0.5), "found", (mask.shape[1] * 8.0, mask.shape[0] * 8.0))
    return encode_slide(slide, figures, tissue, count(figures, tissue, THRESHOLDS, tissue), THRESHOLDS)


def test_it_is_a_feature_collection(content: dict[str, Any]) -> None:
    """PathObjectCollectionTypeAdapter.read takes an array or an object with "features" (QuPathTypeAdapters.java)."""
    assert content["type"] == "FeatureCollection"
    assert all(feature["type"] == "Feature" for feature in content["features"])
    assert content["not_for"] == "clinical use"


def test_ids_are_unique_uuids(content: dict[str, Any]) -> None:
    """PathObjectTypeAdapter.parseObject: UUID.fromString(id), at the feature (QuPathTypeAdapters.java)."""
    ids = [feature["id"] for feature in content["features"]]
    assert len(set(map(UUID, ids))) == len(ids)


def test_object_type_and_class_are_in_properties(content: dict[str, Any]) -> None:
    """parseObject reads "objectType", "classification", "name", "isLocked" in properties (QuPathTypeAdapters.java).

    The colour is an array of three whole numbers (PathClassTypeAdapter in GsonTools.java).
    """
    for feature in content["features"]:
        properties = feature["properties"]
        assert properties["objectType"] in OBJECT_TYPES
        assert isinstance(properties["classification"]["name"], str)
        colour = properties["classification"]["color"]
        assert len(colour) == 3 and all(isinstance(value, int) and 0 <= value <= 255 for value in colour)
        is_area = feature["geometry"]["type"] == "Polygon"
        assert (properties["objectType"] == "annotation") == is_area == properties.get("isLocked", False)


def test_points_have_the_numbers_that_they_have_on_the_page(content: dict[str, Any]) -> None:
    names = [each["properties"]["name"] for each in content["features"] if each["geometry"]["type"] == "Point"]
    assert names == [f"point {number}" for number in range(1, len(names) + 1)]


def test_measurements_are_an_object_of_numbers(content: dict[str, Any]) -> None:
    """MeasurementListTypeAdapter.read: a map from names to doubles, no null (QuPathTypeAdapters.java)."""
    for feature in content["features"]:
        values = feature["properties"]["measurements"].values()
        assert all(isinstance(value, int | float) and np.isfinite(value) for value in values)


def measure_turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """To which side a path from a by b to c turns: -1, 0 or 1."""
    side: np.ndarray = np.sign((b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1])
                               - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0]))  # fmt: skip
    return side


def is_simple(ring: np.ndarray) -> bool:
    """Whether no two sides of a closed ring meet, but neighbours in their corner."""
    points = ring[:-1]
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]  # a corner may be given twice
    a, b = points[:, None], np.roll(points, -1, axis=0)[:, None]
    c, d = a.swapaxes(0, 1), b.swapaxes(0, 1)
    near = (np.maximum(np.minimum(a, b), np.minimum(c, d)) <= np.minimum(np.maximum(a, b), np.maximum(c, d))).all(
        axis=2
    )
    parted = measure_turn(a, b, c) * measure_turn(a, b, d) <= 0, measure_turn(c, d, a) * measure_turn(c, d, b) <= 0
    away = (np.arange(len(points))[:, None] - np.arange(len(points))) % len(points)
    is_neighbour = (away <= 1) | (away == len(points) - 1)
    return not (near & parted[0] & parted[1] & ~is_neighbour).any()


def measure_area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def is_inside(point: np.ndarray, ring: np.ndarray) -> bool:
    a, b = ring[:-1], ring[1:]
    spans = (a[:, 1] > point[1]) != (b[:, 1] > point[1])
    a, b = a[spans], b[spans]
    return bool((a[:, 0] + (point[1] - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1]) > point[0]).sum() % 2)


def check_polygon(polygon: list[np.ndarray]) -> None:
    """Closed rings that do not cross themselves; holes run the other way, and lie inside."""
    outer, *holes = polygon
    for ring in polygon:
        assert np.array_equal(ring[0], ring[-1]) and len(ring) >= 4
        assert is_simple(ring)
    assert measure_area(outer) > 0
    for hole in holes:
        assert measure_area(hole) < 0
        assert all(is_inside(point, outer) for point in hole)


def test_the_check_of_rings_finds_faults() -> None:
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4], [0, 0]])
    check_polygon([square, square[::-1] / 2 + 1])
    for wrong in ([square[:-1]], [square[[0, 2, 1, 3, 0]]], [square[::-1]], [square, square / 2 + 1],
                  [square, square[::-1] / 2 + 3], [square[[0, 1, 2, 0, 3, 0]]]):  # fmt: skip
        with pytest.raises(AssertionError):
            check_polygon(wrong)


def test_areas_are_valid_polygons(content: dict[str, Any]) -> None:
    """parsePolygon: createLinearRing throws unless a ring is closed and has 4 points (ROITypeAdapters.java, JTS)."""
    areas = [each["geometry"] for each in content["features"] if each["geometry"]["type"] == "Polygon"]
    assert len(areas) == 3
    for area in areas:
        check_polygon([np.array(ring) for ring in area["coordinates"]])


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_outlines_of_ragged_tissue_are_valid_polygons(share: float) -> None:
    mask = np.random.default_rng(0).random((30, 40)) < share
    polygons = trace(mask)
    assert len(polygons) > 2
    for polygon in polygons:
        check_polygon(polygon)


def test_coordinates_are_two_numbers_from_the_corner_of_the_bounds(content: dict[str, Any]) -> None:
    """parseCoordinate (ROITypeAdapters.java); OpenslideImageServer.java counts pixels from openslide.bounds-x/y."""
    points = [each["geometry"]["coordinates"] for each in content["features"] if each["geometry"]["type"] == "Point"]
    assert points == [[500.5, 300.25], [700, 400], [800, 500], [900, 600]]
    kinds = [each["properties"]["classification"]["name"] for each in content["features"][-4:]]
    assert kinds == ["mitotic figure: atypical", "mitotic figure: normal", "mitotic figure", "below the threshold"]
    tissue = content["features"][0]["geometry"]["coordinates"]
    assert len(tissue) == 2  # a hole
    x, y = np.array(tissue[0]).T
    # the mask's columns 80 to 160 are 1280 to 2560 px of level 0, its rows 50 to 100 are 800 to 1600 px
    assert (x.min(), x.max(), y.min(), y.max()) == (280, 1560, 200, 1000)


def test_many_features_are_zipped(content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PathIO.java opens .geojson.gz as it opens .geojson."""
    assert write_geojson(tmp_path, content).name == "qupath.geojson"
    monkeypatch.setattr(module, "GZIP_FROM", 5)
    path = write_geojson(tmp_path, content)
    assert path.name == "qupath.geojson.gz"
    assert json.loads(gzip.decompress(path.read_bytes())) == content
