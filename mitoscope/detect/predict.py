"""Images of tissue → detections.csv, GeoJSON for QuPath, and the record of how they were made."""

import csv
import hashlib
import io
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.bundle.read import MANIFEST
from mitoscope.detect.detector import FLOOR, Detector
from mitoscope.detect.geojson import encode_geojson
from mitoscope.errors import DataError, one_line
from mitoscope.files import hash_file, write_json, write_text
from mitoscope.images.slide import Slide, open_slide
from mitoscope.memory import keep_freed_memory
from mitoscope.progress import progress
from mitoscope.provenance import describe_machine, read_commit

COLUMNS = ("image", "x_um", "y_um", "x_px", "y_px", "p_mitosis")
CSV_NAME, RECORD_NAME = "detections.csv", "detections.csv.json"
RECORD_FORMAT = 1


def predict(
    images: list[Path],
    out: Path,
    *,
    weights: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    mpp: float | None = None,
    floor: float = FLOOR,
    tta: bool = False,
) -> None:
    """Detect the mitotic figures of some images, or whatever cells a bundle's last class names.

    Writes OUT/detections.csv (`COLUMNS`, the most probable first in each image), OUT/IMAGE.geojson for QuPath, and
    OUT/detections.csv.json, which states the weights and each image's µm per px with its source. An image without
    figures has no rows. Nothing is written if any image cannot be read.

    Args:
        images: Files; see `mitoscope.images.slide.open_slide`.
        out: The folder for the results; files of these names in it are replaced.
        weights: A bundle's folder; None: see `mitoscope.detect.detector.Detector.load`.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: ``"auto"``, ``"fp32"``, ``"fp16"`` or ``"bf16"``.
        mpp: µm per px of all images; None: from each one's tags.
        floor: The least probability of a point, above 0 and at most 1.
        tta: Average over the eight orientations of a tile; eight times slower.

    Raises:
        MitoscopeError: Anything that outside data can cause.
    """
    keep_freed_memory()
    _check(images, floor)
    slides = [open_slide(path, mpp) for path in images]  # their headers
    detector = Detector.load(weights, device=device, precision=precision, tta=tta)
    for slide in slides:
        for note in slide.notes:
            print(one_line(f"warning: {slide.path.name}: {note}"), file=sys.stderr)
    print(f"detecting in {len(slides):,} images: {detector.bundle.name}, {detector.device.type} {detector.precision}")
    with progress(sum(len(detector.plan(slide)) for slide in slides), unit="tiles", what="detecting") as bar:
        # Opened again, so that no image's pixels are kept while the others are read.
        found = [detector.detect(open_slide(path, mpp), floor=floor, update=bar.update) for path in images]
    rows = [row for slide, points in zip(slides, found, strict=True) for row in _encode_rows(slide, points)]
    name = detector.bundle.classes[-1]
    for slide, points in zip(slides, found, strict=True):
        write_json(
            out / f"{slide.path.name}.geojson", encode_geojson(slide.path.name, points, detector.threshold, name)
        )
    text = _encode_csv(rows)
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_json(out / RECORD_NAME, {**_record(detector, slides, found, floor, tta), "csv_sha256": digest})
    write_text(out / CSV_NAME, text)
    n_figures = sum(int((points[:, 2] >= detector.threshold).sum()) for points in found)
    print(f"wrote {out / CSV_NAME}: {n_figures:,} {name}s, {len(rows) - n_figures:,} less probable points")


def _check(images: list[Path], floor: float) -> None:
    """Refuse two images of one name, and a floor that is no probability."""
    name, count = Counter(path.name for path in images).most_common(1)[0]
    if count > 1:
        raise DataError("two images have the same name", got=name, expected="different names", remedy="rename one")
    if not 0 < floor <= 1:
        raise DataError("--floor cannot be used", got=floor, expected="above 0, at most 1", remedy="correct it")


def _encode_rows(slide: Slide, points: np.ndarray) -> list[list[str]]:
    """The rows of one image."""
    return [
        [slide.path.name, f"{x * slide.mpp.x:.3f}", f"{y * slide.mpp.y:.3f}", f"{x:.2f}", f"{y:.2f}", f"{p:.6f}"]
        for x, y, p in points.tolist()
    ]


def _encode_csv(rows: list[list[str]]) -> str:
    """A CSV with `COLUMNS`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue()


def _record(
    detector: Detector, slides: list[Slide], found: list[np.ndarray], floor: float, tta: bool
) -> dict[str, Any]:
    """What decides the result."""
    bundle = detector.bundle
    return {
        "format": RECORD_FORMAT,
        "images": [
            {
                "image": slide.path.name,
                "sha256": hash_file(slide.path),
                "width_px": slide.width_px,
                "height_px": slide.height_px,
                "mpp": asdict(slide.mpp),
                "notes": list(slide.notes),
                "n_points": len(points),
                "n_mitotic_figures": int((points[:, 2] >= detector.threshold).sum()),
            }
            for slide, points in zip(slides, found, strict=True)
        ],
        "bundle": {
            "name": bundle.name,
            "class": bundle.classes[-1],
            "manifest_sha256": hash_file(bundle.folder / MANIFEST),
            "threshold": bundle.threshold.value,
            "rule": bundle.threshold.rule,
            "mpp": bundle.input.mpp,
        },
        "floor": floor,
        "tta": tta,
        "device": detector.device.type,
        "precision": detector.precision,
        "commit": read_commit(),
        "machine": describe_machine(),
        "not_for": "clinical use",
    }
