"""The user's own outline of the tissue, such as an annotation that QuPath exported: GeoJSON → a mask."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mitoscope.errors import DataError
from mitoscope.files import JSON_BYTES, read_file
from mitoscope.images.slide import Slide
from mitoscope.slide.tissue import OVERVIEW_MPP, Tissue

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
    scale = np.array([slide.mpp.x, slide.mpp.y]) / OVERVIEW_MPP
    size = (int(np.ceil(slide.width_px * scale[0])), int(np.ceil(slide.height_px * scale[1])))
    mask = np.zeros(size[::-1], bool)
    try:
        content = read_file(path, JSON_BYTES)
        value = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        for rings in _list_polygons(value):
            drawn = Image.new("1", size)
            pen = ImageDraw.Draw(drawn)
            for number, ring in enumerate(rings):
                corners = (np.asarray(ring, float)[:, :2] + slide.bounds_px[:2]) * scale - 0.5
                if not np.isfinite(corners).all():
                    raise ValueError("a coordinate that is not finite")
                pen.polygon([(x, y) for x, y in corners.tolist()], fill=int(number == 0))
            mask |= np.asarray(drawn)
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} cannot be read as a region", got=got, expected=EXPECTED, remedy="export it again"
        ) from error
    if not mask.any():
        raise DataError(
            f"{path} has no polygon on {slide.path.name}",
            got="none",
            expected=EXPECTED,
            remedy="draw an area, not a line, on this slide, and export it again",
        )
    return Tissue(mask, OVERVIEW_MPP, (slide.mpp.x, slide.mpp.y), "region")


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
