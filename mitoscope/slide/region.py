"""The user's own outline of the tissue, such as an annotation that QuPath exported: GeoJSON → a mask."""

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.errors import DataError
from mitoscope.files import JSON_BYTES, read_file
from mitoscope.images.slide import Slide
from mitoscope.images.source import SIDE_LIMIT
from mitoscope.slide.overview import MASK_MPP, measure_mask, measure_um
from mitoscope.slide.tissue import Tissue

EXPECTED = "GeoJSON with a Polygon or MultiPolygon, in pixels of level 0, as QuPath exports annotations"


def read_region(path: Path, slide: Slide) -> Tissue:
    """Take polygons as a slide's tissue: the cells of the mask whose centres lie in one of them.

    Args:
        path: A FeatureCollection, a Feature, a list of Features or a geometry; also as .gz. Coordinates are pixels of
            level 0, counted as QuPath does: from the corner of the slide's bounds. Points and lines are left out, and
            what lies outside of the slide.
        slide: The slide.

    Raises:
        DataError: It is no such file, or no polygon in it covers the centre of a cell of the slide.
    """
    scale = np.array([slide.mpp.x, slide.mpp.y]) / MASK_MPP
    mask = np.zeros(measure_mask(slide), bool)
    try:
        for polygon in _list_polygons(_load(path)):
            rings = [(np.asarray(ring, float)[:, :2] + slide.bounds_px[:2]) * scale - 0.5 for ring in polygon]
            if not all((np.abs(corners) < SIDE_LIMIT).all() for corners in rings):  # a NaN is not
                raise ValueError("a coordinate that is not finite, or far outside of the slide")
            _paint(mask, rings)
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} cannot be read as a region", got=got, expected=EXPECTED, remedy="export it again"
        ) from error
    if not mask.any():
        raise DataError(
            f"{path} has no area on {slide.path.name}",
            got=f"no polygon, or only such as lie beside the slide or between the centres of cells of {MASK_MPP:g} µm",
            expected=EXPECTED,
            remedy="draw a larger area on this slide, and export it again",
        )
    return Tissue(mask, MASK_MPP, (slide.mpp.x, slide.mpp.y), "region", measure_um(slide))


def _paint(mask: np.ndarray, rings: Sequence[np.ndarray]) -> None:
    """Set the cells whose centres lie in a polygon: an odd number of its sides is to the left of such a centre.

    Args:
        mask: bool (H, W), changed in place.
        rings: float (N, 2) each, x and y, closed or not: the outer one and the holes. (0, 0) is the first centre.
    """
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    upper, lower = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first, last = (np.ceil(y).clip(0, mask.shape[0]).astype(int) for y in (upper, lower))  # rows [first, last)
    left, right = (int(np.ceil(x).clip(0, mask.shape[1])) for x in (starts[:, 0].min(), starts[:, 0].max()))
    top, bottom = int(first.min()), int(last.max())
    turns = np.zeros((bottom - top, right - left + 1), bool)
    for number in (last > first).nonzero()[0].tolist():
        (x, y), (to_x, to_y) = starts[number], ends[number]
        rows = np.arange(first[number], last[number])
        columns = np.ceil(x + (rows - y) * (to_x - x) / (to_y - y)).clip(left, right).astype(int)
        turns[rows - top, columns - left] ^= True
    mask[top:bottom, left:right] |= np.logical_xor.accumulate(turns, axis=1)[:, :-1]


def _load(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """The file's JSON; one that is zipped may not grow beyond the limit."""
    content = read_file(path, JSON_BYTES)
    if path.suffix == ".gz":
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            content = file.read(JSON_BYTES + 1)
        if len(content) > JSON_BYTES:
            raise ValueError(f"more than {JSON_BYTES:,} bytes")
    return json.loads(content)


def _list_polygons(value: Any) -> Iterator[list[Any]]:  # noqa: ANN401 - whatever the file holds
    """The rings of each polygon."""
    if isinstance(value, list):
        for each in value:
            yield from _list_polygons(each)
        return
    kind = value["type"]
    if kind == "FeatureCollection":
        yield from _list_polygons(value["features"])
    elif kind == "Feature":
        yield from _list_polygons(value["geometry"])
    elif kind == "GeometryCollection":
        yield from _list_polygons(value["geometries"])
    elif kind == "Polygon":
        yield value["coordinates"]
    elif kind == "MultiPolygon":
        yield from value["coordinates"]
