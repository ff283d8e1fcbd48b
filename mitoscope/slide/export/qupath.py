"""Figures, tissue and hotspot as GeoJSON that QuPath opens: File → Import objects from file.

QuPath counts pixels of level 0 from the corner of the slide's bounds. The rules of its reader are listed in
`test/unit/slide/test_qupath.py`, each with the file of its source that demands it.
"""

import gzip
import json
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from mitoscope.files import write_bytes
from mitoscope.images.slide import Slide
from mitoscope.slide.counts import Thresholds, find_kinds
from mitoscope.slide.export.outline import trace_hotspot, trace_tissue
from mitoscope.slide.figures import Figures
from mitoscope.slide.tissue import Tissue

NAME = "qupath.geojson"
GZIP_FROM = 50_000  # features: QuPath opens .geojson.gz as well
COLOURS = {
    "mitotic figure: normal": [0, 110, 200],
    "mitotic figure: atypical": [220, 70, 20],
    "mitotic figure": [200, 0, 80],
    "below the threshold": [120, 120, 120],
    "tissue": [90, 160, 90],
    "hotspot": [230, 170, 0],
}  # RGB, by the name of the class; the first ones in the order of `mitoscope.slide.counts.find_kinds`


def encode_slide(
    slide: Slide, figures: Figures, tissue: Tissue, counted: dict[str, Any], thresholds: Thresholds
) -> dict[str, Any]:
    """Encode what was found on a slide.

    Args:
        slide: Its name gives the objects their identities, so that the same result is the same file.
        figures: All points, those below the threshold too.
        tissue: Becomes one locked annotation for each piece.
        counted: See `mitoscope.slide.counts.count`; the hotspots become annotations.
        thresholds: From which probability on a point is a mitotic figure, and a mitotic figure atypical.
    """
    own, corner = slide.path.name, np.array(slide.bounds_px[:2], float)
    features = []
    for number, polygon in enumerate(trace_tissue(tissue)):
        rings = [ring - corner for ring in polygon]
        features.append(_encode_area(f"{own}#tissue {number}", "tissue", rings, "Tissue", {}))
    for key, title in (("hotspot", "Hotspot"), ("hotspot_circle", "Hotspot, circle")):
        if window := counted[key]:
            ring = trace_hotspot(window, tissue.slide_mpp).clip(0, (slide.width_px, slide.height_px)) - corner
            known = {"mitotic figures": window["n_figures"], "atypical figures": window["atypical"]["n_atypical"]}
            features.append(_encode_area(f"{own}#{key}", "hotspot", [ring], title, known))
    kinds = name_points(figures, thresholds)
    points = zip(figures.points.tolist(), figures.p_atypical.tolist(), kinds, strict=True)
    for number, ((x, y, p), p_atypical, kind) in enumerate(points, start=1):
        known = {"p_mitosis": round(p, 6)} | ({} if np.isnan(p_atypical) else {"p_atypical": round(p_atypical, 6)})
        place = _round([x - corner[0], y - corner[1]])
        geometry = {"type": "Point", "coordinates": place}
        features.append(_encode_feature(f"{own}#{place}", "detection", kind, geometry, f"point {number}", known))
    return {"type": "FeatureCollection", "features": features, "not_for": "clinical use"}


def write_geojson(folder: Path, content: dict[str, Any]) -> Path:
    """Write qupath.geojson, or qupath.geojson.gz from `GZIP_FROM` features on; returns which."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    if len(content["features"]) < GZIP_FROM:
        path = folder / NAME
    else:
        path, text = folder / f"{NAME}.gz", gzip.compress(text, mtime=0)
    write_bytes(path, text)
    return path


def name_points(figures: Figures, thresholds: Thresholds) -> list[str]:
    """The class of each point in QuPath."""
    names = list(COLOURS)
    return [names[kind] for kind in find_kinds(figures, thresholds).tolist()]


def _encode_area(
    identity: str, kind: str, rings: list[np.ndarray], name: str, measurements: dict[str, Any]
) -> dict[str, Any]:
    """An annotation of one polygon."""
    coordinates = [[_round(place) for place in ring.tolist()] for ring in rings]
    return _encode_feature(
        identity, "annotation", kind, {"type": "Polygon", "coordinates": coordinates}, name, measurements
    )


def _encode_feature(
    identity: str, object_type: str, kind: str, geometry: dict[str, Any], name: str, measurements: dict[str, Any]
) -> dict[str, Any]:
    """One object."""
    properties: dict[str, Any] = {
        "objectType": object_type,
        "name": name,
        "classification": {"name": kind, "color": COLOURS[kind]},
        "measurements": measurements,
    }
    if object_type == "annotation":
        properties["isLocked"] = True
    return {
        "type": "Feature",
        "id": str(uuid5(NAMESPACE_URL, identity)),
        "geometry": geometry,
        "properties": properties,
    }


def _round(place: list[float]) -> list[float]:
    """A place to a hundredth of a pixel."""
    return [round(each, 2) for each in place]
