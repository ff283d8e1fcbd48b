"""Compare two results of Track 1: the expected one with what another processor or precision found.

    compare_points.py GOT EXPECTED TOLERANCE [NAME_MARGIN]

test.sh runs this in the image: the standard library only.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SAME_PLACE_MM = 1e-3  # places may move by less; figures are 7.5 µm apart at least

Point = dict[str, Any]


def find_differences(got: Path, expected: Path, tolerance: float, name_margin: float = 0.0) -> Iterator[str]:
    """Each difference, on one line.

    Args:
        got: A mitotic-figures.json.
        expected: Another one.
        tolerance: Largest difference of a point's probability. A point that is so close to the lowest one of both files
            may be missing in one of them: it lies at the floor.
        name_margin: Above 0: a point may have another name, if its probability is within the tolerance.
    """
    found, wanted = (json.loads(path.read_text(encoding="utf-8"))["points"] for path in (got, expected))
    lowest = min((point["probability"] for point in [*found, *wanted]), default=0.0)
    free: list[Point] = list(found)
    for point in wanted:
        near = [each for each in free if math.dist(each["point"], point["point"]) < SAME_PLACE_MM]
        if not near:
            if point["probability"] > lowest + tolerance:
                yield f"no point where one is expected: {json.dumps(point)}"
            continue
        free.remove(near[0])
        if abs(near[0]["probability"] - point["probability"]) > tolerance:
            yield f"another probability: got {json.dumps(near[0])}, expected {json.dumps(point)} within {tolerance:g}"
        elif near[0]["name"] != point["name"] and name_margin == 0:
            yield f"another name: got {json.dumps(near[0])}, expected {json.dumps(point)}"
    for point in free:
        if point["probability"] > lowest + tolerance:
            yield f"a point where none is expected: {json.dumps(point)}"


if __name__ == "__main__":
    differences = list(find_differences(Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:])))
    print(*(f"wrong: {each}" for each in differences) if differences else ["as expected"], sep="\n")
    raise SystemExit(1 if differences else 0)
