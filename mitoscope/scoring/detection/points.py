"""mitotic-figures.json, which a container of Track 1 writes: read it, and check it before it is submitted.

As `mitoscope.scoring.check`, it runs inside the image: no pandas here, and nothing else that slows a container down.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mitoscope.bundle.find import find_bundle
from mitoscope.bundle.read import read_bundle
from mitoscope.errors import DataError, InputError
from mitoscope.files import read_json
from mitoscope.scoring.check import conclude, find_folder_faults, quote
from mitoscope.sockets import POINTS_NAME

CALLED, NOT_CALLED = NAMES = ("mitotic figure", "non-mitotic figure")
MOST_MM = 10.0  # the evaluator takes larger coordinates for pixels
REACH_MM = 7.5e-3  # how far outside of the region it accepts a point
FIXED = {"name": "Points of interest", "type": "Multiple points", "version": {"major": 1, "minor": 0}}


def check_points(output_json: Path, region: Path, *, weights: Path | None = None) -> int:
    """Print how many points there are, then ``ok``, or one line ``wrong: …`` for each fault.

    The evaluator fails a submission for one point with another name, without a probability, or in pixels. A point
    outside of the region is a fault, too, although the evaluator takes those that are not below 0 or above 10 mm.

    Args:
        output_json: What the container wrote, in its output folder.
        region: The region that was searched, TIFF or MHA; its size in mm is read as the platform reads it.
        weights: The bundle whose threshold made the names; None: any threshold may have made them.

    Returns:
        0, or 1 if there is a fault.

    Raises:
        InputError: The region cannot be read.
        WeightsError: There is no usable bundle.
    """
    box_mm = _read_box_mm(region)
    threshold = None if weights is None else read_bundle(find_bundle(weights)).threshold.value
    faults = list(find_folder_faults(output_json, POINTS_NAME))
    try:
        content = read_value(output_json, "an object with name, type, points and version")
    except DataError as error:
        return conclude([str(error), *faults])
    points = content.get("points") if isinstance(content, dict) else None
    if not isinstance(points, list):
        return conclude([f"got {quote(content)}, expected an object with a list of points", *faults])
    faults = [*_find_frame_faults(content), *_find_point_faults(points, box_mm), *faults]
    if not faults:
        n_called = sum(point["name"] == CALLED for point in points)
        print(f"{len(points)} points, {n_called} of them called mitotic figures")
        faults = list(_find_name_faults(points, threshold))
    return conclude(faults)


def _read_box_mm(region: Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the region starts and ends in x, and in y, in mm, from the file's header."""
    import SimpleITK  # here: only the check of a region needs it

    reader: Any = SimpleITK.ImageFileReader()  # type: ignore[no-untyped-call]
    reader.SetFileName(str(region))
    try:
        if not region.is_file():
            raise OSError("no such file")
        reader.ReadImageInformation()
        size, spacing, origin = (get()[:2] for get in (reader.GetSize, reader.GetSpacing, reader.GetOrigin))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the region {region.name!r} cannot be read",
            got=error,
            expected="a TIFF or MHA file",
            remedy="give the file that the container read",
        ) from error
    x, y = ((start, start + n * mm) for start, n, mm in zip(origin, size, spacing, strict=True))
    return x, y


def _find_frame_faults(content: dict[str, Any]) -> Iterator[str]:
    """Find what is wrong around the points."""
    for key, expected in FIXED.items():
        if key not in content or content[key] != expected:
            yield f"{key}: got {quote(content.get(key))}, expected {quote(expected)}"
    if unknown := sorted(content.keys() - {*FIXED, "points"}):
        yield f"got the keys {quote(unknown)}, expected none but {', '.join((*FIXED, 'points'))}"


def _find_point_faults(points: list[Any], box_mm: tuple[tuple[float, float], ...]) -> Iterator[str]:
    """Find the faults of each point; the box as `_read_box_mm` gives it."""
    for number, point in enumerate(points, start=1):
        if expected := find_point_fault(point):
            yield f"point {number}: got {quote(point)}, expected {expected}"
            continue
        if not isinstance(point["probability"], float):
            yield f"point {number}: got probability {quote(point['probability'])}, expected a float (0.0 where it is 0)"
        if not all(isinstance(each, float) for each in point["point"]):
            yield f"point {number}: got {quote(point['point'])}, expected floats"
        if point["point"][2] != 0:
            yield f"point {number}: got z {quote(point['point'][2])}, expected 0.0"
        for axis, at, (low, high) in zip("xy", point["point"], box_mm, strict=False):
            if not low - REACH_MM <= at <= high + REACH_MM:
                pixels = "; without resolution tags, a pixel counts as 1 mm" if high > MOST_MM else ""
                yield f"point {number}: got {axis} {at:g}, expected {low:g} to {high:g} mm, as the region lies{pixels}"


def _find_name_faults(points: list[dict[str, Any]], threshold: float | None) -> Iterator[str]:
    """Find names that contradict the probabilities."""
    called, others = ([point["probability"] for point in points if point["name"] == name] for name in NAMES)
    if threshold is not None:
        wrong = sum(p < threshold for p in called) + sum(p >= threshold for p in others)
        if wrong:
            yield f"{wrong} of {len(points)} names contradict the bundle's threshold {threshold:.6f}"
    elif called and others and max(others) >= min(called):
        yield (
            f"no threshold explains the names: got a {NAMES[1]} of probability {max(others):.6f}, expected less than "
            f"{min(called):.6f}, the lowest of a {CALLED}"
        )


def read_value(path: Path, expected: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a JSON file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        remedy = "restore the file that the platform wrote"
        raise DataError(f"{path} cannot be read", got=error, expected=expected, remedy=remedy) from error


def read_points(path: Path, what: str) -> list[dict[str, Any]]:
    """Read a result of Track 1.

    Args:
        path: A mitotic-figures.json.
        what: The file, for the message.

    Returns:
        Its points: name, point (x, y, z in mm) and probability.

    Raises:
        DataError: It is no such file, or the platform's evaluator would fail the submission for a point.
    """
    content = read_value(path, what)
    points = content.get("points") if isinstance(content, dict) else None
    if not isinstance(points, list):
        raise DataError(
            f"{what} fails the submission",
            got=json.dumps(content)[:120],
            expected="an object with a list of points, empty where nothing was found",
            remedy="correct what the container writes",
        )
    for number, point in enumerate(points, start=1):
        fault = find_point_fault(point)
        if fault:
            raise DataError(
                f"point {number} of {what} fails the submission",
                got=f"{json.dumps(point)[:120]}",
                expected=fault,
                remedy="correct what the container writes",
            )
    return points


def find_point_fault(point: object) -> str | None:
    """What the platform or its evaluator expects of a point that it refuses; None for a good one."""
    if not isinstance(point, dict) or not {"name", "point", "probability"} <= point.keys():
        return "an object with name, point and probability"
    if not is_point(point["point"]):
        return "a point [x_mm, y_mm, z_mm] of finite numbers"
    low, high = min(point["point"][:2]), max(point["point"][:2])
    rules = {
        f"the name {' or '.join(NAMES)}": point["name"] in NAMES,
        "a probability in [0, 1]": _is_number(point["probability"]) and 0 <= point["probability"] <= 1,
        f"mm, {MOST_MM:g} at most: these look like pixels": high <= MOST_MM,
        "mm from the region's corner, not below 0": low >= -REACH_MM,
    }
    return next((expected for expected, is_met in rules.items() if not is_met), None)


def is_point(value: object) -> bool:
    """Whether a value is a list of three finite numbers."""
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    """A finite number that is no boolean, and small enough for a float."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    )
