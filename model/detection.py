"""Track 1: a region of a slide in, its mitotic figures out, in millimetres.

The platform's evaluator takes places as SimpleITK gives them: the centre of the first pixel is the image's origin, and
a pixel is as large as the file's tags say.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from mitoscope.bundle.read import read_base
from mitoscope.errors import DeviceError, InputError
from mitoscope.images.crops import find_stack
from mitoscope.images.slide import Slide, open_slide, read_origin_mm
from mitoscope.sockets import POINT_NAMES, POINTS_NAME
from mitoscope.stopwatch import Stopwatch
from model.contract import check_writable, write_result

if TYPE_CHECKING:
    from mitoscope.detect.detector import Detector

IMAGES_FOLDER = "images/histopathology-roi-cropout"  # its name is not the socket's
UM_PER_MM = 1_000.0
MOST_MM = 10.0  # the evaluator takes larger coordinates for pixels, and fails the submission
TABLE_ROWS = 20


class Point(TypedDict):
    """A point of the result; its place is x, y and z in mm."""

    name: str
    point: list[float]
    probability: float


@dataclass(frozen=True)
class RegionCase:
    """One searched region.

    Attributes:
        slide: The region.
        points: float64 (N, 3): x and y in pixels, as `mitoscope.detect.detector.Detector.detect` gives them, and the
            probability; the most probable first.
        records: The same points as the platform has them.
    """

    slide: Slide
    points: np.ndarray
    records: list[Point]

    def describe(self) -> list[str]:
        """The log's lines on the region and its points."""
        slide, counts = self.slide, Counter(record["name"] for record in self.records)
        mpp, area_mm2 = slide.mpp, math.prod(_measure_mm(slide))
        source = mpp.source.upper() if mpp.source == "assumed" else mpp.source
        return [
            f"region    {slide.path.name!r}: {slide.width_px} x {slide.height_px} px, {mpp.x:.4f} x {mpp.y:.4f} µm "
            f"per px ({source}), {area_mm2:.2f} mm²",
            "points    " + ", ".join(f"{counts[name]} {name}s" for name in reversed(POINT_NAMES)),
        ]

    def tabulate(self) -> list[str]:
        """One line per point, the most probable first; the places in pixels count from the region's corner."""
        rows = [
            f"{number:5d}  {record['name']:18s}  {record['probability']:9.4f}  {x:8.1f}  {y:8.1f}  "
            f"{record['point'][0]:7.4f}  {record['point'][1]:7.4f}"
            for number, ((x, y), record) in enumerate(zip(self.points[:, :2], self.records, strict=True), start=1)
        ]
        more = [f"and {len(rows) - TABLE_ROWS} less probable ones"] if len(rows) > TABLE_ROWS else []
        return ["point  name                p_mitosis      x_px      y_px     x_mm     y_mm", *rows[:TABLE_ROWS], *more]


def score_region(
    input_dir: Path, output_dir: Path, get_detector: "Callable[[], Detector]", watch: Stopwatch
) -> RegionCase:
    """Find the mitotic figures of a region.

    Args:
        input_dir: The case's folder.
        output_dir: Where the result goes; made if it is missing.
        get_detector: Called after the region's header and first pixels have been read and the output folder has been
            tested.
        watch: Measures the seconds by stage.
    """
    with watch.stage("read"):
        slide = open_slide(find_stack(input_dir / IMAGES_FOLDER, root=input_dir))
        origin_mm = (0.0, 0.0) if slide.mpp.source == "assumed" else read_origin_mm(slide.path)
        _check_size(slide, origin_mm)
        slide.read(0, 0, 1, 1, slide.mpp.x)  # 16-bit and damaged pixels are found before the weights are read
    for warning in find_warnings(slide):
        warnings.warn(warning, stacklevel=2)
    check_writable(output_dir / POINTS_NAME)
    detector = get_detector()
    with watch.stage("detect"):
        points = detector.detect(slide)
    with watch.stage("write"):
        records = encode_points(points, slide, origin_mm, detector.threshold)
        write_result(output_dir / POINTS_NAME, encode_result(records))
    return RegionCase(slide, points, records)


