"""The user's own outline of the tissue, such as an annotation that QuPath exported: GeoJSON → a mask."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from mitoscope.errors import DataError
from mitoscope.files import JSON_BYTES, read_file
from mitoscope.images.slide import Slide
from mitoscope.images.source import SIDE_LIMIT
from mitoscope.slide.overview import MASK_MPP, measure_mask, measure_um
from mitoscope.slide.tissue import Tissue

EXPECTED = "GeoJSON with a Polygon or MultiPolygon, in pixels of level 0, as QuPath exports annotations"


def read_region(path: Path, slide: Slide) -> Tissue:
    """Take polygons as a slide's tissue; what lies outside of the slide is left out.

    Args:
        path: A FeatureCollection, a Feature, a list of Features or a geometry; also as .gz. Coordinates are pixels of
            level 0, counted as QuPath does: from the corner of the slide's bounds. Points and lines are left out.
        slide: The slide.

    Raises:
        DataError: It is no such file, or no polygon in it lies on the slide.
    """
    scale = np.array([slide.mpp.x, slide.mpp.y]) / MASK_MPP
    size = measure_mask(slide)[::-1]
    painted = Image.new("1", size)
    try:
        for rings in _list_polygons(_load(path)):
            drawn = Image.new("1", size) if len(rings) > 1 else painted  # a hole must not cut another polygon
            pen = ImageDraw.Draw(drawn)
            for number, ring in enumerate(rings):
                corners = (np.asarray(ring, float)[:, :2] + slide.bounds_px[:2]) * scale - 0.5
                if not (np.abs(corners) < SIDE_LIMIT).all():  # a NaN is not
                    raise ValueError("a coordinate that is not finite, or far outside of the slide")
                pen.polygon([(x, y) for x, y in corners.tolist()], fill=int(number == 0))
            if drawn is not painted:
                painted = ImageChops.logical_or(painted, drawn)
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} cannot be read as a region", got=got, expected=EXPECTED, remedy="export it again"
        ) from error
    mask = np.array(painted)
    if not mask.any():
        raise DataError(
            f"{path} has no polygon on {slide.path.name}",
            got="none",
            expected=EXPECTED,
            remedy="draw an area, not a line, on this slide, and export it again",
        )
    return Tissue(mask, MASK_MPP, (slide.mpp.x, slide.mpp.y), "region", measure_um(slide))


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
