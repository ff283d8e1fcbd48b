"""Hard negatives: what detectors take for figures although it is none, as points that `prepare` takes, and as a page.

Marzahl et al., *A bag of tricks for real-time mitotic figure detection*, 2025 (arXiv 2508.19804), mine candidates from
.25 on in tissue without mitoses, such as necrosis and debris.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from mitoscope.detect.detector import Detector
from mitoscope.errors import one_line
from mitoscope.files import write_text
from mitoscope.images.slide import open_slide
from mitoscope.progress import progress
from mitoscope.provenance import read_commit
from mitoscope.scoring.detection.tables import HARD_NEGATIVE
from mitoscope.scoring.report.detections import read_crop
from mitoscope.scoring.report.page import encode_image, render
from mitoscope.training.data.field_sources.layout import list_images
from mitoscope.training.detect.results.members import (
    MEMBER,
    DetectStudy,
    check_state,
    count_fields,
    predict_out_of_fold,
)
from mitoscope.training.detect.results.regions import check_least, open_field

CLEAR_UM = 12.5  # from every label: the side of a box that is learned
COLUMNS = ["image", "x_px", "y_px", "label", "domain", "case", "p_mitosis"]
SCRIPTS = ("elements.js", "pages.js", "review.js")
TRUTH, PAGE = "truth.csv", "review.html"


@dataclass(frozen=True)
class Candidate:
    """A point that is no figure.

    Attributes:
        image: Its image's name.
        x_px: In pixels of that image.
        y_px: In pixels of that image.
        p_mitosis: Probability that it is one, in the detector's eyes.
        crop: uint8 (128, 128, 3), 32 µm of tissue around it.
        domain: Of the image; None where it is not known.
        case: Of the image; None where it is not known.
    """

    image: str
    x_px: float
    y_px: float
    p_mitosis: float
    crop: np.ndarray
    domain: str | None = None
    case: str | None = None


def mine_study(study: DetectStudy, out: Path, least: float, state: str = MEMBER) -> int:
    """Mine the labelled fields of a study, each by the one network that was not trained on its slide.

    Writes OUT/truth.csv, whose images are named as in the study's data (``MITOS14/H04_00Bb.jpg``) for
    ``prepare --mined``, and OUT/review.html.

    Args:
        study: A finished study.
        out: The folder.
        least: Probability of a candidate, in (0, 1).
        state: Which of the networks' weights.

    Returns:
        How many candidates lie farther than `CLEAR_UM` from every label.

    Raises:
        DataError: ``least`` is out of range, or the study has no such weights.
    """
    check_least(least)
    check_state(study, state)
    data = study.data
    with progress(count_fields(study), unit="fields", what="mining") as bar:
        found = predict_out_of_fold(study, study.members, state, bar.update, least)
    candidates = []
    labels = data.points_of(found.rows)
    for row, points in zip(found.rows.tolist(), found.points, strict=True):
        field = data.table.iloc[row]
        slide = open_field(data, row)
        own = labels.loc[labels["row"] == row, ["x_px", "y_px"]].to_numpy(np.float64)
        known = {name: field[name] if isinstance(field[name], str) else None for name in ("domain", "case")}
        for x, y, p in keep_clear(points, own, CLEAR_UM / data.mpp).tolist():
            crop = read_crop(slide, x, y)
            x_px, y_px = place_in_original(field, data.mpp, x, y)
            candidates.append(Candidate(field["image_id"], x_px, y_px, p, crop, **known))
    _write(candidates, out, f"the study {study.folder.resolve().name}, out of fold", least)
    return len(candidates)


def place_in_original(field: pd.Series, mpp: float, x: float, y: float) -> tuple[float, float]:
    """A place of a prepared field of ``mpp`` µm per px, in pixels of the image that it was made from.

    The sides of a prepared field are rounded to whole pixels: its last half pixel may lie outside of the original.
    """
    scale = mpp / float(field["read_mpp"])
    return min(x, field["width_px"] - 0.5) * scale, min(y, field["height_px"] - 0.5) * scale


def mine_tissue(folder: Path, out: Path, weights: Path | None, least: float, mpp: float | None = None) -> int:
    """Mine images of tissue that holds no mitosis: every candidate is wrong.

    Writes OUT/truth.csv for ``prepare --truth OUT/truth.csv FOLDER``, and OUT/review.html.

    Args:
        folder: Of images, as ``prepare --truth`` reads them.
        out: The folder.
        weights: The detector's bundle; None: see `Detector.load`.
        least: Probability of a candidate, in (0, 1).
        mpp: µm per pixel of all images; None: from each one's tags.

    Returns:
        How many candidates there are.

    Raises:
        MitoscopeError: ``least`` is out of range, or an image or the bundle cannot be used.
    """
    check_least(least)
    files = list_images(folder, "--tissue")
    detector, candidates = Detector.load(weights), []
    with progress(len(files), unit="images", what="mining") as bar:
        for name, path in files.items():
            slide = open_slide(path, mpp)
            for note in slide.notes:
                print(one_line(f"warning: {name}: {note}"), file=sys.stderr)
            for x, y, p in detector.detect(slide, floor=least).tolist():
                candidates.append(Candidate(name, x, y, p, read_crop(slide, x, y)))
            bar.update()
    _write(candidates, out, f"the weights {detector.bundle.name}, in tissue that holds no mitosis", least)
    return len(candidates)


def keep_clear(points: np.ndarray, labels: np.ndarray, distance: float) -> np.ndarray:
    """The points (N, 3) that are farther than a distance from every label (L, 2)."""
    if not len(points) or not len(labels):
        return points
    far, _ = cKDTree(labels).query(points[:, :2])
    return np.asarray(points[far > distance])


def _write(candidates: Sequence[Candidate], out: Path, origin: str, least: float) -> None:
    """Write the table and the page, the most probable first."""
    ordered = sorted(candidates, key=lambda each: (-each.p_mitosis, each.image, each.x_px, each.y_px))
    rows = [
        (each.image, f"{each.x_px:.1f}", f"{each.y_px:.1f}", HARD_NEGATIVE, each.domain, each.case,
         f"{each.p_mitosis:.6f}")
        for each in ordered
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=COLUMNS)
    lines = table.to_csv(index=False, lineterminator="\n").splitlines()
    data = {
        "head": lines[0],
        "lines": lines[1:],
        "image": [each.image for each in ordered],
        "p": [each.p_mitosis for each in ordered],
        "crop": [encode_image(each.crop) for each in ordered],
        "file": TRUTH,
    }
    words = {
        "n_crops": len(ordered),
        "origin": origin,
        "least": least,
        "provenance": [("mined by code", read_commit())],
    }
    write_text(out / PAGE, render(data, words, "review.html.j2", SCRIPTS))
    write_text(out / TRUTH, "\n".join(lines) + "\n")