def get_place() -> Callable[..., Any]:
    """The function that places a bundle."""
    from mitoscope.detect.detector import Detector  # here: it imports torch
    from mitoscope.detect.task import check_finds_mitoses

    def place(bundle: Any, contents: Iterator[bytes], device: Any, precision: str, base: Path | None) -> Detector:  # noqa: ANN401
        read_base(bundle, base)  # a detector has none: raises if one is given
        check_finds_mitoses(bundle)
        return Detector.place(bundle, contents, device, precision)

    return place


def find_warnings(slide: Slide) -> list[str]:
    """What a reader of the result must know about the region; usually nothing."""
    found = list(slide.notes)
    if slide.mpp.source == "assumed":  # its first note
        assumed = found[0].partition(";")[0]
        found[0] = f"{assumed}. IF THAT IS WRONG, ALL POINTS ARE WRONG: write the resolution into the file"
    return [f"{slide.path.name}: {each}" for each in found]


def encode_points(points: np.ndarray, slide: Slide, origin_mm: tuple[float, float], threshold: float) -> list[Point]:
    """Turn points into the platform's records.

    Args:
        points: float64 (N, 3): x and y in pixels of level 0, the first of which covers [0, 1); the probability.
        slide: The region.
        origin_mm: Where the centre of its first pixel lies.
        threshold: A point is a mitotic figure when its probability is at least this.

    Returns:
        One record per point. Its place is what SimpleITK's TransformContinuousIndexToPhysicalPoint gives, whose index 0
        is the centre of the first pixel. Points on the outer half of the border's pixels are moved to their centres, so
        that none is negative.

    Raises:
        DeviceError: A probability is not a number in [0, 1].
    """
    most = np.array([slide.width_px, slide.height_px]) - 1.0
    indices = (points[:, :2] - 0.5).clip(0, most)
    places_mm = np.array(origin_mm) + indices * (slide.mpp.x / UM_PER_MM, slide.mpp.y / UM_PER_MM)
    records: list[Point] = []
    for (x_mm, y_mm), p in zip(places_mm.tolist(), points[:, 2].tolist(), strict=True):
        if not (math.isfinite(p) and 0 <= p <= 1):
            raise DeviceError(
                f"the probability of a point at x {x_mm:.4f} mm, y {y_mm:.4f} mm is unusable",
                got=p,
                expected="a number in [0, 1]",
                remedy="run again with --precision fp32",
            )
        records.append({"name": POINT_NAMES[p >= threshold], "point": [x_mm, y_mm, 0.0], "probability": p})
    return records


def encode_result(records: list[Point]) -> dict[str, Any]:
    """The file's content: the platform's "Multiple points"."""
    return {
        "name": "Points of interest",
        "type": "Multiple points",
        "points": records,
        "version": {"major": 1, "minor": 0},
    }


def _measure_mm(slide: Slide) -> tuple[float, float]:
    """Width and height."""
    return slide.width_px * slide.mpp.x / UM_PER_MM, slide.height_px * slide.mpp.y / UM_PER_MM


def _check_size(slide: Slide, origin_mm: tuple[float, float]) -> None:
    """Refuse a region whose points the evaluator would refuse."""
    width_mm, height_mm = _measure_mm(slide)
    x_mm, y_mm = origin_mm
    if min(origin_mm) < 0 or max(x_mm + width_mm, y_mm + height_mm) > MOST_MM:
        raise InputError(
            f"{slide.path.name!r} is too large for a region, or lies elsewhere",
            got=f"{slide.width_px:,} x {slide.height_px:,} px, {width_mm:.2f} x {height_mm:.2f} mm "
            f"from ({x_mm:g}, {y_mm:g}) mm on",
            expected=f"all in 0 to {MOST_MM:g} mm, since the evaluator takes larger coordinates for pixels",
            remedy="cut a region out; for a slide, run `mitoscope detect`",
        )
