"""Points as GeoJSON that QuPath opens: File → Import objects from file.

QuPath takes a FeatureCollection whose coordinates are pixels of level 0 from the upper left corner, and reads what
belongs to an object from its properties.
"""

from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np

COLOURS = ([120, 120, 120], [200, 0, 80])  # RGB, below the threshold and from it on


def encode_geojson(image: str, points: np.ndarray, threshold: float, name: str) -> dict[str, Any]:
    """Encode the points of one image.

    Args:
        image: Its name; the objects' identities follow from it, so that the same result is the same file.
        points: float64 (N, 3): x and y in pixels of level 0, and the probability.
        threshold: A point is of the detector's positive class from this probability on.
        name: That class, such as ``"mitotic figure"``; points below the threshold are called ``"non-mitotic figure"``.
    """
    names, features = (f"non-{name}", name), []
    for x, y, p in points.tolist():
        kind = int(p >= threshold)
        place = [round(x, 2), round(y, 2)]
        features.append(
            {
                "type": "Feature",
                "id": str(uuid5(NAMESPACE_URL, f"{image}#{place}")),
                "geometry": {"type": "Point", "coordinates": place},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": names[kind], "color": COLOURS[kind]},
                    "measurements": {"p_mitosis": round(p, 6)},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}
